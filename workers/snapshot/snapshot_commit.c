/*
 * snapshot_commit: a writable folder becomes a layer by a change of its name, in
 * a child, since writing it to disk may take long. Whiteouts and opaque folders
 * of an upper folder are what a lower one has, too.
 *
 * After a failure it is writable as before. Whoever asks again when the layer is
 * there is told so.
 */
#include "workers/snapshot/state.h"

#include "base/fd.h"
#include "base/id.h"
#include "tree/remove.h"
#include "workers/snapshot/unpack/commit.h"

#include <fcntl.h>
#include <stdio.h>

struct sealing {
	struct snapshot_worker *worker;
	struct msg_request *request; /* whose arena holds this */
	struct snapshot *snapshot;
	struct layer *layer;
	struct child *child;
	char staged[128];
};

static void layer_reply(struct msg_request *r, const struct layer *l) {
	Bulkhead__LayerUnpackReply reply = BULKHEAD__LAYER_UNPACK_REPLY__INIT;
	reply.size = l->usage.size;
	reply.inodes = l->usage.inodes;
	snapshot_commit_reply(r, &reply, NULL, 0);
}

static int seal_run(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	struct sealing *c = arg;
	const struct commit_job job = { .layers = c->worker->rooms.layers,
					.staged = c->staged,
					.name = c->layer->name };
	CLEANUP_FD int dir = openat(job.layers, c->staged, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	CLEANUP_FD int fs = dir < 0 ? -1 : openat(dir, "fs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r = fs < 0 ? -errno : usage_tree(fs, 0, &c->layer->usage);
	if (r == 0)
		r = layer_record_write(dir, c->layer);
	if (r < 0)
		return fault_errno(fault, r, "count its files");
	ret_values[0] = c->layer->usage.size;
	ret_values[1] = c->layer->usage.inodes;
	return commit_durable(&job, dir, fault);
}

/* A layer has no use for the folder that overlayfs worked in. */
static void work_remove(struct snapshot_worker *s, const struct layer *l) {
	CLEANUP_FD int dir = openat(s->rooms.layers, l->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir >= 0 && trash_put(s->rooms.layers_trash, dir, "work") == 0)
		reaper_soon(&s->reaper);
}

static void sealed(void *ctx, const struct child_result *result) {
	struct sealing *c = ctx;
	struct msg_request *r = c->request;
	struct layer *l = c->layer;
	struct fault fault = result->fault;
	int e = fault.code == FAULT_NONE ? layer_root_read(c->worker, l) : 0;
	if (e < 0)
		fault_errno(&fault, e, "read the layer's root");
	c->snapshot->changing = false;
	if (fault.code != FAULT_NONE) {
		fault_prefix(&fault, 0, "commit snapshot \"%s\"", c->snapshot->key);
		layer_free(c->worker, l);
		msg_fail(r, &fault);
		return;
	}
	l->state = LAYER_COMMITTED;
	l->usage = (struct usage){ .size = result->values[0], .inodes = result->values[1] };
	snapshot_free(c->worker, c->snapshot);
	work_remove(c->worker, l);
	layer_reply(r, l);
}

static int seal(struct snapshot_worker *s, struct msg_request *r, struct snapshot *snapshot, const char *id) {
	struct sealing *c = arena_zalloc(&r->arena, sizeof(*c));
	struct layer *l = c ? layer_new(s, id) : NULL;
	if (!l)
		return -ENOMEM;
	*c = (struct sealing){ .worker = s, .request = r, .snapshot = snapshot, .layer = l };
	snprintf(c->staged, sizeof(c->staged), ROOM_WRITABLE "/%s", snapshot->key);
	const struct child_options options = {
		.name = "commit",
		.keep = { s->rooms.layers },
		.n_keep = 1,
		.run = seal_run,
		.arg = c,
		.done = sealed,
		.ctx = c,
	};
	int e = child_start(s->loop, &options, &c->child);
	if (e < 0) {
		layer_free(s, l);
		return e;
	}
	l->state = LAYER_COMMITTING;
	snapshot->changing = true;
	return 0;
}

void on_snapshot_commit(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__SnapshotCommitRequest *m) {
	const struct layer *l = layer_find(s, m->layer);
	struct snapshot *snapshot = snapshot_find(s, m->key);
	struct fault fault;
	if (l && l->state == LAYER_COMMITTED) {
		layer_reply(r, l);
		return;
	}
	if (l || (snapshot && snapshot->changing)) {
		msg_failf(r, FAULT_ABORTED, "commit snapshot \"%.80s\": it is being changed", m->key);
		return;
	}
	if (!snapshot || !layer_id_valid(m->layer)) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "commit snapshot \"%.80s\": there is none of that name",
			  m->key);
		return;
	}
	if (!snapshot->beside_layers) {
		msg_failf(r, FAULT_UNIMPLEMENTED, "commit snapshot \"%s\": it is a copy of its layers, not a layer",
			  snapshot->key);
		return;
	}
	int e = seal(s, r, snapshot, m->layer);
	if (e < 0) {
		fault_errno(&fault, e, "commit snapshot \"%s\"", snapshot->key);
		msg_fail(r, &fault);
	}
}
