/*
 * One blob of a known size into the content store, as an ingest of the call's
 * namespace that a lease holds:
 *
 *   open -> bytes into the pipe, while "so many are written" is awaited ->
 *   commit, which checks the digest
 *
 * What the store has already isn't written again; its bytes are taken and
 * dropped.
 */
#pragma once

#include "workers/api/containerd/containerd.h"

struct ctd_blob;

struct ctd_blob_order {
	const char *ref, *lease;
	const char *expected; /* its digest; "": to be found out */
	uint64_t size;	      /* at least 1 */
};

/* moved is called, never from within these functions, when there is room, when
 * all is done, and with a fault when it has failed. NULL: out of memory. */
struct ctd_blob *ctd_blob_new(struct grpc_call *call, const struct ctd_blob_order *order,
			      void (*moved)(void *ctx, const struct fault *fault), void *ctx);
/* What isn't committed stays with the lease. NULL does nothing. */
void ctd_blob_free(struct ctd_blob *b);
/* How many of the bytes were taken. */
size_t ctd_blob_push(struct ctd_blob *b, const uint8_t *data, size_t n);
/* The digest, once it is content; NULL before. */
const char *ctd_blob_done(const struct ctd_blob *b);
