/*
 * Snapshots of containerd's clients: objects of OBJECT_SNAPSHOT over the folders
 * and layers of the snapshot worker, the same that the CRI uses.
 *
 *   active     a writable folder of its own (disk) on the layers below it
 *   view       nothing of its own: the layers alone, read-only
 *   committed  a layer (disk), which other objects and the CRI may share
 *
 * Folders and layers belong to their objects: what has none is garbage. An
 * object is made before its folder and dropped before it; when a crash leaves
 * an object without a folder, it goes, too.
 */
#pragma once

#include "internal/snapshot.pb-c.h"
#include "workers/metadata/object/object.h"

/* Where folders of active ones and layers lie, below the state root. */
#define SNAPSHOT_ROOM "layers/.writable"
#define SNAPSHOT_LAYERS "layers"
/* What a view of no layers shows. */
#define SNAPSHOT_EMPTY "layers/.empty/1"

/* --- garbage --- */

/* NULL: none has the folder. */
struct object *snapshot_by_disk(const struct metadata *m, const char *disk);
/* Whether the layer is what a commit that is under way makes. */
bool snapshot_seals(const struct metadata *m, const char *layer);
/* Calls fn for each layer that a snapshot needs. */
void snapshots_each_layer(struct metadata *m, void (*fn)(struct metadata *m, char *const *ids, size_t n));
/* The objects, compared with what lies on disk: those whose folder or layer is
 * gone go, and what a crash has left of a commit is finished. */
void snapshots_compare(struct metadata *m, const Bulkhead__SnapshotListReply *there);
