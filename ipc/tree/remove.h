/*
 * Removes trees that images and containers made: of any depth, with any names,
 * with a bounded number of descriptors and no recursion. Blocks.
 *
 * A folder that isn't empty is first moved to the top of the trash under a
 * number, so one open folder at a time is enough, and whoever comes after an
 * interruption just goes on.
 */
#pragma once

#include "base/macros.h"

/* Moves dir/name into the trash under a free number: -ENOENT when it is gone. */
int trash_put(int trash, int dir, const char *name) NODISCARD;
/* Empties the trash. What can't be removed stays and is the returned error;
 * the rest is removed nevertheless. */
int trash_empty(int trash) NODISCARD;
