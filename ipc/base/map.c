#include "base/map.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

static uint64_t seed;

static uint64_t hash_of(const char *key) {
	if (!seed && getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
		seed = (uintptr_t)&seed | 1;
	uint64_t h = seed;
	for (const unsigned char *p = (const unsigned char *)key; *p; p++) {
		h = (h ^ *p) * 0x9e3779b97f4a7c15u;
		h ^= h >> 29;
	}
	return h ^ (h >> 32);
}

void map_init(struct map *m) {
	*m = (struct map){ 0 };
}

void map_deinit(struct map *m) {
	free(m->slots);
	map_init(m);
}

static int map_grow(struct map *m) {
	size_t n = m->n_slots ? m->n_slots * 2 : 16;
	struct map_node **slots = calloc(n, sizeof(struct map_node *));
	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_slots; i++) {
		struct map_node *node = m->slots[i], *next;
		for (; node; node = next) {
			next = node->next;
			struct map_node **slot = &slots[node->hash & (n - 1)];
			node->next = *slot;
			*slot = node;
		}
	}
	free(m->slots);
	m->slots = slots;
	m->n_slots = n;
	return 0;
}

static struct map_node **find_slot(const struct map *m, const char *key, uint64_t hash) {
	struct map_node **slot = &m->slots[hash & (m->n_slots - 1)];
	while (*slot && ((*slot)->hash != hash || strcmp((*slot)->key, key) != 0))
		slot = &(*slot)->next;
	return slot;
}

int map_insert(struct map *m, struct map_node *node, const char *key) {
	if (m->n_nodes >= m->n_slots && map_grow(m) < 0)
		return -ENOMEM;
	uint64_t hash = hash_of(key);
	struct map_node **slot = find_slot(m, key, hash);
	if (*slot)
		return -EEXIST;
	*node = (struct map_node){ .key = key, .hash = hash };
	*slot = node;
	m->n_nodes++;
	return 0;
}

struct map_node *map_find(const struct map *m, const char *key) {
	return m->n_slots ? *find_slot(m, key, hash_of(key)) : NULL;
}

void map_remove(struct map *m, struct map_node *node) {
	struct map_node **slot = &m->slots[node->hash & (m->n_slots - 1)];
	while (*slot != node)
		slot = &(*slot)->next;
	/* node->next stays, so that an iteration standing here can go on. */
	*slot = node->next;
	m->n_nodes--;
}

struct map_node *map_next(const struct map *m, size_t *pos, struct map_node *last) {
	if (last && last->next)
		return last->next;
	while (*pos < m->n_slots) {
		struct map_node *n = m->slots[(*pos)++];
		if (n)
			return n;
	}
	return NULL;
}
