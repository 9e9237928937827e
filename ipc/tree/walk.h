/*
 * Walks a tree that may change under it and may be of any depth: no recursion,
 * two open folders at a time, no symbolic link followed. Memory grows with the
 * folders that wait, up to WALK_FOLDERS_MAX of them.
 */
#pragma once

#include "base/macros.h"

#include <stdint.h>
#include <sys/stat.h>

#define WALK_FOLDERS_MAX 1000000

/* One entry as the visitor sees it. */
struct walk_entry {
	int dir; /* the open folder that it is in */
	const char *name;
	const char *path; /* relative to the root; NULL when longer than PATH_MAX */
	const struct stat *st;
};

/* A negative errno ends the walk and is its result. For a folder, 1 keeps the
 * walk out of it. */
typedef int (*walk_fn)(void *ctx, const struct walk_entry *e);

/* Entries are visited before what is in them. limit: -E2BIG after so many
 * entries (0: none). Folders that vanish meanwhile are passed over. */
int walk_tree(int root, uint64_t limit, walk_fn fn, void *ctx) NODISCARD;
/* The same in an order that depends on nothing but the names. */
int walk_tree_sorted(int root, walk_fn fn, void *ctx) NODISCARD;
