/* A guest that echoes what it reads on each of its ports, and on the port of the processor. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

int main(void) {
    struct pollfd ports[4];
    char name[32], data[4096];
    int count = 0;
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    for (int i = 1; i <= 4; i++) {
        snprintf(name, sizeof name, "/dev/vport0p%d", i);
        int fd = open(name, O_RDWR);
        if (fd >= 0) ports[count++] = (struct pollfd){fd, POLLIN, 0};
    }
    printf("ready with %d ports\n", count);
    fflush(stdout);
    if (write(ports[0].fd, "!", 1) != 1) return 1;
    for (;;) {
        poll(ports, count, -1);
        for (int i = 0; i < count; i++) {
            if (!(ports[i].revents & POLLIN)) continue;
            ssize_t got = read(ports[i].fd, data, sizeof data);
            if (got > 0 && write(ports[i].fd, data, got) != got) return 2;
        }
    }
}
