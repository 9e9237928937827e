/* containerd.services.snapshots.v1.Snapshots */
#include "workers/api/containerd/containerd.h"

#include "containerd/snapshots.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

#include <string.h>

#define S(name) Containerd__Services__Snapshots__V1__##name
#define S_INIT(name) CONTAINERD__SERVICES__SNAPSHOTS__V1__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_SNAPSHOT
#define SNAPSHOTTER "overlayfs"
#define LIST_PART 100 /* snapshots in one message */

static int snapshotter_check(const char *name, struct fault *fault) {
	if (!*name)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "snapshotter argument missing");
	if (strcmp(name, SNAPSHOTTER) != 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "snapshotter not loaded: %.100s (there is " SNAPSHOTTER ")", name);
	return 0;
}

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	S(Info) *i = o->body_case == BULKHEAD__OBJECT__BODY_SNAPSHOT ? ARENA_NEW(t->arena, S(Info), S_INIT(INFO))
								     : NULL;
	if (i) {
		i->name = o->id->key;
		i->parent = o->snapshot->parent;
		i->kind = (S(Kind))o->snapshot->kind;
		i->created_at = ctd_time(t, o->created_at);
		i->updated_at = ctd_time(t, o->updated_at);
		i->labels = (void *)o->labels;
		i->n_labels = o->n_labels;
	}
	return i;
}

/* --- Prepare and View ------------------------------------------------------- */

/* The two requests have the same fields. */
static int make_request(struct grpc_translation *t, const S(PrepareSnapshotRequest) * q, Bulkhead__SnapshotKind kind,
			ProtobufCMessage **ret_internal, struct fault *fault) {
	int r = snapshotter_check(q->snapshotter, fault);
	if (r < 0)
		return r;
	Bulkhead__SnapshotMakeRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__SnapshotMakeRequest, BULKHEAD__SNAPSHOT_MAKE_REQUEST__INIT);
	if (!i || !(i->id = ctd_key(t, KIND, q->key)))
		return grpc_no_memory(fault);
	i->kind = kind;
	i->parent = q->parent;
	i->labels = (void *)q->labels;
	i->n_labels = q->n_labels;
	i->held_by = ctd_lease(t);
	*ret_internal = &i->base;
	return 0;
}

static int prepare(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		   struct fault *fault) {
	return make_request(t, (const S(PrepareSnapshotRequest) *)request, BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_ACTIVE,
			    ret_internal, fault);
}

static int view(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const S(ViewSnapshotRequest) *q = (const S(ViewSnapshotRequest) *)request;
	S(PrepareSnapshotRequest) same = S_INIT(PREPARE_SNAPSHOT_REQUEST);
	same.snapshotter = q->snapshotter;
	same.key = q->key;
	same.parent = q->parent;
	same.labels = (void *)q->labels;
	same.n_labels = q->n_labels;
	return make_request(t, &same, BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_VIEW, ret_internal, fault);
}

/* A reply that is the mounts. */
#define REPLY_MOUNTS(function, type, INIT)                                                \
	static int function(struct grpc_translation *t, const ProtobufCMessage *internal, \
			    ProtobufCMessage **ret_reply, struct fault *fault) {          \
		type *a = ARENA_NEW(t->arena, type, INIT);                                \
		if (!a || !(a->mounts = ctd_mounts_back(t, internal, &a->n_mounts)))      \
			return grpc_no_memory(fault);                                     \
		*ret_reply = &a->base;                                                    \
		return 0;                                                                 \
	}
REPLY_MOUNTS(prepare_reply, S(PrepareSnapshotResponse), S_INIT(PREPARE_SNAPSHOT_RESPONSE))
REPLY_MOUNTS(view_reply, S(ViewSnapshotResponse), S_INIT(VIEW_SNAPSHOT_RESPONSE))
REPLY_MOUNTS(mounts_reply, S(MountsResponse), S_INIT(MOUNTS_RESPONSE))

/* --- of one that is there --------------------------------------------------- */

static int key_request(struct grpc_translation *t, const char *snapshotter, const char *key,
		       ProtobufCMessage **ret_internal, struct fault *fault) {
	int r = snapshotter_check(snapshotter, fault);
	return r < 0 ? r : ctd_get(t, KIND, key, ret_internal, fault);
}

static int mounts(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const S(MountsRequest) *q = (const S(MountsRequest) *)request;
	return key_request(t, q->snapshotter, q->key, ret_internal, fault);
}

static int stat_one(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		    struct fault *fault) {
	const S(StatSnapshotRequest) *q = (const S(StatSnapshotRequest) *)request;
	return key_request(t, q->snapshotter, q->key, ret_internal, fault);
}

CTD_REPLY_ONE(stat_reply, S(StatSnapshotResponse), S_INIT(STAT_SNAPSHOT_RESPONSE), info, make)

static int usage(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		 struct fault *fault) {
	const S(UsageRequest) *q = (const S(UsageRequest) *)request;
	return key_request(t, q->snapshotter, q->key, ret_internal, fault);
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

static int drop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const S(RemoveSnapshotRequest) *q = (const S(RemoveSnapshotRequest) *)request;
	int r = snapshotter_check(q->snapshotter, fault);
	return r < 0 ? r : ctd_delete(t, KIND, q->key, false, "", ret_internal, fault);
}

static int commit(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const S(CommitSnapshotRequest) *q = (const S(CommitSnapshotRequest) *)request;
	int r = snapshotter_check(q->snapshotter, fault);
	if (r < 0)
		return r;
	Bulkhead__SnapshotSealRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__SnapshotSealRequest, BULKHEAD__SNAPSHOT_SEAL_REQUEST__INIT);
	if (!i || !(i->id = ctd_key(t, KIND, q->key)))
		return grpc_no_memory(fault);
	i->name = q->name;
	i->labels = (void *)q->labels;
	i->n_labels = q->n_labels;
	i->held_by = ctd_lease(t);
	i->parent = q->parent;
	*ret_internal = &i->base;
	return 0;
}

/* --- Update and List -------------------------------------------------------- */

static int update(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const S(UpdateSnapshotRequest) *q = (const S(UpdateSnapshotRequest) *)request;
	int r = snapshotter_check(q->snapshotter, fault);
	if (r < 0)
		return r;
	Bulkhead__Object *o = ctd_object(t, KIND, q->info ? q->info->name : "");
	if (!o || !(o->snapshot = ARENA_NEW(t->arena, Bulkhead__SnapshotBody, BULKHEAD__SNAPSHOT_BODY__INIT)))
		return grpc_no_memory(fault);
	o->body_case = BULKHEAD__OBJECT__BODY_SNAPSHOT;
	if (q->info) {
		o->labels = (void *)q->info->labels;
		o->n_labels = q->info->n_labels;
	}
	return ctd_update(t, o, q->update_mask, ret_internal, fault);
}

CTD_REPLY_ONE(update_reply, S(UpdateSnapshotResponse), S_INIT(UPDATE_SNAPSHOT_RESPONSE), info, make)

static int list(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const S(ListSnapshotsRequest) *q = (const S(ListSnapshotsRequest) *)request;
	int r = snapshotter_check(q->snapshotter, fault);
	return r < 0 ? r : ctd_list(t, KIND, q->filters, q->n_filters, ret_internal, fault);
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		      struct fault *fault) {
	S(ListSnapshotsResponse) *a = ARENA_NEW(t->arena, S(ListSnapshotsResponse), S_INIT(LIST_SNAPSHOTS_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	int r = ctd_part(t, internal, make, LIST_PART, (void ***)&a->info, &a->n_info, fault);
	*ret_reply = r == 0 && a->n_info ? &a->base : NULL;
	return r;
}

/* --- Cleanup ---------------------------------------------------------------- */

/* What nothing has a record of is removed as it comes to be. */
static void cleanup(struct grpc_call *c, const ProtobufCMessage *request) {
	Google__Protobuf__Empty nothing = GOOGLE__PROTOBUF__EMPTY__INIT;
	struct fault fault;
	if (snapshotter_check(((const S(CleanupRequest) *)request)->snapshotter, &fault) < 0)
		grpc_fail(c, &fault);
	else
		grpc_reply(c, &nothing.base);
}

static const struct grpc_translator on_prepare = { prepare, prepare_reply }, on_view = { view, view_reply },
				    on_mounts = { mounts, mounts_reply }, on_commit = { commit, ctd_empty },
				    on_remove = { drop, ctd_empty }, on_stat = { stat_one, stat_reply },
				    on_update = { update, update_reply }, on_list = { list, list_reply },
				    on_usage = { usage, usage_reply };

const struct grpc_method ctd_snapshots_methods[] = {
	{ .name = "Prepare", .number = MSG_snapshot_make, .translator = &on_prepare, .changes = true },
	{ .name = "View", .number = MSG_snapshot_make, .translator = &on_view, .changes = true },
	{ .name = "Mounts", .number = MSG_snapshot_show, .translator = &on_mounts },
	{ .name = "Commit", .number = MSG_snapshot_seal, .translator = &on_commit, .changes = true },
	{ .name = "Remove", .number = MSG_object_delete, .translator = &on_remove, .changes = true },
	{ .name = "Stat", .number = MSG_object_get, .translator = &on_stat },
	{ .name = "Update", .number = MSG_object_update, .translator = &on_update, .changes = true },
	{ .name = "List", .number = MSG_object_list, .translator = &on_list, .list = true },
	{ .name = "Usage", .number = MSG_snapshot_count, .translator = &on_usage },
	{ .name = "Cleanup", .answer = cleanup },
	{ 0 },
};
