/* Where there is no overlayfs: trees that are copies of all their layers. */
#pragma once

#include "workers/snapshot/state.h"

/* Makes room/name/fs out of the layers (top first) in a child, beginning in
 * .new. done gets the fault, NULL on success; its worker's tables are as they
 * were. Never called from within. */
typedef void (*copy_done_fn)(void *ctx, const struct fault *fault);
int copy_start(struct snapshot_worker *s, struct msg_request *r, int room, const char *name,
	       const struct layer *const *layers, size_t n, copy_done_fn done, void *ctx) NODISCARD;
/* A mount of dir/name/fs as a descriptor. */
int copy_mount(int dir, const char *name, bool read_only, int *ret_mount, struct fault *fault) NODISCARD;
