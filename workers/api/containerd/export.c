/*
 *   look up the images -> walk: each blob's record, from which the labels lead to
 *   more -> documents, made here -> each blob, by its descriptor -> the end
 *
 * Bytes go out as the client opens its window, so nothing piles up.
 */
#include "workers/api/containerd/export.h"

#include "base/fd.h"
#include "base/id.h"
#include "workers/api/containerd/export_archive.h"
#include "workers/api/containerd/export_platforms.h"

#include <string.h>

#define T(name) Containerd__Types__Transfer__##name
#define T_INIT(name) CONTAINERD__TYPES__TRANSFER__##name##__INIT
#define CHUNK (32 * 1024)
#define BLOBS_MAX 4096
#define LABEL_CONTENT "containerd.io/gc.ref.content"

struct ctd_export {
	struct grpc_call *call;
	const T(ImageStore) * from;
	const T(ImageExportStream) * to;
	struct ctd_stream *stream; /* NULL: gone */
	struct msg_call *asked;
	void (*done)(void *ctx, const struct fault *fault);
	void *ctx;

	struct arena arena;
	struct export_left_out left_out;
	struct export_set set; /* BLOBS_MAX blobs: those found so far */
	size_t image_at, at;   /* at: walked, then sent */
	bool sending;
	struct buffer out; /* what goes before the blob */
	int fd;		   /* of the blob that is being sent; -1: none */
	uint64_t offset, size;
	bool ended; /* the archive's end is in out */
};

void ctd_export_free(struct ctd_export *x) {
	if (!x)
		return;
	msg_cancel(x->asked);
	ctd_stream_leave(x->stream);
	fd_close(x->fd);
	buffer_deinit(&x->out);
	arena_deinit(&x->arena);
	free(x);
}

static void fail(struct ctd_export *x, const struct fault *fault) {
	x->done(x->ctx, fault);
}

static Bulkhead__ObjectKey key_of(const struct ctd_export *x, Bulkhead__ObjectKind kind, const char *key) {
	const struct grpc_translation t = { .call = x->call };
	Bulkhead__ObjectKey id = BULKHEAD__OBJECT_KEY__INIT;
	id.kind = kind;
	id.namespace_ = ctd_namespace(&t);
	id.key = (char *)(uintptr_t)key;
	return id;
}

static struct link *metadata_of(const struct ctd_export *x) {
	return grpc_call_server(x->call)->metadata;
}

/* --- what belongs to it ----------------------------------------------------- */

/* NULL: it is left out, there are too many, or out of memory. */
static const struct export_blob *found(struct ctd_export *x, const char *digest, const struct export_blob *parent) {
	for (size_t i = 0; i < x->set.n_blobs; i++)
		if (strcmp(x->set.blobs[i].digest, digest) == 0)
			return &x->set.blobs[i];
	for (size_t i = 0; parent && i < x->left_out.n; i++)
		if (strcmp(x->left_out.digests[i], digest) == 0)
			return NULL;
	char *copy = x->set.n_blobs < BLOBS_MAX ? arena_strdup(&x->arena, digest) : NULL;
	if (!copy)
		return NULL;
	x->set.blobs[x->set.n_blobs] = (struct export_blob){ .digest = copy, .parent = parent };
	return &x->set.blobs[x->set.n_blobs++];
}

/* "containerd.io/gc.ref.content.l.7": the layer's place, or -1. */
static long layer_place(const char *key) {
	static const char prefix[] = LABEL_CONTENT ".l.";
	char *end;
	if (strncmp(key, prefix, strlen(prefix)) != 0)
		return -1;
	long n = strtol(key + strlen(prefix), &end, 10);
	return *end || end == key + strlen(prefix) || n < 0 || n >= BLOBS_MAX ? -1 : n;
}

static void follow(struct ctd_export *x, struct export_blob *b, const Bulkhead__Object *o) {
	b->layers = arena_zalloc(&x->arena, (o->n_labels + 1) * sizeof(*b->layers));
	for (size_t i = 0; b->layers && i < o->n_labels; i++) {
		const char *key = o->labels[i]->key;
		if (strncmp(key, LABEL_CONTENT, strlen(LABEL_CONTENT)) != 0)
			continue;
		char *value = arena_strdup(&x->arena, o->labels[i]->value);
		long place = layer_place(key);
		if (!value || !digest_valid(value))
			continue;
		found(x, value, b);
		if (strcmp(key, LABEL_CONTENT ".config") == 0)
			b->config = value;
		if (place >= 0 && (size_t)place < o->n_labels) {
			b->layers[place] = value;
			b->n_layers = MAX(b->n_layers, (size_t)place + 1);
		}
	}
}

static void send_begin(struct ctd_export *x);
static void walk(struct ctd_export *x);

static void walked(void *ctx, const struct msg_answer *answer) {
	struct ctd_export *x = ctx;
	struct export_blob *b = &x->set.blobs[x->at];
	x->asked = NULL;
	/* Another platform's may be elsewhere; without its target there is no image. */
	if (answer->fault && (answer->fault->code != FAULT_NOT_FOUND || !b->parent)) {
		fail(x, answer->fault);
		return;
	}
	const Bulkhead__Object *o = answer->fault ? NULL : object_get_answer(answer);
	if (o && o->body_case == BULKHEAD__OBJECT__BODY_CONTENT) {
		b->here = true;
		b->size = o->content->size;
		follow(x, b, o);
	}
	x->at++;
	walk(x);
}

static void walk(struct ctd_export *x) {
	if (x->at == x->set.n_blobs) {
		send_begin(x);
		return;
	}
	Bulkhead__ObjectKey id = key_of(x, BULKHEAD__OBJECT_KIND__OBJECT_CONTENT, x->set.blobs[x->at].digest);
	x->asked = object_get_send(metadata_of(x), grpc_call_context(x->call), &id, NULL, 0, walked, x);
}

static void image_next(struct ctd_export *x);

/* What another image of the same export needs is left out with it: both are asked for the same platforms. */
static void index_opened(void *ctx, const struct msg_answer *answer) {
	struct ctd_export *x = ctx;
	CLEANUP_BUFFER struct buffer index = { 0 };
	struct fault fault;
	x->asked = NULL;
	if (answer->fault) {
		fail(x, answer->fault);
		return;
	}
	uint64_t size = x->set.images[x->image_at].size;
	uint8_t *p = size <= EXPORT_INDEX_MAX ? buffer_reserve(&index, (size_t)size + 1) : NULL;
	ssize_t n = p ? pread(answer->fds[0], p, (size_t)size, 0) : -1;
	index.size = n > 0 ? (size_t)n : 0;
	if (export_leave_out(&x->arena, &index, x->to->platforms, x->to->n_platforms, &x->left_out, &fault) < 0) {
		fail(x, &fault);
		return;
	}
	x->image_at++;
	image_next(x);
}

static void image_found(void *ctx, const struct msg_answer *answer) {
	struct ctd_export *x = ctx;
	struct export_image *i = &x->set.images[x->image_at];
	struct fault fault;
	x->asked = NULL;
	if (answer->fault) {
		fail(x, answer->fault);
		return;
	}
	const Bulkhead__Object *o = object_get_answer(answer);
	if (o->body_case == BULKHEAD__OBJECT__BODY_IMAGE && o->image->target &&
	    digest_valid(o->image->target->digest)) {
		i->media_type = arena_strdup(&x->arena, o->image->target->media_type);
		i->size = o->image->target->size;
		i->target = found(x, o->image->target->digest, NULL);
	}
	if (!i->target || !i->media_type) {
		fault_set(&fault, FAULT_RESOURCE_EXHAUSTED, "export \"%.200s\": out of memory", i->name);
		fail(x, &fault);
		return;
	}
	if (x->to->n_platforms && !x->to->all_platforms && export_is_index(i->media_type)) {
		Bulkhead__ObjectKey id = key_of(x, BULKHEAD__OBJECT_KIND__OBJECT_CONTENT, i->target->digest);
		x->asked = content_open_send(metadata_of(x), grpc_call_context(x->call), &id, NULL, 0, index_opened, x);
		return;
	}
	x->image_at++;
	image_next(x);
}

static void image_next(struct ctd_export *x) {
	if (x->image_at == x->set.n_images) {
		walk(x);
		return;
	}
	Bulkhead__ObjectKey id = key_of(x, BULKHEAD__OBJECT_KIND__OBJECT_IMAGE, x->set.images[x->image_at].name);
	x->asked = object_get_send(metadata_of(x), grpc_call_context(x->call), &id, NULL, 0, image_found, x);
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
	while (x->sending && (x->out.size > 0 || x->fd >= 0) && ctd_stream_window(x->stream) > 0)
		if (!send_chunk(x))
			return;
	if (!x->sending || x->asked || x->out.size > 0 || x->fd >= 0)
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
	const struct export_blob *b = &x->set.blobs[x->at++];
	export_add_blob(&x->out, b);
	x->offset = 0;
	x->size = b->size;
	if (b->size > 0)
		x->fd = take_fd(&answer->fds[0]);
	pump(x);
}

static void next_blob(struct ctd_export *x) {
	while (x->at < x->set.n_blobs && !x->set.blobs[x->at].here)
		x->at++;
	if (x->at < x->set.n_blobs) {
		Bulkhead__ObjectKey id = key_of(x, BULKHEAD__OBJECT_KIND__OBJECT_CONTENT, x->set.blobs[x->at].digest);
		x->asked = content_open_send(metadata_of(x), grpc_call_context(x->call), &id, NULL, 0, blob_opened, x);
		return;
	}
	export_add_end(&x->out);
	x->ended = true;
	pump(x);
}

static void send_begin(struct ctd_export *x) {
	x->at = 0;
	x->sending = true;
	export_add_documents(&x->out, &x->set, !x->to->skip_compatibility_manifest);
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

/* The name itself, and what else the client names. */
static int names_take(struct ctd_export *x, struct fault *fault) {
	x->set.images = arena_zalloc(&x->arena, (x->from->n_extra_references + 1) * sizeof(*x->set.images));
	if (!x->set.images)
		return fault_errno(fault, ENOMEM, "export");
	if (*x->from->name)
		x->set.images[x->set.n_images++].name = x->from->name;
	for (size_t i = 0; i < x->from->n_extra_references; i++) {
		if (x->from->extra_references[i]->is_prefix)
			return fault_set(fault, FAULT_UNIMPLEMENTED, "export: images are named one by one");
		x->set.images[x->set.n_images++].name = x->from->extra_references[i]->name;
	}
	return x->set.n_images ? 0 : fault_set(fault, FAULT_INVALID_ARGUMENT, "export: no image is named");
}

static int export_init(struct ctd_export *x, struct fault *fault) {
	int r = names_take(x, fault);
	if (r < 0)
		return r;
	x->set.blobs = arena_alloc(&x->arena, BLOBS_MAX * sizeof(*x->set.blobs));
	if (!x->set.blobs)
		return fault_errno(fault, ENOMEM, "export");
	x->stream = ctd_stream_use(x->call, x->to->stream, &export_user, x);
	return x->stream ? 0
			 : fault_set(fault, FAULT_NOT_FOUND, "export: there is no stream \"%.100s\"", x->to->stream);
}

struct ctd_export *ctd_export_begin(struct grpc_call *call, const T(ImageStore) * from, const T(ImageExportStream) * to,
				    void (*done)(void *ctx, const struct fault *fault), void *ctx,
				    struct fault *fault) {
	struct ctd_export *x = calloc(1, sizeof(*x));
	if (!x) {
		fault_errno(fault, ENOMEM, "export");
		return NULL;
	}
	*x = (struct ctd_export){ .call = call, .from = from, .to = to, .done = done, .ctx = ctx, .fd = -1 };
	arena_init(&x->arena, 0);
	if (export_init(x, fault) < 0) {
		ctd_export_free(x);
		return NULL;
	}
	image_next(x);
	return x;
}
