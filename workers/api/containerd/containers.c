/*
 * containerd.services.containers.v1.Containers. The specification is kept as
 * the client sent it; what it says is parsed here, once, for whoever will run
 * it. One that can't be parsed is kept all the same: only running it fails.
 */
#include "workers/api/containerd/containerd.h"

#include "base/json.h"
#include "containerd/containers.pb-c.h"
#include "msg/message_json.h"
#include "workers/api/containerd/oci_json.h"

#include <string.h>

#define C(name) Containerd__Services__Containers__V1__##name
#define C_INIT(name) CONTAINERD__SERVICES__CONTAINERS__V1__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_CONTAINER

/* --- from the client -------------------------------------------------------- */

static Bulkhead__Runtime *runtime(struct grpc_translation *t, const C(Container__Runtime) * from) {
	Bulkhead__Runtime *to = from ? ARENA_NEW(t->arena, Bulkhead__Runtime, BULKHEAD__RUNTIME__INIT) : NULL;
	if (to) {
		to->name = from->name;
		to->options = ctd_typed(t, from->options);
	}
	return to;
}

static int extensions(struct grpc_translation *t, const C(Container) * c, Bulkhead__ContainerBody *b) {
	b->extensions = arena_alloc(t->arena, (c->n_extensions + 1) * sizeof(*b->extensions));
	if (!b->extensions)
		return -1;
	for (; b->n_extensions < c->n_extensions; b->n_extensions++) {
		const C(Container__ExtensionsEntry) *from = c->extensions[b->n_extensions];
		Bulkhead__ContainerBody__ExtensionsEntry *to =
		    ARENA_NEW(t->arena, Bulkhead__ContainerBody__ExtensionsEntry,
			      BULKHEAD__CONTAINER_BODY__EXTENSIONS_ENTRY__INIT);
		if (!to)
			return -1;
		to->key = from->key;
		to->value = ctd_typed(t, from->value);
		b->extensions[b->n_extensions] = to;
	}
	return 0;
}

int ctd_spec(struct grpc_translation *t, const Google__Protobuf__Any *any, Bulkhead__ContainerBody *b) {
	struct fault fault;
	if (!any)
		return 0;
	b->spec = ctd_typed(t, any);
	if (oci_json_spec(t->arena, any->value.data, any->value.len, &b->parsed, &fault) < 0)
		b->spec_fault = arena_strdup(t->arena, fault.text);
	return b->spec && b->spec_fault ? 0 : -1;
}

static Bulkhead__Object *object(struct grpc_translation *t, const C(Container) * c) {
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
	b->runtime = runtime(t, c->runtime);
	b->snapshotter = c->snapshotter;
	b->snapshot_key = c->snapshot_key;
	b->sandbox = c->sandbox;
	return ctd_spec(t, c->spec, b) < 0 || extensions(t, c, b) < 0 ? NULL : o;
}

/* --- to the client ---------------------------------------------------------- */

static int extensions_back(struct grpc_translation *t, const Bulkhead__ContainerBody *b, C(Container) * c) {
	c->extensions = arena_alloc(t->arena, (b->n_extensions + 1) * sizeof(*c->extensions));
	if (!c->extensions)
		return -1;
	for (; c->n_extensions < b->n_extensions; c->n_extensions++) {
		const Bulkhead__ContainerBody__ExtensionsEntry *from = b->extensions[c->n_extensions];
		C(Container__ExtensionsEntry) *to =
		    ARENA_NEW(t->arena, C(Container__ExtensionsEntry), C_INIT(CONTAINER__EXTENSIONS_ENTRY));
		if (!to)
			return -1;
		to->key = from->key;
		to->value = ctd_any(t, from->value);
		c->extensions[c->n_extensions] = to;
	}
	return 0;
}

/* What the CRI has made has no specification that a client sent: it is written
 * down for this one. */
static Google__Protobuf__Any *spec_written(struct grpc_translation *t, const Grpc__Spec *spec) {
	struct json j = { 0 };
	Google__Protobuf__Any *any = ARENA_NEW(t->arena, Google__Protobuf__Any, GOOGLE__PROTOBUF__ANY__INIT);
	message_json(&j, NULL, &spec->base, MESSAGE_OCI);
	CLEANUP_FREE char *text = buffer_take_text(&j.text);
	if (!any || !text || !(any->value.data = (uint8_t *)arena_strdup(t->arena, text)))
		return NULL;
	any->type_url = (char *)"types.containerd.io/opencontainers/runtime-spec/1/Spec";
	any->value.len = strlen(text);
	return any;
}

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	const Bulkhead__ContainerBody *b = o->container;
	C(Container) *c = o->body_case == BULKHEAD__OBJECT__BODY_CONTAINER
			      ? ARENA_NEW(t->arena, C(Container), C_INIT(CONTAINER))
			      : NULL;
	if (!c || !(c->runtime = ARENA_NEW(t->arena, C(Container__Runtime), C_INIT(CONTAINER__RUNTIME))))
		return NULL;
	c->id = o->id->key;
	c->labels = (void *)o->labels;
	c->n_labels = o->n_labels;
	c->created_at = ctd_time(t, o->created_at);
	c->updated_at = ctd_time(t, o->updated_at);
	c->image = b->image;
	c->runtime->name = b->runtime->name;
	c->runtime->options = ctd_any(t, b->runtime->options);
	c->spec = b->spec || !b->parsed ? ctd_any(t, b->spec) : spec_written(t, b->parsed);
	c->snapshotter = b->snapshotter;
	c->snapshot_key = b->snapshot_key;
	c->sandbox = b->sandbox;
	return extensions_back(t, b, c) < 0 ? NULL : c;
}

/* --- the calls -------------------------------------------------------------- */

CTD_REPLY_ONE(get_reply, C(GetContainerResponse), C_INIT(GET_CONTAINER_RESPONSE), container, make)
CTD_REPLY_ONE(create_reply, C(CreateContainerResponse), C_INIT(CREATE_CONTAINER_RESPONSE), container, make)
CTD_REPLY_ONE(update_reply, C(UpdateContainerResponse), C_INIT(UPDATE_CONTAINER_RESPONSE), container, make)

static int get(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
	       struct fault *fault) {
	return ctd_get(t, KIND, ((const C(GetContainerRequest) *)request)->id, ret_internal, fault);
}

static int list(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const C(ListContainersRequest) *q = (const C(ListContainersRequest) *)request;
	return ctd_list(t, KIND, q->filters, q->n_filters, ret_internal, fault);
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		      struct fault *fault) {
	C(ListContainersResponse) *a = ARENA_NEW(t->arena, C(ListContainersResponse), C_INIT(LIST_CONTAINERS_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	*ret_reply = &a->base;
	return ctd_wanted(t, internal, make, (void ***)&a->containers, &a->n_containers, fault);
}

static int stream_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
			struct fault *fault) {
	void *one;
	int r = ctd_next(t, internal, make, &one, fault);
	C(ListContainerMessage) *a = ARENA_NEW(t->arena, C(ListContainerMessage), C_INIT(LIST_CONTAINER_MESSAGE));
	if (r < 0 || !a)
		return r < 0 ? r : grpc_no_memory(fault);
	a->container = one;
	*ret_reply = one ? &a->base : NULL;
	return 0;
}

static int create(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	Bulkhead__Object *o = object(t, ((const C(CreateContainerRequest) *)request)->container);
	if (!o)
		return grpc_no_memory(fault);
	*ret_internal = &o->base;
	return 0;
}

static int update(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const C(UpdateContainerRequest) *q = (const C(UpdateContainerRequest) *)request;
	return ctd_update(t, object(t, q->container), q->update_mask, ret_internal, fault);
}

static int drop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return ctd_delete(t, KIND, ((const C(DeleteContainerRequest) *)request)->id, false, "", ret_internal, fault);
}

static const struct grpc_translator on_get = { get, get_reply }, on_list = { list, list_reply },
				    on_list_stream = { list, stream_reply }, on_create = { create, create_reply },
				    on_update = { update, update_reply }, on_delete = { drop, ctd_empty };

const struct grpc_method ctd_containers_methods[] = {
	{ .name = "Get", .number = MSG_object_get, .translator = &on_get },
	{ .name = "List", .number = MSG_object_list, .translator = &on_list },
	{ .name = "ListStream", .number = MSG_object_list, .translator = &on_list_stream, .list = true },
	{ .name = "Create", .number = MSG_object_create, .translator = &on_create, .changes = true },
	{ .name = "Update", .number = MSG_object_update, .translator = &on_update, .changes = true },
	{ .name = "Delete", .number = MSG_object_delete, .translator = &on_delete, .changes = true },
	{ 0 },
};
