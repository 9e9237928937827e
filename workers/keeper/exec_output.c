/*
 * The output of a command that is waited for: read up to a limit and thrown away
 * beyond. What others still hold open of it when the command has ended is not
 * waited for.
 */
#include "workers/keeper/exec.h"

#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>

#define OUTPUT_MAX (16 * 1024 * 1024)
#define READS_PER_TURN 16

void outputs_init(struct exec *e) {
	for (int i = 0; i < 2; i++)
		e->outputs[i] = (struct output){ .exec = e, .fd = -1, .writer = -1 };
}

static void output_end(struct output *o) {
	loop_source_free_p(&o->ready);
	loop_source_free_p(&o->again);
	fd_replace(&o->fd, -1);
	fd_replace(&o->writer, -1);
}

/* false when there is nothing more for now. */
static bool output_read(struct output *o) {
	uint8_t discard[4096];
	bool full = o->data.size >= OUTPUT_MAX || o->data.failed;
	size_t room = full ? sizeof(discard) : MIN((size_t)OUTPUT_MAX - o->data.size, (size_t)65536);
	/* Small output is the rule: no large buffer before there is need. */
	if (!full && o->data.size == 0)
		room = sizeof(discard);
	uint8_t *to = full || o->data.size == 0 ? discard : buffer_reserve(&o->data, room);
	if (!to) {
		to = discard;
		room = sizeof(discard);
	}
	ssize_t n = read(o->fd, to, room);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return errno == EINTR;
	if (n <= 0) {
		output_end(o);
		return false;
	}
	if (!full && to == discard && !o->data.failed)
		buffer_add(&o->data, discard, (size_t)n);
	else if (to != discard)
		o->data.size += (size_t)n;
	return true;
}

static void output_again(void *ctx);

static void output_ready(void *ctx, uint32_t events) {
	struct output *o = ctx;
	for (int i = 0; i < READS_PER_TURN; i++)
		if (!output_read(o))
			return;
	if (!o->again && loop_defer(o->exec->container->keeper->loop, output_again, o, &o->again) < 0)
		output_end(o);
}

static void output_again(void *ctx) {
	struct output *o = ctx;
	loop_source_free_p(&o->again);
	output_ready(o, POLLIN);
}

int outputs_make(struct exec *e, int stdio[3], struct fault *fault) {
	for (int i = 0; i < 2; i++) {
		int ends[2];
		if (pipe2(ends, O_CLOEXEC) < 0)
			return fault_errno(fault, errno, "make a pipe for output");
		stdio[1 + i] = ends[1];
		struct output *o = &e->outputs[i];
		o->fd = ends[0];
		o->writer = fcntl(ends[1], F_DUPFD_CLOEXEC, 3);
		if (o->writer < 0 || fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0)
			return fault_errno(fault, errno, "make a pipe for output");
		int r = loop_poll(e->container->keeper->loop, ends[0], POLLIN, output_ready, o, &o->ready);
		if (r < 0)
			return fault_errno(fault, r, "read the command's output");
	}
	return 0;
}

void outputs_drain(struct exec *e) {
	for (int i = 0; i < 2; i++)
		for (size_t n = 0; e->outputs[i].fd >= 0 && n < OUTPUT_MAX / 4096 && output_read(&e->outputs[i]); n++)
			;
}

void outputs_deinit(struct exec *e) {
	for (int i = 0; i < 2; i++) {
		output_end(&e->outputs[i]);
		buffer_deinit(&e->outputs[i].data);
	}
}
