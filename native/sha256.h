/* SHA-256 by the processor's own instructions: every import is measured, at every start. */
#ifndef KLUIS_SHA256_H
#define KLUIS_SHA256_H
#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

struct sha256 { uint32_t state[8]; uint64_t bytes; unsigned char rest[64]; };

/* Whether this processor has the instructions; otherwise nothing else here may be called. */
int sha256_here(void);
void sha256_begin(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *data, size_t n);
void sha256_end(struct sha256 *hash, unsigned char digest[SHA256_BYTES]);
#endif
