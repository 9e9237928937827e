/*
 * Garbage: layers that no image, no container and no pull refers to, and blobs
 * that belong to no image and no pull.
 */
#pragma once

#include "msg/msg.h"

struct metadata;

/* How long the layers and blobs of a pull that failed are kept for the next try. */
#define GC_LEASE_NS (INT64_C(600) * 1000000000)

/* Removes layers without an owner; fn (may be NULL) is called when that is
 * done, whether or not all of it succeeded. Blobs of the image named by the
 * lists go too, unless others need them. */
void gc_run(struct metadata *m);
/* A container's snapshot is gone: its image may have been the last user. */
void gc_after_container(struct metadata *m);
/* Removes every blob and layer that is on disk without an owner; at start. */
void gc_full(struct metadata *m);
