/* The pages of the region: which are allocated, and with which access. Pages are numbered from the region's
 * base. Functions that return int return 0 for success, and -1 with errno for failure. */
#ifndef KLUIS_PAGES_H
#define KLUIS_PAGES_H
#include "memory.h"

#include <stddef.h>

#define PAGE 4096UL
#define MIB (1024UL * 1024UL)

/* Whether an address is in the region; false if there is no region. */
int pages_hold(const void *p);
/* The number of the page that an address of the region is in. */
size_t pages_number(const void *p);
/* The number of pages for that many bytes; 0 if the sum overflows. */
size_t pages_of(size_t bytes);
/* Whether these pages are all in the region. */
int pages_within(size_t from, size_t n);

/* The maximum of memory that may be open at once. */
void pages_limit(size_t bytes);
/* Reserve that much of it, untouched, until the next call with less. */
void pages_set_aside(size_t bytes);
/* Allocate pages of zeros; MAP_FAILED and errno on failure. */
void *pages_take(size_t bytes, int prot);
/* Zero touched pages, and make all available again. */
int pages_give_back(size_t from, size_t n);
/* Zero these pages, allocated or not, and allocate them with this access. */
int pages_replace(size_t from, size_t n, int prot);
int pages_protect(size_t from, size_t n, int prot);
/* Zero these pages; their access stays. */
int pages_zero(size_t from, size_t n);

/* ---- plain memory in the place of pages: code, since the kernel executes no secret page, or a file that a
 * program maps there. It is never returned to the pool, which only has secret pages. */
int pages_are_plain(size_t from, size_t n);
/* The number of pages from this one on, and before the end, of its kind (plain or secret). */
size_t pages_alike(size_t from, size_t end);
/* Replace these secret pages with plain memory that has the same content and this access. */
int pages_become_plain(size_t from, size_t n, int prot);
/* Replace these pages with a mapping of the kernel's. */
int pages_map_plain(size_t from, size_t n, int prot, int flags, int fd, long off);
/* Unmap these pages; their addresses are never used again. */
int pages_drop_plain(size_t from, size_t n);
#endif
