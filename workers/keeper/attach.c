/*
 * Copies of a running container's output for whoever is attached, and the way
 * to its input.
 *
 * Each attached session has pipes that are fed with what the log reads. While
 * one of them is full, nothing more is read from the container: it is slowed
 * down to its reader, as by a terminal. A reader that takes nothing for a while
 * is let go instead, so that nobody stops a container for good.
 *
 * Input doesn't pass through here: the session gets the pipe or the terminal
 * itself. With stdin_once the first session gets the only end there is, so the
 * container sees the end of its input when that session closes it.
 */
#include "workers/keeper/container.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "workers/keeper/outlet.h"

#include <fcntl.h>

#define PATIENCE (15 * NS_PER_SEC)

struct copy {
	struct attachment *attachment;
	bool wanted; /* else its end only says that the container has ended */
	struct outlet outlet;
};

struct attachment {
	struct list node;
	struct container *container; /* NULL: has ended, the rest is on its way */
	struct loop *loop;
	struct copy copies[LOG_STREAMS];
	struct loop_source *patience;
};

static void attachment_free(struct attachment *a) {
	for (size_t i = 0; i < LOG_STREAMS; i++)
		outlet_close(&a->copies[i].outlet);
	loop_source_free(a->patience);
	list_unlink(&a->node);
	free(a);
}

/* The log stands still while anybody has to catch up. */
static void hold_update(struct container *c) {
	bool hold[LOG_STREAMS] = { false };
	list_for_each (n, &c->attachments) {
		struct attachment *a = list_entry(n, struct attachment, node);
		for (size_t i = 0; i < LOG_STREAMS; i++)
			hold[i] |= outlet_behind(&a->copies[i].outlet);
	}
	for (size_t i = 0; c->log && i < LOG_STREAMS; i++)
		log_hold(c->log, (enum log_stream_kind)i, hold[i]);
}

/* Frees it when nobody reads it any more or nothing is left to give. */
static void attachment_check(struct attachment *a) {
	struct container *c = a->container;
	bool open = false, pending = false;
	for (size_t i = 0; i < LOG_STREAMS; i++) {
		open |= a->copies[i].outlet.fd >= 0;
		pending |= outlet_behind(&a->copies[i].outlet);
	}
	if (!pending)
		loop_source_free_p(&a->patience);
	if (!open || (!c && !pending))
		attachment_free(a);
	if (c)
		hold_update(c);
}

static void out_of_patience(void *ctx) {
	struct attachment *a = ctx;
	struct container *c = a->container;
	log_event(LOG_INFO, "an attached client reads nothing and is let go", "container", c ? c->id : "", NULL);
	attachment_free(a);
	if (c)
		hold_update(c);
}

static void patience_restart(struct attachment *a) {
	loop_source_free_p(&a->patience);
	if (loop_timer(a->loop, clock_mono() + PATIENCE, out_of_patience, a, &a->patience) < 0)
		a->patience = NULL;
}

static void copy_changed(void *ctx) {
	struct copy *c = ctx;
	if (outlet_behind(&c->outlet))
		patience_restart(c->attachment);
	attachment_check(c->attachment);
}

static void copy_feed(struct copy *c, const void *data, size_t size) {
	bool behind = outlet_behind(&c->outlet);
	outlet_feed(&c->outlet, data, size);
	if (!behind && outlet_behind(&c->outlet))
		patience_restart(c->attachment);
}

static void output_read(void *ctx, enum log_stream_kind kind, const void *data, size_t size) {
	struct container *c = ctx;
	list_for_each_safe (n, &c->attachments) {
		struct attachment *a = list_entry(n, struct attachment, node);
		if (a->copies[kind].outlet.fd < 0 || !a->copies[kind].wanted)
			continue;
		copy_feed(&a->copies[kind], data, size);
		attachment_check(a);
	}
}

void attach_end_all(struct container *c) {
	list_for_each_safe (n, &c->attachments) {
		struct attachment *a = list_entry(n, struct attachment, node);
		list_unlink(&a->node);
		a->container = NULL;
		attachment_check(a);
	}
}

/* --- attaching --- */

static int copy_open(struct attachment *a, size_t i, bool wanted, int *ret_end, struct fault *fault) {
	struct copy *c = &a->copies[i];
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return fault_errno(fault, errno, "make a pipe");
	c->wanted = wanted;
	*ret_end = ends[0];
	int r = outlet_open(&c->outlet, a->loop, ends[1], copy_changed, c);
	return r < 0 ? fault_errno(fault, r, "watch a pipe") : 0;
}

static struct attachment *attachment_new(struct container *c) {
	struct attachment *a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	a->container = c;
	a->loop = c->keeper->loop;
	for (size_t i = 0; i < LOG_STREAMS; i++)
		a->copies[i] = (struct copy){ .attachment = a, .outlet = OUTLET_NONE };
	list_append(&c->attachments, &a->node);
	return a;
}

/* fds: this side's are borrowed, those of outputs are made. */
static int attach(struct container *c, const Bulkhead__AttachOpenRequest *m, int ret_ends[LOG_STREAMS],
		  struct fault *fault) {
	struct attachment *a = attachment_new(c);
	int r = a ? copy_open(a, LOG_STDOUT, m->stdout, &ret_ends[LOG_STDOUT], fault)
		  : fault_errno(fault, ENOMEM, "attach");
	if (r == 0 && m->stderr && !c->terminal)
		r = copy_open(a, LOG_STDERR, true, &ret_ends[LOG_STDERR], fault);
	if (r < 0 && a)
		attachment_free(a);
	if (r == 0)
		log_tap(c->log, output_read, c);
	return r;
}

void on_keeper_attach(struct keeper *k, struct msg_request *r, const Bulkhead__AttachOpenRequest *m) {
	Bulkhead__AttachOpenReply reply = BULKHEAD__ATTACH_OPEN_REPLY__INIT;
	struct fault fault = { 0 };
	struct container *c = container_of_request(k, r, m->container_id);
	if (!c)
		return;
	if (c->stdio) {
		msg_failf(r, FAULT_FAILED_PRECONDITION,
			  "container \"%.80s\": its streams lead where its client has said, nobody else can attach",
			  c->id);
		return;
	}
	if (c->state != CONTAINER_RUNNING || !c->log) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "container \"%.80s\" does not run", c->id);
		return;
	}
	int ends[LOG_STREAMS] = { -1, -1 };
	CLEANUP_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int e = null < 0 ? fault_errno(&fault, errno, "open /dev/null") : attach(c, m, ends, &fault);
	if (e < 0) {
		container_fault(c, 0, &fault);
		msg_fail(r, &fault);
	} else {
		int input = c->terminal ? log_fd(c->log, LOG_STDOUT) : m->stdin ? c->stdin_fd : -1;
		reply.tty = c->terminal && input >= 0;
		reply.stdin = m->stdin && c->takes_stdin && input >= 0;
		int fds[] = { input >= 0 ? input : null, ends[0], ends[1] >= 0 ? ends[1] : null };
		keeper_attach_reply(r, &reply, fds, 3);
		if (reply.stdin && c->stdin_once && !c->terminal)
			fd_replace(&c->stdin_fd, -1);
	}
	for (size_t i = 0; i < LOG_STREAMS; i++)
		fd_close(ends[i]);
}
