/*
 *   lease -> the archive into the content store (archive.h) -> names -> each
 *   name's image, made of that content as a pull makes it of a registry's -> the
 *   lease goes
 *
 * The lease is tied to this process: it goes with it, and what it held.
 */
#include "workers/api/containerd/import.h"

#include "workers/api/containerd/archive.h"
#include "workers/api/containerd/own_lease.h"
#include "workers/api/containerd/pulls.h"

#include <stdio.h>
#include <string.h>

#define T(name) Containerd__Types__Transfer__##name
#define NAMES_MAX 1024

struct named {
	char *name;
	const struct archive_image *image;
};

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
	struct named *names; /* NAMES_MAX */
	size_t n_names, at;
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

/* --- names ------------------------------------------------------------------ */

static bool begins(const char *name, const char *prefix) {
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* A name of the archive's own counts unless the client asks for others. */
static char *own_name(const struct ctd_import *x, const struct archive_image *i) {
	bool asked = false;
	for (size_t k = 0; k < x->to->n_extra_references; k++) {
		const T(ImageReference) *r = x->to->extra_references[k];
		if (r->is_prefix && (r->allow_overwrite || begins(i->name, r->name)))
			return (char *)(uintptr_t)i->name;
		asked |= r->is_prefix;
	}
	return asked ? NULL : (char *)(uintptr_t)i->name;
}

static char *name_of(struct ctd_import *x, const struct archive_image *i) {
	if (i->name)
		return own_name(x, i);
	for (size_t k = 0; i->ref && k < x->to->n_extra_references; k++)
		if (x->to->extra_references[k]->is_prefix)
			return arena_printf(&x->arena, "%s:%s", x->to->extra_references[k]->name, i->ref);
	return *x->to->name && ctd_archive_images(x->archive)->n == 1 ? x->to->name : NULL;
}

/* "name@digest", where the client wants that, too. */
static void add_digests(struct ctd_import *x, const struct archive_image *i, bool named) {
	for (size_t k = 0; k < x->to->n_extra_references && x->n_names < NAMES_MAX; k++) {
		const T(ImageReference) *r = x->to->extra_references[k];
		if (!r->is_prefix || !r->add_digest || (named && r->skip_named_digest))
			continue;
		char *name = arena_printf(&x->arena, "%s@%s", r->name, i->target.digest);
		if (name)
			x->names[x->n_names++] = (struct named){ .name = name, .image = i };
	}
}

static int names_take(struct ctd_import *x, struct fault *fault) {
	const struct archive_images *images = ctd_archive_images(x->archive);
	x->names = arena_alloc(&x->arena, NAMES_MAX * sizeof(*x->names));
	for (size_t k = 0; x->names && k < images->n && x->n_names < NAMES_MAX; k++) {
		char *name = name_of(x, &images->v[k]);
		if (name)
			x->names[x->n_names++] = (struct named){ .name = name, .image = &images->v[k] };
		add_digests(x, &images->v[k], name != NULL);
	}
	if (!x->names)
		return fault_errno(fault, ENOMEM, "import");
	if (x->n_names == NAMES_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "import: the images have %d names or more", NAMES_MAX);
	return x->n_names ? 0
			  : fault_set(fault, FAULT_INVALID_ARGUMENT,
				      "import: no image of the archive has a name; give a prefix for names");
}

/* --- images ----------------------------------------------------------------- */

static void image_next(struct ctd_import *x);

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
	x->user->told(x->ctx, "saved", x->names[x->at++].name);
	image_next(x);
}

static struct ctd_pulls *image_begin(struct ctd_import *x, const struct named *n) {
	static const struct ctd_pulls_user user = { .told = image_told, .done = image_made };
	struct grpc_translation t = { .call = x->call, .arena = &x->arena };
	Bulkhead__ImagePullRequest *q =
	    ARENA_NEW(t.arena, Bulkhead__ImagePullRequest, BULKHEAD__IMAGE_PULL_REQUEST__INIT);
	Bulkhead__Object *image = ctd_object(&t, BULKHEAD__OBJECT_KIND__OBJECT_IMAGE, n->name);
	if (!q || !image)
		return NULL;
	image->labels = (void *)x->to->labels;
	image->n_labels = x->to->n_labels;
	image->held_by = ctd_lease(&t);
	q->image = image;
	q->reference = n->name;
	q->local = (Bulkhead__Descriptor *)(uintptr_t)&n->image->target;
	const struct ctd_pulls_order order = { .request = q, .to = x->to, .lease = x->lease.id };
	return ctd_pulls_begin(x->call, &order, &user, x);
}

static void image_next(struct ctd_import *x) {
	struct fault fault;
	if (x->at == x->n_names) {
		x->user->told(x->ctx, "Completed import", "");
		finish(x, NULL);
		return;
	}
	x->pulls = image_begin(x, &x->names[x->at]);
	if (!x->pulls) {
		fault_errno(&fault, ENOMEM, "import");
		finish(x, &fault);
	}
}

static void archive_done(void *ctx, const struct fault *fault) {
	struct ctd_import *x = ctx;
	struct fault f;
	if (!fault && names_take(x, &f) < 0)
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
	x->archive = ctd_archive_begin(x->call, x->from->stream, x->lease.id, archive_done, x, &fault);
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
