/* containerd.v1.snapshot.Snapshot. A view is an active one that is read-only. */
#include "workers/api/containerd_seed/ctd_seed.h"

#include "containerd_seed/snapshot.pb-c.h"

#define S(name) Containerd__Seed__Snapshot__##name
#define S_INIT(name) CONTAINERD__SEED__SNAPSHOT__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_SNAPSHOT
#define SNAPSHOT(name) BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_##name
#define LIST_PART 100 /* snapshots in one message */

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	S(Info) *i = o->body_case == BULKHEAD__OBJECT__BODY_SNAPSHOT ? ARENA_NEW(t->arena, S(Info), S_INIT(INFO))
								     : NULL;
	if (!i)
		return NULL;
	i->name = o->id->key;
	i->parent = o->snapshot->parent;
	i->kind = o->snapshot->kind == SNAPSHOT(COMMITTED) ? CONTAINERD__SEED__SNAPSHOT__KIND__COMMITTED
							   : CONTAINERD__SEED__SNAPSHOT__KIND__ACTIVE;
	i->readonly = o->snapshot->kind != SNAPSHOT(ACTIVE);
	return i;
}

/* --- Prepare, View, Mounts -------------------------------------------------- */

static int make_request(struct grpc_translation *t, const S(PrepareRequest) * q, Bulkhead__SnapshotKind kind,
			ProtobufCMessage **ret_internal, struct fault *fault) {
	Bulkhead__SnapshotMakeRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__SnapshotMakeRequest, BULKHEAD__SNAPSHOT_MAKE_REQUEST__INIT);
	if (!i || !(i->id = ctd_key(t, KIND, q->key)))
		return grpc_no_memory(fault);
	i->kind = kind;
	i->parent = q->parent;
	*ret_internal = &i->base;
	return 0;
}

static int prepare(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		   struct fault *fault) {
	return make_request(t, (const S(PrepareRequest) *)request, SNAPSHOT(ACTIVE), ret_internal, fault);
}

static int view(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return make_request(t, (const S(PrepareRequest) *)request, SNAPSHOT(VIEW), ret_internal, fault);
}

static int mounts(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	return ctd_get(t, KIND, ((const S(MountsRequest) *)request)->key, ret_internal, fault);
}

static int mounts_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
			struct fault *fault) {
	const Bulkhead__MountList *l = (const Bulkhead__MountList *)internal;
	S(MountsResponse) *a = ARENA_NEW(t->arena, S(MountsResponse), S_INIT(MOUNTS_RESPONSE));
	if (!a || !(a->mounts = arena_alloc(t->arena, (l->n_mounts + 1) * sizeof(*a->mounts))))
		return grpc_no_memory(fault);
	for (; a->n_mounts < l->n_mounts; a->n_mounts++) {
		const Grpc__Mount *from = l->mounts[a->n_mounts];
		Containerd__Seed__Types__Mount *to =
		    ARENA_NEW(t->arena, Containerd__Seed__Types__Mount, CONTAINERD__SEED__TYPES__MOUNT__INIT);
		if (!to)
			return grpc_no_memory(fault);
		to->type = from->type;
		to->source = from->source;
		to->target = from->destination;
		to->options = from->options;
		to->n_options = from->n_options;
		a->mounts[a->n_mounts] = to;
	}
	*ret_reply = &a->base;
	return 0;
}

/* --- of one that is there --------------------------------------------------- */

static int commit(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const S(CommitRequest) *q = (const S(CommitRequest) *)request;
	Bulkhead__SnapshotSealRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__SnapshotSealRequest, BULKHEAD__SNAPSHOT_SEAL_REQUEST__INIT);
	if (!i || !(i->id = ctd_key(t, KIND, q->key)))
		return grpc_no_memory(fault);
	i->name = q->name;
	*ret_internal = &i->base;
	return 0;
}

static int drop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return ctd_delete(t, KIND, ((const S(RemoveRequest) *)request)->key, false, "", ret_internal, fault);
}

static int stat_one(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		    struct fault *fault) {
	return ctd_get(t, KIND, ((const S(StatRequest) *)request)->key, ret_internal, fault);
}

CTD_REPLY_ONE(stat_reply, S(StatResponse), S_INIT(STAT_RESPONSE), info, make)

static int usage(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		 struct fault *fault) {
	return ctd_get(t, KIND, ((const S(UsageRequest) *)request)->key, ret_internal, fault);
}

static int usage_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		       struct fault *fault) {
	const Bulkhead__SnapshotUsageReply *u = (const Bulkhead__SnapshotUsageReply *)internal;
	S(UsageResponse) *a = ARENA_NEW(t->arena, S(UsageResponse), S_INIT(USAGE_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	a->size = (int64_t)u->size;
	a->inodes = (int64_t)u->inodes;
	*ret_reply = &a->base;
	return 0;
}

/* --- List ------------------------------------------------------------------- */

static int list(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return ctd_list(t, KIND, NULL, 0, ret_internal, fault);
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		      struct fault *fault) {
	S(ListResponse) *a = ARENA_NEW(t->arena, S(ListResponse), S_INIT(LIST_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	int r = ctd_part(t, internal, make, LIST_PART, (void ***)&a->info, &a->n_info, fault);
	*ret_reply = r == 0 && a->n_info ? &a->base : NULL;
	return r;
}

static const struct grpc_translator on_prepare = { prepare, mounts_reply }, on_view = { view, mounts_reply },
				    on_mounts = { mounts, mounts_reply }, on_commit = { commit, ctd_empty },
				    on_remove = { drop, ctd_empty }, on_stat = { stat_one, stat_reply },
				    on_list = { list, list_reply }, on_usage = { usage, usage_reply };

const struct grpc_method ctd_seed_snapshot_methods[] = {
	{ .name = "Prepare", .number = MSG_snapshot_make, .translator = &on_prepare, .changes = true },
	{ .name = "View", .number = MSG_snapshot_make, .translator = &on_view, .changes = true },
	{ .name = "Mounts", .number = MSG_snapshot_show, .translator = &on_mounts },
	{ .name = "Commit", .number = MSG_snapshot_seal, .translator = &on_commit, .changes = true },
	{ .name = "Remove", .number = MSG_object_delete, .translator = &on_remove, .changes = true },
	{ .name = "Stat", .number = MSG_object_get, .translator = &on_stat },
	{ .name = "List", .number = MSG_object_list, .translator = &on_list, .list = true },
	{ .name = "Usage", .number = MSG_snapshot_count, .translator = &on_usage },
	{ 0 },
};
