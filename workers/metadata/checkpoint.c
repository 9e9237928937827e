/*
 * CheckpointContainer: checkpoint_begin (criu stops the container and saves it)
 * -> archive_write (the container goes on when its changed files are written)
 * -> checkpoint_end (the archive gets its name).
 *
 * No record changes, so this is no operation: the container may be stopped or
 * removed meanwhile, which ends its checkpoint. Whatever goes wrong,
 * checkpoint_end is asked for: it says what criu had to say, and leaves nothing.
 * Should this process die, the keeper gives up when the time is over.
 */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "workers/metadata/check.h"
#include "workers/metadata/container.h"
#include "workers/metadata/dump.h"
#include "workers/metadata/made.h"
#include "workers/metadata/privileges.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define TIMEOUT_DEFAULT 120 /* seconds */
#define TIMEOUT_MAX (24 * 3600)
/* The keeper's own time ends first. */
#define MARGIN (20 * NS_PER_SEC)

struct checkpoint {
	struct metadata *m;
	struct msg_request *request; /* whose arena holds this */
	struct msg_call *call;
	struct msg_context context;
	char *sandbox_id, *container_id;
	Bulkhead__ArchiveWriteRequest archive;
	/* What a restore will need to know. */
	Bulkhead__CheckpointRecord made;
	Bulkhead__CheckpointPipes pipes;
	char digest[DIGEST_SIZE], privileges[DIGEST_SIZE];
	struct store_waiter stored;
	bool failed;
	struct fault fault;
};

static void reply(struct checkpoint *c) {
	Runtime__V1__CheckpointContainerResponse a = RUNTIME__V1__CHECKPOINT_CONTAINER_RESPONSE__INIT;
	c->request->cancelled = NULL;
	if (!c->failed) {
		cri_checkpoint_container_reply(c->request, &a, NULL, 0);
		return;
	}
	fault_prefix(&c->fault, 0, "checkpoint container \"%.16s\"", c->container_id);
	msg_fail(c->request, &c->fault);
}

static void made_stored(void *ctx, int result) {
	struct checkpoint *c = ctx;
	if (result < 0)
		log_event(LOG_WARN, "a checkpoint can't be restored: its record isn't stored", "container",
			  c->container_id, "why", strerrordesc_np(-result), NULL);
	reply(c);
}

/* The archive is there; without its record it is only a file. */
static void remember(struct checkpoint *c) {
	c->made.created_at = clock_real();
	int r = made_add(c->m, &c->made);
	if (r < 0) {
		made_stored(c, r);
		return;
	}
	c->call = NULL;
	c->stored.fn = made_stored;
	c->stored.ctx = c;
	store_wait(c->m->store, STORE_IMAGES, &c->stored);
}

/* When the writer fails criu does, too, and the other way round: ABORTED is how
 * the writer says that the reason is elsewhere. */
static void ended(void *ctx, const struct msg_answer *answer) {
	struct checkpoint *c = ctx;
	if (answer->fault && (!c->failed || c->fault.code == FAULT_ABORTED)) {
		c->fault = *answer->fault;
		c->failed = true;
	}
	if (c->failed)
		reply(c);
	else
		remember(c);
}

static void end(struct checkpoint *c, msg_done_fn done) {
	Bulkhead__CheckpointEndRequest q = BULKHEAD__CHECKPOINT_END_REQUEST__INIT;
	q.sandbox_id = c->sandbox_id;
	q.container_id = c->container_id;
	q.keep = !c->failed;
	c->call = checkpoint_end_send(c->m->task, &c->context, &q, NULL, 0, done, c);
}

static void written(void *ctx, const struct msg_answer *answer) {
	struct checkpoint *c = ctx;
	if (answer->fault) {
		c->fault = *answer->fault;
		c->failed = true;
	} else
		snprintf(c->digest, sizeof(c->digest), "%s", archive_write_answer(answer)->digest);
	end(c, ended);
}

static void begun(void *ctx, const struct msg_answer *answer) {
	struct checkpoint *c = ctx;
	if (answer->fault) {
		c->fault = *answer->fault;
		c->failed = true;
		reply(c);
		return;
	}
	const Bulkhead__CheckpointPipes *pipes = checkpoint_begin_answer(answer);
	c->pipes.stdin = pipes->stdin;
	c->pipes.stdout = pipes->stdout;
	c->pipes.stderr = pipes->stderr;
	c->call = archive_write_send(c->m->snapshot, &c->context, &c->archive, answer->fds, 4, written, c);
}

/* Nobody waits for an answer; the keeper is told, and won't give it a name. */
static void cancelled(struct msg_request *r, void *ctx) {
	struct checkpoint *c = ctx;
	if (c->stored.fn)
		store_unwait(&c->stored);
	else {
		msg_cancel(c->call);
		c->failed = true;
		end(c, NULL);
	}
	msg_failf(r, FAULT_CANCELLED, "the caller gave up");
}

/* --- the request --- */

static int check(struct metadata *m, const Runtime__V1__CheckpointContainerRequest *q, struct container **ret,
		 struct fault *fault) {
	int r = model_find_container(&m->model, q->container_id, ret, fault);
	if (r == 0 && (*ret)->record->phase != BULKHEAD__CONTAINER_PHASE__CONTAINER_UP)
		r = fault_set(fault, FAULT_FAILED_PRECONDITION, "container \"%s\" isn't running", (*ret)->record->id);
	if (r == 0)
		r = check_path("location", q->location, fault);
	if (r == 0 && (strlen(q->location) >= PATH_MAX || q->location[strlen(q->location) - 1] == '/'))
		r = fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.80s\" is no path of a file", q->location);
	if (r == 0 && (q->timeout < 0 || q->timeout > TIMEOUT_MAX))
		r = fault_set(fault, FAULT_INVALID_ARGUMENT, "a timeout of %lld seconds; 0 to %d are possible",
			      (long long)q->timeout, TIMEOUT_MAX);
	return r;
}

static int checkpoint_new(struct metadata *m, struct msg_request *r, struct container *container,
			  struct checkpoint **ret_checkpoint, struct fault *fault) {
	struct checkpoint *c = arena_zalloc(&r->arena, sizeof(*c));
	if (!c)
		return fault_errno(fault, ENOMEM, "checkpoint container");
	c->m = m;
	c->request = r;
	c->context = r->context;
	c->archive = (Bulkhead__ArchiveWriteRequest)BULKHEAD__ARCHIVE_WRITE_REQUEST__INIT;
	c->sandbox_id = arena_strdup(&r->arena, container->record->sandbox_id);
	c->container_id = arena_strdup(&r->arena, container->record->id);
	if (!c->sandbox_id || !c->container_id)
		return fault_errno(fault, ENOMEM, "checkpoint container");
	c->archive.key = c->container_id;
	c->pipes = (Bulkhead__CheckpointPipes)BULKHEAD__CHECKPOINT_PIPES__INIT;
	c->made = (Bulkhead__CheckpointRecord)BULKHEAD__CHECKPOINT_RECORD__INIT;
	c->made.digest = c->digest;
	c->made.privileges = c->privileges;
	c->made.pipes = &c->pipes;
	const Bulkhead__ContainerRecord *record = message_copy(&r->arena, &container->record->base);
	if (record) {
		c->made.image_id = record->image_id;
		c->made.n_layers = record->n_layers;
		c->made.layers = record->layers;
	}
	Grpc__Spec *spec;
	int e = record ? container_spec(m, container, &r->arena, &spec, fault)
		       : fault_errno(fault, ENOMEM, "checkpoint container");
	if (e == 0 && privileges_digest(&r->arena, spec, c->privileges) < 0)
		e = fault_errno(fault, ENOMEM, "describe its privileges");
	*ret_checkpoint = c;
	return e < 0 ? e : dump_texts(m, &r->arena, container, &c->archive, fault);
}

static void begin(struct checkpoint *c, const Runtime__V1__CheckpointContainerRequest *q) {
	Bulkhead__CheckpointRequest b = BULKHEAD__CHECKPOINT_REQUEST__INIT;
	int64_t timeout = (q->timeout ? q->timeout : TIMEOUT_DEFAULT) * NS_PER_SEC;
	int64_t latest = clock_mono() + timeout + MARGIN;
	if (!c->context.deadline || c->context.deadline > latest)
		c->context.deadline = latest;
	b.sandbox_id = c->sandbox_id;
	b.container_id = c->container_id;
	b.location = q->location;
	b.timeout_ns = (uint64_t)timeout;
	c->request->cancelled = cancelled;
	c->request->cancelled_ctx = c;
	c->call = checkpoint_begin_send(c->m->task, &c->context, &b, NULL, 0, begun, c);
}

void cri_checkpoint_container(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__CheckpointContainerRequest *q = (const Runtime__V1__CheckpointContainerRequest *)request;
	struct container *container;
	struct checkpoint *c = NULL;
	struct fault fault;
	if (metadata_gate(m, r, request, cri_checkpoint_container))
		return;
	int e = check(m, q, &container, &fault);
	if (e == 0)
		e = checkpoint_new(m, r, container, &c, &fault);
	if (e < 0) {
		fault_prefix(&fault, 0, "checkpoint container");
		msg_fail(r, &fault);
	} else
		begin(c, q);
}
