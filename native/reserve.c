/* A small memory reserve that lets the interpreter report an exhausted heap.
 *
 * While CPython unwinds to a handler it makes an integer of 32 bytes; if it cannot, it starts to unwind
 * again, endlessly (exception_unwind). So small requests that the full heap refuses are served from here, and
 * freed when the exception is released. A request that exceeds even the reserve ends the enclave, which is
 * better than an enclave that hangs.
 */
#define _GNU_SOURCE
#include <Python.h>

#include "reserve.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SMALL = 128, SLOTS = 4096, EXIT_NO_MEMORY = 71 };

union slot { union slot *next; char bytes[SMALL]; };

static union slot *slots, *spare;
static int fresh; /* slots from this one on were never used, and their pages never touched */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int reserved(const void *p) {
    return (uintptr_t)p >= (uintptr_t)slots && (uintptr_t)p < (uintptr_t)(slots + SLOTS);
}

/* Every other request that the heap refuses is served: the first raises MemoryError, the next one lets it be
 * raised. So a loop of requests is refused, and unwinding continues. */
static _Thread_local int refused;

static void *small(size_t n) {
    refused = !refused;
    if (n > SMALL || refused) return NULL;
    pthread_mutex_lock(&lock);
    union slot *found = spare;
    if (found) spare = found->next;
    else if (fresh < SLOTS) found = &slots[fresh++];
    pthread_mutex_unlock(&lock);
    if (!found) _exit(EXIT_NO_MEMORY);
    return found;
}

static void *get(void *unused, size_t n) {
    (void)unused;
    void *p = malloc(n ? n : 1);
    return p ? p : small(n);
}

static void *get_zeroed(void *unused, size_t count, size_t each) {
    (void)unused;
    if (!count || !each) count = each = 1;
    void *p = calloc(count, each);
    if (p || each > SMALL || count > SMALL) return p;
    p = small(count * each);
    return p ? memset(p, 0, count * each) : NULL;
}

static void give(void *unused, void *p) {
    (void)unused;
    if (!reserved(p)) { free(p); return; }
    pthread_mutex_lock(&lock);
    ((union slot *)p)->next = spare;
    spare = p;
    pthread_mutex_unlock(&lock);
}

static void *resize(void *unused, void *p, size_t n) {
    if (!p) return get(unused, n);
    if (!reserved(p)) return realloc(p, n ? n : 1);
    if (n <= SMALL) return p;
    void *larger = malloc(n);
    if (!larger) return NULL;
    memcpy(larger, p, SMALL);
    give(unused, p);
    return larger;
}

void reserve_install(void) {
    slots = malloc(SLOTS * sizeof *slots);
    if (!slots) _exit(EXIT_NO_MEMORY);
    PyMemAllocatorEx raw = {NULL, get, get_zeroed, resize, give};
    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &raw);
}
