/* A set of inode numbers with a number for each: files with several links, of
 * one file system. Zero-initialised is empty. */
#pragma once

#include "base/macros.h"

#include <stdbool.h>

struct inode_slot {
	uint64_t inode; /* 0: free */
	uint64_t value;
};

struct inodes {
	struct inode_slot *slots;
	size_t n, room;
};

void inodes_deinit(struct inodes *s);
/* 0, -EEXIST with what was there before in *ret_value (may be NULL), -ENOMEM. */
int inodes_add(struct inodes *s, uint64_t inode, uint64_t value, uint64_t *ret_value);
bool inodes_has(const struct inodes *s, uint64_t inode);
