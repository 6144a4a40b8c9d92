/* The pages of the region: which are handed out, and what may be done with each. Pages are numbered from the
 * region's base. Where a function gives an int, 0 is done, and -1 is not done, with errno. */
#ifndef KLUIS_PAGES_H
#define KLUIS_PAGES_H
#include "memory.h"

#include <stddef.h>

#define PAGE 4096UL
#define MIB (1024UL * 1024UL)

/* Whether an address is in the region; false for all where there is none. */
int pages_hold(const void *p);
/* The number of the page that an address of the region is in. */
size_t pages_number(const void *p);
/* How many pages so many bytes take; 0 where the sum does not fit. */
size_t pages_of(size_t bytes);
/* Whether these pages are all in the region. */
int pages_within(size_t from, size_t n);

/* How much may be open at once. */
void pages_limit(size_t bytes);
/* Keep so much of it from everybody, untouched, until this is called with less. */
void pages_set_aside(size_t bytes);
/* New pages, zero; or MAP_FAILED and errno. */
void *pages_take(size_t bytes, int prot);
/* Zero what was touched, and hand it out again from now on. */
int pages_give_back(size_t from, size_t n);
/* Zero these pages, whoever has them, and have them handed out with these rights. */
int pages_replace(size_t from, size_t n, int prot);
int pages_protect(size_t from, size_t n, int prot);
/* Zero these pages; their rights stay. */
int pages_zero(size_t from, size_t n);

/* ---- plain memory in the place of pages: code, since the kernel runs no secret page, or a file that a
 * program maps there. It never goes back to the pool, which hands out secret pages only. */
int pages_are_plain(size_t from, size_t n);
/* How many pages from this one on, and before the end, are plain as it is, or secret as it is. */
size_t pages_alike(size_t from, size_t end);
/* Make plain memory of these secret pages, with what they hold and these rights. */
int pages_become_plain(size_t from, size_t n, int prot);
/* Put a mapping of the kernel's in the place of these pages. */
int pages_map_plain(size_t from, size_t n, int prot, int flags, int fd, long off);
/* End what is there; its addresses are never used again. */
int pages_drop_plain(size_t from, size_t n);
#endif
