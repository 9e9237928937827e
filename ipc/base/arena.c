#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define BLOCK_SIZE 4096

struct arena_block {
	struct arena_block *next;
	size_t size, used;
	_Alignas(16) uint8_t data[];
};

void arena_init(struct arena *a, size_t limit) {
	*a = (struct arena){ .limit = limit };
}

void arena_deinit(struct arena *a) {
	struct arena_block *next;
	for (struct arena_block *b = a->blocks; b; b = next) {
		next = b->next;
		free(b);
	}
	*a = (struct arena){ 0 };
}

void *arena_alloc(struct arena *a, size_t size) {
	if (size > SIZE_MAX / 2)
		return NULL;
	size = (size + 15) & ~(size_t)15;
	struct arena_block *b = a->blocks;
	if (!b || b->size - b->used < size) {
		size_t room = MAX(size, BLOCK_SIZE - sizeof(struct arena_block));
		if (a->limit && (a->used > a->limit || room > a->limit - a->used))
			return NULL;
		b = malloc(sizeof(struct arena_block) + room);
		if (!b)
			return NULL;
		*b = (struct arena_block){ .next = a->blocks, .size = room };
		a->blocks = b;
		a->used += room;
	}
	void *p = b->data + b->used;
	b->used += size;
	return p;
}

void *arena_zalloc(struct arena *a, size_t size) {
	void *p = arena_alloc(a, size);
	return p ? memset(p, 0, size) : NULL;
}

char *arena_strdup(struct arena *a, const char *text) {
	size_t n = strlen(text) + 1;
	char *p = arena_alloc(a, n);
	return p ? memcpy(p, text, n) : NULL;
}

char *arena_printf(struct arena *a, const char *format, ...) {
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(NULL, 0, format, ap);
	va_end(ap);
	char *p = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
	if (!p)
		return NULL;
	va_start(ap, format);
	vsnprintf(p, (size_t)n + 1, format, ap);
	va_end(ap);
	return p;
}
