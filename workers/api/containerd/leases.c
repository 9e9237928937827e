/* containerd.services.leases.v1.Leases */
#include "workers/api/containerd/containerd.h"

#include "base/id.h"
#include "containerd/leases.pb-c.h"

#include <string.h>

#define L(name) Containerd__Services__Leases__V1__##name
#define L_INIT(name) CONTAINERD__SERVICES__LEASES__V1__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_LEASE

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	L(Lease) *l = ARENA_NEW(t->arena, L(Lease), L_INIT(LEASE));
	if (l) {
		l->id = o->id->key;
		l->created_at = ctd_time(t, o->created_at);
		l->labels = (void *)o->labels;
		l->n_labels = o->n_labels;
	}
	return l;
}

static int create(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const L(CreateRequest) *q = (const L(CreateRequest) *)request;
	char id[ID_SIZE];
	id_random(id);
	const char *key = *q->id ? q->id : arena_strdup(t->arena, id);
	Bulkhead__Object *o = key ? ctd_object(t, KIND, key) : NULL;
	if (!o || !(o->lease = ARENA_NEW(t->arena, Bulkhead__LeaseBody, BULKHEAD__LEASE_BODY__INIT)))
		return grpc_no_memory(fault);
	o->body_case = BULKHEAD__OBJECT__BODY_LEASE;
	o->labels = (void *)q->labels;
	o->n_labels = q->n_labels;
	*ret_internal = &o->base;
	return 0;
}

CTD_REPLY_ONE(create_reply, L(CreateResponse), L_INIT(CREATE_RESPONSE), lease, make)

static int drop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const L(DeleteRequest) *q = (const L(DeleteRequest) *)request;
	return ctd_delete(t, KIND, q->id, q->sync, "", ret_internal, fault);
}

static int list(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const L(ListRequest) *q = (const L(ListRequest) *)request;
	return ctd_list(t, KIND, q->filters, q->n_filters, ret_internal, fault);
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		      struct fault *fault) {
	L(ListResponse) *a = ARENA_NEW(t->arena, L(ListResponse), L_INIT(LIST_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	*ret_reply = &a->base;
	return ctd_wanted(t, internal, make, (void ***)&a->leases, &a->n_leases, fault);
}

/* --- resources -------------------------------------------------------------- */

static int change(struct grpc_translation *t, const char *lease, const L(Resource) * resource, bool remove,
		  ProtobufCMessage **ret_internal, struct fault *fault) {
	Bulkhead__LeaseChangeRequest *q =
	    ARENA_NEW(t->arena, Bulkhead__LeaseChangeRequest, BULKHEAD__LEASE_CHANGE_REQUEST__INIT);
	if (!q || !(q->resource = ARENA_NEW(t->arena, Bulkhead__LeaseResource, BULKHEAD__LEASE_RESOURCE__INIT)))
		return grpc_no_memory(fault);
	q->namespace_ = ctd_namespace(t);
	q->lease = (char *)(uintptr_t)lease;
	q->remove = remove;
	if (resource) {
		q->resource->id = resource->id;
		q->resource->type = resource->type;
	}
	*ret_internal = &q->base;
	return 0;
}

static int add(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
	       struct fault *fault) {
	const L(AddResourceRequest) *q = (const L(AddResourceRequest) *)request;
	return change(t, q->id, q->resource, false, ret_internal, fault);
}

static int take(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const L(DeleteResourceRequest) *q = (const L(DeleteResourceRequest) *)request;
	return change(t, q->id, q->resource, true, ret_internal, fault);
}

static int resources(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		     struct fault *fault) {
	return ctd_get(t, KIND, ((const L(ListResourcesRequest) *)request)->id, ret_internal, fault);
}

static int resources_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
			   struct fault *fault) {
	const Bulkhead__Object *o = (const Bulkhead__Object *)internal;
	if (o->body_case != BULKHEAD__OBJECT__BODY_LEASE)
		return fault_set(fault, FAULT_INTERNAL, "the metadata worker has sent no lease");
	const Bulkhead__LeaseBody *b = o->lease;
	L(ListResourcesResponse) *a = ARENA_NEW(t->arena, L(ListResourcesResponse), L_INIT(LIST_RESOURCES_RESPONSE));
	if (!a || !(a->resources = arena_alloc(t->arena, (b->n_resources + 1) * sizeof(*a->resources))))
		return grpc_no_memory(fault);
	for (size_t i = 0; i < b->n_resources; i++) {
		L(Resource) *one = ARENA_NEW(t->arena, L(Resource), L_INIT(RESOURCE));
		if (!one)
			return grpc_no_memory(fault);
		one->id = b->resources[i]->id;
		one->type = b->resources[i]->type;
		a->resources[a->n_resources++] = one;
	}
	*ret_reply = &a->base;
	return 0;
}

static const struct grpc_translator on_create = { create, create_reply }, on_delete = { drop, ctd_empty },
				    on_list = { list, list_reply }, on_add = { add, ctd_empty },
				    on_take = { take, ctd_empty }, on_resources = { resources, resources_reply };

const struct grpc_method ctd_leases_methods[] = {
	{ .name = "Create", .number = MSG_object_create, .translator = &on_create, .changes = true },
	{ .name = "Delete", .number = MSG_object_delete, .translator = &on_delete, .changes = true },
	{ .name = "List", .number = MSG_object_list, .translator = &on_list },
	{ .name = "AddResource", .number = MSG_lease_change, .translator = &on_add, .changes = true },
	{ .name = "DeleteResource", .number = MSG_lease_change, .translator = &on_take, .changes = true },
	{ .name = "ListResources", .number = MSG_object_get, .translator = &on_resources },
	{ 0 },
};
