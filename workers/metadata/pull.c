/*
 * One pull, step by step. It fails as a whole and keeps what it committed; when
 * the image or the snapshot worker is replaced meanwhile it begins again, and
 * what is there already isn't fetched twice.
 */
#include "workers/metadata/pull_private.h"

#include "base/clock.h"
#include "workers/metadata/gc.h"
#include "workers/metadata/image.h"
#include "workers/metadata/object/image_news.h"
#include "workers/metadata/object/object.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LAYERS_MAX 512
#define PULL_ATTEMPTS 3
#define RETRY_NS (200 * NS_PER_MS)

enum pull_step { STEP_RESOLVE, STEP_LAYERS, STEP_RECORD };

struct metadata *pull_metadata(struct pull *p) {
	return p->op.m;
}

struct msg_context pull_context(struct pull *p) {
	return op_context(&p->op, 0);
}

struct pull *pull_of(struct op *op) {
	return container_of(op, struct pull, op);
}

/* --- the session with the image worker -------------------------------------- */

void pull_session_end(struct pull *p) {
	Bulkhead__ImageReleaseRequest q = BULKHEAD__IMAGE_RELEASE_REQUEST__INIT;
	if (!p->id)
		return;
	q.pull_id = p->id;
	image_release_send(p->op.m->image, NULL, &q, NULL, 0, NULL, NULL);
	p->id = 0;
}

/* Back to before anything was resolved. */
static void pull_reset(struct pull *p) {
	size_t n = p->resolved && p->layers ? p->resolved->n_layers : 0;
	for (size_t i = 0; i < n; i++) {
		struct pull_layer *l = &p->layers[i];
		if (l->waiting)
			list_unlink(&l->waiter.node);
		l->waiting = false;
		if (l->job)
			layer_job_abandon(take_ptr(l->job));
	}
	pull_session_end(p);
	arena_deinit(&p->resolved_arena);
	arena_init(&p->resolved_arena, 0);
	p->resolved = NULL;
	p->layers = NULL;
}

/* A worker went away in the middle: from the start, what is there stays. */
static void pull_failed(struct pull *p, const struct fault *fault) {
	struct fault f = *fault;
	if (f.code == FAULT_UNAVAILABLE && p->losses != p->op.m->losses && ++p->attempts < PULL_ATTEMPTS) {
		pull_reset(p);
		op_again(&p->op, STEP_RESOLVE, RETRY_NS);
		return;
	}
	op_fail_with(&p->op, &f);
}

/* --- resolve ---------------------------------------------------------------- */

static bool descriptor_valid(const Bulkhead__Descriptor *d) {
	return d && digest_valid(d->digest);
}

static int check_resolved(const struct pull *p, const Bulkhead__ImageResolveReply *a, struct fault *fault) {
	bool good = descriptor_valid(a->target) && descriptor_valid(a->manifest) && descriptor_valid(a->config) &&
		    a->image_config && a->n_layers <= LAYERS_MAX;
	for (size_t i = 0; good && i < a->n_layers; i++)
		good = descriptor_valid(a->layers[i]->blob) && digest_valid(a->layers[i]->diff_id);
	if (!good)
		return fault_set(fault, FAULT_DATA_LOSS, "the image's manifest is malformed");
	if (p->ref.digest[0] && strcmp(p->ref.digest, a->target->digest) != 0)
		return fault_set(fault, FAULT_DATA_LOSS, "the registry gave %s for it", a->target->digest);
	return 0;
}

/* A client makes images of what its namespace has, and learns nothing of what others have. */
static int check_content(struct pull *p, const Bulkhead__Descriptor *d, struct fault *fault) {
	Bulkhead__ObjectKey id =
	    object_key_of(BULKHEAD__OBJECT_KIND__OBJECT_CONTENT, p->into->image->id->namespace_, d->digest);
	if (object_look(p->op.m, &p->resolved_arena, &id))
		return 0;
	return fault_set(fault, FAULT_NOT_FOUND, "it needs blob %s, which namespace \"%.64s\" doesn't have", d->digest,
			 id.namespace_);
}

static int check_local(struct pull *p, const Bulkhead__ImageResolveReply *a, struct fault *fault) {
	const Bulkhead__Descriptor *documents[] = { a->target, a->manifest, a->config };
	int r = 0;
	if (!p->into || !p->local)
		return 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(documents); i++)
		r = check_content(p, documents[i], fault);
	for (size_t i = 0; r == 0 && i < a->n_layers; i++)
		r = check_content(p, a->layers[i]->blob, fault);
	return r;
}

/* ChainID of the OCI image specification: the first is the diffID itself. */
static void chain_ids(struct pull *p) {
	char text[2 * DIGEST_SIZE];
	for (size_t i = 0; i < p->resolved->n_layers; i++) {
		struct pull_layer *l = &p->layers[i];
		const char *diff = p->resolved->layers[i]->diff_id;
		l->pull = p;
		l->total = p->resolved->layers[i]->blob->size;
		if (i == 0) {
			snprintf(l->chain_id, sizeof(l->chain_id), "%s", diff);
			continue;
		}
		int n = snprintf(text, sizeof(text), "%s %s", p->layers[i - 1].chain_id, diff);
		sha256_digest(text, (size_t)n, l->chain_id);
	}
}

static void resolve_done(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	struct pull *p = pull_of(op);
	struct fault fault;
	if (answer->fault) {
		pull_failed(p, answer->fault);
		return;
	}
	const Bulkhead__ImageResolveReply *a = image_resolve_answer(answer);
	if (check_resolved(p, a, &fault) < 0 || check_local(p, a, &fault) < 0) {
		op_fail_with(op, &fault);
		return;
	}
	p->resolved = message_copy(&p->resolved_arena, &a->base);
	p->layers = arena_zalloc(&p->resolved_arena, (a->n_layers + 1) * sizeof(*p->layers));
	if (!p->resolved || !p->layers) {
		p->resolved = NULL;
		fault_errno(&op->fault, ENOMEM, "keep the manifest");
		op_fail(op);
		return;
	}
	chain_ids(p);
	op_next(op);
}

static void pull_resolve(struct op *op) {
	struct pull *p = pull_of(op);
	Bulkhead__ImageResolveRequest q = BULKHEAD__IMAGE_RESOLVE_REQUEST__INIT;
	p->id = ++op->m->pull_id;
	p->losses = op->m->losses;
	q.pull_id = p->id;
	q.reference = p->name;
	q.credentials = &p->credentials;
	q.local = p->local;
	if (p->into) {
		q.plain_http = p->into->plain_http;
		q.platform = p->into->platform;
		q.entry = p->into->entry;
	}
	struct msg_context c = op_context(op, 0);
	image_resolve_send(op->m->image, &c, &q, NULL, 0, resolve_done, op);
}

/* Whether the same pull may do better soon, without anybody doing something. */
static bool worth_another_try(enum fault_code code) {
	return code == FAULT_UNAVAILABLE || code == FAULT_DEADLINE_EXCEEDED || code == FAULT_CANCELLED ||
	       code == FAULT_ABORTED;
}

/* What it committed is kept for the next try, then collected; at once when it
 * is of no use, and when the disk is full. */
static void pull_undo(struct op *op) {
	struct pull *p = pull_of(op);
	bool keep = worth_another_try(op->fault.code);
	size_t n = p->resolved && p->layers && !keep ? p->resolved->n_layers : 0;
	for (size_t i = 0; i < n; i++) {
		struct layer *l = model_find_layer(&op->m->model, p->layers[i].chain_id);
		if (l)
			l->lease_until = 0;
	}
	pull_reset(p);
	op->m->gc_content_at = clock_mono() + (keep ? GC_LEASE_NS : 0);
	gc_later(op->m);
}

/* --- layers ----------------------------------------------------------------- */

static void layer_fault(struct pull *p, size_t i, const struct fault *fault) {
	struct fault f = *fault;
	fault_prefix(&f, 0, "layer %s", p->resolved->layers[i]->blob->digest);
	pull_failed(p, &f);
}

static void waited(void *ctx, const struct fault *fault) {
	struct pull_layer *l = ctx;
	/* When the other pull failed this one tries by itself. */
	l->waiting = false;
	l->fetched = !fault;
	pull_advance(l->pull);
}

static void layer_wait(struct pull_layer *l, struct layer_job *j) {
	l->waiting = true;
	l->waiter = (struct layer_waiter){ .fn = waited, .ctx = l };
	list_append(&j->waiters, &l->waiter.node);
}

static char **parents_of(struct pull *p, size_t n) {
	char **v = arena_alloc(&p->resolved_arena, (n + 1) * sizeof(char *));
	for (size_t i = 0; v && i < n; i++)
		v[i] = p->layers[i].chain_id;
	return v;
}

/* A layer may have outlived its blob: with a container, or a client's snapshot. */
static bool blob_is_here(struct pull *p, size_t i) {
	return p->layers[i].fetched || gc_blob_owned(p->op.m, p->resolved->layers[i]->blob->digest);
}

/* One look at one layer. False: the pull has ended by it. */
static bool layer_advance(struct pull *p, size_t i, bool below_done, unsigned *running) {
	struct pull_layer *l = &p->layers[i];
	struct metadata *m = p->op.m;
	struct fault fault;
	if (!l->job && model_find_layer(&m->model, l->chain_id) && blob_is_here(p, i)) {
		l->done = true;
		return true;
	}
	if (l->job) {
		char **parents = below_done && layer_job_ready(l->job) ? parents_of(p, i) : NULL;
		if (parents)
			layer_job_commit(l->job, parents, i);
		*running += l->job->open > 0;
		return true;
	}
	struct layer_job *other = l->waiting ? NULL : layer_job_find(m, l->chain_id);
	if (other)
		layer_wait(l, other);
	if (l->waiting)
		return true;
	if (*running >= MAX(m->config->max_concurrent_downloads, 1u))
		return true;
	const Bulkhead__ImageResolveReply__Layer *r = p->resolved->layers[i];
	if (layer_job_start(p, p->id, l->chain_id, r->diff_id, r->blob, &l->job, &fault) < 0) {
		layer_fault(p, i, &fault);
		return false;
	}
	(*running)++;
	return true;
}

void pull_advance(struct pull *p) {
	unsigned running = 0;
	bool all = true;
	if (p->op.step != STEP_LAYERS || !p->resolved || p->advancing)
		return;
	p->advancing = true;
	/* Those that run count before any new one starts. */
	for (size_t i = 0; i < p->resolved->n_layers; i++)
		running += p->layers[i].job && p->layers[i].job->open > 0;
	for (size_t i = 0; i < p->resolved->n_layers; i++) {
		unsigned before = running;
		bool had = p->layers[i].job != NULL;
		if (!layer_advance(p, i, all, &running))
			return;
		if (had)
			running = before; /* it was counted above */
		all = all && p->layers[i].done;
	}
	p->advancing = false;
	if (all)
		op_next(&p->op);
}

void pull_job_ended(struct pull *p, struct layer_job *j, const struct fault *fault) {
	for (size_t i = 0; i < p->resolved->n_layers; i++) {
		if (p->layers[i].job != j)
			continue;
		p->layers[i].job = NULL;
		p->layers[i].fetched = !fault;
		if (fault) {
			layer_fault(p, i, fault);
			return;
		}
	}
	pull_advance(p);
}

static void pull_layers(struct op *op) {
	struct pull *p = pull_of(op);
	p->advancing = false;
	pull_advance(p);
}

/* --- records ---------------------------------------------------------------- */

static int add_name(struct arena *a, char ***list, size_t *n, const char *name) {
	char **longer = arena_alloc(a, (*n + 1) * sizeof(char *));
	for (size_t i = 0; i < *n; i++)
		if (strcmp((*list)[i], name) == 0)
			return 0;
	if (!longer)
		return -ENOMEM;
	if (*n)
		memcpy(longer, *list, *n * sizeof(char *));
	longer[*n] = (char *)(uintptr_t)name;
	*list = longer;
	(*n)++;
	return 0;
}

static int make_record(struct pull *p, Bulkhead__ImageRecord *r) {
	const Bulkhead__ImageResolveReply *a = p->resolved;
	struct arena *arena = &p->resolved_arena;
	struct map_node *n = p->objects ? NULL : map_find(&p->op.m->model.image_ids, a->config->digest);
	/* Names that the same image has already stay. */
	if (n)
		*r = *container_of(n, struct image, by_id)->record;
	r->id = a->config->digest;
	r->id_unnamed = false;
	r->target = a->target;
	r->manifest = a->manifest;
	r->config = a->config;
	r->image_config = a->image_config;
	r->place = a->place;
	r->pulled_at = clock_real();
	r->n_blobs = r->n_layers = a->n_layers;
	r->blobs = arena_alloc(arena, (a->n_layers + 1) * sizeof(*r->blobs));
	r->layers = arena_alloc(arena, (a->n_layers + 1) * sizeof(*r->layers));
	char *digest = arena_printf(arena, "%s@%s", p->ref.repository, a->target->digest);
	if (!r->blobs || !r->layers || !digest)
		return -ENOMEM;
	for (size_t i = 0; i < a->n_layers; i++) {
		r->blobs[i] = a->layers[i]->blob;
		r->layers[i] = p->layers[i].chain_id;
	}
	int e = p->ref.digest[0] ? 0 : add_name(arena, &r->names, &r->n_names, p->name);
	/* No registry has said that it has it. */
	return e < 0 || (p->local && !p->ref.digest[0]) ? e : add_name(arena, &r->digests, &r->n_digests, digest);
}

/* Pulled before, and nothing has changed since. */
static bool known(struct pull *p) {
	struct map_node *n = map_find(&p->op.m->model.image_ids, p->resolved->config->digest);
	struct map_node *named = map_find(&p->op.m->model.image_names, p->name);
	if (!n || !named)
		return false;
	const struct image *i = container_of(n, struct image, by_id);
	return container_of(named, struct image_name, node)->image == i && !i->broken && !i->record->id_unnamed &&
	       strcmp(i->record->target->digest, p->resolved->target->digest) == 0;
}

static int layers_save(struct pull *p, const Bulkhead__ImageRecord *r) {
	int e = 0;
	for (size_t k = 0; e == 0 && k < r->n_layers; k++)
		e = layer_save(p->op.m, model_find_layer(&p->op.m->model, r->layers[k]));
	return e;
}

/* For a namespace, which has objects where the CRI has one record. */
static void objects_record(struct op *op) {
	struct pull *p = pull_of(op);
	Bulkhead__ImageRecord r = BULKHEAD__IMAGE_RECORD__INIT;
	int e = make_record(p, &r);
	if (e == 0)
		e = layers_save(p, &r);
	if (e == 0)
		e = pull_keep_objects(p, &r);
	if (e < 0)
		op_fail_store(op, e);
	else
		op_commit(op, STORE_IMAGES);
}

static void pull_record(struct op *op) {
	struct pull *p = pull_of(op);
	if (p->objects) {
		objects_record(op);
		return;
	}
	struct object *plain =
	    object_find(&op->m->objects, BULKHEAD__OBJECT_KIND__OBJECT_IMAGE, NAMESPACE_CRI, p->name);
	/* A client's, which the CRI couldn't run: the name is of something else now. */
	if (plain && (!p->local || p->into) && object_drop(&op->m->objects, plain) < 0) {
		op_fail_store(op, -ENOMEM);
		return;
	}
	if (known(p)) {
		op_next(op);
		return;
	}
	Bulkhead__ImageRecord r = BULKHEAD__IMAGE_RECORD__INIT;
	struct image *robbed[8];
	size_t n_robbed = 0;
	int e = make_record(p, &r);
	const struct image_news *news = e < 0 ? NULL : image_news_of(op->m, &p->resolved_arena, &r);
	struct image *i = e < 0 ? NULL : model_put_image(&op->m->model, &r, robbed, ARRAY_SIZE(robbed), &n_robbed);
	if (!i) {
		fault_errno(&op->fault, e < 0 ? e : errno, "keep the record");
		op_fail(op);
		return;
	}
	e = image_save(op->m, i);
	for (size_t k = 0; e == 0 && k < n_robbed; k++)
		e = image_save(op->m, robbed[k]);
	if (e == 0)
		e = layers_save(p, i->record);
	if (e < 0) {
		op_fail_store(op, e);
		return;
	}
	index_later(op->m);
	image_news_tell(op->m, news);
	op_commit(op, STORE_IMAGES);
}

const struct op_step pull_steps[] = {
	[STEP_RESOLVE] = { .name = "resolve", .run = pull_resolve, .undo = pull_undo },
	[STEP_LAYERS] = { .name = "layers", .run = pull_layers },
	[STEP_RECORD] = { .name = "record", .run = pull_record },
	{ .name = NULL },
};

/* --- for garbage collection ------------------------------------------------- */

void pulls_mark_layers(struct metadata *m) {
	list_for_each (n, &m->pulls) {
		struct pull *p = list_entry(n, struct pull, node);
		for (size_t i = 0; p->resolved && p->layers && i < p->resolved->n_layers; i++) {
			struct layer *l = model_find_layer(&m->model, p->layers[i].chain_id);
			if (l)
				l->marked = true;
		}
	}
}

bool pulls_need_blob(struct metadata *m, const char *digest) {
	list_for_each (n, &m->pulls) {
		const Bulkhead__ImageResolveReply *a = list_entry(n, struct pull, node)->resolved;
		if (!a)
			continue;
		if (strcmp(a->target->digest, digest) == 0 || strcmp(a->manifest->digest, digest) == 0 ||
		    strcmp(a->config->digest, digest) == 0)
			return true;
		for (size_t i = 0; i < a->n_layers; i++)
			if (strcmp(a->layers[i]->blob->digest, digest) == 0)
				return true;
	}
	return false;
}
