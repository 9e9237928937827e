/*
 * containerd.services.sandbox.v1.Store. Its messages are the same in the API's
 * first form, so both ages are served.
 */
#include "workers/api/containerd/sandbox.h"

#include "workers/api/containerd/oci_json.h"

#define S(name) Containerd__Services__Sandbox__V1__##name
#define S_INIT(name) CONTAINERD__SERVICES__SANDBOX__V1__##name##__INIT
#define T(name) Containerd__Types__##name
#define T_INIT(name) CONTAINERD__TYPES__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_SANDBOX

/* --- from the client -------------------------------------------------------- */

static Bulkhead__Runtime *runtime(struct grpc_translation *t, const T(Sandbox__Runtime) * from) {
	Bulkhead__Runtime *to = from ? ARENA_NEW(t->arena, Bulkhead__Runtime, BULKHEAD__RUNTIME__INIT) : NULL;
	if (to) {
		to->name = from->name;
		to->options = ctd_typed(t, from->options);
	}
	return to;
}

static int extensions(struct grpc_translation *t, const T(Sandbox) * s, Bulkhead__SandboxBody *b) {
	b->extensions = arena_alloc(t->arena, (s->n_extensions + 1) * sizeof(*b->extensions));
	if (!b->extensions)
		return -1;
	for (; b->n_extensions < s->n_extensions; b->n_extensions++) {
		const T(Sandbox__ExtensionsEntry) *from = s->extensions[b->n_extensions];
		Bulkhead__SandboxBody__ExtensionsEntry *to = ARENA_NEW(t->arena, Bulkhead__SandboxBody__ExtensionsEntry,
								       BULKHEAD__SANDBOX_BODY__EXTENSIONS_ENTRY__INIT);
		if (!to)
			return -1;
		to->key = from->key;
		to->value = ctd_typed(t, from->value);
		b->extensions[b->n_extensions] = to;
	}
	return 0;
}

/* It may be anything: what isn't an OCI specification is kept and means nothing. */
static void spec(struct grpc_translation *t, const Google__Protobuf__Any *any, Bulkhead__SandboxBody *b) {
	struct fault fault;
	b->spec = ctd_typed(t, any);
	if (any && oci_json_spec(t->arena, any->value.data, any->value.len, &b->parsed, &fault) < 0)
		b->parsed = NULL;
}

Bulkhead__Object *ctd_sandbox_object(struct grpc_translation *t, const T(Sandbox) * s) {
	Bulkhead__Object *o = ctd_object(t, KIND, s ? s->sandbox_id : "");
	Bulkhead__SandboxBody *b = ARENA_NEW(t->arena, Bulkhead__SandboxBody, BULKHEAD__SANDBOX_BODY__INIT);
	if (!o || !b)
		return NULL;
	o->body_case = BULKHEAD__OBJECT__BODY_SANDBOX;
	o->sandbox = b;
	if (!s)
		return o;
	o->labels = (void *)s->labels;
	o->n_labels = s->n_labels;
	b->runtime = runtime(t, s->runtime);
	b->sandboxer = s->sandboxer;
	spec(t, s->spec, b);
	return extensions(t, s, b) < 0 ? NULL : o;
}

/* --- to the client ---------------------------------------------------------- */

static int extensions_back(struct grpc_translation *t, const Bulkhead__SandboxBody *b, T(Sandbox) * s) {
	s->extensions = arena_alloc(t->arena, (b->n_extensions + 1) * sizeof(*s->extensions));
	if (!s->extensions)
		return -1;
	for (; s->n_extensions < b->n_extensions; s->n_extensions++) {
		const Bulkhead__SandboxBody__ExtensionsEntry *from = b->extensions[s->n_extensions];
		T(Sandbox__ExtensionsEntry) *to =
		    ARENA_NEW(t->arena, T(Sandbox__ExtensionsEntry), T_INIT(SANDBOX__EXTENSIONS_ENTRY));
		if (!to)
			return -1;
		to->key = from->key;
		to->value = ctd_any(t, from->value);
		s->extensions[s->n_extensions] = to;
	}
	return 0;
}

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	if (o->body_case != BULKHEAD__OBJECT__BODY_SANDBOX)
		return NULL;
	const Bulkhead__SandboxBody *b = o->sandbox;
	T(Sandbox) *s = ARENA_NEW(t->arena, T(Sandbox), T_INIT(SANDBOX));
	if (!s || !(s->runtime = ARENA_NEW(t->arena, T(Sandbox__Runtime), T_INIT(SANDBOX__RUNTIME))))
		return NULL;
	s->sandbox_id = o->id->key;
	s->labels = (void *)o->labels;
	s->n_labels = o->n_labels;
	s->created_at = ctd_time(t, o->created_at);
	s->updated_at = ctd_time(t, o->updated_at);
	if (b->runtime) {
		s->runtime->name = b->runtime->name;
		s->runtime->options = ctd_any(t, b->runtime->options);
	}
	s->spec = ctd_any(t, b->spec);
	s->sandboxer = b->sandboxer;
	return extensions_back(t, b, s) < 0 ? NULL : s;
}

/* --- the calls -------------------------------------------------------------- */

CTD_REPLY_ONE(get_reply, S(StoreGetResponse), S_INIT(STORE_GET_RESPONSE), sandbox, make)
CTD_REPLY_ONE(create_reply, S(StoreCreateResponse), S_INIT(STORE_CREATE_RESPONSE), sandbox, make)
CTD_REPLY_ONE(update_reply, S(StoreUpdateResponse), S_INIT(STORE_UPDATE_RESPONSE), sandbox, make)

static int get(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
	       struct fault *fault) {
	return ctd_get(t, KIND, ((const S(StoreGetRequest) *)request)->sandbox_id, ret_internal, fault);
}

static int list(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const S(StoreListRequest) *q = (const S(StoreListRequest) *)request;
	return ctd_list(t, KIND, q->filters, q->n_filters, ret_internal, fault);
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		      struct fault *fault) {
	S(StoreListResponse) *a = ARENA_NEW(t->arena, S(StoreListResponse), S_INIT(STORE_LIST_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	*ret_reply = &a->base;
	return ctd_wanted(t, internal, make, (void ***)&a->list, &a->n_list, fault);
}

static int create(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	Bulkhead__Object *o = ctd_sandbox_object(t, ((const S(StoreCreateRequest) *)request)->sandbox);
	if (!o)
		return grpc_no_memory(fault);
	*ret_internal = &o->base;
	return 0;
}

static int update(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const S(StoreUpdateRequest) *q = (const S(StoreUpdateRequest) *)request;
	Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
	mask.paths = q->fields;
	mask.n_paths = q->n_fields;
	return ctd_update(t, ctd_sandbox_object(t, q->sandbox), &mask, ret_internal, fault);
}

static int drop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return ctd_delete(t, KIND, ((const S(StoreDeleteRequest) *)request)->sandbox_id, false, "", ret_internal,
			  fault);
}

static int drop_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		      struct fault *fault) {
	S(StoreDeleteResponse) *a = ARENA_NEW(t->arena, S(StoreDeleteResponse), S_INIT(STORE_DELETE_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	*ret_reply = &a->base;
	return 0;
}

static const struct grpc_translator on_get = { get, get_reply }, on_list = { list, list_reply },
				    on_create = { create, create_reply }, on_update = { update, update_reply },
				    on_delete = { drop, drop_reply };

const struct grpc_method ctd_sandbox_store_methods[] = {
	{ .name = "Create", .number = MSG_object_create, .translator = &on_create, .changes = true },
	{ .name = "Update", .number = MSG_object_update, .translator = &on_update, .changes = true },
	{ .name = "Delete", .number = MSG_object_delete, .translator = &on_delete, .changes = true },
	{ .name = "List", .number = MSG_object_list, .translator = &on_list },
	{ .name = "Get", .number = MSG_object_get, .translator = &on_get },
	{ 0 },
};
