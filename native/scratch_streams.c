/* Streams, listings and other calls inside which the C library calls itself: for scratch files they are built
 * here from the plain calls; for all others they are the C library's own. */
#define _GNU_SOURCE
#include "scratch.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

/* The C library's own function of this name, looked up once. */
#define REAL(name)                                                             \
    ({                                                                         \
        static void *_Atomic found_;                                           \
        if (!found_) found_ = real(#name);                                     \
        (__typeof__(&name))found_;                                             \
    })
static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

static int ours(int fd) {
    struct opened *opened = calls_hold(fd);
    if (opened) calls_let_go(opened);
    return opened != NULL;
}

static int within(const char *path) {
    char inside[SCRATCH_PATH];
    return paths_resolve(AT_FDCWD, path, inside);
}

/* ---- streams --------------------------------------------------------------------------------- */

static ssize_t stream_read(void *fd, char *to, size_t n) { return read((int)(intptr_t)fd, to, n); }
static ssize_t stream_write(void *fd, const char *from, size_t n) {
    ssize_t done = write((int)(intptr_t)fd, from, n);
    return done < 0 ? 0 : done;
}
static int stream_seek(void *fd, off64_t *at, int whence) {
    *at = lseek((int)(intptr_t)fd, *at, whence);
    return *at < 0 ? -1 : 0;
}
static int stream_close(void *fd) { return close((int)(intptr_t)fd); }

static FILE *stream(int fd, const char *mode) {
    static const cookie_io_functions_t calls = {stream_read, stream_write, stream_seek, stream_close};
    FILE *made = fopencookie((void *)(intptr_t)fd, mode, calls);
    if (made) made->_fileno = fd; /* for fileno, which libstdc++ and numpy use */
    return made;
}

static int flags_of(const char *mode) {
    int plus = strchr(mode, '+') != NULL, flags = plus ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY;
    if (*mode == 'w') flags |= O_CREAT | O_TRUNC;
    if (*mode == 'a') flags |= O_CREAT | O_APPEND;
    if (strchr(mode, 'x')) flags |= O_EXCL;
    if (strchr(mode, 'e')) flags |= O_CLOEXEC;
    return flags;
}

EXPORT FILE *fopen(const char *path, const char *mode) {
    if (!within(path)) return REAL(fopen)(path, mode);
    int fd = open(path, flags_of(mode), 0666);
    FILE *made = fd < 0 ? NULL : stream(fd, mode);
    if (!made && fd >= 0) close(fd);
    return made;
}
SAME(fopen64, fopen);

EXPORT FILE *fdopen(int fd, const char *mode) { return ours(fd) ? stream(fd, mode) : REAL(fdopen)(fd, mode); }

EXPORT FILE *tmpfile(void) {
    if (!within(SCRATCH)) return REAL(tmpfile)();
    int fd = open(SCRATCH, O_TMPFILE | O_RDWR, 0600);
    return fd < 0 ? NULL : stream(fd, "w+");
}
SAME(tmpfile64, tmpfile);

/* ---- names ----------------------------------------------------------------------------------- */

static int make_name(char *template, int suffix, int flags, int directory) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    size_t n = strlen(template);
    if (suffix < 0 || n < 6 + (size_t)suffix || strncmp(template + n - 6 - suffix, "XXXXXX", 6)) {
        return (int)scratch_answer(-EINVAL);
    }
    for (int tries = 0; tries < 100; tries++) {
        unsigned char random[6];
        if (getrandom(random, 6, 0) != 6) return -1;
        for (int i = 0; i < 6; i++) template[n - 6 - (size_t)suffix + (size_t)i] = letters[random[i] % 36];
        int made = directory ? mkdir(template, 0700) : open(template, O_RDWR | O_CREAT | O_EXCL | flags, 0600);
        if (made >= 0 || errno != EEXIST) return made;
    }
    return -1;
}
EXPORT int mkostemps(char *template, int suffix, int flags) {
    return within(template) ? make_name(template, suffix, flags, 0) : REAL(mkostemps)(template, suffix, flags);
}
SAME(mkostemps64, mkostemps);
EXPORT int mkstemps(char *template, int suffix) { return mkostemps(template, suffix, 0); }
SAME(mkstemps64, mkstemps);
EXPORT int mkostemp(char *template, int flags) { return mkostemps(template, 0, flags); }
SAME(mkostemp64, mkostemp);
EXPORT int mkstemp(char *template) { return mkostemps(template, 0, 0); }
SAME(mkstemp64, mkstemp);
EXPORT char *mkdtemp(char *template) {
    if (!within(template)) return REAL(mkdtemp)(template);
    return make_name(template, 0, 0, 1) ? NULL : template;
}

EXPORT char *realpath(const char *path, char *to) {
    char inside[SCRATCH_PATH];
    struct stat st;
    int mine = paths_resolve(AT_FDCWD, path, inside);
    if (!mine) return REAL(realpath)(path, to);
    if (mine < 0) errno = -mine;
    if (mine < 0 || stat(path, &st)) return NULL;
    if (!to && !(to = malloc(SCRATCH_PATH + sizeof SCRATCH))) return NULL;
    sprintf(to, "%s%s%s", SCRATCH, *inside ? "/" : "", inside);
    return to;
}
EXPORT char *__realpath_chk(const char *path, char *to, size_t size) {
    if (size < SCRATCH_PATH) abort();
    return realpath(path, to);
}
EXPORT char *canonicalize_file_name(const char *path) { return realpath(path, NULL); }

/* ---- space ----------------------------------------------------------------------------------- */

static int space(struct statfs *to) {
    uint64_t all, left;
    blocks_count(&all, &left);
    *to = (struct statfs){.f_bsize = SCRATCH_BLOCK, .f_frsize = SCRATCH_BLOCK, .f_blocks = all, .f_bfree = left,
                          .f_bavail = left, .f_namelen = 255};
    return 0;
}
static int space_too(struct statvfs *to) {
    struct statfs st;
    space(&st);
    *to = (struct statvfs){.f_bsize = SCRATCH_BLOCK, .f_frsize = SCRATCH_BLOCK, .f_blocks = st.f_blocks,
                           .f_bfree = st.f_bfree, .f_bavail = st.f_bavail, .f_namemax = 255};
    return 0;
}
EXPORT int statfs(const char *path, struct statfs *to) { return within(path) ? space(to) : REAL(statfs)(path, to); }
SAME(statfs64, statfs);
EXPORT int fstatfs(int fd, struct statfs *to) { return ours(fd) ? space(to) : REAL(fstatfs)(fd, to); }
SAME(fstatfs64, fstatfs);
EXPORT int statvfs(const char *path, struct statvfs *to) {
    return within(path) ? space_too(to) : REAL(statvfs)(path, to);
}
SAME(statvfs64, statvfs);
EXPORT int fstatvfs(int fd, struct statvfs *to) { return ours(fd) ? space_too(to) : REAL(fstatvfs)(fd, to); }
SAME(fstatvfs64, fstatvfs);

EXPORT int posix_fallocate(int fd, off_t offset, off_t n) {
    if (!ours(fd)) return REAL(posix_fallocate)(fd, offset, n);
    int before = errno, error = fallocate(fd, 0, offset, n) ? errno : 0;
    errno = before;
    return error;
}
SAME(posix_fallocate64, posix_fallocate);

/* ---- listings -------------------------------------------------------------------------------- */

/* A directory as it was when it was opened. Like the C library's DIR it begins with its descriptor, so that
 * dirfd works on both. */
struct listing {
    int fd;
    size_t at, count;
    struct listing *next;
    struct dirent entry;
    struct entry *entries;
};
static struct listing *listings;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct listing *listing_of(DIR *directory) {
    if (!__atomic_load_n(&listings, __ATOMIC_ACQUIRE)) return NULL;
    pthread_mutex_lock(&lock);
    struct listing *found = listings;
    while (found && (DIR *)found != directory) found = found->next;
    pthread_mutex_unlock(&lock);
    return found;
}

static int fill(struct listing *listing) {
    struct opened *opened = calls_hold(listing->fd);
    if (!opened) return -EBADF;
    ssize_t count = S_ISDIR(opened->node->mode) ? files_list(opened->node, &listing->entries) : -ENOTDIR;
    calls_let_go(opened);
    listing->count = count < 0 ? 0 : (size_t)count;
    return count < 0 ? (int)count : 0;
}

static DIR *list(int fd) {
    struct listing *made = calloc(1, sizeof *made);
    int error = made ? 0 : -ENOMEM;
    if (made) {
        made->fd = fd;
        error = fill(made);
    }
    if (error) {
        free(made);
        errno = -error;
        return NULL;
    }
    pthread_mutex_lock(&lock);
    made->next = listings;
    listings = made;
    pthread_mutex_unlock(&lock);
    return (DIR *)made;
}

EXPORT DIR *fdopendir(int fd) { return ours(fd) ? list(fd) : REAL(fdopendir)(fd); }

EXPORT DIR *opendir(const char *path) {
    if (!within(path)) return REAL(opendir)(path);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *made = fd < 0 ? NULL : list(fd);
    if (!made && fd >= 0) close(fd);
    return made;
}

EXPORT struct dirent *readdir(DIR *directory) {
    struct listing *mine = listing_of(directory);
    if (!mine) return REAL(readdir)(directory);
    if (mine->at >= mine->count) return NULL;
    const struct entry *from = &mine->entries[mine->at++];
    mine->entry = (struct dirent){.d_ino = from->id, .d_off = (off_t)mine->at, .d_reclen = sizeof mine->entry,
                                  .d_type = from->is_directory ? DT_DIR : DT_REG};
    strcpy(mine->entry.d_name, from->name);
    return &mine->entry;
}
SAME(readdir64, readdir);

EXPORT void rewinddir(DIR *directory) {
    struct listing *mine = listing_of(directory);
    if (!mine) { REAL(rewinddir)(directory); return; }
    free(mine->entries);
    mine->entries = NULL;
    mine->at = 0;
    fill(mine);
}
EXPORT long telldir(DIR *directory) {
    struct listing *mine = listing_of(directory);
    return mine ? (long)mine->at : REAL(telldir)(directory);
}
EXPORT void seekdir(DIR *directory, long at) {
    struct listing *mine = listing_of(directory);
    if (mine) mine->at = at < 0 ? 0 : (size_t)at;
    else REAL(seekdir)(directory, at);
}

EXPORT int closedir(DIR *directory) {
    struct listing *mine = listing_of(directory);
    if (!mine) return REAL(closedir)(directory);
    pthread_mutex_lock(&lock);
    struct listing **slot = &listings;
    while (*slot != mine) slot = &(*slot)->next;
    *slot = mine->next;
    pthread_mutex_unlock(&lock);
    int fd = mine->fd;
    free(mine->entries);
    free(mine);
    return close(fd);
}
