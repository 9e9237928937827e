/*
 * PauseContainer and ResumeContainer: only what runs is paused, and only what
 * is paused goes on. What it is has to be asked first, since the row that does
 * it may be sent again, and then finds it done.
 */
#include "workers/api/agent/agent.h"

#include "msg/typed.h"

struct freeze {
	struct grpc_call *call;
	struct msg_call *asked;
	Bulkhead__CtaskKey key; /* in the call's arena */
	bool frozen;
};

static void *freeze_open(struct grpc_call *c) {
	struct freeze *f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->call = c;
	f->key = (Bulkhead__CtaskKey)BULKHEAD__CTASK_KEY__INIT;
	f->key.namespace_ = (char *)AGENT_NAMESPACE;
	return f;
}

static void freeze_closed(void *handler) {
	struct freeze *f = handler;
	msg_cancel(f->asked);
	free(f);
}

static void fail(struct freeze *f, const struct fault *below) {
	struct fault fault = *below;
	agent_unknown_container(&fault);
	grpc_fail(f->call, &fault);
}

static void done(void *ctx, const struct msg_answer *answer) {
	struct freeze *f = ctx;
	Google__Protobuf__Empty reply = GOOGLE__PROTOBUF__EMPTY__INIT;
	f->asked = NULL;
	if (answer->fault)
		fail(f, answer->fault);
	else
		grpc_reply(f->call, &reply.base);
}

static void known(void *ctx, const struct msg_answer *answer) {
	struct freeze *f = ctx;
	Bulkhead__CtaskFreezeRequest q = BULKHEAD__CTASK_FREEZE_REQUEST__INIT;
	f->asked = NULL;
	if (answer->fault) {
		fail(f, answer->fault);
		return;
	}
	Bulkhead__CtaskStatus must = f->frozen ? BULKHEAD__CTASK_STATUS__CTASK_RUNNING
					       : BULKHEAD__CTASK_STATUS__CTASK_PAUSED;
	if (ctask_get_answer(answer)->status != must) {
		grpc_failf(f->call, FAULT_FAILED_PRECONDITION, "%s container \"%.76s\": it isn't %s",
			   f->frozen ? "pause" : "resume", f->key.container_id, f->frozen ? "running" : "paused");
		return;
	}
	q.key = &f->key;
	q.frozen = f->frozen;
	f->asked =
	    ctask_freeze_send(grpc_call_server(f->call)->metadata, grpc_call_context(f->call), &q, NULL, 0, done, f);
}

static void begin(struct freeze *f, const char *container_id, bool frozen) {
	f->frozen = frozen;
	f->key.container_id = arena_strdup(grpc_call_arena(f->call), container_id);
	if (!f->key.container_id)
		grpc_failf(f->call, FAULT_RESOURCE_EXHAUSTED, "no memory for the call");
	else
		f->asked = ctask_get_send(grpc_call_server(f->call)->metadata, grpc_call_context(f->call), &f->key,
					  NULL, 0, known, f);
}

static void on_pause(void *handler, const ProtobufCMessage *request) {
	begin(handler, ((const Grpc__PauseContainerRequest *)request)->container_id, true);
}

static void on_resume(void *handler, const ProtobufCMessage *request) {
	begin(handler, ((const Grpc__ResumeContainerRequest *)request)->container_id, false);
}

const struct grpc_handler agent_pause_container = {
	.open = freeze_open,
	.message = on_pause,
	.closed = freeze_closed,
};

const struct grpc_handler agent_resume_container = {
	.open = freeze_open,
	.message = on_resume,
	.closed = freeze_closed,
};
