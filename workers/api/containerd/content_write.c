/*
 * Content/Write: each message of the client is one action on the ingest that
 * the first one names, and is answered before the next is looked at.
 *
 *   open -> [restart ->] push the data into the pipe, while the answer to "so
 *   many bytes are written" or "these bytes are content" is awaited -> reply
 *
 * The ingest is locked as long as this end of the pipe is open, and stays for
 * whoever goes on with it later. What the client calls an offset is the number
 * of bytes that the image worker has taken out of the pipe.
 */
#include "workers/api/containerd/content.h"

#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>

struct writer {
	struct grpc_call *call;
	Bulkhead__ObjectKey id; /* in the call's arena, like all texts */
	Bulkhead__IngestBody ingest;
	int pipe; /* -1: not open yet */
	struct loop_source *writable;
	struct msg_call *asked;
	uint64_t offset; /* written so far */

	/* The client's message that is worked on. */
	bool working;
	C(WriteAction) action;
	uint64_t at;
	struct buffer data;
	bool pushing; /* it may go into the pipe: not before a restart has been done */
	size_t pushed;
	Bulkhead__Object content; /* its labels, in the arena */
	struct arena arena;
};

static void *writer_open(struct grpc_call *c) {
	struct writer *x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	*x = (struct writer){ .call = c, .pipe = -1 };
	bulkhead__object_key__init(&x->id);
	bulkhead__ingest_body__init(&x->ingest);
	arena_init(&x->arena, 0);
	return x;
}

static void writer_closed(void *handler) {
	struct writer *x = handler;
	msg_cancel(x->asked);
	loop_source_free(x->writable);
	fd_close(x->pipe);
	buffer_deinit(&x->data);
	arena_deinit(&x->arena);
	free(x);
}

static struct link *metadata_of(const struct writer *x) {
	return grpc_call_server(x->call)->metadata;
}

/* --- the answer to one message ---------------------------------------------- */

/* True: the call goes on. */
static bool reply(struct writer *x, const Bulkhead__IngestStatus *s) {
	struct grpc_translation t = { .arena = &x->arena, .call = x->call };
	C(WriteContentResponse) a = C_INIT(WRITE_CONTENT_RESPONSE);
	a.action = x->action;
	a.offset = (int64_t)s->offset;
	a.total = (int64_t)x->ingest.total;
	a.digest = s->digest;
	a.started_at = ctd_time(&t, s->started_at);
	a.updated_at = ctd_time(&t, s->updated_at);
	x->offset = s->offset;
	if (x->action == CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__COMMIT) {
		grpc_reply(x->call, &a.base);
		return false;
	}
	return grpc_reply_part(x->call, &a.base) == 0;
}

static void done(void *ctx, const struct msg_answer *answer) {
	struct writer *x = ctx;
	x->asked = NULL;
	x->pushing = false;
	if (answer->fault) {
		grpc_fail(x->call, answer->fault);
		return;
	}
	if (!reply(x, (const Bulkhead__IngestStatus *)answer->reply))
		return;
	buffer_deinit(&x->data);
	arena_deinit(&x->arena);
	arena_init(&x->arena, 0);
	x->working = false;
	grpc_ready(x->call);
}

/* --- bytes ------------------------------------------------------------------ */

static void push(struct writer *x) {
	while (x->pushing && x->pushed < x->data.size) {
		ssize_t n = write(x->pipe, x->data.data + x->pushed, x->data.size - x->pushed);
		if (n > 0)
			x->pushed += (size_t)n;
		else if (n < 0 && errno == EAGAIN)
			return;
		else if (n == 0 || errno != EINTR)
			/* Whoever reads it is gone; what was asked fails because of that. */
			return;
	}
}

static void writable(void *ctx, uint32_t events) {
	push(ctx);
}

static void ask(struct writer *x) {
	uint64_t to = x->offset + x->data.size;
	if (x->action == CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__COMMIT) {
		Bulkhead__IngestCommitRequest q = BULKHEAD__INGEST_COMMIT_REQUEST__INIT;
		q.id = &x->id;
		q.offset = to;
		q.ingest = &x->ingest;
		q.content = &x->content;
		x->asked = ingest_commit_send(metadata_of(x), grpc_call_context(x->call), &q, NULL, 0, done, x);
	} else {
		Bulkhead__IngestSyncRequest q = BULKHEAD__INGEST_SYNC_REQUEST__INIT;
		q.id = &x->id;
		q.offset = to;
		x->asked = ingest_sync_send(metadata_of(x), grpc_call_context(x->call), &q, NULL, 0, done, x);
	}
	x->pushed = 0;
	x->pushing = true;
	push(x);
}

static void restarted(void *ctx, const struct msg_answer *answer) {
	struct writer *x = ctx;
	x->asked = NULL;
	if (answer->fault) {
		grpc_fail(x->call, answer->fault);
		return;
	}
	x->offset = 0;
	ask(x);
}

static void restart(struct writer *x) {
	Bulkhead__IngestSyncRequest q = BULKHEAD__INGEST_SYNC_REQUEST__INIT;
	q.id = &x->id;
	q.restart = true;
	x->asked = ingest_sync_send(metadata_of(x), grpc_call_context(x->call), &q, NULL, 0, restarted, x);
}

/* The ingest is open, and nothing else is under way. */
static void act(struct writer *x) {
	bool writes = x->action != CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__STAT;
	if (writes && x->at > 0 && x->at != x->offset)
		grpc_failf(x->call, FAULT_OUT_OF_RANGE, "Write: write @%llu must occur at current offset %llu",
			   (unsigned long long)x->at, (unsigned long long)x->offset);
	else if (writes && x->at == 0 && x->offset > 0)
		restart(x);
	else
		ask(x);
}

/* --- opening ---------------------------------------------------------------- */

static int opened_fd(struct writer *x) {
	if (fcntl(x->pipe, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	return loop_poll(grpc_call_server(x->call)->loop, x->pipe, POLLOUT, writable, x, &x->writable);
}

static void opened(void *ctx, const struct msg_answer *answer) {
	struct writer *x = ctx;
	x->asked = NULL;
	if (answer->fault) {
		grpc_fail(x->call, answer->fault);
		return;
	}
	x->pipe = take_fd(&answer->fds[0]);
	x->offset = ingest_open_answer(answer)->offset;
	int r = opened_fd(x);
	if (r < 0)
		grpc_failf(x->call, FAULT_RESOURCE_EXHAUSTED, "Write: the pipe: %s", strerrordesc_np(-r));
	else
		act(x);
}

static void open_ingest(struct writer *x, const C(WriteContentRequest) * m) {
	const struct grpc_translation t = { .call = x->call };
	Bulkhead__IngestOpenRequest q = BULKHEAD__INGEST_OPEN_REQUEST__INIT;
	x->id.kind = BULKHEAD__OBJECT_KIND__OBJECT_INGEST;
	x->id.namespace_ = ctd_namespace(&t);
	x->id.key = arena_strdup(grpc_call_arena(x->call), m->ref);
	if (!*m->ref || !x->id.key) {
		grpc_failf(x->call, FAULT_INVALID_ARGUMENT, "Write: first message must have a reference");
		return;
	}
	q.namespace_ = x->id.namespace_;
	q.ref = x->id.key;
	q.ingest = &x->ingest;
	q.held_by = ctd_lease(&t);
	x->asked = ingest_open_send(metadata_of(x), grpc_call_context(x->call), &q, NULL, 0, opened, x);
}

/* --- messages --------------------------------------------------------------- */

/* What the message says stays with us: it is gone when this returns. False: out
 * of memory. */
static bool take(struct writer *x, const C(WriteContentRequest) * m) {
	const struct grpc_translation t = { .call = x->call };
	bulkhead__object__init(&x->content);
	x->content.held_by = ctd_lease(&t);
	x->content.labels = arena_alloc(&x->arena, (m->n_labels + 1) * sizeof(*x->content.labels));
	for (size_t i = 0; x->content.labels && i < m->n_labels; i++) {
		Bulkhead__Object__LabelsEntry *l =
		    ARENA_NEW(&x->arena, Bulkhead__Object__LabelsEntry, BULKHEAD__OBJECT__LABELS_ENTRY__INIT);
		if (!l)
			return false;
		l->key = arena_strdup(&x->arena, m->labels[i]->key);
		l->value = arena_strdup(&x->arena, m->labels[i]->value);
		if (!l->key || !l->value)
			return false;
		x->content.labels[x->content.n_labels++] = l;
	}
	if (m->total > 0)
		x->ingest.total = (uint64_t)m->total;
	if (*m->expected)
		x->ingest.expected = arena_strdup(grpc_call_arena(x->call), m->expected);
	x->action = m->action;
	x->at = m->offset > 0 ? (uint64_t)m->offset : 0;
	buffer_add(&x->data, m->data.data, m->data.len);
	return x->content.labels && x->ingest.expected && !x->data.failed;
}

static void writer_message(void *handler, const ProtobufCMessage *request) {
	const C(WriteContentRequest) *m = (const C(WriteContentRequest) *)request;
	struct writer *x = handler;
	x->working = true;
	if (!take(x, m))
		grpc_failf(x->call, FAULT_RESOURCE_EXHAUSTED, "Write: out of memory");
	else if (m->action > CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__COMMIT)
		grpc_failf(x->call, FAULT_INVALID_ARGUMENT, "Write: %d is no action", (int)m->action);
	else if (x->pipe < 0)
		open_ingest(x, m);
	else
		act(x);
}

static bool writer_busy(void *handler) {
	return ((struct writer *)handler)->working;
}

static void writer_end(void *handler) {
	grpc_finish(((struct writer *)handler)->call);
}

const struct grpc_handler ctd_content_write = {
	.client_streams = true,
	.open = writer_open,
	.message = writer_message,
	.end = writer_end,
	.busy = writer_busy,
	.closed = writer_closed,
};
