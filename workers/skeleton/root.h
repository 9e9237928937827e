/* A root folder of its own for a process, with nothing in it but what it may see. */
#pragma once

#include "base/fault.h"
#include "boot/boot.h"

/* In a new mount namespace of the caller's: replaces its root by an empty,
 * read-only file system with the visible paths at their usual places. */
int root_replace(const struct boot_visible *visible, size_t n_visible, struct fault *fault) NODISCARD;
