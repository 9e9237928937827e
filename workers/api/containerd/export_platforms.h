/* Which of an index's images an export leaves out: those of platforms that the client doesn't name. */
#pragma once

#include "base/arena.h"
#include "base/buffer.h"
#include "base/fault.h"

#include "containerd/types.pb-c.h"

#include <stdbool.h>

#define EXPORT_INDEX_MAX (4 * 1024 * 1024)

struct export_left_out {
	const char **digests;
	size_t n;
};

bool export_is_index(const char *media_type);
/* Adds to what is left out. What says no platform stays. A fault: it is no index,
 * or has nothing for any of the platforms. */
int export_leave_out(struct arena *a, const struct buffer *index, Containerd__Types__Platform *const *platforms,
		     size_t n_platforms, struct export_left_out *left_out, struct fault *fault) NODISCARD;
