#include "workers/api/containerd/blob.h"

#include "base/fd.h"
#include "base/id.h"
#include "base/sha256.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

struct ctd_blob {
	struct grpc_call *call;
	void (*moved)(void *ctx, const struct fault *fault);
	void *ctx;
	Bulkhead__ObjectKey id;
	Bulkhead__IngestBody ingest;
	char *lease;
	char digest[DIGEST_SIZE];
	int pipe; /* -1: not open yet */
	struct loop_source *writable;
	struct msg_call *asked;
	uint64_t left;	  /* of the bytes, not taken yet */
	bool open, whole; /* whole: the store has it, no byte is written */
	bool content;	  /* of the namespace: nothing is to be committed */
};

void ctd_blob_free(struct ctd_blob *b) {
	if (!b)
		return;
	msg_cancel(b->asked);
	loop_source_free(b->writable);
	fd_close(b->pipe);
	free(b);
}

static struct link *metadata_of(const struct ctd_blob *b) {
	return grpc_call_server(b->call)->metadata;
}

const char *ctd_blob_done(const struct ctd_blob *b) {
	return b->content && b->left == 0 ? b->digest : NULL;
}

/* Fine, too: the namespace has it already. */
static bool exists(const struct msg_answer *answer) {
	return answer->fault && answer->fault->code == FAULT_ALREADY_EXISTS;
}

static void committed(void *ctx, const struct msg_answer *answer) {
	struct ctd_blob *b = ctx;
	b->asked = NULL;
	if (answer->fault && !exists(answer)) {
		b->moved(b->ctx, answer->fault);
		return;
	}
	b->content = true;
	b->moved(b->ctx, NULL);
}

static void commit(struct ctd_blob *b) {
	Bulkhead__IngestCommitRequest q = BULKHEAD__INGEST_COMMIT_REQUEST__INIT;
	Bulkhead__Object content = BULKHEAD__OBJECT__INIT;
	content.held_by = b->lease;
	b->ingest.expected = b->digest;
	q.id = &b->id;
	q.offset = b->ingest.total;
	q.ingest = &b->ingest;
	q.content = &content;
	b->asked = ingest_commit_send(metadata_of(b), grpc_call_context(b->call), &q, NULL, 0, committed, b);
}

static void written(void *ctx, const struct msg_answer *answer) {
	struct ctd_blob *b = ctx;
	b->asked = NULL;
	if (answer->fault) {
		b->moved(b->ctx, answer->fault);
		return;
	}
	/* An expected one is for the commit to compare. */
	if (!*b->digest)
		snprintf(b->digest, sizeof(b->digest), "%s", ingest_sync_answer(answer)->digest);
	commit(b);
}

static void writable(void *ctx, uint32_t events) {
	struct ctd_blob *b = ctx;
	if (b->left > 0)
		b->moved(b->ctx, NULL);
}

static int pipe_take(struct ctd_blob *b, int fd) {
	b->pipe = fd;
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	return loop_poll(grpc_call_server(b->call)->loop, fd, POLLOUT, writable, b, &b->writable);
}

static void write_from(struct ctd_blob *b, uint64_t offset) {
	Bulkhead__IngestSyncRequest q = BULKHEAD__INGEST_SYNC_REQUEST__INIT;
	b->whole = offset == b->ingest.total;
	if (b->whole) {
		commit(b);
		return;
	}
	q.id = &b->id;
	q.offset = b->ingest.total;
	b->asked = ingest_sync_send(metadata_of(b), grpc_call_context(b->call), &q, NULL, 0, written, b);
}

static void opened(void *ctx, const struct msg_answer *answer) {
	struct ctd_blob *b = ctx;
	struct fault fault;
	b->asked = NULL;
	b->open = true;
	b->content = exists(answer);
	if (answer->fault) {
		b->moved(b->ctx, b->content ? NULL : answer->fault);
		return;
	}
	int r = pipe_take(b, take_fd(&answer->fds[0]));
	if (r < 0) {
		fault_errno(&fault, -r, "the pipe of ingest \"%.100s\"", b->id.key);
		b->moved(b->ctx, &fault);
		return;
	}
	write_from(b, ingest_open_answer(answer)->offset);
	b->moved(b->ctx, NULL);
}

size_t ctd_blob_push(struct ctd_blob *b, const uint8_t *data, size_t n) {
	n = (size_t)MIN((uint64_t)n, b->left);
	if (!b->open)
		return 0;
	if (!b->content && !b->whole) {
		ssize_t done = write(b->pipe, data, n);
		/* Whoever reads it may be gone; what was asked fails because of that. */
		n = done > 0 ? (size_t)done : 0;
	}
	b->left -= n;
	if (b->left == 0) {
		loop_source_free(b->writable);
		b->writable = NULL;
	}
	return n;
}

struct ctd_blob *ctd_blob_new(struct grpc_call *call, const struct ctd_blob_order *order,
			      void (*moved)(void *ctx, const struct fault *fault), void *ctx) {
	const struct grpc_translation t = { .call = call };
	Bulkhead__IngestOpenRequest q = BULKHEAD__INGEST_OPEN_REQUEST__INIT;
	struct ctd_blob *b = calloc(1, sizeof(*b));
	char *ref = arena_strdup(grpc_call_arena(call), order->ref);
	if (!b || !ref) {
		free(b);
		return NULL;
	}
	*b = (struct ctd_blob){ .call = call, .moved = moved, .ctx = ctx, .pipe = -1, .left = order->size };
	bulkhead__object_key__init(&b->id);
	bulkhead__ingest_body__init(&b->ingest);
	snprintf(b->digest, sizeof(b->digest), "%s", order->expected);
	b->id.kind = BULKHEAD__OBJECT_KIND__OBJECT_INGEST;
	b->id.namespace_ = ctd_namespace(&t);
	b->id.key = ref;
	b->lease = (char *)(uintptr_t)order->lease;
	b->ingest.total = order->size;
	b->ingest.expected = b->digest;
	q.namespace_ = b->id.namespace_;
	q.ref = ref;
	q.ingest = &b->ingest;
	q.held_by = b->lease;
	b->asked = ingest_open_send(metadata_of(b), grpc_call_context(call), &q, NULL, 0, opened, b);
	return b;
}
