/*
 * The rows object_* and lease_change: each looks, checks, changes the record,
 * and answers once the change is committed.
 *
 * A creation that comes again because its answer was lost finds what it made
 * by its request id.
 */
#include "workers/metadata/cri.h"

#include "workers/metadata/object/object.h"

#include <errno.h>
#include <string.h>

/* --- answers after the commit ----------------------------------------------- */

struct promise {
	struct store_waiter waiter;
	struct msg_request *r;
	const Bulkhead__Object *record; /* NULL: the answer is empty */
};

static void committed(void *ctx, int result) {
	struct promise *p = ctx;
	Bulkhead__Empty empty = BULKHEAD__EMPTY__INIT;
	if (result < 0)
		msg_failf(p->r, FAULT_UNAVAILABLE, "%s: the change couldn't be stored: %s", p->r->row->name,
			  strerrordesc_np(-result));
	else
		msg_reply(p->r, p->record ? &p->record->base : &empty.base, NULL, 0, false);
}

/* record is copied: by then the object may be another. */
static void answer_later(struct metadata *m, struct msg_request *r, enum store_base base,
			 const Bulkhead__Object *record) {
	struct promise *p = arena_zalloc(&r->arena, sizeof(*p));
	const Bulkhead__Object *copy = record ? message_copy(&r->arena, &record->base) : NULL;
	if (!p || (record && !copy)) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", r->row->name);
		return;
	}
	*p = (struct promise){ .waiter = { .fn = committed, .ctx = p }, .r = r, .record = copy };
	store_wait(m->store, base, &p->waiter);
}

static void fail_store(struct msg_request *r, const Bulkhead__ObjectKey *id, int e) {
	struct fault fault;
	char text[OBJECT_TEXT_MAX];
	fault_errno(&fault, e, "store %s", object_text(id, text));
	msg_fail(r, &fault);
}

/* --- finding ---------------------------------------------------------------- */

static void fail_missing(struct msg_request *r, const Bulkhead__ObjectKey *id) {
	char text[OBJECT_TEXT_MAX];
	msg_failf(r, FAULT_NOT_FOUND, "%s: not found", object_text(id, text));
}

static const struct object_view *view_of(const char *namespace, Bulkhead__ObjectKind kind) {
	return strcmp(namespace, NAMESPACE_CRI) == 0 ? object_view(kind) : NULL;
}

/* What is shown under that id; NULL: nothing. */
static const Bulkhead__Object *look(struct metadata *m, struct arena *a, const Bulkhead__ObjectKey *id) {
	const struct object *x = object_find(&m->objects, id->kind, id->namespace_, id->key);
	const struct object_view *view = x ? NULL : view_of(id->namespace_, id->kind);
	return x ? x->record : view ? view->get(m, a, id->key) : NULL;
}

/* NULL: the request has been failed. */
static struct object *find_to_change(struct metadata *m, struct msg_request *r, const Bulkhead__ObjectKey *id) {
	struct object *x = object_find(&m->objects, id->kind, id->namespace_, id->key);
	char text[OBJECT_TEXT_MAX];
	if (x)
		return x;
	if (look(m, &r->arena, id))
		msg_failf(r, FAULT_FAILED_PRECONDITION, "%s belongs to the CRI: change it there",
			  object_text(id, text));
	else
		fail_missing(r, id);
	return NULL;
}

void object_get(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__ObjectKey *id = (const Bulkhead__ObjectKey *)request;
	struct fault fault;
	if (object_key_check(id, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	const Bulkhead__Object *o = look(m, &r->arena, id);
	if (o)
		object_get_reply(r, o, NULL, 0);
	else
		fail_missing(r, id);
}

void object_list(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__ObjectListRequest *q = (const Bulkhead__ObjectListRequest *)request;
	if (!object_kind(q->kind)) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "there is no kind %d of objects", (int)q->kind);
		return;
	}
	Bulkhead__ObjectList a = BULKHEAD__OBJECT_LIST__INIT;
	Bulkhead__Object **seen = NULL;
	const struct object_view *view = view_of(q->namespace_, q->kind);
	size_t n = view ? view->list(m, &r->arena, &seen) : 0;
	a.objects = arena_alloc(&r->arena, (n + m->objects.names.n_nodes + 1) * sizeof(*a.objects));
	if (!a.objects) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "object_list: out of memory");
		return;
	}
	for (; a.n_objects < n; a.n_objects++)
		a.objects[a.n_objects] = seen[a.n_objects];
	list_for_each (node, &m->objects.lists[q->kind]) {
		struct object *x = list_entry(node, struct object, node);
		if (strcmp(x->record->id->namespace_, q->namespace_) == 0)
			a.objects[a.n_objects++] = x->record;
	}
	object_list_reply(r, &a, NULL, 0);
}

/* --- changes ---------------------------------------------------------------- */

static void exists(struct metadata *m, struct msg_request *r, const Bulkhead__Object *old) {
	char text[OBJECT_TEXT_MAX];
	if (old->made_by == r->context.request && r->context.request)
		answer_later(m, r, object_base(old), old);
	else
		msg_failf(r, FAULT_ALREADY_EXISTS, "%s: already exists", object_text(old->id, text));
}

void object_create(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	Bulkhead__Object new = *(const Bulkhead__Object *)request;
	struct fault fault;
	struct object *x;
	if (object_check(&new, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	const Bulkhead__Object *old = look(m, &r->arena, new.id);
	if (old) {
		exists(m, r, old);
		return;
	}
	new.made_by = r->context.request;
	int e = object_add(&m->objects, &new, &x);
	if (e < 0)
		fail_store(r, new.id, e);
	else
		answer_later(m, r, object_base(x->record), x->record);
}

void object_update(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__ObjectUpdateRequest *q = (const Bulkhead__ObjectUpdateRequest *)request;
	Bulkhead__Object *merged;
	struct fault fault;
	if (!q->object || object_key_check(q->object->id, &fault) < 0) {
		if (!q->object)
			fault_set(&fault, FAULT_INVALID_ARGUMENT, "object_update: the object is missing");
		msg_fail(r, &fault);
		return;
	}
	struct object *x = find_to_change(m, r, q->object->id);
	if (!x)
		return;
	if (q->object->body_case != x->record->body_case) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "object_update: the object has no body of its kind");
		return;
	}
	if (object_merge(x->record, q->object, q->paths, q->n_paths, &r->arena, &merged, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	int e = object_replace(&m->objects, x, merged);
	if (e < 0)
		fail_store(r, q->object->id, e);
	else
		answer_later(m, r, object_base(x->record), x->record);
}

void object_delete(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__ObjectDeleteRequest *q = (const Bulkhead__ObjectDeleteRequest *)request;
	struct fault fault;
	if (object_key_check(q->id, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	struct object *x = find_to_change(m, r, q->id);
	if (!x)
		return;
	const struct object_kind *k = object_kind(q->id->kind);
	if (k->may_delete && k->may_delete(m, x, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	enum store_base base = object_base(x->record);
	int e = object_drop(&m->objects, x);
	if (e < 0)
		fail_store(r, q->id, e);
	else
		answer_later(m, r, base, NULL);
}

/* --- leases ----------------------------------------------------------------- */

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

void lease_change(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__LeaseChangeRequest *q = (const Bulkhead__LeaseChangeRequest *)request;
	Bulkhead__ObjectKey id = BULKHEAD__OBJECT_KEY__INIT;
	struct fault fault;
	id.kind = BULKHEAD__OBJECT_KIND__OBJECT_LEASE;
	id.namespace_ = q->namespace_;
	id.key = q->lease;
	if (object_key_check(&id, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	struct object *x = find_to_change(m, r, &id);
	if (!x)
		return;
	if (!q->resource || !*q->resource->id || !*q->resource->type) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "lease \"%s\": a resource has an id and a type", q->lease);
		return;
	}
	Bulkhead__Object changed = *x->record;
	Bulkhead__LeaseBody body = *x->record->lease;
	changed.lease = &body;
	int e = resources_change(&body, q->resource, q->remove, &r->arena);
	if (e == 0)
		e = object_replace(&m->objects, x, &changed);
	if (e < 0)
		fail_store(r, &id, e);
	else
		answer_later(m, r, object_base(x->record), NULL);
}
