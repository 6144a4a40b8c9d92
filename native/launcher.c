/* The launcher: the first measured code of an enclave. It restricts the process, then starts CPython.
 *
 *   kluis-launcher PYTHON HEAP THREADS WITHOUT OPTIONS ENTRY PATH...
 *
 *   PYTHON   home of the interpreter's library, for example /k/python
 *   HEAP     bytes that may be allocated        THREADS  most threads at once
 *   WITHOUT  comma list of what this machine does not have and the operator has permitted to be missing:
 *            secret-memory landlock mdwe
 *   OPTIONS  letters: j code may be generated (grant insecure_jit), d debug enclave,
 *            s encrypted scratch, backed by descriptor 9, p the platform itself, which also writes its state
 *   ENTRY    module whose load(), if it has one, and main() are called      PATH...  sys.path, in order
 *
 * Order matters: not dumpable first (exec reset it), the heap reserved before capabilities are dropped, the
 * filter last. All of it before the first line of Python.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "calls.h"
#include "filter.h"
#include "memory.h"
#include "module.h"
#include "reserve.h"
#include "scratch.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif

static struct {
    const char *python, *without, *options, *entry;
    char **path;
    int paths;
} self;

#define STATE "/state"
#define RANDOM "/dev/urandom"

static void refuse(const char *what) {
    dprintf(2, "kluis-launcher: %s: %s\n", what, errno ? strerror(errno) : "refused");
    _exit(70);
}

static void no_heap(void) {
    struct rlimit files;
    if (!getrlimit(RLIMIT_NOFILE, &files) && files.rlim_max < REGION_DESCRIPTORS) {
        dprintf(2, "kluis-launcher: the heap could not be reserved: RLIMIT_NOFILE: want a hard limit of %lu, got %lu\n",
                REGION_DESCRIPTORS, (unsigned long)files.rlim_max);
        _exit(70);
    }
    if (region_slow) {
        dprintf(2, "kluis-launcher: the heap could not be reserved: its descriptor existed too long in each try: "
                   "something slows this process, such as a trace of its system calls\n");
        _exit(70);
    }
    refuse("the heap could not be reserved");
}

static int lacks(const char *name) {
    const char *at = self.without;
    size_t n = strlen(name);
    while ((at = strstr(at, name))) {
        if ((at == self.without || at[-1] == ',') && (at[n] == 0 || at[n] == ',')) return 1;
        at += n;
    }
    return 0;
}

static int has(char option) { return strchr(self.options, option) != NULL; }

static void drop_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}};
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &header, none)) refuse("drop capabilities");
}

/* Files: read and execute in PATH and the interpreter's home, and read the kernel's random numbers; the
 * platform also reads the rest of its root file system and writes its state. Nothing else. */
static void beneath(int ruleset, const char *path, uint64_t access) {
    struct landlock_path_beneath_attr rule = {access, open(path, O_PATH | O_CLOEXEC)};
    if (rule.parent_fd < 0) return;
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0)) refuse("landlock rule");
    close(rule.parent_fd);
}

/* Libraries that do not use getrandom(2) read this file. It must be the kernel's generator, or the enclave
 * does not start: the host could choose the random numbers in another file. */
static void only_random(void) {
    struct stat st;
    errno = 0;
    if (stat(RANDOM, &st) || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 9)) refuse(RANDOM);
}

static void close_files(void) {
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1) {
        if (lacks("landlock")) return;
        refuse("landlock");
    }
    uint64_t all = (1ULL << (abi >= 5 ? 16 : abi >= 3 ? 15 : abi >= 2 ? 14 : 13)) - 1;
    uint64_t readable = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
    struct { uint64_t fs, net, scoped; } attr = {all, abi >= 4 ? 3 : 0, abi >= 6 ? 3 : 0};
    size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (ruleset < 0) refuse("landlock ruleset");
    beneath(ruleset, self.python, readable);
    for (int i = 0; i < self.paths; i++) beneath(ruleset, self.path[i], readable);
    if (!has('p')) {
        beneath(ruleset, RANDOM, LANDLOCK_ACCESS_FS_READ_FILE);
    } else {
        beneath(ruleset, "/", readable);
        beneath(ruleset, STATE, all);
    }
    if (syscall(SYS_landlock_restrict_self, ruleset, 0)) refuse("landlock restrict");
    close(ruleset);
}

/* Allow mprotect, but write permission only inside the region: its first argument, 64 bits, is compared in
 * two halves. */
static void only_inside(struct filter *f, uint32_t nr, struct region region) {
    uint64_t from = (uint64_t)(uintptr_t)region.base, to = from + region.size;
    uint32_t high = ARG_LOW(0) + 4;
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 14);
    load(f, ARG_LOW(2));
    emit(f, BPF_JMP | BPF_JSET | BPF_K, PROT_WRITE, 0, 10);
    load(f, high);
    emit(f, BPF_JMP | BPF_JGT | BPF_K, (uint32_t)(from >> 32), 3, 0);
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(from >> 32), 0, 8);
    load(f, ARG_LOW(0));
    emit(f, BPF_JMP | BPF_JGE | BPF_K, (uint32_t)from, 0, 6);
    load(f, high);
    emit(f, BPF_JMP | BPF_JGT | BPF_K, (uint32_t)(to >> 32), 4, 0);
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(to >> 32), 0, 2);
    load(f, ARG_LOW(0));
    emit(f, BPF_JMP | BPF_JGE | BPF_K, (uint32_t)to, 1, 0);
    verdict(f, SECCOMP_RET_ALLOW);
    verdict(f, SECCOMP_RET_ERRNO | ENOMEM);
}

/* The backing of scratch may only be read and written at an offset: not closed, resized, mapped or replaced
 * by another descriptor. SCRATCH_NOTHING cannot be replaced either. */
static void only_places(struct filter *f) {
    static const uint32_t first[] = {
        SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_lseek, SYS_close, SYS_ftruncate, SYS_dup, SYS_dup2, SYS_dup3,
        SYS_fcntl, SYS_ioctl, SYS_newfstatat, SYS_openat, SYS_getdents64,
    };
    const uint32_t refused = SECCOMP_RET_ERRNO | EBADF;
    for (unsigned i = 0; i < sizeof first / sizeof *first; i++) refuse_value(f, first[i], 0, SCRATCH_FD, refused);
    refuse_value(f, SYS_mmap, 4, SCRATCH_FD, refused);
    refuse_value(f, SYS_close, 0, SCRATCH_NOTHING, refused);
    for (uint32_t fd = SCRATCH_NOTHING; fd <= SCRATCH_FD; fd++) {
        refuse_value(f, SYS_dup2, 1, fd, refused);
        refuse_value(f, SYS_dup3, 1, fd, refused);
    }
}

static void close_calls(void) {
    static struct filter f;
    const uint32_t denied = SECCOMP_RET_ERRNO | EPERM;
    const uint32_t me[] = {(uint32_t)getpid()};
    const uint32_t families[] = {1 /* AF_UNIX */}, named[] = {NAMED_FD};
    const uint32_t names[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE};
    const uint32_t controls[] = {0x5401, 0x5413, 0x541b, 0x5421, 0x5450, 0x5451};
    const uint32_t descriptors[] = {0, 1, 2, 3, 4, 5, 6, 7, 1030, 1033, 1034};

    filter_begin(&f);
    if (has('s')) only_places(&f);
    allow_all(&f, FREE_CALLS, sizeof FREE_CALLS / sizeof *FREE_CALLS);
    if (has('p')) allow_all(&f, PLATFORM_CALLS, sizeof PLATFORM_CALLS / sizeof *PLATFORM_CALLS);
    /* Threads, never processes. clone3 passes its flags in memory, where a filter cannot check them, so
     * callers must fall back to clone. */
    answer(&f, SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS);
    allow_bits(&f, SYS_clone, 0, CLONE_THREAD | CLONE_VM | CLONE_SIGHAND, denied);
    /* Anonymous writable memory comes from the region. Only the loader maps some, fixed next to a library;
     * and memory reserved elsewhere without access cannot be made writable later. */
    emit(&f, BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 8);
    load(&f, ARG_LOW(3));
    emit(&f, BPF_ALU | BPF_AND | BPF_K, MAP_ANONYMOUS | MAP_FIXED, 0, 0);
    emit(&f, BPF_JMP | BPF_JEQ | BPF_K, MAP_ANONYMOUS, 1, 0);
    verdict(&f, SECCOMP_RET_ALLOW);
    load(&f, ARG_LOW(2));
    emit(&f, BPF_JMP | BPF_JSET | BPF_K, has('j') ? 0 : PROT_WRITE, 0, 1);
    verdict(&f, SECCOMP_RET_ERRNO | ENOMEM);
    verdict(&f, SECCOMP_RET_ALLOW);
    if (has('j')) allow(&f, SYS_mprotect);
    else only_inside(&f, SYS_mprotect, memory_region());
    answer(&f, SYS_brk, SECCOMP_RET_ERRNO | ENOMEM);
    /* Programs that copy a file request its attributes, and continue if there are none. */
    answer(&f, SYS_listxattr, SECCOMP_RET_ERRNO | ENOTSUP);
    answer(&f, SYS_llistxattr, SECCOMP_RET_ERRNO | ENOTSUP);
    allow_values(&f, SYS_tgkill, 0, me, 1, denied);
    allow_values(&f, SYS_socketpair, 0, families, 1, denied);
    allow_values(&f, SYS_bind, 0, named, 1, denied);
    allow_values(&f, SYS_listen, 0, named, 1, denied);
    allow_values(&f, SYS_prctl, 0, names, 3, denied);
    allow_values(&f, SYS_ioctl, 1, controls, 6, SECCOMP_RET_ERRNO | ENOTTY);
    allow_values(&f, SYS_fcntl, 1, descriptors, 11, SECCOMP_RET_ERRNO | EINVAL);
    /* Limits may be read, but not set: both halves of the third argument are zero. */
    emit(&f, BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 6);
    load(&f, ARG_LOW(2));
    emit(&f, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
    load(&f, ARG_LOW(2) + 4);
    emit(&f, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1);
    verdict(&f, SECCOMP_RET_ALLOW);
    verdict(&f, denied);
    if (filter_install(&f, denied)) refuse("system-call filter");
}

static void die_of(PyStatus status) {
    dprintf(2, "kluis-launcher: python: %s\n", status.err_msg ? status.err_msg : "cannot start");
    _exit(70);
}

static void *python(void *unused) {
    PyPreConfig pre;
    PyConfig config;
    PyStatus status;
    (void)unused;
    reserve_install();
    errno = 0;
    const char *scratch = has('s') ? scratch_start() : NULL;
    if (scratch) refuse(scratch);
    if (module_install()) refuse("the launcher's module");
    PyPreConfig_InitIsolatedConfig(&pre);
    pre.utf8_mode = 1;
    status = Py_PreInitialize(&pre);
    if (PyStatus_Exception(status)) die_of(status);
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = 0;
    config.write_bytecode = 0;
    config.install_signal_handlers = 0;
    config.buffered_stdio = 1;
    config.pathconfig_warnings = 0;
    config.module_search_paths_set = 1;
    PyConfig_SetBytesString(&config, &config.home, self.python);
    PyConfig_SetBytesString(&config, &config.program_name, "kluis-enclave");
    PyConfig_SetBytesString(&config, &config.executable, "");
    for (int i = 0; i < self.paths; i++) {
        wchar_t *entry = Py_DecodeLocale(self.path[i], NULL);
        if (!entry) refuse("path");
        status = PyWideStringList_Append(&config.module_search_paths, entry);
        if (PyStatus_Exception(status)) die_of(status);
        PyMem_RawFree(entry);
    }
    status = Py_InitializeFromConfig(&config);
    if (PyStatus_Exception(status)) die_of(status);
    PyConfig_Clear(&config);

    PyObject *module = PyImport_ImportModule(self.entry), *result = NULL;
    int loads = module && PyObject_HasAttrString(module, "load");
    if (loads && !PyObject_CallMethod(module, "load", NULL)) module = NULL;
    if (module) {
        if (!has('d') && !has('p')) {
            /* Descriptors 0, 1 and 2 are /dev/null. If 1 and 2 were closed, they would be the next sockets,
             * and printed text would go to their peers. */
            if (dup2(STDIN_FILENO, STDOUT_FILENO) < 0 || dup2(STDIN_FILENO, STDERR_FILENO) < 0) {
                refuse("standard output");
            }
        }
        result = PyObject_CallMethod(module, "main", NULL);
    }
    if (!result) {
        PyErr_Print();
        _exit(70);
    }
    /* Threads of libraries may still run: nothing is finalised, the process exits. */
    _exit(PyLong_Check(result) ? (int)PyLong_AsLong(result) : 0);
}

int main(int argc, char **argv) {
    if (argc < 8) { errno = EINVAL; refuse("arguments"); }
    self.python = argv[1];
    self.without = argv[4];
    self.options = argv[5];
    self.entry = argv[6];
    self.path = argv + 7;
    self.paths = argc - 7;

    errno = 0;
    unsetenv(REGION_NAME);
    if (prctl(PR_SET_DUMPABLE, has('d') ? 1 : 0, 0, 0, 0)) refuse("not dumpable");
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none)) refuse("no core");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) refuse("no new privileges");
    if (!memory_region().base) no_heap();
    memory_limits(strtoull(argv[2], NULL, 10), (unsigned)strtoul(argv[3], NULL, 10));
    if (has('j')) memory_allow_code();
    drop_capabilities();
    if (has('p') && chdir(STATE)) refuse(STATE);
    if (!has('j') && prctl(PR_SET_MDWE, 1, 0, 0, 0) && !lacks("mdwe")) refuse("deny writable code (PR_SET_MDWE)");
    if (!has('p')) only_random();
    close_files();
    close_calls();

    /* The interpreter's stack is secret, too, so it cannot be this one. */
    pthread_t thread;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 16 << 20);
    int error = pthread_create(&thread, &attr, python, NULL);
    if (error) { errno = error; refuse("the interpreter's thread"); }
    for (;;) pause();
}
