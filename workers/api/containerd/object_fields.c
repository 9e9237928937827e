/*
 * Fields of objects that filters name beside labels, as containerd's adaptors
 * name them. An empty value is as good as none.
 */
#include "workers/api/containerd/objects.h"

#include <stdio.h>
#include <string.h>

bool ctd_object_whole(const Bulkhead__Object *o) {
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

const char *ctd_object_field(const void *object, const char *const *path, size_t n_path) {
	const Bulkhead__Object *o = object;
	if (!ctd_object_whole(o))
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
