/* The memory of an enclave: one region of secret pages, and the calls that hand them out. */
#ifndef KLUIS_MEMORY_H
#define KLUIS_MEMORY_H
#include <stddef.h>

enum { SECRET_HEAP_FD = 7 };

/* The region's address and size in bytes; base is NULL where there is none. */
struct region { char *base; size_t size; };

struct region memory_region(void);
/* What may be asked for in all, and how many threads may be there at once (0: any number). The
 * region is larger than the heap, so that address space may be reserved and never touched. */
void memory_limits(size_t heap_bytes, unsigned threads);
/* Start the thread that touches pages ahead of their use. */
void memory_warm(void);
#endif
