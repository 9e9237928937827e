#include "workers/api/containerd/inflate.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#define PIECE (64 * 1024)

struct ctd_inflate {
	struct msg_call *asked;
	void (*moved)(void *ctx, const struct fault *fault);
	void *ctx;
	int to, from; /* -1: closed */
	struct loop_source *writable, *readable;
	bool good; /* the last word of who decompresses */
};

static void close_to(struct ctd_inflate *i) {
	loop_source_free_p(&i->writable);
	fd_close_p(&i->to);
}

static void close_from(struct ctd_inflate *i) {
	loop_source_free_p(&i->readable);
	fd_close_p(&i->from);
}

void ctd_inflate_free(struct ctd_inflate *i) {
	if (!i)
		return;
	msg_cancel(i->asked);
	close_to(i);
	close_from(i);
	free(i);
}

static void ready(void *ctx, uint32_t events) {
	struct ctd_inflate *i = ctx;
	i->moved(i->ctx, NULL);
}

static void done(void *ctx, const struct msg_answer *answer) {
	struct ctd_inflate *i = ctx;
	struct fault fault;
	i->asked = NULL;
	i->good = !answer->fault;
	if (answer->fault) {
		fault = *answer->fault;
		fault_prefix(&fault, 0, "decompress the archive");
	}
	i->moved(i->ctx, answer->fault ? &fault : NULL);
}

/* theirs: the ends that who decompresses gets. */
static int pipes_make(struct ctd_inflate *i, int theirs[2]) {
	int in[2], out[2];
	if (pipe2(in, O_CLOEXEC) < 0)
		return -errno;
	theirs[0] = in[0];
	i->to = in[1];
	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	i->from = out[0];
	theirs[1] = out[1];
	if (fcntl(i->to, F_SETFL, O_NONBLOCK) < 0 || fcntl(i->from, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

struct ctd_inflate *ctd_inflate_new(struct grpc_call *call, void (*moved)(void *ctx, const struct fault *fault),
				    void *ctx, struct fault *fault) {
	const struct grpc_server *server = grpc_call_server(call);
	Bulkhead__Empty q = BULKHEAD__EMPTY__INIT;
	int theirs[2] = { -1, -1 };
	struct ctd_inflate *i = malloc(sizeof(*i));
	if (!i) {
		fault_errno(fault, ENOMEM, "decompress the archive");
		return NULL;
	}
	*i = (struct ctd_inflate){ .moved = moved, .ctx = ctx, .to = -1, .from = -1 };
	int r = pipes_make(i, theirs);
	if (r == 0)
		r = loop_poll(server->loop, i->to, POLLOUT, ready, i, &i->writable);
	if (r == 0)
		r = loop_poll(server->loop, i->from, POLLIN, ready, i, &i->readable);
	if (r == 0)
		i->asked = stream_inflate_send(server->metadata, grpc_call_context(call), &q, theirs, 2, done, i);
	fd_close(theirs[0]);
	fd_close(theirs[1]);
	if (r < 0) {
		ctd_inflate_free(i);
		fault_errno(fault, r, "decompress the archive");
		return NULL;
	}
	return i;
}

bool ctd_inflate_push(struct ctd_inflate *i, struct buffer *in) {
	/* Whoever reads it may be gone; why is in the answer. */
	ssize_t n = i->to >= 0 && in->size > 0 ? write(i->to, in->data, in->size) : 0;
	if (n > 0)
		buffer_consume(in, (size_t)n);
	return n > 0;
}

void ctd_inflate_end(struct ctd_inflate *i) {
	close_to(i);
}

bool ctd_inflate_read(struct ctd_inflate *i, struct buffer *out, size_t max) {
	size_t room = out->size < max ? MIN(max - out->size, (size_t)PIECE) : 0;
	uint8_t *p = i->from >= 0 && room > 0 ? buffer_reserve(out, room) : NULL;
	ssize_t n = p ? read(i->from, p, room) : -1;
	if (n > 0)
		out->size += (size_t)n;
	else if (p && n == 0)
		close_from(i);
	return n > 0;
}

bool ctd_inflate_over(const struct ctd_inflate *i) {
	return i->from < 0 && i->good;
}
