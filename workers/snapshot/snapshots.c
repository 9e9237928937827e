/* The containers' writable parts: the table, loading, removing, listing. */
#include "workers/snapshot/state.h"

#include "base/id.h"
#include "base/log.h"
#include "tree/remove.h"

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

void on_snapshot_remove(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__Key *m) {
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

void on_snapshot_list(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__Empty *m) {
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
