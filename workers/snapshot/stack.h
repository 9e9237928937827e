/* A stack of committed layers, looked into as overlayfs would. */
#pragma once

#include "base/macros.h"

#include <sys/stat.h>

/* Finds a path that is clean and relative in layers (open folders, top first):
 * 0 with the file (O_PATH), what it is, and which layer has it; -ENOENT when none
 * has it or an upper one hides it. Symbolic links on the way aren't followed:
 * -ENOENT. */
int stack_find(const int *layers, size_t n, const char *path, int *ret_fd, struct stat *ret_st,
	       size_t *ret_layer) NODISCARD;
