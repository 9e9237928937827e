/*
 * The client's archive, from its stream into the content store: each file of it
 * a blob, but for the documents that say what is in it (archive_index.h).
 */
#pragma once

#include "workers/api/containerd/archive_index.h"
#include "workers/api/containerd/streams.h"

struct ctd_archive;

struct ctd_archive_order {
	const char *stream, *lease;
	bool keep_index; /* the index of the images is to be content, too */
};

/* done is called once, later; fault NULL: all is content of the call's
 * namespace, held by the lease, and ctd_archive_images says what it makes. The
 * order's texts live as long as the call. NULL: the fault says why not. */
struct ctd_archive *ctd_archive_begin(struct grpc_call *call, const struct ctd_archive_order *order,
				      void (*done)(void *ctx, const struct fault *fault), void *ctx,
				      struct fault *fault);
/* NULL does nothing. */
void ctd_archive_free(struct ctd_archive *x);
const struct archive_images *ctd_archive_images(const struct ctd_archive *x);
