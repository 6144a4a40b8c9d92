/* Reading and writing, as every library sees them: for a scratch file here, for any other descriptor by the
 * kernel. Only scratch_blocks.c reads and writes the backing.
 */
#define _GNU_SOURCE
#include "scratch.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define CURRENT (-1)   /* the descriptor's own offset */

static ssize_t transfer(struct opened *opened, const struct iovec *part, int count, off_t offset, int writes) {
    int mode = opened->flags & O_ACCMODE, append = writes && opened->flags & O_APPEND;
    ssize_t done = 0, k = mode == (writes ? O_RDONLY : O_WRONLY) ? -EBADF : 0;
    off_t where = offset;
    if (offset == CURRENT) {
        pthread_mutex_lock(&opened->lock);
        where = opened->offset;
    }
    for (int i = 0; i < count && !k; i++) {
        if (!part[i].iov_len) continue;
        k = !writes  ? bytes_read(opened->node, part[i].iov_base, part[i].iov_len, where)
            : append ? bytes_append(opened->node, part[i].iov_base, part[i].iov_len, &where)
                     : bytes_write(opened->node, part[i].iov_base, part[i].iov_len, where);
        if (k < 0) break;
        done += k;
        if (!append) where += k;
        k = (size_t)k < part[i].iov_len;
    }
    if (offset == CURRENT) {
        if (done) opened->offset = where;
        pthread_mutex_unlock(&opened->lock);
    }
    calls_let_go(opened);
    return scratch_answer(done || k >= 0 ? done : k);
}

static ssize_t one(struct opened *opened, void *bytes, size_t n, off_t offset, int writes) {
    struct iovec part = {bytes, n};
    return transfer(opened, &part, 1, offset, writes);
}

static ssize_t positioned(struct opened *opened, const struct iovec *part, int count, off_t offset, int writes) {
    if (offset >= 0 && count >= 0 && count <= IOV_MAX) return transfer(opened, part, count, offset, writes);
    calls_let_go(opened);
    errno = EINVAL;
    return -1;
}

EXPORT ssize_t read(int fd, void *to, size_t n) {
    struct opened *opened = calls_hold(fd);
    return opened ? one(opened, to, n, CURRENT, 0) : syscall(SYS_read, fd, to, n);
}
EXPORT ssize_t __read_chk(int fd, void *to, size_t n, size_t size) {
    if (n > size) abort();
    return read(fd, to, n);
}

EXPORT ssize_t write(int fd, const void *from, size_t n) {
    struct opened *opened = calls_hold(fd);
    return opened ? one(opened, (void *)from, n, CURRENT, 1) : syscall(SYS_write, fd, from, n);
}

EXPORT ssize_t readv(int fd, const struct iovec *part, int count) {
    struct opened *opened = calls_hold(fd);
    if (!opened) return syscall(SYS_readv, fd, part, count);
    return transfer(opened, part, count, CURRENT, 0);
}

EXPORT ssize_t writev(int fd, const struct iovec *part, int count) {
    struct opened *opened = calls_hold(fd);
    if (!opened) return syscall(SYS_writev, fd, part, count);
    return transfer(opened, part, count, CURRENT, 1);
}

EXPORT ssize_t pread(int fd, void *to, size_t n, off_t offset) {
    struct opened *opened = calls_hold(fd);
    struct iovec part = {to, n};
    if (opened) return positioned(opened, &part, 1, offset, 0);
    if (calls_keep(fd)) return scratch_answer(-EBADF);
    return syscall(SYS_pread64, fd, to, n, offset);
}
SAME(pread64, pread);
EXPORT ssize_t __pread_chk(int fd, void *to, size_t n, off_t offset, size_t size) {
    if (n > size) abort();
    return pread(fd, to, n, offset);
}
SAME(__pread64_chk, __pread_chk);

EXPORT ssize_t pwrite(int fd, const void *from, size_t n, off_t offset) {
    struct opened *opened = calls_hold(fd);
    struct iovec part = {(void *)from, n};
    if (opened) return positioned(opened, &part, 1, offset, 1);
    if (calls_keep(fd)) return scratch_answer(-EBADF);
    return syscall(SYS_pwrite64, fd, from, n, offset);
}
SAME(pwrite64, pwrite);

EXPORT ssize_t preadv(int fd, const struct iovec *part, int count, off_t offset) {
    struct opened *opened = calls_hold(fd);
    return opened ? positioned(opened, part, count, offset, 0) : syscall(SYS_preadv, fd, part, count, offset, 0L);
}
SAME(preadv64, preadv);
EXPORT ssize_t preadv2(int fd, const struct iovec *part, int count, off_t offset, int flags) {
    struct opened *opened = calls_hold(fd);
    if (!opened) return syscall(SYS_preadv2, fd, part, count, offset, 0L, flags);
    return offset == CURRENT ? transfer(opened, part, count, CURRENT, 0) : positioned(opened, part, count, offset, 0);
}
SAME(preadv64v2, preadv2);

EXPORT ssize_t pwritev(int fd, const struct iovec *part, int count, off_t offset) {
    struct opened *opened = calls_hold(fd);
    return opened ? positioned(opened, part, count, offset, 1) : syscall(SYS_pwritev, fd, part, count, offset, 0L);
}
SAME(pwritev64, pwritev);
EXPORT ssize_t pwritev2(int fd, const struct iovec *part, int count, off_t offset, int flags) {
    struct opened *opened = calls_hold(fd);
    if (!opened) return syscall(SYS_pwritev2, fd, part, count, offset, 0L, flags);
    return offset == CURRENT ? transfer(opened, part, count, CURRENT, 1) : positioned(opened, part, count, offset, 1);
}
SAME(pwritev64v2, pwritev2);
