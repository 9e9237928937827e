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

static Bulkhead__Object *object(struct grpc_translation *t, const void *from) {
	const S(Container) *c = from;
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
	return (b->runtime = ctd_runtime(t, c->runtime, NULL)) && ctd_spec(t, c->spec, b) == 0 ? o : NULL;
}

/* --- to the client ---------------------------------------------------------- */

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	const Bulkhead__ContainerBody *b = o->container;
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
	return r < 0 ? r : ctd_update(t, object(t, q->container), mask.paths, mask.n_paths, ret_internal, fault);
}

/* The filter's syntax was never defined: today's serves. */
static const struct ctd_objects containers = { .kind = KIND, .key = "id", .make = make, .object = object };
static const struct grpc_translator on_update = { update, ctd_object_reply };

const struct grpc_method ctd_seed_containers_methods[] = {
	{ .name = "Get", CTD_OBJECT_GET(containers) },
	{ .name = "List", CTD_OBJECT_LIST(containers) },
	{ .name = "Create", CTD_OBJECT_CREATE(containers) },
	{ .name = "Update",
	  .number = MSG_object_update,
	  .translator = &on_update,
	  .about = &containers,
	  .changes = true },
	{ .name = "Delete", CTD_OBJECT_DELETE(containers) },
	{ 0 },
};
