/*
 * snapshot_apply: unpack -> settle.
 *
 * The archive is unpacked beside the writable folder by a jailed child, as a
 * layer is; a second one does what needs the layers below and capabilities, and
 * exchanges the two folders. Until then the snapshot is as it was, whatever
 * fails or is killed.
 */
#include "workers/snapshot/state.h"

#include "base/clock.h"
#include "base/fd.h"
#include "tree/remove.h"
#include "workers/snapshot/unpack/commit.h"
#include "workers/snapshot/unpack/unpack.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* In a child's values: the diff id's text comes after the numbers. */
#define VALUE_SIZE 0
#define VALUE_TEXT 1
_Static_assert((CHILD_VALUES - VALUE_TEXT) * sizeof(uint64_t) >= sizeof(((struct unpack_result *)0)->diff_id), "");

struct applying {
	struct unpack_turn turn;
	struct snapshot_worker *worker;
	struct msg_request *request; /* whose arena holds this */
	struct snapshot *snapshot;
	struct child *child;
	struct unpack_job job;
	bool sync;
	char staged[128];
	const char **parents; /* names, top first */
	size_t n_parents;
	char diff_id[72];
	uint64_t size;
};

/* Whatever has become of it, there is nothing more to do. */
static void applying_end(struct applying *a) {
	struct snapshot_worker *s = a->worker;
	a->request->cancelled = NULL;
	a->snapshot->changing = false;
	list_unlink(&a->turn.node);
	fd_close(a->job.input);
	fd_close(a->job.tree);
	fd_close(a->job.report);
	if (trash_put(s->rooms.layers_trash, s->rooms.layers_staging, a->snapshot->key) == 0)
		reaper_soon(&s->reaper);
}

static void applying_fail(struct applying *a, struct fault *fault) {
	fault_prefix(fault, 0, "apply onto snapshot \"%s\"", a->snapshot->key);
	applying_end(a);
	msg_fail(a->request, fault);
}

/* --- settle ----------------------------------------------------------------- */

/* Whatever is changed from now on gets a later time: the kernel's clock for files
 * goes by ticks. */
static int64_t moment_wait(void) {
	int64_t now = clock_real();
	struct timespec coarse;
	for (;;) {
		clock_gettime(CLOCK_REALTIME_COARSE, &coarse);
		if (coarse.tv_sec * NS_PER_SEC + coarse.tv_nsec > now)
			return now;
		poll(NULL, 0, 1);
	}
}

static int settle_run(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	const struct applying *a = arg;
	int layers = a->worker->rooms.layers;
	const struct commit_job job = {
		.layers = layers, .staged = a->staged, .parents = a->parents, .n_parents = a->n_parents
	};
	char from[160], to[160];
	CLEANUP_FD int staged = openat(layers, a->staged, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r = staged < 0 ? fault_errno(fault, errno, "open what was unpacked") : commit_resolve(&job, staged, fault);
	if (r < 0)
		return r;
	if (a->sync && syncfs(staged) < 0)
		return fault_errno(fault, errno, "write it to disk");
	snprintf(from, sizeof(from), "%s/fs", a->staged);
	snprintf(to, sizeof(to), ROOM_WRITABLE "/%s/fs", a->snapshot->key);
	if (renameat2(layers, from, layers, to, RENAME_EXCHANGE) < 0)
		return fault_errno(fault, errno, "put it in its place");
	ret_values[0] = (uint64_t)moment_wait();
	return 0;
}

static void settled(void *ctx, const struct child_result *result) {
	struct applying *a = ctx;
	Bulkhead__SnapshotApplyReply reply = BULKHEAD__SNAPSHOT_APPLY_REPLY__INIT;
	struct fault fault = result->fault;
	a->child = NULL;
	if (fault.code != FAULT_NONE) {
		applying_fail(a, &fault);
		return;
	}
	reply.diff_id = a->diff_id;
	reply.size = a->size;
	reply.applied_at = (int64_t)result->values[0];
	applying_end(a);
	snapshot_apply_reply(a->request, &reply, NULL, 0);
}

static int settle(struct applying *a) {
	const struct child_options options = {
		.name = "apply",
		.keep = { a->worker->rooms.layers },
		.n_keep = 1,
		.run = settle_run,
		.arg = a,
		.done = settled,
		.ctx = a,
	};
	return child_start(a->worker->loop, &options, &a->child);
}

/* --- unpack ----------------------------------------------------------------- */

static void unpacked(void *ctx, const struct child_result *result) {
	struct applying *a = ctx;
	struct snapshot_worker *s = a->worker;
	struct fault fault = result->fault;
	a->child = NULL;
	if (fault.code == FAULT_NONE) {
		a->size = result->values[VALUE_SIZE];
		memcpy(a->diff_id, &result->values[VALUE_TEXT], sizeof(a->diff_id));
		int r = settle(a);
		if (r < 0)
			fault_errno(&fault, r, "start to put it in its place");
	}
	if (fault.code != FAULT_NONE)
		applying_fail(a, &fault);
	unpack_turn_end(s);
}

static int unpack_in_child(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	const struct applying *a = arg;
	struct unpack_result result = { 0 };
	int r = unpack_run(&a->job, &result, fault);
	if (r < 0)
		return r;
	ret_values[VALUE_SIZE] = result.size;
	memcpy(&ret_values[VALUE_TEXT], result.diff_id, sizeof(result.diff_id));
	return 0;
}

static int unpack_start(struct unpack_turn *t) {
	struct applying *a = container_of(t, struct applying, turn);
	const struct child_options options = {
		.name = "unpack",
		.keep = { a->job.input, a->job.tree, a->job.report },
		.n_keep = 3,
		.run = unpack_in_child,
		.arg = a,
		.done = unpacked,
		.ctx = a,
	};
	int r = child_start(a->worker->loop, &options, &a->child);
	if (r < 0) {
		struct fault fault;
		fault_errno(&fault, r, "start the unpacker");
		applying_fail(a, &fault);
	}
	return r;
}

static void applying_cancelled(struct msg_request *r, void *ctx) {
	struct applying *a = ctx;
	struct fault fault;
	r->cancelled = NULL;
	if (a->child) {
		child_kill(a->child);
		return;
	}
	fault_set(&fault, FAULT_CANCELLED, "the caller gave up");
	applying_fail(a, &fault);
}

/* --- the request ------------------------------------------------------------ */

/* 1: there is nothing in it. */
static int is_empty(const struct snapshot_worker *s, const struct snapshot *snapshot) {
	int fd = upper_open(snapshot_room(s, snapshot), snapshot->key);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return fd < 0 ? fd : -errno;
	int empty = 1;
	for (struct dirent *e; empty && (e = readdir(d));)
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
	closedir(d);
	return empty;
}

static int may_apply(const struct snapshot_worker *s, const struct snapshot *snapshot, const char *key,
		     struct fault *fault) {
	if (!snapshot)
		return fault_set(fault, FAULT_NOT_FOUND, "apply onto snapshot \"%.80s\": there is none of that name",
				 key);
	if (!snapshot->beside_layers)
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "apply onto snapshot \"%s\": it is a copy of its layers, which takes no layer", key);
	if (snapshot->changing)
		return fault_set(fault, FAULT_ABORTED, "apply onto snapshot \"%s\": it is being changed", key);
	int r = is_empty(s, snapshot);
	if (r < 0)
		return fault_errno(fault, r, "apply onto snapshot \"%s\"", key);
	return r ? 0
		 : fault_set(fault, FAULT_FAILED_PRECONDITION,
			     "apply onto snapshot \"%s\": there is something in it already: commit it, and apply onto "
			     "a snapshot of that",
			     key);
}

static struct applying *applying_new(struct snapshot_worker *s, struct msg_request *r, struct snapshot *snapshot,
				     const Bulkhead__SnapshotApplyRequest *m, const struct layer *const *layers) {
	struct applying *a = arena_zalloc(&r->arena, sizeof(*a));
	const char **names = arena_alloc(&r->arena, (m->n_parents + 1) * sizeof(*names));
	if (!a || !names)
		return NULL;
	for (size_t i = 0; i < m->n_parents; i++)
		names[i] = layers[i]->name;
	*a = (struct applying){
		.turn.run = unpack_start,
		.worker = s,
		.request = r,
		.snapshot = snapshot,
		.sync = m->sync,
		.parents = names,
		.n_parents = m->n_parents,
		.job = {
			.input = take_fd(&r->fds[0]),
			.tree = -1,
			.report = -1,
			.decode = { UNPACK_SIZE_MAX, UNPACK_RATIO_MAX, UNPACK_RATIO_FROM },
			.extract = { UNPACK_ENTRIES_MAX },
		},
	};
	list_init(&a->turn.node);
	snprintf(a->staged, sizeof(a->staged), ROOM_STAGING "/%s", snapshot->key);
	return a;
}

static void apply(struct applying *a) {
	struct msg_request *r = a->request;
	struct fault fault;
	int dir = -1;
	a->snapshot->changing = true;
	r->cancelled = applying_cancelled;
	r->cancelled_ctx = a;
	int e = unpack_staging_open(a->worker, a->snapshot->key, &a->job, &dir, &fault);
	fd_close(dir);
	if (e < 0)
		applying_fail(a, &fault);
	else
		unpack_turn_wait(a->worker, &a->turn);
}

void on_snapshot_apply(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__SnapshotApplyRequest *m) {
	struct snapshot *snapshot = snapshot_find(s, m->key);
	const struct layer **layers;
	struct fault fault;
	if (may_apply(s, snapshot, m->key, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if (layers_resolve(s, r, m->parents, m->n_parents, &layers) < 0)
		return;
	struct applying *a = applying_new(s, r, snapshot, m, layers);
	if (a)
		apply(a);
	else
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "apply onto snapshot \"%s\": out of memory", m->key);
}
