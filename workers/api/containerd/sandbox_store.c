/*
 * containerd.services.sandbox.v1.Store. Its messages are the same in the API's
 * first form, so both ages are served.
 */
#include "workers/api/containerd/objects.h"
#include "workers/api/containerd/sandbox.h"

#include "workers/api/containerd/oci_json.h"

#define S(name) Containerd__Services__Sandbox__V1__##name
#define S_INIT(name) CONTAINERD__SERVICES__SANDBOX__V1__##name##__INIT
#define T(name) Containerd__Types__##name
#define T_INIT(name) CONTAINERD__TYPES__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_SANDBOX

/* --- from the client -------------------------------------------------------- */

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
	if (s->runtime)
		b->runtime = ctd_runtime(t, s->runtime->name, s->runtime->options);
	b->sandboxer = s->sandboxer;
	spec(t, s->spec, b);
	b->extensions = (void *)s->extensions;
	b->n_extensions = s->n_extensions;
	return o;
}

static Bulkhead__Object *object(struct grpc_translation *t, const void *from) {
	return ctd_sandbox_object(t, from);
}

/* --- to the client ---------------------------------------------------------- */

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
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
	s->extensions = (void *)b->extensions;
	s->n_extensions = b->n_extensions;
	return s;
}

/* --- the calls -------------------------------------------------------------- */

static const struct ctd_objects sandboxes = { .kind = KIND, .key = "sandbox_id", .make = make, .object = object };

const struct grpc_method ctd_sandbox_store_methods[] = {
	{ .name = "Create", CTD_OBJECT_CREATE(sandboxes) }, { .name = "Update", CTD_OBJECT_UPDATE(sandboxes) },
	{ .name = "Delete", CTD_OBJECT_DELETE(sandboxes) }, { .name = "List", CTD_OBJECT_LIST(sandboxes) },
	{ .name = "Get", CTD_OBJECT_GET(sandboxes) },	    { 0 },
};
