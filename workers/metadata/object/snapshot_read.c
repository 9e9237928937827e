/* snapshot_show and snapshot_count: what a snapshot's mounts are, and its size. */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "workers/metadata/object/snapshot.h"

#define VIEW BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_VIEW
#define COMMITTED BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_COMMITTED

/* NULL: the request has been failed, or waits for what changes it now. */
static const Bulkhead__Object *find(struct metadata *m, struct msg_request *r, const Bulkhead__ObjectKey *id,
				    void (*handle)(struct metadata *, struct msg_request *, const ProtobufCMessage *)) {
	struct fault fault;
	if (object_key_check(id, &fault) < 0) {
		msg_fail(r, &fault);
		return NULL;
	}
	const struct object *x = object_find(&m->objects, id->kind, id->namespace_, id->key);
	if (x && x->op) {
		op_requeue(x->op, r, &id->base, handle);
		return NULL;
	}
	const Bulkhead__Object *o = object_look(m, &r->arena, id);
	if (o && o->body_case == BULKHEAD__OBJECT__BODY_SNAPSHOT)
		return o;
	object_fail_missing(r, id);
	return NULL;
}

static void shown(void *ctx, const struct msg_answer *answer) {
	struct msg_request *r = ctx;
	if (answer->fault)
		msg_fail(r, answer->fault);
	else
		snapshot_show_reply(r, snapshot_mounts_answer(answer), NULL, 0);
}

void snapshot_show(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	Bulkhead__SnapshotMountRequest q = BULKHEAD__SNAPSHOT_MOUNT_REQUEST__INIT;
	const Bulkhead__Object *o = find(m, r, (const Bulkhead__ObjectKey *)request, snapshot_show);
	if (!o)
		return;
	if (o->snapshot->kind == COMMITTED) {
		msg_failf(r, FAULT_FAILED_PRECONDITION,
			  "snapshot \"%.200s\" is committed: only an active one or a view has mounts", o->id->key);
		return;
	}
	q.key = o->snapshot->disk;
	q.n_parents = o->snapshot->n_layers;
	q.parents = o->snapshot->layers;
	snapshot_mounts_send(m->snapshot, &r->context, &q, NULL, 0, shown, r);
}

static void counted(void *ctx, const struct msg_answer *answer) {
	struct msg_request *r = ctx;
	if (answer->fault)
		msg_fail(r, answer->fault);
	else
		snapshot_count_reply(r, snapshot_usage_answer(answer), NULL, 0);
}

void snapshot_count(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	Bulkhead__SnapshotUsageReply reply = BULKHEAD__SNAPSHOT_USAGE_REPLY__INIT;
	Bulkhead__Key q = BULKHEAD__KEY__INIT;
	const Bulkhead__Object *o = find(m, r, (const Bulkhead__ObjectKey *)request, snapshot_count);
	if (!o)
		return;
	const struct layer *l = o->snapshot->kind == COMMITTED ? model_find_layer(&m->model, o->snapshot->disk) : NULL;
	if (l) {
		reply.size = l->record->size;
		reply.inodes = l->record->inodes;
	}
	if (o->snapshot->kind == COMMITTED || o->snapshot->kind == VIEW) {
		snapshot_count_reply(r, &reply, NULL, 0);
		return;
	}
	q.id = o->snapshot->disk;
	snapshot_usage_send(m->snapshot, &r->context, &q, NULL, 0, counted, r);
}
