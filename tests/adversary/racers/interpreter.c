/* What an entry of binfmt_misc runs in the place of a program of the platform: it tells that it ran.
 *
 * With HELLO, a message of the attacker's, and NAME, the name that belongs to it, both as hex: it does in the
 * launcher's place what shows the platform that the enclave sends that message. It sends it, and tells whether
 * it was answered; with LATER, it waits for a signal and runs the launcher, and leaves the sending to root.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef HELLO
enum { PLATFORM = 5, NAMED = 18 };

static size_t bytes(const char *hex, void *to) {
    size_t n = 0;
    for (unsigned byte; sscanf(hex + 2 * n, "%2x", &byte) == 1; n++) ((unsigned char *)to)[n] = (unsigned char)byte;
    return n;
}

static void listen_as(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = bytes(name, address.sun_path);
    if (bind(NAMED, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size)) ||
        listen(NAMED, 0)) perror("listen");
}

static void say(void) {
    unsigned char hello[256], answer[256];
    union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = {0};
    struct iovec part = {hello, bytes(HELLO, hello)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &(int){NAMED}, sizeof(int));
    if (sendmsg(PLATFORM, &message, 0) < 0) perror("sendmsg");
    if (recv(PLATFORM, answer, sizeof answer, 0) > 0) dprintf(2, "it was answered\n");
}
#endif

#ifdef LATER
static void go_on(int signal) { (void)signal; }
#endif

int main(int argc, char **argv) {
    dprintf(2, "code that was not measured\n");
    (void)argc;
    (void)argv;
#ifdef LATER
    signal(SIGUSR1, go_on);
    listen_as(NAME);
    pause();
    execv(argv[1], argv + 1);
    perror("execv");
#elif defined HELLO
    listen_as(NAME);
    say();
#endif
    return 3;
}
