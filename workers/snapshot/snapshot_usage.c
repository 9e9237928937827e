/*
 * snapshot_usage and snapshot_info. A small upper folder is counted right here;
 * a large one, and all of them together, in a child.
 */
#include "workers/snapshot/state.h"

#include "base/clock.h"
#include "base/fd.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

/* So many entries take about a millisecond. */
#define AT_ONCE 500
/* How long the sum of all snapshots is good for. */
#define FRESH (10 * NS_PER_SEC)

int upper_open(int room, const char *key) {
	char path[128];
	snprintf(path, sizeof(path), "%.80s/fs", key);
	int fd = openat(room, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static void usage_reply(const struct snapshot_worker *s, struct msg_request *r, const struct usage *usage) {
	Bulkhead__SnapshotUsageReply reply = BULKHEAD__SNAPSHOT_USAGE_REPLY__INIT;
	struct statvfs fs;
	reply.size = usage->size;
	reply.inodes = usage->inodes;
	reply.changed_at = usage->changed_at;
	if (fstatvfs(s->rooms.snapshots, &fs) == 0) {
		reply.fs_size = (uint64_t)fs.f_blocks * fs.f_frsize;
		reply.fs_inodes = fs.f_files;
		reply.fs_inodes_free = fs.f_favail;
	}
	snapshot_usage_reply(r, &reply, NULL, 0);
}

/* --- one snapshot --- */

struct counting {
	const struct snapshot_worker *s;
	struct msg_request *request; /* whose arena holds this */
	struct child *child;
	int root;
};

static int count_run(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	const struct counting *c = arg;
	struct usage usage;
	int r = usage_tree(c->root, 0, &usage);
	if (r < 0)
		return fault_errno(fault, r, "count its files");
	ret_values[0] = usage.size;
	ret_values[1] = usage.inodes;
	ret_values[2] = (uint64_t)usage.changed_at;
	return 0;
}

static void counted(void *ctx, const struct child_result *result) {
	struct counting *c = ctx;
	const struct usage usage = { result->values[0], result->values[1], (int64_t)result->values[2] };
	if (result->fault.code == FAULT_NONE)
		usage_reply(c->s, c->request, &usage);
	else
		msg_fail(c->request, &result->fault);
}

static int count_in_child(struct snapshot_worker *s, struct msg_request *r, int root) {
	struct counting *c = arena_zalloc(&r->arena, sizeof(*c));
	if (!c)
		return -ENOMEM;
	*c = (struct counting){ .s = s, .request = r, .root = root };
	const struct child_options options = {
		.name = "usage",
		.nice = 5,
		.keep = { root },
		.n_keep = 1,
		.run = count_run,
		.arg = c,
		.done = counted,
		.ctx = c,
	};
	return child_start(s->loop, &options, &c->child);
}

void on_snapshot_usage(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__Key *m) {
	const struct snapshot *snapshot = snapshot_find(s, m->id);
	struct usage usage;
	if (!snapshot) {
		msg_failf(r, FAULT_NOT_FOUND, "usage of snapshot \"%.80s\": there is none of that name", m->id);
		return;
	}
	CLEANUP_FD int root = upper_open(snapshot_room(s, snapshot), snapshot->key);
	int e = root < 0 ? root : usage_tree(root, AT_ONCE, &usage);
	if (e == 0) {
		usage_reply(s, r, &usage);
		return;
	}
	if (e == -E2BIG)
		e = count_in_child(s, r, root);
	if (e < 0) {
		struct fault fault;
		fault_errno(&fault, e, "usage of snapshot \"%s\"", snapshot->key);
		msg_fail(r, &fault);
	}
}

/* --- everything --- */

struct info_wait {
	struct list node;
	struct msg_request *request; /* whose arena holds this */
};

static void info_reply(struct snapshot_worker *s, struct msg_request *r) {
	Bulkhead__SnapshotInfoReply reply = BULKHEAD__SNAPSHOT_INFO_REPLY__INIT;
	char mountpoint[512];
	size_t pos;
	snprintf(mountpoint, sizeof(mountpoint), "%s/layers", s->state_root);
	reply.driver = s->overlay.usable ? "overlayfs" : "copy";
	reply.mountpoint = mountpoint;
	reply.mapped = s->mapped;
	reply.used_bytes = s->snapshots_usage.size;
	reply.used_inodes = s->snapshots_usage.inodes;
	for (struct map_node *n = map_first(&s->layers, &pos); n; n = map_next(&s->layers, &pos, n)) {
		const struct layer *l = container_of(n, struct layer, node);
		reply.used_bytes += l->usage.size;
		reply.used_inodes += l->usage.inodes;
	}
	snapshot_info_reply(r, &reply, NULL, 0);
}

static int measure_run(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	const struct snapshot_worker *s = arg;
	size_t pos;
	for (struct map_node *n = map_first(&s->snapshots, &pos); n; n = map_next(&s->snapshots, &pos, n)) {
		struct usage usage;
		const struct snapshot *one = container_of(n, struct snapshot, node);
		CLEANUP_FD int root = upper_open(snapshot_room(s, one), one->key);
		/* Gone meanwhile, or too large to be counted: the others still are. */
		if (root < 0 || usage_tree(root, 0, &usage) < 0)
			continue;
		ret_values[0] += usage.size;
		ret_values[1] += usage.inodes;
	}
	return 0;
}

static void info_reply_all(struct snapshot_worker *s) {
	for (struct list *n; (n = list_pop(&s->info_waiting));)
		info_reply(s, list_entry(n, struct info_wait, node)->request);
}

/* Where it failed, the last sum is better than none. */
static void measured(void *ctx, const struct child_result *result) {
	struct snapshot_worker *s = ctx;
	s->measuring = NULL;
	if (result->fault.code == FAULT_NONE) {
		s->measured = clock_mono();
		s->snapshots_usage = (struct usage){ .size = result->values[0], .inodes = result->values[1] };
	}
	info_reply_all(s);
}

void on_snapshot_info(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__Empty *m) {
	bool fresh = s->measured && clock_mono() - s->measured < FRESH;
	struct info_wait *w = NULL;
	if (s->snapshots.n_nodes == 0)
		s->snapshots_usage = (struct usage){ 0 };
	if (s->snapshots.n_nodes && !fresh)
		w = arena_zalloc(&r->arena, sizeof(*w));
	if (!w) {
		info_reply(s, r);
		return;
	}
	w->request = r;
	list_append(&s->info_waiting, &w->node);
	if (s->measuring)
		return;
	const struct child_options options = {
		.name = "measure",
		.nice = 5,
		.keep = { s->rooms.snapshots, s->rooms.layers_writable },
		.n_keep = 2,
		.run = measure_run,
		.arg = s,
		.done = measured,
		.ctx = s,
	};
	if (child_start(s->loop, &options, &s->measuring) < 0)
		info_reply_all(s);
}
