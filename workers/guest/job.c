/*
 * A request as a child: it does the work, packs the reply into a memory file,
 * and says how it ended; the worker sends what it finds there. What changes the
 * guest is never broken off, however long its caller has been gone: a killed
 * mount would be nobody's. Those about one owner keep their order, so that an end
 * never overtakes the beginning that comes after it.
 */
#include "guest.h"

#include "base/fd.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define REPLY_MAX ((size_t)16 << 20)

struct job {
	struct list node; /* guest->jobs */
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

static void jobs_go_on(struct guest *g);

static void job_end(struct job *j) {
	list_unlink(&j->node);
	j->guest->n_jobs--;
	j->request->cancelled = NULL;
}

static void job_done(void *ctx, const struct child_result *result) {
	struct job *j = ctx;
	struct guest *g = j->guest;
	job_end(j);
	CLEANUP_FD int reply = j->reply; /* the job goes with its request */
	if (result->fault.code != FAULT_NONE)
		msg_fail(j->request, &result->fault);
	else
		reply_send(j);
	jobs_go_on(g);
}

static void job_cancelled(struct msg_request *r, void *ctx) {
	struct job *j = ctx;
	if (j->verb->reads && j->child)
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

/* --- their order --- */

static const char *owner_of(const struct job *j) {
	return j->verb->owner ? j->verb->owner(j->message) : NULL;
}

/* Of what came before it, a request waits for what is about the same. */
static bool must_wait(const struct job *j) {
	const char *owner = owner_of(j);
	list_for_each (n, &j->guest->jobs) {
		const struct job *other = list_entry(n, struct job, node);
		const char *theirs = owner_of(other);
		if (other == j)
			return false;
		if (owner && theirs && (!*owner || !*theirs || strcmp(owner, theirs) == 0))
			return true;
	}
	return false;
}

static void job_try(struct job *j) {
	struct fault fault;
	int e = j->child || must_wait(j) ? 0 : job_start(j);
	if (e == 0)
		return;
	fault_errno(&fault, e, "%s: start a process", j->verb->name);
	fd_replace(&j->reply, -1);
	job_end(j);
	msg_fail(j->request, &fault);
}

static void jobs_go_on(struct guest *g) {
	list_for_each_safe (n, &g->jobs)
		job_try(list_entry(n, struct job, node));
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
	j->reply = -1;
	g->scrapes += verb->number == MSG_guest_do_metrics;
	g->n_jobs++;
	list_append(&g->jobs, &j->node);
	r->cancelled = job_cancelled;
	r->cancelled_ctx = j;
	job_try(j);
}
