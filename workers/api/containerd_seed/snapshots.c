/* containerd.v1.snapshot.Snapshot. A view is an active one that is read-only. */
#include "workers/api/containerd_seed/ctd_seed.h"

#include "containerd_seed/snapshot.pb-c.h"

#define S(name) Containerd__Seed__Snapshot__##name
#define S_INIT(name) CONTAINERD__SEED__SNAPSHOT__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_SNAPSHOT
#define SNAPSHOT(name) BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_##name

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	S(Info) *i = ARENA_NEW(t->arena, S(Info), S_INIT(INFO));
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

static int mounts_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			struct fault *fault) {
	const Bulkhead__MountList *l = (const Bulkhead__MountList *)internal;
	S(MountsResponse) *a = (S(MountsResponse) *)*reply;
	if (!(a->mounts = arena_alloc(t->arena, (l->n_mounts + 1) * sizeof(*a->mounts))))
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

static int usage_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		       struct fault *fault) {
	const Bulkhead__SnapshotUsageReply *u = (const Bulkhead__SnapshotUsageReply *)internal;
	S(UsageResponse) *a = (S(UsageResponse) *)*reply;
	a->size = (int64_t)u->size;
	a->inodes = (int64_t)u->inodes;
	return 0;
}

static const struct ctd_objects snapshots = { .kind = KIND, .key = "key", .make = make };
static const struct grpc_translator on_prepare = { prepare, mounts_reply }, on_view = { view, mounts_reply },
				    on_mounts = { ctd_key_request, mounts_reply }, on_commit = { .request = commit },
				    on_usage = { ctd_key_request, usage_reply };

const struct grpc_method ctd_seed_snapshot_methods[] = {
	{ .name = "Prepare", .number = MSG_snapshot_make, .translator = &on_prepare, .changes = true },
	{ .name = "View", .number = MSG_snapshot_make, .translator = &on_view, .changes = true },
	{ .name = "Mounts", .number = MSG_snapshot_show, .translator = &on_mounts, .about = &snapshots },
	{ .name = "Commit", .number = MSG_snapshot_seal, .translator = &on_commit, .changes = true },
	{ .name = "Remove", CTD_OBJECT_DELETE(snapshots) },
	{ .name = "Stat", CTD_OBJECT_GET(snapshots) },
	{ .name = "List", CTD_OBJECT_STREAM(snapshots) },
	{ .name = "Usage", .number = MSG_snapshot_count, .translator = &on_usage, .about = &snapshots },
	{ 0 },
};
