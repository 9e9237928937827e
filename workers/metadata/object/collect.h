/*
 * Garbage among objects: content, snapshots and ingests that nothing leads to.
 * What is needed, and what it needs in turn:
 *
 *   an image               its target
 *   a container, a sandbox its snapshot
 *   a lease                its resources, until its label containerd.io/gc.expire
 *   anything               what its labels containerd.io/gc.ref.* name
 *   content, a snapshot    itself, with the label containerd.io/gc.root
 *   a snapshot             its parent
 *   an ingest              itself, for a day, unless it began in a lease
 *
 * A blob stays as long as content of any namespace, an ingest that expects it
 * or an image of the CRI needs it.
 */
#pragma once

#include <stdbool.h>

struct metadata;

/* A change may have left some: looks soon, within half a minute. */
void collect_later(struct metadata *m);
/* Now; calls fn (may be NULL) once, when what was found is off the disk, or
 * couldn't be taken off it. */
void collect(struct metadata *m, void (*fn)(void *ctx), void *ctx);

/* The record of content is deleted: so is its blob, unless it is needed. */
void collect_blob(struct metadata *m, const char *digest);

/* Is the blob content of a namespace? */
bool objects_have_blob(const struct metadata *m, const char *digest);
/* Is it being written, or will it be? */
bool objects_expect_blob(const struct metadata *m, const char *digest);
