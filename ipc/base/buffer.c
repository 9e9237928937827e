#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>

void buffer_deinit(struct buffer *b) {
	free(b->data);
	*b = (struct buffer){ 0 };
}

uint8_t *buffer_reserve(struct buffer *b, size_t more) {
	if (b->failed)
		return NULL;
	if (!b->data || b->room - b->size < more) {
		size_t room = MAX(b->room * 2, MAX(b->size + more, (size_t)64));
		uint8_t *data = realloc(b->data, room);
		if (!data) {
			b->failed = true;
			return NULL;
		}
		b->data = data;
		b->room = room;
	}
	return b->data + b->size;
}

void buffer_add(struct buffer *b, const void *data, size_t size) {
	if (size > 0 && buffer_reserve(b, size)) {
		memcpy(b->data + b->size, data, size);
		b->size += size;
	}
}

void buffer_addf(struct buffer *b, const char *format, ...) {
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(NULL, 0, format, ap);
	va_end(ap);
	if (n < 0 || !buffer_reserve(b, (size_t)n + 1)) {
		b->failed = true;
		return;
	}
	va_start(ap, format);
	vsnprintf((char *)b->data + b->size, (size_t)n + 1, format, ap);
	va_end(ap);
	b->size += (size_t)n;
}

void buffer_consume(struct buffer *b, size_t n) {
	b->size -= n;
	memmove(b->data, b->data + n, b->size);
}

char *buffer_take_text(struct buffer *b) {
	buffer_add(b, "", 1);
	if (b->failed) {
		buffer_deinit(b);
		return NULL;
	}
	return (char *)buffer_take(b).data;
}
