/* Encrypted scratch: files under /scratch that the kernel never sees, kept as ciphertext in one descriptor
 * that the platform provides. blocks: content of the descriptor. files: names and bytes. calls, transfers,
 * paths, streams: the C library's calls, served for these files and passed on for all others. */
#ifndef KLUIS_SCRATCH_H
#define KLUIS_SCRATCH_H
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

/* The backing; the kernel's view of a scratch descriptor; the exit status of an enclave whose backing was
 * changed. */
enum { SCRATCH_FD = 9, SCRATCH_NOTHING = 8, SCRATCH_CHANGED = 65 };
#define SCRATCH "/scratch"
#define SCRATCH_BLOCK 4096UL
#define SCRATCH_RUN 64U          /* blocks per transfer */
#define SCRATCH_DEVICE 0x4b4cUL
#define EXPORT __attribute__((visibility("default")))
/* The same code under a second name: only 64-bit offsets exist here. */
#define SAME(name, other) __asm__(".globl " #name "\n\t.set " #name ", " #other)

/* Open the backing, make a key, load AES. Returns NULL, or the step that failed. Runs on a secret stack. */
const char *scratch_start(void);

/* ---- blocks: numbered from 1; 0 is a hole. A caller must not read and write one block concurrently. */
const char *blocks_start(void);
unsigned blocks_take(uint32_t *block, unsigned n);       /* returns how many were free */
void blocks_give_back(uint32_t block);
void blocks_read(const uint32_t *block, unsigned n, unsigned char *to);
void blocks_write(const uint32_t *block, unsigned n, const unsigned char *from);
void blocks_count(uint64_t *all, uint64_t *left);

/* ---- files: a negative result is an errno. A path is relative to /scratch, normal, "" for /scratch. */
struct node {
    struct node *parent, *sibling, *children, *next; /* next: in its bucket */
    char *name;                                      /* NULL: unlinked */
    ino_t id;
    mode_t mode;
    unsigned users;                                  /* calls and descriptors; under the lock of names */
    pthread_rwlock_t lock;                           /* of all below */
    int64_t size;
    uint64_t held;                                   /* blocks */
    uint32_t **leaves;
    size_t leaf_count;
    struct timespec read, written;
};
struct entry { ino_t id; int is_directory; char name[256]; };

const char *files_start(void);
int files_open(const char *path, int flags, mode_t mode, struct node **node);
void files_drop(struct node *node);
int files_directory(const char *path, mode_t mode);
int files_remove(const char *path, int directory);
int files_rename(const char *from, const char *to, int keep);
int files_path(struct node *node, char *to, size_t size);
/* The directory's entries, . and .. first; the caller frees the result. */
ssize_t files_list(struct node *directory, struct entry **list);

/* ---- bytes: content of a file */
ssize_t bytes_read(struct node *node, void *to, size_t n, off_t at);
ssize_t bytes_write(struct node *node, const void *from, size_t n, off_t at);
ssize_t bytes_append(struct node *node, const void *from, size_t n, off_t *end);
int bytes_resize(struct node *node, off_t size);
int bytes_reserve(struct node *node, off_t at, off_t n, int keep_size);
int bytes_punch(struct node *node, off_t at, off_t n);
void bytes_free(struct node *node, uint64_t first);
void bytes_stat(struct node *node, struct stat *to);
void bytes_times(struct node *node, const struct timespec times[2]);

/* ---- calls: descriptors. A call holds its descriptor while it runs. */
struct opened {
    struct node *node;
    pthread_mutex_t lock;    /* of the offset */
    off_t offset;
    int flags;               /* under the table's lock, like the two below */
    int locked;              /* by flock */
    unsigned users;          /* descriptors, and running calls */
};
const char *calls_start(void);
/* Reserve SCRATCH_NOTHING before a library is opened: the filter then prevents closing that number. */
const char *calls_reserve(void);
/* Whether a descriptor is the backing, which only the blocks may use. */
int calls_keep(int fd);
struct opened *calls_hold(int fd);
void calls_let_go(struct opened *opened);
/* A descriptor for a path below /scratch; or -1 and errno. */
int calls_open(const char *path, int flags, mode_t mode);
/* Pages with the content of an open file; NULL if fd is not a scratch descriptor. */
void *calls_map(int fd, size_t n, int prot, int flags, off_t at);

/* ---- paths: 1 and the path relative to /scratch, 0 if it is elsewhere, or a negative errno. */
#define SCRATCH_PATH 4096
int paths_resolve(int directory, const char *path, char inside[SCRATCH_PATH]);

static inline long scratch_answer(long result) {
    if (result >= 0) return result;
    errno = (int)-result;
    return -1;
}
#endif
