/*
 *   each name's image -> each blob: its record -> of an index, or a manifest, its
 *   bytes, which lead to more -> done
 */
#include "workers/api/containerd/export_walk.h"

#include "base/id.h"
#include "workers/api/containerd/containerd.h"
#include "workers/api/containerd/export_children.h"

#include <string.h>
#include <unistd.h>

#define T(name) Containerd__Types__Transfer__##name
#define BLOBS_MAX 4096

struct ctd_export_walk {
	struct grpc_call *call;
	const T(ImageStore) * from;
	const T(ImageExportStream) * to;
	void (*done)(void *ctx, const struct export_set *set, const struct fault *fault);
	void *ctx;
	struct msg_call *asked;
	struct arena arena;
	Containerd__Types__Platform *here; /* this machine's */
	struct export_set set;		   /* BLOBS_MAX blobs */
	size_t image_at, at;
};

void ctd_export_walk_free(struct ctd_export_walk *x) {
	if (!x)
		return;
	msg_cancel(x->asked);
	arena_deinit(&x->arena);
	free(x);
}

static void fail(struct ctd_export_walk *x, const struct fault *fault) {
	x->done(x->ctx, NULL, fault);
}

static Bulkhead__ObjectKey key_of(const struct ctd_export_walk *x, Bulkhead__ObjectKind kind, const char *key) {
	const struct grpc_translation t = { .call = x->call };
	Bulkhead__ObjectKey id = BULKHEAD__OBJECT_KEY__INIT;
	id.kind = kind;
	id.namespace_ = ctd_namespace(&t);
	id.key = (char *)(uintptr_t)key;
	return id;
}

static struct link *metadata_of(const struct ctd_export_walk *x) {
	return grpc_call_server(x->call)->metadata;
}

/* --- what belongs to it ----------------------------------------------------- */

static struct export_blob *known(const struct ctd_export_walk *x, const char *digest) {
	for (size_t i = 0; i < x->set.n_blobs; i++)
		if (strcmp(x->set.blobs[i].digest, digest) == 0)
			return &x->set.blobs[i];
	return NULL;
}

/* optional: it may be elsewhere. NULL: the fault says why not. */
static struct export_blob *found(struct ctd_export_walk *x, const char *digest, const char *media_type, bool optional,
				 struct fault *fault) {
	struct export_blob *b = known(x, digest);
	if (b) {
		b->optional &= optional;
		return b;
	}
	if (x->set.n_blobs == BLOBS_MAX) {
		fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "export: the images are made of more than %d blobs",
			  BLOBS_MAX);
		return NULL;
	}
	char *copy = arena_strdup(&x->arena, digest);
	if (!copy) {
		fault_errno(fault, ENOMEM, "export");
		return NULL;
	}
	x->set.blobs[x->set.n_blobs] =
	    (struct export_blob){ .digest = copy, .kind = export_kind_of(media_type), .optional = optional };
	return &x->set.blobs[x->set.n_blobs++];
}

/* The images that an index names stand for themselves: what is none, as builders
 * put it beside them, isn't pulled either. */
static bool is_image(const struct export_child *c) {
	return !c->has_platform || strcmp(c->os, "unknown") != 0 || strcmp(c->architecture, "unknown") != 0;
}

static int index_follow(struct ctd_export_walk *x, struct export_blob *b, const struct export_children *c,
			struct fault *fault) {
	Containerd__Types__Platform *const *wanted = x->to->n_platforms ? x->to->platforms : &x->here;
	size_t n = x->to->n_platforms ? x->to->n_platforms : 1;
	for (size_t i = 0; i < c->n; i++) {
		const struct export_child *k = &c->v[i];
		/* One within another one is for what that is. */
		bool fits = !b->is_target || export_is_for(k, wanted, n);
		if (!fits && !x->to->all_platforms)
			continue;
		struct export_blob *image = found(x, k->digest, k->media_type, !is_image(k), fault);
		if (!image)
			return -ECANCELED;
		if (fits && !b->first)
			b->first = image;
	}
	if (b->first || x->to->all_platforms)
		return 0;
	return fault_set(fault, FAULT_NOT_FOUND, "export: image %s isn't for %s", b->digest,
			 x->to->n_platforms ? "any of the platforms named" : "this machine's platform");
}

static int manifest_follow(struct ctd_export_walk *x, struct export_blob *b, const struct export_children *c,
			   struct fault *fault) {
	b->parts = arena_alloc(&x->arena, c->n * sizeof(*b->parts));
	if (!b->parts)
		return fault_errno(fault, ENOMEM, "export");
	for (size_t i = 0; i < c->n; i++) {
		const struct export_child *k = &c->v[i];
		b->parts[b->n_parts++] = k->digest;
		if (x->to->skip_non_distributable && export_is_foreign(k->media_type))
			continue;
		if (!found(x, k->digest, k->media_type, b->optional, fault))
			return -ECANCELED;
	}
	return 0;
}

static int follow(struct ctd_export_walk *x, struct export_blob *b, const struct buffer *document,
		  struct fault *fault) {
	struct export_children c;
	if (export_children(&x->arena, b->kind, document, &c, fault) < 0)
		return fault_prefix(fault, -EBADMSG, "export: blob %s", b->digest);
	return b->kind == EXPORT_INDEX ? index_follow(x, b, &c, fault) : manifest_follow(x, b, &c, fault);
}

/* --- blobs ------------------------------------------------------------------ */

static void next(struct ctd_export_walk *x);

static void opened(void *ctx, const struct msg_answer *answer) {
	struct ctd_export_walk *x = ctx;
	struct export_blob *b = &x->set.blobs[x->at];
	CLEANUP_BUFFER struct buffer document = { 0 };
	struct fault fault;
	x->asked = NULL;
	if (answer->fault) {
		fail(x, answer->fault);
		return;
	}
	uint8_t *p = buffer_reserve(&document, (size_t)b->size + 1);
	ssize_t n = p ? pread(answer->fds[0], p, (size_t)b->size, 0) : -1;
	document.size = n > 0 ? (size_t)n : 0;
	if (follow(x, b, &document, &fault) < 0) {
		fail(x, &fault);
		return;
	}
	x->at++;
	next(x);
}

static void looked(void *ctx, const struct msg_answer *answer) {
	struct ctd_export_walk *x = ctx;
	struct export_blob *b = &x->set.blobs[x->at];
	bool elsewhere = answer->fault && answer->fault->code == FAULT_NOT_FOUND && b->optional;
	struct fault fault;
	x->asked = NULL;
	if (answer->fault && !elsewhere) {
		fault = *answer->fault;
		fault_prefix(&fault, 0, "export");
		fail(x, &fault);
		return;
	}
	const Bulkhead__Object *o = elsewhere ? NULL : object_get_answer(answer);
	b->here = o && o->body_case == BULKHEAD__OBJECT__BODY_CONTENT;
	b->size = b->here ? o->content->size : 0;
	if (b->here && b->kind != EXPORT_OTHER && b->size > 0 && b->size <= EXPORT_DOCUMENT_MAX) {
		Bulkhead__ObjectKey id = key_of(x, BULKHEAD__OBJECT_KIND__OBJECT_CONTENT, b->digest);
		x->asked = content_open_send(metadata_of(x), grpc_call_context(x->call), &id, NULL, 0, opened, x);
		return;
	}
	if (b->here && b->kind != EXPORT_OTHER) {
		fault_set(&fault, FAULT_DATA_LOSS, "export: blob %s of %llu bytes is no index or manifest", b->digest,
			  (unsigned long long)b->size);
		fail(x, &fault);
		return;
	}
	x->at++;
	next(x);
}

static void next(struct ctd_export_walk *x) {
	if (x->at == x->set.n_blobs) {
		x->done(x->ctx, &x->set, NULL);
		return;
	}
	Bulkhead__ObjectKey id = key_of(x, BULKHEAD__OBJECT_KIND__OBJECT_CONTENT, x->set.blobs[x->at].digest);
	x->asked = object_get_send(metadata_of(x), grpc_call_context(x->call), &id, NULL, 0, looked, x);
}

/* --- images ----------------------------------------------------------------- */

static void image_next(struct ctd_export_walk *x);

static int image_take(struct ctd_export_walk *x, const Bulkhead__Object *o, struct fault *fault) {
	struct export_image *i = &x->set.images[x->image_at];
	const Bulkhead__Descriptor *target = o->body_case == BULKHEAD__OBJECT__BODY_IMAGE ? o->image->target : NULL;
	if (!target || !digest_valid(target->digest))
		return fault_set(fault, FAULT_INTERNAL, "export \"%.200s\": the image has no target", i->name);
	struct export_blob *b = found(x, target->digest, target->media_type, false, fault);
	if (!b)
		return -ECANCELED;
	b->is_target = true;
	i->target = b;
	i->size = target->size;
	i->media_type = arena_strdup(&x->arena, target->media_type);
	return i->media_type ? 0 : fault_errno(fault, ENOMEM, "export \"%.200s\"", i->name);
}

static void image_found(void *ctx, const struct msg_answer *answer) {
	struct ctd_export_walk *x = ctx;
	struct fault fault;
	x->asked = NULL;
	if (answer->fault) {
		fail(x, answer->fault);
		return;
	}
	if (image_take(x, object_get_answer(answer), &fault) < 0) {
		fail(x, &fault);
		return;
	}
	x->image_at++;
	image_next(x);
}

static void image_next(struct ctd_export_walk *x) {
	if (x->image_at == x->set.n_images) {
		next(x);
		return;
	}
	Bulkhead__ObjectKey id = key_of(x, BULKHEAD__OBJECT_KIND__OBJECT_IMAGE, x->set.images[x->image_at].name);
	x->asked = object_get_send(metadata_of(x), grpc_call_context(x->call), &id, NULL, 0, image_found, x);
}

/* --- the beginning ---------------------------------------------------------- */

/* The name itself, and what else the client names. */
static int names_take(struct ctd_export_walk *x, struct fault *fault) {
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

static int walk_init(struct ctd_export_walk *x, struct fault *fault) {
	int r = names_take(x, fault);
	if (r < 0)
		return r;
	x->here = ctd_platform(&x->arena);
	x->set.blobs = arena_alloc(&x->arena, BLOBS_MAX * sizeof(*x->set.blobs));
	return x->here && x->set.blobs ? 0 : fault_errno(fault, ENOMEM, "export");
}

struct ctd_export_walk *
ctd_export_walk_begin(struct grpc_call *call, const T(ImageStore) * from, const T(ImageExportStream) * to,
		      void (*done)(void *ctx, const struct export_set *set, const struct fault *fault), void *ctx,
		      struct fault *fault) {
	struct ctd_export_walk *x = calloc(1, sizeof(*x));
	if (!x) {
		fault_errno(fault, ENOMEM, "export");
		return NULL;
	}
	*x = (struct ctd_export_walk){ .call = call, .from = from, .to = to, .done = done, .ctx = ctx };
	arena_init(&x->arena, 0);
	if (walk_init(x, fault) < 0) {
		ctd_export_walk_free(x);
		return NULL;
	}
	image_next(x);
	return x;
}
