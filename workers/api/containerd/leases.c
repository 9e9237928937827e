/* containerd.services.leases.v1.Leases */
#include "workers/api/containerd/objects.h"

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

static int resources_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			   struct fault *fault) {
	const Bulkhead__Object *o = ctd_object_of(t, internal, fault);
	if (!o)
		return -EBADMSG;
	const Bulkhead__LeaseBody *b = o->lease;
	L(ListResourcesResponse) *a = (L(ListResourcesResponse) *)*reply;
	if (!(a->resources = arena_alloc(t->arena, (b->n_resources + 1) * sizeof(*a->resources))))
		return grpc_no_memory(fault);
	for (size_t i = 0; i < b->n_resources; i++) {
		L(Resource) *one = ARENA_NEW(t->arena, L(Resource), L_INIT(RESOURCE));
		if (!one)
			return grpc_no_memory(fault);
		one->id = b->resources[i]->id;
		one->type = b->resources[i]->type;
		a->resources[a->n_resources++] = one;
	}
	return 0;
}

static const struct grpc_translator on_create = { create, ctd_object_reply }, on_add = { .request = add },
				    on_take = { .request = take }, on_resources = { ctd_key_request, resources_reply };
static const struct ctd_objects leases = { .kind = KIND, .key = "id", .make = make };

const struct grpc_method ctd_leases_methods[] = {
	{ .name = "Create", .number = MSG_object_create, .translator = &on_create, .about = &leases, .changes = true },
	{ .name = "Delete", CTD_OBJECT_DELETE(leases) },
	{ .name = "List", CTD_OBJECT_LIST(leases) },
	{ .name = "AddResource", .number = MSG_lease_change, .translator = &on_add, .changes = true },
	{ .name = "DeleteResource", .number = MSG_lease_change, .translator = &on_take, .changes = true },
	{ .name = "ListResources", .number = MSG_object_get, .translator = &on_resources, .about = &leases },
	{ 0 },
};
