/*
 * snapshot_diff: an archive of what one folder has, in overlayfs's form, as a
 * layer has it. The archive is made in a file without a name and then encoded
 * into the descriptor, by a child, which is jailed once it looks into files
 * (diff.h): nothing of the folder is interpreted, names and bytes are only copied.
 */
#include "workers/snapshot/diff.h"
#include "workers/snapshot/encode.h"
#include "workers/snapshot/state.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct packing {
	struct snapshot_worker *worker;
	struct msg_request *request; /* whose arena holds this */
	const Bulkhead__SnapshotDiffRequest *m;
	struct child *child;
	int folder; /* -1: nothing */
	int output;
};

/* In a child's values: two texts after the number. */
#define VALUE_SIZE 0
#define VALUE_DIGEST 1
#define VALUE_DIFF_ID 10
#define TEXT_SIZE (9 * sizeof(uint64_t))
_Static_assert(TEXT_SIZE == sizeof(((struct encode_result *)0)->digest), "a digest's text");
_Static_assert(VALUE_DIFF_ID + 9 <= CHILD_VALUES, "");

static int pack(const struct packing *p, struct encode_result *ret_result, struct fault *fault) {
	CLEANUP_FD int file = openat(p->worker->rooms.layers_staging, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct tar_writer w = { .fd = file, .mtime_max = p->m->latest };
	if (file < 0)
		return fault_errno(fault, errno, "make a file for the archive");
	int r = p->folder < 0 ? 0 : diff_write(&w, p->folder, fault);
	if (r < 0)
		return r;
	tar_write_end(&w);
	/* The descriptor's other users may have liked it otherwise. */
	fcntl(p->output, F_SETFL, 0);
	return encode_file(file, w.at, p->output, (enum encoding)p->m->compression, ret_result, fault);
}

static int pack_run(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	struct encode_result result;
	int r = pack(arg, &result, fault);
	if (r < 0)
		return r;
	ret_values[VALUE_SIZE] = result.size;
	memcpy(&ret_values[VALUE_DIGEST], result.digest, TEXT_SIZE);
	memcpy(&ret_values[VALUE_DIFF_ID], result.diff_id, TEXT_SIZE);
	return 0;
}

static void packed(void *ctx, const struct child_result *result) {
	struct packing *p = ctx;
	struct msg_request *r = p->request;
	Bulkhead__SnapshotDiffReply reply = BULKHEAD__SNAPSHOT_DIFF_REPLY__INIT;
	char digest[TEXT_SIZE], diff_id[TEXT_SIZE];
	r->cancelled = NULL;
	if (result->fault.code != FAULT_NONE) {
		struct fault fault = result->fault;
		fault_prefix(&fault, 0, "pack snapshot \"%s\"", *p->m->key ? p->m->key : p->m->layer);
		msg_fail(r, &fault);
		return;
	}
	memcpy(digest, &result->values[VALUE_DIGEST], TEXT_SIZE);
	memcpy(diff_id, &result->values[VALUE_DIFF_ID], TEXT_SIZE);
	reply.digest = digest;
	reply.diff_id = diff_id;
	reply.size = result->values[VALUE_SIZE];
	snapshot_diff_reply(r, &reply, NULL, 0);
}

static void packing_cancelled(struct msg_request *r, void *ctx) {
	struct packing *p = ctx;
	r->cancelled = NULL;
	child_kill(p->child);
}

/* The folder that the request names; -1 for none, -ENOENT. */
static int folder_open(const struct snapshot_worker *s, const Bulkhead__SnapshotDiffRequest *m) {
	if (*m->key) {
		const struct snapshot *snapshot = snapshot_find(s, m->key);
		return snapshot ? upper_open(snapshot_room(s, snapshot), snapshot->key) : -ENOENT;
	}
	if (!*m->layer)
		return -1;
	const struct layer *l = layer_find(s, m->layer);
	return l && l->state == LAYER_COMMITTED ? upper_open(s->rooms.layers, l->name) : -ENOENT;
}

static int packing_start(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__SnapshotDiffRequest *m) {
	CLEANUP_FD int folder = folder_open(s, m);
	struct packing *p = arena_zalloc(&r->arena, sizeof(*p));
	if (!p || folder < -1)
		return p ? folder : -ENOMEM;
	*p = (struct packing){ .worker = s, .request = r, .m = m, .folder = folder, .output = r->fds[0] };
	const struct child_options options = {
		.name = "pack",
		.keep = { s->rooms.layers_staging, p->output, folder },
		.n_keep = 3,
		.run = pack_run,
		.arg = p,
		.done = packed,
		.ctx = p,
	};
	int e = child_start(s->loop, &options, &p->child);
	if (e < 0)
		return e;
	/* The child has it; here it would keep the pipe from ending. */
	fd_close_p(&r->fds[0]);
	r->cancelled = packing_cancelled;
	r->cancelled_ctx = p;
	return 0;
}

void on_snapshot_diff(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__SnapshotDiffRequest *m) {
	struct fault fault;
	if (!s->overlay.usable) {
		msg_failf(r, FAULT_UNIMPLEMENTED, "without overlayfs nobody knows what a snapshot has changed");
		return;
	}
	if ((unsigned)m->compression > BULKHEAD__COMPRESSION__COMPRESSION_ZSTD) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "there is no compression %d", (int)m->compression);
		return;
	}
	int e = packing_start(s, r, m);
	if (e < 0) {
		fault_errno(&fault, e, "pack snapshot \"%.80s\"", *m->key ? m->key : m->layer);
		msg_fail(r, &fault);
	}
}
