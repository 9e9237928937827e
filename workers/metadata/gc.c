#include "workers/metadata/gc.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/ctask/restore.h"
#include "workers/metadata/image.h"
#include "workers/metadata/lifecycle.h"
#include "workers/metadata/object/collect.h"
#include "workers/metadata/object/snapshot.h"
#include "workers/metadata/pull.h"
#include "workers/metadata/sweep.h"

#include <stdio.h>
#include <string.h>

#define LATER_NS (2 * NS_PER_SEC)
#define CONTENT_RETRY_NS (60 * NS_PER_SEC)

/* Counts answers; the last one frees it. */
struct collection {
	struct metadata *m;
	unsigned open;
	void (*fn)(void *ctx);
	void *ctx;
};

static void collection_close(struct collection *c) {
	if (--c->open > 0)
		return;
	if (c->fn)
		c->fn(c->ctx);
	free(c);
}

static void removed(void *ctx, const struct msg_answer *answer) {
	if (answer->fault && answer->fault->code != FAULT_NOT_FOUND)
		log_event(LOG_WARN, "garbage not removed", "error", answer->fault->text, NULL);
	collection_close(ctx);
}

static struct collection *collection_new(struct metadata *m, void (*fn)(void *ctx), void *ctx) {
	struct collection *c = calloc(1, sizeof(*c));
	if (!c) {
		if (fn)
			fn(ctx);
		return NULL;
	}
	*c = (struct collection){ .m = m, .open = 1, .fn = fn, .ctx = ctx };
	return c;
}

/* --- layers ----------------------------------------------------------------- */

static void mark(struct metadata *m, char *const *chain_ids, size_t n) {
	for (size_t i = 0; i < n; i++) {
		struct layer *l = model_find_layer(&m->model, chain_ids[i]);
		if (l)
			l->marked = true;
	}
}

static void mark_container(struct metadata *m, const struct container *c) {
	const Bulkhead__ContainerRecord *r = c->record;
	mark(m, r->layers, r->n_layers);
	for (size_t i = 0; i < r->n_volumes; i++)
		mark(m, r->volumes[i]->layers, r->volumes[i]->n_layers);
	if (r->restore)
		mark(m, &r->restore->layer, 1);
}

static void mark_all(struct metadata *m) {
	int64_t now = clock_mono(), next = 0;
	list_for_each (n, &m->model.layers) {
		struct layer *l = list_entry(n, struct layer, node);
		l->marked = l->lease_until > now;
		if (l->marked)
			next = MAX(next, l->lease_until);
	}
	list_for_each (n, &m->model.images) {
		const struct image *i = list_entry(n, struct image, node);
		mark(m, i->record->layers, i->record->n_layers);
	}
	list_for_each (n, &m->model.containers)
		mark_container(m, list_entry(n, struct container, node));
	list_for_each (n, &m->model.dying)
		mark_container(m, list_entry(n, struct container, node));
	snapshots_each_layer(m, mark);
	ctask_restores_each_layer(m, mark);
	pulls_mark_layers(m);
}

static void layer_collect(struct collection *c, struct layer *l) {
	char key[IMAGE_KEY_SIZE];
	Bulkhead__Key q = BULKHEAD__KEY__INIT;
	layer_key(l->record->chain_id, key);
	if (store_delete(c->m->store, STORE_IMAGES, key) < 0)
		return;
	q.id = l->record->chain_id;
	c->open++;
	layer_remove_send(c->m->snapshot, NULL, &q, NULL, 0, removed, c);
	model_free_layer(&c->m->model, l);
}

void gc_layers(struct metadata *m, void (*fn)(void *ctx), void *ctx) {
	struct collection *c = collection_new(m, fn, ctx);
	if (!c)
		return;
	mark_all(m);
	list_for_each_safe (n, &m->model.layers) {
		struct layer *l = list_entry(n, struct layer, node);
		if (!l->marked)
			layer_collect(c, l);
	}
	collection_close(c);
}

static void on_gc_timer(void *ctx) {
	struct metadata *m = ctx;
	loop_source_free(m->gc_timer);
	m->gc_timer = NULL;
	gc_layers(m, NULL, NULL);
	int64_t now = clock_mono();
	if (m->gc_content_at && m->gc_content_at <= now) {
		m->gc_content_at = 0;
		gc_content(m);
	}
	/* Leases run out with nobody there to notice. */
	int64_t until = m->gc_content_at;
	list_for_each (n, &m->model.layers) {
		struct layer *l = list_entry(n, struct layer, node);
		if (l->lease_until > now)
			until = MAX(until, l->lease_until);
	}
	if (until && loop_timer(m->loop, until + LATER_NS, on_gc_timer, m, &m->gc_timer) < 0)
		m->gc_timer = NULL;
}

void gc_later(struct metadata *m) {
	loop_source_free(m->gc_timer);
	m->gc_timer = NULL;
	if (loop_timer(m->loop, clock_mono() + LATER_NS, on_gc_timer, m, &m->gc_timer) < 0)
		m->gc_timer = NULL;
}

/* --- blobs ------------------------------------------------------------------ */

static bool image_needs_blob(const struct image *i, const char *digest) {
	const Bulkhead__ImageRecord *r = i->record;
	const Bulkhead__Descriptor *three[] = { r->target, r->manifest, r->config };
	for (size_t k = 0; k < ARRAY_SIZE(three); k++)
		if (three[k] && strcmp(three[k]->digest, digest) == 0)
			return true;
	for (size_t k = 0; k < r->n_blobs; k++)
		if (strcmp(r->blobs[k]->digest, digest) == 0)
			return true;
	return false;
}

bool gc_blob_owned(struct metadata *m, const char *digest) {
	list_for_each (n, &m->model.images)
		if (image_needs_blob(list_entry(n, struct image, node), digest))
			return true;
	return objects_have_blob(m, digest);
}

static bool blob_needed(struct metadata *m, const char *digest) {
	return gc_blob_owned(m, digest) || pulls_need_blob(m, digest) || objects_expect_blob(m, digest);
}

void gc_blobs(struct metadata *m, char *const *digests, size_t n, void (*fn)(void *ctx), void *ctx) {
	struct collection *c = collection_new(m, fn, ctx);
	Bulkhead__KeyList q = BULKHEAD__KEY_LIST__INIT;
	if (!c)
		return;
	q.ids = calloc(n + 1, sizeof(*q.ids));
	for (size_t i = 0; q.ids && i < n && m->commits == 0; i++)
		if (!blob_needed(m, digests[i]))
			q.ids[q.n_ids++] = digests[i];
	if (n > 0 && m->commits > 0) {
		m->gc_content_at = clock_mono() + CONTENT_RETRY_NS;
		gc_later(m);
	}
	if (q.n_ids) {
		c->open++;
		content_remove_send(m->image, NULL, &q, NULL, 0, removed, c);
	}
	free(q.ids);
	collection_close(c);
}

static void content_listed(void *ctx, const struct msg_answer *answer) {
	struct metadata *m = ctx;
	if (answer->fault) {
		log_event(LOG_WARN, "content not compared", "error", answer->fault->text, NULL);
		return;
	}
	/* A pull that isn't resolved yet has blobs that nobody can name, and so
	 * may a commit. */
	if (!list_empty(&m->pulls) || m->commits > 0) {
		m->gc_content_at = clock_mono() + CONTENT_RETRY_NS;
		gc_later(m);
		return;
	}
	const Bulkhead__ContentListReply *l = content_list_answer(answer);
	char **digests = calloc(l->n_blobs + 1, sizeof(*digests));
	for (size_t i = 0; digests && i < l->n_blobs; i++)
		digests[i] = l->blobs[i]->digest;
	if (digests)
		gc_blobs(m, digests, l->n_blobs, NULL, NULL);
	free(digests);
}

void gc_content(struct metadata *m) {
	Bulkhead__Empty q = BULKHEAD__EMPTY__INIT;
	content_list_send(m->image, NULL, &q, NULL, 0, content_listed, m);
}

/* --- what lies on disk ------------------------------------------------------ */

static bool names(char *const *list, size_t n, const char *id) {
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], id) == 0)
			return true;
	return false;
}

static void image_break(struct metadata *m, const struct layer *l) {
	list_for_each (n, &m->model.images) {
		struct image *i = list_entry(n, struct image, node);
		if (i->broken || !names(i->record->layers, i->record->n_layers, l->record->chain_id))
			continue;
		i->broken = true;
		log_event(LOG_ERROR, "image is incomplete: pull it again", "image", i->record->id, "missing_layer",
			  l->record->chain_id, NULL);
	}
}

static void snapshots_listed(void *ctx, const struct msg_answer *answer) {
	struct metadata *m = ctx;
	struct collection *c = answer->fault ? NULL : collection_new(m, NULL, NULL);
	if (!c) {
		log_event(LOG_WARN, "snapshots not compared", "error", answer->fault ? answer->fault->text : "", NULL);
		return;
	}
	const Bulkhead__SnapshotListReply *a = snapshot_list_answer(answer);
	for (size_t i = 0; i < a->n_snapshots; i++) {
		bool dying = false;
		list_for_each (n, &m->model.dying)
			dying = dying ||
				strcmp(list_entry(n, struct container, node)->record->id, a->snapshots[i]) == 0;
		if (!dying && !map_find(&m->model.container_ids, a->snapshots[i]) &&
		    !snapshot_by_disk(m, a->snapshots[i]))
			sweep_snapshot(m, a->snapshots[i]);
	}
	for (size_t i = 0; i < a->n_layers; i++) {
		Bulkhead__Key q = BULKHEAD__KEY__INIT;
		if (model_find_layer(&m->model, a->layers[i]) || layer_job_find(m, a->layers[i]) ||
		    snapshot_seals(m, a->layers[i]))
			continue;
		q.id = a->layers[i];
		c->open++;
		layer_remove_send(m->snapshot, NULL, &q, NULL, 0, removed, c);
	}
	list_for_each_safe (n, &m->model.layers) {
		struct layer *l = list_entry(n, struct layer, node);
		char key[IMAGE_KEY_SIZE];
		if (names(a->layers, a->n_layers, l->record->chain_id))
			continue;
		image_break(m, l);
		layer_key(l->record->chain_id, key);
		if (store_delete(m->store, STORE_IMAGES, key) == 0)
			model_free_layer(&m->model, l);
	}
	snapshots_compare(m, a);
	collection_close(c);
	gc_layers(m, NULL, NULL);
}

void gc_snapshots(struct metadata *m) {
	Bulkhead__Empty q = BULKHEAD__EMPTY__INIT;
	snapshot_list_send(m->snapshot, NULL, &q, NULL, 0, snapshots_listed, m);
}
