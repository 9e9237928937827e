/*
 * diff_apply: blob -> unpack -> record.
 *
 * The image worker opens the blob, the snapshot worker has a jailed child unpack
 * it into the snapshot, and what it turned out to be is recorded for the commit.
 * A snapshot worker that dies meanwhile has changed nothing, and its successor is
 * asked again; or it had put all in its place, and couldn't say so any more. The
 * client is told then, since what is there may as well be somebody else's.
 */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "base/fd.h"
#include "workers/metadata/object/snapshot.h"

#include <errno.h>
#include <string.h>

#define ATTEMPTS 3
#define AGAIN_NS (NS_PER_SEC / 5)
#define MEDIA_TYPE "application/vnd.oci.image.layer.v1.tar"
#define LAYER_TYPES "application/vnd.oci.image.layer."
#define LAYER_TYPES_DOCKER "application/vnd.docker.image.rootfs."

struct apply {
	struct op op;
	struct object *x;
	struct arena arena;
	const Bulkhead__DiffApplyRequest *q;
	int blob;
	unsigned attempts;
	const Bulkhead__SnapshotApplyReply *applied;
};

static struct apply *apply_of(struct op *op) {
	return container_of(op, struct apply, op);
}

static void blob_opened(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault) {
		op_fail_below(op, answer->fault);
		return;
	}
	fd_replace(&apply_of(op)->blob, take_fd(&answer->fds[0]));
	op_next(op);
}

static void apply_open(struct op *op) {
	Bulkhead__Key q = BULKHEAD__KEY__INIT;
	q.id = apply_of(op)->q->diff->digest;
	struct msg_context context = op_context(op, SNAPSHOT_TIMEOUT_NS);
	blob_open_send(op->m->image, &context, &q, NULL, 0, blob_opened, op);
}

/* A snapshot that isn't empty any more, after an answer that didn't come. */
static void unpacked_unheard(struct op *op) {
	struct fault fault;
	fault_set(&fault, FAULT_ABORTED,
		  "the snapshot worker ended meanwhile, and there is something in it now: remove the snapshot, prepare "
		  "it again, and apply again");
	op_fail_below(op, &fault);
}

static void unpacked(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	struct apply *a = apply_of(op);
	if (answer->fault && answer->fault->code == FAULT_UNAVAILABLE && ++a->attempts < ATTEMPTS) {
		op_again(op, 0, AGAIN_NS);
		return;
	}
	if (answer->fault && answer->fault->code == FAULT_FAILED_PRECONDITION && a->attempts > 0) {
		unpacked_unheard(op);
		return;
	}
	if (answer->fault) {
		op_fail_below(op, answer->fault);
		return;
	}
	a->applied = message_copy(&a->arena, answer->reply);
	if (a->applied)
		op_next(op);
	else
		op_fail_store(op, -ENOMEM);
}

static void apply_unpack(struct op *op) {
	struct apply *a = apply_of(op);
	const Bulkhead__SnapshotBody *b = a->x->record->snapshot;
	Bulkhead__SnapshotApplyRequest q = BULKHEAD__SNAPSHOT_APPLY_REQUEST__INIT;
	q.key = b->disk;
	q.n_parents = b->n_layers;
	q.parents = b->layers;
	q.sync = a->q->sync;
	struct msg_context context = op_context(op, 0);
	snapshot_apply_send(op->m->snapshot, &context, &q, &a->blob, 1, unpacked, op);
}

static void apply_record(struct op *op) {
	struct apply *a = apply_of(op);
	Bulkhead__Object changed = *a->x->record;
	Bulkhead__SnapshotBody body = *a->x->record->snapshot;
	body.diff_id = a->applied->diff_id;
	body.applied_at = a->applied->applied_at;
	changed.snapshot = &body;
	int r = object_replace(&op->m->objects, a->x, &changed);
	if (r < 0)
		op_fail_store(op, r);
	else
		op_commit(op, STORE_PODS);
}

static const struct op_step apply_steps[] = {
	{ .name = "open the blob", .run = apply_open },
	{ .name = "unpack it", .run = apply_unpack },
	{ .name = "record", .run = apply_record },
	{ .name = NULL },
};

static void apply_answer(struct op *op, struct msg_request *r) {
	const struct apply *a = apply_of(op);
	Bulkhead__Descriptor d = BULKHEAD__DESCRIPTOR__INIT;
	d.media_type = MEDIA_TYPE;
	d.digest = a->applied->diff_id;
	d.size = a->applied->size;
	diff_apply_reply(r, &d, NULL, 0);
}

static void apply_free(struct op *op) {
	struct apply *a = apply_of(op);
	fd_close(a->blob);
	arena_deinit(&a->arena);
	free(a);
}

static const struct op_class apply_class = {
	.name = "apply onto snapshot",
	.steps = apply_steps,
	.answer = apply_answer,
	.free = apply_free,
};

static void apply(struct metadata *m, struct msg_request *r, const Bulkhead__DiffApplyRequest *q, struct object *x) {
	struct apply *a = calloc(1, sizeof(*a));
	if (a) {
		arena_init(&a->arena, 0);
		a->x = x;
		a->blob = -1;
		a->q = message_copy(&a->arena, &q->base);
	}
	if (!a || !a->q) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "apply onto snapshot \"%.200s\": out of memory",
			  x->record->id->key);
		if (a)
			apply_free(&a->op);
		return;
	}
	op_init(&a->op, &apply_class, m, &x->op, x->record->id->key, r);
	op_join(&a->op, r);
	op_start(&a->op);
}

/* --- the request ------------------------------------------------------------ */

static int type_check(const char *type, struct fault *fault) {
	if (strstr(type, "+encrypted"))
		return fault_set(fault, FAULT_UNIMPLEMENTED, "a layer of type \"%.100s\" is encrypted", type);
	if (strncmp(type, LAYER_TYPES, strlen(LAYER_TYPES)) != 0 &&
	    strncmp(type, LAYER_TYPES_DOCKER, strlen(LAYER_TYPES_DOCKER)) != 0)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "\"%.100s\" is no type of a layer", type);
	return 0;
}

static int blob_check(struct metadata *m, struct msg_request *r, const Bulkhead__DiffApplyRequest *q,
		      struct fault *fault) {
	if (!q->diff)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "apply: the descriptor of the layer is missing");
	const Bulkhead__ObjectKey id =
	    object_key_of(BULKHEAD__OBJECT_KIND__OBJECT_CONTENT, q->namespace_, q->diff->digest);
	int e = object_key_check(&id, fault);
	if (e == 0)
		e = type_check(q->diff->media_type, fault);
	if (e < 0)
		return e;
	const Bulkhead__Object *o = object_look(m, &r->arena, &id);
	if (!o)
		return fault_set(fault, FAULT_NOT_FOUND, "content %s: not found", id.key);
	if (q->diff->size && o->content->size != q->diff->size)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "content %s has %llu bytes, not %llu", id.key,
				 (unsigned long long)o->content->size, (unsigned long long)q->diff->size);
	return 0;
}

void diff_apply(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__DiffApplyRequest *q = (const Bulkhead__DiffApplyRequest *)request;
	struct fault fault;
	if (blob_check(m, r, q, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	const struct object *found = snapshot_of_mounts(m, q->namespace_, q->mounts, q->n_mounts);
	struct object *x =
	    found ? object_find(&m->objects, found->record->id->kind, q->namespace_, found->record->id->key) : NULL;
	if (!x)
		msg_failf(r, FAULT_INVALID_ARGUMENT, "apply: the mounts are those of no snapshot in namespace \"%s\"",
			  q->namespace_);
	else if (x->record->snapshot->kind != BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_ACTIVE)
		msg_failf(r, FAULT_FAILED_PRECONDITION, "apply: the mounts are those of a view, which is read-only");
	else if (x->op)
		op_requeue(x->op, r, request, diff_apply);
	else
		apply(m, r, q, x);
}
