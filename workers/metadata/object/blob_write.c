#include "workers/metadata/object/blob_write.h"

#include "base/clock.h"
#include "base/fd.h"
#include "workers/metadata/object/snapshot.h"
#include "workers/metadata/metadata.h"

#include <errno.h>
#include <fcntl.h>

void blob_write_init(struct blob_write *b) {
	*b = (struct blob_write){ .pipe = -1 };
	id_random(b->id);
}

void blob_write_deinit(struct metadata *m, struct blob_write *b) {
	m->commits -= b->counted;
	fd_close(b->pipe);
}

static void done(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault)
		op_fail_below(op, answer->fault);
	else
		op_next(op);
}

void blob_write_open(struct op *op, struct blob_write *b) {
	Bulkhead__WriteOpenRequest q = BULKHEAD__WRITE_OPEN_REQUEST__INIT;
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0) {
		fault_errno(&op->fault, errno, "make a pipe");
		op_fail(op);
		return;
	}
	CLEANUP_FD int read_end = ends[0];
	b->pipe = ends[1];
	q.id = b->id;
	q.passing = true;
	struct msg_context context = op_context(op, SNAPSHOT_TIMEOUT_NS);
	write_open_send(op->m->image, &context, &q, &read_end, 1, done, op);
}

void blob_write_undo(struct metadata *m, const struct blob_write *b) {
	Bulkhead__KeyList q = BULKHEAD__KEY_LIST__INIT;
	char *ids[] = { (char *)(uintptr_t)b->id };
	q.ids = ids;
	q.n_ids = 1;
	write_remove_send(m->image, NULL, &q, NULL, 0, NULL, NULL);
}

void blob_write_commit(struct op *op, struct blob_write *b) {
	Bulkhead__WriteCommitRequest q = BULKHEAD__WRITE_COMMIT_REQUEST__INIT;
	q.id = b->id;
	q.offset = q.size = b->size;
	q.digest = b->digest;
	op->m->commits++;
	b->counted = true;
	struct msg_context context = op_context(op, 0);
	write_commit_send(op->m->image, &context, &q, NULL, 0, done, op);
}

static int record(struct metadata *m, const struct blob_write *b, char *namespace, const Bulkhead__Object *o) {
	Bulkhead__Object content = *o;
	Bulkhead__ContentBody body = BULKHEAD__CONTENT_BODY__INIT;
	Bulkhead__ObjectKey id = object_key_of(BULKHEAD__OBJECT_KIND__OBJECT_CONTENT, namespace, b->digest);
	struct object *x;
	if (object_find(&m->objects, id.kind, id.namespace_, id.key))
		return object_hold(&m->objects, o->held_by, &id);
	body.size = b->size;
	content.id = &id;
	content.body_case = BULKHEAD__OBJECT__BODY_CONTENT;
	content.content = &body;
	return object_add(&m->objects, &content, &x);
}

bool blob_write_record(struct op *op, const struct blob_write *b, char *namespace, const Bulkhead__Object *o) {
	int r = record(op->m, b, namespace, o);
	if (r >= 0)
		return true;
	if (r == -ENOLCK) {
		fault_set(&op->fault, FAULT_NOT_FOUND, "the lease \"%.200s\" doesn't exist", o->held_by);
		op_fail(op);
	} else {
		op_fail_store(op, r);
	}
	return false;
}
