/* The memory of an enclave: one region of secret pages, and the calls that hand them out. */
#ifndef KLUIS_MEMORY_H
#define KLUIS_MEMORY_H
#include <stddef.h>

/* The guardian's word to the launcher, in the environment: bytes of the region, and whether a plain
 * memory file must do. */
#define REGION_NAME "KLUIS_REGION"
#define REGION_PLAIN ",plain"
/* The hard limit on descriptors that making secret memory takes, see region.c. */
#define REGION_DESCRIPTORS 16448UL

/* The region's address and size in bytes; base is NULL where there is none. */
struct region { char *base; size_t size; };

/* Make the region that the environment announces; base is NULL where it cannot be had. */
struct region region_make(void);
struct region memory_region(void);
/* What may be asked for in all, and how many threads may be there at once (0: any number). The
 * region is larger than the heap, so that address space may be reserved and never touched. */
void memory_limits(size_t heap_bytes, unsigned threads);
/* Code may be generated (grant insecure_jit): pages of the region become code, and are secret no longer. */
void memory_allow_code(void);
/* Has a library asked for code of its own, and been refused? */
int memory_refused_code(void);
/* Start the thread that touches pages ahead of their use, unless it is there. */
void memory_warm(void);
#endif
