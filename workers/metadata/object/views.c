/*
 * What the CRI's images are to containerd's clients, in the namespace k8s.io:
 * each of their names, digest references and ids is an image, and their blobs
 * are content, with the labels that containerd would have given them.
 */
#include "workers/metadata/object/object.h"

#include "workers/metadata/csandbox/csandbox.h"
#include "workers/metadata/metadata.h"
#include "workers/metadata/object/image_news.h"
#include "workers/metadata/object/snapshot.h"
#include "workers/metadata/view.h"

#include <stdio.h>
#include <string.h>

#define KIND(name) BULKHEAD__OBJECT_KIND__OBJECT_##name

#define LABEL_MANAGED "io.cri-containerd.image"
#define LABEL_SOURCE "containerd.io/distribution.source."
#define LABEL_CONTENT "containerd.io/gc.ref.content."
#define LABEL_SNAPSHOT "containerd.io/gc.ref.snapshot.overlayfs"

/* --- building --------------------------------------------------------------- */

Bulkhead__Object *object_view_new(struct arena *a, Bulkhead__ObjectKind kind, const char *namespace, const char *key,
				  int64_t at) {
	Bulkhead__Object *o = ARENA_NEW(a, Bulkhead__Object, BULKHEAD__OBJECT__INIT);
	Bulkhead__ObjectKey *id = ARENA_NEW(a, Bulkhead__ObjectKey, BULKHEAD__OBJECT_KEY__INIT);
	if (!o || !id)
		return NULL;
	*id = object_key_of(kind, namespace, key);
	o->id = id;
	o->created_at = o->updated_at = at;
	return o;
}

void object_labels_begin(struct arena *a, Bulkhead__Object *o, size_t room) {
	o->labels = arena_alloc(a, (room + 1) * sizeof(*o->labels));
}

void object_label_add(struct arena *a, Bulkhead__Object *o, const char *key, const char *value) {
	Bulkhead__Object__LabelsEntry *l =
	    ARENA_NEW(a, Bulkhead__Object__LabelsEntry, BULKHEAD__OBJECT__LABELS_ENTRY__INIT);
	if (!l || !o->labels || !key || !*value)
		return;
	l->key = (char *)(uintptr_t)key;
	l->value = (char *)(uintptr_t)value;
	o->labels[o->n_labels++] = l;
}

/* --- images ----------------------------------------------------------------- */

static const Bulkhead__ImageLabels *own_labels(const struct image *i, const char *key) {
	for (size_t k = 0; k < i->record->n_labels; k++)
		if (strcmp(i->record->labels[k]->name, key) == 0)
			return i->record->labels[k];
	return NULL;
}

static Bulkhead__Object *image_object(struct arena *a, const struct image *i, const char *key) {
	const Bulkhead__ImageLabels *own = own_labels(i, key);
	size_t n = own ? own->n_labels : 0;
	Bulkhead__Object *o = object_view_new(a, KIND(IMAGE), NAMESPACE_CRI, key, i->record->pulled_at);
	if (!o || !(o->image = ARENA_NEW(a, Bulkhead__ImageBody, BULKHEAD__IMAGE_BODY__INIT)))
		return NULL;
	o->body_case = BULKHEAD__OBJECT__BODY_IMAGE;
	o->image->target = i->record->target;
	object_labels_begin(a, o, n + 1);
	object_label_add(a, o, LABEL_MANAGED, "managed");
	for (size_t k = 0; k < n; k++)
		object_label_add(a, o, own->labels[k]->key, own->labels[k]->value);
	return o;
}

struct image *view_image_named(struct metadata *m, const char *key) {
	list_for_each (n, &m->model.images) {
		struct image *i = list_entry(n, struct image, node);
		for (size_t k = 0; !i->broken && k < image_n_keys(i->record); k++)
			if (strcmp(image_key_at(i->record, k), key) == 0)
				return i;
	}
	return NULL;
}

static Bulkhead__Object *image_get(struct metadata *m, struct arena *a, const char *key) {
	const struct image *i = view_image_named(m, key);
	return i ? image_object(a, i, key) : NULL;
}

static size_t image_list(struct metadata *m, struct arena *a, Bulkhead__Object ***ret_list) {
	size_t n_all = m->model.image_names.n_nodes + m->model.image_ids.n_nodes, n = 0;
	*ret_list = arena_alloc(a, (n_all + 1) * sizeof(**ret_list));
	list_for_each (node, &m->model.images) {
		const struct image *i = list_entry(node, struct image, node);
		for (size_t k = 0; *ret_list && !i->broken && k < image_n_keys(i->record) && n < n_all; k++) {
			Bulkhead__Object *o = image_object(a, i, image_key_at(i->record, k));
			if (o)
				(*ret_list)[n++] = o;
		}
	}
	return n;
}

/* --- content ---------------------------------------------------------------- */

/* The record's blobs: index and manifest (often one and the same), the
 * configuration, the layers. NULL after the last. */
static const Bulkhead__Descriptor *blob_at(const struct image *i, size_t k) {
	const Bulkhead__ImageRecord *r = i->record;
	const Bulkhead__Descriptor *first[] = { r->target, r->manifest, r->config };
	if (k < ARRAY_SIZE(first))
		return first[k];
	k -= ARRAY_SIZE(first);
	return k < r->n_blobs ? r->blobs[k] : NULL;
}

static bool is(const Bulkhead__Descriptor *d, const char *digest) {
	return d && strcmp(d->digest, digest) == 0;
}

/* The registry that it came from, by the image's first name. */
static void source_add(struct arena *a, Bulkhead__Object *o, const Bulkhead__ImageRecord *r) {
	const char *name = r->n_digests ? r->digests[0] : r->n_names ? r->names[0] : "";
	const char *slash = strchr(name, '/');
	if (!slash)
		return;
	size_t path = strcspn(slash + 1, ":@");
	char *value = arena_printf(a, "%.*s", (int)path, slash + 1);
	if (value)
		object_label_add(a, o, arena_printf(a, LABEL_SOURCE "%.*s", (int)(slash - name), name), value);
}

static void references_add(struct arena *a, Bulkhead__Object *o, const Bulkhead__ImageRecord *r) {
	const char *digest = o->id->key;
	if (is(r->config, digest) && r->n_layers > 0)
		object_label_add(a, o, LABEL_SNAPSHOT, r->layers[r->n_layers - 1]);
	if (is(r->target, digest) && !is(r->manifest, digest))
		object_label_add(a, o, arena_printf(a, LABEL_CONTENT "m.%u", r->place), r->manifest->digest);
	if (!is(r->manifest, digest))
		return;
	object_label_add(a, o, LABEL_CONTENT "config", r->config->digest);
	for (size_t k = 0; k < r->n_blobs; k++)
		object_label_add(a, o, arena_printf(a, LABEL_CONTENT "l.%zu", k), r->blobs[k]->digest);
}

Bulkhead__Object *view_content(struct arena *a, const Bulkhead__ImageRecord *r, const char *namespace,
			       const Bulkhead__Descriptor *d) {
	Bulkhead__Object *o = object_view_new(a, KIND(CONTENT), namespace, d->digest, r->pulled_at);
	if (!o || !(o->content = ARENA_NEW(a, Bulkhead__ContentBody, BULKHEAD__CONTENT_BODY__INIT)))
		return NULL;
	o->body_case = BULKHEAD__OBJECT__BODY_CONTENT;
	o->content->size = d->size;
	object_labels_begin(a, o, r->n_blobs + 4);
	source_add(a, o, r);
	if (r->manifest && r->config)
		references_add(a, o, r);
	return o;
}

static Bulkhead__Object *content_get(struct metadata *m, struct arena *a, const char *key) {
	list_for_each (n, &m->model.images) {
		const struct image *i = list_entry(n, struct image, node);
		const Bulkhead__Descriptor *d;
		for (size_t k = 0; !i->broken && (k < 3 || blob_at(i, k)); k++)
			if (is(d = blob_at(i, k), key))
				return view_content(a, i->record, NAMESPACE_CRI, d);
	}
	return NULL;
}

/* Images share blobs: each is listed once. */
struct seen {
	struct map_node node;
};

static size_t content_of(struct arena *a, const struct image *i, struct map *seen, Bulkhead__Object **list) {
	size_t n = 0;
	for (size_t k = 0; k < 3 || blob_at(i, k); k++) {
		const Bulkhead__Descriptor *d = blob_at(i, k);
		struct seen *s = d ? arena_zalloc(a, sizeof(*s)) : NULL;
		if (!s || map_insert(seen, &s->node, d->digest) < 0)
			continue;
		list[n] = view_content(a, i->record, NAMESPACE_CRI, d);
		n += list[n] != NULL;
	}
	return n;
}

static size_t content_list(struct metadata *m, struct arena *a, Bulkhead__Object ***ret_list) {
	size_t n_all = 0, n = 0;
	struct map seen;
	list_for_each (node, &m->model.images)
		n_all += 3 + list_entry(node, struct image, node)->record->n_blobs;
	*ret_list = arena_alloc(a, (n_all + 1) * sizeof(**ret_list));
	map_init(&seen);
	list_for_each (node, &m->model.images) {
		const struct image *i = list_entry(node, struct image, node);
		if (*ret_list && !i->broken)
			n += content_of(a, i, &seen, *ret_list + n);
	}
	map_deinit(&seen);
	return n;
}

/* --- the table -------------------------------------------------------------- */

static const struct object_view images = { image_get, image_list }, content = { content_get, content_list };

static const struct object_view *const views[OBJECT_KINDS] = {
	[KIND(CONTAINER)] = &container_view, [KIND(IMAGE)] = &images,	      [KIND(CONTENT)] = &content,
	[KIND(SNAPSHOT)] = &snapshot_view,   [KIND(SANDBOX)] = &sandbox_view,
};

const struct object_view *object_view(Bulkhead__ObjectKind kind) {
	return kind > 0 && kind < OBJECT_KINDS ? views[kind] : NULL;
}
