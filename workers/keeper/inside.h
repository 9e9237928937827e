/*
 * Paths inside a root file system that somebody else wrote. A path is resolved
 * by the kernel with the root as its "/", never through a magic link, and what
 * comes back is a descriptor: nobody resolves the same path a second time.
 */
#pragma once

#include "base/macros.h"

#include <stdbool.h>

/* A descriptor or a negative errno; close-on-exec always. */
int inside_open(int root, const char *path, uint64_t flags) NODISCARD;
/* Opens path (O_PATH) as a place to mount on; what is missing of it is made:
 * folders 0755 and at the end a folder or an empty file. A dangling symbolic
 * link is followed inside the root. */
int inside_make(int root, const char *path, bool directory) NODISCARD;
/* Opens the folder that path's last component lies in (made when missing) and
 * gives the component; ret_name has room for NAME_MAX + 1. -EINVAL for "/". */
int inside_parent(int root, const char *path, char *ret_name) NODISCARD;
