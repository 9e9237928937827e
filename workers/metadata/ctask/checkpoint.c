/*
 * ctask_checkpoint: two writes -> save -> two blobs -> record (-> the end).
 *
 * criu's images and the container's specification become content of the
 * namespace. The root is the client's to save, who pauses the task for that; it
 * stays paused. With the record of the images' digest the task can be restored
 * (restore.c). It isn't the operation that the task is at, which may end meanwhile.
 */
#include "workers/metadata/ctask/ctask.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/handlers.h"
#include "workers/metadata/made.h"
#include "workers/metadata/object/blob_write.h"
#include "workers/metadata/privileges.h"
#include "workers/metadata/saving.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define KILL_TIMEOUT_NS (60 * NS_PER_SEC)

struct checkpoint_op {
	struct op op;
	struct arena arena;
	const Bulkhead__CtaskCheckpointRequest *q;
	char *sandbox_id, *container_id;
	struct msg_context context; /* while it is saved */
	Bulkhead__CheckpointPipes pipes;
	bool failed;
	struct fault fault;
	struct blob_write images, config;
	ProtobufCBinaryData text; /* of config */
	char privileges[DIGEST_SIZE];
};

static struct checkpoint_op *checkpoint_of(struct op *op) {
	return container_of(op, struct checkpoint_op, op);
}

/* --- writes ----------------------------------------------------------------- */

static void images_open(struct op *op) {
	blob_write_open(op, &checkpoint_of(op)->images);
}

static void config_open(struct op *op) {
	blob_write_open(op, &checkpoint_of(op)->config);
}

static void images_undo(struct op *op) {
	blob_write_undo(op->m, &checkpoint_of(op)->images);
}

static void config_undo(struct op *op) {
	blob_write_undo(op->m, &checkpoint_of(op)->config);
}

/* --- save ------------------------------------------------------------------- */

static void ended(void *ctx, const struct msg_answer *answer) {
	struct checkpoint_op *c = ctx;
	saving_fault(answer->fault, &c->failed, &c->fault);
	if (c->failed)
		op_fail_below(&c->op, &c->fault);
	else
		op_next(&c->op);
}

/* Whatever has become of the writing: it says what criu had to say, and leaves nothing. */
static void save_end(struct checkpoint_op *c) {
	Bulkhead__CheckpointEndRequest q = BULKHEAD__CHECKPOINT_END_REQUEST__INIT;
	q.sandbox_id = c->sandbox_id;
	q.container_id = c->container_id;
	q.keep = !c->failed;
	checkpoint_end_send(c->op.m->task, &c->context, &q, NULL, 0, ended, c);
}

static void written(void *ctx, const struct msg_answer *answer) {
	struct checkpoint_op *c = ctx;
	saving_fault(answer->fault, &c->failed, &c->fault);
	if (!answer->fault) {
		snprintf(c->images.digest, sizeof(c->images.digest), "%s", images_write_answer(answer)->digest);
		c->images.size = images_write_answer(answer)->size;
	}
	save_end(c);
}

/* Of the descriptors, the folder and the gate are wanted. */
static void begun(void *ctx, const struct msg_answer *answer) {
	struct checkpoint_op *c = ctx;
	Bulkhead__ImagesWriteRequest q = BULKHEAD__IMAGES_WRITE_REQUEST__INIT;
	if (answer->fault) {
		op_fail_below(&c->op, answer->fault);
		return;
	}
	const Bulkhead__CheckpointPipes *pipes = checkpoint_begin_answer(answer);
	c->pipes.stdin = pipes->stdin;
	c->pipes.stdout = pipes->stdout;
	c->pipes.stderr = pipes->stderr;
	q.text = c->text;
	const int fds[] = { answer->fds[1], answer->fds[2], c->images.pipe, c->config.pipe };
	images_write_send(c->op.m->snapshot, &c->context, &q, fds, ARRAY_SIZE(fds), written, c);
}

static void save(struct op *op) {
	struct checkpoint_op *c = checkpoint_of(op);
	Bulkhead__CheckpointRequest q = BULKHEAD__CHECKPOINT_REQUEST__INIT;
	q.sandbox_id = c->sandbox_id;
	q.container_id = c->container_id;
	q.timeout_ns = CHECKPOINT_TIMEOUT_DEFAULT * NS_PER_SEC;
	c->context = op_context(op, 0);
	saving_limit(&c->context, q.timeout_ns);
	checkpoint_begin_send(op->m->task, &c->context, &q, NULL, 0, begun, c);
}

/* --- blobs and their record ------------------------------------------------- */

static void images_commit(struct op *op) {
	blob_write_commit(op, &checkpoint_of(op)->images);
}

static void config_commit(struct op *op) {
	blob_write_commit(op, &checkpoint_of(op)->config);
}

static void record(struct op *op) {
	struct checkpoint_op *c = checkpoint_of(op);
	Bulkhead__CheckpointRecord made = BULKHEAD__CHECKPOINT_RECORD__INIT;
	Bulkhead__Object images = BULKHEAD__OBJECT__INIT, config = BULKHEAD__OBJECT__INIT;
	made.digest = c->images.digest;
	made.privileges = c->privileges;
	made.pipes = &c->pipes;
	made.created_at = clock_real();
	made.images = true;
	images.held_by = config.held_by = c->q->held_by;
	char *namespace = c->q->key->namespace_;
	if (!blob_write_record(op, &c->images, namespace, &images) ||
	    !blob_write_record(op, &c->config, namespace, &config))
		return;
	int r = made_add(op->m, &made);
	if (r < 0)
		op_fail_store(op, r);
	else
		op_commit(op, STORE_IMAGES);
}

/* --- the end ---------------------------------------------------------------- */

static void killed(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault && answer->fault->code != FAULT_NOT_FOUND)
		log_event(LOG_WARN, "a task that was saved goes on", "container", op->object, "why",
			  answer->fault->text, NULL);
	op_next(op);
}

static void end(struct op *op) {
	const struct checkpoint_op *c = checkpoint_of(op);
	Bulkhead__TaskKillRequest q = BULKHEAD__TASK_KILL_REQUEST__INIT;
	if (!c->q->exit) {
		op_next(op);
		return;
	}
	q.sandbox_id = c->sandbox_id;
	q.container_id = c->container_id;
	q.signal = SIGKILL;
	struct msg_context context = op_context(op, KILL_TIMEOUT_NS);
	task_kill_send(op->m->task, &context, &q, NULL, 0, killed, op);
}

static const struct op_step steps[] = {
	{ .name = "begin to write", .run = images_open, .undo = images_undo },
	{ .name = "begin to write", .run = config_open, .undo = config_undo },
	{ .name = "save it", .run = save },
	{ .name = "make a blob of it", .run = images_commit },
	{ .name = "make a blob of it", .run = config_commit },
	{ .name = "record", .run = record },
	{ .name = "end it", .run = end },
	{ .name = NULL },
};

/* --- the answer ------------------------------------------------------------- */

static Bulkhead__Descriptor descriptor(char *type, struct blob_write *b) {
	Bulkhead__Descriptor d = BULKHEAD__DESCRIPTOR__INIT;
	d.media_type = type;
	d.digest = b->digest;
	d.size = b->size;
	return d;
}

static void answer(struct op *op, struct msg_request *r) {
	struct checkpoint_op *c = checkpoint_of(op);
	Bulkhead__CtaskCheckpoint a = BULKHEAD__CTASK_CHECKPOINT__INIT;
	Bulkhead__Descriptor images = descriptor((char *)CTASK_CHECKPOINT_TYPE, &c->images),
			     config = descriptor(c->q->config_type, &c->config);
	a.images = &images;
	a.config = &config;
	ctask_checkpoint_reply(r, &a, NULL, 0);
}

static void checkpoint_free(struct op *op) {
	struct checkpoint_op *c = checkpoint_of(op);
	blob_write_deinit(op->m, &c->images);
	blob_write_deinit(op->m, &c->config);
	arena_deinit(&c->arena);
	free(c);
}

static const struct op_class checkpoint_class = {
	.name = "checkpoint task",
	.steps = steps,
	.answer = answer,
	.free = checkpoint_free,
};

/* --- the request ------------------------------------------------------------ */

static int check(struct metadata *m, const struct ctask *t, const Bulkhead__CtaskKey *key,
		 const Bulkhead__ContainerBody **ret_container, struct fault *fault) {
	char text[CTASK_TEXT_MAX];
	if (ctask_own(t, fault) < 0)
		return -EPERM;
	int r = ctask_may(t, NULL, CTASK_MAY_CHECKPOINT, key, fault);
	if (r < 0)
		return r;
	const struct object *o =
	    object_find(&m->objects, BULKHEAD__OBJECT_KIND__OBJECT_CONTAINER, key->namespace_, key->container_id);
	if (!o || !o->record->container->parsed || !o->record->container->spec)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "%s: its container has no specification any more",
				 ctask_text(key, text));
	*ret_container = o->record->container;
	return 0;
}

/* The same bytes as of a google.protobuf.Any, or what it has in it. */
static int text_make(struct checkpoint_op *c, const Bulkhead__Typed *spec) {
	size_t size = c->q->config_bare ? spec->value.len : bulkhead__typed__get_packed_size(spec);
	c->text = (ProtobufCBinaryData){ .len = size, .data = arena_alloc(&c->arena, size + 1) };
	if (!c->text.data)
		return -ENOMEM;
	if (!c->q->config_bare)
		bulkhead__typed__pack(spec, c->text.data);
	else if (size)
		memcpy(c->text.data, spec->value.data, size);
	sha256_digest(c->text.data, size, c->config.digest);
	c->config.size = size;
	return 0;
}

static int fill(struct checkpoint_op *c, const struct ctask *t, const Bulkhead__CtaskCheckpointRequest *q,
		const Bulkhead__ContainerBody *container) {
	c->q = message_copy(&c->arena, &q->base);
	c->sandbox_id = arena_strdup(&c->arena, t->record->sandbox_id);
	c->container_id = arena_strdup(&c->arena, t->record->container_id);
	if (!c->q || !c->sandbox_id || !c->container_id || text_make(c, container->spec) < 0)
		return -ENOMEM;
	return privileges_digest(&c->arena, container->parsed, c->privileges);
}

static int begin(struct metadata *m, struct msg_request *r, const struct ctask *t,
		 const Bulkhead__CtaskCheckpointRequest *q, const Bulkhead__ContainerBody *container) {
	struct checkpoint_op *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	arena_init(&c->arena, 0);
	blob_write_init(&c->images);
	blob_write_init(&c->config);
	c->pipes = (Bulkhead__CheckpointPipes)BULKHEAD__CHECKPOINT_PIPES__INIT;
	int e = fill(c, t, q, container);
	if (e < 0) {
		arena_deinit(&c->arena);
		free(c);
		return e;
	}
	op_init(&c->op, &checkpoint_class, m, NULL, q->key->container_id, r);
	op_join(&c->op, r);
	op_start(&c->op);
	return 0;
}

void ctask_checkpoint(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskCheckpointRequest *q = (const Bulkhead__CtaskCheckpointRequest *)request;
	const Bulkhead__ContainerBody *container = NULL;
	struct ctask *t;
	struct fault fault;
	if (metadata_gate(m, r, request, ctask_checkpoint))
		return;
	int e = ctask_of(m, q->key, &t, &fault);
	if (e == 0 && t->op) {
		op_requeue(t->op, r, request, ctask_checkpoint);
		return;
	}
	if (e == 0)
		e = check(m, t, q->key, &container, &fault);
	if (e == 0 && (e = begin(m, r, t, q, container)) < 0)
		fault_errno(&fault, e, "checkpoint task \"%s\"", q->key->container_id);
	if (e < 0)
		msg_fail(r, &fault);
}
