/* containerd.services.snapshots.v1.Snapshots */
#include "workers/api/containerd/objects.h"

#include "containerd/snapshots.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

#include <string.h>

#define S(name) Containerd__Services__Snapshots__V1__##name
#define S_INIT(name) CONTAINERD__SERVICES__SNAPSHOTS__V1__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_SNAPSHOT
#define SNAPSHOTTER "overlayfs"

static int snapshotter_check(const char *name, struct fault *fault) {
	if (!*name)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "snapshotter argument missing");
	if (strcmp(name, SNAPSHOTTER) != 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "snapshotter not loaded: %.100s (there is " SNAPSHOTTER ")", name);
	return 0;
}

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	S(Info) *i = ARENA_NEW(t->arena, S(Info), S_INIT(INFO));
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

static Bulkhead__Object *object(struct grpc_translation *t, const void *from) {
	const S(Info) *i = from;
	Bulkhead__Object *o = ctd_object(t, KIND, i ? i->name : "");
	if (!o || !(o->snapshot = ARENA_NEW(t->arena, Bulkhead__SnapshotBody, BULKHEAD__SNAPSHOT_BODY__INIT)))
		return NULL;
	o->body_case = BULKHEAD__OBJECT__BODY_SNAPSHOT;
	if (i) {
		o->labels = (void *)i->labels;
		o->n_labels = i->n_labels;
	}
	return o;
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
#define REPLY_MOUNTS(function, type)                                                                                \
	static int function(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply, \
			    struct fault *fault) {                                                                  \
		type *a = (type *)*reply;                                                                           \
		a->mounts = ctd_mounts_back(t, internal, &a->n_mounts);                                             \
		return a->mounts ? 0 : grpc_no_memory(fault);                                                       \
	}
REPLY_MOUNTS(prepare_reply, S(PrepareSnapshotResponse))
REPLY_MOUNTS(view_reply, S(ViewSnapshotResponse))
REPLY_MOUNTS(mounts_reply, S(MountsResponse))

/* --- of one that is there --------------------------------------------------- */

static int usage_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		       struct fault *fault) {
	const Bulkhead__SnapshotUsageReply *u = (const Bulkhead__SnapshotUsageReply *)internal;
	S(UsageResponse) *a = (S(UsageResponse) *)*reply;
	a->size = (int64_t)u->size;
	a->inodes = (int64_t)u->inodes;
	return 0;
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

/* All requests begin with it. */
static int check(const ProtobufCMessage *request, struct fault *fault) {
	return snapshotter_check(((const S(StatSnapshotRequest) *)request)->snapshotter, fault);
}

static const struct ctd_objects snapshots = {
	.kind = KIND,
	.key = "key",
	.make = make,
	.object = object,
	.check = check,
};
static const struct grpc_translator on_prepare = { prepare, prepare_reply }, on_view = { view, view_reply },
				    on_mounts = { ctd_key_request, mounts_reply }, on_commit = { .request = commit },
				    on_usage = { ctd_key_request, usage_reply };

const struct grpc_method ctd_snapshots_methods[] = {
	{ .name = "Prepare", .number = MSG_snapshot_make, .translator = &on_prepare, .changes = true },
	{ .name = "View", .number = MSG_snapshot_make, .translator = &on_view, .changes = true },
	{ .name = "Mounts", .number = MSG_snapshot_show, .translator = &on_mounts, .about = &snapshots },
	{ .name = "Commit", .number = MSG_snapshot_seal, .translator = &on_commit, .changes = true },
	{ .name = "Remove", CTD_OBJECT_DELETE(snapshots) },
	{ .name = "Stat", CTD_OBJECT_GET(snapshots) },
	{ .name = "Update", CTD_OBJECT_UPDATE(snapshots) },
	{ .name = "List", CTD_OBJECT_STREAM(snapshots) },
	{ .name = "Usage", .number = MSG_snapshot_count, .translator = &on_usage, .about = &snapshots },
	{ .name = "Cleanup", .answer = cleanup, .access = ACCESS_FULL, .changes = true },
	{ 0 },
};
