/*
 * Content/Read: a blob, or a part of it, in replies of CHUNK bytes, as fast as
 * the client takes them. The blob's descriptor comes from the image worker and
 * is for reading only.
 */
#include "workers/api/containerd/content.h"

#include "base/fd.h"

#define CHUNK (64 * 1024)
#define UNSENT_MAX (512 * 1024)

struct reader {
	struct grpc_call *call;
	struct msg_call *open;
	int fd;
	uint64_t offset, end; /* what is still to be sent; end before open: 0 is the blob's */
	uint64_t size;	      /* that the client asks for; 0: up to the end */
};

static void *reader_open(struct grpc_call *c) {
	struct reader *x = calloc(1, sizeof(*x));
	if (x)
		*x = (struct reader){ .call = c, .fd = -1 };
	return x;
}

static void reader_closed(void *handler) {
	struct reader *x = handler;
	msg_cancel(x->open);
	fd_close(x->fd);
	free(x);
}

/* One reply. False: the call is gone. */
static bool send_chunk(struct reader *x) {
	uint8_t data[CHUNK];
	C(ReadContentResponse) a = C_INIT(READ_CONTENT_RESPONSE);
	ssize_t n = pread(x->fd, data, (size_t)MIN(x->end - x->offset, (uint64_t)CHUNK), (off_t)x->offset);
	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0) {
		grpc_failf(x->call, FAULT_DATA_LOSS, "Read: at byte %llu of the content: %s",
			   (unsigned long long)x->offset, n < 0 ? strerrordesc_np(errno) : "it ends too early");
		return false;
	}
	a.offset = (int64_t)x->offset;
	a.data.data = data;
	a.data.len = (size_t)n;
	x->offset += (uint64_t)n;
	return grpc_reply_part(x->call, &a.base) == 0;
}

static void reader_pump(void *handler) {
	struct reader *x = handler;
	if (x->fd < 0)
		return;
	while (x->offset < x->end && grpc_unsent(x->call) < UNSENT_MAX)
		if (!send_chunk(x))
			return;
	if (x->offset == x->end)
		grpc_finish(x->call);
}

static void opened(void *ctx, const struct msg_answer *answer) {
	struct reader *x = ctx;
	x->open = NULL;
	if (answer->fault) {
		grpc_fail(x->call, answer->fault);
		return;
	}
	const Bulkhead__Object *o = content_open_answer(answer);
	uint64_t whole = o->body_case == BULKHEAD__OBJECT__BODY_CONTENT ? o->content->size : 0;
	if (x->offset > whole) {
		grpc_failf(x->call, FAULT_OUT_OF_RANGE, "Read: byte %llu is past the content's %llu bytes",
			   (unsigned long long)x->offset, (unsigned long long)whole);
		return;
	}
	x->fd = take_fd(&answer->fds[0]);
	x->end = x->size > 0 && x->size < whole - x->offset ? x->offset + x->size : whole;
	reader_pump(x);
}

static void reader_message(void *handler, const ProtobufCMessage *request) {
	const C(ReadContentRequest) *q = (const C(ReadContentRequest) *)request;
	struct reader *x = handler;
	const struct grpc_translation t = { .call = x->call };
	Bulkhead__ObjectKey id = BULKHEAD__OBJECT_KEY__INIT;
	id.kind = BULKHEAD__OBJECT_KIND__OBJECT_CONTENT;
	id.namespace_ = ctd_namespace(&t);
	id.key = q->digest;
	x->offset = q->offset > 0 ? (uint64_t)q->offset : 0;
	x->size = q->size > 0 ? (uint64_t)q->size : 0;
	x->open =
	    content_open_send(grpc_call_server(x->call)->metadata, grpc_call_context(x->call), &id, NULL, 0, opened, x);
}

const struct grpc_handler ctd_content_read = {
	.open = reader_open,
	.message = reader_message,
	.room = reader_pump,
	.closed = reader_closed,
};
