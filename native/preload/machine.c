/* Preloaded into QEMU and swtpm: the processes of a machine.
 *
 * The process ends with the one that started it: descriptor LIFELINE, on which this library reports that it is
 * in place, is read by a thread, and its end ends the process. No debugger can attach, since a process has one tracer and has it already: the guard, a child, which
 * it traces in turn. The guest's memory is secret: the kernel maps it for this process only, so that neither
 * /proc/PID/mem nor a debugger reads it. Its descriptor is closed once it is mapped: root could otherwise
 * duplicate it and map it elsewhere.
 *
 * Spec: memfd_secret(2), ptrace(2), prctl(2).
 */
#define _GNU_SOURCE
#include "../calls.h"
#include "../filter.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#define LIFELINE 3
#define BACKEND "memory-backend-memfd" /* QEMU's name for the guest's memory */
#define EXPORT __attribute__((visibility("default")))

static int secret = -1;

static void refuse(const char *what) {
    dprintf(2, "kluis-machine: %s: %s\n", what, strerror(errno));
    _exit(70);
}

EXPORT int memfd_create(const char *name, unsigned flags) {
    if (strcmp(name, BACKEND)) return (int)syscall(SYS_memfd_create, name, flags);
    secret = (int)syscall(SYS_memfd_secret, flags & MFD_CLOEXEC ? O_CLOEXEC : 0);
    return secret;
}

EXPORT void *mmap64(void *at, size_t size, int mode, int flags, int fd, off_t offset) {
    void *got = (void *)syscall(SYS_mmap, at, size, mode, flags, fd, offset);
    if (fd < 0 || fd != secret || got == MAP_FAILED) return got;
    int none = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (none < 0 || dup3(none, secret, O_CLOEXEC) < 0) refuse("close the guest's memory");
    close(none);
    secret = -1;
    return got;
}

static void *await_the_end(void *unused) {
    char byte;
    (void)unused;
    for (;;) {
        ssize_t got = read(LIFELINE, &byte, 1);
        if (got == 0 || (got < 0 && errno != EINTR)) _exit(0);
    }
}

static void watch(void) {
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if ((errno = pthread_create(&thread, NULL, await_the_end, NULL))) refuse("a thread");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* The guard may only continue what it traces: any other call ends it, and with it the process. */
static void only_continue(void) {
    static struct filter f;
    const uint32_t requests[] = {PTRACE_CONT, PTRACE_LISTEN};
    filter_begin(&f);
    allow(&f, SYS_wait4);
    allow(&f, SYS_rt_sigreturn);
    allow(&f, SYS_restart_syscall);
    allow(&f, SYS_exit_group);
    allow_values(&f, SYS_ptrace, 0, requests, 2, SECCOMP_RET_KILL_PROCESS);
    if (filter_install(&f, SECCOMP_RET_KILL_PROCESS)) refuse("the guard's filter");
}

static void stand_guard(pid_t guarded, int ready, int go) {
    sigset_t all;
    char byte;
    int status;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    if (ptrace(PTRACE_SEIZE, guarded, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE)) refuse("guard");
    if (write(ready, "r", 1) != 1 || read(go, &byte, 1) != 1) _exit(70);
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)) refuse("harden");
    syscall(SYS_close_range, 0, ~0U, 0);
    only_continue();
    for (;;) {
        pid_t who = waitpid(-1, &status, __WALL);
        if (who < 0 && errno == EINTR) continue;
        if (who < 0) _exit(0);
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (who == guarded) _exit(0);
            continue;
        }
        int signal = WSTOPSIG(status), event = status >> 16;
        if (event == PTRACE_EVENT_STOP) {
            int group = signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
            ptrace(group ? PTRACE_LISTEN : PTRACE_CONT, who, 0, 0);
        } else {
            ptrace(PTRACE_CONT, who, 0, event ? 0 : (long)signal);
        }
    }
}

static void guard(void) {
    int ready[2], go[2];
    char byte;
    pid_t self = getpid();
    if (pipe2(ready, O_CLOEXEC) || pipe2(go, O_CLOEXEC)) refuse("pipe");
    pid_t child = fork();
    if (child < 0) refuse("fork");
    if (child == 0) {
        close(ready[0]);
        close(go[1]);
        stand_guard(self, ready[1], go[0]);
    }
    close(ready[1]);
    close(go[0]);
    prctl(PR_SET_PTRACER, child, 0, 0, 0); /* only Yama has it */
    if (read(ready[0], &byte, 1) != 1) _exit(70);
    if (ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_EXITKILL)) refuse("guard the guard");
    if (write(go[1], "g", 1) != 1) refuse("gate");
    close(ready[0]);
    close(go[1]);
}

__attribute__((constructor)) static void begin(void) {
    const char *program = program_invocation_short_name;
    if (strncmp(program, "qemu-", 5) && strcmp(program, "swtpm")) return; /* what starts them */
    unsetenv("LD_PRELOAD");
    guard();
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)) refuse("harden");
    watch();
    if (write(LIFELINE, "r", 1) != 1) refuse("report");
}
