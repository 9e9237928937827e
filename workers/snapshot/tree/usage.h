/* How much a tree takes on disk. Files with several links count once. */
#pragma once

#include "base/macros.h"

struct usage {
	uint64_t size, inodes;
	int64_t changed_at; /* the latest change of an inode, nanoseconds since 1970 */
};

/* Of everything below root, and root itself. limit as in walk_tree. */
int usage_tree(int root, uint64_t limit, struct usage *ret_usage) NODISCARD;
