/* The blocks of scratch: 4 KiB each, AES-256-GCM under a key made here and never disclosed.
 *
 * Each write of a block takes the next number as its nonce; nonce and tag stay in secret memory. So a block
 * that was changed, moved or replaced with an older version is detected when it is read, and ends the
 * enclave. The key exists only while the process runs: afterwards the disk's content cannot be decrypted.
 *
 * Spec: NIST SP 800-38D; the cipher is OpenSSL's, from the measured image.
 */
#define _GNU_SOURCE
#include "scratch.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>
#include <sys/syscall.h>

#define TAG 16
#define KEY 32
#define GET_TAG 0x10  /* EVP_CTRL_AEAD_GET_TAG */
#define SET_TAG 0x11
#define NO_CONFIG 0x80ULL /* OPENSSL_INIT_NO_LOAD_CONFIG: the file is not measured */

struct proof { uint64_t nonce; unsigned char tag[TAG]; };

/* One user at a time: a cipher for each direction, and the bytes on their way to or from the backing. */
struct lane {
    struct lane *next;
    void *seal, *open;
    unsigned char bytes[SCRATCH_RUN * SCRATCH_BLOCK];
};

static struct {
    int (*init)(uint64_t, const void *);
    void *(*context)(void);
    void (*free)(void *);
    const void *(*aes)(void);
    int (*seal_init)(void *, const void *, void *, const unsigned char *, const unsigned char *);
    int (*seal_update)(void *, unsigned char *, int *, const unsigned char *, int);
    int (*seal_final)(void *, unsigned char *, int *);
    int (*open_init)(void *, const void *, void *, const unsigned char *, const unsigned char *);
    int (*open_update)(void *, unsigned char *, int *, const unsigned char *, int);
    int (*open_final)(void *, unsigned char *, int *);
    int (*control)(void *, int, int, void *);
} evp;

static unsigned char *key;
static struct proof *proofs;       /* by block; nonce 0: never written, so all zeros */
static uint64_t *taken;            /* one bit per block */
static uint64_t blocks, left;
static uint64_t cursor = 1;        /* where to search next: blocks written together are adjacent */
static _Atomic uint64_t last_nonce;
static struct lane *idle;
static pthread_mutex_t space = PTHREAD_MUTEX_INITIALIZER, lanes = PTHREAD_MUTEX_INITIALIZER;

/* The backing does not have what was written, or cannot be reached: the enclave ends. */
static void end(void) { _exit(SCRATCH_CHANGED); }

static struct lane *new_lane(void) {
    struct lane *lane = malloc(sizeof *lane);
    if (!lane) return NULL;
    lane->seal = evp.context();
    lane->open = evp.context();
    if (!lane->seal || !lane->open || evp.seal_init(lane->seal, evp.aes(), NULL, key, NULL) != 1 ||
        evp.open_init(lane->open, evp.aes(), NULL, key, NULL) != 1) {
        evp.free(lane->seal);
        evp.free(lane->open);
        free(lane);
        return NULL;
    }
    return lane;
}

static struct lane *take_lane(void) {
    for (;;) {
        pthread_mutex_lock(&lanes);
        struct lane *lane = idle;
        if (lane) idle = lane->next;
        pthread_mutex_unlock(&lanes);
        if (lane || (lane = new_lane())) return lane;
        usleep(100); /* no memory for another one: wait for one in use */
    }
}

static void give_lane(struct lane *lane) {
    pthread_mutex_lock(&lanes);
    lane->next = idle;
    idle = lane;
    pthread_mutex_unlock(&lanes);
}

static const char *load_cipher(void) {
    static const struct { const char *name; void **at; } wanted[] = {
        {"OPENSSL_init_crypto", (void **)&evp.init},       {"EVP_CIPHER_CTX_new", (void **)&evp.context},
        {"EVP_CIPHER_CTX_free", (void **)&evp.free},
        {"EVP_aes_256_gcm", (void **)&evp.aes},            {"EVP_EncryptInit_ex", (void **)&evp.seal_init},
        {"EVP_EncryptUpdate", (void **)&evp.seal_update},  {"EVP_EncryptFinal_ex", (void **)&evp.seal_final},
        {"EVP_DecryptInit_ex", (void **)&evp.open_init},   {"EVP_DecryptUpdate", (void **)&evp.open_update},
        {"EVP_DecryptFinal_ex", (void **)&evp.open_final}, {"EVP_CIPHER_CTX_ctrl", (void **)&evp.control},
    };
    void *library = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
    if (!library) return "scratch: libcrypto.so.3 is not in the image";
    for (unsigned i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        if (!(*wanted[i].at = dlsym(library, wanted[i].name))) return "scratch: libcrypto.so.3 has no AES-256-GCM";
    }
    return evp.init(NO_CONFIG, NULL) == 1 ? NULL : "scratch: libcrypto.so.3 does not start";
}

static void *pages_of(size_t n) {
    void *at = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

const char *blocks_start(void) {
    struct stat st;
    if (syscall(SYS_fstat, SCRATCH_FD, &st)) return "scratch: the platform handed over no backing";
    blocks = (uint64_t)st.st_size / SCRATCH_BLOCK;
    if (!blocks || blocks >= UINT32_MAX) return "scratch: its size";
    left = blocks;
    const char *error = load_cipher();
    if (error) return error;
    key = pages_of(KEY);
    proofs = pages_of((blocks + 1) * sizeof *proofs);
    taken = pages_of((blocks / 64 + 1) * sizeof *taken);
    if (!key || !proofs || !taken) return "scratch: the heap does not hold its tables";
    if (getrandom(key, KEY, 0) != KEY) return "scratch: its key";
    taken[0] = 1; /* block 0 is a hole */
    struct lane *first = new_lane();
    if (!first) return "scratch: libcrypto.so.3 gives no AES-256-GCM";
    give_lane(first);
    return NULL;
}

unsigned blocks_take(uint32_t *block, unsigned n) {
    unsigned got = 0;
    pthread_mutex_lock(&space);
    if (n > left) n = (unsigned)left;
    for (uint64_t i = cursor; got < n;) {
        if (i > blocks) { i = 0; continue; }
        if ((i & 63) == 0 && taken[i >> 6] == ~0UL) { i += 64; continue; }
        if (!(taken[i >> 6] >> (i & 63) & 1)) {
            taken[i >> 6] |= 1UL << (i & 63);
            block[got++] = (uint32_t)i;
            cursor = i + 1;
        }
        i++;
    }
    left -= got;
    pthread_mutex_unlock(&space);
    return got;
}

void blocks_give_back(uint32_t block) {
    if (!block) return;
    pthread_mutex_lock(&space);
    proofs[block].nonce = 0;
    taken[block >> 6] &= ~(1UL << (block & 63));
    left++;
    pthread_mutex_unlock(&space);
}

void blocks_count(uint64_t *all, uint64_t *free_ones) {
    pthread_mutex_lock(&space);
    *all = blocks;
    *free_ones = left;
    pthread_mutex_unlock(&space);
}

/* The number of adjacent blocks, which one call can transfer. */
static unsigned together(const uint32_t *block, unsigned n) {
    unsigned k = 1;
    while (k < n && k < SCRATCH_RUN && block[k] == block[0] + k) k++;
    return k;
}

static void move(struct lane *lane, uint32_t first, unsigned n, int nr) {
    size_t at = 0, size = n * SCRATCH_BLOCK;
    off_t from = (off_t)((first - 1) * SCRATCH_BLOCK);
    while (at < size) {
        long k = syscall(nr, SCRATCH_FD, lane->bytes + at, size - at, from + (off_t)at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) end();
        at += (size_t)k;
    }
}

void blocks_write(const uint32_t *block, unsigned n, const unsigned char *from) {
    struct lane *lane = take_lane();
    for (unsigned i = 0; i < n;) {
        unsigned k = together(block + i, n - i);
        for (unsigned j = 0; j < k; j++, from += SCRATCH_BLOCK) {
            struct proof *proof = &proofs[block[i + j]];
            unsigned char nonce[12] = {0}, *to = lane->bytes + j * SCRATCH_BLOCK;
            int size, rest;
            proof->nonce = atomic_fetch_add(&last_nonce, 1) + 1;
            memcpy(nonce, &proof->nonce, sizeof proof->nonce);
            if (evp.seal_init(lane->seal, NULL, NULL, NULL, nonce) != 1 ||
                evp.seal_update(lane->seal, to, &size, from, SCRATCH_BLOCK) != 1 ||
                evp.seal_final(lane->seal, to + size, &rest) != 1 ||
                evp.control(lane->seal, GET_TAG, TAG, proof->tag) != 1) {
                end();
            }
        }
        move(lane, block[i], k, SYS_pwrite64);
        i += k;
    }
    give_lane(lane);
}

void blocks_read(const uint32_t *block, unsigned n, unsigned char *to) {
    struct lane *lane = take_lane();
    for (unsigned i = 0; i < n;) {
        if (!block[i]) {
            memset(to, 0, SCRATCH_BLOCK);
            to += SCRATCH_BLOCK;
            i++;
            continue;
        }
        unsigned k = together(block + i, n - i);
        move(lane, block[i], k, SYS_pread64);
        for (unsigned j = 0; j < k; j++, to += SCRATCH_BLOCK) {
            struct proof *proof = &proofs[block[i + j]];
            unsigned char nonce[12] = {0}, *from = lane->bytes + j * SCRATCH_BLOCK;
            int size, rest;
            if (!proof->nonce) { memset(to, 0, SCRATCH_BLOCK); continue; }
            memcpy(nonce, &proof->nonce, sizeof proof->nonce);
            if (evp.open_init(lane->open, NULL, NULL, NULL, nonce) != 1 ||
                evp.open_update(lane->open, to, &size, from, SCRATCH_BLOCK) != 1 ||
                evp.control(lane->open, SET_TAG, TAG, proof->tag) != 1 ||
                evp.open_final(lane->open, to + size, &rest) != 1) {
                end();
            }
        }
        i += k;
    }
    give_lane(lane);
}
