/* containerd.services.namespaces.v1.Namespaces */
#include "workers/api/containerd/containerd.h"

#include "containerd/namespaces.pb-c.h"

#define N(name) Containerd__Services__Namespaces__V1__##name
#define N_INIT(name) CONTAINERD__SERVICES__NAMESPACES__V1__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_NAMESPACE

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	N(Namespace) *n = ARENA_NEW(t->arena, N(Namespace), N_INIT(NAMESPACE));
	if (n) {
		n->name = o->id->key;
		n->labels = (void *)o->labels;
		n->n_labels = o->n_labels;
	}
	return n;
}

static Bulkhead__Object *object(struct grpc_translation *t, const N(Namespace) * n) {
	Bulkhead__Object *o = ctd_object(t, KIND, n ? n->name : "");
	if (o && n) {
		o->labels = (void *)n->labels;
		o->n_labels = n->n_labels;
	}
	return o;
}

CTD_REPLY_ONE(get_reply, N(GetNamespaceResponse), N_INIT(GET_NAMESPACE_RESPONSE), namespace_, make)
CTD_REPLY_ONE(create_reply, N(CreateNamespaceResponse), N_INIT(CREATE_NAMESPACE_RESPONSE), namespace_, make)
CTD_REPLY_ONE(update_reply, N(UpdateNamespaceResponse), N_INIT(UPDATE_NAMESPACE_RESPONSE), namespace_, make)

static int get(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
	       struct fault *fault) {
	return ctd_get(t, KIND, ((const N(GetNamespaceRequest) *)request)->name, ret_internal, fault);
}

static int list(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const N(ListNamespacesRequest) *q = (const N(ListNamespacesRequest) *)request;
	return ctd_list(t, KIND, &q->filter, *q->filter ? 1 : 0, ret_internal, fault);
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		      struct fault *fault) {
	N(ListNamespacesResponse) *a = ARENA_NEW(t->arena, N(ListNamespacesResponse), N_INIT(LIST_NAMESPACES_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	*ret_reply = &a->base;
	return ctd_wanted(t, internal, make, (void ***)&a->namespaces, &a->n_namespaces, fault);
}

static int create(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	Bulkhead__Object *o = object(t, ((const N(CreateNamespaceRequest) *)request)->namespace_);
	if (!o)
		return grpc_no_memory(fault);
	*ret_internal = &o->base;
	return 0;
}

static int update(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const N(UpdateNamespaceRequest) *q = (const N(UpdateNamespaceRequest) *)request;
	return ctd_update(t, object(t, q->namespace_), q->update_mask, ret_internal, fault);
}

static int drop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return ctd_delete(t, KIND, ((const N(DeleteNamespaceRequest) *)request)->name, false, "", ret_internal, fault);
}

static const struct grpc_translator on_get = { get, get_reply }, on_list = { list, list_reply },
				    on_create = { create, create_reply }, on_update = { update, update_reply },
				    on_delete = { drop, ctd_empty };

const struct grpc_method ctd_namespaces_methods[] = {
	{ .name = "Get", .number = MSG_object_get, .translator = &on_get },
	{ .name = "List", .number = MSG_object_list, .translator = &on_list },
	{ .name = "Create", .number = MSG_object_create, .translator = &on_create, .changes = true },
	{ .name = "Update", .number = MSG_object_update, .translator = &on_update, .changes = true },
	{ .name = "Delete", .number = MSG_object_delete, .translator = &on_delete, .changes = true },
	{ 0 },
};
