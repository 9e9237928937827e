/*
 * What each kind of object has of its own, and the checks that any object must
 * pass before it is kept. Paths are those of containerd's field masks.
 */
#include "workers/metadata/object/object.h"

#include "workers/metadata/csandbox/csandbox.h"
#include "workers/metadata/ctask/ctask.h"
#include "workers/metadata/object/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define KIND(name) BULKHEAD__OBJECT_KIND__OBJECT_##name
#define BODY(name) BULKHEAD__OBJECT__BODY_##name

/* --- containers and sandboxes ----------------------------------------------- */

static int container_check(const Bulkhead__Object *o, struct fault *fault) {
	const Bulkhead__ContainerBody *b = o->container;
	if (!b->runtime || !*b->runtime->name)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "container \"%s\": runtime.name is empty", o->id->key);
	if (!b->spec)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "container \"%s\": the spec is missing", o->id->key);
	if (*b->snapshot_key && !*b->snapshotter)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "container \"%s\": snapshot_key \"%.200s\" needs a snapshotter", o->id->key,
				 b->snapshot_key);
	return 0;
}

static int container_may_delete(struct metadata *m, const struct object *o, struct fault *fault) {
	const Bulkhead__ObjectKey *id = o->record->id;
	if (!ctask_find(&m->ctasks, id->namespace_, id->key))
		return 0;
	return fault_set(fault, FAULT_FAILED_PRECONDITION,
			 "container \"%s\" in namespace \"%s\" has a task: delete that first", id->key, id->namespace_);
}

static const char *after(const char *path, const char *prefix) {
	size_t n = strlen(prefix);
	return strncmp(path, prefix, n) == 0 && path[n] ? path + n : NULL;
}

/* Entries of a map field: all begin with a key, and none is longer than this. */
struct entry {
	ProtobufCMessage base;
	char *key;
};

/* (*ret_to)[0..*ret_n) with the entry of that key as from has it, or without it
 * when from has none. The list is copied before. */
static int take_entry(void ***ret_to, size_t *ret_n, void *const *from, size_t n_from, const char *key,
		      struct arena *a) {
	void **list = arena_alloc(a, (*ret_n + 1) * sizeof(*list));
	size_t n = 0;
	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < *ret_n; i++)
		if (strcmp(((struct entry *)(*ret_to)[i])->key, key) != 0)
			list[n++] = (*ret_to)[i];
	for (size_t i = 0; i < n_from; i++)
		if (strcmp(((struct entry *)from[i])->key, key) == 0) {
			list[n++] = from[i];
			break;
		}
	*ret_to = list;
	*ret_n = n;
	return 0;
}
#define TAKE_ENTRY(to, from, field, key, a)                                                                          \
	take_entry((void ***)&(to)->field, &(to)->n_##field, (void *const *)(from)->field, (from)->n_##field, (key), \
		   (a))

/* All of field, or one of its entries. */
#define TAKE_MAP(to, from, field, path, a)                               \
	({                                                               \
		const char *key_ = after((path), #field ".");            \
		int r_ = -ENOENT;                                        \
		if (key_) {                                              \
			r_ = TAKE_ENTRY((to), (from), field, key_, (a)); \
		} else if (strcmp((path), #field) == 0) {                \
			(to)->field = (from)->field;                     \
			(to)->n_##field = (from)->n_##field;             \
			r_ = 0;                                          \
		}                                                        \
		r_;                                                      \
	})

static int container_take(Bulkhead__Object *to, const Bulkhead__Object *from, const char *path, struct arena *a) {
	Bulkhead__ContainerBody *t = to->container;
	const Bulkhead__ContainerBody *f = from->container;
	if (strcmp(path, "spec") == 0) {
		t->spec = f->spec;
		t->parsed = f->parsed;
		t->spec_fault = f->spec_fault;
	} else if (strcmp(path, "image") == 0) {
		t->image = f->image;
	} else if (strcmp(path, "snapshotkey") == 0) {
		t->snapshot_key = f->snapshot_key;
		if (!*t->snapshotter)
			t->snapshotter = f->snapshotter;
	} else {
		return TAKE_MAP(t, f, extensions, path, a);
	}
	return 0;
}

static const char *const container_paths[] = { "labels", "extensions", "spec", "image", "snapshotkey", NULL };

static int sandbox_take(Bulkhead__Object *to, const Bulkhead__Object *from, const char *path, struct arena *a) {
	if (strcmp(path, "spec") == 0) {
		to->sandbox->spec = from->sandbox->spec;
		to->sandbox->parsed = from->sandbox->parsed;
	} else if (strcmp(path, "runtime") == 0) {
		to->sandbox->runtime = from->sandbox->runtime;
	} else {
		return TAKE_MAP(to->sandbox, from->sandbox, extensions, path, a);
	}
	return 0;
}

static int sandbox_may_delete(struct metadata *m, const struct object *o, struct fault *fault) {
	const Bulkhead__ObjectKey *id = o->record->id;
	if (!csandbox_find(&m->csandboxes, id->namespace_, id->key))
		return 0;
	return fault_set(fault, FAULT_FAILED_PRECONDITION,
			 "sandbox \"%s\" in namespace \"%s\" was created or started: shut it down first", id->key,
			 id->namespace_);
}

static const char *const sandbox_paths[] = { "labels", "extensions", "spec", "runtime", NULL };

/* --- images, content -------------------------------------------------------- */

static int image_check(const Bulkhead__Object *o, struct fault *fault) {
	const Bulkhead__Descriptor *t = o->image->target;
	if (!t || !digest_valid(t->digest))
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "image \"%.200s\": the target's digest \"%.100s\" is no sha256 digest", o->id->key,
				 t ? t->digest : "");
	return 0;
}

static int image_take(Bulkhead__Object *to, const Bulkhead__Object *from, const char *path, struct arena *a) {
	if (strcmp(path, "target") != 0)
		return -ENOENT;
	to->image->target = from->image->target;
	return 0;
}

static const char *const image_paths[] = { "labels", "target", NULL };

static int ingest_check(const Bulkhead__Object *o, struct fault *fault) {
	if (*o->ingest->expected && !digest_valid(o->ingest->expected))
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "ingest \"%.200s\": the expected digest \"%.100s\" is no sha256 digest", o->id->key,
				 o->ingest->expected);
	return 0;
}

static const char *const label_paths[] = { "labels", NULL };

/* --- namespaces ------------------------------------------------------------- */

static int namespace_may_delete(struct metadata *m, const struct object *o, struct fault *fault) {
	for (int kind = 0; kind < OBJECT_KINDS; kind++)
		list_for_each (n, &m->objects.lists[kind]) {
			const Bulkhead__Object *x = list_entry(n, struct object, node)->record;
			if (strcmp(x->id->namespace_, o->record->id->key) == 0)
				return fault_set(
				    fault, FAULT_FAILED_PRECONDITION,
				    "namespace \"%s\" must be empty, but it still has %s: remove them first",
				    o->record->id->key, object_kind(kind)->many);
		}
	return 0;
}

/* --- the table -------------------------------------------------------------- */

static const struct object_kind kinds[OBJECT_KINDS] = {
	[KIND(NAMESPACE)] = {
		.name = "namespace",
		.many = "namespaces",
		.topic = "/namespaces",
		.body = BODY(_NOT_SET),
		.key_is_id = true,
		.outlives_boot = true,
		.paths = label_paths,
		.may_delete = namespace_may_delete,
	},
	[KIND(CONTAINER)] = {
		.name = "container",
		.many = "containers",
		.topic = "/containers",
		.body = BODY(CONTAINER),
		.key_is_id = true,
		.check = container_check,
		.take = container_take,
		.paths = container_paths,
		.may_delete = container_may_delete,
	},
	[KIND(IMAGE)] = {
		.name = "image",
		.many = "images",
		.topic = "/images",
		.body = BODY(IMAGE),
		.resource = "images",
		.outlives_boot = true,
		.check = image_check,
		.take = image_take,
		.paths = image_paths,
	},
	[KIND(CONTENT)] = {
		.name = "content",
		.many = "blobs",
		.topic = "/content",
		.body = BODY(CONTENT),
		.key_is_digest = true,
		.resource = "content",
		.outlives_boot = true,
		.paths = label_paths,
	},
	[KIND(SNAPSHOT)] = {
		.name = "snapshot",
		.many = "snapshots",
		.body = BODY(SNAPSHOT),
		.resource = "snapshots/overlayfs",
		.may_delete = snapshot_may_delete,
		.paths = label_paths,
	},
	[KIND(LEASE)] = {
		.name = "lease",
		.many = "leases",
		.body = BODY(LEASE),
		.paths = label_paths,
	},
	[KIND(SANDBOX)] = {
		.name = "sandbox",
		.many = "sandboxes",
		.body = BODY(SANDBOX),
		.key_is_id = true,
		.take = sandbox_take,
		.paths = sandbox_paths,
		.may_delete = sandbox_may_delete,
	},
	[KIND(INGEST)] = {
		.name = "ingest",
		.many = "ingests",
		.body = BODY(INGEST),
		.resource = "ingests",
		.check = ingest_check,
		.paths = label_paths,
	},
};

const struct object_kind *object_kind(Bulkhead__ObjectKind kind) {
	return kind > 0 && kind < OBJECT_KINDS ? &kinds[kind] : NULL;
}

const char *object_text(const Bulkhead__ObjectKey *id, char ret_text[OBJECT_TEXT_MAX]) {
	const struct object_kind *k = object_kind(id->kind);
	int n = snprintf(ret_text, OBJECT_TEXT_MAX, "%s \"%.120s\"", k ? k->name : "object", id->key);
	if (*id->namespace_)
		snprintf(ret_text + n, OBJECT_TEXT_MAX - (size_t)n, " in namespace \"%.76s\"", id->namespace_);
	return ret_text;
}

/* --- checks ----------------------------------------------------------------- */

#define ID_GRAMMAR "letters, digits, single \"-\", \"_\" and \".\" between them, at most 76"

static int namespace_check(const Bulkhead__ObjectKey *id, struct fault *fault) {
	if (id->kind == KIND(NAMESPACE))
		return *id->namespace_ ? fault_set(fault, FAULT_INVALID_ARGUMENT, "a namespace is in no other one") : 0;
	if (!*id->namespace_)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "a namespace is required");
	if (!id_valid(id->namespace_))
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "the namespace \"%.100s\" is no identifier (" ID_GRAMMAR ")", id->namespace_);
	return 0;
}

int object_key_check(const Bulkhead__ObjectKey *id, struct fault *fault) {
	const struct object_kind *k = id ? object_kind(id->kind) : NULL;
	if (!k)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the object has no kind");
	int r = namespace_check(id, fault);
	if (r < 0)
		return r;
	size_t size = strlen(id->key);
	if (k->key_is_id && !id_valid(id->key))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the %s \"%.100s\" is no identifier (" ID_GRAMMAR ")",
				 k->name, id->key);
	if (k->key_is_digest && !digest_valid(id->key))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s \"%.100s\" is no sha256 digest", k->name, id->key);
	if (size == 0 || size > OBJECT_KEY_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the %s's name is empty or longer than %d bytes",
				 k->name, OBJECT_KEY_MAX);
	return 0;
}

static int labels_check(const Bulkhead__Object *o, struct fault *fault) {
	char text[OBJECT_TEXT_MAX];
	for (size_t i = 0; i < o->n_labels; i++)
		if (strlen(o->labels[i]->key) + strlen(o->labels[i]->value) > OBJECT_LABEL_MAX)
			return fault_set(fault, FAULT_INVALID_ARGUMENT,
					 "%s: the label \"%.64s\" and its value are longer than %d bytes",
					 object_text(o->id, text), o->labels[i]->key, OBJECT_LABEL_MAX);
	return 0;
}

int object_check(const Bulkhead__Object *o, struct fault *fault) {
	char text[OBJECT_TEXT_MAX];
	int r = object_key_check(o->id, fault);
	if (r < 0)
		return r;
	const struct object_kind *k = object_kind(o->id->kind);
	if (o->body_case != k->body)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: its body is missing, or of another kind",
				 object_text(o->id, text));
	r = labels_check(o, fault);
	return r == 0 && k->check ? k->check(o, fault) : r;
}

/* --- updates ---------------------------------------------------------------- */

/* The body as a copy of its own, so that its fields can point elsewhere. */
static int body_copy(Bulkhead__Object *o, struct arena *a) {
	if (o->body_case == BODY(_NOT_SET))
		return 0;
	size_t size = o->container->base.descriptor->sizeof_message; /* all bodies are in one union */
	void *copy = arena_alloc(a, size);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, o->container, size);
	o->container = copy;
	return 0;
}

static int take(const struct object_kind *k, Bulkhead__Object *to, const Bulkhead__Object *from, const char *path,
		struct arena *a) {
	int r = TAKE_MAP(to, from, labels, path, a);
	return r == -ENOENT && k->take ? k->take(to, from, path, a) : r;
}

int object_merge(const Bulkhead__Object *old, const Bulkhead__Object *new, char *const *paths, size_t n_paths,
		 struct arena *a, Bulkhead__Object **ret_merged, struct fault *fault) {
	const struct object_kind *k = object_kind(old->id->kind);
	char text[OBJECT_TEXT_MAX];
	Bulkhead__Object *merged = arena_alloc(a, sizeof(*merged));
	if (merged)
		*merged = *old;
	int r = merged ? body_copy(merged, a) : -ENOMEM;
	for (size_t i = 0; r == 0 && i < n_paths; i++) {
		r = take(k, merged, new, paths[i], a);
		if (r == -ENOENT)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: \"%.100s\" can't be updated",
					 object_text(old->id, text), paths[i]);
	}
	for (const char *const *p = k->paths; r == 0 && n_paths == 0 && *p; p++)
		r = take(k, merged, new, *p, a);
	if (r < 0)
		return fault_errno(fault, r, "update %s", object_text(old->id, text));
	*ret_merged = merged;
	return object_check(merged, fault);
}
