#include "workers/metadata/model.h"

#include "base/buffer.h"
#include "msg/msg.h"
#include "workers/metadata/reference.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define US "\x1f" /* joins the parts of a name; no valid part contains it */

void *message_copy(struct arena *a, const ProtobufCMessage *m) {
	size_t size = protobuf_c_message_get_packed_size(m);
	uint8_t small[4096], *bytes = size <= sizeof(small) ? small : malloc(size);
	if (!bytes)
		return NULL;
	protobuf_c_message_pack(m, bytes);
	ProtobufCAllocator allocator = msg_arena_allocator(a);
	void *copy = protobuf_c_message_unpack(m->descriptor, &allocator, size, bytes);
	if (bytes != small)
		free(bytes);
	return copy;
}

void model_init(struct model *m) {
	struct list *lists[] = { &m->sandboxes, &m->containers, &m->images, &m->layers, &m->dying };
	struct map *maps[] = { &m->sandbox_ids, &m->sandbox_names, &m->container_ids, &m->container_names,
			       &m->image_ids,	&m->image_names,   &m->layer_ids };
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		list_init(lists[i]);
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++)
		map_init(maps[i]);
}

void model_deinit(struct model *m) {
	list_for_each_safe (n, &m->dying)
		model_free_container(m, list_entry(n, struct container, node));
	list_for_each_safe (n, &m->containers)
		model_free_container(m, list_entry(n, struct container, node));
	list_for_each_safe (n, &m->sandboxes)
		model_free_sandbox(m, list_entry(n, struct sandbox, node));
	list_for_each_safe (n, &m->images)
		model_free_image(m, list_entry(n, struct image, node));
	list_for_each_safe (n, &m->layers)
		model_free_layer(m, list_entry(n, struct layer, node));
	struct map *maps[] = { &m->sandbox_ids, &m->sandbox_names, &m->container_ids, &m->container_names,
			       &m->image_ids,	&m->image_names,   &m->layer_ids };
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++)
		map_deinit(maps[i]);
}

/* --- pod sandboxes ---------------------------------------------------------- */

static char *sandbox_name(struct arena *a, const Runtime__V1__PodSandboxMetadata *n) {
	return arena_printf(a, "%s" US "%s" US "%s" US "%u", n->name, n->namespace_, n->uid, n->attempt);
}

struct sandbox *model_add_sandbox(struct model *m, const Bulkhead__SandboxRecord *r) {
	if (!id_valid(r->id) || !r->config || !r->config->metadata) {
		errno = EINVAL;
		return NULL;
	}
	struct sandbox *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	arena_init(&s->arena, 0);
	list_init(&s->containers);
	s->record = message_copy(&s->arena, &r->base);
	char *name = s->record ? sandbox_name(&s->arena, s->record->config->metadata) : NULL;
	int e = name ? map_insert(&m->sandbox_ids, &s->by_id, s->record->id) : -ENOMEM;
	if (e == 0) {
		e = map_insert(&m->sandbox_names, &s->by_name, name);
		if (e < 0)
			map_remove(&m->sandbox_ids, &s->by_id);
	}
	if (e < 0) {
		arena_deinit(&s->arena);
		free(s);
		errno = -e;
		return NULL;
	}
	list_append(&m->sandboxes, &s->node);
	return s;
}

void model_free_sandbox(struct model *m, struct sandbox *s) {
	map_remove(&m->sandbox_ids, &s->by_id);
	map_remove(&m->sandbox_names, &s->by_name);
	list_unlink(&s->node);
	arena_deinit(&s->arena);
	free(s);
}

struct sandbox *model_sandbox_by_name(struct model *m, const Runtime__V1__PodSandboxMetadata *name) {
	struct arena a;
	arena_init(&a, 0);
	char *key = sandbox_name(&a, name);
	struct map_node *n = key ? map_find(&m->sandbox_names, key) : NULL;
	arena_deinit(&a);
	return n ? container_of(n, struct sandbox, by_name) : NULL;
}

/* --- containers ------------------------------------------------------------- */

static char *container_name(struct arena *a, const char *sandbox_id, const Runtime__V1__ContainerMetadata *n) {
	return arena_printf(a, "%s" US "%s" US "%u", sandbox_id, n->name, n->attempt);
}

static bool volumes_valid(const Bulkhead__ContainerRecord *r) {
	for (size_t i = 0; i < r->n_volumes; i++)
		if (r->volumes[i]->mount >= r->config->n_mounts || !r->config->mounts[r->volumes[i]->mount]->image)
			return false;
	return true;
}

struct container *model_add_container(struct model *m, const Bulkhead__ContainerRecord *r) {
	struct map_node *in = map_find(&m->sandbox_ids, r->sandbox_id);
	if (!id_valid(r->id) || !in || !r->config || !r->config->metadata || !volumes_valid(r)) {
		errno = EINVAL;
		return NULL;
	}
	struct container *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	arena_init(&c->arena, 0);
	c->record = message_copy(&c->arena, &r->base);
	char *name = c->record ? container_name(&c->arena, r->sandbox_id, r->config->metadata) : NULL;
	int e = name ? map_insert(&m->container_ids, &c->by_id, c->record->id) : -ENOMEM;
	if (e == 0) {
		e = map_insert(&m->container_names, &c->by_name, name);
		if (e < 0)
			map_remove(&m->container_ids, &c->by_id);
	}
	if (e < 0) {
		arena_deinit(&c->arena);
		free(c);
		errno = -e;
		return NULL;
	}
	c->sandbox = container_of(in, struct sandbox, by_id);
	list_append(&m->containers, &c->node);
	list_append(&c->sandbox->containers, &c->in_sandbox);
	return c;
}

void model_drop_container(struct model *m, struct container *c) {
	if (!c->sandbox)
		return;
	map_remove(&m->container_ids, &c->by_id);
	map_remove(&m->container_names, &c->by_name);
	list_unlink(&c->in_sandbox);
	list_unlink(&c->node);
	list_append(&m->dying, &c->node);
	c->sandbox = NULL;
}

void model_free_container(struct model *m, struct container *c) {
	model_drop_container(m, c);
	list_unlink(&c->node);
	arena_deinit(&c->arena);
	free(c);
}

struct container *model_container_by_name(struct model *m, const char *sandbox_id,
					  const Runtime__V1__ContainerMetadata *name) {
	struct arena a;
	arena_init(&a, 0);
	char *key = container_name(&a, sandbox_id, name);
	struct map_node *n = key ? map_find(&m->container_names, key) : NULL;
	arena_deinit(&a);
	return n ? container_of(n, struct container, by_name) : NULL;
}

/* --- by id or prefix -------------------------------------------------------- */

/* The node in one of the id maps; a prefix costs a walk, whole ids don't. */
static struct map_node *find_id(const struct map *ids, const char *id, bool *ret_ambiguous) {
	struct map_node *found = map_find(ids, id);
	size_t n = strlen(id), pos;
	*ret_ambiguous = false;
	if (found)
		return found;
	for (struct map_node *it = map_first(ids, &pos); it; it = map_next(ids, &pos, it)) {
		if (strncmp(it->key, id, n) != 0)
			continue;
		if (found) {
			*ret_ambiguous = true;
			return NULL;
		}
		found = it;
	}
	return found;
}

static int find(const struct map *ids, const char *kind, const char *id, struct map_node **ret, struct fault *fault) {
	bool ambiguous;
	if (!*id)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the request names no %s", kind);
	struct map_node *n = find_id(ids, id, &ambiguous);
	if (ambiguous)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "several ids begin with \"%.76s\": give more of the %s's", id, kind);
	if (!n)
		return fault_set(fault, FAULT_NOT_FOUND, "%s \"%.76s\": not found", kind, id);
	*ret = n;
	return 0;
}

int model_find_sandbox(struct model *m, const char *id, struct sandbox **ret, struct fault *fault) {
	struct map_node *n;
	int r = find(&m->sandbox_ids, "pod sandbox", id, &n, fault);
	if (r == 0)
		*ret = container_of(n, struct sandbox, by_id);
	return r;
}

int model_find_container(struct model *m, const char *id, struct container **ret, struct fault *fault) {
	struct map_node *n;
	int r = find(&m->container_ids, "container", id, &n, fault);
	if (r == 0)
		*ret = container_of(n, struct container, by_id);
	return r;
}

/* --- images ----------------------------------------------------------------- */

static void names_remove(struct model *m, struct image *i) {
	for (size_t n = 0; n < i->n_names; n++)
		if (i->names[n].image)
			map_remove(&m->image_names, &i->names[n].node);
}

/* The record of the loser no longer has the name. */
static void name_strip(char **names, size_t *n_names, const char *name) {
	size_t kept = 0;
	for (size_t i = 0; i < *n_names; i++)
		if (strcmp(names[i], name) != 0)
			names[kept++] = names[i];
	*n_names = kept;
}

static struct image *name_take(struct model *m, const char *name) {
	struct map_node *n = map_find(&m->image_names, name);
	if (!n)
		return NULL;
	struct image_name *in = container_of(n, struct image_name, node);
	struct image *from = in->image;
	map_remove(&m->image_names, n);
	in->image = NULL;
	name_strip(from->record->names, &from->record->n_names, name);
	name_strip(from->record->digests, &from->record->n_digests, name);
	return from;
}

static int names_insert(struct model *m, struct image *i, struct image **ret_robbed, size_t max, size_t *n_robbed) {
	Bulkhead__ImageRecord *r = i->record;
	size_t n = r->n_names + r->n_digests;
	i->names = arena_zalloc(&i->arena, (n ? n : 1) * sizeof(*i->names));
	if (!i->names)
		return -ENOMEM;
	for (; i->n_names < n; i->n_names++) {
		const char *name = i->n_names < r->n_names ? r->names[i->n_names] : r->digests[i->n_names - r->n_names];
		struct image_name *in = &i->names[i->n_names];
		struct map_node *had = map_find(&m->image_names, name);
		if (had && container_of(had, struct image_name, node)->image == i)
			continue; /* named twice */
		struct image *loser = name_take(m, name);
		if (loser && ret_robbed && *n_robbed < max)
			ret_robbed[(*n_robbed)++] = loser;
		int e = map_insert(&m->image_names, &in->node, name);
		if (e < 0)
			return e;
		in->image = i;
	}
	return 0;
}

struct image *model_put_image(struct model *m, const Bulkhead__ImageRecord *r, struct image **ret_robbed, size_t max,
			      size_t *ret_n_robbed) {
	size_t n_robbed = 0;
	if (!digest_valid(r->id)) {
		errno = EINVAL;
		return NULL;
	}
	struct image *i = calloc(1, sizeof(*i));
	if (!i)
		return NULL;
	arena_init(&i->arena, 0);
	list_init(&i->node);
	i->record = message_copy(&i->arena, &r->base);
	if (!i->record) {
		arena_deinit(&i->arena);
		free(i);
		errno = ENOMEM;
		return NULL;
	}
	struct map_node *old = map_find(&m->image_ids, r->id);
	if (old)
		model_free_image(m, container_of(old, struct image, by_id));
	int e = map_insert(&m->image_ids, &i->by_id, i->record->id);
	if (e == 0)
		e = names_insert(m, i, ret_robbed, max, &n_robbed);
	list_append(&m->images, &i->node);
	if (e < 0) {
		model_free_image(m, i);
		errno = -e;
		return NULL;
	}
	if (ret_n_robbed)
		*ret_n_robbed = n_robbed;
	return i;
}

void model_free_image(struct model *m, struct image *i) {
	names_remove(m, i);
	if (map_find(&m->image_ids, i->record->id) == &i->by_id)
		map_remove(&m->image_ids, &i->by_id);
	list_unlink(&i->node);
	arena_deinit(&i->arena);
	free(i);
}

struct image *model_find_image(struct model *m, const char *name) {
	char full[REFERENCE_MAX];
	struct reference ref;
	struct fault ignored;
	bool ambiguous;
	struct map_node *n = map_find(&m->image_ids, name);
	if (n)
		return container_of(n, struct image, by_id);
	if (reference_parse(name, &ref, &ignored) == 0) {
		reference_format(&ref, full, sizeof(full));
		n = map_find(&m->image_names, full);
		if (n)
			return container_of(n, struct image_name, node)->image;
	}
	if (*name && strlen(name) <= 64 && strspn(name, "0123456789abcdef") == strlen(name)) {
		snprintf(full, sizeof(full), "sha256:%s", name);
		n = find_id(&m->image_ids, full, &ambiguous);
	}
	return n ? container_of(n, struct image, by_id) : NULL;
}

/* --- layers ----------------------------------------------------------------- */

struct layer *model_add_layer(struct model *m, const Bulkhead__LayerRecord *r) {
	if (!layer_id_valid(r->chain_id)) {
		errno = EINVAL;
		return NULL;
	}
	struct layer *l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	arena_init(&l->arena, 0);
	l->record = message_copy(&l->arena, &r->base);
	int e = l->record ? map_insert(&m->layer_ids, &l->by_id, l->record->chain_id) : -ENOMEM;
	if (e < 0) {
		arena_deinit(&l->arena);
		free(l);
		errno = -e;
		return NULL;
	}
	list_append(&m->layers, &l->node);
	return l;
}

void model_free_layer(struct model *m, struct layer *l) {
	map_remove(&m->layer_ids, &l->by_id);
	list_unlink(&l->node);
	arena_deinit(&l->arena);
	free(l);
}

struct layer *model_find_layer(struct model *m, const char *chain_id) {
	struct map_node *n = map_find(&m->layer_ids, chain_id);
	return n ? container_of(n, struct layer, by_id) : NULL;
}
