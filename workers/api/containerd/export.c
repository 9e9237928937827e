/*
 *   look up the images -> walk: each blob's record, from which the labels lead to
 *   more -> documents, made here -> each blob, by its descriptor -> the end
 *
 * Bytes go out as the client opens its window, so nothing piles up.
 */
#include "workers/api/containerd/export.h"

#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>

#define T(name) Containerd__Types__Transfer__##name
#define T_INIT(name) CONTAINERD__TYPES__TRANSFER__##name##__INIT
#define CHUNK (32 * 1024)
#define BLOCK 512
#define BLOBS_MAX 4096
#define LABEL_CONTENT "containerd.io/gc.ref.content"

struct blob {
	const char *digest;
	uint64_t size;
	bool here;
	const struct blob *parent; /* NULL: it is an image's target */
	/* Of an image's manifest. */
	const char *config;
	const char **layers;
	size_t n_layers;
};

/* An image by one of the names that the client gives. */
struct named {
	const char *name;
	const char *media_type;
	uint64_t size;
	const struct blob *target; /* NULL: not looked up yet */
};

struct ctd_export {
	struct grpc_call *call;
	const T(ImageStore) * from;
	const T(ImageExportStream) * to;
	struct ctd_stream *stream; /* NULL: gone */
	struct msg_call *asked;
	void (*done)(void *ctx, const struct fault *fault);
	void *ctx;

	struct arena arena;
	struct named *images;
	size_t n_images, image_at;
	struct blob *blobs; /* BLOBS_MAX: found so far */
	size_t n_blobs, at; /* at: walked, then sent */
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

/* NULL: there are too many, or out of memory. */
static const struct blob *found(struct ctd_export *x, const char *digest, const struct blob *parent) {
	for (size_t i = 0; i < x->n_blobs; i++)
		if (strcmp(x->blobs[i].digest, digest) == 0)
			return &x->blobs[i];
	char *copy = x->n_blobs < BLOBS_MAX ? arena_strdup(&x->arena, digest) : NULL;
	if (!copy)
		return NULL;
	x->blobs[x->n_blobs] = (struct blob){ .digest = copy, .parent = parent };
	return &x->blobs[x->n_blobs++];
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

static void follow(struct ctd_export *x, struct blob *b, const Bulkhead__Object *o) {
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
	struct blob *b = &x->blobs[x->at];
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
	if (x->at == x->n_blobs) {
		send_begin(x);
		return;
	}
	Bulkhead__ObjectKey id = key_of(x, BULKHEAD__OBJECT_KIND__OBJECT_CONTENT, x->blobs[x->at].digest);
	x->asked = object_get_send(metadata_of(x), grpc_call_context(x->call), &id, NULL, 0, walked, x);
}

static void image_next(struct ctd_export *x);

static void image_found(void *ctx, const struct msg_answer *answer) {
	struct ctd_export *x = ctx;
	struct named *i = &x->images[x->image_at];
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
	x->image_at++;
	image_next(x);
}

static void image_next(struct ctd_export *x) {
	if (x->image_at == x->n_images) {
		walk(x);
		return;
	}
	Bulkhead__ObjectKey id = key_of(x, BULKHEAD__OBJECT_KIND__OBJECT_IMAGE, x->images[x->image_at].name);
	x->asked = object_get_send(metadata_of(x), grpc_call_context(x->call), &id, NULL, 0, image_found, x);
}

/* --- tar -------------------------------------------------------------------- */

/* Octal, or binary with the first bit set when it doesn't fit. */
static void tar_number(char *field, size_t size, uint64_t n) {
	if (n < UINT64_C(1) << (3 * (size - 1))) {
		char text[32];
		snprintf(text, sizeof(text), "%0*llo", (int)size - 1, (unsigned long long)n);
		memcpy(field, text, size);
		return;
	}
	for (size_t i = size; i-- > 0; n >>= 8)
		field[i] = (char)(n & 0xff);
	field[0] |= (char)0x80;
}

static void tar_header(struct buffer *out, const char *name, uint64_t size) {
	char h[BLOCK] = { 0 };
	unsigned sum = 0;
	snprintf(h, 100, "%s", name);
	tar_number(h + 100, 8, 0444);
	tar_number(h + 108, 8, 0);
	tar_number(h + 116, 8, 0);
	tar_number(h + 124, 12, size);
	tar_number(h + 136, 12, 0);
	memset(h + 148, ' ', 8);
	h[156] = '0';
	memcpy(h + 257, "ustar\00000", 8);
	for (size_t i = 0; i < BLOCK; i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	buffer_add(out, h, sizeof(h));
}

static void tar_pad(struct buffer *out, uint64_t size) {
	static const char zeros[BLOCK];
	buffer_add(out, zeros, (size_t)(-size % BLOCK));
}

static void tar_file(struct buffer *out, const char *name, const struct buffer *data) {
	tar_header(out, name, data->size);
	buffer_add(out, data->data, data->size);
	tar_pad(out, data->size);
	out->failed |= data->failed;
}

/* --- documents -------------------------------------------------------------- */

static void add_entry(struct json *j, const struct named *i) {
	const char *colon = strrchr(i->name, ':');
	json_open(j, NULL, '{');
	json_text(j, "mediaType", i->media_type);
	json_text(j, "digest", i->target->digest);
	json_unsigned(j, "size", i->size);
	json_open(j, "annotations", '{');
	json_text(j, "io.containerd.image.name", i->name);
	if (colon && !strchr(colon, '/') && !strchr(i->name, '@'))
		json_text(j, "org.opencontainers.image.ref.name", colon + 1);
	json_close(j, '}');
	json_close(j, '}');
}

static void add_index(struct ctd_export *x) {
	struct json j = { 0 };
	json_open(&j, NULL, '{');
	json_number(&j, "schemaVersion", 2);
	json_open(&j, "manifests", '[');
	for (size_t i = 0; i < x->n_images; i++)
		add_entry(&j, &x->images[i]);
	json_close(&j, ']');
	json_close(&j, '}');
	tar_file(&x->out, "index.json", &j.text);
	buffer_deinit(&j.text);
}

static void json_blob(struct json *j, const char *key, const char *digest) {
	char path[128];
	snprintf(path, sizeof(path), "blobs/sha256/%s", digest + strlen("sha256:"));
	json_text(j, key, path);
}

/* The manifest that a target is, or the first that it leads to; NULL: none. */
static const struct blob *manifest_of(const struct ctd_export *x, const struct blob *target) {
	for (size_t i = 0; i < x->n_blobs; i++) {
		const struct blob *b = &x->blobs[i];
		if (b->here && b->config && (b == target || b->parent == target))
			return b;
	}
	return NULL;
}

static void add_docker(struct json *j, const struct named *i, const struct blob *manifest) {
	json_open(j, NULL, '{');
	json_blob(j, "Config", manifest->config);
	json_open(j, "RepoTags", '[');
	json_text(j, NULL, i->name);
	json_close(j, ']');
	json_open(j, "Layers", '[');
	for (size_t k = 0; k < manifest->n_layers; k++)
		if (manifest->layers[k])
			json_blob(j, NULL, manifest->layers[k]);
	json_close(j, ']');
	json_close(j, '}');
}

/* What docker reads. */
static void add_manifest(struct ctd_export *x) {
	struct json j = { 0 };
	json_open(&j, NULL, '[');
	for (size_t i = 0; i < x->n_images; i++) {
		const struct blob *manifest = manifest_of(x, x->images[i].target);
		if (manifest)
			add_docker(&j, &x->images[i], manifest);
	}
	json_close(&j, ']');
	tar_file(&x->out, "manifest.json", &j.text);
	buffer_deinit(&j.text);
}

static void add_layout(struct ctd_export *x) {
	struct json j = { 0 };
	json_open(&j, NULL, '{');
	json_text(&j, "imageLayoutVersion", "1.0.0");
	json_close(&j, '}');
	tar_file(&x->out, "oci-layout", &j.text);
	buffer_deinit(&j.text);
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
		tar_pad(&x->out, x->size);
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
	char name[128];
	x->asked = NULL;
	if (answer->fault) {
		fail(x, answer->fault);
		return;
	}
	const struct blob *b = &x->blobs[x->at++];
	snprintf(name, sizeof(name), "blobs/sha256/%s", b->digest + strlen("sha256:"));
	tar_header(&x->out, name, b->size);
	x->offset = 0;
	x->size = b->size;
	if (b->size > 0)
		x->fd = take_fd(&answer->fds[0]);
	pump(x);
}

static void next_blob(struct ctd_export *x) {
	static const char end[2 * BLOCK];
	while (x->at < x->n_blobs && !x->blobs[x->at].here)
		x->at++;
	if (x->at < x->n_blobs) {
		Bulkhead__ObjectKey id = key_of(x, BULKHEAD__OBJECT_KIND__OBJECT_CONTENT, x->blobs[x->at].digest);
		x->asked = content_open_send(metadata_of(x), grpc_call_context(x->call), &id, NULL, 0, blob_opened, x);
		return;
	}
	buffer_add(&x->out, end, sizeof(end));
	x->ended = true;
	pump(x);
}

static void send_begin(struct ctd_export *x) {
	x->at = 0;
	x->sending = true;
	add_layout(x);
	add_index(x);
	if (!x->to->skip_compatibility_manifest)
		add_manifest(x);
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
	x->images = arena_zalloc(&x->arena, (x->from->n_extra_references + 1) * sizeof(*x->images));
	if (!x->images)
		return fault_errno(fault, ENOMEM, "export");
	if (*x->from->name)
		x->images[x->n_images++].name = x->from->name;
	for (size_t i = 0; i < x->from->n_extra_references; i++) {
		if (x->from->extra_references[i]->is_prefix)
			return fault_set(fault, FAULT_UNIMPLEMENTED, "export: images are named one by one");
		x->images[x->n_images++].name = x->from->extra_references[i]->name;
	}
	return x->n_images ? 0 : fault_set(fault, FAULT_INVALID_ARGUMENT, "export: no image is named");
}

static int export_init(struct ctd_export *x, struct fault *fault) {
	int r = names_take(x, fault);
	if (r < 0)
		return r;
	x->blobs = arena_alloc(&x->arena, BLOBS_MAX * sizeof(*x->blobs));
	if (!x->blobs)
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
