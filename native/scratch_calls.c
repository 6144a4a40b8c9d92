/* The C library's calls on descriptors, as every library sees them: a descriptor of a scratch file is served
 * here, any other is passed to the kernel unchanged.
 *
 * For the kernel a scratch descriptor only names /dev/null (O_PATH): no other file gets its number, and a
 * call that bypasses this file fails with EBADF.
 */
#define _GNU_SOURCE
#include "scratch.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_DESCRIPTORS 65536

static _Atomic(struct opened *) *table;  /* NULL: there is no scratch */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t unlocked = PTHREAD_COND_INITIALIZER;

const char *calls_reserve(void) {
    int nothing = (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_PATH | O_CLOEXEC);
    if (nothing == SCRATCH_NOTHING) return NULL;
    if (syscall(SYS_fcntl, nothing, F_DUPFD_CLOEXEC, SCRATCH_NOTHING) != SCRATCH_NOTHING) {
        return "scratch: its descriptors";
    }
    syscall(SYS_close, nothing);
    return NULL;
}

const char *calls_start(void) {
    size_t size = MOST_DESCRIPTORS * sizeof *table;
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return "scratch: its descriptors";
    table = at;
    return NULL;
}

static struct opened *at(int fd) {
    return table && fd >= 0 && fd < MOST_DESCRIPTORS ? atomic_load_explicit(&table[fd], memory_order_acquire) : NULL;
}

int calls_keep(int fd) { return table && fd == SCRATCH_FD; }

struct opened *calls_hold(int fd) {
    if (!at(fd)) return NULL;
    pthread_mutex_lock(&lock);
    struct opened *opened = at(fd);
    if (opened) opened->users++;
    pthread_mutex_unlock(&lock);
    return opened;
}

void calls_let_go(struct opened *opened) {
    pthread_mutex_lock(&lock);
    int last = !--opened->users;
    pthread_mutex_unlock(&lock);
    if (!last) return;
    files_drop(opened->node);
    pthread_mutex_destroy(&opened->lock);
    free(opened);
}

/* A new descriptor for an open file; it takes over the reference. */
static int bind(struct opened *opened, int least) {
    /* Never a standard stream: printed text would go into it, and SQLite refuses such a number. */
    if (least <= STDERR_FILENO) least = STDERR_FILENO + 1;
    int fd = (int)syscall(SYS_fcntl, SCRATCH_NOTHING, F_DUPFD_CLOEXEC, least);
    if (fd >= MOST_DESCRIPTORS) {
        syscall(SYS_close, fd);
        errno = EMFILE;
        fd = -1;
    }
    if (fd < 0) return -1;
    pthread_mutex_lock(&lock);
    opened->users++;
    atomic_store(&table[fd], opened);
    pthread_mutex_unlock(&lock);
    return fd;
}

/* Detach a descriptor from its file before its number is freed. */
static void unbind(int fd) {
    if (!at(fd)) return;
    pthread_mutex_lock(&lock);
    struct opened *opened = at(fd);
    atomic_store(&table[fd], NULL);
    pthread_cond_broadcast(&unlocked);
    pthread_mutex_unlock(&lock);
    if (opened) calls_let_go(opened);
}

int calls_open(const char *path, int flags, mode_t mode) {
    struct node *node;
    int error = files_open(path, flags, mode, &node);
    if (error) return (int)scratch_answer(error);
    struct opened *opened = calloc(1, sizeof *opened);
    if (!opened) {
        files_drop(node);
        errno = ENOMEM;
        return -1;
    }
    pthread_mutex_init(&opened->lock, NULL);
    opened->node = node;
    opened->flags = flags & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECTORY);
    opened->users = 1;
    int fd = bind(opened, 0);
    if (fd >= 0 && !(flags & O_CLOEXEC)) syscall(SYS_fcntl, fd, F_SETFD, 0);
    calls_let_go(opened);
    return fd;
}

EXPORT off_t lseek(int fd, off_t offset, int whence) {
    struct opened *opened = calls_hold(fd);
    struct stat st;
    if (!opened) return syscall(SYS_lseek, fd, offset, whence);
    bytes_stat(opened->node, &st);
    pthread_mutex_lock(&opened->lock);
    off_t to = -1;
    int error = EINVAL;
    if (whence == SEEK_SET) to = offset;
    else if (whence == SEEK_CUR) to = opened->offset + offset;
    else if (whence == SEEK_END) to = st.st_size + offset;
    else if (offset < 0 || offset >= st.st_size) error = ENXIO;
    else if (whence == SEEK_DATA || whence == SEEK_HOLE) to = whence == SEEK_DATA ? offset : st.st_size;
    if (to >= 0) opened->offset = to;
    pthread_mutex_unlock(&opened->lock);
    calls_let_go(opened);
    return to >= 0 ? to : scratch_answer(-error);
}
SAME(lseek64, lseek);

/* ---- descriptors ----------------------------------------------------------------------------- */

EXPORT int close(int fd) {
    unbind(fd);
    return (int)syscall(SYS_close, fd);
}

static int duplicate(struct opened *opened, int least, int cloexec) {
    int fd = bind(opened, least);
    if (fd >= 0 && !cloexec) syscall(SYS_fcntl, fd, F_SETFD, 0);
    calls_let_go(opened);
    return fd;
}

EXPORT int dup(int fd) {
    struct opened *opened = calls_hold(fd);
    return opened ? duplicate(opened, 0, 0) : (int)syscall(SYS_dup, fd);
}

static int duplicate_to(int fd, int to, int flags, int three) {
    struct opened *opened = calls_hold(fd);
    if (fd != to) unbind(to);
    int made = three ? (int)syscall(SYS_dup3, fd, to, flags) : (int)syscall(SYS_dup2, fd, to);
    if (!opened) return made;
    if (made >= 0 && fd != to && made < MOST_DESCRIPTORS) {
        pthread_mutex_lock(&lock);
        opened->users++;
        atomic_store(&table[made], opened);
        pthread_mutex_unlock(&lock);
    }
    calls_let_go(opened);
    return made;
}
EXPORT int dup2(int fd, int to) { return duplicate_to(fd, to, 0, 0); }
EXPORT int dup3(int fd, int to, int flags) { return duplicate_to(fd, to, flags, 1); }

EXPORT int fcntl(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    struct opened *opened = calls_hold(fd);
    if (!opened) return (int)syscall(SYS_fcntl, fd, command, argument);
    int result = 0, number = (int)(intptr_t)argument;
    switch (command) {
    case F_DUPFD: case F_DUPFD_CLOEXEC: return duplicate(opened, number, command == F_DUPFD_CLOEXEC);
    case F_GETFD: case F_SETFD: result = (int)syscall(SYS_fcntl, fd, command, argument); break;
    case F_GETFL: result = opened->flags; break;
    case F_SETFL:
        pthread_mutex_lock(&lock);
        opened->flags = (opened->flags & ~(O_APPEND | O_NONBLOCK)) | (number & (O_APPEND | O_NONBLOCK));
        pthread_mutex_unlock(&lock);
        break;
    /* Record locks belong to a process, and this is the only process. */
    case F_SETLK: case F_SETLKW: break;
    case F_GETLK: ((struct flock *)argument)->l_type = F_UNLCK; break;
    default: result = (int)scratch_answer(-EINVAL);
    }
    calls_let_go(opened);
    return result;
}
SAME(fcntl64, fcntl);

/* Whether another descriptor's lock on this file conflicts with this lock. */
static int conflicts(const struct opened *mine, int kind) {
    for (int fd = 0; fd < MOST_DESCRIPTORS; fd++) {
        const struct opened *other = at(fd);
        if (!other || other == mine || other->node != mine->node || !other->locked) continue;
        if (kind == LOCK_EX || other->locked == LOCK_EX) return 1;
    }
    return 0;
}

EXPORT int flock(int fd, int operation) {
    struct opened *opened = calls_hold(fd);
    if (!opened) return (int)syscall(SYS_flock, fd, operation);
    int kind = operation & ~LOCK_NB, error = kind == LOCK_SH || kind == LOCK_EX || kind == LOCK_UN ? 0 : -EINVAL;
    pthread_mutex_lock(&lock);
    while (!error && kind != LOCK_UN && conflicts(opened, kind)) {
        if (operation & LOCK_NB) error = -EWOULDBLOCK;
        else pthread_cond_wait(&unlocked, &lock);
    }
    if (!error) opened->locked = kind == LOCK_UN ? 0 : kind;
    pthread_cond_broadcast(&unlocked);
    pthread_mutex_unlock(&lock);
    calls_let_go(opened);
    return (int)scratch_answer(error);
}

/* ---- sizes ----------------------------------------------------------------------------------- */

static int writable(const struct opened *opened) { return (opened->flags & O_ACCMODE) != O_RDONLY; }

EXPORT int ftruncate(int fd, off_t size) {
    struct opened *opened = calls_hold(fd);
    if (!opened) return (int)syscall(SYS_ftruncate, fd, size);
    int error = writable(opened) ? bytes_resize(opened->node, size) : -EINVAL;
    calls_let_go(opened);
    return (int)scratch_answer(error);
}
SAME(ftruncate64, ftruncate);

EXPORT int fallocate(int fd, int mode, off_t offset, off_t n) {
    struct opened *opened = calls_hold(fd);
    if (!opened) return (int)syscall(SYS_fallocate, fd, mode, offset, n);
    int error = -EOPNOTSUPP;
    if (!writable(opened)) error = -EBADF;
    else if (!(mode & ~FALLOC_FL_KEEP_SIZE)) error = bytes_reserve(opened->node, offset, n, mode);
    else if (mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) error = bytes_punch(opened->node, offset, n);
    calls_let_go(opened);
    return (int)scratch_answer(error);
}
SAME(fallocate64, fallocate);

/* Scratch need not outlive the process: there is nothing to flush. */
static int settled(int fd, int nr) {
    struct opened *opened = calls_hold(fd);
    if (!opened) return (int)syscall(nr, fd);
    calls_let_go(opened);
    return 0;
}
EXPORT int fsync(int fd) { return settled(fd, SYS_fsync); }
EXPORT int fdatasync(int fd) { return settled(fd, SYS_fdatasync); }

EXPORT int posix_fadvise(int fd, off_t offset, off_t n, int advice) {
    struct opened *opened = calls_hold(fd);
    if (opened) calls_let_go(opened);
    return opened || !syscall(SYS_fadvise64, fd, offset, n, advice) ? 0 : errno;
}
SAME(posix_fadvise64, posix_fadvise);

/* A mapping is a copy: private and writable, or read-only with the current content. Shared writable mappings
 * do not exist. */
void *calls_map(int fd, size_t n, int prot, int flags, off_t offset) {
    struct opened *opened = calls_hold(fd);
    if (!opened) return NULL;
    int shared = (flags & MAP_TYPE) != MAP_PRIVATE && prot & PROT_WRITE, error = 0;
    if ((opened->flags & O_ACCMODE) == O_WRONLY) error = EACCES;
    else if (shared || flags & MAP_FIXED || prot & PROT_EXEC) error = ENODEV;
    else if (offset < 0 || offset % (off_t)SCRATCH_BLOCK) error = EINVAL;
    char *to = error ? MAP_FAILED : mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t done = 0; to != MAP_FAILED && done < n;) {
        ssize_t k = bytes_read(opened->node, to + done, n - done, offset + (off_t)done);
        if (k <= 0) break;
        done += (size_t)k;
    }
    if (to != MAP_FAILED && prot != (PROT_READ | PROT_WRITE) && mprotect(to, n, prot)) {
        error = errno;
        munmap(to, n);
        to = MAP_FAILED;
    }
    calls_let_go(opened);
    if (error) errno = error;
    return to;
}
