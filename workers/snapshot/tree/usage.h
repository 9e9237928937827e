/* How much a tree takes on disk. Files with several links count once. */
#pragma once

#include "base/macros.h"

struct usage {
	uint64_t size, inodes;
};

/* Of everything below root, and root itself. limit as in walk_tree. */
int usage_tree(int root, uint64_t limit, struct usage *ret_usage) NODISCARD;
