/*
 * Images that containerd's clients name in the namespace k8s.io are the CRI's:
 *
 *   create, update  the image is made from what the namespace has as content, as
 *                   a pull would make it from a registry; then the name is its
 *   delete          the name is taken from it; without any it is removed
 *
 * An image's id is one of its names. Nobody can make it lead elsewhere, but it
 * can be labelled, taken away like any other, and given back.
 *
 * What the CRI can't run (another platform's, no image at all) or name (as
 * nothing that a registry has) is an object like in any other namespace.
 */
#include "workers/metadata/object/image_object.h"

#include "workers/metadata/image.h"
#include "workers/metadata/object/collect.h"
#include "workers/metadata/object/image_news.h"
#include "workers/metadata/object/object.h"
#include "workers/metadata/pull.h"
#include "workers/metadata/reference.h"

#include <errno.h>
#include <string.h>

#define IMAGE BULKHEAD__OBJECT_KIND__OBJECT_IMAGE

static struct image *image_of_id(struct metadata *m, const char *key) {
	struct map_node *n = map_find(&m->model.image_ids, key);
	return n ? container_of(n, struct image, by_id) : NULL;
}

bool image_object_is_cri(struct metadata *m, const Bulkhead__ObjectKey *id) {
	struct reference ref;
	struct fault ignored;
	char full[REFERENCE_MAX];
	if (id->kind != IMAGE || strcmp(id->namespace_, NAMESPACE_CRI) != 0)
		return false;
	if (image_of_id(m, id->key))
		return true;
	if (reference_parse(id->key, &ref, &ignored) < 0)
		return false;
	reference_format(&ref, full, sizeof(full));
	return strcmp(full, id->key) == 0;
}

/* --- labels of a name ------------------------------------------------------- */

/* The record with these labels for the name, instead of those that it had. */
static int labels_set(struct metadata *m, struct image *i, const Bulkhead__Object *o) {
	Bulkhead__ImageRecord *r = i->record;
	Bulkhead__ImageLabels new = BULKHEAD__IMAGE_LABELS__INIT;
	Bulkhead__ImageLabels **list = arena_alloc(&i->arena, (r->n_labels + 1) * sizeof(*list));
	size_t n = 0;
	new.name = o->id->key;
	new.labels = (void *)arena_alloc(&i->arena, (o->n_labels + 1) * sizeof(*new.labels));
	if (!list || !new.labels)
		return -ENOMEM;
	for (size_t k = 0; k < o->n_labels; k++)
		if (strcmp(o->labels[k]->key, "io.cri-containerd.image") != 0)
			new.labels[new.n_labels++] = (void *)o->labels[k];
	for (size_t k = 0; k < r->n_labels; k++)
		if (strcmp(r->labels[k]->name, o->id->key) != 0)
			list[n++] = r->labels[k];
	if (new.n_labels > 0 && !(list[n++] = message_copy(&i->arena, &new.base)))
		return -ENOMEM;
	r->labels = list;
	r->n_labels = n;
	return image_save(m, i);
}

/* --- names ------------------------------------------------------------------ */

static struct image *image_named(struct metadata *m, const char *name) {
	struct map_node *n = map_find(&m->model.image_names, name);
	return n ? container_of(n, struct image_name, node)->image : NULL;
}

static char **without(struct arena *a, char *const *list, size_t n, const char *name, size_t *ret_n) {
	char **left = arena_alloc(a, (n + 1) * sizeof(*left));
	*ret_n = 0;
	for (size_t k = 0; left && k < n; k++)
		if (strcmp(list[k], name) != 0)
			left[(*ret_n)++] = list[k];
	return left;
}

static Bulkhead__ImageLabels **labels_without(struct arena *a, const Bulkhead__ImageRecord *r, const char *name,
					      size_t *ret_n) {
	Bulkhead__ImageLabels **left = arena_alloc(a, (r->n_labels + 1) * sizeof(*left));
	*ret_n = 0;
	for (size_t k = 0; left && k < r->n_labels; k++)
		if (strcmp(r->labels[k]->name, name) != 0)
			left[(*ret_n)++] = r->labels[k];
	return left;
}

/* The image without the name; NULL when it had no other, and is as it was. */
static struct image *name_drop(struct metadata *m, struct image *i, const char *name, int *ret_error) {
	const Bulkhead__ImageRecord *old = i->record;
	Bulkhead__ImageRecord r = *old;
	struct image *left = NULL;
	struct arena a;
	arena_init(&a, 0);
	r.names = without(&a, old->names, old->n_names, name, &r.n_names);
	r.digests = without(&a, old->digests, old->n_digests, name, &r.n_digests);
	r.labels = labels_without(&a, old, name, &r.n_labels);
	r.id_unnamed |= strcmp(old->id, name) == 0;
	bool room = r.names && r.digests && r.labels;
	if (room && image_n_keys(&r) > 0)
		left = model_put_image(&m->model, &r, NULL, 0, NULL);
	*ret_error = !room || (image_n_keys(&r) > 0 && !left) ? -ENOMEM : left ? image_save(m, left) : 0;
	arena_deinit(&a);
	index_later(m);
	return left;
}

/* --- create, update --------------------------------------------------------- */

struct settlement {
	struct op_after after;
	struct metadata *m;
	struct msg_request *r;
	const Bulkhead__Object *want; /* in the request's arena */
	bool leads;		      /* the name leads there already: what changes are its labels */
};

static int put_plain(struct metadata *m, const Bulkhead__Object *want) {
	struct object *x = object_find(&m->objects, IMAGE, NAMESPACE_CRI, want->id->key);
	struct image *had = image_named(m, want->id->key);
	int e = 0;
	/* The name is of something else now. An image without names is still the
	 * CRI's, by its id. */
	if (had && !name_drop(m, had, want->id->key, &e) && e == 0)
		e = -EBUSY;
	if (e < 0)
		return e;
	return x ? object_replace(&m->objects, x, want) : object_add(&m->objects, want, &x);
}

static int put_cri(struct metadata *m, struct image *i, const Bulkhead__Object *want) {
	struct object *plain = object_find(&m->objects, IMAGE, NAMESPACE_CRI, want->id->key);
	int e = plain ? object_drop(&m->objects, plain) : 0;
	if (e == 0)
		e = object_hold(&m->objects, want->held_by, want->id);
	return e < 0 ? e : labels_set(m, i, want);
}

static void settled(void *ctx) {
	struct settlement *s = ctx;
	struct image *i = image_named(s->m, s->want->id->key);
	bool good = i && strcmp(i->record->target->digest, s->want->image->target->digest) == 0;
	int e = good ? put_cri(s->m, i, s->want) : put_plain(s->m, s->want);
	if (good && e == 0 && s->leads)
		image_key_tell(s->m, "update", s->want->id->key);
	const Bulkhead__Object *o = e < 0 ? NULL : object_look(s->m, &s->r->arena, s->want->id);
	if (o)
		object_answer(s->m, s->r, STORE_IMAGES, &o->base);
	else
		object_fail_store(s->r, s->want->id, e < 0 ? e : -ENOMEM);
}

static bool leads_to(const struct image *i, const Bulkhead__Object *want) {
	return i && strcmp(i->record->target->digest, want->image->target->digest) == 0;
}

static void id_put(struct metadata *m, struct msg_request *r, struct image *i, const Bulkhead__Object *want) {
	bool was_there = !i->record->id_unnamed;
	if (!leads_to(i, want)) {
		msg_failf(r, FAULT_FAILED_PRECONDITION,
			  "image \"%.120s\" is the id of an image, and leads to that alone", want->id->key);
		return;
	}
	i->record->id_unnamed = false;
	int e = put_cri(m, i, want);
	const Bulkhead__Object *o = e < 0 ? NULL : object_look(m, &r->arena, want->id);
	if (!o) {
		object_fail_store(r, want->id, e < 0 ? e : -ENOMEM);
		return;
	}
	image_key_tell(m, was_there ? "update" : "create", want->id->key);
	object_answer(m, r, STORE_IMAGES, &o->base);
}

void image_object_put(struct metadata *m, struct msg_request *r, const Bulkhead__Object *want) {
	struct image *i = image_of_id(m, want->id->key);
	if (i) {
		id_put(m, r, i, want);
		return;
	}
	struct settlement *s = arena_zalloc(&r->arena, sizeof(*s));
	if (!s) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", r->row->name);
		return;
	}
	s->m = m;
	s->r = r;
	s->want = want;
	s->leads = leads_to(image_named(m, want->id->key), want);
	s->after = (struct op_after){ .fn = settled, .ctx = s };
	pull_local(m, r, want->id->key, want->image->target, &s->after);
}

/* --- delete ----------------------------------------------------------------- */

struct removal {
	struct op_after after;
	struct metadata *m;
	struct msg_request *r;
};

static void removed(void *ctx) {
	struct removal *x = ctx;
	object_answer(x->m, x->r, STORE_IMAGES, NULL);
}

void image_object_delete(struct metadata *m, struct msg_request *r, const Bulkhead__ObjectKey *id, struct image *i) {
	int e = 0;
	if (name_drop(m, i, id->key, &e)) {
		image_key_tell(m, "delete", id->key);
		if (e < 0)
			object_fail_store(r, id, e);
		else
			object_answer(m, r, STORE_IMAGES, NULL);
		return;
	}
	struct removal *x = arena_zalloc(&r->arena, sizeof(*x));
	if (!x || e < 0) {
		object_fail_store(r, id, e < 0 ? e : -ENOMEM);
		return;
	}
	x->m = m;
	x->r = r;
	x->after = (struct op_after){ .fn = removed, .ctx = x };
	if (!image_remove(m, r, i, &x->after))
		object_fail_store(r, id, -ENOMEM);
}
