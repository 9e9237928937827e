/*
 * How many bytes a connection, and all connections together, may make this
 * process hold: request bodies that aren't complete yet and replies that the
 * client hasn't taken. A connection's budget has the process's as its parent.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct budget {
	size_t used, limit;
	struct budget *parent;
};

/* All or nothing; false when this budget or one above it would be exceeded. */
static inline bool budget_take(struct budget *b, size_t n) {
	for (struct budget *i = b; i; i = i->parent)
		if (n > i->limit - i->used)
			return false;
	for (struct budget *i = b; i; i = i->parent)
		i->used += n;
	return true;
}

static inline void budget_give(struct budget *b, size_t n) {
	for (; b; b = b->parent)
		b->used -= n;
}
