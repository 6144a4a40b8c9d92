/* System calls grouped by the processes that may make them, with any arguments. */
#ifndef KLUIS_CALLS_H
#define KLUIS_CALLS_H
#include <stdint.h>
#include <sys/syscall.h>

/* A socket without a name, made under the enclave's pid. The enclave names it after its first message to the
 * platform and listens on it, once: the kernel certifies both to the platform; root cannot forge either. */
enum { NAMED_FD = 18 };

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

/* An enclave, once its first line of Python runs. */
static const uint32_t FREE_CALLS[] = {
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_lseek, SYS_close,
    SYS_fstat, SYS_stat, SYS_lstat, SYS_newfstatat, SYS_statx, SYS_open, SYS_openat, SYS_access,
    SYS_faccessat, SYS_faccessat2, SYS_getdents64, SYS_getcwd, SYS_readlink, SYS_readlinkat,
    SYS_munmap, SYS_madvise, SYS_mincore, SYS_ftruncate, SYS_memfd_create,
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigtimedwait, SYS_sigaltstack,
    SYS_futex, SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_setaffinity, SYS_sched_getparam,
    SYS_sched_getscheduler, SYS_sched_get_priority_min, SYS_sched_get_priority_max, SYS_getpriority,
    SYS_set_robust_list, SYS_get_robust_list, SYS_rseq, SYS_membarrier, SYS_restart_syscall,
    SYS_nanosleep, SYS_clock_nanosleep, SYS_pause, SYS_clock_gettime, SYS_clock_getres, SYS_gettimeofday, SYS_time,
    SYS_getpid, SYS_gettid, SYS_getppid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getgroups,
    SYS_getresuid, SYS_getresgid, SYS_uname, SYS_sysinfo, SYS_getrusage, SYS_times, SYS_getcpu,
    SYS_getrlimit, SYS_getrandom, SYS_poll, SYS_ppoll, SYS_select, SYS_pselect6, SYS_epoll_create1,
    SYS_epoll_ctl, SYS_epoll_wait, SYS_epoll_pwait, SYS_eventfd2, SYS_pipe2, SYS_dup, SYS_dup2, SYS_dup3,
    SYS_sendto, SYS_recvfrom, SYS_sendmsg, SYS_recvmsg, SYS_shutdown, SYS_accept4, SYS_getsockname,
    SYS_getpeername, SYS_getsockopt, SYS_setsockopt, SYS_exit, SYS_exit_group, SYS_set_tid_address,
};

/* The platform, in addition: it keeps state in files. */
static const uint32_t PLATFORM_CALLS[] = {
    SYS_rename, SYS_renameat, SYS_renameat2, SYS_unlink, SYS_unlinkat, SYS_mkdir, SYS_mkdirat, SYS_fsync,
    SYS_fdatasync, SYS_flock, SYS_fchmod, SYS_fchmodat, SYS_chmod, SYS_umask, SYS_pidfd_open, SYS_sendfile,
    SYS_copy_file_range, SYS_fallocate, SYS_statfs,
};

/* Calls that an image's loader and the launcher need in addition, until the launcher forbids the rest: those
 * whose arguments are restricted later, and those that drop rights. */
static const uint32_t THRESHOLD_CALLS[] = {
    SYS_execve, SYS_arch_prctl, SYS_brk, SYS_mmap, SYS_mprotect, SYS_prctl, SYS_prlimit64, SYS_setrlimit,
    SYS_fcntl, SYS_ioctl, SYS_tgkill, SYS_socketpair, SYS_chdir, SYS_close_range, SYS_capget, SYS_capset,
    SYS_memfd_secret, SYS_landlock_create_ruleset, SYS_landlock_add_rule, SYS_landlock_restrict_self, SYS_seccomp,
};
#endif
