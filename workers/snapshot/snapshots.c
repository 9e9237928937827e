/* The containers' writable parts: the table, loading, removing, listing. */
#include "workers/snapshot/state.h"

#include "base/id.h"
#include "base/log.h"
#include "workers/snapshot/tree/remove.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct snapshot *snapshot_find(const struct snapshot_worker *s, const char *key) {
	struct map_node *n = map_find(&s->snapshots, key);
	return n ? container_of(n, struct snapshot, node) : NULL;
}

struct snapshot *snapshot_new(struct snapshot_worker *s, const char *key) {
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
	if (!snapshot)
		return NULL;
	snprintf(snapshot->key, sizeof(snapshot->key), "%s", key);
	if (map_insert(&s->snapshots, &snapshot->node, snapshot->key) < 0) {
		free(snapshot);
		return NULL;
	}
	return snapshot;
}

void snapshot_free(struct snapshot_worker *s, struct snapshot *snapshot) {
	map_remove(&s->snapshots, &snapshot->node);
	free(snapshot);
}

int snapshot_room(const struct snapshot_worker *s, const struct snapshot *snapshot) {
	return snapshot->beside_layers ? s->rooms.layers_writable : s->rooms.snapshots;
}

const char *snapshot_room_name(const struct snapshot *snapshot) {
	return snapshot->beside_layers ? ROOM_WRITABLE : ROOM_SNAPSHOTS;
}

static int room_load(struct snapshot_worker *s, int room, bool beside_layers, struct fault *fault) {
	int fd = openat(room, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return fault_errno(fault, errno, "read the folder of snapshots");
	int r = 0;
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		/* Others than ours are somebody's, and stay. */
		if (e->d_name[0] == '.' || !id_valid(e->d_name))
			continue;
		struct snapshot *snapshot = snapshot_new(s, e->d_name);
		if (snapshot)
			snapshot->beside_layers = beside_layers;
		else
			r = -ENOMEM;
	}
	closedir(d);
	return r < 0 ? fault_errno(fault, r, "read the folder of snapshots") : 0;
}

int snapshots_load(struct snapshot_worker *s, struct fault *fault) {
	int r = room_load(s, s->rooms.snapshots, false, fault);
	return r < 0 ? r : room_load(s, s->rooms.layers_writable, true, fault);
}

/* --- removing: a rename now, the rest when there is time --- */

static void on_snapshot_remove(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__Key *m) {
	struct snapshot *snapshot = snapshot_find(s, m->id);
	Bulkhead__Empty reply = BULKHEAD__EMPTY__INIT;
	if (!snapshot) {
		snapshot_remove_reply(r, &reply, NULL, 0);
		return;
	}
	if (snapshot->copying || snapshot->changing) {
		msg_failf(r, FAULT_ABORTED, "remove snapshot \"%s\": it is being %s", snapshot->key,
			  snapshot->copying ? "made" : "changed");
		return;
	}
	int trash = snapshot->beside_layers ? s->rooms.layers_trash : s->rooms.snapshots_trash;
	int e = trash_put(trash, snapshot_room(s, snapshot), snapshot->key);
	if (e < 0 && e != -ENOENT) {
		struct fault fault;
		fault_errno(&fault, e, "remove snapshot \"%s\"", snapshot->key);
		msg_fail(r, &fault);
		return;
	}
	snapshot_free(s, snapshot);
	reaper_soon(&s->reaper);
	snapshot_remove_reply(r, &reply, NULL, 0);
}

/* --- listing --- */

static void on_snapshot_list(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__Empty *m) {
	Bulkhead__SnapshotListReply reply = BULKHEAD__SNAPSHOT_LIST_REPLY__INIT;
	struct map_node *n;
	size_t pos;
	CLEANUP_FREE char **names = calloc(s->layers.n_nodes + s->snapshots.n_nodes + 1, sizeof(char *));
	if (!names) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "list snapshots: out of memory");
		return;
	}
	reply.layers = names;
	for (n = map_first(&s->layers, &pos); n; n = map_next(&s->layers, &pos, n)) {
		struct layer *l = container_of(n, struct layer, node);
		if (l->state == LAYER_COMMITTED)
			reply.layers[reply.n_layers++] = l->chain;
	}
	reply.snapshots = names + reply.n_layers;
	for (n = map_first(&s->snapshots, &pos); n; n = map_next(&s->snapshots, &pos, n))
		reply.snapshots[reply.n_snapshots++] = container_of(n, struct snapshot, node)->key;
	snapshot_list_reply(r, &reply, NULL, 0);
}

/* --- the table of handlers --- */

static void on_layer_unpack(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__LayerUnpackRequest *m) {
	layer_unpack_start(s, r, m);
}
static void on_layer_commit(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__LayerCommitRequest *m) {
	layer_commit_start(s, r, m);
}
static void on_layer_remove(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__Key *m) {
	layer_remove_start(s, r, m);
}
static void on_snapshot_prepare(struct snapshot_worker *s, struct msg_request *r,
				const Bulkhead__SnapshotPrepareRequest *m) {
	snapshot_prepare_start(s, r, m);
}
static void on_snapshot_mount(struct snapshot_worker *s, struct msg_request *r,
			      const Bulkhead__SnapshotMountRequest *m) {
	snapshot_mount_start(s, r, m);
}
static void on_snapshot_mount_mapped(struct snapshot_worker *s, struct msg_request *r,
				     const Bulkhead__SnapshotMountRequest *m) {
	snapshot_mount_start(s, r, m);
}
static void on_snapshot_mounts(struct snapshot_worker *s, struct msg_request *r,
			       const Bulkhead__SnapshotMountRequest *m) {
	snapshot_mounts_start(s, r, m);
}
static void on_snapshot_commit(struct snapshot_worker *s, struct msg_request *r,
			       const Bulkhead__SnapshotCommitRequest *m) {
	snapshot_commit_start(s, r, m);
}
static void on_snapshot_apply(struct snapshot_worker *s, struct msg_request *r,
			      const Bulkhead__SnapshotApplyRequest *m) {
	snapshot_apply_start(s, r, m);
}
static void on_snapshot_diff(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__SnapshotDiffRequest *m) {
	snapshot_diff_start(s, r, m);
}
static void on_snapshot_usage(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__Key *m) {
	snapshot_usage_start(s, r, m);
}
static void on_archive_write(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__ArchiveWriteRequest *m) {
	archive_write_start(s, r, m);
}
static void on_file_digest(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__Empty *m) {
	file_digest_start(s, r);
}
static void on_layer_file(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__LayerFileRequest *m) {
	layer_file_open(s, r, m);
}
static void on_snapshot_info(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__Empty *m) {
	snapshot_info_start(s, r);
}

HANDLER_DEFINE(struct snapshot_worker, archive_write)
HANDLER_DEFINE(struct snapshot_worker, file_digest)
HANDLER_DEFINE(struct snapshot_worker, layer_file)
HANDLER_DEFINE(struct snapshot_worker, layer_unpack)
HANDLER_DEFINE(struct snapshot_worker, layer_commit)
HANDLER_DEFINE(struct snapshot_worker, layer_remove)
HANDLER_DEFINE(struct snapshot_worker, snapshot_prepare)
HANDLER_DEFINE(struct snapshot_worker, snapshot_mount)
HANDLER_DEFINE(struct snapshot_worker, snapshot_mount_mapped)
HANDLER_DEFINE(struct snapshot_worker, snapshot_mounts)
HANDLER_DEFINE(struct snapshot_worker, snapshot_commit)
HANDLER_DEFINE(struct snapshot_worker, snapshot_apply)
HANDLER_DEFINE(struct snapshot_worker, snapshot_diff)
HANDLER_DEFINE(struct snapshot_worker, snapshot_remove)
HANDLER_DEFINE(struct snapshot_worker, snapshot_usage)
HANDLER_DEFINE(struct snapshot_worker, snapshot_list)
HANDLER_DEFINE(struct snapshot_worker, snapshot_info)

const struct link_handler snapshot_handlers[] = {
	HANDLER(layer_unpack),	  HANDLER(layer_commit),
	HANDLER(layer_remove),	  HANDLER(snapshot_prepare),
	HANDLER(snapshot_mount),  HANDLER(snapshot_mounts),
	HANDLER(snapshot_commit), HANDLER(snapshot_apply),
	HANDLER(snapshot_diff),	  HANDLER(snapshot_remove),
	HANDLER(snapshot_usage),  HANDLER(snapshot_list),
	HANDLER(snapshot_info),	  HANDLER(snapshot_mount_mapped),
	HANDLER(archive_write),	  HANDLER(file_digest),
	HANDLER(layer_file),	  { 0 },
};
