/* A growable run of bytes. Zero-initialised is empty; out of memory is sticky
 * (failed) so that a chain of appends needs one check at its end. */
#pragma once

#include "base/macros.h"

#include <stdbool.h>
#include <string.h>

struct buffer {
	uint8_t *data;
	size_t size, room;
	bool failed;
};

void buffer_deinit(struct buffer *b);
#define CLEANUP_BUFFER CLEANUP(buffer_deinit)
/* Room for more bytes after size; NULL (and failed) when out of memory. */
uint8_t *buffer_reserve(struct buffer *b, size_t more);
void buffer_add(struct buffer *b, const void *data, size_t size);
void buffer_addf(struct buffer *b, const char *format, ...) PRINTF(2, 3);
/* Drops the first n bytes (n <= size). */
void buffer_consume(struct buffer *b, size_t n);
/* The content as a NUL-terminated string that the caller frees; NULL when
 * failed. The buffer is empty afterwards. */
char *buffer_take_text(struct buffer *b);

static inline struct buffer buffer_take(struct buffer *b) {
	struct buffer t = *b;
	*b = (struct buffer){ 0 };
	return t;
}
