/*
 * The checkpoints that were made here, by the digest of their archives: only
 * these can be restored. The latest MADE_MAX are remembered, across reboots.
 */
#pragma once

#include "base/arena.h"
#include "base/list.h"
#include "base/macros.h"
#include "internal/record.pb-c.h"

#define MADE_MAX 1024

struct metadata;

struct made {
	struct list node; /* metadata.made, oldest first */
	struct arena arena;
	Bulkhead__CheckpointRecord *record;
};

/* NULL: none, or not ours. */
const struct made *made_find(const struct metadata *m, const char *digest);
/* Remembers it and stores it; whoever must know that it's stored waits for it. */
int made_add(struct metadata *m, const Bulkhead__CheckpointRecord *record) NODISCARD;
int made_load(struct metadata *m, const Bulkhead__CheckpointRecord *record) NODISCARD;
void made_free_all(struct metadata *m);
