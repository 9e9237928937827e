/*
 * snapshot_seal: look -> intend -> move -> record.
 *
 * What it becomes is decided once and recorded (SnapshotSeal) before anything is
 * moved; from then on a crash is followed by the rest of it. A layer's chain id
 * is taken only when nothing but what Diff/Apply has unpacked is in the folder,
 * on layers that have chain ids as well; and when that layer is here, it is
 * shared and the folder thrown away.
 */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/image.h"
#include "workers/metadata/object/snapshot.h"
#include "workers/metadata/sweep.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COMMITTED BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_COMMITTED
#define AGAIN_NS (NS_PER_SEC / 10)

struct seal {
	struct op op;
	struct object *x;
	struct arena arena;
	Bulkhead__SnapshotSeal *seal;
	char *held_by;
	Bulkhead__LayerRecord layer;
};

static struct seal *seal_of(struct op *op) {
	return container_of(op, struct seal, op);
}

static const Bulkhead__SnapshotBody *body_of(struct op *op) {
	return seal_of(op)->x->record->snapshot;
}

/* The record with another seal in it. */
static int seal_set(struct op *op, Bulkhead__SnapshotSeal *seal) {
	struct object *x = seal_of(op)->x;
	Bulkhead__Object changed = *x->record;
	Bulkhead__SnapshotBody body = *x->record->snapshot;
	body.seal = seal;
	changed.snapshot = &body;
	return object_replace(&op->m->objects, x, &changed);
}

/* --- look ------------------------------------------------------------------- */

static void decide(struct op *op, bool untouched) {
	struct seal *s = seal_of(op);
	const Bulkhead__SnapshotBody *b = body_of(op);
	char id[LAYER_ID_SIZE];
	if (!untouched || !snapshot_chain_id(b->layers, b->n_layers, b->diff_id, id))
		layer_id_random(id);
	s->seal->shared = model_find_layer(&op->m->model, id) != NULL;
	s->seal->disk = arena_strdup(&s->arena, id);
	if (s->seal->disk)
		op_next(op);
	else
		op_fail_store(op, -ENOMEM);
}

static void looked(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault)
		op_fail_below(op, answer->fault);
	else
		decide(op, snapshot_usage_answer(answer)->changed_at <= body_of(op)->applied_at);
}

static void seal_look(struct op *op) {
	Bulkhead__Key q = BULKHEAD__KEY__INIT;
	if (*seal_of(op)->seal->disk) {
		op_next(op); /* decided by an earlier process */
		return;
	}
	if (!*body_of(op)->diff_id) {
		decide(op, false);
		return;
	}
	q.id = body_of(op)->disk;
	struct msg_context context = op_context(op, SNAPSHOT_TIMEOUT_NS);
	snapshot_usage_send(op->m->snapshot, &context, &q, NULL, 0, looked, op);
}

/* --- intend ----------------------------------------------------------------- */

static void seal_intend(struct op *op) {
	int r = seal_set(op, seal_of(op)->seal);
	if (r < 0)
		op_fail_store(op, r);
	else
		op_commit(op, STORE_PODS);
}

static void seal_undo(struct op *op) {
	int r = seal_set(op, NULL);
	if (r < 0)
		log_event(LOG_WARN, "a commit that failed will be tried at the next start", "snapshot", op->object,
			  "error", strerrordesc_np(-r), NULL);
}

/* --- move ------------------------------------------------------------------- */

static void moved(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	struct seal *s = seal_of(op);
	if (answer->fault && answer->fault->code == FAULT_ABORTED) {
		op_again(op, op->step, AGAIN_NS); /* by a request of before */
		return;
	}
	if (answer->fault) {
		op_fail_below(op, answer->fault);
		return;
	}
	s->layer.size = snapshot_commit_answer(answer)->size;
	s->layer.inodes = snapshot_commit_answer(answer)->inodes;
	op_next(op);
}

static void seal_move(struct op *op) {
	const struct seal *s = seal_of(op);
	Bulkhead__SnapshotCommitRequest q = BULKHEAD__SNAPSHOT_COMMIT_REQUEST__INIT;
	if (s->seal->shared) {
		op_next(op);
		return;
	}
	q.key = body_of(op)->disk;
	q.layer = s->seal->disk;
	struct msg_context context = op_context(op, 0);
	snapshot_commit_send(op->m->snapshot, &context, &q, NULL, 0, moved, op);
}

/* --- record ----------------------------------------------------------------- */

static int layer_keep(struct op *op) {
	struct seal *s = seal_of(op);
	if (model_find_layer(&op->m->model, s->seal->disk))
		return 0;
	s->layer.chain_id = s->seal->disk;
	if (digest_valid(s->seal->disk))
		s->layer.diff_id = body_of(op)->diff_id;
	struct layer *l = model_add_layer(&op->m->model, &s->layer);
	return l ? layer_save(op->m, l) : -errno;
}

static int committed_add(struct op *op) {
	struct seal *s = seal_of(op);
	Bulkhead__Object o = *s->x->record;
	Bulkhead__SnapshotBody body = *s->x->record->snapshot;
	Bulkhead__ObjectKey id = *s->x->record->id;
	struct object *x;
	id.key = s->seal->name;
	o.id = &id;
	o.labels = (void *)s->seal->labels;
	o.n_labels = s->seal->n_labels;
	o.made_by = s->seal->made_by;
	o.held_by = s->held_by;
	body.kind = COMMITTED;
	body.disk = s->seal->disk;
	body.made_of = s->x->record->snapshot->disk;
	body.diff_id = (char *)"";
	body.applied_at = 0;
	body.seal = NULL;
	o.snapshot = &body;
	int r = object_add(&op->m->objects, &o, &x);
	if (r == 0)
		snapshot_tell(op->m, "commit", s->x->record->id->key, x->record);
	return r;
}

static void seal_record(struct op *op) {
	int r = layer_keep(op);
	if (r == 0)
		r = committed_add(op);
	if (r < 0)
		op_fail_store(op, r);
	else
		op_commit(op, STORE_IMAGES);
}

/* Also a folder that wasn't needed because the layer was there. */
static void seal_finish(struct op *op) {
	op->slot = NULL;
	if (snapshot_drop(op->m, seal_of(op)->x) < 0)
		log_event(LOG_WARN, "record not deleted", "snapshot", op->object, NULL);
	op_next(op);
}

static const struct op_step seal_steps[] = {
	{ .name = "look at its folder", .run = seal_look },
	{ .name = "record the intent", .run = seal_intend, .undo = seal_undo },
	{ .name = "make a layer of it", .run = seal_move },
	{ .name = "record", .run = seal_record },
	{ .name = "finish", .run = seal_finish },
	{ .name = NULL },
};

static void seal_answer(struct op *op, struct msg_request *r) {
	Bulkhead__Empty empty = BULKHEAD__EMPTY__INIT;
	snapshot_seal_reply(r, &empty, NULL, 0);
}

static void seal_free(struct op *op) {
	arena_deinit(&seal_of(op)->arena);
	free(seal_of(op));
}

static const struct op_class seal_class = {
	.name = "commit snapshot",
	.steps = seal_steps,
	.answer = seal_answer,
	.free = seal_free,
};

static struct seal *seal_new(struct metadata *m, struct object *x, const Bulkhead__SnapshotSeal *seal,
			     const char *held_by, const struct msg_request *r) {
	struct seal *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	arena_init(&s->arena, 0);
	s->x = x;
	s->layer = (Bulkhead__LayerRecord)BULKHEAD__LAYER_RECORD__INIT;
	s->seal = message_copy(&s->arena, &seal->base);
	s->held_by = arena_strdup(&s->arena, held_by);
	if (!s->seal || !s->held_by) {
		arena_deinit(&s->arena);
		free(s);
		return NULL;
	}
	op_init(&s->op, &seal_class, m, &x->op, x->record->id->key, r);
	return s;
}

void snapshot_seal_resume(struct metadata *m, struct object *x) {
	struct seal *s = seal_new(m, x, x->record->snapshot->seal, "", NULL);
	if (s)
		op_start(&s->op);
	else
		log_event(LOG_WARN, "no memory to go on with a commit", "snapshot", x->record->id->key, NULL);
}

/* --- the request ------------------------------------------------------------ */

static int seal_check(const Bulkhead__SnapshotSealRequest *q, struct fault *fault) {
	if (!q->id || q->id->kind != BULKHEAD__OBJECT_KIND__OBJECT_SNAPSHOT)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "a snapshot has a key");
	const Bulkhead__ObjectKey name = object_key_of(q->id->kind, q->id->namespace_, q->name);
	int r = object_key_check(q->id, fault);
	return r == 0 ? object_key_check(&name, fault) : r;
}

/* Whether x may become that. */
static int may_seal(const Bulkhead__SnapshotSealRequest *q, const struct object *x, struct fault *fault) {
	const Bulkhead__SnapshotBody *b = x->record->snapshot;
	if (b->kind != BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_ACTIVE)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "commit snapshot \"%.200s\": it isn't active",
				 q->id->key);
	if (*q->parent && strcmp(q->parent, b->parent) != 0)
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "commit snapshot \"%.200s\" on \"%.200s\": prepare it on that", q->id->key, q->parent);
	return 0;
}

static void seal(struct metadata *m, struct msg_request *r, const Bulkhead__SnapshotSealRequest *q, struct object *x) {
	Bulkhead__SnapshotSeal seal = BULKHEAD__SNAPSHOT_SEAL__INIT;
	seal.name = q->name;
	seal.labels = (void *)q->labels;
	seal.n_labels = q->n_labels;
	seal.made_by = r->context.request;
	struct seal *s = seal_new(m, x, &seal, q->held_by, r);
	if (!s) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "commit snapshot \"%.200s\": out of memory", q->id->key);
		return;
	}
	op_join(&s->op, r);
	op_start(&s->op);
}

/* The name is taken: by what this very request has made, perhaps. */
static void taken(struct metadata *m, struct msg_request *r, const Bulkhead__Object *there) {
	char text[OBJECT_TEXT_MAX];
	if (there->made_by == r->context.request && r->context.request)
		object_answer(m, r, object_base(there), NULL);
	else
		msg_failf(r, FAULT_ALREADY_EXISTS, "%s: already exists", object_text(there->id, text));
}

/* An operation that has the key or the name now; NULL: none. What an earlier
 * process has begun is gone on with. */
static struct op *under_way(struct metadata *m, const Bulkhead__SnapshotSealRequest *q, struct object *x) {
	struct object *other = snapshot_becoming(m, q->id->namespace_, q->name);
	struct object *both[] = { x, other };
	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		if (both[i] && !both[i]->op && both[i]->record->snapshot->seal)
			snapshot_seal_resume(m, both[i]);
		if (both[i] && both[i]->op)
			return both[i]->op;
	}
	return NULL;
}

void snapshot_seal(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__SnapshotSealRequest *q = (const Bulkhead__SnapshotSealRequest *)request;
	struct fault fault;
	if (seal_check(q, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	struct object *x = object_find(&m->objects, q->id->kind, q->id->namespace_, q->id->key);
	struct op *op = under_way(m, q, x);
	const Bulkhead__ObjectKey name = object_key_of(q->id->kind, q->id->namespace_, q->name);
	const Bulkhead__Object *there = object_look(m, &r->arena, &name);
	if (op)
		op_requeue(op, r, request, snapshot_seal);
	else if (there)
		taken(m, r, there);
	else if (!x)
		object_fail_missing(r, q->id);
	else if (may_seal(q, x, &fault) < 0)
		msg_fail(r, &fault);
	else
		seal(m, r, q, x);
}
