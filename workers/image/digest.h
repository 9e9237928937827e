/* sha256 of a stream. OpenSSL is known in digest.c only. */
#pragma once

#include "base/macros.h"
#include "reference.h"

struct digest;

struct digest *digest_new(void);
void digest_free(struct digest *d);
/* Errors are kept until digest_text. */
void digest_update(struct digest *d, const void *data, size_t size);
/* "sha256:..." of what came so far; more may follow. "" when the library failed,
 * which no digest equals. */
void digest_text(struct digest *d, char ret_text[DIGEST_SIZE]);
/* Of bytes in memory. */
void digest_of(const void *data, size_t size, char ret_text[DIGEST_SIZE]);
