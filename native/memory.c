/* Secret memory for a whole process: every anonymous mapping comes from one region of memfd_secret(2) pages.
 * The kernel removes them from its own map, so that neither /proc/PID/mem nor process_vm_readv, ptrace or a
 * core dump can read them, even as root.
 *
 * region.c makes the region at the first mapping, pages.c manages its pages, threads.c gives threads their
 * stacks. This file replaces the C library's mmap family:
 *
 *   mmap      anonymous: pages of the region; of a scratch file: such pages with what it holds; of any
 *             other file: the kernel. Code: refused, whatever it is of, but with the grant insecure_jit
 *   munmap    zeroes the pages that were touched and keeps them
 *   madvise   DONTNEED zeroes, the rest is ignored
 *   mremap    refused: callers copy
 *
 * Not secret: the initial stack, .data and .bss of libraries, which the loader maps by itself.
 */
#define _GNU_SOURCE
#include "memory.h"
#include "pages.h"
#include "scratch.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int code_allowed;
static _Atomic int code_refused;

void memory_allow_code(void) { code_allowed = 1; }
int memory_refused_code(void) { return atomic_load(&code_refused); }

/* The loader maps libraries by itself; an executable mapping requested here comes from a program. Not ENOMEM:
 * callers would report that the heap is full. */
static int refuses_code(int prot) {
    if (!(prot & PROT_EXEC) || code_allowed || !memory_region().base) return 0;
    atomic_store(&code_refused, 1);
    errno = EACCES;
    return 1;
}

static int is_aligned(const void *at) { return !((uintptr_t)at & (PAGE - 1)); }

/* A mapping at an address within the region. */
static void *map_inside(void *at, size_t n, int prot, int flags, int fd, off_t off) {
    size_t from = pages_number(at), k = pages_of(n);
    if (!n || !is_aligned(at)) { errno = EINVAL; return MAP_FAILED; }
    if (!k || !pages_within(from, k) || flags & MAP_HUGETLB) { errno = ENOMEM; return MAP_FAILED; }
    int plain = !(flags & MAP_ANONYMOUS) || prot & PROT_EXEC || pages_are_plain(from, k);
    int error = plain ? pages_map_plain(from, k, prot, flags, fd, off) : pages_replace(from, k, prot);
    return error ? MAP_FAILED : at;
}

EXPORT void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t off) {
    memory_region();
    if (refuses_code(prot)) return MAP_FAILED;
    void *copy = flags & MAP_ANONYMOUS ? NULL : calls_map(fd, n, prot, flags, off);
    if (copy) return copy;
    if (flags & MAP_FIXED && pages_hold(at)) return map_inside(at, n, prot, flags, fd, off);
    if (!(flags & MAP_ANONYMOUS) || prot & PROT_EXEC || !memory_region().base) {
        return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, off);
    }
    if (flags & (MAP_HUGETLB | MAP_FIXED | MAP_FIXED_NOREPLACE)) { errno = ENOMEM; return MAP_FAILED; }
    return pages_take(n, prot);
}
EXPORT void *mmap64(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap")));

EXPORT int munmap(void *at, size_t n) {
    if (!pages_hold(at)) return (int)syscall(SYS_munmap, at, n);
    size_t from = pages_number(at), k = pages_of(n);
    if (!is_aligned(at) || (n && !k) || !pages_within(from, k)) { errno = EINVAL; return -1; }
    for (size_t i = from, like; i < from + k; i += like) {
        like = pages_alike(i, from + k);
        if (pages_are_plain(i, 1) ? pages_drop_plain(i, like) : pages_give_back(i, like)) return -1;
    }
    return 0;
}

EXPORT int mprotect(void *at, size_t n, int prot) {
    if (refuses_code(prot)) return -1;
    if (!pages_hold(at)) return (int)syscall(SYS_mprotect, at, n, prot);
    size_t from = pages_number(at), k = pages_of(n);
    if (!is_aligned(at)) { errno = EINVAL; return -1; }
    if ((n && !k) || !pages_within(from, k)) { errno = ENOMEM; return -1; }
    for (size_t i = from, like; i < from + k; i += like) {
        like = pages_alike(i, from + k);
        char *part = (char *)at + (i - from) * PAGE;
        int error = pages_are_plain(i, 1) ? (int)syscall(SYS_mprotect, part, like * PAGE, prot)
                    : prot & PROT_EXEC    ? pages_become_plain(i, like, prot)
                                          : pages_protect(i, like, prot);
        if (error) return -1;
    }
    return 0;
}

EXPORT int madvise(void *at, size_t n, int advice) {
    if (!pages_hold(at)) return (int)syscall(SYS_madvise, at, n, advice);
    if (advice != MADV_DONTNEED) return 0;
    size_t from = pages_number(at), k = pages_of(n);
    if ((n && !k) || !pages_within(from, k)) { errno = ENOMEM; return -1; }
    if (pages_are_plain(from, k)) return (int)syscall(SYS_madvise, at, n, advice);
    return pages_zero(from, k);
}

EXPORT void *mremap(void *at, size_t old, size_t n, int flags, ...) {
    (void)at; (void)old; (void)n; (void)flags;
    errno = ENOMEM;
    return MAP_FAILED;
}

/* jemalloc and others look up the next pthread_create after their own, which is the C library's; they get
 * this one. Any other look-up jumps on with its caller's address in place. */
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
