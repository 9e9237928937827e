/* Under which names an archive's images, and its index, are kept. As containerd's image store has it. */
#pragma once

#include "workers/api/containerd/archive_index.h"

#include "containerd/transfer_types.pb-c.h"

struct import_name {
	char *name; /* NULL: of an image that is but a part of the index */
	/* NULL: the index itself. */
	const struct archive_image *image;
};

struct import_names {
	struct import_name *v; /* images first, then the index */
	size_t n;
};

/* The client has a name for the index. */
bool import_keeps_index(const Containerd__Types__Transfer__ImageStore *to);
/* In the arena, but for what points into the others. None at all is no error:
 * then nothing of the archive is wanted. */
int import_names(struct arena *a, const Containerd__Types__Transfer__ImageStore *to,
		 const struct archive_images *images, struct import_names *ret_names, struct fault *fault) NODISCARD;
