/* The CRI's pod sandboxes in its namespace, as sandbox objects of their ids. */
#include "workers/metadata/csandbox/csandbox.h"

#include "workers/metadata/lifecycle.h"

static Bulkhead__Object *of_sandbox(struct arena *a, const struct sandbox *s) {
	const Bulkhead__SandboxRecord *r = s->record;
	Bulkhead__Object *o = arena_alloc(a, sizeof(*o));
	Bulkhead__ObjectKey *id = arena_alloc(a, sizeof(*id));
	Bulkhead__SandboxBody *b = arena_alloc(a, sizeof(*b));
	Bulkhead__Runtime *runtime = arena_alloc(a, sizeof(*runtime));
	if (!o || !id || !b || !runtime)
		return NULL;
	*o = (Bulkhead__Object)BULKHEAD__OBJECT__INIT;
	*id = object_key_of(BULKHEAD__OBJECT_KIND__OBJECT_SANDBOX, NAMESPACE_CRI, r->id);
	*b = (Bulkhead__SandboxBody)BULKHEAD__SANDBOX_BODY__INIT;
	*runtime = (Bulkhead__Runtime)BULKHEAD__RUNTIME__INIT;
	runtime->name = r->runtime_handler;
	b->runtime = runtime;
	b->sandboxer = (char *)"podsandbox";
	o->id = id;
	o->labels = (void *)r->config->labels; /* maps have one layout */
	o->n_labels = r->config->n_labels;
	o->created_at = o->updated_at = r->created_at;
	o->body_case = BULKHEAD__OBJECT__BODY_SANDBOX;
	o->sandbox = b;
	return o;
}

static Bulkhead__Object *get(struct metadata *m, struct arena *a, const char *key) {
	struct map_node *n = map_find(&m->model.sandbox_ids, key);
	struct sandbox *s = n ? container_of(n, struct sandbox, by_id) : NULL;
	return s && sandbox_visible(s) ? of_sandbox(a, s) : NULL;
}

static size_t list(struct metadata *m, struct arena *a, Bulkhead__Object ***ret_list) {
	size_t n = 0;
	list_for_each (node, &m->model.sandboxes)
		n++;
	Bulkhead__Object **all = arena_alloc(a, (n + 1) * sizeof(*all)), *one;
	*ret_list = all;
	n = 0;
	list_for_each (node, &m->model.sandboxes) {
		const struct sandbox *s = list_entry(node, struct sandbox, node);
		if (all && sandbox_visible(s) && (one = of_sandbox(a, s)))
			all[n++] = one;
	}
	return n;
}

const struct object_view sandbox_view = { .get = get, .list = list };
