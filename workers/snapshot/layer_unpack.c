/*
 * layer_unpack: from the pipe to a folder in .staging.
 *
 * An unpacking waits until its pipe has bytes before it takes one of the few
 * unpackers: the layers of one image are asked for at once, but their bytes
 * come a few at a time, and an unpacker that waited for a layer whose turn
 * hasn't come could hold up the one whose bytes are there.
 */
#include "workers/snapshot/state.h"

#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "workers/snapshot/unpack/unpack.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct unpacking {
	struct unpack_turn turn;
	struct snapshot_worker *worker;
	struct msg_request *request;
	struct layer *layer;
	struct loop_source *bytes; /* until there are some */
	struct child *child;
	int dir; /* the layer's folder in .staging */
	struct unpack_job job;
};

static void unpacking_free(struct unpacking *u) {
	list_unlink(&u->turn.node);
	loop_source_free(u->bytes);
	fd_close(u->dir);
	fd_close(u->job.input);
	fd_close(u->job.tree);
	fd_close(u->job.report);
	free(u);
}

/* Ends it and its request; what was unpacked so far goes. */
static void unpacking_fail(struct unpacking *u, struct fault *fault) {
	struct msg_request *r = u->request;
	fault_prefix(fault, 0, "unpack layer %s", u->layer->chain);
	layer_staging_discard(u->worker, u->layer);
	layer_free(u->worker, u->layer);
	unpacking_free(u);
	msg_fail(r, fault);
}

static void layer_reply(struct msg_request *r, const struct usage *usage) {
	Bulkhead__LayerUnpackReply reply = BULKHEAD__LAYER_UNPACK_REPLY__INIT;
	reply.size = usage->size;
	reply.inodes = usage->inodes;
	layer_unpack_reply(r, &reply, NULL, 0);
}

static void unpacked(struct unpacking *u, const struct child_result *result) {
	struct layer *l = u->layer;
	struct msg_request *r = u->request;
	struct fault fault;
	l->usage = (struct usage){ .size = result->values[0], .inodes = result->values[1] };
	int e = layer_record_write(u->dir, l);
	if (e < 0) {
		fault_errno(&fault, e, "write the layer's record");
		unpacking_fail(u, &fault);
		return;
	}
	if (result->values[2])
		log_event(LOG_WARN, "the file system didn't take some extended attributes", "layer", l->chain, NULL);
	l->state = LAYER_UNPACKED;
	unpacking_free(u);
	layer_reply(r, &l->usage);
}

static void unpacker_done(void *ctx, const struct child_result *result) {
	struct unpacking *u = ctx;
	struct snapshot_worker *s = u->worker;
	struct fault fault = result->fault;
	u->child = NULL;
	if (fault.code == FAULT_NONE)
		unpacked(u, result);
	else
		unpacking_fail(u, &fault);
	unpack_turn_end(s);
}

static int unpacker_run(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	struct unpack_result result;
	int r = unpack_run(arg, &result, fault);
	if (r < 0)
		return r;
	ret_values[0] = result.extract.size;
	ret_values[1] = result.extract.inodes;
	ret_values[2] = result.extract.xattrs_skipped;
	return 0;
}

static int unpacker_start(struct unpack_turn *t) {
	struct unpacking *u = container_of(t, struct unpacking, turn);
	const struct child_options options = {
		.name = "unpack",
		.keep = { u->job.input, u->job.tree, u->job.report },
		.n_keep = 3,
		.run = unpacker_run,
		.arg = &u->job,
		.done = unpacker_done,
		.ctx = u,
	};
	int r = child_start(u->worker->loop, &options, &u->child);
	if (r < 0) {
		struct fault fault;
		fault_errno(&fault, r, "start the unpacker");
		unpacking_fail(u, &fault);
		return r;
	}
	/* The child has it; here it would keep the pipe from breaking. */
	fd_close_p(&u->job.input);
	return 0;
}

static void bytes_there(void *ctx, uint32_t events) {
	struct unpacking *u = ctx;
	loop_source_free_p(&u->bytes);
	unpack_turn_wait(u->worker, &u->turn);
}

/* The caller gave up, or is gone. */
static void unpacking_cancelled(struct msg_request *r, void *ctx) {
	struct unpacking *u = ctx;
	struct fault fault;
	r->cancelled = NULL;
	if (u->child) {
		child_kill(u->child);
		return;
	}
	fault_set(&fault, FAULT_CANCELLED, "the caller gave up");
	unpacking_fail(u, &fault);
}

static struct unpacking *unpacking_new(struct snapshot_worker *s, struct msg_request *r,
				       const Bulkhead__LayerUnpackRequest *m) {
	struct unpacking *u = calloc(1, sizeof(*u));
	struct layer *l = u ? layer_new(s, m->chain_id) : NULL;
	if (!l) {
		free(u);
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "unpack layer %s: out of memory", m->chain_id);
		return NULL;
	}
	*u = (struct unpacking){
		.turn.run = unpacker_start,
		.worker = s,
		.request = r,
		.layer = l,
		.dir = -1,
		.job = {
			.input = take_fd(&r->fds[0]),
			.tree = -1,
			.report = -1,
			.decode = { UNPACK_SIZE_MAX, UNPACK_RATIO_MAX, UNPACK_RATIO_FROM },
			.extract = { UNPACK_ENTRIES_MAX },
		},
	};
	list_init(&u->turn.node);
	snprintf(u->job.diff_id, sizeof(u->job.diff_id), "%s", m->diff_id);
	return u;
}

/* --- a layer that is there already --- */

struct draining {
	struct msg_request *request; /* whose arena holds this */
	struct child *child;
	int input;
	struct usage usage;
};

static int drain_run(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	static char nowhere[65536];
	const struct draining *d = arg;
	fcntl(d->input, F_SETFL, 0);
	while (read(d->input, nowhere, sizeof(nowhere)) > 0)
		continue;
	return 0;
}

static void drained(void *ctx, const struct child_result *result) {
	struct draining *d = ctx;
	layer_reply(d->request, &d->usage);
}

static void draining_cancelled(struct msg_request *r, void *ctx) {
	child_kill(((struct draining *)ctx)->child);
}

/* Whoever writes into the pipe must not find it broken: the same bytes go into
 * the content store. */
static void drain(struct snapshot_worker *s, struct msg_request *r, const struct layer *l) {
	struct draining *d = arena_zalloc(&r->arena, sizeof(*d));
	if (!d) {
		layer_reply(r, &l->usage);
		return;
	}
	*d = (struct draining){ .request = r, .input = r->fds[0], .usage = l->usage };
	const struct child_options options = {
		.name = "drain",
		.keep = { d->input },
		.n_keep = 1,
		.run = drain_run,
		.arg = d,
		.done = drained,
		.ctx = d,
	};
	if (child_start(s->loop, &options, &d->child) < 0) {
		layer_reply(r, &d->usage);
		return;
	}
	fd_close_p(&r->fds[0]);
	r->cancelled = draining_cancelled;
	r->cancelled_ctx = d;
}

/* Answers when there is nothing to unpack, or it can't be. What was unpacked
 * and never committed was somebody's who gave up: it is unpacked anew. */
static bool answered(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__LayerUnpackRequest *m) {
	if (!digest_valid(m->chain_id) || !digest_valid(m->diff_id)) {
		msg_failf(r, FAULT_INVALID_ARGUMENT,
			  "unpack layer \"%.80s\": its chain id and diff id must be sha256 digests", m->chain_id);
		return true;
	}
	if (strstr(m->media_type, "+encrypted")) {
		msg_failf(r, FAULT_UNIMPLEMENTED, "unpack layer %s: it is encrypted (%.100s)", m->chain_id,
			  m->media_type);
		return true;
	}
	struct layer *l = layer_find(s, m->chain_id);
	if (!l)
		return false;
	switch (l->state) {
	case LAYER_COMMITTED:
		drain(s, r, l);
		return true;
	case LAYER_UNPACKED:
		layer_staging_discard(s, l);
		layer_free(s, l);
		return false;
	default:
		msg_failf(r, FAULT_ABORTED, "unpack layer %s: it is being made already", l->chain);
		return true;
	}
}

void on_layer_unpack(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__LayerUnpackRequest *m) {
	struct fault fault;
	if (answered(s, r, m))
		return;
	struct unpacking *u = unpacking_new(s, r, m);
	if (!u)
		return;
	r->cancelled = unpacking_cancelled;
	r->cancelled_ctx = u;
	int e = unpack_staging_open(s, u->layer->name, &u->job, &u->dir, &fault);
	if (e == 0) {
		e = loop_poll(s->loop, u->job.input, POLLIN, bytes_there, u, &u->bytes);
		if (e < 0)
			fault_errno(&fault, e, "wait for the layer's bytes");
	}
	if (e < 0)
		unpacking_fail(u, &fault);
}
