/*
 * The CRI's pods and containers as containerd's clients know them: containers
 * of the namespace k8s.io, told apart by the label io.cri-containerd.kind. The
 * specification is in its parsed form: the API worker writes it down.
 */
#include "workers/metadata/object/object.h"

#include "workers/metadata/lifecycle.h"
#include "workers/metadata/object/snapshot.h"
#include "workers/metadata/view.h"

#include <string.h>

#define LABEL_KIND "io.cri-containerd.kind"
/* What tools know containers of runc's kind by, and ours behave as those do. */
#define RUNTIME "io.containerd.runc.v2"

struct label {
	const char *key;
	char *value;
};

/* Those of the CRI's configuration, and those that a kubelet would have put there. */
#define LABELS(o, a, config, more)                                                                          \
	({                                                                                                  \
		object_labels_begin((a), (o), (config)->n_labels + ARRAY_SIZE(more));                       \
		for (size_t i_ = 0; i_ < (config)->n_labels; i_++)                                          \
			object_label_add((a), (o), (config)->labels[i_]->key, (config)->labels[i_]->value); \
		for (size_t i_ = 0; i_ < ARRAY_SIZE(more); i_++)                                            \
			if (!object_label((o), (more)[i_].key))                                             \
				object_label_add((a), (o), (more)[i_].key, (more)[i_].value);               \
	})

static Bulkhead__Object *make(struct arena *a, const char *id, int64_t at) {
	Bulkhead__Object *o = object_view_new(a, BULKHEAD__OBJECT_KIND__OBJECT_CONTAINER, NAMESPACE_CRI, id, at);
	Bulkhead__ContainerBody *b = ARENA_NEW(a, Bulkhead__ContainerBody, BULKHEAD__CONTAINER_BODY__INIT);
	if (!o || !b || !(b->runtime = ARENA_NEW(a, Bulkhead__Runtime, BULKHEAD__RUNTIME__INIT)))
		return NULL;
	b->runtime->name = (char *)RUNTIME;
	o->body_case = BULKHEAD__OBJECT__BODY_CONTAINER;
	o->container = b;
	return o;
}

/* All but the specification. */
static Bulkhead__Object *describe_sandbox(struct arena *a, const struct sandbox *s) {
	const Runtime__V1__PodSandboxConfig *config = s->record->config;
	const struct label more[] = {
		{ LABEL_KIND, (char *)"sandbox" },
		{ "io.kubernetes.pod.name", config->metadata->name },
		{ "io.kubernetes.pod.namespace", config->metadata->namespace_ },
		{ "io.kubernetes.pod.uid", config->metadata->uid },
	};
	Bulkhead__Object *o = make(a, s->record->id, s->record->created_at);
	if (!o)
		return NULL;
	LABELS(o, a, config, more);
	o->container->sandbox = s->record->id;
	return o;
}

static Bulkhead__Object *of_sandbox(struct arena *a, const struct sandbox *s) {
	Bulkhead__Object *o = describe_sandbox(a, s);
	return o && (o->container->parsed = view_sandbox_spec(a, s)) ? o : NULL;
}

static Bulkhead__Object *describe_container(struct metadata *m, struct arena *a, const struct container *c) {
	const Runtime__V1__ContainerConfig *config = c->record->config;
	const Runtime__V1__PodSandboxMetadata *pod = c->sandbox->record->config->metadata;
	const struct label more[] = {
		{ LABEL_KIND, (char *)"container" },	 { "io.kubernetes.container.name", config->metadata->name },
		{ "io.kubernetes.pod.name", pod->name }, { "io.kubernetes.pod.namespace", pod->namespace_ },
		{ "io.kubernetes.pod.uid", pod->uid },
	};
	Bulkhead__Object *o = make(a, c->record->id, c->record->created_at);
	if (!o)
		return NULL;
	LABELS(o, a, config, more);
	o->container->image = view_image_name(m, c);
	o->container->snapshotter = (char *)"overlayfs";
	o->container->snapshot_key = c->record->id;
	o->container->sandbox = c->record->sandbox_id;
	return o;
}

static Bulkhead__Object *of_container(struct metadata *m, struct arena *a, struct container *c) {
	struct fault fault;
	Bulkhead__Object *o = describe_container(m, a, c);
	return o && view_container_spec(m, a, c, &o->container->parsed, &fault) == 0 ? o : NULL;
}

static Bulkhead__Object *get(struct metadata *m, struct arena *a, const char *key) {
	struct map_node *n = map_find(&m->model.container_ids, key);
	if (n && container_visible(container_of(n, struct container, by_id)))
		return of_container(m, a, container_of(n, struct container, by_id));
	n = map_find(&m->model.sandbox_ids, key);
	if (n && sandbox_visible(container_of(n, struct sandbox, by_id)))
		return of_sandbox(a, container_of(n, struct sandbox, by_id));
	return NULL;
}

static size_t list(struct metadata *m, struct arena *a, Bulkhead__Object ***ret_list) {
	size_t room = m->model.container_ids.n_nodes + m->model.sandbox_ids.n_nodes, n = 0;
	Bulkhead__Object **all = arena_alloc(a, (room + 1) * sizeof(*all)), *one;
	*ret_list = all;
	list_for_each (node, &m->model.sandboxes) {
		const struct sandbox *s = list_entry(node, struct sandbox, node);
		if (all && sandbox_visible(s) && (one = of_sandbox(a, s)))
			all[n++] = one;
	}
	list_for_each (node, &m->model.containers) {
		struct container *c = list_entry(node, struct container, node);
		if (all && container_visible(c) && (one = of_container(m, a, c)))
			all[n++] = one;
	}
	return n;
}

const struct object_view container_view = { .get = get, .list = list };

/* --- what happens to them --------------------------------------------------- */

static const char *const container_topics[] = {
	[CONTAINER_NEWS_MADE] = "/containers/create",
	[CONTAINER_NEWS_CHANGED] = "/containers/update",
	[CONTAINER_NEWS_GONE] = "/containers/delete",
};

static void tell(struct metadata *m, const char *topic, Bulkhead__Object *o) {
	Bulkhead__BusEvent e = BULKHEAD__BUS_EVENT__INIT;
	e.topic = (char *)(uintptr_t)topic;
	e.namespace_ = o->id->namespace_;
	e.id = o->id->key;
	e.object = o;
	bus_tell_committed(&m->bus, STORE_PODS, &e);
}

/* Its writable folder is a snapshot, which comes before it and goes after it. */
void container_view_tell(struct metadata *m, enum container_news news, const struct container *c) {
	struct arena a;
	if (!bus_followed(&m->bus))
		return;
	arena_init(&a, 0);
	Bulkhead__Object *o = describe_container(m, &a, c), *snapshot = snapshot_view_of_container(&a, c);
	if (snapshot && news == CONTAINER_NEWS_MADE)
		tell(m, "/snapshot/prepare", snapshot);
	if (o)
		tell(m, container_topics[news], o);
	if (snapshot && news == CONTAINER_NEWS_GONE)
		tell(m, "/snapshot/remove", snapshot);
	arena_deinit(&a);
}

void sandbox_view_tell(struct metadata *m, enum container_news news, const struct sandbox *s) {
	struct arena a;
	if (!bus_followed(&m->bus))
		return;
	arena_init(&a, 0);
	Bulkhead__Object *o = describe_sandbox(&a, s);
	if (o)
		tell(m, container_topics[news], o);
	arena_deinit(&a);
}
