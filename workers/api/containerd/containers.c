/*
 * containerd.services.containers.v1.Containers. The specification is kept as
 * the client sent it; what it says is parsed here, once, for whoever will run
 * it. One that can't be parsed is kept all the same: only running it fails.
 */
#include "workers/api/containerd/objects.h"

#include "base/json.h"
#include "containerd/containers.pb-c.h"
#include "msg/message_json.h"
#include "workers/api/containerd/oci_json.h"

#include <string.h>

#define C(name) Containerd__Services__Containers__V1__##name
#define C_INIT(name) CONTAINERD__SERVICES__CONTAINERS__V1__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_CONTAINER

/* --- from the client -------------------------------------------------------- */

int ctd_spec(struct grpc_translation *t, const Google__Protobuf__Any *any, Bulkhead__ContainerBody *b) {
	struct fault fault;
	if (!any)
		return 0;
	b->spec = ctd_typed(t, any);
	if (oci_json_spec(t->arena, any->value.data, any->value.len, &b->parsed, &fault) < 0)
		b->spec_fault = arena_strdup(t->arena, fault.text);
	return b->spec && b->spec_fault ? 0 : -1;
}

static Bulkhead__Object *object(struct grpc_translation *t, const void *from) {
	const C(Container) *c = from;
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
	if (c->runtime)
		b->runtime = ctd_runtime(t, c->runtime->name, c->runtime->options);
	b->snapshotter = c->snapshotter;
	b->snapshot_key = c->snapshot_key;
	b->sandbox = c->sandbox;
	b->extensions = (void *)c->extensions;
	b->n_extensions = c->n_extensions;
	return ctd_spec(t, c->spec, b) < 0 ? NULL : o;
}

/* --- to the client ---------------------------------------------------------- */

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
	C(Container) *c = ARENA_NEW(t->arena, C(Container), C_INIT(CONTAINER));
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
	c->extensions = (void *)b->extensions;
	c->n_extensions = b->n_extensions;
	return c;
}

/* --- the calls -------------------------------------------------------------- */

static const struct ctd_objects containers = { .kind = KIND, .key = "id", .make = make, .object = object };

const struct grpc_method ctd_containers_methods[] = {
	{ .name = "Get", CTD_OBJECT_GET(containers) },
	{ .name = "List", CTD_OBJECT_LIST(containers) },
	{ .name = "ListStream", CTD_OBJECT_STREAM(containers) },
	{ .name = "Create", CTD_OBJECT_CREATE(containers) },
	{ .name = "Update", CTD_OBJECT_UPDATE(containers) },
	{ .name = "Delete", CTD_OBJECT_DELETE(containers) },
	{ 0 },
};
