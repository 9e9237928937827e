/*
 * The rows object_*: each looks, checks, changes the record, and answers once
 * the change is committed.
 *
 * A creation that comes again because its answer was lost finds what it made
 * by its request id.
 */
#include "workers/metadata/handlers.h"

#include "workers/metadata/object/collect.h"
#include "workers/metadata/object/image_object.h"
#include "workers/metadata/object/object.h"
#include "workers/metadata/object/snapshot.h"

#include <errno.h>
#include <string.h>

/* --- answers after the commit ----------------------------------------------- */

struct promise {
	struct store_waiter waiter;
	struct msg_request *r;
	const ProtobufCMessage *reply;
};

static void committed(void *ctx, int result) {
	struct promise *p = ctx;
	Bulkhead__Empty empty = BULKHEAD__EMPTY__INIT;
	if (result < 0)
		msg_failf(p->r, FAULT_UNAVAILABLE, "%s: the change couldn't be stored: %s", p->r->row->name,
			  strerrordesc_np(-result));
	else
		msg_reply(p->r, p->reply ? p->reply : &empty.base, NULL, 0, false);
}

void object_answer(struct metadata *m, struct msg_request *r, enum store_base base, const ProtobufCMessage *reply) {
	struct promise *p = arena_zalloc(&r->arena, sizeof(*p));
	const ProtobufCMessage *copy = reply ? message_copy(&r->arena, reply) : NULL;
	collect_later(m);
	if (!p || (reply && !copy)) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", r->row->name);
		return;
	}
	*p = (struct promise){ .waiter = { .fn = committed, .ctx = p }, .r = r, .reply = copy };
	store_wait(m->store, base, &p->waiter);
}

void object_fail_store(struct msg_request *r, const Bulkhead__ObjectKey *id, int e) {
	struct fault fault;
	char text[OBJECT_TEXT_MAX];
	if (e == -ENOLCK)
		fault_set(&fault, FAULT_NOT_FOUND, "%s: the lease that is to hold it doesn't exist",
			  object_text(id, text));
	else
		fault_errno(&fault, e, "store %s", object_text(id, text));
	msg_fail(r, &fault);
}

/* --- finding ---------------------------------------------------------------- */

void object_fail_missing(struct msg_request *r, const Bulkhead__ObjectKey *id) {
	char text[OBJECT_TEXT_MAX];
	msg_failf(r, FAULT_NOT_FOUND, "%s: not found", object_text(id, text));
}

static const struct object_view *view_of(const char *namespace, Bulkhead__ObjectKind kind) {
	return strcmp(namespace, NAMESPACE_CRI) == 0 ? object_view(kind) : NULL;
}

const Bulkhead__Object *object_look(struct metadata *m, struct arena *a, const Bulkhead__ObjectKey *id) {
	const struct object *x = object_find(&m->objects, id->kind, id->namespace_, id->key);
	const struct object_view *view = x ? NULL : view_of(id->namespace_, id->kind);
	return x ? x->record : view ? view->get(m, a, id->key) : NULL;
}

/* Content that the CRI's images have brought takes labels like any other: from
 * then on it is an object of its own, which shows instead. */
static struct object *make_of_view(struct metadata *m, const Bulkhead__Object *seen) {
	struct object *x = NULL;
	if (seen->id->kind != BULKHEAD__OBJECT_KIND__OBJECT_CONTENT || object_add(&m->objects, seen, &x) < 0)
		return NULL;
	return x;
}

/* NULL: the request has been failed. */
static struct object *find_to_change(struct metadata *m, struct msg_request *r, const Bulkhead__ObjectKey *id,
				     bool deletes) {
	struct object *x = object_find(&m->objects, id->kind, id->namespace_, id->key);
	const Bulkhead__Object *seen = x ? NULL : object_look(m, &r->arena, id);
	char text[OBJECT_TEXT_MAX];
	if (seen && !deletes)
		x = make_of_view(m, seen);
	if (!x && seen)
		msg_failf(r, FAULT_FAILED_PRECONDITION, "%s belongs to the CRI: change it there",
			  object_text(id, text));
	else if (!x)
		object_fail_missing(r, id);
	return x;
}

void object_get(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__ObjectKey *id = (const Bulkhead__ObjectKey *)request;
	struct fault fault;
	if (object_key_check(id, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	const Bulkhead__Object *o = object_look(m, &r->arena, id);
	if (o)
		object_get_reply(r, o, NULL, 0);
	else
		object_fail_missing(r, id);
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
	/* What a client has changed or added itself is shown instead. */
	for (size_t i = 0; i < n; i++)
		if (!object_find(&m->objects, q->kind, q->namespace_, seen[i]->id->key))
			a.objects[a.n_objects++] = seen[i];
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
		object_answer(m, r, object_base(old), &old->base);
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
	const Bulkhead__Object *old = object_look(m, &r->arena, new.id);
	if (old) {
		exists(m, r, old);
		return;
	}
	new.made_by = r->context.request;
	if (image_object_is_cri(m, new.id)) {
		image_object_put(m, r, object_kept(&r->arena, &new));
		return;
	}
	int e = object_add(&m->objects, &new, &x);
	if (e < 0) {
		object_fail_store(r, new.id, e);
		return;
	}
	x->link = r->link;
	object_answer(m, r, object_base(x->record), &x->record->base);
}

/* As the client sees it after the update; NULL: the request has been failed. */
static Bulkhead__Object *merge(struct msg_request *r, const Bulkhead__Object *old,
			       const Bulkhead__ObjectUpdateRequest *q) {
	Bulkhead__Object *merged;
	struct fault fault;
	if (q->object->body_case != old->body_case) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "object_update: the object has no body of its kind");
		return NULL;
	}
	if (object_merge(old, q->object, q->paths, q->n_paths, &r->arena, &merged, &fault) < 0) {
		msg_fail(r, &fault);
		return NULL;
	}
	return merged;
}

static void update_cri_image(struct metadata *m, struct msg_request *r, const Bulkhead__ObjectUpdateRequest *q) {
	const Bulkhead__Object *old = object_look(m, &r->arena, q->object->id);
	Bulkhead__Object *merged = old ? merge(r, old, q) : NULL;
	if (!old)
		object_fail_missing(r, q->object->id);
	else if (merged)
		image_object_put(m, r, object_kept(&r->arena, merged));
}

void object_update(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__ObjectUpdateRequest *q = (const Bulkhead__ObjectUpdateRequest *)request;
	struct fault fault;
	if (!q->object || object_key_check(q->object->id, &fault) < 0) {
		if (!q->object)
			fault_set(&fault, FAULT_INVALID_ARGUMENT, "object_update: the object is missing");
		msg_fail(r, &fault);
		return;
	}
	if (q->make && !object_look(m, &r->arena, q->object->id)) {
		object_create(m, r, &q->object->base);
		return;
	}
	if (image_object_is_cri(m, q->object->id)) {
		update_cri_image(m, r, q);
		return;
	}
	struct object *x = find_to_change(m, r, q->object->id, false);
	if (!x)
		return;
	if (x->op) {
		op_requeue(x->op, r, request, object_update);
		return;
	}
	Bulkhead__Object *merged = merge(r, x->record, q);
	if (!merged)
		return;
	int e = object_replace(&m->objects, x, merged);
	if (e < 0)
		object_fail_store(r, q->object->id, e);
	else
		object_answer(m, r, object_base(x->record), &x->record->base);
}

struct deletion {
	struct metadata *m;
	struct msg_request *r;
	enum store_base base;
};

static void delete_collected(void *ctx) {
	struct deletion *d = ctx;
	object_answer(d->m, d->r, d->base, NULL);
}

/* Answers when nothing is left of it; out of memory is no reason not to. */
static void delete_answer(struct metadata *m, struct msg_request *r, enum store_base base, bool wait) {
	struct deletion *d = wait ? arena_alloc(&r->arena, sizeof(*d)) : NULL;
	if (!d) {
		object_answer(m, r, base, NULL);
		return;
	}
	*d = (struct deletion){ .m = m, .r = r, .base = base };
	collect(m, delete_collected, d);
}

/* A client that names the target wants no other image of that name gone. */
static bool target_is(const Bulkhead__Object *o, const char *digest) {
	return !*digest || o->body_case != BULKHEAD__OBJECT__BODY_IMAGE ||
	       strcmp(o->image->target->digest, digest) == 0;
}

/* NULL: it is none of the CRI's. */
static struct image *image_of_cri(struct metadata *m, const Bulkhead__ObjectKey *id) {
	bool named = id->kind == BULKHEAD__OBJECT_KIND__OBJECT_IMAGE && strcmp(id->namespace_, NAMESPACE_CRI) == 0 &&
		     !object_find(&m->objects, id->kind, id->namespace_, id->key);
	return named ? view_image_named(m, id->key) : NULL;
}

void object_delete(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__ObjectDeleteRequest *q = (const Bulkhead__ObjectDeleteRequest *)request;
	char text[OBJECT_TEXT_MAX];
	struct fault fault;
	if (object_key_check(q->id, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	struct image *i = image_of_cri(m, q->id);
	if (i && *q->target_digest && strcmp(i->record->target->digest, q->target_digest) != 0) {
		msg_failf(r, FAULT_NOT_FOUND, "%s: its target isn't %.100s", object_text(q->id, text),
			  q->target_digest);
		return;
	}
	if (i) {
		image_object_delete(m, r, q->id, i);
		return;
	}
	struct object *x = find_to_change(m, r, q->id, true);
	if (!x)
		return;
	const struct object_kind *k = object_kind(q->id->kind);
	if (k->may_delete && k->may_delete(m, x, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if (x->op) {
		op_requeue(x->op, r, request, object_delete);
		return;
	}
	if (!target_is(x->record, q->target_digest)) {
		msg_failf(r, FAULT_NOT_FOUND, "%s: its target isn't %.100s", object_text(q->id, text),
			  q->target_digest);
		return;
	}
	enum store_base base = object_base(x->record);
	bool snapshot = q->id->kind == BULKHEAD__OBJECT_KIND__OBJECT_SNAPSHOT;
	int e = snapshot ? snapshot_remove_object(m, x) : object_drop(&m->objects, x);
	if (e == 0 && q->id->kind == BULKHEAD__OBJECT_KIND__OBJECT_CONTENT)
		collect_blob(m, q->id->key);
	if (e < 0)
		object_fail_store(r, q->id, e);
	else
		delete_answer(m, r, base, q->wait);
}
