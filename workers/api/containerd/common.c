#include "workers/api/containerd/containerd.h"

#include "base/clock.h"
#include "google/protobuf/empty.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NAMESPACE_HEADER "containerd-namespace"
#define LEASE_HEADER "containerd-lease"

const char *const ctd_headers[] = { NAMESPACE_HEADER, LEASE_HEADER, NULL };

static char *header(const struct grpc_translation *t, const char *name) {
	const char *value = t->call ? grpc_header(t->call, name) : NULL;
	return (char *)(uintptr_t)(value ? value : "");
}

char *ctd_namespace(const struct grpc_translation *t) {
	const struct grpc_service *s = t->call ? grpc_call_service(t->call) : t->service;
	return s && s->group == GROUP_CONTAINERD_SEED ? (char *)"default" : header(t, NAMESPACE_HEADER);
}

char *ctd_lease(const struct grpc_translation *t) {
	return header(t, LEASE_HEADER);
}

/* --- to the internal form --------------------------------------------------- */

Bulkhead__ObjectKey *ctd_key(struct grpc_translation *t, Bulkhead__ObjectKind kind, const char *key) {
	Bulkhead__ObjectKey *k = ARENA_NEW(t->arena, Bulkhead__ObjectKey, BULKHEAD__OBJECT_KEY__INIT);
	if (!k)
		return NULL;
	k->kind = kind;
	if (kind != BULKHEAD__OBJECT_KIND__OBJECT_NAMESPACE)
		k->namespace_ = ctd_namespace(t);
	k->key = (char *)(uintptr_t)key;
	return k;
}

Bulkhead__Object *ctd_object(struct grpc_translation *t, Bulkhead__ObjectKind kind, const char *key) {
	Bulkhead__Object *o = ARENA_NEW(t->arena, Bulkhead__Object, BULKHEAD__OBJECT__INIT);
	if (!o || !(o->id = ctd_key(t, kind, key)))
		return NULL;
	o->held_by = ctd_lease(t);
	return o;
}

Bulkhead__Typed *ctd_typed(struct grpc_translation *t, const Google__Protobuf__Any *from) {
	Bulkhead__Typed *to = from ? ARENA_NEW(t->arena, Bulkhead__Typed, BULKHEAD__TYPED__INIT) : NULL;
	if (to) {
		to->type_url = from->type_url;
		to->value = from->value;
	}
	return to;
}

Bulkhead__Descriptor *ctd_descriptor(struct grpc_translation *t, const Containerd__Types__Descriptor *from) {
	Bulkhead__Descriptor *to = from ? ARENA_NEW(t->arena, Bulkhead__Descriptor, BULKHEAD__DESCRIPTOR__INIT) : NULL;
	if (to) {
		to->media_type = from->media_type;
		to->digest = from->digest;
		to->size = from->size > 0 ? (uint64_t)from->size : 0;
		to->annotations = (void *)from->annotations;
		to->n_annotations = from->n_annotations;
	}
	return to;
}

Grpc__Mount **ctd_mounts(struct grpc_translation *t, Containerd__Types__Mount *const *from, size_t n) {
	Grpc__Mount **to = arena_alloc(t->arena, (n + 1) * sizeof(*to));
	for (size_t i = 0; to && i < n; i++) {
		if (!(to[i] = ARENA_NEW(t->arena, Grpc__Mount, GRPC__MOUNT__INIT)))
			return NULL;
		to[i]->type = from[i]->type;
		to[i]->source = from[i]->source;
		to[i]->destination = from[i]->target; /* below the root */
		to[i]->options = from[i]->options;
		to[i]->n_options = from[i]->n_options;
	}
	return to;
}

int ctd_get(struct grpc_translation *t, Bulkhead__ObjectKind kind, const char *key, ProtobufCMessage **ret_internal,
	    struct fault *fault) {
	Bulkhead__ObjectKey *k = ctd_key(t, kind, key);
	if (!k)
		return grpc_no_memory(fault);
	*ret_internal = &k->base;
	return 0;
}

void ctd_filters_free(void *state) {
	filters_free(state);
}

int ctd_filters_keep(struct grpc_translation *t, char *const *filters, size_t n_filters, struct fault *fault) {
	struct filters *f;
	int r = filters_parse(t->kept, filters, n_filters, &f, fault);
	if (r < 0)
		return r;
	t->state = f;
	t->state_free = ctd_filters_free;
	return 0;
}

int ctd_list(struct grpc_translation *t, Bulkhead__ObjectKind kind, char *const *filters, size_t n_filters,
	     ProtobufCMessage **ret_internal, struct fault *fault) {
	Bulkhead__ObjectListRequest *q =
	    ARENA_NEW(t->arena, Bulkhead__ObjectListRequest, BULKHEAD__OBJECT_LIST_REQUEST__INIT);
	int r = q ? ctd_filters_keep(t, filters, n_filters, fault) : grpc_no_memory(fault);
	if (r < 0)
		return r;
	q->kind = kind;
	if (kind != BULKHEAD__OBJECT_KIND__OBJECT_NAMESPACE)
		q->namespace_ = ctd_namespace(t);
	*ret_internal = &q->base;
	return 0;
}

int ctd_update(struct grpc_translation *t, Bulkhead__Object *object, const Google__Protobuf__FieldMask *mask,
	       ProtobufCMessage **ret_internal, struct fault *fault) {
	Bulkhead__ObjectUpdateRequest *q =
	    ARENA_NEW(t->arena, Bulkhead__ObjectUpdateRequest, BULKHEAD__OBJECT_UPDATE_REQUEST__INIT);
	if (!q || !object)
		return grpc_no_memory(fault);
	q->object = object;
	if (mask) {
		q->paths = mask->paths;
		q->n_paths = mask->n_paths;
	}
	*ret_internal = &q->base;
	return 0;
}

int ctd_delete(struct grpc_translation *t, Bulkhead__ObjectKind kind, const char *key, bool wait,
	       const char *target_digest, ProtobufCMessage **ret_internal, struct fault *fault) {
	Bulkhead__ObjectDeleteRequest *q =
	    ARENA_NEW(t->arena, Bulkhead__ObjectDeleteRequest, BULKHEAD__OBJECT_DELETE_REQUEST__INIT);
	if (!q || !(q->id = ctd_key(t, kind, key)))
		return grpc_no_memory(fault);
	q->wait = wait;
	q->target_digest = (char *)(uintptr_t)target_digest;
	*ret_internal = &q->base;
	return 0;
}

/* --- and back --------------------------------------------------------------- */

Google__Protobuf__Any *ctd_any(struct grpc_translation *t, const Bulkhead__Typed *from) {
	Google__Protobuf__Any *to = from ? ARENA_NEW(t->arena, Google__Protobuf__Any, GOOGLE__PROTOBUF__ANY__INIT)
					 : NULL;
	if (to) {
		to->type_url = from->type_url;
		to->value = from->value;
	}
	return to;
}

Google__Protobuf__Any *ctd_pack(struct grpc_translation *t, const ProtobufCMessage *m) {
	Google__Protobuf__Any *any = ARENA_NEW(t->arena, Google__Protobuf__Any, GOOGLE__PROTOBUF__ANY__INIT);
	size_t size = protobuf_c_message_get_packed_size(m);
	if (!any || !(any->value.data = arena_alloc(t->arena, size + 1)))
		return NULL;
	any->type_url = (char *)(uintptr_t)m->descriptor->name;
	any->value.len = protobuf_c_message_pack(m, any->value.data);
	return any;
}

Containerd__Types__Platform *ctd_platform(struct arena *a) {
	Containerd__Types__Platform *p = ARENA_NEW(a, Containerd__Types__Platform, CONTAINERD__TYPES__PLATFORM__INIT);
	if (p) {
		p->os = (char *)"linux";
		p->architecture = (char *)CTD_ARCHITECTURE;
	}
	return p;
}

Google__Protobuf__Timestamp *ctd_time(struct grpc_translation *t, int64_t ns) {
	Google__Protobuf__Timestamp *to =
	    ns ? ARENA_NEW(t->arena, Google__Protobuf__Timestamp, GOOGLE__PROTOBUF__TIMESTAMP__INIT) : NULL;
	if (to) {
		to->seconds = ns / NS_PER_SEC;
		to->nanos = (int32_t)(ns % NS_PER_SEC);
	}
	return to;
}

Containerd__Types__Descriptor *ctd_descriptor_back(struct grpc_translation *t, const Bulkhead__Descriptor *from) {
	Containerd__Types__Descriptor *to =
	    from ? ARENA_NEW(t->arena, Containerd__Types__Descriptor, CONTAINERD__TYPES__DESCRIPTOR__INIT) : NULL;
	if (to) {
		to->media_type = from->media_type;
		to->digest = from->digest;
		to->size = (int64_t)from->size;
		to->annotations = (void *)from->annotations;
		to->n_annotations = from->n_annotations;
	}
	return to;
}

Containerd__Types__Mount **ctd_mounts_back(struct grpc_translation *t, const ProtobufCMessage *internal,
					   size_t *ret_n) {
	const Bulkhead__MountList *from = (const Bulkhead__MountList *)internal;
	Containerd__Types__Mount **to = arena_alloc(t->arena, (from->n_mounts + 1) * sizeof(*to));
	for (size_t i = 0; to && i < from->n_mounts; i++) {
		if (!(to[i] = ARENA_NEW(t->arena, Containerd__Types__Mount, CONTAINERD__TYPES__MOUNT__INIT)))
			return NULL;
		to[i]->type = from->mounts[i]->type;
		to[i]->source = from->mounts[i]->source;
		to[i]->options = from->mounts[i]->options;
		to[i]->n_options = from->mounts[i]->n_options;
	}
	*ret_n = from->n_mounts;
	return to;
}

int ctd_empty(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
	      struct fault *fault) {
	Google__Protobuf__Empty *e = ARENA_NEW(t->arena, Google__Protobuf__Empty, GOOGLE__PROTOBUF__EMPTY__INIT);
	if (!e)
		return grpc_no_memory(fault);
	*ret_reply = &e->base;
	return 0;
}

/* --- objects ---------------------------------------------------------------- */

/* As the metadata worker sends them; anything else is a bug, and no reason to die of it. */
static bool whole(const Bulkhead__Object *o) {
	static const Bulkhead__Object__BodyCase bodies[] = {
		[BULKHEAD__OBJECT_KIND__OBJECT_NAMESPACE] = BULKHEAD__OBJECT__BODY__NOT_SET,
		[BULKHEAD__OBJECT_KIND__OBJECT_CONTAINER] = BULKHEAD__OBJECT__BODY_CONTAINER,
		[BULKHEAD__OBJECT_KIND__OBJECT_IMAGE] = BULKHEAD__OBJECT__BODY_IMAGE,
		[BULKHEAD__OBJECT_KIND__OBJECT_CONTENT] = BULKHEAD__OBJECT__BODY_CONTENT,
		[BULKHEAD__OBJECT_KIND__OBJECT_SNAPSHOT] = BULKHEAD__OBJECT__BODY_SNAPSHOT,
		[BULKHEAD__OBJECT_KIND__OBJECT_LEASE] = BULKHEAD__OBJECT__BODY_LEASE,
		[BULKHEAD__OBJECT_KIND__OBJECT_SANDBOX] = BULKHEAD__OBJECT__BODY_SANDBOX,
	};
	if (!o->id || (unsigned)o->id->kind >= ARRAY_SIZE(bodies) || bodies[o->id->kind] != o->body_case)
		return false;
	if (o->body_case == BULKHEAD__OBJECT__BODY_CONTAINER)
		return o->container->runtime != NULL;
	return o->body_case != BULKHEAD__OBJECT__BODY_IMAGE || o->image->target != NULL;
}

void *ctd_one(struct grpc_translation *t, const ProtobufCMessage *internal, ctd_make_fn make, struct fault *fault) {
	const Bulkhead__Object *o = (const Bulkhead__Object *)internal;
	void *one = NULL;
	if (!whole(o))
		fault_set(fault, FAULT_INTERNAL, "the metadata worker has sent an object that isn't whole");
	else if (!(one = make(t, o)))
		grpc_no_memory(fault);
	return one;
}

/* --- filtered lists --------------------------------------------------------- */

/* A label's key may contain dots: the rest of the path is one. */
static const char *label(const Bulkhead__Object *o, const char *const *path, size_t n_path) {
	char key[512] = "";
	size_t n = 0;
	for (size_t i = 0; i < n_path && n < sizeof(key); i++)
		n += (size_t)snprintf(key + n, sizeof(key) - n, "%s%s", i ? "." : "", path[i]);
	for (size_t i = 0; i < o->n_labels; i++)
		if (strcmp(o->labels[i]->key, key) == 0)
			return o->labels[i]->value;
	return NULL;
}

static const char *container_image(const Bulkhead__Object *o) {
	return o->container->image;
}
static const char *container_runtime(const Bulkhead__Object *o) {
	return o->container->runtime->name;
}
static const char *container_sandbox(const Bulkhead__Object *o) {
	return o->container->sandbox;
}
static const char *sandbox_runtime(const Bulkhead__Object *o) {
	return o->sandbox->runtime ? o->sandbox->runtime->name : "";
}
static const char *sandbox_sandboxer(const Bulkhead__Object *o) {
	return o->sandbox->sandboxer;
}
static const char *image_digest(const Bulkhead__Object *o) {
	return o->image->target->digest;
}
static const char *image_type(const Bulkhead__Object *o) {
	return o->image->target->media_type;
}
static const char *snapshot_parent(const Bulkhead__Object *o) {
	return o->snapshot->parent;
}
static const char *snapshot_kind(const Bulkhead__Object *o) {
	static const char *const names[] = { "unknown", "view", "active", "committed" };
	return (unsigned)o->snapshot->kind < ARRAY_SIZE(names) ? names[o->snapshot->kind] : names[0];
}
static const char *object_key(const Bulkhead__Object *o) {
	return o->id->key;
}

#define KIND(name) BULKHEAD__OBJECT_KIND__OBJECT_##name

/* Fields beside labels, as containerd's adaptors name them. */
static const struct field {
	Bulkhead__ObjectKind kind;
	const char *path[2];
	const char *(*get)(const Bulkhead__Object *o);
} fields[] = {
	{ KIND(NAMESPACE), { "name" }, object_key },
	{ KIND(CONTAINER), { "id" }, object_key },
	{ KIND(CONTAINER), { "image" }, container_image },
	{ KIND(CONTAINER), { "runtime", "name" }, container_runtime },
	{ KIND(CONTAINER), { "sandbox" }, container_sandbox },
	{ KIND(IMAGE), { "name" }, object_key },
	{ KIND(IMAGE), { "target", "digest" }, image_digest },
	{ KIND(IMAGE), { "target", "mediatype" }, image_type },
	{ KIND(CONTENT), { "digest" }, object_key },
	{ KIND(SNAPSHOT), { "name" }, object_key },
	{ KIND(SNAPSHOT), { "kind" }, snapshot_kind },
	{ KIND(SNAPSHOT), { "parent" }, snapshot_parent },
	{ KIND(LEASE), { "id" }, object_key },
	{ KIND(SANDBOX), { "id" }, object_key },
	{ KIND(SANDBOX), { "runtime", "name" }, sandbox_runtime },
	{ KIND(SANDBOX), { "sandboxer" }, sandbox_sandboxer },
};

static bool field_is(const struct field *f, const char *const *path, size_t n_path) {
	size_t n = f->path[1] ? 2 : 1;
	for (size_t i = 0; i < n && n_path == n; i++)
		if (strcmp(f->path[i], path[i]) != 0)
			return false;
	return n_path == n;
}

/* An empty value is as good as none. */
static const char *object_field(const void *object, const char *const *path, size_t n_path) {
	const Bulkhead__Object *o = object;
	if (!whole(o))
		return NULL;
	if (n_path > 1 && strcmp(path[0], "labels") == 0)
		return label(o, path + 1, n_path - 1);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (fields[i].kind == o->id->kind && field_is(&fields[i], path, n_path)) {
			const char *value = fields[i].get(o);
			return *value ? value : NULL;
		}
	return NULL;
}

int ctd_wanted(struct grpc_translation *t, const ProtobufCMessage *internal, ctd_make_fn make, void ***ret_list,
	       size_t *ret_n, struct fault *fault) {
	const Bulkhead__ObjectList *l = (const Bulkhead__ObjectList *)internal;
	void **list = arena_alloc(t->arena, (l->n_objects + 1) * sizeof(*list));
	size_t n = 0;
	if (!list)
		return grpc_no_memory(fault);
	for (size_t i = 0; i < l->n_objects; i++) {
		if (!filters_match(t->state, object_field, l->objects[i]))
			continue;
		if (!(list[n++] = ctd_one(t, &l->objects[i]->base, make, fault)))
			return -EBADMSG;
	}
	*ret_list = list;
	*ret_n = n;
	return 0;
}

int ctd_next(struct grpc_translation *t, const ProtobufCMessage *internal, ctd_make_fn make, void **ret_one,
	     struct fault *fault) {
	const Bulkhead__ObjectList *l = (const Bulkhead__ObjectList *)internal;
	*ret_one = NULL;
	while (t->cursor < l->n_objects && !*ret_one) {
		const Bulkhead__Object *o = l->objects[t->cursor++];
		if (filters_match(t->state, object_field, o) && !(*ret_one = ctd_one(t, &o->base, make, fault)))
			return -EBADMSG;
	}
	t->more = t->cursor < l->n_objects;
	return 0;
}

int ctd_part(struct grpc_translation *t, const ProtobufCMessage *internal, ctd_make_fn make, size_t max,
	     void ***ret_list, size_t *ret_n, struct fault *fault) {
	void **list = arena_alloc(t->arena, max * sizeof(*list));
	size_t n = 0;
	if (!list)
		return grpc_no_memory(fault);
	do {
		int r = ctd_next(t, internal, make, &list[n], fault);
		if (r < 0)
			return r;
		n += list[n] != NULL;
	} while (t->more && n < max);
	*ret_list = list;
	*ret_n = n;
	return 0;
}
