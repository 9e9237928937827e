#include "workers/metadata/layer_make.h"

#include "base/clock.h"
#include "base/fd.h"
#include "workers/metadata/gc.h"
#include "workers/metadata/image.h"

#include <errno.h>

static void removed(void *ctx, const struct msg_answer *answer) {
}

static void fail(struct layer_making *l, const struct fault *fault) {
	Bulkhead__Key q = BULKHEAD__KEY__INIT;
	q.id = l->record.chain_id;
	/* Another request's that makes the same just now is none of ours. */
	if (fault->code != FAULT_ABORTED)
		layer_remove_send(l->m->snapshot, NULL, &q, NULL, 0, removed, NULL);
	l->done(l, fault);
}

static void committed(void *ctx, const struct msg_answer *answer) {
	struct layer_making *l = ctx;
	struct metadata *m = l->m;
	struct fault fault;
	l->call = NULL;
	if (answer->fault) {
		fail(l, answer->fault);
		return;
	}
	struct layer *x = model_find_layer(&m->model, l->record.chain_id);
	if (!x && (x = model_add_layer(&m->model, &l->record)))
		x->lease_until = clock_mono() + GC_LEASE_NS;
	int e = layer_save(m, x);
	if (e < 0) {
		fault_errno(&fault, e, "keep the record of layer %s", l->record.chain_id);
		l->done(l, &fault);
		return;
	}
	gc_later(m);
	l->done(l, NULL);
}

static void unpacked(void *ctx, const struct msg_answer *answer) {
	struct layer_making *l = ctx;
	Bulkhead__LayerCommitRequest q = BULKHEAD__LAYER_COMMIT_REQUEST__INIT;
	l->call = NULL;
	if (answer->fault) {
		fail(l, answer->fault);
		return;
	}
	l->record.size = layer_unpack_answer(answer)->size;
	l->record.inodes = layer_unpack_answer(answer)->inodes;
	q.chain_id = l->record.chain_id;
	if (l->below && l->below(l, &q) < 0)
		return;
	l->call = layer_commit_send(l->m->snapshot, l->context, &q, NULL, 0, committed, l);
}

void layer_make(struct layer_making *l, int *file) {
	Bulkhead__LayerUnpackRequest q = BULKHEAD__LAYER_UNPACK_REQUEST__INIT;
	struct layer *x = model_find_layer(&l->m->model, l->record.chain_id);
	if (x) {
		x->lease_until = MAX(x->lease_until, clock_mono() + GC_LEASE_NS);
		fd_replace(file, -1);
		l->done(l, NULL);
		return;
	}
	q.chain_id = l->record.chain_id;
	q.diff_id = l->record.diff_id;
	l->call = layer_unpack_send(l->m->snapshot, l->context, &q, file, 1, unpacked, l);
	fd_replace(file, -1);
}
