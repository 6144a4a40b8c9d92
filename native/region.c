/* The region of secret memory: made, mapped and closed before anybody can find its descriptor.
 *
 * Root may duplicate any descriptor of any process (pidfd_getfd) and map its memory. memfd_secret gives
 * memory only by a descriptor, so for about a microsecond a descriptor exists. Four measures make that moment
 * of little use:
 *
 *   - It is as short as possible: three calls, from close(hole) on without a branch to other code.
 *   - The descriptor's number is drawn in that moment. All numbers below the limit are taken first, by
 *     copies of descriptor 0; one is drawn and closed, so the kernel gives just that one.
 *   - The number stays in a register; memory, which root can read, never holds it.
 *   - Its duration is measured by the processor's clock. A process that was stopped, frozen or slowed in
 *     it drops the region, empty as it is, and makes another a little later; after TRIES of them it does not
 *     start.
 *
 * An attacker without further knowledge can try one number in a third of a microsecond, of SLOTS. If root
 * traces the kernel, it can read the number as it is drawn: threats.md states the remaining risk.
 */
#define _GNU_SOURCE
#include "memory.h"
#include "calls.h"

#include <cpuid.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define LEAST_REGION (16UL << 20)
#define FIRST_SLOT 64UL      /* above every descriptor that is passed in */
#define SLOTS 16384UL        /* a power of two */
#define CYCLES 32768UL       /* two to ten times what it takes undisturbed, 13 microseconds at 2.5 GHz */
#define EMULATED_CYCLES (64 * CYCLES) /* on a processor that QEMU emulates (TCG), where a call takes that much longer */
#define TRIES 64
#define TRIES_AT_ONCE 16     /* the first of them fill the processor's caches */
#define PAUSE_NANOSECONDS 1000000L /* then: what delayed them, such as another process, may be over */
_Static_assert(FIRST_SLOT + SLOTS == REGION_DESCRIPTORS, "memory.h and the doctor state it");

/* Public, in ld.so: where the kernel put the argument count, the arguments and the environment. The C library
 * has not started yet at the first memory request, so getenv finds nothing. */
extern void *__libc_stack_end;

static const char *announced(void) {
    char **at = (char **)__libc_stack_end + 1;
    while (*at) at++;
    for (at++; *at; at++) {
        if (!strncmp(*at, REGION_NAME "=", sizeof REGION_NAME)) return *at + sizeof REGION_NAME;
    }
    return NULL;
}

static inline __attribute__((always_inline)) long call(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "+a"(number)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return number;
}

static inline __attribute__((always_inline)) uint64_t clock_cycles(void) {
    uint32_t low, high;
    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static inline __attribute__((always_inline)) uint64_t draw(int random, uint64_t cycles) {
    uint64_t value = 0;
    if (random) __asm__ volatile("rdrand %0" : "+r"(value) : : "cc");
    return value ^ cycles * 0x9e3779b97f4a7c15UL >> 20;
}

/* One attempt: returns its address, or a negative errno; its duration goes to took. */
static __attribute__((noinline)) long attempt(size_t size, int random, uint64_t *took) {
    uint64_t began = clock_cycles();
    long fd = (long)(FIRST_SLOT + (draw(random, began) & (SLOTS - 1)));
    call(SYS_close, fd, 0, 0, 0, 0, 0);
    fd = call(SYS_memfd_secret, 0, 0, 0, 0, 0, 0);
    if (fd < 0) return fd;
    call(SYS_ftruncate, fd, (long)size, 0, 0, 0, 0);
    long at = call(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    call(SYS_close, fd, 0, 0, 0, 0, 0);
    *took = clock_cycles() - began;
    return at;
}

/* The maximum duration of the moment on this processor. Only the processor's identification decides: an
 * attacker who wants the moment to be long could slow down a measurement. */
static uint64_t most_cycles(void) {
    unsigned a, b, c = 0, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1U << 31)) return CYCLES; /* no hypervisor */
    __cpuid(0x40000000, a, b, c, d);
    return b == 0x54474354 && c == 0x43544743 && d == 0x47435447 ? EMULATED_CYCLES : CYCLES; /* "TCGTCGTCGTCG" */
}

int region_slow;

static int failed(long at) { return at < 0 && at > -4096; }

static struct region plain(size_t size) {
    struct region none = {NULL, 0};
    long fd = call(SYS_memfd_create, (long)"heap", 0, 0, 0, 0, 0);
    if (fd < 0 || call(SYS_ftruncate, fd, (long)size, 0, 0, 0, 0)) return none;
    long at = call(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    call(SYS_close, fd, 0, 0, 0, 0, 0);
    return failed(at) ? none : (struct region){(char *)at, size};
}

static struct region secret(size_t size) {
    unsigned a, b, c = 0, d;
    int random = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_RDRND);
    uint64_t most = most_cycles();
    const struct timespec pause = {0, PAUSE_NANOSECONDS};
    for (int i = 0; i < TRIES; i++) {
        uint64_t took = UINT64_MAX;
        long last;
        while ((last = call(SYS_dup, 0, 0, 0, 0, 0, 0)) >= 0) {}
        if (last != -EMFILE) break; /* numbers are left, and the kernel would use the lowest of them */
        long at = attempt(size, random, &took);
        if (failed(at)) break;
        if (took < most) return (struct region){(char *)at, size};
        call(SYS_munmap, at, (long)size, 0, 0, 0, 0);
        region_slow = i + 1 == TRIES;
        if ((i + 1) % TRIES_AT_ONCE == 0) call(SYS_nanosleep, (long)&pause, 0, 0, 0, 0, 0);
    }
    return (struct region){NULL, 0};
}

struct region region_make(void) {
    struct region made = {NULL, 0};
    struct rlimit before, filled;
    const char *said = announced();
    char *end = NULL;
    size_t size = said ? strtoull(said, &end, 10) & ~(PAGE - 1) : 0;
    if (size < LEAST_REGION) return made;
    if (!strcmp(end, REGION_PLAIN)) return plain(size);
    if (call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&before, 0, 0)) return made;
    filled = (struct rlimit){REGION_DESCRIPTORS, before.rlim_max};
    if (filled.rlim_cur > filled.rlim_max || call(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&filled, 0, 0, 0)) return made;
    uint64_t low = 0;
    for (long fd; (fd = call(SYS_dup, 0, 0, 0, 0, 0, 0)) >= 0 && fd < (long)FIRST_SLOT;) low |= 1UL << fd;
    made = secret(size);
    for (long fd = 0; fd < (long)FIRST_SLOT; fd++) if (low >> fd & 1) call(SYS_close, fd, 0, 0, 0, 0, 0);
    call(SYS_close_range, FIRST_SLOT, ~0U, 0, 0, 0, 0);
    call(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&before, 0, 0, 0);
    return made;
}
