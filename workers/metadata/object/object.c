#include "workers/metadata/object/object.h"

#include "base/clock.h"
#include "base/sha256.h"
#include "workers/metadata/model.h"
#include "workers/metadata/object/bus.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define US "\x1f" /* joins the parts of a name; no valid part contains it */
#define KEY_SIZE (2 + DIGEST_SIZE)

static const char *id_name(struct arena *a, const Bulkhead__ObjectKey *id) {
	return arena_printf(a, "%d" US "%s" US "%s", (int)id->kind, id->namespace_, id->key);
}

/* Names may be longer than the store's keys. */
static void store_key(const char *name, char ret_key[KEY_SIZE]) {
	memcpy(ret_key, "o/", 2);
	sha256_digest(name, strlen(name), ret_key + 2);
}

enum store_base object_base(const Bulkhead__Object *record) {
	if (record->body_case == BULKHEAD__OBJECT__BODY_SNAPSHOT)
		return record->snapshot->kind == BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_COMMITTED ? STORE_IMAGES
											     : STORE_PODS;
	return object_kind(record->id->kind)->outlives_boot ? STORE_IMAGES : STORE_PODS;
}

const char *object_label(const Bulkhead__Object *o, const char *key) {
	for (size_t i = 0; i < o->n_labels; i++)
		if (strcmp(o->labels[i]->key, key) == 0)
			return o->labels[i]->value;
	return NULL;
}

Bulkhead__Object *object_kept(struct arena *a, const Bulkhead__Object *record) {
	Bulkhead__Object *o = message_copy(a, &record->base);
	size_t n = 0;
	for (size_t i = 0; o && i < o->n_labels; i++)
		if (*o->labels[i]->value)
			o->labels[n++] = o->labels[i];
	if (o)
		o->n_labels = n;
	return o;
}

/* --- in memory -------------------------------------------------------------- */

void objects_init(struct objects *o) {
	*o = (struct objects){ 0 };
	for (size_t i = 0; i < OBJECT_KINDS; i++)
		list_init(&o->lists[i]);
	map_init(&o->names);
}

static void object_free(struct objects *o, struct object *x) {
	map_remove(&o->names, &x->by_name);
	list_unlink(&x->node);
	arena_deinit(&x->arena);
	free(x);
}

void objects_deinit(struct objects *o) {
	for (size_t i = 0; i < OBJECT_KINDS; i++)
		list_for_each_safe (n, &o->lists[i])
			object_free(o, list_entry(n, struct object, node));
	map_deinit(&o->names);
}

struct object *object_find(const struct objects *o, Bulkhead__ObjectKind kind, const char *namespace, const char *key) {
	Bulkhead__ObjectKey id = BULKHEAD__OBJECT_KEY__INIT;
	struct arena a;
	id.kind = kind;
	id.namespace_ = (char *)(uintptr_t) namespace;
	id.key = (char *)(uintptr_t)key;
	arena_init(&a, 0);
	const char *name = id_name(&a, &id);
	struct map_node *n = name ? map_find(&o->names, name) : NULL;
	arena_deinit(&a);
	return n ? container_of(n, struct object, by_name) : NULL;
}

static int object_new(struct objects *o, const Bulkhead__Object *record, struct object **ret_object) {
	struct object *x = calloc(1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	arena_init(&x->arena, 0);
	x->record = object_kept(&x->arena, record);
	const char *name = x->record ? id_name(&x->arena, x->record->id) : NULL;
	int r = name ? map_insert(&o->names, &x->by_name, name) : -ENOMEM;
	if (r < 0) {
		arena_deinit(&x->arena);
		free(x);
		return r;
	}
	list_append(&o->lists[record->id->kind], &x->node);
	*ret_object = x;
	return 0;
}

int objects_load(struct objects *o, const Bulkhead__Object *record) {
	struct fault fault;
	struct object *x;
	if (object_check(record, &fault) < 0)
		return -EBADMSG;
	return object_new(o, record, &x);
}

/* --- changes ---------------------------------------------------------------- */

static int save(struct objects *o, const struct object *x, const Bulkhead__Object *record) {
	char key[KEY_SIZE];
	store_key(x->by_name.key, key);
	return store_put(o->store, object_base(record), key, RECORD_OBJECT, &record->base);
}

static void tell(struct objects *o, const char *what, const Bulkhead__Object *record) {
	Bulkhead__BusEvent e = BULKHEAD__BUS_EVENT__INIT;
	const char *topic = object_kind(record->id->kind)->topic;
	char text[64];
	if (!topic)
		return;
	snprintf(text, sizeof(text), "%s/%s", topic, what);
	e.topic = text;
	e.namespace_ = *record->id->namespace_ ? record->id->namespace_ : record->id->key;
	e.id = record->id->key;
	e.object = (Bulkhead__Object *)(uintptr_t)record;
	bus_tell_committed(o->bus, object_base(record), &e);
}

int object_namespace(struct objects *o, const char *namespace) {
	Bulkhead__ObjectKey id = BULKHEAD__OBJECT_KEY__INIT;
	Bulkhead__Object record = BULKHEAD__OBJECT__INIT;
	struct object *x;
	if (object_find(o, BULKHEAD__OBJECT_KIND__OBJECT_NAMESPACE, "", namespace))
		return 0;
	id.kind = BULKHEAD__OBJECT_KIND__OBJECT_NAMESPACE;
	id.key = (char *)(uintptr_t) namespace;
	record.id = &id;
	return object_add(o, &record, &x);
}

int object_add(struct objects *o, const Bulkhead__Object *record, struct object **ret_object) {
	Bulkhead__Object stamped = *record;
	struct object *x = NULL;
	stamped.created_at = stamped.updated_at = clock_real();
	stamped.held_by = (char *)"";
	int r = *record->id->namespace_ ? object_namespace(o, record->id->namespace_) : 0;
	if (r == 0)
		r = object_hold(o, record->held_by, record->id);
	if (r == 0)
		r = object_new(o, &stamped, &x);
	if (r < 0)
		return r;
	r = save(o, x, x->record);
	if (r < 0) {
		object_free(o, x);
		return r;
	}
	tell(o, "create", x->record);
	*ret_object = x;
	return 0;
}

int object_replace(struct objects *o, struct object *x, const Bulkhead__Object *record) {
	Bulkhead__Object stamped = *record;
	struct arena arena;
	stamped.id = x->record->id;
	stamped.created_at = x->record->created_at;
	stamped.updated_at = MAX(clock_real(), x->record->updated_at + 1);
	arena_init(&arena, 0);
	Bulkhead__Object *copy = object_kept(&arena, &stamped);
	const char *name = copy ? id_name(&arena, copy->id) : NULL;
	int r = name ? save(o, x, copy) : -ENOMEM;
	if (r < 0) {
		arena_deinit(&arena);
		return r;
	}
	x->by_name.key = name; /* equal to the one before: the map doesn't notice */
	arena_deinit(&x->arena);
	x->arena = arena;
	x->record = copy;
	tell(o, "update", copy);
	return 0;
}

int object_drop(struct objects *o, struct object *x) {
	char key[KEY_SIZE];
	store_key(x->by_name.key, key);
	int r = store_delete(o->store, object_base(x->record), key);
	if (r < 0)
		return r;
	tell(o, "delete", x->record);
	object_free(o, x);
	return 0;
}
