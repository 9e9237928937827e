/*
 * What a pull leaves in a namespace of containerd's clients: the blobs as
 * content, the layers as committed snapshots (when the client wants it
 * unpacked), the image. The same layers and blobs serve the CRI, should it have
 * the image, too.
 */
#include "workers/metadata/pull_private.h"

#include "workers/metadata/image.h"
#include "workers/metadata/object/object.h"
#include "workers/metadata/view.h"

#include <errno.h>
#include <string.h>

static const Bulkhead__ObjectKey *into(const struct pull *p) {
	return p->into->image->id;
}

/* Of a record that may be there already: then only the lease is new. */
static int ensure(struct metadata *m, Bulkhead__Object *o) {
	struct object *x = object_find(&m->objects, o->id->kind, o->id->namespace_, o->id->key);
	return x ? object_hold(&m->objects, o->held_by, o->id) : object_add(&m->objects, o, &x);
}

/* What was written without labels leads to the rest of its image from now on; the client's own stay. */
static int labels_add(struct pull *p, struct object *x, const Bulkhead__Object *o) {
	Bulkhead__Object changed = *x->record;
	changed.labels =
	    arena_alloc(&p->resolved_arena, (x->record->n_labels + o->n_labels + 1) * sizeof(*changed.labels));
	if (!changed.labels)
		return -ENOMEM;
	for (size_t i = 0; i < x->record->n_labels; i++)
		changed.labels[i] = x->record->labels[i];
	for (size_t i = 0; i < o->n_labels; i++)
		if (!object_label(x->record, o->labels[i]->key))
			changed.labels[changed.n_labels++] = o->labels[i];
	return changed.n_labels > x->record->n_labels ? object_replace(&p->op.m->objects, x, &changed) : 0;
}

static int content_ensure(struct pull *p, const Bulkhead__ImageRecord *r, const Bulkhead__Descriptor *d) {
	Bulkhead__Object *o = view_content(&p->resolved_arena, r, into(p)->namespace_, d);
	if (!o)
		return -ENOMEM;
	o->held_by = p->into->image->held_by;
	struct object *x = object_find(&p->op.m->objects, o->id->kind, o->id->namespace_, o->id->key);
	int e = x ? labels_add(p, x, o) : 0;
	return e == 0 ? ensure(p->op.m, o) : e;
}

/* The n-th layer as a snapshot, named by its chain id. */
static int snapshot_ensure(struct pull *p, const Bulkhead__ImageRecord *r, size_t n) {
	Bulkhead__Object o = BULKHEAD__OBJECT__INIT;
	Bulkhead__SnapshotBody b = BULKHEAD__SNAPSHOT_BODY__INIT;
	Bulkhead__ObjectKey id =
	    object_key_of(BULKHEAD__OBJECT_KIND__OBJECT_SNAPSHOT, into(p)->namespace_, r->layers[n]);
	b.kind = BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_COMMITTED;
	b.parent = n > 0 ? r->layers[n - 1] : (char *)"";
	b.disk = r->layers[n];
	b.layers = r->layers;
	b.n_layers = n;
	o.id = &id;
	o.body_case = BULKHEAD__OBJECT__BODY_SNAPSHOT;
	o.snapshot = &b;
	o.held_by = p->into->image->held_by;
	return ensure(p->op.m, &o);
}

static int image_put(struct pull *p, const Bulkhead__ImageRecord *r) {
	struct metadata *m = p->op.m;
	Bulkhead__Object o = *p->into->image;
	Bulkhead__ImageBody b = BULKHEAD__IMAGE_BODY__INIT;
	struct object *x = object_find(&m->objects, o.id->kind, o.id->namespace_, o.id->key);
	b.target = r->target;
	o.body_case = BULKHEAD__OBJECT__BODY_IMAGE;
	o.image = &b;
	return x ? object_replace(&m->objects, x, &o) : object_add(&m->objects, &o, &x);
}

static bool same(const char *a, const char *b) {
	return strcmp(a, b) == 0;
}

/* The layers are to be snapshots; of all images of an index, those for the platform alone. */
static bool unpacks(const struct pull *p, const Bulkhead__ImageRecord *r) {
	const Bulkhead__Platform *want = p->into->platform;
	const Bulkhead__ImageConfig *c = r->image_config;
	if (!p->into->unpack || !p->into->entry || !want || !*want->architecture)
		return p->into->unpack;
	return same(want->os, c->os) && same(want->architecture, c->architecture) &&
	       (!*want->variant || !*c->variant || same(want->variant, c->variant));
}

static bool is_last(const struct pull *p) {
	return !p->into->more_follow && (!p->into->entry || p->into->entry >= p->resolved->images);
}

int pull_keep_objects(struct pull *p, const Bulkhead__ImageRecord *r) {
	const Bulkhead__Descriptor *documents[] = { r->target, r->manifest, r->config };
	int e = 0;
	for (size_t i = 0; e == 0 && i < ARRAY_SIZE(documents); i++)
		e = content_ensure(p, r, documents[i]);
	for (size_t i = 0; e == 0 && i < r->n_blobs; i++)
		e = content_ensure(p, r, r->blobs[i]);
	for (size_t i = 0; e == 0 && unpacks(p, r) && i < r->n_layers; i++)
		e = snapshot_ensure(p, r, i);
	return e == 0 && is_last(p) ? image_put(p, r) : e;
}
