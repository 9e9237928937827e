/*
 * Content/Read: a blob, or a part of it, in replies of CHUNK bytes, as fast as
 * the client takes them. The blob's descriptor comes from the image worker and
 * is for reading only. Of a small one whose bytes were kept (small_blobs.h) it
 * is enough to hear that the client has it.
 */
#include "workers/api/containerd/content.h"
#include "workers/api/containerd/small_blobs.h"

#include "base/fd.h"

#define CHUNK (64 * 1024)
#define UNSENT_MAX (512 * 1024)

struct reader {
	struct grpc_call *call;
	struct msg_call *open;
	int fd;
	char *digest;	      /* in the call's arena */
	uint64_t offset, end; /* what is still to be sent; end before open: 0 is the blob's */
	uint64_t size;	      /* that the client asks for; 0: up to the end */
	uint64_t whole;	      /* of the blob, once it is known */
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
	if (x->offset == 0 && (uint64_t)n == x->whole)
		small_blob_keep(grpc_call_server(x->call), x->digest, data, (size_t)n);
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

/* False: the call is gone. */
static bool range_set(struct reader *x, const Bulkhead__Object *o) {
	x->whole = o->body_case == BULKHEAD__OBJECT__BODY_CONTENT ? o->content->size : 0;
	if (x->offset > x->whole) {
		grpc_failf(x->call, FAULT_OUT_OF_RANGE, "Read: byte %llu is past the content's %llu bytes",
			   (unsigned long long)x->offset, (unsigned long long)x->whole);
		return false;
	}
	x->end = x->size > 0 && x->size < x->whole - x->offset ? x->offset + x->size : x->whole;
	return true;
}

static void opened(void *ctx, const struct msg_answer *answer) {
	struct reader *x = ctx;
	x->open = NULL;
	if (answer->fault) {
		grpc_fail(x->call, answer->fault);
		return;
	}
	if (!range_set(x, content_open_answer(answer)))
		return;
	x->fd = take_fd(&answer->fds[0]);
	reader_pump(x);
}

static Bulkhead__ObjectKey blob_key(const struct reader *x) {
	const struct grpc_translation t = { .call = x->call };
	Bulkhead__ObjectKey id = BULKHEAD__OBJECT_KEY__INIT;
	id.kind = BULKHEAD__OBJECT_KIND__OBJECT_CONTENT;
	id.namespace_ = ctd_namespace(&t);
	id.key = x->digest;
	return id;
}

static void blob_open(struct reader *x) {
	const Bulkhead__ObjectKey id = blob_key(x);
	x->open =
	    content_open_send(grpc_call_server(x->call)->metadata, grpc_call_context(x->call), &id, NULL, 0, opened, x);
}

/* The client has it; its bytes were kept when this was asked. */
static void looked(void *ctx, const struct msg_answer *answer) {
	struct reader *x = ctx;
	C(ReadContentResponse) a = C_INIT(READ_CONTENT_RESPONSE);
	x->open = NULL;
	if (answer->fault) {
		grpc_fail(x->call, answer->fault);
		return;
	}
	const struct buffer *bytes = small_blob_find(grpc_call_server(x->call), x->digest);
	const Bulkhead__Object *o = object_get_answer(answer);
	if (!bytes || o->body_case != BULKHEAD__OBJECT__BODY_CONTENT || bytes->size != o->content->size) {
		blob_open(x);
		return;
	}
	if (!range_set(x, o))
		return;
	a.offset = (int64_t)x->offset;
	a.data.data = bytes->data + x->offset;
	a.data.len = (size_t)(x->end - x->offset);
	if (a.data.len == 0 || grpc_reply_part(x->call, &a.base) == 0)
		grpc_finish(x->call);
}

static void reader_message(void *handler, const ProtobufCMessage *request) {
	const C(ReadContentRequest) *q = (const C(ReadContentRequest) *)request;
	struct reader *x = handler;
	struct grpc_server *server = grpc_call_server(x->call);
	x->digest = arena_strdup(grpc_call_arena(x->call), q->digest);
	if (!x->digest) {
		grpc_failf(x->call, FAULT_RESOURCE_EXHAUSTED, "Read: out of memory");
		return;
	}
	x->offset = q->offset > 0 ? (uint64_t)q->offset : 0;
	x->size = q->size > 0 ? (uint64_t)q->size : 0;
	if (!small_blob_find(server, x->digest)) {
		blob_open(x);
		return;
	}
	const Bulkhead__ObjectKey id = blob_key(x);
	x->open = object_get_send(server->metadata, grpc_call_context(x->call), &id, NULL, 0, looked, x);
}

const struct grpc_handler ctd_content_read = {
	.open = reader_open,
	.message = reader_message,
	.room = reader_pump,
	.closed = reader_closed,
};
