#include "workers/metadata/restore.h"

#include "base/fd.h"
#include "base/sha256.h"
#include "workers/metadata/layer_make.h"
#include "workers/metadata/made.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DIFF_NAME "rootfs-diff.tar"

struct restore {
	struct metadata *m;
	struct msg_request *request; /* whose arena holds this */
	const Runtime__V1__CreateContainerRequest *q;
	char *sandbox_id;
	restore_done_fn done;
	struct msg_call *call;
	int file; /* to be read next; -1 */
	struct restore_source source;
	char archive[DIGEST_SIZE], diff[DIGEST_SIZE], chain[DIGEST_SIZE];
	struct layer_making layer; /* that is being made */
	void (*layer_done)(struct restore *x);
};

bool restore_wanted(const Runtime__V1__ContainerConfig *config) {
	return config->image->image[0] == '/';
}

void restore_taken(struct metadata *m, const struct restore_source *source) {
	const char *ids[] = { source->layer, source->diff };
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct layer *l = model_find_layer(&m->model, ids[i]);
		if (l)
			l->lease_until = 0;
	}
}

/* --- its ends --- */

static void restore_close(struct restore *x) {
	fd_replace(&x->file, -1);
	x->call = NULL;
	x->request->cancelled = NULL;
}

static void fail(struct restore *x, struct fault *fault) {
	restore_close(x);
	fault_prefix(fault, 0, "create container \"%s\": checkpoint \"%.256s\"", x->q->config->metadata->name,
		     x->q->config->image->image);
	msg_fail(x->request, fault);
}

static void fail_with(struct restore *x, const struct fault *fault) {
	struct fault f = *fault;
	fail(x, &f);
}

static void cancelled(struct msg_request *r, void *ctx) {
	struct restore *x = ctx;
	msg_cancel(x->call ? x->call : x->layer.call);
	restore_close(x);
	msg_failf(r, FAULT_CANCELLED, "the caller gave up");
}

/* --- what is known of it --- */

static int source_find(struct restore *x, struct fault *fault) {
	const struct made *made = made_find(x->m, x->archive);
	struct restore_source *s = &x->source;
	if (!made)
		return fault_set(fault, FAULT_FAILED_PRECONDITION,
				 "it wasn't made here, or too long ago: only a daemon's own checkpoints are restored");
	if (made->record->images)
		return fault_set(fault, FAULT_FAILED_PRECONDITION,
				 "it is a task's of containerd's API, which restores it: its root isn't in it");
	struct image *i = model_find_image(&x->m->model, made->record->image_id);
	if (!i || i->broken)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "its image %s isn't here any more: pull it first",
				 made->record->image_id);
	for (size_t k = 0; k < made->record->n_layers; k++)
		if (!model_find_layer(&x->m->model, made->record->layers[k]))
			return fault_set(fault, FAULT_FAILED_PRECONDITION,
					 "layer %s of its root isn't here any more: it was a restored container's",
					 made->record->layers[k]);
	*s = (struct restore_source){ .image = i,
				      .layers = made->record->layers,
				      .n_layers = made->record->n_layers,
				      .layer = x->archive,
				      .diff = x->chain,
				      .privileges = made->record->privileges,
				      .pipes = made->record->pipes };
	return 0;
}

/* While something was unpacked everything may have gone. */
static bool source_there(struct restore *x) {
	struct fault fault;
	if (source_find(x, &fault) == 0)
		return true;
	fail(x, &fault);
	return false;
}

/* --- a layer --- */

static struct restore *restore_of(struct layer_making *l) {
	return container_of(l, struct restore, layer);
}

static void layer_done(struct layer_making *l, const struct fault *fault) {
	struct restore *x = restore_of(l);
	if (fault)
		fail_with(x, fault);
	else
		x->layer_done(x);
}

static int layer_below(struct layer_making *l, Bulkhead__LayerCommitRequest *q) {
	struct restore *x = restore_of(l);
	if (!source_there(x))
		return -1;
	if (l->record.chain_id == x->chain) {
		q->parents = x->source.layers;
		q->n_parents = x->source.n_layers;
	}
	return 0;
}

/* From the file, whose digest is checked once more while it is unpacked. */
static void layer_from_file(struct restore *x, char *chain, char *diff, void (*done)(struct restore *x)) {
	x->layer = (struct layer_making){ .m = x->m,
					  .context = &x->request->context,
					  .record = BULKHEAD__LAYER_RECORD__INIT,
					  .below = layer_below,
					  .done = layer_done };
	x->layer.record.chain_id = chain;
	x->layer.record.diff_id = diff;
	x->layer_done = done;
	x->call = NULL;
	layer_make(&x->layer, &x->file);
}

/* --- step by step --- */

static void finish(struct restore *x) {
	if (!source_there(x))
		return;
	restore_close(x);
	x->done(x->m, x->request, &x->q->base, &x->source);
}

static void diff_known(void *ctx, const struct msg_answer *answer) {
	struct restore *x = ctx;
	char text[2 * DIGEST_SIZE];
	if (answer->fault) {
		fail_with(x, answer->fault);
		return;
	}
	if (!source_there(x))
		return;
	const struct restore_source *s = &x->source;
	snprintf(x->diff, sizeof(x->diff), "%s", file_digest_answer(answer)->digest);
	int n = snprintf(text, sizeof(text), "%s %s", s->n_layers ? s->layers[s->n_layers - 1] : "", x->diff);
	sha256_digest(text, (size_t)n, x->chain);
	layer_from_file(x, x->chain, x->diff, finish);
}

static void digest_ask(struct restore *x, const struct msg_answer *answer, msg_done_fn done) {
	Bulkhead__Empty q = BULKHEAD__EMPTY__INIT;
	fd_replace(&x->file, take_fd(&answer->fds[0]));
	x->call = file_digest_send(x->m->snapshot, &x->request->context, &q, &x->file, 1, done, x);
}

static void diff_opened(void *ctx, const struct msg_answer *answer) {
	if (answer->fault)
		fail_with(ctx, answer->fault);
	else
		digest_ask(ctx, answer, diff_known);
}

static void archive_there(struct restore *x) {
	Bulkhead__LayerFileRequest q = BULKHEAD__LAYER_FILE_REQUEST__INIT;
	q.chain_id = x->archive;
	q.name = (char *)DIFF_NAME;
	x->call = layer_file_send(x->m->snapshot, &x->request->context, &q, NULL, 0, diff_opened, x);
}

static void archive_known(void *ctx, const struct msg_answer *answer) {
	struct restore *x = ctx;
	if (answer->fault) {
		fail_with(x, answer->fault);
		return;
	}
	snprintf(x->archive, sizeof(x->archive), "%s", file_digest_answer(answer)->digest);
	if (source_there(x))
		layer_from_file(x, x->archive, x->archive, archive_there);
}

static void archive_opened(void *ctx, const struct msg_answer *answer) {
	if (answer->fault)
		fail_with(ctx, answer->fault);
	else
		digest_ask(ctx, answer, archive_known);
}

void restore_prepare(struct metadata *m, struct msg_request *r, const Runtime__V1__CreateContainerRequest *q,
		     const char *sandbox_id, restore_done_fn done) {
	struct restore *x = arena_zalloc(&r->arena, sizeof(*x));
	Bulkhead__FileOpenRequest f = BULKHEAD__FILE_OPEN_REQUEST__INIT;
	if (!x || !(x->sandbox_id = arena_strdup(&r->arena, sandbox_id))) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "create container: out of memory");
		return;
	}
	x->m = m;
	x->request = r;
	x->q = q;
	x->done = done;
	x->file = -1;
	r->cancelled = cancelled;
	r->cancelled_ctx = x;
	f.sandbox_id = x->sandbox_id;
	f.path = q->config->image->image;
	x->call = file_open_send(m->task, &r->context, &f, NULL, 0, archive_opened, x);
}
