/* SPDY/3.1's compressed header fields. */
#pragma once

#include "base/macros.h"

#include <stdbool.h>

#define SPDY_HEADERS_MAX 16384 /* of one block, inflated */
#define SPDY_EMPTY_MAX 16

struct spdy_inflater;

/* Some 40 KiB once it has seen a block. */
int spdy_inflater_new(struct spdy_inflater **ret_inflater) NODISCARD;
void spdy_inflater_free(struct spdy_inflater *i);

/* Valid during the call only; not NUL-terminated. */
struct spdy_pair {
	const char *name, *value;
	size_t name_size, value_size;
};
typedef void (*spdy_pair_fn)(void *ctx, const struct spdy_pair *p);

/* Must get every block of the session, in order. After an error the state is
 * lost: -EBADMSG, -E2BIG, -ENOMEM. */
int spdy_block_read(struct spdy_inflater *i, const uint8_t *block, size_t size, spdy_pair_fn fn, void *ctx) NODISCARD;
/* Names are the same in any case. */
bool spdy_pair_is(const struct spdy_pair *p, const char *name);
/* The value as a string; false when it doesn't fit or isn't one. */
bool spdy_pair_copy(const struct spdy_pair *p, char *text, size_t size);
/* A block without fields; the first of a session begins differently. */
size_t spdy_block_empty(bool first, uint8_t ret_block[SPDY_EMPTY_MAX]);
