/*
 *   walk: what belongs to the images (export_walk.h) -> documents, made here ->
 *   each blob, by its descriptor -> the end
 *
 * Bytes go out as the client opens its window, so nothing piles up.
 */
#include "workers/api/containerd/export.h"

#include "base/fd.h"
#include "workers/api/containerd/export_archive.h"
#include "workers/api/containerd/export_walk.h"

#include <string.h>

#define T(name) Containerd__Types__Transfer__##name
#define T_INIT(name) CONTAINERD__TYPES__TRANSFER__##name##__INIT
#define CHUNK (32 * 1024)

struct ctd_export {
	struct grpc_call *call;
	bool docker;		   /* with docker's document, too */
	struct ctd_stream *stream; /* NULL: gone */
	struct msg_call *asked;
	void (*done)(void *ctx, const struct fault *fault);
	void *ctx;

	struct ctd_export_walk *walk;
	const struct export_set *set; /* NULL: it isn't known yet */
	size_t at;		      /* blobs that are sent */
	struct buffer out;	      /* what goes before the blob */
	int fd;			      /* of the blob that is being sent; -1: none */
	uint64_t offset, size;
	bool ended; /* the archive's end is in out */
};

void ctd_export_free(struct ctd_export *x) {
	if (!x)
		return;
	msg_cancel(x->asked);
	ctd_export_walk_free(x->walk);
	ctd_stream_leave(x->stream);
	fd_close(x->fd);
	buffer_deinit(&x->out);
	free(x);
}

static void fail(struct ctd_export *x, const struct fault *fault) {
	x->done(x->ctx, fault);
}

/* --- sending ---------------------------------------------------------------- */

static void next_blob(struct ctd_export *x);

/* Bytes of what is to be sent, at most n: of out, then of the blob. Negative:
 * an errno. */
static ssize_t take(struct ctd_export *x, uint8_t *data, size_t n) {
	if (x->out.size > 0) {
		n = MIN(n, x->out.size);
		memcpy(data, x->out.data, n);
		buffer_consume(&x->out, n);
		return (ssize_t)n;
	}
	ssize_t got = pread(x->fd, data, (size_t)MIN((uint64_t)n, x->size - x->offset), (off_t)x->offset);
	if (got <= 0)
		return got < 0 ? -errno : -EIO;
	x->offset += (uint64_t)got;
	if (x->offset == x->size) {
		fd_replace(&x->fd, -1);
		export_add_padding(&x->out, x->size);
	}
	return got;
}

static bool send_chunk(struct ctd_export *x) {
	uint8_t data[CHUNK];
	T(Data) m = T_INIT(DATA);
	struct fault fault;
	ssize_t n = take(x, data, MIN(ctd_stream_window(x->stream), sizeof(data)));
	if (n < 0 || x->out.failed) {
		fault_errno(&fault, n < 0 ? (int)n : -ENOMEM, "export");
		fail(x, &fault);
		return false;
	}
	m.data.data = data;
	m.data.len = (size_t)n;
	ctd_stream_window_use(x->stream, (size_t)n);
	return ctd_stream_send(x->stream, &m.base) == 0;
}

static void pump(void *ctx) {
	struct ctd_export *x = ctx;
	while (x->set && (x->out.size > 0 || x->fd >= 0) && ctd_stream_window(x->stream) > 0)
		if (!send_chunk(x))
			return;
	if (!x->set || x->asked || x->out.size > 0 || x->fd >= 0)
		return;
	if (x->ended)
		x->done(x->ctx, NULL);
	else
		next_blob(x);
}

static void blob_opened(void *ctx, const struct msg_answer *answer) {
	struct ctd_export *x = ctx;
	x->asked = NULL;
	if (answer->fault) {
		fail(x, answer->fault);
		return;
	}
	const struct export_blob *b = &x->set->blobs[x->at++];
	export_add_blob(&x->out, b);
	x->offset = 0;
	x->size = b->size;
	if (b->size > 0)
		x->fd = take_fd(&answer->fds[0]);
	pump(x);
}

static void next_blob(struct ctd_export *x) {
	const struct grpc_translation t = { .call = x->call };
	Bulkhead__ObjectKey id = BULKHEAD__OBJECT_KEY__INIT;
	while (x->at < x->set->n_blobs && !x->set->blobs[x->at].here)
		x->at++;
	if (x->at < x->set->n_blobs) {
		id.kind = BULKHEAD__OBJECT_KIND__OBJECT_CONTENT;
		id.namespace_ = ctd_namespace(&t);
		id.key = (char *)(uintptr_t)x->set->blobs[x->at].digest;
		x->asked = content_open_send(grpc_call_server(x->call)->metadata, grpc_call_context(x->call), &id, NULL,
					     0, blob_opened, x);
		return;
	}
	export_add_end(&x->out);
	x->ended = true;
	pump(x);
}

static void walked(void *ctx, const struct export_set *set, const struct fault *fault) {
	struct ctd_export *x = ctx;
	if (fault) {
		fail(x, fault);
		return;
	}
	x->set = set;
	export_add_documents(&x->out, set, x->docker);
	pump(x);
}

static void gone(void *ctx) {
	struct ctd_export *x = ctx;
	struct fault fault;
	x->stream = NULL;
	fault_set(&fault, FAULT_CANCELLED, "export: the client has closed its stream");
	fail(x, &fault);
}

static const struct ctd_stream_user export_user = { .room = pump, .gone = gone };

static int export_init(struct ctd_export *x, const T(ImageStore) * from, const T(ImageExportStream) * to,
		       struct fault *fault) {
	x->walk = ctd_export_walk_begin(x->call, from, to, walked, x, fault);
	if (!x->walk)
		return -ECANCELED;
	x->stream = ctd_stream_use(x->call, to->stream, &export_user, x);
	return x->stream ? 0 : fault_set(fault, FAULT_NOT_FOUND, "export: there is no stream \"%.100s\"", to->stream);
}

struct ctd_export *ctd_export_begin(struct grpc_call *call, const T(ImageStore) * from, const T(ImageExportStream) * to,
				    void (*done)(void *ctx, const struct fault *fault), void *ctx,
				    struct fault *fault) {
	struct ctd_export *x = calloc(1, sizeof(*x));
	if (!x) {
		fault_errno(fault, ENOMEM, "export");
		return NULL;
	}
	*x = (struct ctd_export){
		.call = call, .docker = !to->skip_compatibility_manifest, .done = done, .ctx = ctx, .fd = -1
	};
	if (export_init(x, from, to, fault) < 0) {
		ctd_export_free(x);
		return NULL;
	}
	return x;
}
