/*
 * containerd.v1.Diff. That age took a layer for what its bytes are, and made
 * none that is compressed: a client that names no type means a plain archive.
 */
#include "workers/api/containerd_seed/ctd_seed.h"

#include "containerd_seed/diff.pb-c.h"

#define S(name) Containerd__Seed__##name
#define S_INIT(name) CONTAINERD__SEED__##name##__INIT
#define PLAIN ((char *)"application/vnd.oci.image.layer.v1.tar")

static char *type_or_plain(char *media_type) {
	return *media_type ? media_type : PLAIN;
}

static int apply(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		 struct fault *fault) {
	const S(ApplyRequest) *q = (const S(ApplyRequest) *)request;
	Bulkhead__DiffApplyRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__DiffApplyRequest, BULKHEAD__DIFF_APPLY_REQUEST__INIT);
	if (!i || !(i->mounts = ctd_seed_mounts(t, q->mounts, q->n_mounts)) ||
	    (q->diff && !(i->diff = ctd_seed_descriptor(t, q->diff))))
		return grpc_no_memory(fault);
	i->n_mounts = q->n_mounts;
	i->namespace_ = ctd_namespace(t);
	if (i->diff)
		i->diff->media_type = type_or_plain(i->diff->media_type);
	*ret_internal = &i->base;
	return 0;
}

static int diff(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const S(DiffRequest) *q = (const S(DiffRequest) *)request;
	Bulkhead__DiffMakeRequest *i = ctd_diff_make(t, type_or_plain(q->media_type), fault);
	if (!i)
		return -EINVAL;
	if (!(i->left = ctd_seed_mounts(t, q->left, q->n_left)) ||
	    !(i->right = ctd_seed_mounts(t, q->right, q->n_right)))
		return grpc_no_memory(fault);
	i->n_left = q->n_left;
	i->n_right = q->n_right;
	*ret_internal = &i->base;
	return 0;
}

CTD_REPLY_DESCRIPTOR(apply_reply, S(ApplyResponse), applied, ctd_seed_descriptor_back)
CTD_REPLY_DESCRIPTOR(diff_reply, S(DiffResponse), diff, ctd_seed_descriptor_back)

static const struct grpc_translator on_apply = { apply, apply_reply }, on_diff = { diff, diff_reply };

const struct grpc_method ctd_seed_diff_methods[] = {
	{ .name = "Apply", .number = MSG_diff_apply, .translator = &on_apply, .changes = true },
	{ .name = "Diff", .number = MSG_diff_make, .translator = &on_diff, .changes = true },
	{ 0 },
};
