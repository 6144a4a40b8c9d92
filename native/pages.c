/* The region's pages: a few bits for each, one lock, first fit.
 *
 * Freed pages are zeroed and kept, never returned to the kernel, whose first touch of a secret page costs 15
 * to 27 microseconds. A thread touches pages ahead of their use (memory_warm).
 */
#define _GNU_SOURCE
#include "pages.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct region region;
static size_t heap_pages;         /* the manifest's limit; the region is larger, for reservations */
static size_t aside_pages;        /* of the heap, temporarily reserved */
static size_t pages, open_pages;  /* open: allocated, and not PROT_NONE */
static uint64_t *used;            /* one bit per page: allocated */
static uint64_t *odd;             /* one bit per page: currently not readable and writable */
static uint64_t *closed;          /* one bit per page: of the odd ones, PROT_NONE */
static uint64_t *replaced;        /* one bit per page: plain memory in its place: generated code, or a file */
static size_t last_resident;      /* at the last count; 0 since a page was freed */
static size_t high_water;         /* one past the highest page ever allocated */
static size_t lowest_free;        /* no page below this one is free */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic size_t warm_until;  /* pages below this one have been touched */
static _Atomic int warming;

static void *kernel_mmap(size_t from, size_t n, int prot, int flags, int fd, long off) {
    return (void *)syscall(SYS_mmap, region.base + from * PAGE, n * PAGE, prot, flags | MAP_FIXED, fd, off);
}

static int bit(const uint64_t *map, size_t i) { return (map[i >> 6] >> (i & 63)) & 1; }

static void mark(uint64_t *map, size_t from, size_t n, int on) {
    for (size_t i = from; i < from + n;) {
        if ((i & 63) == 0 && from + n - i >= 64) { map[i >> 6] = on ? ~0UL : 0; i += 64; continue; }
        if (on) map[i >> 6] |= 1UL << (i & 63); else map[i >> 6] &= ~(1UL << (i & 63));
        i++;
    }
}

static int any(const uint64_t *map, size_t from, size_t n) {
    for (size_t i = from; i < from + n;) {
        if ((i & 63) == 0 && from + n - i >= 64) { if (map[i >> 6]) return 1; i += 64; continue; }
        if (bit(map, i)) return 1;
        i++;
    }
    return 0;
}

/* Runs before main, at the loader's first allocation. */
static void take_region(void) {
    region = region_make();
    if (!region.base) return;
    pages = region.size / PAGE;
    size_t words = (pages + 63) / 64;
    used = (uint64_t *)region.base;
    odd = used + words;
    closed = odd + words;
    replaced = closed + words;
    size_t mine = (4 * words * 8 + PAGE - 1) / PAGE;
    mark(used, 0, mine, 1);
    open_pages = lowest_free = high_water = mine;
    heap_pages = pages;
    atomic_store(&warm_until, mine);
}

struct region memory_region(void) {
    pthread_once(&once, take_region);
    return region;
}

void pages_limit(size_t bytes) {
    if (bytes / PAGE < pages) heap_pages = bytes / PAGE;
}

void pages_set_aside(size_t bytes) {
    pthread_mutex_lock(&lock);
    aside_pages = bytes / PAGE < heap_pages ? bytes / PAGE : heap_pages;
    pthread_mutex_unlock(&lock);
}

int pages_hold(const void *p) {
    return region.base && (const char *)p >= region.base && (const char *)p < region.base + region.size;
}

size_t pages_number(const void *p) { return (size_t)((const char *)p - region.base) / PAGE; }

size_t pages_of(size_t bytes) { return bytes > SIZE_MAX - PAGE ? 0 : (bytes + PAGE - 1) / PAGE; }

int pages_within(size_t from, size_t n) { return from <= pages && n <= pages - from; }

/* The number of allocated pages that are resident. */
static size_t resident(void) {
    static unsigned char there[8192];
    size_t n = 0;
    for (size_t i = 0; i < high_water; i += sizeof there) {
        size_t k = high_water - i < sizeof there ? high_water - i : sizeof there;
        if (mincore(region.base + i * PAGE, k * PAGE, there) != 0) return open_pages;
        for (size_t j = 0; j < k; j++) n += (there[j] & 1) && bit(used, i + j);
    }
    return n;
}

/* Zero those of these pages that were touched; the others are zero already, and touching is expensive. */
static void wipe(size_t from, size_t n) {
    unsigned char there[2048];
    for (size_t i = from; i < from + n; i += sizeof there) {
        size_t k = from + n - i < sizeof there ? from + n - i : sizeof there;
        if (mincore(region.base + i * PAGE, k * PAGE, there) != 0) memset(there, 1, k);
        for (size_t j = 0; j < k;) {
            if (!(there[j] & 1)) { j++; continue; }
            size_t e = j;
            while (e < k && (there[e] & 1)) e++;
            memset(region.base + (i + j) * PAGE, 0, (e - j) * PAGE);
            j = e;
        }
    }
}

/* The number of these pages that are allocated and open. */
static size_t counted(size_t from, size_t n) {
    size_t sum = 0;
    for (size_t i = from; i < from + n; i++) sum += (size_t)(bit(used, i) && !bit(closed, i));
    return sum;
}

/* Whether n more pages may be open. Libraries allocate more than they touch, so resident pages decide. */
static int admits(size_t n) {
    size_t most = heap_pages - aside_pages;
    if (open_pages + n <= most) return 1;
    /* The resident count only grows until a page is freed: a full heap is counted once, not at every request
     * that it refuses. */
    if (last_resident + n > most) return 0;
    last_resident = resident();
    return last_resident + n <= most;
}

/* Whether these pages may all be open. */
static int admits_open(size_t from, size_t n) {
    if (admits(n - counted(from, n))) return 1;
    errno = ENOMEM;
    return 0;
}

static int set_prot(size_t from, size_t n, int prot) {
    int plain = prot == (PROT_READ | PROT_WRITE);
    if (plain && !any(odd, from, n)) return 0;
    if (syscall(SYS_mprotect, region.base + from * PAGE, n * PAGE, prot)) return -1;
    open_pages -= counted(from, n);
    mark(odd, from, n, !plain);
    mark(closed, from, n, prot == PROT_NONE);
    open_pages += counted(from, n);
    return 0;
}

static int make_plain(size_t from, size_t n) { return set_prot(from, n, PROT_READ | PROT_WRITE); }

static void hand_out(size_t from, size_t n) {
    open_pages += n - counted(from, n);
    mark(used, from, n, 1);
    if (from + n > high_water) high_water = from + n;
}

static void free_pages(size_t from, size_t n) {
    open_pages -= counted(from, n);
    last_resident = 0;
    mark(used, from, n, 0);
    if (from < lowest_free) lowest_free = from;
}

/* First fit from below, so that pages already touched are reused. */
static size_t find(size_t n) {
    size_t run = 0;
    for (size_t i = lowest_free; i < pages;) {
        uint64_t word = used[i >> 6];
        if ((i & 63) == 0 && word == ~0UL) { run = 0; i += 64; continue; }
        if ((i & 63) == 0 && word == 0 && pages - i >= 64) {
            run += 64; i += 64;
            if (run >= n) return i - run;
            continue;
        }
        run = (word >> (i & 63)) & 1 ? 0 : run + 1;
        i++;
        if (run >= n) return i - run;
    }
    return SIZE_MAX;
}

void *pages_take(size_t bytes, int prot) {
    size_t n = pages_of(bytes), at = SIZE_MAX;
    if (n == 0 || n > pages) { errno = bytes ? ENOMEM : EINVAL; return MAP_FAILED; }
    pthread_mutex_lock(&lock);
    if (prot == PROT_NONE || admits(n)) at = find(n);
    if (at != SIZE_MAX) {
        hand_out(at, n);
        if (at == lowest_free) lowest_free = at + n;
        if (set_prot(at, n, prot)) {
            free_pages(at, n);
            at = SIZE_MAX;
        }
    }
    pthread_mutex_unlock(&lock);
    if (at == SIZE_MAX) { errno = ENOMEM; return MAP_FAILED; }
    return region.base + at * PAGE;
}

int pages_give_back(size_t from, size_t n) {
    pthread_mutex_lock(&lock);
    int error = make_plain(from, n);
    if (!error) {
        wipe(from, n);
        free_pages(from, n);
    }
    pthread_mutex_unlock(&lock);
    return error;
}

int pages_replace(size_t from, size_t n, int prot) {
    pthread_mutex_lock(&lock);
    int error = (prot != PROT_NONE && !admits_open(from, n)) || make_plain(from, n) ? -1 : 0;
    if (!error) {
        wipe(from, n);
        /* Allocate pages in between that were freed; another caller could get them otherwise. */
        hand_out(from, n);
        error = set_prot(from, n, prot);
    }
    pthread_mutex_unlock(&lock);
    return error;
}

int pages_protect(size_t from, size_t n, int prot) {
    pthread_mutex_lock(&lock);
    int error = prot != PROT_NONE && !admits_open(from, n) ? -1 : set_prot(from, n, prot);
    pthread_mutex_unlock(&lock);
    return error;
}

int pages_zero(size_t from, size_t n) {
    int error = 0;
    pthread_mutex_lock(&lock);
    for (size_t i = from; i < from + n && !error;) {
        size_t e = i;
        while (e < from + n && bit(odd, e) == bit(odd, i) && bit(closed, e) == bit(closed, i)) e++;
        int prot = bit(closed, i) ? PROT_NONE : bit(odd, i) ? PROT_READ : PROT_READ | PROT_WRITE;
        error = make_plain(i, e - i);
        if (!error) {
            wipe(i, e - i);
            error = set_prot(i, e - i, prot);
        }
        i = e;
    }
    pthread_mutex_unlock(&lock);
    return error;
}

/* ---- plain memory in the place of pages ------------------------------------------------------- */

int pages_are_plain(size_t from, size_t n) { return any(replaced, from, n); }

size_t pages_alike(size_t from, size_t end) {
    size_t e = from;
    while (e < end && bit(replaced, e) == bit(replaced, from)) e++;
    return e - from;
}

int pages_become_plain(size_t from, size_t n, int prot) {
    char *at = region.base + from * PAGE, *copy = pages_take(n * PAGE, PROT_READ | PROT_WRITE);
    if (copy == MAP_FAILED) return -1;
    pthread_mutex_lock(&lock);
    int error = !admits_open(from, n) || make_plain(from, n) ? -1 : 0;
    if (!error) {
        memcpy(copy, at, n * PAGE);
        wipe(from, n);
        void *made = kernel_mmap(from, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (made == MAP_FAILED) error = -1;
        else mark(replaced, from, n, 1);
        memcpy(at, copy, n * PAGE);
    }
    pthread_mutex_unlock(&lock);
    int cause = errno;
    pages_give_back(pages_number(copy), n);
    errno = cause;
    return error ? error : (int)syscall(SYS_mprotect, at, n * PAGE, prot);
}

int pages_map_plain(size_t from, size_t n, int prot, int flags, int fd, long off) {
    pthread_mutex_lock(&lock);
    int error = prot != PROT_NONE && !admits_open(from, n) ? -1 : 0;
    if (!error && kernel_mmap(from, n, prot, flags, fd, off) == MAP_FAILED) error = -1;
    if (!error) {
        hand_out(from, n);
        mark(replaced, from, n, 1);
        mark(odd, from, n, 0);
        open_pages -= counted(from, n);
        mark(closed, from, n, prot == PROT_NONE);
        open_pages += counted(from, n);
    }
    pthread_mutex_unlock(&lock);
    return error;
}

int pages_drop_plain(size_t from, size_t n) {
    pthread_mutex_lock(&lock);
    void *made = kernel_mmap(from, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made != MAP_FAILED) {
        open_pages -= counted(from, n);
        mark(closed, from, n, 1);
    }
    pthread_mutex_unlock(&lock);
    return made == MAP_FAILED ? -1 : 0;
}

/* ---- warming ---------------------------------------------------------------------------------- */

#define AHEAD (16 * MIB / PAGE)
/* Nanoseconds. Each new secret page interrupts every core, so warming begins after the start: the runtime
 * requests it, and the first call comes before it. */
#define WARM_AFTER 200000000

/* A thread that touches pages ahead of the highest allocated one. A futex call that cannot wait reads its
 * word in the kernel: it faults the page in, and returns EFAULT, without a signal, if the page was allocated
 * and closed meanwhile. */
static void *warm(void *unused) {
    struct timespec pause = {0, WARM_AFTER}, none = {0, 0};
    (void)unused;
    nanosleep(&pause, NULL);
    for (;;) {
        size_t goal = high_water + AHEAD, at = atomic_load(&warm_until);
        if (goal > heap_pages) goal = heap_pages;
        if (at < high_water) at = high_water;
        if (at >= goal) {
            pause.tv_nsec = 20000000;
        } else {
            pause.tv_nsec = 200000;
            for (size_t end = at + 64 < goal ? at + 64 : goal; at < end; at++) {
                syscall(SYS_futex, region.base + at * PAGE, FUTEX_WAIT_PRIVATE, ~0U, &none, NULL, 0);
            }
            atomic_store(&warm_until, at);
        }
        nanosleep(&pause, NULL);
    }
    return NULL;
}

void memory_warm(void) {
    pthread_t thread;
    pthread_attr_t attr;
    if (!region.base || atomic_exchange(&warming, 1)) return;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    pthread_create(&thread, &attr, warm, NULL);
    pthread_attr_destroy(&attr);
}
