#include "push_plan.h"

#include "manifest.h"

#include "base/buffer.h"
#include "base/fd.h"

#include <errno.h>
#include <string.h>

#define ITEMS_MAX 4096
#define INDEX_DEPTH 3

struct planning {
	struct content *content;
	struct arena *arena;
	struct push_plan *plan;
	struct fault *fault;
};

static int document_add(struct planning *g, const Bulkhead__Descriptor *d, unsigned depth);

static bool planned(const struct push_plan *plan, const char *digest) {
	for (size_t i = 0; i < plan->n; i++)
		if (strcmp(plan->items[i].event.blob->digest, digest) == 0)
			return true;
	return false;
}

static int item_add(struct planning *g, const char *media_type, const char *digest, uint64_t size, bool document) {
	Bulkhead__Descriptor *blob = arena_alloc(g->arena, sizeof(*blob));
	if (!blob)
		return fault_errno(g->fault, ENOMEM, "push");
	if (g->plan->n == ITEMS_MAX)
		return fault_set(g->fault, FAULT_INVALID_ARGUMENT, "it is made of more than %d blobs", ITEMS_MAX);
	bulkhead__descriptor__init(blob);
	blob->media_type = arena_strdup(g->arena, media_type);
	blob->digest = arena_strdup(g->arena, digest);
	blob->size = size;
	if (!blob->media_type || !blob->digest)
		return fault_errno(g->fault, ENOMEM, "push");
	struct push_item *i = &g->plan->items[g->plan->n++];
	bulkhead__push_event__blob__init(&i->event);
	i->event.blob = blob;
	i->document = document;
	return 0;
}

static int blob_add(struct planning *g, const Bulkhead__Descriptor *d) {
	CLEANUP_FD int fd = -1;
	if (planned(g->plan, d->digest))
		return 0;
	if (content_blob_open(g->content, d->digest, d->size, &fd) < 0)
		return fault_set(g->fault, FAULT_NOT_FOUND, "its blob %s isn't here", d->digest);
	return item_add(g, d->media_type, d->digest, d->size, false);
}

static int image_add(struct planning *g, const struct manifest *m) {
	int r = blob_add(g, m->config);
	for (size_t i = 0; r == 0 && i < m->n_layers; i++)
		r = blob_add(g, m->layers[i]);
	return r;
}

static int index_add(struct planning *g, const struct manifest *m, unsigned depth) {
	int r = 0;
	if (depth == INDEX_DEPTH)
		return fault_set(g->fault, FAULT_INVALID_ARGUMENT, "indexes are nested more than %d deep", INDEX_DEPTH);
	for (size_t i = 0; r == 0 && i < m->n_entries; i++)
		r = document_add(g, &m->entries[i].blob, depth + 1);
	return r;
}

static int document_add(struct planning *g, const Bulkhead__Descriptor *d, unsigned depth) {
	CLEANUP_BUFFER struct buffer data = { 0 };
	struct manifest m;
	if (planned(g->plan, d->digest))
		return 0;
	if (content_blob_read(g->content, d->digest, MANIFEST_MAX, &data) < 0)
		return fault_set(g->fault, FAULT_NOT_FOUND,
				 "its document %s isn't here: a pull brings those of one platform alone", d->digest);
	int r = manifest_parse(data.data, data.size, d->media_type, g->arena, &m, g->fault);
	if (r == 0)
		r = m.kind == MANIFEST_INDEX ? index_add(g, &m, depth) : image_add(g, &m);
	return r < 0 ? r : item_add(g, m.media_type, d->digest, data.size, true);
}

int push_plan_make(struct content *c, struct arena *a, const Bulkhead__Descriptor *target, struct push_plan *ret_plan,
		   struct fault *fault) {
	struct push_plan plan = { .items = arena_alloc(a, ITEMS_MAX * sizeof(*plan.items)) };
	struct planning g = { .content = c, .arena = a, .plan = &plan, .fault = fault };
	if (!plan.items)
		return fault_errno(fault, ENOMEM, "push");
	int r = document_add(&g, target, 0);
	if (r == 0)
		*ret_plan = plan;
	return r;
}
