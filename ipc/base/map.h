/*
 * Intrusive hash map from strings to nodes. The node's owner keeps the key
 * alive and unchanged while the node is in a map. Keys come from clients, so
 * the hash is seeded per process.
 */
#pragma once

#include "base/macros.h"

#include <stdbool.h>

struct map_node {
	struct map_node *next;
	const char *key;
	uint64_t hash;
};

struct map {
	struct map_node **slots;
	size_t n_slots, n_nodes;
};

void map_init(struct map *m);
/* Frees the slots; nodes are their owners'. */
void map_deinit(struct map *m);
/* 0, -EEXIST when the key is there, -ENOMEM. */
int map_insert(struct map *m, struct map_node *node, const char *key);
struct map_node *map_find(const struct map *m, const char *key);
/* The node must be in the map. */
void map_remove(struct map *m, struct map_node *node);
/* Iteration in no order: start with *pos = 0; NULL at the end. Removing the
 * node just returned is allowed, inserting is not. */
struct map_node *map_next(const struct map *m, size_t *pos, struct map_node *last);

/* The first node and the rest: for (n = map_first(m, &pos); n; n = map_next(m, &pos, n)) */
static inline struct map_node *map_first(const struct map *m, size_t *pos) {
	*pos = 0;
	return map_next(m, pos, NULL);
}
