/* The content of scratch files: a map from a file's blocks to the backing's. Bytes of its last block beyond a
 * file's end are zero. */
#define _GNU_SOURCE
#include "scratch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_SIZE (1LL << 40)
#define LEAF 1024UL          /* block numbers in one piece of a file's map */
#define MOST_AT_ONCE 0x7ffff000UL

static struct timespec now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t;
}

static uint32_t mapped(const struct node *node, uint64_t i) {
    return i / LEAF < node->leaf_count && node->leaves[i / LEAF] ? node->leaves[i / LEAF][i % LEAF] : 0;
}

/* Where the number of a file's block is stored; NULL if memory is exhausted. */
static uint32_t *slot(struct node *node, uint64_t i) {
    size_t leaf = i / LEAF;
    if (leaf >= node->leaf_count) {
        size_t count = leaf + 1 > 2 * node->leaf_count ? leaf + 1 : 2 * node->leaf_count;
        uint32_t **more = realloc(node->leaves, count * sizeof *more);
        if (!more) return NULL;
        memset(more + node->leaf_count, 0, (count - node->leaf_count) * sizeof *more);
        node->leaves = more;
        node->leaf_count = count;
    }
    if (!node->leaves[leaf] && !(node->leaves[leaf] = calloc(LEAF, sizeof **node->leaves))) return NULL;
    return &node->leaves[leaf][i % LEAF];
}

/* The backing's numbers for n blocks of a file, allocated if missing; returns how many there are. */
static unsigned secure(struct node *node, uint64_t first, unsigned n, uint32_t *block) {
    uint32_t fresh[SCRATCH_RUN];
    unsigned wanted = 0, got, used = 0, i;
    for (i = 0; i < n; i++) wanted += !mapped(node, first + i);
    got = wanted ? blocks_take(fresh, wanted) : 0;
    for (i = 0; i < n; i++) {
        if (!(block[i] = mapped(node, first + i))) {
            uint32_t *at = used < got ? slot(node, first + i) : NULL;
            if (!at) break;
            block[i] = *at = fresh[used++];
            node->held++;
        }
    }
    while (used < got) blocks_give_back(fresh[used++]);
    return i;
}

/* Write n bytes into one block, at offset skip. */
static int patch(struct node *node, uint64_t i, size_t skip, const unsigned char *from, size_t n) {
    unsigned char whole[SCRATCH_BLOCK];
    uint32_t block = mapped(node, i);
    blocks_read(&block, 1, whole);
    if (from) memcpy(whole + skip, from, n);
    else memset(whole + skip, 0, n);
    if (secure(node, i, 1, &block) != 1) return -ENOSPC;
    blocks_write(&block, 1, whole);
    return 0;
}

static ssize_t put(struct node *node, const unsigned char *from, size_t n, off_t at) {
    uint32_t block[SCRATCH_RUN];
    size_t done = 0;
    int error = 0;
    if (n > MOST_AT_ONCE) n = MOST_AT_ONCE;
    if (at < 0) return -EINVAL;
    if (at > MOST_SIZE - (off_t)n) return -EFBIG;
    while (done < n) {
        uint64_t i = ((uint64_t)at + done) / SCRATCH_BLOCK;
        size_t skip = ((uint64_t)at + done) % SCRATCH_BLOCK, left = n - done, k;
        if (skip || left < SCRATCH_BLOCK) {
            k = SCRATCH_BLOCK - skip < left ? SCRATCH_BLOCK - skip : left;
            if ((error = patch(node, i, skip, from + done, k))) break;
        } else {
            unsigned whole = left / SCRATCH_BLOCK < SCRATCH_RUN ? (unsigned)(left / SCRATCH_BLOCK) : SCRATCH_RUN;
            if (!(whole = secure(node, i, whole, block))) { error = -ENOSPC; break; }
            blocks_write(block, whole, from + done);
            k = whole * SCRATCH_BLOCK;
        }
        done += k;
    }
    if (at + (off_t)done > node->size && done) node->size = at + (off_t)done;
    if (done) node->written = now();
    return done ? (ssize_t)done : error;
}

ssize_t bytes_write(struct node *node, const void *from, size_t n, off_t at) {
    pthread_rwlock_wrlock(&node->lock);
    ssize_t done = put(node, from, n, at);
    pthread_rwlock_unlock(&node->lock);
    return done;
}

ssize_t bytes_append(struct node *node, const void *from, size_t n, off_t *end) {
    pthread_rwlock_wrlock(&node->lock);
    ssize_t done = put(node, from, n, node->size);
    *end = node->size;
    pthread_rwlock_unlock(&node->lock);
    return done;
}

ssize_t bytes_read(struct node *node, void *to, size_t n, off_t at) {
    uint32_t block[SCRATCH_RUN];
    unsigned char whole[SCRATCH_BLOCK];
    size_t done = 0;
    if (S_ISDIR(node->mode)) return -EISDIR;
    if (at < 0) return -EINVAL;
    pthread_rwlock_rdlock(&node->lock);
    size_t there = at < node->size ? (size_t)(node->size - at) : 0;
    if (n > there) n = there;
    if (n > MOST_AT_ONCE) n = MOST_AT_ONCE;
    while (done < n) {
        uint64_t i = ((uint64_t)at + done) / SCRATCH_BLOCK;
        size_t skip = ((uint64_t)at + done) % SCRATCH_BLOCK, left = n - done, k;
        unsigned count = left / SCRATCH_BLOCK < SCRATCH_RUN ? (unsigned)(left / SCRATCH_BLOCK) : SCRATCH_RUN;
        if (skip || !count) {
            k = SCRATCH_BLOCK - skip < left ? SCRATCH_BLOCK - skip : left;
            block[0] = mapped(node, i);
            blocks_read(block, 1, whole);
            memcpy((unsigned char *)to + done, whole + skip, k);
        } else {
            for (unsigned j = 0; j < count; j++) block[j] = mapped(node, i + j);
            blocks_read(block, count, (unsigned char *)to + done);
            k = count * SCRATCH_BLOCK;
        }
        done += k;
    }
    pthread_rwlock_unlock(&node->lock);
    return (ssize_t)done;
}

void bytes_free(struct node *node, uint64_t first) {
    for (size_t leaf = first / LEAF; leaf < node->leaf_count; leaf++) {
        if (!node->leaves[leaf]) continue;
        for (size_t i = leaf == first / LEAF ? first % LEAF : 0; i < LEAF; i++) {
            if (!node->leaves[leaf][i]) continue;
            blocks_give_back(node->leaves[leaf][i]);
            node->leaves[leaf][i] = 0;
            node->held--;
        }
    }
}

static int cut(struct node *node, off_t size) {
    size_t skip = (size_t)size % SCRATCH_BLOCK;
    uint64_t last = (uint64_t)size / SCRATCH_BLOCK;
    if (size < node->size) {
        bytes_free(node, last + (skip ? 1 : 0));
        if (skip && mapped(node, last)) patch(node, last, skip, NULL, SCRATCH_BLOCK - skip);
    }
    node->size = size;
    node->written = now();
    return 0;
}

int bytes_resize(struct node *node, off_t size) {
    if (S_ISDIR(node->mode)) return -EISDIR;
    if (size < 0) return -EINVAL;
    if (size > MOST_SIZE) return -EFBIG;
    pthread_rwlock_wrlock(&node->lock);
    int error = cut(node, size);
    pthread_rwlock_unlock(&node->lock);
    return error;
}

int bytes_reserve(struct node *node, off_t at, off_t n, int keep_size) {
    uint32_t block[SCRATCH_RUN];
    if (at < 0 || n <= 0) return -EINVAL;
    if (at > MOST_SIZE - n) return -EFBIG;
    uint64_t i = (uint64_t)at / SCRATCH_BLOCK, end = ((uint64_t)(at + n) + SCRATCH_BLOCK - 1) / SCRATCH_BLOCK;
    int error = 0;
    pthread_rwlock_wrlock(&node->lock);
    while (i < end && !error) {
        unsigned k = end - i < SCRATCH_RUN ? (unsigned)(end - i) : SCRATCH_RUN;
        error = secure(node, i, k, block) == k ? 0 : -ENOSPC;
        i += k;
    }
    if (!error && !keep_size && at + n > node->size) node->size = at + n;
    pthread_rwlock_unlock(&node->lock);
    return error;
}

int bytes_punch(struct node *node, off_t at, off_t n) {
    if (at < 0 || n <= 0) return -EINVAL;
    pthread_rwlock_wrlock(&node->lock);
    off_t end = n > node->size - at ? node->size : at + n;
    while (at < end) {
        uint64_t i = (uint64_t)at / SCRATCH_BLOCK;
        size_t skip = (size_t)at % SCRATCH_BLOCK, k = SCRATCH_BLOCK - skip;
        if (mapped(node, i)) {
            if (skip || (at + (off_t)k > end && end != node->size)) {
                if ((off_t)k > end - at) k = (size_t)(end - at);
                patch(node, i, skip, NULL, k);
            } else {
                uint32_t *block = slot(node, i);
                blocks_give_back(*block);
                *block = 0;
                node->held--;
            }
        }
        at += (off_t)k;
    }
    node->written = now();
    pthread_rwlock_unlock(&node->lock);
    return 0;
}

void bytes_stat(struct node *node, struct stat *to) {
    memset(to, 0, sizeof *to);
    pthread_rwlock_rdlock(&node->lock);
    to->st_dev = SCRATCH_DEVICE;
    to->st_ino = node->id;
    to->st_mode = node->mode;
    to->st_nlink = S_ISDIR(node->mode) ? 2 : node->name != NULL;
    to->st_uid = getuid();
    to->st_gid = getgid();
    to->st_size = node->size;
    to->st_blksize = SCRATCH_RUN * SCRATCH_BLOCK / 4;
    to->st_blocks = (blkcnt_t)(node->held * SCRATCH_BLOCK / 512);
    to->st_atim = node->read;
    to->st_mtim = to->st_ctim = node->written;
    pthread_rwlock_unlock(&node->lock);
}

void bytes_times(struct node *node, const struct timespec times[2]) {
    struct timespec *to[] = {&node->read, &node->written};
    pthread_rwlock_wrlock(&node->lock);
    for (int i = 0; i < 2; i++) {
        if (!times || times[i].tv_nsec == UTIME_NOW) *to[i] = now();
        else if (times[i].tv_nsec != UTIME_OMIT) *to[i] = times[i];
    }
    pthread_rwlock_unlock(&node->lock);
}
