#include "workers/metadata/object/collect.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/gc.h"
#include "workers/metadata/object/ingest.h"
#include "workers/metadata/object/snapshot.h"
#include "workers/metadata/metadata.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DELAY_NS (20 * NS_PER_SEC)
#define INGEST_LIFE_NS (24 * 3600 * NS_PER_SEC)

#define LABEL_ROOT "containerd.io/gc.root"
#define LABEL_EXPIRE "containerd.io/gc.expire"
#define LABEL_FLAT "containerd.io/gc.flat"
#define LABEL_REF "containerd.io/gc.ref."
#define SNAPSHOTTER "overlayfs"

#define KIND(name) BULKHEAD__OBJECT_KIND__OBJECT_##name

/* --- marking ---------------------------------------------------------------- */

struct marking {
	struct metadata *m;
	struct buffer todo; /* struct object *: marked, and what they need isn't yet */
	int64_t next;	    /* when something runs out by itself; 0: nothing does */
};

static void mark(struct marking *g, struct object *x, bool follow) {
	if (!x || x->marked)
		return;
	x->marked = true;
	if (follow)
		buffer_add(&g->todo, &x, sizeof(x));
}

static void mark_key(struct marking *g, Bulkhead__ObjectKind kind, const char *namespace, const char *key,
		     bool follow) {
	if (*key)
		mark(g, object_find(&g->m->objects, kind, namespace, key), follow);
}

/* What a label may say: "content", or that with a reason after a dot or slash;
 * "snapshot." and the snapshotter likewise. */
static bool says(const char *ref, const char *what) {
	size_t n = strlen(what);
	return strncmp(ref, what, n) == 0 && (ref[n] == '\0' || ref[n] == '.' || ref[n] == '/');
}

static void mark_labels(struct marking *g, const Bulkhead__Object *o) {
	for (size_t i = 0; i < o->n_labels; i++) {
		const char *key = o->labels[i]->key;
		if (strncmp(key, LABEL_REF, strlen(LABEL_REF)) != 0)
			continue;
		key += strlen(LABEL_REF);
		if (says(key, "content"))
			mark_key(g, KIND(CONTENT), o->id->namespace_, o->labels[i]->value, true);
		else if (says(key, "snapshot." SNAPSHOTTER))
			mark_key(g, KIND(SNAPSHOT), o->id->namespace_, o->labels[i]->value, true);
	}
}

/* RFC 3339, as leases have it. False: it is something else, and nothing expires. */
static bool time_parse(const char *text, int64_t *ret_ns) {
	struct tm t = { 0 };
	int zone_h = 0, zone_m = 0, n = 0;
	char sign = 'Z';
	if (sscanf(text, "%d-%d-%dT%d:%d:%d%n", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour, &t.tm_min, &t.tm_sec,
		   &n) != 6)
		return false;
	text += n;
	if (*text == '.')
		text += 1 + strspn(text + 1, "0123456789");
	if (*text != 'Z' && sscanf(text, "%c%2d:%2d", &sign, &zone_h, &zone_m) != 3)
		return false;
	t.tm_year -= 1900;
	t.tm_mon -= 1;
	int64_t zone = (zone_h * 60 + zone_m) * 60 * (sign == '-' ? -1 : 1);
	*ret_ns = ((int64_t)timegm(&t) - zone) * NS_PER_SEC;
	return true;
}

static void runs_out(struct marking *g, int64_t at) {
	if (g->next == 0 || at < g->next)
		g->next = at;
}

static bool lease_lasts(struct marking *g, const Bulkhead__Object *lease, int64_t now) {
	const char *expire = object_label(lease, LABEL_EXPIRE);
	int64_t at;
	if (!expire || !time_parse(expire, &at))
		return true;
	if (at > now)
		runs_out(g, at);
	return at > now;
}

static void mark_lease(struct marking *g, const Bulkhead__Object *lease) {
	bool follow = !object_label(lease, LABEL_FLAT);
	for (size_t i = 0; i < lease->lease->n_resources; i++) {
		const Bulkhead__LeaseResource *r = lease->lease->resources[i];
		for (int kind = 1; kind < OBJECT_KINDS; kind++) {
			const char *type = object_kind(kind)->resource;
			if (type && strcmp(type, r->type) == 0)
				mark_key(g, kind, lease->id->namespace_, r->id, follow);
		}
	}
}

/* Leases that have run out are gone, whatever becomes of what they held. */
static void mark_leases(struct marking *g) {
	int64_t now = clock_real();
	list_for_each_safe (n, &g->m->objects.lists[KIND(LEASE)]) {
		struct object *x = list_entry(n, struct object, node);
		if (lease_lasts(g, x->record, now))
			mark_lease(g, x->record);
		else if (object_drop(&g->m->objects, x) < 0)
			log_event(LOG_WARN, "a lease that has run out isn't deleted", NULL);
	}
}

static void mark_root(struct marking *g, struct object *x, int64_t now) {
	const Bulkhead__Object *o = x->record;
	switch (o->id->kind) {
	case KIND(IMAGE):
		mark_key(g, KIND(CONTENT), o->id->namespace_, o->image->target->digest, true);
		mark_labels(g, o);
		break;
	case KIND(CONTAINER):
		if (strcmp(o->container->snapshotter, SNAPSHOTTER) == 0)
			mark_key(g, KIND(SNAPSHOT), o->id->namespace_, o->container->snapshot_key, true);
		mark_labels(g, o);
		break;
	case KIND(SANDBOX):
		mark_labels(g, o);
		break;
	case KIND(INGEST):
		if (!o->ingest->leased && o->updated_at + INGEST_LIFE_NS > now) {
			mark(g, x, false);
			runs_out(g, o->updated_at + INGEST_LIFE_NS);
		}
		break;
	default:
		if (object_label(o, LABEL_ROOT))
			mark(g, x, true);
	}
}

static void mark_blob(struct marking *g, const Bulkhead__Descriptor *d) {
	if (d)
		mark_key(g, KIND(CONTENT), NAMESPACE_CRI, d->digest, true);
}

/* What clients have added to images of the CRI lives as long as these. */
static void mark_cri(struct marking *g) {
	list_for_each (n, &g->m->model.images) {
		const Bulkhead__ImageRecord *r = list_entry(n, struct image, node)->record;
		mark_blob(g, r->target);
		mark_blob(g, r->manifest);
		mark_blob(g, r->config);
		for (size_t i = 0; i < r->n_blobs; i++)
			mark_blob(g, r->blobs[i]);
	}
}

static void follow(struct marking *g) {
	for (size_t done = 0; done < g->todo.size; done += sizeof(struct object *)) {
		struct object *x;
		memcpy(&x, g->todo.data + done, sizeof(x));
		const Bulkhead__Object *o = x->record;
		if (o->id->kind == KIND(SNAPSHOT))
			mark_key(g, KIND(SNAPSHOT), o->id->namespace_, o->snapshot->parent, true);
		if (o->id->kind == KIND(IMAGE))
			mark_key(g, KIND(CONTENT), o->id->namespace_, o->image->target->digest, true);
		mark_labels(g, o);
	}
}

static void mark_all(struct marking *g) {
	int64_t now = clock_real();
	for (int kind = 1; kind < OBJECT_KINDS; kind++)
		list_for_each (n, &g->m->objects.lists[kind])
			list_entry(n, struct object, node)->marked = false;
	mark_leases(g);
	mark_cri(g);
	for (int kind = 1; kind < OBJECT_KINDS; kind++)
		list_for_each (n, &g->m->objects.lists[kind])
			mark_root(g, list_entry(n, struct object, node), now);
	follow(g);
}

/* --- sweeping --------------------------------------------------------------- */

/* Blobs whose records are deleted, once that is committed: a crash must not
 * leave a record of what isn't there. */
struct sweep {
	struct metadata *m;
	struct arena arena;
	char **digests;
	size_t n_digests;
	struct store_waiter commit;
	void (*fn)(void *ctx);
	void *ctx;
};

static struct sweep *sweep_new(struct metadata *m, void (*fn)(void *ctx), void *ctx) {
	struct sweep *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	*s = (struct sweep){ .m = m, .fn = fn, .ctx = ctx };
	arena_init(&s->arena, 0);
	return s;
}

static void sweep_free(struct sweep *s) {
	arena_deinit(&s->arena);
	free(s);
}

static void sweep_layers(void *ctx) {
	struct sweep *s = ctx;
	gc_layers(s->m, s->fn, s->ctx);
	sweep_free(s);
}

/* Should it not be committed: the next start compares blobs and records. */
static void sweep_committed(void *ctx, int result) {
	struct sweep *s = ctx;
	gc_blobs(s->m, s->digests, result < 0 ? 0 : s->n_digests, sweep_layers, s);
}

static void sweep_end(struct sweep *s) {
	s->commit = (struct store_waiter){ .fn = sweep_committed, .ctx = s };
	store_wait(s->m->store, STORE_IMAGES, &s->commit);
}

void collect_blob(struct metadata *m, const char *digest) {
	struct sweep *s = sweep_new(m, NULL, NULL);
	char *copy = s ? arena_strdup(&s->arena, digest) : NULL;
	if (copy && (s->digests = arena_alloc(&s->arena, sizeof(*s->digests))))
		s->digests[s->n_digests++] = copy;
	if (s)
		sweep_end(s);
}

static void drop(struct metadata *m, struct object *x) {
	char text[OBJECT_TEXT_MAX];
	object_text(x->record->id, text);
	if (object_drop(&m->objects, x) < 0)
		log_event(LOG_WARN, "garbage not removed", "object", text, NULL);
}

static void sweep_content(struct metadata *m, struct sweep *s) {
	struct list *list = &m->objects.lists[KIND(CONTENT)];
	size_t n_all = 0;
	list_for_each (n, list)
		n_all++;
	s->digests = arena_alloc(&s->arena, (n_all + 1) * sizeof(*s->digests));
	list_for_each_safe (n, list) {
		struct object *x = list_entry(n, struct object, node);
		char *digest = x->marked || !s->digests ? NULL : arena_strdup(&s->arena, x->record->id->key);
		if (!digest)
			continue;
		s->digests[s->n_digests++] = digest;
		drop(m, x);
	}
}

static void sweep_ingests(struct metadata *m) {
	list_for_each_safe (n, &m->objects.lists[KIND(INGEST)]) {
		struct object *x = list_entry(n, struct object, node);
		if (!x->marked)
			ingest_drop(m, x);
	}
}

/* Its layer isn't kept for a next pull: nobody wants it. */
static void layer_let_go(struct metadata *m, const Bulkhead__SnapshotBody *b) {
	struct layer *l = model_find_layer(&m->model, b->disk);
	if (l)
		l->lease_until = 0;
}

/* Those that others are made on go after them: the list is by age. */
static void sweep_snapshots(struct metadata *m) {
	bool again = true;
	while (again) {
		again = false;
		list_for_each_safe (n, &m->objects.lists[KIND(SNAPSHOT)]) {
			struct object *x = list_entry(n, struct object, node);
			struct fault fault;
			if (x->marked || x->op || snapshot_may_delete(m, x, &fault) < 0)
				continue;
			layer_let_go(m, x->record->snapshot);
			if (snapshot_remove_object(m, x) < 0) {
				log_event(LOG_WARN, "garbage not removed", "object", x->record->id->key, NULL);
				x->marked = true;
			}
			again = true;
		}
	}
}

static void on_collect_timer(void *ctx) {
	struct metadata *m = ctx;
	loop_source_free_p(&m->collect_timer);
	collect(m, NULL, NULL);
}

static void collect_at(struct metadata *m, int64_t at) {
	if (m->collect_timer && m->collect_at <= at)
		return;
	loop_source_free_p(&m->collect_timer);
	m->collect_at = at;
	if (loop_timer(m->loop, at, on_collect_timer, m, &m->collect_timer) < 0)
		m->collect_timer = NULL; /* the next change tries again */
}

void collect_later(struct metadata *m) {
	collect_at(m, clock_mono() + DELAY_NS);
}

void collect(struct metadata *m, void (*fn)(void *ctx), void *ctx) {
	struct marking g = { .m = m };
	struct sweep *s = sweep_new(m, fn, ctx);
	if (!s) {
		if (fn)
			fn(ctx);
		return;
	}
	mark_all(&g);
	if (g.todo.failed) {
		log_event(LOG_WARN, "no memory to look for garbage", NULL);
		collect_later(m);
	} else {
		sweep_content(m, s);
		sweep_ingests(m);
		sweep_snapshots(m);
		if (g.next)
			collect_at(m, clock_mono() + MAX(g.next - clock_real(), 0) + NS_PER_SEC);
	}
	buffer_deinit(&g.todo);
	sweep_end(s);
}

/* --- blobs ------------------------------------------------------------------ */

bool objects_have_blob(const struct metadata *m, const char *digest) {
	list_for_each (n, &m->objects.lists[KIND(NAMESPACE)])
		if (object_find(&m->objects, KIND(CONTENT), list_entry(n, struct object, node)->record->id->key,
				digest))
			return true;
	return false;
}

bool objects_expect_blob(const struct metadata *m, const char *digest) {
	list_for_each (n, &m->objects.lists[KIND(INGEST)])
		if (strcmp(list_entry(n, struct object, node)->record->ingest->expected, digest) == 0)
			return true;
	return false;
}
