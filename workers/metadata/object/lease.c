/*
 * What leases hold: the row lease_change, and what is made by a call that names
 * a lease, which is held from the beginning. And how those end that an API
 * worker has made for a request of its own: with its link.
 */
#include "base/log.h"
#include "workers/metadata/handlers.h"
#include "workers/metadata/object/collect.h"
#include "workers/metadata/object/object.h"

#include <errno.h>
#include <string.h>

static bool resource_is(const Bulkhead__LeaseResource *a, const Bulkhead__LeaseResource *b) {
	return strcmp(a->id, b->id) == 0 && strcmp(a->type, b->type) == 0;
}

/* The lease's resources without the one, or with it at the end; in the arena. */
static int resources_change(Bulkhead__LeaseBody *b, Bulkhead__LeaseResource *one, bool remove, struct arena *a) {
	Bulkhead__LeaseResource **list = arena_alloc(a, (b->n_resources + 1) * sizeof(*list));
	size_t n = 0;
	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < b->n_resources; i++)
		if (!resource_is(b->resources[i], one))
			list[n++] = b->resources[i];
	if (!remove)
		list[n++] = one;
	b->resources = list;
	b->n_resources = n;
	return 0;
}

static int change(struct objects *o, struct object *lease, Bulkhead__LeaseResource *one, bool remove) {
	Bulkhead__Object changed = *lease->record;
	Bulkhead__LeaseBody body = *lease->record->lease;
	struct arena a;
	arena_init(&a, 0);
	changed.lease = &body;
	int r = resources_change(&body, one, remove, &a);
	if (r == 0)
		r = object_replace(o, lease, &changed);
	arena_deinit(&a);
	return r;
}

static bool holds(const struct object *lease, const Bulkhead__LeaseResource *one) {
	const Bulkhead__LeaseBody *b = lease->record->lease;
	for (size_t i = 0; i < b->n_resources; i++)
		if (resource_is(b->resources[i], one))
			return true;
	return false;
}

void object_release(struct objects *o, const Bulkhead__ObjectKey *id) {
	Bulkhead__LeaseResource one = BULKHEAD__LEASE_RESOURCE__INIT;
	one.type = (char *)(uintptr_t)object_kind(id->kind)->resource;
	one.id = id->key;
	list_for_each (n, &o->lists[BULKHEAD__OBJECT_KIND__OBJECT_LEASE]) {
		struct object *x = list_entry(n, struct object, node);
		/* One that can't be stored says more than there is, and that is all. */
		if (strcmp(x->record->id->namespace_, id->namespace_) == 0 && holds(x, &one) &&
		    change(o, x, &one, true) < 0)
			return;
	}
}

int object_hold(struct objects *o, const char *lease, const Bulkhead__ObjectKey *id) {
	const char *type = object_kind(id->kind)->resource;
	Bulkhead__LeaseResource one = BULKHEAD__LEASE_RESOURCE__INIT;
	if (!*lease || !type)
		return 0;
	struct object *x = object_find(o, BULKHEAD__OBJECT_KIND__OBJECT_LEASE, id->namespace_, lease);
	if (!x)
		return -ENOLCK;
	one.type = (char *)(uintptr_t)type;
	one.id = id->key;
	return holds(x, &one) ? 0 : change(o, x, &one, false);
}

void leases_end(struct metadata *m, const struct link *l) {
	bool some = false;
	list_for_each_safe (n, &m->objects.lists[BULKHEAD__OBJECT_KIND__OBJECT_LEASE]) {
		struct object *x = list_entry(n, struct object, node);
		if (!x->record->lease->tied || x->link != l)
			continue;
		if (object_drop(&m->objects, x) < 0)
			log_event(LOG_WARN, "a lease whose maker is gone isn't deleted", NULL);
		some = true;
	}
	if (some)
		collect_later(m);
}

void lease_change(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__LeaseChangeRequest *q = (const Bulkhead__LeaseChangeRequest *)request;
	Bulkhead__ObjectKey id = object_key_of(BULKHEAD__OBJECT_KIND__OBJECT_LEASE, q->namespace_, q->lease);
	struct fault fault;
	if (object_key_check(&id, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	struct object *x = object_find(&m->objects, id.kind, id.namespace_, id.key);
	if (!x) {
		object_fail_missing(r, &id);
		return;
	}
	if (!q->resource || !*q->resource->id || !*q->resource->type) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "lease \"%s\": a resource has an id and a type", q->lease);
		return;
	}
	int e = change(&m->objects, x, q->resource, q->remove);
	if (e < 0)
		object_fail_store(r, &id, e);
	else
		object_answer(m, r, object_base(x->record), NULL);
}
