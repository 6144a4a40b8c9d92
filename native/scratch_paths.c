/* The C library's calls on paths, as every library sees them: a path in /scratch is served here, any other is
 * passed to the kernel unchanged. An enclave's working directory is always /. */
#define _GNU_SOURCE
#include "scratch.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int on;

const char *scratch_start(void) {
    const char *error = calls_reserve();
    if (!error) error = blocks_start();
    if (!error) error = files_start();
    if (!error) error = calls_start();
    on = !error;
    return error;
}

/* Append the components of a path: n bytes of a path without a first slash. */
static int join(char *to, size_t n, const char *path) {
    while (*path) {
        size_t k = strcspn(path, "/");
        if (k == 2 && !strncmp(path, "..", 2)) {
            while (n && to[--n] != '/') {}
        } else if (k && !(k == 1 && *path == '.')) {
            if (n + k + 2 > SCRATCH_PATH) return -ENAMETOOLONG;
            if (n) to[n++] = '/';
            memcpy(to + n, path, k);
            n += k;
        }
        path += k;
        path += strspn(path, "/");
    }
    to[n] = 0;
    return 0;
}

int paths_resolve(int directory, const char *path, char inside[SCRATCH_PATH]) {
    static const char name[] = SCRATCH;
    const size_t own = sizeof name - 2;    /* without the slash and the terminator */
    if (!on || !path || !*path) return 0;
    size_t n = 0;
    if (*path != '/' && directory != AT_FDCWD) {
        struct opened *opened = calls_hold(directory);
        if (!opened) return 0;
        memcpy(inside, name + 1, own + 1);
        inside[own] = '/';
        int error = S_ISDIR(opened->node->mode)
                        ? files_path(opened->node, inside + own + 1, SCRATCH_PATH - own - 1) : -ENOTDIR;
        calls_let_go(opened);
        if (error) return error;
        n = strlen(inside);
        if (inside[n - 1] == '/') n--;
    }
    int error = join(inside, n, path);
    if (error || strncmp(inside, name + 1, own) || (inside[own] && inside[own] != '/')) return error;
    const char *rest = inside + own + (inside[own] == '/');
    memmove(inside, rest, strlen(rest) + 1);
    return 1;
}

/* The beginning of a call on a path: get the path in /scratch, or return if it is elsewhere. */
#define OURS(directory, path, kernel)                                          \
    char inside[SCRATCH_PATH];                                                 \
    int mine_ = paths_resolve(directory, path, inside);                        \
    if (mine_ < 0) return (int)scratch_answer(mine_);                          \
    if (!mine_) return (int)(kernel)

/* ---- opening --------------------------------------------------------------------------------- */

static int open_at(int directory, const char *path, int flags, mode_t mode) {
    OURS(directory, path, syscall(SYS_openat, directory, path, flags, mode));
    return calls_open(inside, flags, mode);
}

#define MODE(last)                                                             \
    mode_t mode = 0;                                                           \
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {                 \
        va_list rest;                                                          \
        va_start(rest, last);                                                  \
        mode = va_arg(rest, mode_t);                                           \
        va_end(rest);                                                          \
    }

EXPORT int open(const char *path, int flags, ...) {
    MODE(flags)
    return open_at(AT_FDCWD, path, flags, mode);
}
SAME(open64, open);
EXPORT int openat(int directory, const char *path, int flags, ...) {
    MODE(flags)
    return open_at(directory, path, flags, mode);
}
SAME(openat64, openat);
EXPORT int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
SAME(__open64_2, __open_2);
EXPORT int __openat_2(int directory, const char *path, int flags) { return open_at(directory, path, flags, 0); }
SAME(__openat64_2, __openat_2);
EXPORT int creat(const char *path, mode_t mode) {
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
SAME(creat64, creat);

/* ---- queries --------------------------------------------------------------------------------- */

static int status_of(const char *inside, struct stat *to) {
    struct node *node;
    int error = files_open(inside, O_RDONLY, 0, &node);
    if (error) return (int)scratch_answer(error);
    bytes_stat(node, to);
    files_drop(node);
    return 0;
}

EXPORT int fstat(int fd, struct stat *to) {
    struct opened *opened = calls_hold(fd);
    if (!opened) return (int)syscall(SYS_fstat, fd, to);
    bytes_stat(opened->node, to);
    calls_let_go(opened);
    return 0;
}
SAME(fstat64, fstat);
EXPORT int fstatat(int directory, const char *path, struct stat *to, int flags) {
    if (flags & AT_EMPTY_PATH && !*path) return fstat(directory, to);
    OURS(directory, path, syscall(SYS_newfstatat, directory, path, to, flags));
    return status_of(inside, to);
}
SAME(fstatat64, fstatat);
EXPORT int stat(const char *path, struct stat *to) { return fstatat(AT_FDCWD, path, to, 0); }
SAME(stat64, stat);
EXPORT int lstat(const char *path, struct stat *to) { return fstatat(AT_FDCWD, path, to, AT_SYMLINK_NOFOLLOW); }
SAME(lstat64, lstat);

/* As wheels for older C libraries call them: the first argument is a version, and there is only one. */
EXPORT int __xstat(int version, const char *path, struct stat *to) { return (void)version, stat(path, to); }
SAME(__xstat64, __xstat);
EXPORT int __lxstat(int version, const char *path, struct stat *to) { return (void)version, lstat(path, to); }
SAME(__lxstat64, __lxstat);
EXPORT int __fxstat(int version, int fd, struct stat *to) { return (void)version, fstat(fd, to); }
SAME(__fxstat64, __fxstat);
EXPORT int __fxstatat(int version, int directory, const char *path, struct stat *to, int flags) {
    return (void)version, fstatat(directory, path, to, flags);
}
SAME(__fxstatat64, __fxstatat);

static struct statx_timestamp extended(struct timespec t) {
    return (struct statx_timestamp){.tv_sec = t.tv_sec, .tv_nsec = (uint32_t)t.tv_nsec};
}

EXPORT int statx(int directory, const char *path, int flags, unsigned mask, struct statx *to) {
    struct stat st;
    struct opened *opened = path && !*path && flags & AT_EMPTY_PATH ? calls_hold(directory) : NULL;
    if (opened) {
        bytes_stat(opened->node, &st);
        calls_let_go(opened);
    } else {
        OURS(directory, path, syscall(SYS_statx, directory, path, flags, mask, to));
        if (status_of(inside, &st)) return -1;
    }
    *to = (struct statx){
        .stx_mask = STATX_BASIC_STATS, .stx_blksize = (uint32_t)st.st_blksize, .stx_nlink = (uint32_t)st.st_nlink,
        .stx_uid = st.st_uid, .stx_gid = st.st_gid, .stx_mode = (uint16_t)st.st_mode, .stx_ino = st.st_ino,
        .stx_size = (uint64_t)st.st_size, .stx_blocks = (uint64_t)st.st_blocks, .stx_dev_major = SCRATCH_DEVICE >> 8,
        .stx_dev_minor = SCRATCH_DEVICE & 255,
        .stx_atime = extended(st.st_atim), .stx_mtime = extended(st.st_mtim), .stx_ctime = extended(st.st_ctim),
    };
    return 0;
}

static int reachable(const char *inside) {
    struct stat st;
    return status_of(inside, &st);
}
EXPORT int faccessat(int directory, const char *path, int mode, int flags) {
    OURS(directory, path, flags ? syscall(SYS_faccessat2, directory, path, mode, flags)
                                : syscall(SYS_faccessat, directory, path, mode));
    return reachable(inside);
}
EXPORT int access(const char *path, int mode) { return faccessat(AT_FDCWD, path, mode, 0); }
EXPORT int euidaccess(const char *path, int mode) { return faccessat(AT_FDCWD, path, mode, AT_EACCESS); }
SAME(eaccess, euidaccess);

/* There are no links, symbolic or other, and no attributes except mode and times. */
EXPORT ssize_t readlinkat(int directory, const char *path, char *to, size_t n) {
    /* There is no /proc. TensorFlow looks for the name of its program, and exits if there is none; if the
     * name contains "python", it also looks for the command line. */
    static const char program[] = "/k/launcher";
    if (path && !strcmp(path, "/proc/self/exe")) {
        size_t k = sizeof program - 1 < n ? sizeof program - 1 : n;
        memcpy(to, program, k);
        return (ssize_t)k;
    }
    char inside[SCRATCH_PATH];
    int mine = paths_resolve(directory, path, inside);
    if (!mine) return syscall(SYS_readlinkat, directory, path, to, n);
    if (mine < 0 || reachable(inside)) return mine < 0 ? scratch_answer(mine) : -1;
    return scratch_answer(-EINVAL);
}
EXPORT ssize_t readlink(const char *path, char *to, size_t n) { return readlinkat(AT_FDCWD, path, to, n); }
EXPORT int linkat(int from_directory, const char *from, int directory, const char *path, int flags) {
    OURS(directory, path, syscall(SYS_linkat, from_directory, from, directory, path, flags));
    return (int)scratch_answer(-EPERM);
}
EXPORT int link(const char *from, const char *path) { return linkat(AT_FDCWD, from, AT_FDCWD, path, 0); }
EXPORT int symlinkat(const char *target, int directory, const char *path) {
    OURS(directory, path, syscall(SYS_symlinkat, target, directory, path));
    return (int)scratch_answer(-EPERM);
}
EXPORT int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }
EXPORT ssize_t listxattr(const char *path, char *to, size_t n) {
    char inside[SCRATCH_PATH];
    if (!paths_resolve(AT_FDCWD, path, inside)) return syscall(SYS_listxattr, path, to, n);
    return scratch_answer(-ENOTSUP);
}
EXPORT ssize_t llistxattr(const char *path, char *to, size_t n) {
    char inside[SCRATCH_PATH];
    if (!paths_resolve(AT_FDCWD, path, inside)) return syscall(SYS_llistxattr, path, to, n);
    return scratch_answer(-ENOTSUP);
}

/* ---- changing -------------------------------------------------------------------------------- */

EXPORT int unlinkat(int directory, const char *path, int flags) {
    OURS(directory, path, syscall(SYS_unlinkat, directory, path, flags));
    return (int)scratch_answer(files_remove(inside, flags & AT_REMOVEDIR));
}
EXPORT int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
EXPORT int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
EXPORT int remove(const char *path) {
    return unlink(path) && (errno != EISDIR || rmdir(path)) ? -1 : 0;
}

EXPORT int mkdirat(int directory, const char *path, mode_t mode) {
    OURS(directory, path, syscall(SYS_mkdirat, directory, path, mode));
    return (int)scratch_answer(files_directory(inside, mode));
}
EXPORT int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

EXPORT int renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned flags) {
    char source[SCRATCH_PATH], target[SCRATCH_PATH];
    int ours = paths_resolve(from_directory, from, source), its = paths_resolve(to_directory, to, target);
    if (ours < 0 || its < 0) return (int)scratch_answer(ours < 0 ? ours : its);
    if (ours != its) return (int)scratch_answer(-EXDEV);
    if (!ours) {
        return (int)(flags ? syscall(SYS_renameat2, from_directory, from, to_directory, to, flags)
                           : syscall(SYS_renameat, from_directory, from, to_directory, to));
    }
    if (flags & ~(unsigned)RENAME_NOREPLACE) return (int)scratch_answer(-EINVAL);
    return (int)scratch_answer(files_rename(source, target, (int)flags));
}
EXPORT int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    return renameat2(from_directory, from, to_directory, to, 0);
}
EXPORT int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

EXPORT int truncate(const char *path, off_t size) {
    OURS(AT_FDCWD, path, syscall(SYS_truncate, path, size));
    struct node *node;
    int error = files_open(inside, O_RDONLY, 0, &node);
    if (!error) {
        error = bytes_resize(node, size);
        files_drop(node);
    }
    return (int)scratch_answer(error);
}
SAME(truncate64, truncate);

static int change(const char *inside, const mode_t *mode, const struct timespec *times) {
    struct node *node;
    int error = files_open(inside, O_RDONLY, 0, &node);
    if (error) return (int)scratch_answer(error);
    if (mode) node->mode = (node->mode & S_IFMT) | (*mode & 07777);
    else bytes_times(node, times);
    files_drop(node);
    return 0;
}

EXPORT int fchmodat(int directory, const char *path, mode_t mode, int flags) {
    (void)flags;
    OURS(directory, path, syscall(SYS_fchmodat, directory, path, mode));
    return change(inside, &mode, NULL);
}
EXPORT int chmod(const char *path, mode_t mode) { return fchmodat(AT_FDCWD, path, mode, 0); }
EXPORT int fchmod(int fd, mode_t mode) {
    struct opened *opened = calls_hold(fd);
    if (!opened) return (int)syscall(SYS_fchmod, fd, mode);
    opened->node->mode = (opened->node->mode & S_IFMT) | (mode & 07777);
    calls_let_go(opened);
    return 0;
}

EXPORT int futimens(int fd, const struct timespec times[2]) {
    struct opened *opened = calls_hold(fd);
    if (!opened) return (int)syscall(SYS_utimensat, fd, NULL, times, 0);
    bytes_times(opened->node, times);
    calls_let_go(opened);
    return 0;
}
EXPORT int utimensat(int directory, const char *path, const struct timespec times[2], int flags) {
    OURS(directory, path, syscall(SYS_utimensat, directory, path, times, flags));
    return change(inside, NULL, times);
}
