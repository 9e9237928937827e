/*
 * Tasks that are created from a checkpoint, between the steps of create.c: the
 * content becomes a layer, whose folder is what criu reads at the start. Until
 * then the task's record keeps the layer.
 *
 * As with the CRI's (metadata/restore.h) the archive's bytes decide nothing: they
 * are those that were written here, and the container's specification allows what
 * that one's did.
 */
#include "workers/metadata/ctask/restore.h"

#include "base/clock.h"
#include "base/fd.h"
#include "workers/metadata/ctask/ctask.h"
#include "workers/metadata/gc.h"
#include "workers/metadata/made.h"
#include "workers/metadata/object/object.h"
#include "workers/metadata/privileges.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TIMEOUT_NS (120 * NS_PER_SEC)

/* --- the request ------------------------------------------------------------ */

static int made_check(struct metadata *m, const char *digest, const Bulkhead__ContainerBody *container,
		      const struct made **ret_made, struct fault *fault) {
	char privileges[DIGEST_SIZE];
	struct arena a;
	const struct made *made = made_find(m, digest);
	if (!made)
		return fault_set(fault, FAULT_FAILED_PRECONDITION,
				 "checkpoint %.80s wasn't made here, or too long ago: only a daemon's own are restored",
				 digest);
	if (!made->record->images)
		return fault_set(fault, FAULT_FAILED_PRECONDITION,
				 "checkpoint %.80s is one of the CRI's, which restores it", digest);
	arena_init(&a, 0);
	int r = privileges_digest(&a, container->parsed, privileges);
	arena_deinit(&a);
	if (r < 0)
		return fault_errno(fault, r, "describe its privileges");
	if (strcmp(privileges, made->record->privileges) != 0)
		return fault_set(fault, FAULT_FAILED_PRECONDITION,
				 "checkpoint %.80s is of a container that may do other things or has other mounts: its "
				 "specification must be as it was",
				 digest);
	*ret_made = made;
	return 0;
}

int ctask_restore_check(struct metadata *m, const Bulkhead__CtaskCreateRequest *q,
			const Bulkhead__ContainerBody *container, struct fault *fault) {
	const Bulkhead__Descriptor *d = q->checkpoint;
	const struct made *made;
	if (strcmp(d->media_type, CTASK_CHECKPOINT_TYPE) != 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.100s\" is no type of a checkpoint", d->media_type);
	const Bulkhead__ObjectKey id =
	    object_key_of(BULKHEAD__OBJECT_KIND__OBJECT_CONTENT, q->key->namespace_, d->digest);
	if (object_key_check(&id, fault) < 0)
		return -EINVAL;
	if (!object_find(&m->objects, id.kind, id.namespace_, id.key))
		return fault_set(fault, FAULT_NOT_FOUND, "content %s: not found", id.key);
	if (!snapshot_of_mounts(m, q->key->namespace_, q->rootfs, q->n_rootfs))
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "a task is restored in the root of a snapshot, and the mounts are those of none");
	return made_check(m, d->digest, container, &made, fault);
}

/* --- the steps -------------------------------------------------------------- */

static void layer_made(struct layer_making *l, const struct fault *fault) {
	struct ctask_restore *x = container_of(l, struct ctask_restore, layer);
	if (fault)
		op_fail_below(x->op, fault);
	else
		op_next(x->op);
}

static void blob_opened(void *ctx, const struct msg_answer *answer) {
	struct ctask_restore *x = ctx;
	if (answer->fault) {
		op_fail_below(x->op, answer->fault);
		return;
	}
	CLEANUP_FD int file = take_fd(&answer->fds[0]);
	x->layer = (struct layer_making){
		.m = x->op->m, .context = &x->context, .record = BULKHEAD__LAYER_RECORD__INIT, .done = layer_made
	};
	x->layer.record.chain_id = x->layer.record.diff_id = x->digest;
	layer_make(&x->layer, &file);
}

void ctask_restore_unpack(struct op *op, struct ctask_restore *x) {
	Bulkhead__Key q = BULKHEAD__KEY__INIT;
	if (!*x->digest) {
		op_next(op);
		return;
	}
	x->op = op;
	x->context = op_context(op, 0);
	q.id = x->digest;
	blob_open_send(op->m->image, &x->context, &q, NULL, 0, blob_opened, x);
}

static void folder_opened(void *ctx, const struct msg_answer *answer) {
	struct ctask_restore *x = ctx;
	if (answer->fault) {
		op_fail_below(x->op, answer->fault);
		return;
	}
	fd_replace(&x->images, take_fd(&answer->fds[0]));
	op_next(x->op);
}

void ctask_restore_open(struct op *op, struct ctask_restore *x) {
	Bulkhead__LayerFileRequest q = BULKHEAD__LAYER_FILE_REQUEST__INIT;
	const struct made *made = *x->digest ? made_find(op->m, x->digest) : NULL;
	if (!*x->digest) {
		op_next(op);
		return;
	}
	if (!made) {
		fault_set(&op->fault, FAULT_FAILED_PRECONDITION, "too many checkpoints were made since that one");
		op_fail(op);
		return;
	}
	x->pipes = (Bulkhead__CheckpointPipes)BULKHEAD__CHECKPOINT_PIPES__INIT;
	x->pipes.stdin = made->record->pipes->stdin;
	x->pipes.stdout = made->record->pipes->stdout;
	x->pipes.stderr = made->record->pipes->stderr;
	q.chain_id = x->digest;
	struct msg_context context = op_context(op, TIMEOUT_NS);
	layer_file_send(op->m->snapshot, &context, &q, NULL, 0, folder_opened, x);
}

/* --- the layer -------------------------------------------------------------- */

void ctask_restore_taken(struct metadata *m, const struct ctask *t) {
	struct layer *l = *t->record->checkpoint ? model_find_layer(&m->model, t->record->checkpoint) : NULL;
	if (l) {
		l->lease_until = 0;
		gc_later(m);
	}
}

void ctask_restores_each_layer(struct metadata *m, void (*fn)(struct metadata *m, char *const *ids, size_t n)) {
	list_for_each (n, &m->ctasks.all) {
		const Bulkhead__CtaskRecord *r = list_entry(n, struct ctask, node)->record;
		bool waits = r->status == CTASK(CREATED) || r->status == CTASK(UNKNOWN);
		if (*r->checkpoint && waits)
			fn(m, &r->checkpoint, 1);
	}
}
