/* containerd.services.diff.v1.Diff */
#include "workers/api/containerd/containerd.h"

#include "containerd/diff.pb-c.h"

#include <string.h>

#define D(name) Containerd__Services__Diff__V1__##name
#define D_INIT(name) CONTAINERD__SERVICES__DIFF__V1__##name##__INIT
#define COMPRESSION(name) BULKHEAD__COMPRESSION__COMPRESSION_##name

static int apply(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		 struct fault *fault) {
	const D(ApplyRequest) *q = (const D(ApplyRequest) *)request;
	if (q->n_payloads)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "apply: there are no processors of streams");
	Bulkhead__DiffApplyRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__DiffApplyRequest, BULKHEAD__DIFF_APPLY_REQUEST__INIT);
	if (!i || !(i->mounts = ctd_mounts(t, q->mounts, q->n_mounts)) ||
	    (q->diff && !(i->diff = ctd_descriptor(t, q->diff))))
		return grpc_no_memory(fault);
	i->n_mounts = q->n_mounts;
	i->namespace_ = ctd_namespace(t);
	i->sync = q->sync_fs;
	*ret_internal = &i->base;
	return 0;
}

CTD_REPLY_DESCRIPTOR(apply_reply, D(ApplyResponse), applied, ctd_descriptor_back)
CTD_REPLY_DESCRIPTOR(diff_reply, D(DiffResponse), diff, ctd_descriptor_back)

static const struct layer_type {
	const char *name;
	Bulkhead__Compression compression;
} types[] = {
	{ "application/vnd.oci.image.layer.v1.tar+gzip", COMPRESSION(GZIP) }, /* where none is asked for */
	{ "application/vnd.oci.image.layer.v1.tar", COMPRESSION(NONE) },
	{ "application/vnd.oci.image.layer.v1.tar+zstd", COMPRESSION(ZSTD) },
	{ "application/vnd.docker.image.rootfs.diff.tar.gzip", COMPRESSION(GZIP) },
	{ "application/vnd.docker.image.rootfs.diff.tar", COMPRESSION(NONE) },
	{ "application/vnd.docker.image.rootfs.diff.tar.zstd", COMPRESSION(ZSTD) },
};

static const struct layer_type *type_find(const char *name) {
	if (!*name)
		return &types[0];
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (strcmp(types[i].name, name) == 0)
			return &types[i];
	return NULL;
}

Bulkhead__DiffMakeRequest *ctd_diff_make(struct grpc_translation *t, const char *media_type, struct fault *fault) {
	const struct layer_type *type = type_find(media_type);
	if (!type) {
		fault_set(fault, FAULT_UNIMPLEMENTED, "unsupported diff media type: %.100s", media_type);
		return NULL;
	}
	Bulkhead__DiffMakeRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__DiffMakeRequest, BULKHEAD__DIFF_MAKE_REQUEST__INIT);
	if (!i) {
		grpc_no_memory(fault);
		return NULL;
	}
	i->namespace_ = ctd_namespace(t);
	i->media_type = (char *)(uintptr_t)type->name;
	i->compression = type->compression;
	i->held_by = ctd_lease(t);
	return i;
}

static int diff(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const D(DiffRequest) *q = (const D(DiffRequest) *)request;
	Bulkhead__DiffMakeRequest *i = ctd_diff_make(t, q->media_type, fault);
	if (!i)
		return -EINVAL;
	if (!(i->left = ctd_mounts(t, q->left, q->n_left)) || !(i->right = ctd_mounts(t, q->right, q->n_right)))
		return grpc_no_memory(fault);
	i->n_left = q->n_left;
	i->n_right = q->n_right;
	i->labels = (void *)q->labels;
	i->n_labels = q->n_labels;
	i->latest = q->source_date_epoch ? q->source_date_epoch->seconds : 0;
	*ret_internal = &i->base;
	return 0;
}

static const struct grpc_translator on_apply = { apply, apply_reply }, on_diff = { diff, diff_reply };

const struct grpc_method ctd_diff_methods[] = {
	{ .name = "Apply", .number = MSG_diff_apply, .translator = &on_apply, .changes = true },
	{ .name = "Diff", .number = MSG_diff_make, .translator = &on_diff, .changes = true },
	{ 0 },
};
