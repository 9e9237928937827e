/*
 * grpc.AgentService in front of the rows of tasks, which are those of one
 * namespace. A container's own process is named by an empty exec_id, or by the
 * container's id.
 */
#include "workers/api/agent/agent.h"

#include "internal/ctask.pb-c.h"
#include "kata/agent.pb-c.h"
#include "workers/api/task_request.h"

#include <signal.h>
#include <string.h>

#define AGENT_NAMESPACE "kata"

static Bulkhead__CtaskKey *key(struct grpc_translation *t, char *container_id, char *exec_id) {
	Bulkhead__CtaskKey *k = ARENA_NEW(t->arena, Bulkhead__CtaskKey, BULKHEAD__CTASK_KEY__INIT);
	if (k) {
		k->namespace_ = (char *)AGENT_NAMESPACE;
		k->container_id = container_id;
		k->exec_id = strcmp(exec_id, container_id) == 0 ? (char *)"" : exec_id;
	}
	return k;
}

/* --- requests --- */

static int start(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		 struct fault *fault) {
	return task_key_request(key(t, ((const Grpc__StartContainerRequest *)request)->container_id, (char *)""),
				ret_internal, fault);
}

static int wait(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const Grpc__WaitProcessRequest *q = (const Grpc__WaitProcessRequest *)request;
	return task_key_request(key(t, q->container_id, q->exec_id), ret_internal, fault);
}

static int close_stdin(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		       struct fault *fault) {
	const Grpc__CloseStdinRequest *q = (const Grpc__CloseStdinRequest *)request;
	return task_key_request(key(t, q->container_id, q->exec_id), ret_internal, fault);
}

/* SIGKILL without an exec_id is for all of the container's processes. */
static int signal_process(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			  struct fault *fault) {
	const Grpc__SignalProcessRequest *q = (const Grpc__SignalProcessRequest *)request;
	bool all = *q->exec_id == '\0' && q->signal == SIGKILL;
	return task_kill_request(t->arena, key(t, q->container_id, q->exec_id), q->signal, all, true, ret_internal,
				 fault);
}

static int resize(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const Grpc__TtyWinResizeRequest *q = (const Grpc__TtyWinResizeRequest *)request;
	return task_resize_request(t->arena, key(t, q->container_id, q->exec_id), q->column, q->row, ret_internal,
				   fault);
}

static int pause_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			 struct fault *fault) {
	return task_freeze_request(t->arena,
				   key(t, ((const Grpc__PauseContainerRequest *)request)->container_id, (char *)""),
				   true, ret_internal, fault);
}

static int resume(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	return task_freeze_request(t->arena,
				   key(t, ((const Grpc__ResumeContainerRequest *)request)->container_id, (char *)""),
				   false, ret_internal, fault);
}

/* No resources: the container stays as it is. */
static int update(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const Grpc__UpdateContainerRequest *q = (const Grpc__UpdateContainerRequest *)request;
	Bulkhead__CtaskUpdateRequest *u =
	    ARENA_NEW(t->arena, Bulkhead__CtaskUpdateRequest, BULKHEAD__CTASK_UPDATE_REQUEST__INIT);
	if (!u || !(u->key = key(t, q->container_id, (char *)"")))
		return grpc_no_memory(fault);
	u->resources = q->resources;
	if (!u->resources)
		u->resources = ARENA_NEW(t->arena, Grpc__LinuxResources, GRPC__LINUX_RESOURCES__INIT);
	*ret_internal = &u->base;
	return u->resources ? 0 : grpc_no_memory(fault);
}

/* --- replies --- */

static int wait_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	Grpc__WaitProcessResponse *a = (Grpc__WaitProcessResponse *)*reply;
	a->status = (int32_t)((const Bulkhead__CtaskExit *)internal)->exit_status;
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

static const struct grpc_translator on_start = { .request = start }, on_wait = { .request = wait, .reply = wait_reply },
				    on_signal = { .request = signal_process },
				    on_close_stdin = { .request = close_stdin },
				    on_resize = { .request = resize, .failure = no_terminal },
				    on_pause = { .request = pause_request, .failure = unknown_container },
				    on_resume = { .request = resume, .failure = unknown_container },
				    on_update = { .request = update, .failure = unknown_container };

const struct grpc_method agent_service_methods[] = {
	{ .name = "StartContainer", .number = MSG_ctask_start, .translator = &on_start, .changes = true },
	{ .name = "SignalProcess", .number = MSG_ctask_kill, .translator = &on_signal, .changes = true },
	{ .name = "WaitProcess", .number = MSG_ctask_wait, .translator = &on_wait },
	{ .name = "UpdateContainer", .number = MSG_ctask_update, .translator = &on_update, .changes = true },
	{ .name = "PauseContainer", .number = MSG_ctask_freeze, .translator = &on_pause, .changes = true },
	{ .name = "ResumeContainer", .number = MSG_ctask_freeze, .translator = &on_resume, .changes = true },
	{ .name = "CloseStdin", .number = MSG_ctask_close_stdin, .translator = &on_close_stdin },
	{ .name = "TtyWinResize", .number = MSG_ctask_resize, .translator = &on_resize },
	{ .name = "UpdateEphemeralMounts", .number = MSG_guest_ephemeral, .changes = true },
	{ .name = "RemoveStaleVirtiofsShareMounts", .number = MSG_guest_refresh },
	{ .name = "GetDiagnosticData", .number = MSG_guest_diagnostics },
	{ .name = "GetVolumeStats", .number = MSG_guest_volume_stats },
	{ .name = "UpdateInterface", .number = MSG_guest_interface, .changes = true },
	{ .name = "ListInterfaces", .number = MSG_guest_interfaces },
	{ .name = "UpdateRoutes", .number = MSG_guest_routes_update, .changes = true },
	{ .name = "ListRoutes", .number = MSG_guest_routes },
	{ .name = "AddARPNeighbors", .number = MSG_guest_neighbors, .changes = true },
	{ .name = "GetIPTables", .number = MSG_guest_iptables_get },
	{ .name = "SetIPTables", .number = MSG_guest_iptables_set, .changes = true },
	{ .name = "GetGuestDetails", .number = MSG_guest_details },
	{ .name = "GetMetrics", .number = MSG_guest_metrics },
	{ .name = "OnlineCPUMem", .number = MSG_guest_online, .changes = true },
	{ .name = "MemHotplugByProbe", .number = MSG_guest_probe, .changes = true },
	{ .name = "CopyFile", .number = MSG_guest_copy, .changes = true },
	{ .name = "AddSwap", .number = MSG_guest_swap, .changes = true },
	{ .name = "AddSwapPath", .number = MSG_guest_swap_path, .changes = true },
	{ .name = "ReseedRandomDev", .number = MSG_guest_reseed, .changes = true },
	{ .name = "SetGuestDateTime", .number = MSG_guest_clock, .changes = true },
	{ 0 },
};
