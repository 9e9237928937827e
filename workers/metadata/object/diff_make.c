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

#include "workers/metadata/object/blob_write.h"
#include "workers/metadata/object/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LABEL_UNCOMPRESSED "containerd.io/uncompressed"
#define ACTIVE BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_ACTIVE

struct diff {
	struct op op;
	struct arena arena;
	const Bulkhead__DiffMakeRequest *q;
	char *key, *layer; /* what is packed: at most one of both */
	struct blob_write blob;
	const Bulkhead__SnapshotDiffReply *packed;
};

static struct diff *diff_of(struct op *op) {
	return container_of(op, struct diff, op);
}

/* --- write ------------------------------------------------------------------ */

static void diff_open(struct op *op) {
	blob_write_open(op, &diff_of(op)->blob);
}

static void diff_undo(struct op *op) {
	blob_write_undo(op->m, &diff_of(op)->blob);
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
	if (!d->packed) {
		op_fail_store(op, -ENOMEM);
		return;
	}
	snprintf(d->blob.digest, sizeof(d->blob.digest), "%s", d->packed->digest);
	d->blob.size = d->packed->size;
	op_next(op);
}

static void diff_pack(struct op *op) {
	struct diff *d = diff_of(op);
	Bulkhead__SnapshotDiffRequest q = BULKHEAD__SNAPSHOT_DIFF_REQUEST__INIT;
	q.key = d->key;
	q.layer = d->layer;
	q.compression = d->q->compression;
	q.latest = d->q->latest;
	struct msg_context context = op_context(op, 0);
	snapshot_diff_send(op->m->snapshot, &context, &q, &d->blob.pipe, 1, packed, op);
}

/* --- blob ------------------------------------------------------------------- */

static void diff_blob(struct op *op) {
	blob_write_commit(op, &diff_of(op)->blob);
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

static void diff_record(struct op *op) {
	struct diff *d = diff_of(op);
	Bulkhead__Object o = BULKHEAD__OBJECT__INIT;
	o.held_by = d->q->held_by;
	int r = labels_fill(d, &o);
	if (r < 0)
		op_fail_store(op, r);
	else if (blob_write_record(op, &d->blob, d->q->namespace_, &o))
		op_commit(op, STORE_IMAGES);
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
	blob_write_deinit(op->m, &d->blob);
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
	blob_write_init(&d->blob);
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
