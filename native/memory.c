/* Secret memory for a whole process: every anonymous mapping comes from one region of
 * memfd_secret(2) pages, which the kernel removes from its own map, so that neither
 * /proc/PID/mem nor process_vm_readv, ptrace or a core dump reads them, root's included.
 *
 * region.c makes the region at the first mapping. This file then stands in front of the C library's
 * mmap family and of pthread_create:
 *
 *   mmap      anonymous: pages of the region; of a scratch file: such pages with what it holds; of any
 *             other file: the kernel. Code: refused, whatever it is of, but with the grant insecure_jit
 *   munmap    zeroes the pages that were touched and keeps them: never back to the kernel, whose
 *             first touch of a secret page costs 15 to 27 microseconds
 *   madvise   DONTNEED zeroes, the rest is ignored
 *   mremap    refused: callers copy
 *   pthread_create   stacks from the region, taken back when the thread is gone
 *   pthread_join     polls: a shared futex cannot wait on a secret page
 *
 * Not secret: the initial stack, .data and .bss of libraries, which the loader maps by itself.
 */
#define _GNU_SOURCE
#include "memory.h"
#include "scratch.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define MIB (1024UL * 1024UL)

static struct region region;
static size_t heap_pages;         /* what the manifest allows; the region is larger, for reservations */
static size_t pages, open_pages;  /* open: handed out, and not reserved closed */
static uint64_t *used;            /* a bit a page: handed out */
static uint64_t *odd;             /* a bit a page: not readable and writable just now */
static uint64_t *closed;          /* a bit a page: of the odd ones, PROT_NONE */
static uint64_t *code;            /* a bit a page: plain memory in its place, which holds generated code */
static size_t last_resident;      /* as last counted; 0 since something was given back */
static size_t high_water;         /* one past the highest page ever handed out */
static size_t lowest_free;        /* no free page lies below this one */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic size_t warm_until;  /* pages below this one have been touched */
static _Atomic int warming;
static int code_allowed;
static _Atomic int code_refused;

static void *kernel_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off) {
    return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, off);
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
    code = closed + words;
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

static int inside(const void *p) {
    return region.base && (const char *)p >= region.base && (const char *)p < region.base + region.size;
}

/* How many handed-out pages are really there. */
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

/* Zero what was touched of these pages; untouched ones are zero already, and touching is dear. */
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

/* How many of these pages count: handed out, and open. */
static size_t counted(size_t from, size_t n) {
    size_t sum = 0;
    for (size_t i = from; i < from + n; i++) sum += (size_t)(bit(used, i) && !bit(closed, i));
    return sum;
}

/* May n more pages be open? Libraries ask for more than they touch, so what is there decides. */
static int admits(size_t n) {
    if (open_pages + n <= heap_pages) return 1;
    /* What is there only grows until something is given back: a full heap is counted once, not at
     * every request that it refuses. */
    if (last_resident + n > heap_pages) return 0;
    last_resident = resident();
    return last_resident + n <= heap_pages;
}

static void set_prot(size_t from, size_t n, int prot) {
    int plain = prot == (PROT_READ | PROT_WRITE);
    if (plain && !any(odd, from, n)) return;
    open_pages -= counted(from, n);
    syscall(SYS_mprotect, region.base + from * PAGE, n * PAGE, prot);
    mark(odd, from, n, !plain);
    mark(closed, from, n, prot == PROT_NONE);
    open_pages += counted(from, n);
}

static void make_plain(size_t from, size_t n) { set_prot(from, n, PROT_READ | PROT_WRITE); }

/* First fit from below, so that pages already touched are used again. */
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

static void *take(size_t bytes, int prot) {
    size_t n = (bytes + PAGE - 1) / PAGE, at = SIZE_MAX;
    if (n == 0 || n > pages) { errno = bytes ? ENOMEM : EINVAL; return MAP_FAILED; }
    pthread_mutex_lock(&lock);
    if (prot == PROT_NONE || admits(n)) at = find(n);
    if (at != SIZE_MAX) {
        mark(used, at, n, 1);
        open_pages += n;
        if (at == lowest_free) lowest_free = at + n;
        if (at + n > high_water) high_water = at + n;
        if (prot != (PROT_READ | PROT_WRITE)) set_prot(at, n, prot);
    }
    pthread_mutex_unlock(&lock);
    if (at == SIZE_MAX) { errno = ENOMEM; return MAP_FAILED; }
    return region.base + at * PAGE;
}

static void give_back(size_t from, size_t n) {
    pthread_mutex_lock(&lock);
    make_plain(from, n);
    wipe(from, n);
    open_pages -= counted(from, n);
    last_resident = 0;
    mark(used, from, n, 0);
    if (from < lowest_free) lowest_free = from;
    pthread_mutex_unlock(&lock);
}

/* ---- generated code --------------------------------------------------------------------------- */

void memory_allow_code(void) { code_allowed = 1; }
int memory_refused_code(void) { return atomic_load(&code_refused); }

/* The loader maps libraries by itself; what comes here to be run was made by a program. Not ENOMEM: callers
 * would say that the heap is full. */
static int refuses_code(int prot) {
    if (!(prot & PROT_EXEC) || code_allowed || !region.base) return 0;
    atomic_store(&code_refused, 1);
    errno = EACCES;
    return 1;
}

/* The kernel runs no secret page: these are replaced by plain ones with what they hold. They never go back to
 * the pool, which hands out secret pages only. */
static int become_code(size_t from, size_t n, int prot) {
    char *at = region.base + from * PAGE, *copy = take(n * PAGE, PROT_READ | PROT_WRITE);
    if (copy == MAP_FAILED) return -1;
    memcpy(copy, at, n * PAGE);
    pthread_mutex_lock(&lock);
    if (any(odd, from, n)) make_plain(from, n);
    wipe(from, n);
    void *plain = kernel_mmap(at, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (plain != MAP_FAILED) {
        mark(code, from, n, 1);
        memcpy(at, copy, n * PAGE);
    }
    pthread_mutex_unlock(&lock);
    give_back((size_t)(copy - region.base) / PAGE, n);
    return plain == MAP_FAILED ? -1 : (int)syscall(SYS_mprotect, at, n * PAGE, prot);
}

/* What was code is gone, and its addresses are never used again. */
static void drop_code(size_t from, size_t n) {
    pthread_mutex_lock(&lock);
    kernel_mmap(region.base + from * PAGE, n * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    open_pages -= counted(from, n);
    mark(closed, from, n, 1);
    pthread_mutex_unlock(&lock);
}

/* How many pages from this one on, and before the end, are code like it, or are not like it. */
static size_t alike(size_t from, size_t end) {
    size_t e = from;
    while (e < end && bit(code, e) == bit(code, from)) e++;
    return e - from;
}

static void *map_code(char *at, size_t n, int prot, int flags, int fd, off_t off) {
    void *made = kernel_mmap(at, n, prot, flags, fd, off);
    if (made != at || !(flags & MAP_FIXED) || !inside(at)) return made;
    pthread_mutex_lock(&lock);
    mark(code, (size_t)(at - region.base) / PAGE, (n + PAGE - 1) / PAGE, 1);
    pthread_mutex_unlock(&lock);
    return made;
}

EXPORT void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t off) {
    memory_region();
    if (refuses_code(prot)) return MAP_FAILED;
    void *copy = flags & MAP_ANONYMOUS ? NULL : calls_map(fd, n, prot, flags, off);
    if (copy) return copy;
    if (prot & PROT_EXEC) return map_code(at, n, prot, flags, fd, off);
    if (!(flags & MAP_ANONYMOUS) || !region.base) return kernel_mmap(at, n, prot, flags, fd, off);
    if (flags & MAP_HUGETLB) { errno = ENOMEM; return MAP_FAILED; }
    if ((flags & MAP_FIXED) && inside(at)) {
        size_t from = (size_t)((char *)at - region.base) / PAGE, k = (n + PAGE - 1) / PAGE;
        if (!k || (uintptr_t)at & (PAGE - 1)) { errno = EINVAL; return MAP_FAILED; }
        if (from + k > pages) { errno = ENOMEM; return MAP_FAILED; }
        if (any(code, from, k)) return map_code(at, n, prot, flags, fd, off);
        pthread_mutex_lock(&lock);
        if (prot != PROT_NONE && !admits(k - counted(from, k))) {
            pthread_mutex_unlock(&lock);
            errno = ENOMEM;
            return MAP_FAILED;
        }
        make_plain(from, k);
        wipe(from, k);
        /* Pages that were given back in between are handed out by this, or somebody else would get them too. */
        open_pages += k - counted(from, k);
        mark(used, from, k, 1);
        if (from + k > high_water) high_water = from + k;
        set_prot(from, k, prot);
        pthread_mutex_unlock(&lock);
        return at;
    }
    if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) { errno = ENOMEM; return MAP_FAILED; }
    return take(n, prot);
}
EXPORT void *mmap64(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap")));

EXPORT int munmap(void *at, size_t n) {
    if (!inside(at)) return (int)syscall(SYS_munmap, at, n);
    if ((uintptr_t)at & (PAGE - 1) || n > region.size - (size_t)((char *)at - region.base)) {
        errno = EINVAL;
        return -1;
    }
    size_t from = (size_t)((char *)at - region.base) / PAGE, end = from + (n + PAGE - 1) / PAGE;
    for (size_t k; from < end; from += k) {
        k = alike(from, end);
        if (bit(code, from)) drop_code(from, k);
        else give_back(from, k);
    }
    return 0;
}

EXPORT int mprotect(void *at, size_t n, int prot) {
    if (refuses_code(prot)) return -1;
    if (!inside(at)) return (int)syscall(SYS_mprotect, at, n, prot);
    size_t from = (size_t)((char *)at - region.base) / PAGE, k = (n + PAGE - 1) / PAGE;
    if (from + k > pages) { errno = ENOMEM; return -1; }
    size_t like = alike(from, from + k);
    if (like < k && mprotect((char *)at + like * PAGE, (k - like) * PAGE, prot)) return -1;
    k = like;
    if (k && bit(code, from)) return (int)syscall(SYS_mprotect, at, k * PAGE, prot);
    if (prot & PROT_EXEC) return become_code(from, k, prot);
    pthread_mutex_lock(&lock);
    int refused = prot != PROT_NONE && !admits(k - counted(from, k));
    if (!refused) set_prot(from, k, prot);
    pthread_mutex_unlock(&lock);
    if (refused) errno = ENOMEM;
    return refused ? -1 : 0;
}

EXPORT int madvise(void *at, size_t n, int advice) {
    if (!inside(at)) return (int)syscall(SYS_madvise, at, n, advice);
    if (advice != MADV_DONTNEED) return 0;
    size_t from = (size_t)((char *)at - region.base) / PAGE, k = (n + PAGE - 1) / PAGE;
    if (from + k > pages) { errno = ENOMEM; return -1; }
    if (any(code, from, k)) return (int)syscall(SYS_madvise, at, n, advice);
    pthread_mutex_lock(&lock);
    for (size_t i = from; i < from + k;) {
        size_t e = i;
        while (e < from + k && bit(odd, e) == bit(odd, i) && bit(closed, e) == bit(closed, i)) e++;
        int prot = bit(closed, i) ? PROT_NONE : bit(odd, i) ? PROT_READ : PROT_READ | PROT_WRITE;
        make_plain(i, e - i);
        wipe(i, e - i);
        set_prot(i, e - i, prot);
        i = e;
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

EXPORT void *mremap(void *at, size_t old, size_t n, int flags, ...) {
    (void)at; (void)old; (void)n; (void)flags;
    errno = ENOMEM;
    return MAP_FAILED;
}

/* ---- threads ---------------------------------------------------------------------------------- */

#define STACK_BYTES (4 * MIB)
#define MOST_STACKS 4096

struct stack {
    char *base;
    size_t size;
    pid_t tid;             /* 0 until the thread runs */
    char taken, detached;
    void *(*run)(void *);
    void *argument;
};
static struct stack stacks[MOST_STACKS];
static unsigned most_threads;
static pthread_mutex_t stack_lock = PTHREAD_MUTEX_INITIALIZER;

static int (*real_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
static int (*real_detach)(pthread_t);
static pthread_once_t real_once = PTHREAD_ONCE_INIT;
static void find_real(void) {
    real_create = (__typeof__(real_create))dlvsym(RTLD_NEXT, "pthread_create", "GLIBC_2.34");
    if (!real_create) real_create = (__typeof__(real_create))dlvsym(RTLD_NEXT, "pthread_create", "GLIBC_2.2.5");
    real_detach = (__typeof__(real_detach))dlvsym(RTLD_NEXT, "pthread_detach", "GLIBC_2.34");
    if (!real_detach) real_detach = (__typeof__(real_detach))dlvsym(RTLD_NEXT, "pthread_detach", "GLIBC_2.2.5");
}

void memory_limits(size_t heap_bytes, unsigned threads) {
    size_t wanted = heap_bytes / PAGE;
    if (wanted < pages) heap_pages = wanted;
    most_threads = threads;
}

static void *begin(void *p) {
    struct stack *s = p;
    s->tid = (pid_t)syscall(SYS_gettid);
    return s->run(s->argument);
}

/* Take back the stacks of threads that nobody can join any more and that the kernel has buried. */
static unsigned sweep(void) {
    unsigned alive = 0;
    pid_t self = getpid();
    for (int i = 0; i < MOST_STACKS; i++) {
        struct stack *s = &stacks[i];
        if (!s->taken) continue;
        if (s->detached && s->tid && syscall(SYS_tgkill, self, s->tid, 0) != 0 && errno == ESRCH) {
            give_back((size_t)(s->base - region.base) / PAGE, s->size / PAGE);
            s->taken = 0;
            continue;
        }
        alive++;
    }
    return alive;
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *given, void *(*run)(void *), void *argument) {
    pthread_once(&real_once, find_real);
    memory_region();
    if (!region.base) return real_create(thread, given, run, argument);
    pthread_attr_t mine;
    int state = PTHREAD_CREATE_JOINABLE, error;
    size_t size = STACK_BYTES;
    pthread_attr_init(&mine);
    if (given) {
        size_t asked = 0, standard = 0;
        pthread_attr_getdetachstate(given, &state);
        pthread_attr_getstacksize(given, &asked);
        pthread_attr_getstacksize(&mine, &standard);
        if (asked && asked != standard) size = asked;
    }
    size = ((size + PAGE - 1) & ~(PAGE - 1)) + PAGE;
    pthread_mutex_lock(&stack_lock);
    unsigned alive = sweep();
    struct stack *s = NULL;
    for (int i = 0; i < MOST_STACKS && !s; i++) if (!stacks[i].taken) s = &stacks[i];
    if (!s || (most_threads && alive >= most_threads)) { error = EAGAIN; goto out; }
    char *base = take(size, PROT_READ | PROT_WRITE);
    if (base == MAP_FAILED) { error = EAGAIN; goto out; }
    mprotect(base, PAGE, PROT_NONE);
    *s = (struct stack){base, size, 0, 1, state == PTHREAD_CREATE_DETACHED, run, argument};
    pthread_attr_setdetachstate(&mine, state);
    pthread_attr_setstack(&mine, base + PAGE, size - PAGE);
    error = real_create(thread, &mine, begin, s);
    if (error) {
        give_back((size_t)(base - region.base) / PAGE, size / PAGE);
        s->taken = 0;
    }
out:
    pthread_mutex_unlock(&stack_lock);
    pthread_attr_destroy(&mine);
    return error;
}

static void release(pthread_t thread) {
    pthread_mutex_lock(&stack_lock);
    for (int i = 0; i < MOST_STACKS; i++) {
        struct stack *s = &stacks[i];
        if (s->taken && (char *)thread >= s->base && (char *)thread < s->base + s->size) s->detached = 1;
    }
    pthread_mutex_unlock(&stack_lock);
}

EXPORT int pthread_detach(pthread_t thread) {
    pthread_once(&real_once, find_real);
    int error = real_detach(thread);
    if (!error) release(thread);
    return error;
}

static int join_until(pthread_t thread, void **value, clockid_t clock, const struct timespec *end) {
    struct timespec pause = {0, 20000}, now;
    int error;
    while ((error = pthread_tryjoin_np(thread, value)) == EBUSY) {
        if (end) {
            clock_gettime(clock, &now);
            if (now.tv_sec > end->tv_sec || (now.tv_sec == end->tv_sec && now.tv_nsec >= end->tv_nsec)) {
                return ETIMEDOUT;
            }
        }
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < 2000000) pause.tv_nsec *= 2;
    }
    if (!error) release(thread);
    return error;
}

EXPORT int pthread_join(pthread_t thread, void **value) {
    return join_until(thread, value, CLOCK_MONOTONIC, NULL);
}
EXPORT int pthread_timedjoin_np(pthread_t thread, void **value, const struct timespec *end) {
    return join_until(thread, value, CLOCK_REALTIME, end);
}
EXPORT int pthread_clockjoin_np(pthread_t thread, void **value, clockid_t clock, const struct timespec *end) {
    return join_until(thread, value, clock, end);
}

/* jemalloc and others look pthread_create up as the next one after themselves, which is the C
 * library's; they get this one. Any other look-up jumps on with its caller's address in place. */
static void *(*real_dlsym)(void *, const char *);
static pthread_once_t dlsym_once = PTHREAD_ONCE_INIT;
static void find_dlsym(void) {
    real_dlsym = (__typeof__(real_dlsym))dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
    if (!real_dlsym) real_dlsym = (__typeof__(real_dlsym))dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
}

EXPORT void *dlsym(void *handle, const char *name) {
    static const struct { const char *name; void *ours; } known[] = {
        {"pthread_create", (void *)pthread_create}, {"pthread_join", (void *)pthread_join},
        {"pthread_detach", (void *)pthread_detach}, {"mmap", (void *)mmap}, {"mmap64", (void *)mmap},
        {"munmap", (void *)munmap}, {"madvise", (void *)madvise}, {"mprotect", (void *)mprotect},
        {"mremap", (void *)mremap},
    };
    pthread_once(&dlsym_once, find_dlsym);
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++) if (!strcmp(name, known[i].name)) return known[i].ours;
    return real_dlsym(handle, name);
}

/* ---- warming ---------------------------------------------------------------------------------- */

#define AHEAD (48 * MIB / PAGE)
/* Nanoseconds. Each new secret page interrupts every core: a start that is warmed at once takes a
 * third longer than one that is left alone until it is over. */
#define WARM_AFTER 200000000

/* A thread that touches pages ahead of the highest one handed out. A futex call that cannot wait
 * reads its word in the kernel: it faults the page in, and answers EFAULT, with no signal, where
 * somebody took the page and closed it meanwhile. */
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
