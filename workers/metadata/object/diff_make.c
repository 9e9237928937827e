/*
 * diff_make: write -> pack -> blob -> record.
 *
 * The snapshot worker packs a folder into a pipe, from which the image worker
 * writes a blob; what both say that it is must agree. The blob becomes content
 * of the namespace with the last step; before, it is nobody's, and goes.
 *
 * What right has beyond left is one folder: an active snapshot's own on the
 * layers that left shows, or the one layer that right shows more.
 */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "base/fd.h"
#include "workers/metadata/object/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define LABEL_UNCOMPRESSED "containerd.io/uncompressed"
#define ACTIVE BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_ACTIVE

struct diff {
	struct op op;
	struct arena arena;
	const Bulkhead__DiffMakeRequest *q;
	char *key, *layer;   /* what is packed: at most one of both */
	char write[ID_SIZE]; /* the image worker's name for it */
	int pipe;	     /* the end to write to: while it is open, so is the write */
	bool counted;	     /* among metadata.commits */
	const Bulkhead__SnapshotDiffReply *packed;
};

static struct diff *diff_of(struct op *op) {
	return container_of(op, struct diff, op);
}

/* --- write ------------------------------------------------------------------ */

static void opened(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault)
		op_fail_below(op, answer->fault);
	else
		op_next(op);
}

static void diff_open(struct op *op) {
	struct diff *d = diff_of(op);
	Bulkhead__WriteOpenRequest q = BULKHEAD__WRITE_OPEN_REQUEST__INIT;
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0) {
		fault_errno(&op->fault, errno, "make a pipe");
		op_fail(op);
		return;
	}
	CLEANUP_FD int read_end = ends[0];
	d->pipe = ends[1];
	q.id = d->write;
	struct msg_context context = op_context(op, SNAPSHOT_TIMEOUT_NS);
	write_open_send(op->m->image, &context, &q, &read_end, 1, opened, op);
}

static void diff_undo(struct op *op) {
	Bulkhead__KeyList q = BULKHEAD__KEY_LIST__INIT;
	char *ids[] = { diff_of(op)->write };
	q.ids = ids;
	q.n_ids = 1;
	write_remove_send(op->m->image, NULL, &q, NULL, 0, NULL, NULL);
}

/* --- pack ------------------------------------------------------------------- */

static void packed(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	struct diff *d = diff_of(op);
	if (answer->fault) {
		op_fail_below(op, answer->fault);
		return;
	}
	d->packed = message_copy(&d->arena, answer->reply);
	if (d->packed)
		op_next(op);
	else
		op_fail_store(op, -ENOMEM);
}

static void diff_pack(struct op *op) {
	struct diff *d = diff_of(op);
	Bulkhead__SnapshotDiffRequest q = BULKHEAD__SNAPSHOT_DIFF_REQUEST__INIT;
	q.key = d->key;
	q.layer = d->layer;
	q.compression = d->q->compression;
	q.latest = d->q->latest;
	struct msg_context context = op_context(op, 0);
	snapshot_diff_send(op->m->snapshot, &context, &q, &d->pipe, 1, packed, op);
}

/* --- blob ------------------------------------------------------------------- */

static void blob_made(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault)
		op_fail_below(op, answer->fault);
	else
		op_next(op);
}

static void diff_blob(struct op *op) {
	struct diff *d = diff_of(op);
	Bulkhead__WriteCommitRequest q = BULKHEAD__WRITE_COMMIT_REQUEST__INIT;
	q.id = d->write;
	q.offset = q.size = d->packed->size;
	q.digest = d->packed->digest;
	op->m->commits++;
	d->counted = true;
	struct msg_context context = op_context(op, 0);
	write_commit_send(op->m->image, &context, &q, NULL, 0, blob_made, op);
}

/* --- record ----------------------------------------------------------------- */

/* The request's labels, and what it is without compression. */
static int labels_fill(struct diff *d, Bulkhead__Object *o) {
	Bulkhead__Object__LabelsEntry *one = arena_alloc(&d->arena, sizeof(*one));
	o->labels = arena_alloc(&d->arena, (d->q->n_labels + 1) * sizeof(*o->labels));
	if (!one || !o->labels)
		return -ENOMEM;
	for (; o->n_labels < d->q->n_labels; o->n_labels++)
		o->labels[o->n_labels] = (void *)d->q->labels[o->n_labels];
	*one = (Bulkhead__Object__LabelsEntry)BULKHEAD__OBJECT__LABELS_ENTRY__INIT;
	one->key = LABEL_UNCOMPRESSED;
	one->value = d->packed->diff_id;
	if (!object_label(o, LABEL_UNCOMPRESSED))
		o->labels[o->n_labels++] = one;
	return 0;
}

static int content_add(struct op *op) {
	struct diff *d = diff_of(op);
	Bulkhead__Object o = BULKHEAD__OBJECT__INIT;
	Bulkhead__ContentBody body = BULKHEAD__CONTENT_BODY__INIT;
	Bulkhead__ObjectKey id =
	    object_key_of(BULKHEAD__OBJECT_KIND__OBJECT_CONTENT, d->q->namespace_, d->packed->digest);
	struct object *x;
	body.size = d->packed->size;
	o.id = &id;
	o.held_by = d->q->held_by;
	o.body_case = BULKHEAD__OBJECT__BODY_CONTENT;
	o.content = &body;
	int r = labels_fill(d, &o);
	if (r < 0)
		return r;
	if (object_find(&op->m->objects, id.kind, id.namespace_, id.key))
		return object_hold(&op->m->objects, o.held_by, &id);
	return object_add(&op->m->objects, &o, &x);
}

static void diff_record(struct op *op) {
	int r = content_add(op);
	if (r == -ENOLCK) {
		fault_set(&op->fault, FAULT_NOT_FOUND, "the lease \"%.200s\" doesn't exist", diff_of(op)->q->held_by);
		op_fail(op);
	} else if (r < 0) {
		op_fail_store(op, r);
	} else {
		op_commit(op, STORE_IMAGES);
	}
}

static const struct op_step diff_steps[] = {
	{ .name = "begin to write", .run = diff_open, .undo = diff_undo },
	{ .name = "pack it", .run = diff_pack },
	{ .name = "make a blob of it", .run = diff_blob },
	{ .name = "record", .run = diff_record },
	{ .name = NULL },
};

static void diff_answer(struct op *op, struct msg_request *r) {
	const struct diff *d = diff_of(op);
	Bulkhead__Descriptor a = BULKHEAD__DESCRIPTOR__INIT;
	a.media_type = d->q->media_type;
	a.digest = d->packed->digest;
	a.size = d->packed->size;
	diff_make_reply(r, &a, NULL, 0);
}

static void diff_free(struct op *op) {
	struct diff *d = diff_of(op);
	op->m->commits -= d->counted;
	fd_close(d->pipe);
	arena_deinit(&d->arena);
	free(d);
}

static const struct op_class diff_class = {
	.name = "pack snapshot",
	.steps = diff_steps,
	.answer = diff_answer,
	.free = diff_free,
};

/* --- the request ------------------------------------------------------------ */

struct sides {
	const struct object *right;
	const Bulkhead__SnapshotBody *left; /* NULL: nothing */
	const char *key, *layer;
};

static bool begins_with(const Bulkhead__SnapshotBody *b, const Bulkhead__SnapshotBody *left) {
	size_t n = left ? left->n_layers : 0;
	if (n > b->n_layers)
		return false;
	for (size_t i = 0; i < n; i++)
		if (strcmp(b->layers[i], left->layers[i]) != 0)
			return false;
	return true;
}

/* The one folder that right has more; false when that isn't the difference. */
static bool beyond(struct sides *s) {
	const Bulkhead__SnapshotBody *b = s->right->record->snapshot;
	if ((s->left && s->left->kind == ACTIVE) || !begins_with(b, s->left))
		return false;
	size_t more = b->n_layers - (s->left ? s->left->n_layers : 0) + (b->kind == ACTIVE);
	s->key = b->kind == ACTIVE ? b->disk : "";
	s->layer = b->kind != ACTIVE && more ? b->layers[b->n_layers - 1] : "";
	return more <= 1;
}

static int sides_find(struct metadata *m, const Bulkhead__DiffMakeRequest *q, struct sides *ret, struct fault *fault) {
	const struct object *left = snapshot_of_mounts(m, q->namespace_, q->left, q->n_left);
	*ret = (struct sides){ .right = snapshot_of_mounts(m, q->namespace_, q->right, q->n_right) };
	if (!ret->right || (q->n_left && !left))
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "diff: the %s mounts are those of no snapshot in namespace \"%s\"",
				 ret->right ? "left" : "right", q->namespace_);
	ret->left = left ? left->record->snapshot : NULL;
	if (!beyond(ret))
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "diff: snapshot \"%.200s\" isn't made directly on what the left mounts show",
				 ret->right->record->id->key);
	return 0;
}

static struct diff *diff_new(const Bulkhead__DiffMakeRequest *q, const struct sides *s) {
	struct diff *d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	arena_init(&d->arena, 0);
	d->pipe = -1;
	id_random(d->write);
	d->q = message_copy(&d->arena, &q->base);
	d->key = arena_strdup(&d->arena, s->key);
	d->layer = arena_strdup(&d->arena, s->layer);
	if (d->q && d->key && d->layer)
		return d;
	arena_deinit(&d->arena);
	free(d);
	return NULL;
}

void diff_make(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__DiffMakeRequest *q = (const Bulkhead__DiffMakeRequest *)request;
	struct sides s;
	struct fault fault;
	if (sides_find(m, q, &s, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	struct object *x = object_find(&m->objects, s.right->record->id->kind, q->namespace_, s.right->record->id->key);
	if (x && x->op) {
		op_requeue(x->op, r, request, diff_make);
		return;
	}
	struct diff *d = diff_new(q, &s);
	if (!d) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "diff: out of memory");
		return;
	}
	/* It must not become something else meanwhile. */
	op_init(&d->op, &diff_class, m, x ? &x->op : NULL, s.right->record->id->key, r);
	op_join(&d->op, r);
	op_start(&d->op);
}
