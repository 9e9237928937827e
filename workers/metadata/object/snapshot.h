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

#include "base/id.h"
#include "internal/snapshot.pb-c.h"
#include "workers/metadata/object/object.h"

/* Where folders of active ones and layers lie, below the state root. */
#define SNAPSHOT_ROOM "layers/.writable"
#define SNAPSHOT_LAYERS "layers"
/* What a view of no layers shows. */
#define SNAPSHOT_EMPTY "layers/.empty/1"

/* --- life --- */

#define SNAPSHOT_TIMEOUT_NS (120 * NS_PER_SEC)

/* The id of the layer that diff_id makes on top of the layers; false when one of
 * them has no chain id. */
bool snapshot_chain_id(char *const *layers, size_t n, const char *diff_id, char ret_id[LAYER_ID_SIZE]);
/* Tells who follows events: "prepare", "commit", "remove" of the one with that key;
 * record is what it has become. */
void snapshot_tell(struct metadata *m, const char *what, const char *key, const Bulkhead__Object *record);
/* The object goes, then its folder; a client's or a collection's doing is told. */
int snapshot_remove_object(struct metadata *m, struct object *x) NODISCARD;
/* The same untold. */
int snapshot_drop(struct metadata *m, struct object *x) NODISCARD;
/* Refuses as long as others are made on it. */
int snapshot_may_delete(struct metadata *m, const struct object *x, struct fault *fault);
/* The one that is becoming the committed one of that name; NULL: none. */
struct object *snapshot_becoming(const struct metadata *m, const char *namespace, const char *name);
/* Goes on with a commit that an earlier process has begun. */
void snapshot_seal_resume(struct metadata *m, struct object *x);

/* What the CRI's images and containers are, in its namespace. */
extern const struct object_view snapshot_view;
struct container;
/* In the arena; NULL: out of memory. */
Bulkhead__Object *snapshot_view_of_container(struct arena *a, const struct container *c);

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
