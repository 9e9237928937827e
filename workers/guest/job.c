/*
 * A request as a child: it does the work, packs the reply into a memory file,
 * and says how it ended; the worker sends what it finds there. What changes the
 * guest is never broken off, however long its caller has been gone: a killed
 * mount would be nobody's.
 */
#include "guest.h"

#include "base/fd.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define REPLY_MAX ((size_t)16 << 20)

struct job {
	struct guest *guest;
	struct msg_request *request;
	const ProtobufCMessage *message;
	const struct verb *verb;
	struct child *child;
	int reply; /* a memory file */
};

/* --- in the child --- */

static int reply_write(int fd, const ProtobufCMessage *reply) {
	size_t size = protobuf_c_message_get_packed_size(reply);
	if (size > REPLY_MAX)
		return -EFBIG;
	CLEANUP_FREE uint8_t *data = malloc(size + 1);
	if (!data)
		return -ENOMEM;
	protobuf_c_message_pack(reply, data);
	return fd_write_all(fd, data, size);
}

static int job_run(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	const struct job *j = arg;
	struct work w = {
		.config = j->guest->config,
		.supervisor = j->guest->supervisor,
		.scrapes = j->guest->scrapes,
	};
	arena_init(&w.arena, 0);
	int r = j->verb->run(&w, j->message, fault);
	if (r == 0 && w.reply) {
		r = reply_write(j->reply, w.reply);
		if (r < 0)
			fault_errno(fault, r, "pack the reply");
	}
	arena_deinit(&w.arena);
	return r < 0 ? fault_prefix(fault, r, "%s", j->verb->name) : 0;
}

/* --- in the worker --- */

static void reply_send(struct job *j) {
	struct msg_request *r = j->request;
	CLEANUP_FREE char *data = NULL;
	size_t size = 0;
	struct arena a;
	arena_init(&a, 0);
	int e = lseek(j->reply, 0, SEEK_SET) < 0 ? -errno : fd_read_all(j->reply, REPLY_MAX, &data, &size);
	const ProtobufCMessage *reply = e < 0 ? NULL : msg_decode(r->row->reply, &a, (const uint8_t *)data, size);
	if (reply)
		msg_reply(r, reply, NULL, 0, false);
	else
		msg_failf(r, FAULT_INTERNAL, "%s: its reply is none", j->verb->name);
	arena_deinit(&a);
}

static void job_done(void *ctx, const struct child_result *result) {
	struct job *j = ctx;
	j->guest->n_jobs--;
	j->request->cancelled = NULL;
	CLEANUP_FD int reply = j->reply; /* the job goes with its request */
	if (result->fault.code != FAULT_NONE)
		msg_fail(j->request, &result->fault);
	else
		reply_send(j);
}

static void job_cancelled(struct msg_request *r, void *ctx) {
	struct job *j = ctx;
	if (j->verb->reads)
		child_kill(j->child);
}

static int job_start(struct job *j) {
	j->reply = memfd_create("reply", MFD_CLOEXEC);
	if (j->reply < 0)
		return -errno;
	const struct child_options options = {
		.name = j->verb->name,
		.keep = { j->reply },
		.n_keep = 1,
		.run = job_run,
		.arg = j,
		.done = job_done,
		.ctx = j,
	};
	return child_start(j->guest->loop, &options, &j->child);
}

void job_begin(struct guest *g, struct msg_request *r, const ProtobufCMessage *request, const struct verb *verb) {
	if (g->n_jobs == GUEST_JOBS_MAX) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: %d requests are under way, try again later", verb->name,
			  GUEST_JOBS_MAX);
		return;
	}
	struct job *j = ARENA_NEW(&r->arena, struct job, { .guest = g, .request = r, .message = request });
	if (!j) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", verb->name);
		return;
	}
	j->verb = verb;
	g->scrapes += verb->number == MSG_guest_do_metrics;
	int e = job_start(j);
	if (e < 0) {
		struct fault fault;
		fault_errno(&fault, e, "%s: start a process", verb->name);
		fd_replace(&j->reply, -1);
		msg_fail(r, &fault);
		return;
	}
	g->n_jobs++;
	r->cancelled = job_cancelled;
	r->cancelled_ctx = j;
}
