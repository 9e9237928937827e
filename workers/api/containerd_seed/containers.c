/*
 * containerd.v1.Containers. The specification is kept as the client sent it and
 * parsed once, as that of today's containers is.
 */
#include "workers/api/containerd_seed/ctd_seed.h"

#include "containerd_seed/containers.pb-c.h"

#include <string.h>

#define S(name) Containerd__Seed__##name
#define S_INIT(name) CONTAINERD__SEED__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_CONTAINER

/* --- from the client -------------------------------------------------------- */

static Bulkhead__Runtime *runtime(struct grpc_translation *t, char *name) {
	Bulkhead__Runtime *to = ARENA_NEW(t->arena, Bulkhead__Runtime, BULKHEAD__RUNTIME__INIT);
	if (to)
		to->name = name;
	return to;
}

static Bulkhead__Object *object(struct grpc_translation *t, const S(Container) * c) {
	Bulkhead__Object *o = ctd_object(t, KIND, c ? c->id : "");
	Bulkhead__ContainerBody *b = ARENA_NEW(t->arena, Bulkhead__ContainerBody, BULKHEAD__CONTAINER_BODY__INIT);
	if (!o || !b)
		return NULL;
	o->body_case = BULKHEAD__OBJECT__BODY_CONTAINER;
	o->container = b;
	if (!c)
		return o;
	o->labels = (void *)c->labels;
	o->n_labels = c->n_labels;
	b->image = c->image;
	b->snapshot_key = c->rootfs;
	if (*c->rootfs)
		b->snapshotter = CTD_SEED_SNAPSHOTTER;
	return (b->runtime = runtime(t, c->runtime)) && ctd_spec(t, c->spec, b) == 0 ? o : NULL;
}

/* --- to the client ---------------------------------------------------------- */

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	const Bulkhead__ContainerBody *b = o->body_case == BULKHEAD__OBJECT__BODY_CONTAINER ? o->container : NULL;
	S(Container) *c = b ? ARENA_NEW(t->arena, S(Container), S_INIT(CONTAINER)) : NULL;
	if (!c)
		return NULL;
	c->id = o->id->key;
	c->labels = (void *)o->labels;
	c->n_labels = o->n_labels;
	c->image = b->image;
	c->runtime = b->runtime->name;
	c->spec = ctd_any(t, b->spec);
	c->rootfs = b->snapshot_key;
	return c;
}

/* --- the calls -------------------------------------------------------------- */

CTD_REPLY_ONE(get_reply, S(GetContainerResponse), S_INIT(GET_CONTAINER_RESPONSE), container, make)
CTD_REPLY_ONE(create_reply, S(CreateContainerResponse), S_INIT(CREATE_CONTAINER_RESPONSE), container, make)
CTD_REPLY_ONE(update_reply, S(UpdateContainerResponse), S_INIT(UPDATE_CONTAINER_RESPONSE), container, make)

static int get(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
	       struct fault *fault) {
	return ctd_get(t, KIND, ((const S(GetContainerRequest) *)request)->id, ret_internal, fault);
}

/* The filter's syntax was never defined: today's serves. */
static int list(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	char *const filter[] = { ((const S(ListContainersRequest) *)request)->filter };
	return ctd_list(t, KIND, filter, *filter[0] ? 1 : 0, ret_internal, fault);
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		      struct fault *fault) {
	S(ListContainersResponse) *a = ARENA_NEW(t->arena, S(ListContainersResponse), S_INIT(LIST_CONTAINERS_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	*ret_reply = &a->base;
	return ctd_wanted(t, internal, make, (void ***)&a->containers, &a->n_containers, fault);
}

static int create(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	Bulkhead__Object *o = object(t, ((const S(CreateContainerRequest) *)request)->container);
	if (!o)
		return grpc_no_memory(fault);
	*ret_internal = &o->base;
	return 0;
}

/* Fields as this age calls them; the runtime stays. */
static const struct {
	const char *seed;
	char *internal;
} paths[] = {
	{ "labels", (char *)"labels" },
	{ "image", (char *)"image" },
	{ "spec", (char *)"spec" },
	{ "rootfs", (char *)"snapshotkey" },
};

static char *path_of(const char *seed) {
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (strcmp(paths[i].seed, seed) == 0)
			return paths[i].internal;
	return NULL;
}

static int mask_of(struct grpc_translation *t, const char *id, const Google__Protobuf__FieldMask *from,
		   Google__Protobuf__FieldMask *ret_mask, struct fault *fault) {
	size_t n = from ? from->n_paths : 0;
	*ret_mask = (Google__Protobuf__FieldMask)GOOGLE__PROTOBUF__FIELD_MASK__INIT;
	if (!(ret_mask->paths = arena_alloc(t->arena, MAX(n, ARRAY_SIZE(paths)) * sizeof(char *))))
		return grpc_no_memory(fault);
	for (size_t i = 0; i < n; i++) {
		char *path = path_of(from->paths[i]);
		if (!path)
			return fault_set(fault, FAULT_INVALID_ARGUMENT,
					 "update container \"%.76s\": \"%.100s\" is no field that can be changed", id,
					 from->paths[i]);
		ret_mask->paths[ret_mask->n_paths++] = path;
	}
	for (size_t i = 0; n == 0 && i < ARRAY_SIZE(paths); i++)
		ret_mask->paths[ret_mask->n_paths++] = paths[i].internal;
	return 0;
}

static int update(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const S(UpdateContainerRequest) *q = (const S(UpdateContainerRequest) *)request;
	Google__Protobuf__FieldMask mask;
	int r = mask_of(t, q->container ? q->container->id : "", q->update_mask, &mask, fault);
	return r < 0 ? r : ctd_update(t, object(t, q->container), &mask, ret_internal, fault);
}

static int drop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return ctd_delete(t, KIND, ((const S(DeleteContainerRequest) *)request)->id, false, "", ret_internal, fault);
}

static const struct grpc_translator on_get = { get, get_reply }, on_list = { list, list_reply },
				    on_create = { create, create_reply }, on_update = { update, update_reply },
				    on_delete = { drop, ctd_empty };

const struct grpc_method ctd_seed_containers_methods[] = {
	{ .name = "Get", .number = MSG_object_get, .translator = &on_get },
	{ .name = "List", .number = MSG_object_list, .translator = &on_list },
	{ .name = "Create", .number = MSG_object_create, .translator = &on_create, .changes = true },
	{ .name = "Update", .number = MSG_object_update, .translator = &on_update, .changes = true },
	{ .name = "Delete", .number = MSG_object_delete, .translator = &on_delete, .changes = true },
	{ 0 },
};
