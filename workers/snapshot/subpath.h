/*
 * A part of a view as a mount of its own. The kernel clones only what is attached
 * somewhere, so the view is for a moment: in the worker's own mount namespace,
 * where the path is resolved with the view as "/" and can lead nowhere else.
 */
#pragma once

#include "base/fault.h"

/* view: a detached mount, which is used up. The path's end must be a folder or a
 * regular file: INVALID_ARGUMENT when it isn't, or when there is none. */
int subpath_mount(int view, const char *path, int *ret_mount, struct fault *fault) NODISCARD;
