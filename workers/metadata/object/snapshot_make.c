/*
 * snapshot_make: record -> folder -> commit -> its mounts.
 *
 * The record comes first, so the key is taken from the first moment; a crash
 * leaves a record without a folder, which snapshots_compare removes, unless the
 * same request comes again and goes on from there.
 *
 * A client that prepares a snapshot to unpack a layer into it names the chain id
 * that it will have (its label containerd.io/snapshot.ref). When that layer is
 * here, in whichever namespace or from the CRI, there is nothing to unpack: the
 * committed snapshot is made at once, and the client hears that it exists.
 */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/object/snapshot.h"

#include <errno.h>
#include <string.h>

#define LABEL_TARGET "containerd.io/snapshot.ref"
#define ACTIVE BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_ACTIVE
#define VIEW BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_VIEW
#define COMMITTED BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_COMMITTED

struct make {
	struct op op;
	struct object *x;
	struct arena arena;
	const Bulkhead__MountList *mounts;
};

static struct make *make_of(struct op *op) {
	return container_of(op, struct make, op);
}

static void step_done(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault)
		op_fail_below(op, answer->fault);
	else
		op_next(op);
}

static void make_folder(struct op *op) {
	const Bulkhead__SnapshotBody *b = make_of(op)->x->record->snapshot;
	Bulkhead__SnapshotPrepareRequest q = BULKHEAD__SNAPSHOT_PREPARE_REQUEST__INIT;
	if (b->kind == VIEW) {
		op_next(op);
		return;
	}
	q.key = b->disk;
	q.n_parents = b->n_layers;
	q.parents = b->layers;
	q.beside_layers = true;
	struct msg_context context = op_context(op, SNAPSHOT_TIMEOUT_NS);
	snapshot_prepare_send(op->m->snapshot, &context, &q, NULL, 0, step_done, op);
}

static void make_undo(struct op *op) {
	op->slot = NULL;
	if (snapshot_drop(op->m, make_of(op)->x) < 0)
		log_event(LOG_WARN, "record not deleted", "snapshot", op->object, NULL);
}

static void make_record(struct op *op) {
	const Bulkhead__Object *record = make_of(op)->x->record;
	if (record->snapshot->kind == ACTIVE)
		snapshot_tell(op->m, "prepare", record->id->key, record);
	op_commit(op, STORE_PODS);
}

static void mounts_given(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	struct make *k = make_of(op);
	if (!answer->fault)
		k->mounts = message_copy(&k->arena, answer->reply);
	struct fault fault;
	if (answer->fault)
		op_fail_below(op, answer->fault);
	else if (k->mounts)
		op_next(op);
	else {
		fault_errno(&fault, ENOMEM, "keep its mounts");
		op_fail_with(op, &fault);
	}
}

static void make_mounts(struct op *op) {
	const Bulkhead__SnapshotBody *b = make_of(op)->x->record->snapshot;
	Bulkhead__SnapshotMountRequest q = BULKHEAD__SNAPSHOT_MOUNT_REQUEST__INIT;
	q.key = b->disk;
	q.n_parents = b->n_layers;
	q.parents = b->layers;
	struct msg_context context = op_context(op, SNAPSHOT_TIMEOUT_NS);
	snapshot_mounts_send(op->m->snapshot, &context, &q, NULL, 0, mounts_given, op);
}

static const struct op_step make_steps[] = {
	{ .name = "make its folder", .run = make_folder, .undo = make_undo },
	{ .name = "record", .run = make_record },
	{ .name = "mounts", .run = make_mounts },
	{ .name = NULL },
};

static void make_answer(struct op *op, struct msg_request *r) {
	snapshot_make_reply(r, make_of(op)->mounts, NULL, 0);
}

static void make_free(struct op *op) {
	arena_deinit(&make_of(op)->arena);
	free(make_of(op));
}

static const struct op_class make_class = {
	.name = "make snapshot",
	.steps = make_steps,
	.answer = make_answer,
	.free = make_free,
};

/* x has a record; the object goes when it can't be begun. */
static void make_begin(struct metadata *m, struct msg_request *r, struct object *x) {
	struct make *k = calloc(1, sizeof(*k));
	if (!k) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "make snapshot \"%.200s\": out of memory", x->record->id->key);
		if (snapshot_drop(m, x) < 0)
			log_event(LOG_WARN, "record not deleted", "snapshot", x->record->id->key, NULL);
		return;
	}
	arena_init(&k->arena, 0);
	k->x = x;
	op_init(&k->op, &make_class, m, &x->op, x->record->id->key, r);
	op_join(&k->op, r);
	op_start(&k->op);
}

/* --- a layer that is here --------------------------------------------------- */

struct shared {
	struct store_waiter waiter;
	struct msg_request *r;
	const char *target;
};

static void target_exists(struct msg_request *r, const char *target) {
	msg_failf(r, FAULT_ALREADY_EXISTS, "target snapshot \"%s\": already exists", target);
}

static void shared_committed(void *ctx, int result) {
	struct shared *s = ctx;
	if (result < 0)
		msg_failf(s->r, FAULT_UNAVAILABLE, "snapshot \"%s\" couldn't be stored: %s", s->target,
			  strerrordesc_np(-result));
	else
		target_exists(s->r, s->target);
}

/* Whether the layers and the target's own are what its chain id says. */
static bool is_here(struct metadata *m, const Bulkhead__SnapshotBody *b, const char *target) {
	char chain[LAYER_ID_SIZE];
	const struct layer *l = model_find_layer(&m->model, target);
	return l && snapshot_chain_id(b->layers, b->n_layers, l->record->diff_id, chain) && strcmp(chain, target) == 0;
}

static void share(struct metadata *m, struct msg_request *r, const Bulkhead__Object *wanted, const char *target) {
	Bulkhead__Object o = *wanted;
	Bulkhead__SnapshotBody body = *wanted->snapshot;
	Bulkhead__ObjectKey id = *wanted->id;
	struct shared *s = arena_alloc(&r->arena, sizeof(*s));
	struct object *x;
	id.key = (char *)(uintptr_t)target;
	body.kind = COMMITTED;
	body.disk = (char *)(uintptr_t)target;
	o.id = &id;
	o.snapshot = &body;
	int e = s ? object_add(&m->objects, &o, &x) : -ENOMEM;
	if (e < 0) {
		object_fail_store(r, &id, e);
		return;
	}
	*s = (struct shared){ .waiter = { .fn = shared_committed, .ctx = s }, .r = r, .target = target };
	store_wait(m->store, STORE_IMAGES, &s->waiter);
}

/* True: answered, now or later. */
static bool shared(struct metadata *m, struct msg_request *r, const Bulkhead__Object *wanted) {
	const char *target = object_label(wanted, LABEL_TARGET);
	if (!target || wanted->snapshot->kind != ACTIVE)
		return false;
	const Bulkhead__ObjectKey id = object_key_of(wanted->id->kind, wanted->id->namespace_, target);
	const Bulkhead__Object *there = object_look(m, &r->arena, &id);
	if (there)
		target_exists(r, target);
	else if (is_here(m, wanted->snapshot, target))
		share(m, r, wanted, target);
	else
		return false;
	return true;
}

/* --- the request ------------------------------------------------------------ */

/* What is shown above the parent's layers and its own, which come after them. */
static int take_parent(struct metadata *m, struct msg_request *r, const Bulkhead__SnapshotMakeRequest *q,
		       Bulkhead__SnapshotBody *b, struct fault *fault) {
	if (!*q->parent)
		return 0;
	const Bulkhead__ObjectKey id = object_key_of(q->id->kind, q->id->namespace_, q->parent);
	const Bulkhead__Object *p = object_look(m, &r->arena, &id);
	if (!p)
		return fault_set(fault, FAULT_NOT_FOUND, "parent snapshot \"%.200s\": not found", q->parent);
	if (p->snapshot->kind != COMMITTED)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "parent snapshot \"%.200s\" isn't committed",
				 q->parent);
	size_t n = p->snapshot->n_layers;
	b->layers = arena_alloc(&r->arena, (n + 1) * sizeof(*b->layers));
	if (!b->layers)
		return fault_errno(fault, ENOMEM, "list its layers");
	for (size_t i = 0; i < n; i++)
		b->layers[i] = p->snapshot->layers[i];
	b->layers[n] = p->snapshot->disk;
	b->n_layers = n + 1;
	return 0;
}

static void again(struct metadata *m, struct msg_request *r, const Bulkhead__SnapshotMakeRequest *q, struct object *x) {
	char text[OBJECT_TEXT_MAX];
	if (x && x->op)
		op_requeue(x->op, r, &q->base, snapshot_make);
	else if (x && x->record->made_by == r->context.request && r->context.request)
		make_begin(m, r, x);
	else
		msg_failf(r, FAULT_ALREADY_EXISTS, "%s: already exists", object_text(q->id, text));
}

static int make_check(const Bulkhead__SnapshotMakeRequest *q, struct fault *fault) {
	if (!q->id || q->id->kind != BULKHEAD__OBJECT_KIND__OBJECT_SNAPSHOT)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "a snapshot has a key");
	if (q->kind != ACTIVE && q->kind != VIEW)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "a snapshot is made active, or as a view");
	return object_key_check(q->id, fault);
}

static void make(struct metadata *m, struct msg_request *r, const Bulkhead__SnapshotMakeRequest *q) {
	Bulkhead__Object o = BULKHEAD__OBJECT__INIT;
	Bulkhead__SnapshotBody body = BULKHEAD__SNAPSHOT_BODY__INIT;
	char disk[ID_SIZE] = "";
	struct fault fault;
	struct object *x;
	if (q->kind == ACTIVE)
		id_random(disk);
	body.kind = q->kind;
	body.parent = q->parent;
	body.disk = disk;
	o.id = q->id;
	o.labels = (void *)q->labels;
	o.n_labels = q->n_labels;
	o.held_by = q->held_by;
	o.made_by = r->context.request;
	o.body_case = BULKHEAD__OBJECT__BODY_SNAPSHOT;
	o.snapshot = &body;
	if (take_parent(m, r, q, &body, &fault) < 0 || object_check(&o, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if (shared(m, r, &o))
		return;
	int e = object_add(&m->objects, &o, &x);
	if (e < 0)
		object_fail_store(r, q->id, e);
	else
		make_begin(m, r, x);
}

void snapshot_make(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__SnapshotMakeRequest *q = (const Bulkhead__SnapshotMakeRequest *)request;
	struct fault fault;
	if (make_check(q, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	const struct object *becoming = snapshot_becoming(m, q->id->namespace_, q->id->key);
	if (becoming && becoming->op)
		op_requeue(becoming->op, r, request, snapshot_make);
	else if (object_look(m, &r->arena, q->id))
		again(m, r, q, object_find(&m->objects, q->id->kind, q->id->namespace_, q->id->key));
	else
		make(m, r, q);
}
