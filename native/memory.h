/* The memory of an enclave: one region of secret pages, and the calls that allocate from it. */
#ifndef KLUIS_MEMORY_H
#define KLUIS_MEMORY_H
#include <stddef.h>

/* Passed from the guardian to the launcher in the environment: size of the region in bytes, and whether to
 * use a plain memory file. */
#define REGION_NAME "KLUIS_REGION"
#define REGION_PLAIN ",plain"
/* The hard limit on descriptors that making secret memory needs, see region.c. */
#define REGION_DESCRIPTORS 16448UL

/* The region's address and size in bytes; base is NULL if there is none. */
struct region { char *base; size_t size; };

/* Make the region with the size in the environment; base is NULL on failure. */
struct region region_make(void);
/* Whether it failed because each try was slowed down, see region.c. */
extern int region_slow;
struct region memory_region(void);
/* The maximum of open memory in total, and of threads at once (0: no limit). The region is larger than the
 * heap, so that programs can reserve address space and never touch it. */
void memory_limits(size_t heap_bytes, unsigned threads);
/* Code may be generated (grant insecure_jit): pages of the region become code, and are no longer secret. */
void memory_allow_code(void);
/* Whether a library requested executable memory and was refused. */
int memory_refused_code(void);
/* Start the thread that touches pages ahead of their use, unless it is there. */
void memory_warm(void);
#endif
