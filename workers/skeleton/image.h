/*
 * A process whose program nobody can change: it runs from a sealed copy in
 * memory. Those that enter containers before they execute must be so, since
 * what /proc/<pid>/exe of theirs leads to is within a container's reach.
 */
#pragma once

#include "base/macros.h"

/* Returns 0 once it runs from a sealed copy, for which main is entered once more
 * with the same words. name is what the copy is called in /proc. */
int image_seal(const char *name, char **argv) NODISCARD;
