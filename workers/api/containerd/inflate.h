/*
 * Bytes of a client's that are compressed, decompressed elsewhere (a child of the
 * snapshot worker's that can do nothing else): in by one pipe, out by another.
 */
#pragma once

#include "workers/api/containerd/containerd.h"

struct ctd_inflate;

/* moved is called, never from within these functions, when more can be pushed or
 * read, and with a fault when it has failed. NULL: the fault says why not. */
struct ctd_inflate *ctd_inflate_new(struct grpc_call *call, void (*moved)(void *ctx, const struct fault *fault),
				    void *ctx, struct fault *fault);
/* NULL does nothing. */
void ctd_inflate_free(struct ctd_inflate *i);
/* Takes what it can out of in. True: it took some. */
bool ctd_inflate_push(struct ctd_inflate *i, struct buffer *in);
/* Nothing more will be pushed. */
void ctd_inflate_end(struct ctd_inflate *i);
/* Adds what there is to out, up to max bytes in it. True: there was some. */
bool ctd_inflate_read(struct ctd_inflate *i, struct buffer *out, size_t max);
/* All has been read, and it was good. */
bool ctd_inflate_over(const struct ctd_inflate *i);
