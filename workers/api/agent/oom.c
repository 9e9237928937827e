/*
 * GetOOMEvent waits until something in a container of the sandbox was killed for
 * want of memory. The metadata worker tells each time to one call, and keeps it
 * until that call has settled it: as told once the answer is on its way, as untold
 * when its client has gone before.
 */
#include "workers/api/agent/agent.h"

#include "base/id.h"
#include "msg/typed.h"

struct oom_call {
	struct grpc_call *call;
	struct grpc_server *server;
	struct msg_call *asking;
	char name[ID_SIZE];
};

/* Nobody waits for it: it has no deadline, and goes to a successor. */
static void settle(struct grpc_server *server, char *name, bool told) {
	Bulkhead__CsandboxOomSettleRequest q = BULKHEAD__CSANDBOX_OOM_SETTLE_REQUEST__INIT;
	Bulkhead__CsandboxKey key;
	agent_sandbox_key(&key);
	q.key = &key;
	q.asker = name;
	q.told = told;
	csandbox_oom_settle_send(server->metadata, NULL, &q, NULL, 0, NULL, NULL);
}

static void came(void *ctx, const struct msg_answer *answer) {
	struct oom_call *x = ctx;
	struct fault fault;
	x->asking = NULL;
	if (answer->fault) {
		fault = *answer->fault;
		if (fault.code == FAULT_NOT_FOUND)
			fault_set(&fault, FAULT_NOT_FOUND, "get an OOM event: this agent has no sandbox");
		grpc_fail(x->call, &fault);
		return;
	}
	Grpc__OOMEvent e = GRPC__OOMEVENT__INIT;
	struct oom_call mine = *x; /* which the reply ends */
	e.container_id = csandbox_oom_answer(answer)->container_id;
	settle(mine.server, mine.name, grpc_reply(mine.call, &e.base) == 0);
}

static void *call_open(struct grpc_call *c) {
	struct oom_call *x = calloc(1, sizeof(*x));
	if (x) {
		x->call = c;
		x->server = grpc_call_server(c);
		id_random(x->name);
	}
	return x;
}

static void call_message(void *handler, const ProtobufCMessage *request) {
	struct oom_call *x = handler;
	Bulkhead__CsandboxOomRequest q = BULKHEAD__CSANDBOX_OOM_REQUEST__INIT;
	Bulkhead__CsandboxKey key;
	agent_sandbox_key(&key);
	q.key = &key;
	q.asker = x->name;
	x->asking = csandbox_oom_send(x->server->metadata, grpc_call_context(x->call), &q, NULL, 0, came, x);
}

static void call_closed(void *handler) {
	struct oom_call *x = handler;
	if (x->asking) {
		msg_cancel(x->asking);
		/* The answer may be on its way. */
		settle(x->server, x->name, false);
	}
	free(x);
}

const struct grpc_handler agent_get_oom_event = {
	.open = call_open,
	.message = call_message,
	.closed = call_closed,
};
