/*
 *   lease -> the archive into the content store (archive.h) -> names
 *   (import_names.h) -> each name's image, made of that content as a pull makes it
 *   of a registry's -> the index, once it holds what it names -> the lease goes
 *
 * The lease is tied to this process: it goes with it, and what it held.
 */
#include "workers/api/containerd/import.h"

#include "workers/api/containerd/archive.h"
#include "workers/api/containerd/import_names.h"
#include "workers/api/containerd/own_lease.h"
#include "workers/api/containerd/pulls.h"

#include <stdio.h>
#include <string.h>

#define LABEL_CONTENT_MANIFEST "containerd.io/gc.ref.content.m."
#define T(name) Containerd__Types__Transfer__##name

struct ctd_import {
	struct grpc_call *call;
	const T(ImageImportStream) * from;
	const T(ImageStore) * to;
	const struct ctd_import_user *user;
	void *ctx;

	struct arena arena;
	struct ctd_own_lease lease;
	struct ctd_archive *archive;
	struct ctd_pulls *pulls;
	struct msg_call *asked;
	struct import_names names;
	size_t at;
	bool index_holds; /* what it names */
	bool failed;
	struct fault fault;
};

void ctd_import_free(struct ctd_import *x) {
	if (!x)
		return;
	msg_cancel(x->asked);
	ctd_archive_free(x->archive);
	ctd_pulls_free(x->pulls);
	if (x->lease.made)
		ctd_own_lease_drop(&x->lease, x->call, NULL, NULL);
	arena_deinit(&x->arena);
	free(x);
}

static void undone(void *ctx, const struct msg_answer *answer) {
	struct ctd_import *x = ctx;
	x->asked = NULL;
	x->user->done(x->ctx, x->failed ? &x->fault : NULL);
}

static void finish(struct ctd_import *x, const struct fault *fault) {
	x->failed = fault != NULL;
	if (fault)
		x->fault = *fault;
	ctd_archive_free(take_ptr(x->archive));
	x->asked = ctd_own_lease_drop(&x->lease, x->call, undone, x);
}

/* --- images ----------------------------------------------------------------- */

static void image_next(struct ctd_import *x);
static void image_saved(struct ctd_import *x);

static void image_told(void *ctx, const Bulkhead__V1__PullEvent *event) {
}

static void image_made(void *ctx, const struct fault *fault) {
	struct ctd_import *x = ctx;
	struct fault f;
	/* The pulls' own, perhaps. */
	if (fault)
		f = *fault;
	ctd_pulls_free(take_ptr(x->pulls));
	if (fault) {
		fault_prefix(&f, 0, "import");
		finish(x, &f);
		return;
	}
	image_saved(x);
}

/* A reference for a part of the index, which has no name; some of the client's
 * for the index, without the digest, which would be another's. */
static char *part_name(struct ctd_import *x) {
	const char *name = *x->to->name ? x->to->name : x->to->extra_references[0]->name;
	return arena_printf(&x->arena, "%.*s", (int)strcspn(name, "@"), name);
}

static struct ctd_pulls *image_begin(struct ctd_import *x, const struct import_name *n) {
	static const struct ctd_pulls_user user = { .told = image_told, .done = image_made };
	struct grpc_translation t = { .call = x->call, .arena = &x->arena };
	Bulkhead__ImagePullRequest *q =
	    ARENA_NEW(t.arena, Bulkhead__ImagePullRequest, BULKHEAD__IMAGE_PULL_REQUEST__INIT);
	Bulkhead__Object *image =
	    ctd_object(&t, BULKHEAD__OBJECT_KIND__OBJECT_IMAGE, n->name ? n->name : n->image->target.digest);
	if (!q || !image || !(q->reference = n->name ? n->name : part_name(x)))
		return NULL;
	image->labels = (void *)x->to->labels;
	image->n_labels = x->to->n_labels;
	image->held_by = ctd_lease(&t);
	q->image = image;
	q->more_follow = !n->name;
	q->local = (Bulkhead__Descriptor *)(uintptr_t)&n->image->target;
	const struct ctd_pulls_order order = { .request = q, .to = x->to, .lease = x->lease.id };
	return ctd_pulls_begin(x->call, &order, &user, x);
}

/* --- the index -------------------------------------------------------------- */

static void index_holds(void *ctx, const struct msg_answer *answer) {
	struct ctd_import *x = ctx;
	x->asked = NULL;
	if (answer->fault) {
		finish(x, answer->fault);
		return;
	}
	x->index_holds = true;
	image_next(x);
}

static void index_made(void *ctx, const struct msg_answer *answer) {
	struct ctd_import *x = ctx;
	x->asked = NULL;
	if (answer->fault)
		finish(x, answer->fault);
	else
		image_saved(x);
}

/* NULL: out of memory. */
static Bulkhead__ObjectUpdateRequest *holding(struct grpc_translation *t, const struct archive_images *images) {
	Bulkhead__ObjectUpdateRequest *q =
	    ARENA_NEW(t->arena, Bulkhead__ObjectUpdateRequest, BULKHEAD__OBJECT_UPDATE_REQUEST__INIT);
	Bulkhead__Object *o = ctd_object(t, BULKHEAD__OBJECT_KIND__OBJECT_CONTENT, images->index->digest);
	if (!q || !o || !(o->content = ARENA_NEW(t->arena, Bulkhead__ContentBody, BULKHEAD__CONTENT_BODY__INIT)) ||
	    !(o->labels = arena_alloc(t->arena, images->n * sizeof(*o->labels))) ||
	    !(q->paths = arena_alloc(t->arena, images->n * sizeof(*q->paths))))
		return NULL;
	o->body_case = BULKHEAD__OBJECT__BODY_CONTENT;
	for (size_t i = 0; i < images->n; i++) {
		Bulkhead__Object__LabelsEntry *l =
		    ARENA_NEW(t->arena, Bulkhead__Object__LabelsEntry, BULKHEAD__OBJECT__LABELS_ENTRY__INIT);
		char *path = arena_printf(t->arena, "labels." LABEL_CONTENT_MANIFEST "%zu", i);
		if (!l || !path)
			return NULL;
		l->key = path + strlen("labels.");
		l->value = images->v[i].target.digest;
		o->labels[o->n_labels++] = l;
		q->paths[q->n_paths++] = path;
	}
	q->object = o;
	return q;
}

static Bulkhead__ObjectUpdateRequest *making(struct grpc_translation *t, const struct ctd_import *x, const char *name) {
	Bulkhead__ObjectUpdateRequest *q =
	    ARENA_NEW(t->arena, Bulkhead__ObjectUpdateRequest, BULKHEAD__OBJECT_UPDATE_REQUEST__INIT);
	Bulkhead__Object *o = ctd_object(t, BULKHEAD__OBJECT_KIND__OBJECT_IMAGE, name);
	if (!q || !o || !(o->image = ARENA_NEW(t->arena, Bulkhead__ImageBody, BULKHEAD__IMAGE_BODY__INIT)))
		return NULL;
	o->body_case = BULKHEAD__OBJECT__BODY_IMAGE;
	o->image->target = (Bulkhead__Descriptor *)(uintptr_t)ctd_archive_images(x->archive)->index;
	o->labels = (void *)x->to->labels;
	o->n_labels = x->to->n_labels;
	o->held_by = ctd_lease(t);
	q->object = o;
	q->make = true;
	return q;
}

/* False: out of memory. */
static bool index_begin(struct ctd_import *x, const char *name) {
	struct grpc_translation t = { .call = x->call, .arena = &x->arena };
	const Bulkhead__ObjectUpdateRequest *q = x->index_holds ? making(&t, x, name)
								: holding(&t, ctd_archive_images(x->archive));
	if (q)
		x->asked = object_update_send(grpc_call_server(x->call)->metadata, grpc_call_context(x->call), q, NULL,
					      0, x->index_holds ? index_made : index_holds, x);
	return q;
}

/* --- one after the other ---------------------------------------------------- */

static void image_saved(struct ctd_import *x) {
	const char *name = x->names.v[x->at++].name;
	if (name)
		x->user->told(x->ctx, "saved", name);
	image_next(x);
}

static void image_next(struct ctd_import *x) {
	struct fault fault;
	if (x->at == x->names.n) {
		x->user->told(x->ctx, "Completed import", "");
		finish(x, NULL);
		return;
	}
	const struct import_name *n = &x->names.v[x->at];
	bool begun = n->image ? (x->pulls = image_begin(x, n)) != NULL : index_begin(x, n->name);
	if (!begun) {
		fault_errno(&fault, ENOMEM, "import");
		finish(x, &fault);
	}
}

static void archive_done(void *ctx, const struct fault *fault) {
	struct ctd_import *x = ctx;
	struct fault f;
	if (!fault && import_names(&x->arena, x->to, ctd_archive_images(x->archive), &x->names, &f) < 0)
		fault = &f;
	if (fault)
		finish(x, fault);
	else
		image_next(x);
}

/* --- the beginning ---------------------------------------------------------- */

static void leased(void *ctx, const struct msg_answer *answer) {
	struct ctd_import *x = ctx;
	struct fault fault;
	x->asked = NULL;
	if (answer->fault) {
		x->user->done(x->ctx, answer->fault);
		return;
	}
	x->lease.made = true;
	x->user->told(x->ctx, "Importing", "");
	const struct ctd_archive_order order = { .stream = x->from->stream,
						 .lease = x->lease.id,
						 .keep_index = import_keeps_index(x->to) };
	x->archive = ctd_archive_begin(x->call, &order, archive_done, x, &fault);
	if (!x->archive)
		finish(x, &fault);
}

struct ctd_import *ctd_import_begin(struct grpc_call *call, const T(ImageImportStream) * from, const T(ImageStore) * to,
				    const struct ctd_import_user *user, void *ctx, struct fault *fault) {
	struct ctd_import *x = calloc(1, sizeof(*x));
	if (!x) {
		fault_errno(fault, ENOMEM, "import");
		return NULL;
	}
	*x = (struct ctd_import){ .call = call, .from = from, .to = to, .user = user, .ctx = ctx };
	arena_init(&x->arena, 0);
	x->asked = ctd_own_lease_make(&x->lease, call, "import", leased, x);
	return x;
}
