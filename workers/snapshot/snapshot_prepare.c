/*
 * snapshot_prepare: with overlayfs two folders, made at once. Without it a copy
 * of all layers, in a child.
 */
#include "workers/snapshot/copies.h"
#include "workers/snapshot/idmap.h"

#include "base/fd.h"
#include "base/id.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void done_reply(struct msg_request *r) {
	Bulkhead__Empty reply = BULKHEAD__EMPTY__INIT;
	snapshot_prepare_reply(r, &reply, NULL, 0);
}

/* The root that a container sees has the attributes of the upper folder: those
 * of the topmost layer's root go there, with the owner that it has in the pod's
 * user namespace. */
static int upper_fill(int dir, const struct layer *top, const Bulkhead__SnapshotPrepareRequest *m) {
	unsigned uid = idmap_host_id(m->uid_mappings, m->n_uid_mappings, top ? top->uid : 0);
	unsigned gid = idmap_host_id(m->gid_mappings, m->n_gid_mappings, top ? top->gid : 0);
	if (uid == (unsigned)-1 || gid == (unsigned)-1)
		return -EOVERFLOW;
	int r = room_folder(dir, "fs", top ? top->mode : 0755, uid, gid);
	if (r == 0 && mkdirat(dir, "work", 0700) < 0 && errno != EEXIST)
		r = -errno;
	return r;
}

/* A folder to make it in; its name there. */
static int stage_make(struct rooms *rooms, const Bulkhead__SnapshotPrepareRequest *m, int *ret_stage,
		      char ret_name[ROOMS_SPREAD_NAME]) {
	*ret_stage = m->beside_layers ? rooms->layers_staging : rooms->snapshots_spread;
	if (!m->beside_layers)
		return rooms_spread_make(rooms, m->key, ret_name);
	snprintf(ret_name, ROOMS_SPREAD_NAME, "%s", m->key);
	return mkdirat(*ret_stage, ret_name, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* It gets its name when it is whole. */
static int upper_make(struct rooms *rooms, const Bulkhead__SnapshotPrepareRequest *m, const struct layer *top) {
	int room = m->beside_layers ? rooms->layers_writable : rooms->snapshots;
	char name[ROOMS_SPREAD_NAME];
	int stage;
	int r = stage_make(rooms, m, &stage, name);
	if (r < 0)
		return r;
	CLEANUP_FD int dir = openat(stage, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = dir < 0 ? -errno : upper_fill(dir, top, m);
	if (r < 0)
		return r;
	return renameat2(stage, name, room, m->key, RENAME_NOREPLACE) < 0 ? -errno : 0;
}

static void overlay_prepare(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__SnapshotPrepareRequest *m,
			    const struct layer *top) {
	const char *key = m->key;
	struct snapshot *snapshot = NULL;
	int e = upper_make(&s->rooms, m, top);
	if (e == 0 && !(snapshot = snapshot_new(s, key)))
		e = -ENOMEM;
	if (e == 0) {
		snapshot->beside_layers = m->beside_layers;
		done_reply(r);
		return;
	}
	struct fault fault;
	fault_errno(&fault, e, "prepare snapshot \"%s\"", key);
	msg_fail(r, &fault);
}

/* --- copies --- */

struct preparing {
	struct snapshot_worker *worker;
	struct msg_request *request; /* whose arena holds this */
	struct snapshot *snapshot;
};

static void copied(void *ctx, const struct fault *fault) {
	struct preparing *p = ctx;
	struct msg_request *r = p->request;
	p->snapshot->copying = false;
	if (!fault) {
		done_reply(r);
		return;
	}
	struct fault f = *fault;
	fault_prefix(&f, 0, "prepare snapshot \"%s\"", p->snapshot->key);
	snapshot_free(p->worker, p->snapshot);
	msg_fail(r, &f);
}

static void copy_prepare(struct snapshot_worker *s, struct msg_request *r, const char *key,
			 const struct layer *const *layers, size_t n) {
	struct preparing *p = arena_zalloc(&r->arena, sizeof(*p));
	struct snapshot *snapshot = p ? snapshot_new(s, key) : NULL;
	int e = -ENOMEM;
	if (snapshot) {
		*p = (struct preparing){ .worker = s, .request = r, .snapshot = snapshot };
		e = copy_start(s, r, s->rooms.snapshots, snapshot->key, layers, n, copied, p);
	}
	if (e == 0) {
		snapshot->copying = true;
		return;
	}
	if (snapshot)
		snapshot_free(s, snapshot);
	struct fault fault;
	fault_errno(&fault, e, "prepare snapshot \"%s\"", key);
	msg_fail(r, &fault);
}

void on_snapshot_prepare(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__SnapshotPrepareRequest *m) {
	const struct layer **layers;
	if (!id_valid(m->key)) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "prepare snapshot \"%.80s\": that is no name for one", m->key);
		return;
	}
	struct snapshot *snapshot = snapshot_find(s, m->key);
	if (snapshot && snapshot->copying) {
		msg_failf(r, FAULT_ABORTED, "prepare snapshot \"%s\": it is being made already", m->key);
		return;
	}
	if (snapshot) {
		done_reply(r);
		return;
	}
	if (layers_resolve(s, r, m->parents, m->n_parents, &layers) < 0)
		return;
	if (s->overlay.usable)
		overlay_prepare(s, r, m, m->n_parents ? layers[0] : NULL);
	else
		copy_prepare(s, r, m->key, layers, m->n_parents);
}
