/* Callbacks without writable code: what C calls when it calls back into Python (ctypes, cffi).
 *
 * libffi writes a few instructions for each callback, which needs memory that is written and then executed.
 * Here the instructions are part of the launcher, in as many copies as there may be callbacks at once. Copy i
 * jumps to the address that libffi wrote as target of closure i; the closure itself remains data. These two
 * functions replace libffi's functions of the same names; everything else of libffi is used unchanged.
 *
 * libffi's closure on x86-64 begins with the instructions that it would have run, and their target follows.
 * Spec: libffi, src/x86/ffi64.c, ffi_prep_closure_loc; the psABI's r10 is the static chain.
 */
#define _GNU_SOURCE
#include "scratch.h"

#include <pthread.h>
#include <stdlib.h>

#define CLOSURES 16384 /* the .rept below counts them too */
#define STUB 16UL

static void *closures[CLOSURES] __attribute__((used)); /* NULL: this stub is free */
static unsigned next_free;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

extern const char kluis_stubs[];

/* r11 is free, and so is r10 until libffi reads it. A closure of another layout ends the enclave. */
__asm__(
    ".text\n"
    ".balign 16\n"
    "kluis_called:\n"
    "    leaq closures(%rip), %r11\n"
    "    movq (%r11,%r10,8), %r10\n"
    "    movq (%r10), %r11\n"
    "    cmpq kluis_marked(%rip), %r11\n"
    "    jne 1f\n"
    "    jmp *24(%r10)\n"
    "1:  ud2\n"
    ".balign 8\n"
    "kluis_marked: .quad 0xf5158d4cfa1e0ff3\n" /* endbr64; leaq -11(%rip), %r10 */
    ".balign 16\n"
    "kluis_stubs:\n"
    ".set kluis_stub, 0\n"
    ".rept 16384\n"
    "    .balign 16\n"
    "    endbr64\n"
    "    movl $kluis_stub, %r10d\n"
    "    jmp kluis_called\n"
    "    .set kluis_stub, kluis_stub + 1\n"
    ".endr\n");

struct slot { size_t stub; max_align_t closure[]; };

EXPORT void *ffi_closure_alloc(size_t size, void **code) {
    struct slot *slot = calloc(1, sizeof *slot + size);
    if (!slot) return NULL;
    pthread_mutex_lock(&lock);
    unsigned looked = 0;
    while (looked < CLOSURES && closures[next_free]) {
        next_free = (next_free + 1) % CLOSURES;
        looked++;
    }
    if (looked < CLOSURES) {
        slot->stub = next_free;
        closures[next_free] = slot->closure;
        *code = (void *)(uintptr_t)(kluis_stubs + next_free * STUB);
        next_free = (next_free + 1) % CLOSURES;
    }
    pthread_mutex_unlock(&lock);
    if (looked < CLOSURES) return slot->closure;
    free(slot);
    return NULL;
}

EXPORT void ffi_closure_free(void *closure) {
    struct slot *slot = (struct slot *)((char *)closure - offsetof(struct slot, closure));
    pthread_mutex_lock(&lock);
    closures[slot->stub] = NULL;
    pthread_mutex_unlock(&lock);
    free(slot);
}
