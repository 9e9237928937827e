/*
 * What the sandbox Controller's first form has and today's doesn't: Pause,
 * Resume, Ping, and its own answer of Status. The rest is today's
 * (workers/api/containerd/sandbox_controller.c), as the paths are.
 */
#include "workers/api/containerd/sandbox.h"
#include "workers/api/containerd_seed/ctd_seed.h"

#include "containerd_seed/sandbox.pb-c.h"

#define S(name) Containerd__Seed__Sandbox__##name
#define S_INIT(name) CONTAINERD__SEED__SANDBOX__##name##__INIT

int ctd_seed_sandbox_status(struct grpc_translation *t, const Bulkhead__Csandbox *s, ProtobufCMessage **ret_reply,
			    struct fault *fault) {
	S(ControllerStatusResponse) *a =
	    ARENA_NEW(t->arena, S(ControllerStatusResponse), S_INIT(CONTROLLER_STATUS_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	a->id = s->key ? s->key->id : (char *)"";
	a->pid = s->pid;
	a->state = (char *)(uintptr_t)ctd_sandbox_state(s);
	a->exit_status = s->exit_status;
	a->exited_at = ctd_time(t, s->exited_at);
	*ret_reply = &a->base;
	return 0;
}

static int freeze(struct grpc_translation *t, const char *id, bool frozen, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	Bulkhead__CsandboxFreezeRequest *z =
	    ARENA_NEW(t->arena, Bulkhead__CsandboxFreezeRequest, BULKHEAD__CSANDBOX_FREEZE_REQUEST__INIT);
	if (!z || !(z->key = ctd_sandbox_key(t, id, "")))
		return grpc_no_memory(fault);
	z->frozen = frozen;
	*ret_internal = &z->base;
	return 0;
}

static int pause(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		 struct fault *fault) {
	return freeze(t, ((const S(ControllerPauseRequest) *)request)->sandbox_id, true, ret_internal, fault);
}

static int resume(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	return freeze(t, ((const S(ControllerResumeRequest) *)request)->sandbox_id, false, ret_internal, fault);
}

static int ping(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return ctd_sandbox_request(t, ((const S(ControllerPingRequest) *)request)->sandbox_id, "", ret_internal, fault);
}

/* Its figures are the keeper's, so who has them has an answer of what holds it. */
static int ping_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	S(ControllerPingResponse) *a = ARENA_NEW(t->arena, S(ControllerPingResponse), S_INIT(CONTROLLER_PING_RESPONSE));
	*reply = a ? &a->base : NULL;
	return a ? 0 : grpc_no_memory(fault);
}

static const struct grpc_translator on_pause = { .request = pause }, on_resume = { .request = resume },
				    on_ping = { ping, ping_reply };

const struct grpc_method ctd_seed_sandbox_methods[] = {
	{ .name = "Pause", .number = MSG_csandbox_freeze, .translator = &on_pause, .changes = true },
	{ .name = "Resume", .number = MSG_csandbox_freeze, .translator = &on_resume, .changes = true },
	{ .name = "Ping", .number = MSG_csandbox_metrics, .translator = &on_ping },
	{ 0 },
};
