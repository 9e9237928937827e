/*
 * A bump allocator that lives as long as one request. Everything is freed at
 * once; there is no free of single objects. With a limit it is also what keeps
 * a hostile message from growing in memory.
 */
#pragma once

#include "base/macros.h"

struct arena_block;

struct arena {
	struct arena_block *blocks;
	size_t used, limit; /* bytes in all blocks; limit 0: none */
};

void arena_init(struct arena *a, size_t limit);
void arena_deinit(struct arena *a);
/* Aligned to 16 and not cleared; NULL at the limit or when out of memory. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_zalloc(struct arena *a, size_t size);
char *arena_strdup(struct arena *a, const char *text);
char *arena_printf(struct arena *a, const char *format, ...) PRINTF(2, 3);
/* A struct in the arena with its first value; NULL when out of memory. */
#define ARENA_NEW(a, type, ...)                              \
	({                                                   \
		type *new_ = arena_alloc((a), sizeof(type)); \
		if (new_)                                    \
			*new_ = (type)__VA_ARGS__;           \
		new_;                                        \
	})
