/*
 * grpc.AgentService in front of the rows of tasks, which are those of one
 * namespace. A container's own process is named by an empty exec_id, or by the
 * container's id.
 */
#include "workers/api/agent/agent.h"

#include "internal/ctask.pb-c.h"
#include "kata/agent.pb-c.h"
#include "msg/typed.h"

#include <signal.h>
#include <string.h>

#define AGENT_NAMESPACE "kata"

/* A message in the arena, as its INIT; NULL when out of memory. */
#define NEW(a, type, ...)                                    \
	({                                                   \
		type *new_ = arena_alloc((a), sizeof(type)); \
		if (new_)                                    \
			*new_ = (type)__VA_ARGS__;           \
		new_;                                        \
	})

static int no_memory(struct fault *fault) {
	return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "out of memory");
}

static Bulkhead__CtaskKey *key(struct grpc_translation *t, char *container_id, char *exec_id) {
	Bulkhead__CtaskKey *k = NEW(t->arena, Bulkhead__CtaskKey, BULKHEAD__CTASK_KEY__INIT);
	if (k) {
		k->namespace_ = (char *)AGENT_NAMESPACE;
		k->container_id = container_id;
		k->exec_id = strcmp(exec_id, container_id) == 0 ? (char *)"" : exec_id;
	}
	return k;
}

static int key_request(struct grpc_translation *t, char *container_id, char *exec_id, ProtobufCMessage **ret_internal,
		       struct fault *fault) {
	Bulkhead__CtaskKey *k = key(t, container_id, exec_id);
	if (!k)
		return no_memory(fault);
	*ret_internal = &k->base;
	return 0;
}

/* --- requests --- */

static int start(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		 struct fault *fault) {
	return key_request(t, ((const Grpc__StartContainerRequest *)request)->container_id, (char *)"", ret_internal,
			   fault);
}

static int wait(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const Grpc__WaitProcessRequest *q = (const Grpc__WaitProcessRequest *)request;
	return key_request(t, q->container_id, q->exec_id, ret_internal, fault);
}

static int close_stdin(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		       struct fault *fault) {
	const Grpc__CloseStdinRequest *q = (const Grpc__CloseStdinRequest *)request;
	return key_request(t, q->container_id, q->exec_id, ret_internal, fault);
}

/* SIGKILL without an exec_id is for all of the container's processes. */
static int signal_process(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			  struct fault *fault) {
	const Grpc__SignalProcessRequest *q = (const Grpc__SignalProcessRequest *)request;
	Bulkhead__CtaskKillRequest *k = NEW(t->arena, Bulkhead__CtaskKillRequest, BULKHEAD__CTASK_KILL_REQUEST__INIT);
	if (!k || !(k->key = key(t, q->container_id, q->exec_id)))
		return no_memory(fault);
	if (q->signal < 1 || q->signal > 64)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "container \"%.76s\": there is no signal %u",
				 q->container_id, q->signal);
	k->signal = q->signal;
	k->all = *q->exec_id == '\0' && q->signal == SIGKILL;
	k->late = true;
	*ret_internal = &k->base;
	return 0;
}

static int resize(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const Grpc__TtyWinResizeRequest *q = (const Grpc__TtyWinResizeRequest *)request;
	Bulkhead__CtaskResizeRequest *z =
	    NEW(t->arena, Bulkhead__CtaskResizeRequest, BULKHEAD__CTASK_RESIZE_REQUEST__INIT);
	if (!z || !(z->key = key(t, q->container_id, q->exec_id)))
		return no_memory(fault);
	z->width = q->column;
	z->height = q->row;
	*ret_internal = &z->base;
	return 0;
}

static int freeze(struct grpc_translation *t, char *container_id, bool frozen, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	Bulkhead__CtaskFreezeRequest *z =
	    NEW(t->arena, Bulkhead__CtaskFreezeRequest, BULKHEAD__CTASK_FREEZE_REQUEST__INIT);
	if (!z || !(z->key = key(t, container_id, (char *)"")))
		return no_memory(fault);
	z->frozen = frozen;
	*ret_internal = &z->base;
	return 0;
}

static int pause_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			 struct fault *fault) {
	return freeze(t, ((const Grpc__PauseContainerRequest *)request)->container_id, true, ret_internal, fault);
}

static int resume(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	return freeze(t, ((const Grpc__ResumeContainerRequest *)request)->container_id, false, ret_internal, fault);
}

/* No resources: the container stays as it is. */
static int update(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const Grpc__UpdateContainerRequest *q = (const Grpc__UpdateContainerRequest *)request;
	Bulkhead__CtaskUpdateRequest *u =
	    NEW(t->arena, Bulkhead__CtaskUpdateRequest, BULKHEAD__CTASK_UPDATE_REQUEST__INIT);
	if (!u || !(u->key = key(t, q->container_id, (char *)"")))
		return no_memory(fault);
	u->resources = q->resources;
	if (!u->resources)
		u->resources = NEW(t->arena, Grpc__LinuxResources, GRPC__LINUX_RESOURCES__INIT);
	*ret_internal = &u->base;
	return u->resources ? 0 : no_memory(fault);
}

/* --- replies --- */

static int empty(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		 struct fault *fault) {
	Google__Protobuf__Empty *e = NEW(t->arena, Google__Protobuf__Empty, GOOGLE__PROTOBUF__EMPTY__INIT);
	if (!e)
		return no_memory(fault);
	*ret_reply = &e->base;
	return 0;
}

static int wait_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		      struct fault *fault) {
	Grpc__WaitProcessResponse *a = NEW(t->arena, Grpc__WaitProcessResponse, GRPC__WAIT_PROCESS_RESPONSE__INIT);
	if (!a)
		return no_memory(fault);
	a->status = (int32_t)((const Bulkhead__CtaskExit *)internal)->exit_status;
	*ret_reply = &a->base;
	return 0;
}

/* A container that isn't there, to calls that are about containers only. */
static void unknown_container(struct fault *fault) {
	if (fault->code == FAULT_NOT_FOUND)
		fault->code = FAULT_INVALID_ARGUMENT;
}

static void no_terminal(struct fault *fault) {
	if (fault->code == FAULT_FAILED_PRECONDITION)
		fault->code = FAULT_UNAVAILABLE;
}

static const struct grpc_translator on_start = { .request = start, .reply = empty },
				    on_wait = { .request = wait, .reply = wait_reply },
				    on_signal = { .request = signal_process, .reply = empty },
				    on_close_stdin = { .request = close_stdin, .reply = empty },
				    on_resize = { .request = resize, .reply = empty, .failure = no_terminal },
				    on_pause = { .request = pause_request,
						 .reply = empty,
						 .failure = unknown_container },
				    on_resume = { .request = resume, .reply = empty, .failure = unknown_container },
				    on_update = { .request = update, .reply = empty, .failure = unknown_container };

const struct grpc_method agent_service_methods[] = {
	{ .name = "StartContainer", .number = MSG_ctask_start, .translator = &on_start, .changes = true },
	{ .name = "SignalProcess", .number = MSG_ctask_kill, .translator = &on_signal, .changes = true },
	{ .name = "WaitProcess", .number = MSG_ctask_wait, .translator = &on_wait },
	{ .name = "UpdateContainer", .number = MSG_ctask_update, .translator = &on_update, .changes = true },
	{ .name = "PauseContainer", .number = MSG_ctask_freeze, .translator = &on_pause, .changes = true },
	{ .name = "ResumeContainer", .number = MSG_ctask_freeze, .translator = &on_resume, .changes = true },
	{ .name = "CloseStdin", .number = MSG_ctask_close_stdin, .translator = &on_close_stdin },
	{ .name = "TtyWinResize", .number = MSG_ctask_resize, .translator = &on_resize },
	{ 0 },
};
