/*
 * CheckpointContainer: the container is saved and its archive written (saving.c)
 * -> checkpoint_end (the archive gets its name).
 *
 * No record changes, so this is no operation: the container may be stopped or
 * removed meanwhile, which ends its checkpoint. Whatever goes wrong once it has
 * begun, checkpoint_end is asked for: it says what criu had to say, and leaves
 * nothing. Should this process die, the keeper gives up when the time is over.
 */
#include "workers/metadata/saving.h"
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/check.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

struct checkpoint {
	struct metadata *m;
	struct msg_request *request; /* whose arena holds this */
	struct saving *saving;
	struct msg_call *end;
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
	fault_prefix(&c->fault, 0, "checkpoint container \"%.16s\"", c->saving->container_id);
	msg_fail(c->request, &c->fault);
}

static void made_stored(void *ctx, int result) {
	struct checkpoint *c = ctx;
	if (result < 0)
		log_event(LOG_WARN, "a checkpoint can't be restored: its record isn't stored", "container",
			  c->saving->container_id, "why", strerrordesc_np(-result), NULL);
	reply(c);
}

static void ended(void *ctx, const struct msg_answer *answer) {
	struct checkpoint *c = ctx;
	c->end = NULL;
	saving_fault(answer->fault, &c->failed, &c->fault);
	if (c->failed) {
		reply(c);
		return;
	}
	int r = saving_remember(c->saving);
	if (r < 0) {
		made_stored(c, r);
		return;
	}
	c->stored.fn = made_stored;
	c->stored.ctx = c;
	store_wait(c->m->store, STORE_IMAGES, &c->stored);
}

static void end(struct checkpoint *c, msg_done_fn done) {
	Bulkhead__CheckpointEndRequest q = BULKHEAD__CHECKPOINT_END_REQUEST__INIT;
	q.sandbox_id = c->saving->sandbox_id;
	q.container_id = c->saving->container_id;
	q.keep = !c->failed;
	c->end = checkpoint_end_send(c->m->task, &c->saving->context, &q, NULL, 0, done, c);
}

static void saved(void *ctx, const struct fault *fault) {
	struct checkpoint *c = ctx;
	saving_fault(fault, &c->failed, &c->fault);
	if (c->failed && !c->saving->begun)
		reply(c);
	else
		end(c, ended);
}

/* Nobody waits for an answer; the keeper is told, and won't give it a name. */
static void cancelled(struct msg_request *r, void *ctx) {
	struct checkpoint *c = ctx;
	if (c->stored.fn)
		store_unwait(&c->stored);
	else {
		saving_cancel(c->saving);
		msg_cancel(take_ptr(c->end));
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
	if (r == 0 && (q->timeout < 0 || q->timeout > CHECKPOINT_TIMEOUT_MAX))
		r = fault_set(fault, FAULT_INVALID_ARGUMENT, "a timeout of %lld seconds; 0 to %d are possible",
			      (long long)q->timeout, CHECKPOINT_TIMEOUT_MAX);
	return r;
}

void cri_checkpoint_container(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__CheckpointContainerRequest *q = (const Runtime__V1__CheckpointContainerRequest *)request;
	struct container *container;
	struct fault fault;
	if (metadata_gate(m, r, request, cri_checkpoint_container))
		return;
	struct checkpoint *c = arena_zalloc(&r->arena, sizeof(*c));
	int e = c ? check(m, q, &container, &fault) : fault_errno(&fault, ENOMEM, "keep the request");
	if (e == 0)
		e = saving_new(m, r, container, &c->saving, &fault);
	if (e < 0) {
		fault_prefix(&fault, 0, "checkpoint container");
		msg_fail(r, &fault);
		return;
	}
	c->m = m;
	c->request = r;
	r->cancelled = cancelled;
	r->cancelled_ctx = c;
	int64_t timeout = q->timeout ? q->timeout : CHECKPOINT_TIMEOUT_DEFAULT;
	saving_start(c->saving, q->location, (uint64_t)timeout * NS_PER_SEC, false, saved, c);
}
