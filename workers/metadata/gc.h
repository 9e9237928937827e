/*
 * Garbage: layers that no image, no container, no snapshot object and no pull
 * refers to, blobs that belong to no image and no pull, folders of neither a
 * container nor a snapshot object.
 *
 * A layer's record goes first, then the layer: what a crash leaves has no
 * record, and gc_full finds it.
 */
#pragma once

#include "msg/msg.h"

#include <stdbool.h>

struct metadata;

/* How long the layers of a pull that failed are kept for the next try. */
#define GC_LEASE_NS (INT64_C(600) * 1000000000)

/* Removes layers without an owner, then calls fn (may be NULL) once, whether
 * or not all of it worked; what didn't is tried again by the next gc_full. */
void gc_layers(struct metadata *m, void (*fn)(void *ctx), void *ctx);
/* Removes those of the digests that nothing needs. */
void gc_blobs(struct metadata *m, char *const *digests, size_t n, void (*fn)(void *ctx), void *ctx);
/* Has an image, or content of a namespace, the blob? */
bool gc_blob_owned(struct metadata *m, const char *digest);
/* Something that held layers is gone: looks a little later. */
void gc_later(struct metadata *m);
/* Compares records with what lies on disk; after each start of a peer. */
void gc_snapshots(struct metadata *m);
void gc_content(struct metadata *m);
