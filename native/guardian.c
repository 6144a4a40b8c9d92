/* The guardian: parent and tracer of an enclave for its whole life.
 *
 *   kluis-guardian UID GID REGION WITHOUT PROGRAM ARGUMENTS...
 *
 * A process has one tracer, so no other debugger can attach. If the tracer ends, the enclave ends (EXITKILL).
 * The enclave traces the guardian in turn, so no debugger can attach there either: a debugger of the guardian
 * could suspend its filter (PTRACE_O_SUSPEND_SECCOMP). The enclave never waits for the guardian, so the
 * guardian blocks every signal that it can: a signal that arrived would stop it. Code that root writes into
 * the guardian's memory can only continue the tracee: the filter ends the guardian, and the enclave with it,
 * at any other call. The enclave executes one program, the launcher. A second execve ends both: so the
 * program that the platform sees in /proc/PID/exe is the only one that this process ever ran.
 *
 * UID 0 keeps the current ids (an ordinary user's enclave). REGION is the size in bytes of the secret memory
 * that the launcher makes: it is passed in the environment, see region.c. WITHOUT names what the machine does
 * not have, for example "secret-memory": a plain memory file is used then; with "guardian" (a debug enclave)
 * debuggers are not kept out.
 */
#define _GNU_SOURCE
#include "calls.h"
#include "filter.h"
#include "memory.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define CAP_IPC_LOCK_BIT (1u << CAP_IPC_LOCK)
#define SECOND_PROGRAM 71

static void refuse(const char *what) {
    dprintf(2, "kluis-guardian: %s: %s\n", what, strerror(errno));
    _exit(70);
}

/* Drop every capability except the right to lock memory, and that one too unless keep is set. */
static void only_lock(int keep) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct caps[2] = {{0}};
    if (keep) caps[0].permitted = caps[0].effective = caps[0].inheritable = CAP_IPC_LOCK_BIT;
    if (syscall(SYS_capset, &header, caps)) refuse("drop capabilities");
    if (keep && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_IPC_LOCK, 0, 0)) refuse("keep CAP_IPC_LOCK");
}

static void become(uid_t uid, gid_t gid) {
    if (!uid) return;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)) refuse("keep capabilities");
    if (setgroups(0, NULL) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid)) refuse("change ids");
    only_lock(1);
}

static void announce_region(const char *size, const char *without) {
    char value[64];
    int plain = strstr(without, "secret-memory") != NULL;
    snprintf(value, sizeof value, "%s%s", size, plain ? REGION_PLAIN : "");
    if (setenv(REGION_NAME, value, 1)) refuse("announce the heap");
}

static void make_named(void) {
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (fd < 0 || (fd != NAMED_FD && dup2(fd, NAMED_FD) < 0)) refuse("a socket for the first message");
    if (fd != NAMED_FD) close(fd);
}

/* The image's loader and libraries run before the launcher applies its restrictions. They are measured, so an
 * owner knows them; the machine's operator need not trust them: from the first instruction they can create no
 * process, no socket, no namespace and no debugger. */
static void threshold(void) {
    static struct filter f;
    const uint32_t denied = SECCOMP_RET_ERRNO | EPERM, named[] = {NAMED_FD};
    filter_begin(&f);
    allow_all(&f, FREE_CALLS, sizeof FREE_CALLS / sizeof *FREE_CALLS);
    allow_all(&f, PLATFORM_CALLS, sizeof PLATFORM_CALLS / sizeof *PLATFORM_CALLS);
    allow_all(&f, THRESHOLD_CALLS, sizeof THRESHOLD_CALLS / sizeof *THRESHOLD_CALLS);
    allow_values(&f, SYS_bind, 0, named, 1, denied);
    allow_values(&f, SYS_listen, 0, named, 1, denied);
    answer(&f, SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS);
    allow_bits(&f, SYS_clone, 0, CLONE_THREAD | CLONE_VM | CLONE_SIGHAND, denied);
    if (filter_install(&f, denied)) refuse("the threshold's filter");
}

static void only_guard(void) {
    static struct filter f;
    const uint32_t requests[] = {PTRACE_CONT, PTRACE_LISTEN};
    filter_begin(&f);
    allow(&f, SYS_wait4);
    allow(&f, SYS_rt_sigreturn);
    allow(&f, SYS_restart_syscall);
    allow(&f, SYS_exit_group);
    allow_values(&f, SYS_ptrace, 0, requests, 2, SECCOMP_RET_KILL_PROCESS);
    if (filter_install(&f, SECCOMP_RET_KILL_PROCESS)) refuse("the guardian's filter");
}

int main(int argc, char **argv) {
    if (argc < 6) { errno = EINVAL; refuse("arguments"); }
    uid_t uid = (uid_t)strtoul(argv[1], NULL, 10);
    gid_t gid = (gid_t)strtoul(argv[2], NULL, 10);
    int guarded = !strstr(argv[4], "guardian"), programs = 0, gate[2], back[2], status;
    sigset_t all, before;
    char go;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) refuse("harden");
    if (pipe2(gate, O_CLOEXEC) || pipe2(back, O_CLOEXEC)) refuse("pipe");
    sigfillset(&all);
    if (sigprocmask(SIG_SETMASK, &all, &before)) refuse("block signals");
    pid_t child = fork();
    if (child < 0) refuse("fork");
    if (child == 0) {
        close(gate[1]);
        close(back[0]);
        /* Without EXITKILL: the guardian outlives the enclave to report its status. */
        if (guarded && ptrace(PTRACE_SEIZE, getppid(), 0, 0)) refuse("guard the guardian");
        if (write(back[1], "g", 1) != 1 || read(gate[0], &go, 1) != 1) _exit(70);
        if (sigprocmask(SIG_SETMASK, &before, NULL)) refuse("restore signals");
        become(uid, gid);
        make_named();
        announce_region(argv[3], argv[4]);
        threshold();
        execv(argv[5], argv + 5);
        refuse(argv[5]);
    }
    close(back[1]);
    if (read(back[0], &go, 1) != 1) _exit(70);
    close(gate[0]);
    const long options = PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    if (guarded && ptrace(PTRACE_SEIZE, child, 0, options)) refuse("guard");
    only_lock(0);
    /* A change of credentials reset the death signal that bubblewrap had set: it is set again here. The
     * guardian keeps bubblewrap's user id, because the kernel checks whether the dying parent may signal its
     * child. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)) refuse("harden");
    if (write(gate[1], "g", 1) != 1) refuse("gate");
    syscall(SYS_close_range, 0, ~0U, 0);
    only_guard();

    for (;;) {
        pid_t who = waitpid(-1, &status, __WALL);
        if (who < 0) { if (errno == EINTR) continue; _exit(0); }
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (who == child) _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
            continue;
        }
        int signal = WSTOPSIG(status), event = status >> 16;
        if (event == PTRACE_EVENT_EXEC && programs++) _exit(SECOND_PROGRAM);
        if (event == PTRACE_EVENT_STOP) {
            int group = signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
            ptrace(group ? PTRACE_LISTEN : PTRACE_CONT, who, 0, 0);
        } else {
            ptrace(PTRACE_CONT, who, 0, event ? 0 : (long)signal);
        }
    }
}
