/*
 * The CRI's snapshots in its namespace: an image's layers as committed ones of
 * their chain ids, a container's root as an active one of the container's id.
 */
#include "workers/metadata/object/snapshot.h"

#include "workers/metadata/lifecycle.h"
#include "workers/metadata/metadata.h"

#include <string.h>

static Bulkhead__Object *make(struct arena *a, char *key, Bulkhead__SnapshotKind kind, char **layers, size_t n,
			      int64_t at) {
	Bulkhead__Object *o = arena_alloc(a, sizeof(*o));
	Bulkhead__ObjectKey *id = arena_alloc(a, sizeof(*id));
	Bulkhead__SnapshotBody *b = arena_alloc(a, sizeof(*b));
	if (!o || !id || !b)
		return NULL;
	*o = (Bulkhead__Object)BULKHEAD__OBJECT__INIT;
	*id = object_key_of(BULKHEAD__OBJECT_KIND__OBJECT_SNAPSHOT, NAMESPACE_CRI, key);
	*b = (Bulkhead__SnapshotBody)BULKHEAD__SNAPSHOT_BODY__INIT;
	o->id = id;
	o->created_at = o->updated_at = at;
	o->body_case = BULKHEAD__OBJECT__BODY_SNAPSHOT;
	o->snapshot = b;
	b->kind = kind;
	b->disk = key;
	b->parent = n ? layers[n - 1] : (char *)"";
	b->layers = layers;
	b->n_layers = n;
	return o;
}

static Bulkhead__Object *of_layer(struct arena *a, const struct image *i, size_t at) {
	const Bulkhead__ImageRecord *r = i->record;
	return make(a, r->layers[at], BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_COMMITTED, r->layers, at, r->pulled_at);
}

Bulkhead__Object *snapshot_view_of_container(struct arena *a, const struct container *c) {
	const Bulkhead__ContainerRecord *r = c->record;
	return make(a, r->id, BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_ACTIVE, r->layers, r->n_layers, r->created_at);
}

static Bulkhead__Object *get(struct metadata *m, struct arena *a, const char *key) {
	struct map_node *n = map_find(&m->model.container_ids, key);
	if (n && container_visible(container_of(n, struct container, by_id)))
		return snapshot_view_of_container(a, container_of(n, struct container, by_id));
	if (!model_find_layer(&m->model, key))
		return NULL;
	list_for_each (node, &m->model.images) {
		const struct image *i = list_entry(node, struct image, node);
		for (size_t k = 0; k < i->record->n_layers; k++)
			if (strcmp(i->record->layers[k], key) == 0)
				return of_layer(a, i, k);
	}
	return NULL;
}

/* An image's layer that an image before it has, too, was listed with that. */
static bool is_listed(Bulkhead__Object **list, size_t n, const char *key) {
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i]->id->key, key) == 0)
			return true;
	return false;
}

static size_t count(const struct metadata *m) {
	size_t n = 0;
	list_for_each (node, &m->model.images)
		n += list_entry(node, struct image, node)->record->n_layers;
	list_for_each (node, &m->model.containers)
		n++;
	return n;
}

static size_t list(struct metadata *m, struct arena *a, Bulkhead__Object ***ret_list) {
	Bulkhead__Object **all = arena_alloc(a, (count(m) + 1) * sizeof(*all)), *one;
	size_t n = 0;
	*ret_list = all;
	list_for_each (node, &m->model.images) {
		const struct image *i = list_entry(node, struct image, node);
		for (size_t k = 0; all && k < i->record->n_layers; k++)
			if (!is_listed(all, n, i->record->layers[k]) && (one = of_layer(a, i, k)))
				all[n++] = one;
	}
	list_for_each (node, &m->model.containers) {
		const struct container *c = list_entry(node, struct container, node);
		if (all && container_visible(c) && (one = snapshot_view_of_container(a, c)))
			all[n++] = one;
	}
	return n;
}

const struct object_view snapshot_view = { .get = get, .list = list };
