/*
 * containerd.services.sandbox.v1.Controller, and what the API's first form has
 * of it: the same paths, and requests whose fields don't collide. That form's
 * Start creates, too, and its root file systems, options and timeouts mean
 * nothing to a sandbox of namespaces, which has no root and ends at once. The
 * answer of Status differs: a sandbox gives it in the form in which it was
 * started. What that form alone has is workers/api/containerd_seed/sandbox.c.
 */
#include "workers/api/containerd/sandbox.h"

#include "containerd/cgroups_v2.pb-c.h"

#include <string.h>

#define S(name) Containerd__Services__Sandbox__V1__##name
#define S_INIT(name) CONTAINERD__SERVICES__SANDBOX__V1__##name##__INIT
#define G(name) Io__Containerd__Cgroups__V2__##name
#define G_INIT(name) IO__CONTAINERD__CGROUPS__V2__##name##__INIT

Bulkhead__CsandboxKey *ctd_sandbox_key(struct grpc_translation *t, const char *id, const char *sandboxer) {
	Bulkhead__CsandboxKey *k = ARENA_NEW(t->arena, Bulkhead__CsandboxKey, BULKHEAD__CSANDBOX_KEY__INIT);
	if (k) {
		k->namespace_ = ctd_namespace(t);
		k->id = (char *)(uintptr_t)id;
		k->sandboxer = (char *)(uintptr_t)sandboxer;
	}
	return k;
}

int ctd_sandbox_request(struct grpc_translation *t, const char *id, const char *sandboxer,
			ProtobufCMessage **ret_internal, struct fault *fault) {
	Bulkhead__CsandboxKey *k = ctd_sandbox_key(t, id, sandboxer);
	if (!k)
		return grpc_no_memory(fault);
	*ret_internal = &k->base;
	return 0;
}

const char *ctd_sandbox_state(const Bulkhead__Csandbox *s) {
	if (s->state == BULKHEAD__CSANDBOX_STATE__CSANDBOX_PAUSED)
		return "SANDBOX_PAUSED";
	return s->state == BULKHEAD__CSANDBOX_STATE__CSANDBOX_READY ? "SANDBOX_READY" : "SANDBOX_NOTREADY";
}

/* A request of the key alone: its message has the two fields. */
#define KEY_REQUEST(function, type)                                                              \
	static int function(struct grpc_translation *t, const ProtobufCMessage *request,         \
			    ProtobufCMessage **ret_internal, struct fault *fault) {              \
		const S(type) *q = (const S(type) *)request;                                     \
		return ctd_sandbox_request(t, q->sandbox_id, q->sandboxer, ret_internal, fault); \
	}
/* An answer without fields. */
#define EMPTY_REPLY(function, type, INIT)                                                 \
	static int function(struct grpc_translation *t, const ProtobufCMessage *internal, \
			    ProtobufCMessage **ret_reply, struct fault *fault) {          \
		S(type) *a = ARENA_NEW(t->arena, S(type), S_INIT(INIT));                  \
		if (!a)                                                                   \
			return grpc_no_memory(fault);                                     \
		*ret_reply = &a->base;                                                    \
		return 0;                                                                 \
	}

KEY_REQUEST(start, ControllerStartRequest)
KEY_REQUEST(platform, ControllerPlatformRequest)
KEY_REQUEST(wait, ControllerWaitRequest)
KEY_REQUEST(status, ControllerStatusRequest)
KEY_REQUEST(metrics, ControllerMetricsRequest)
EMPTY_REPLY(stop_reply, ControllerStopResponse, CONTROLLER_STOP_RESPONSE)
EMPTY_REPLY(shutdown_reply, ControllerShutdownResponse, CONTROLLER_SHUTDOWN_RESPONSE)
EMPTY_REPLY(update_reply, ControllerUpdateResponse, CONTROLLER_UPDATE_RESPONSE)

/* --- life ------------------------------------------------------------------- */

static int create(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const S(ControllerCreateRequest) *q = (const S(ControllerCreateRequest) *)request;
	Bulkhead__CsandboxCreateRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__CsandboxCreateRequest, BULKHEAD__CSANDBOX_CREATE_REQUEST__INIT);
	if (!i || !(i->key = ctd_sandbox_key(t, q->sandbox_id, q->sandboxer)))
		return grpc_no_memory(fault);
	i->netns_path = q->netns_path;
	*ret_internal = &i->base;
	return 0;
}

/* The metadata worker sends the key; without it something is wrong with it. */
static char *id_of(const Bulkhead__Csandbox *s) {
	return s->key ? s->key->id : (char *)"";
}

static int create_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
			struct fault *fault) {
	S(ControllerCreateResponse) *a =
	    ARENA_NEW(t->arena, S(ControllerCreateResponse), S_INIT(CONTROLLER_CREATE_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	a->sandbox_id = id_of((const Bulkhead__Csandbox *)internal);
	*ret_reply = &a->base;
	return 0;
}

static int start_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		       struct fault *fault) {
	const Bulkhead__Csandbox *s = (const Bulkhead__Csandbox *)internal;
	S(ControllerStartResponse) *a =
	    ARENA_NEW(t->arena, S(ControllerStartResponse), S_INIT(CONTROLLER_START_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	a->sandbox_id = id_of(s);
	a->pid = s->pid;
	if (!s->drafted) {
		a->created_at = ctd_time(t, s->created_at);
		a->spec = ctd_any(t, s->spec);
	}
	*ret_reply = &a->base;
	return 0;
}

static int end_request(struct grpc_translation *t, const char *id, const char *sandboxer, bool forget,
		       ProtobufCMessage **ret_internal, struct fault *fault) {
	Bulkhead__CsandboxStopRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__CsandboxStopRequest, BULKHEAD__CSANDBOX_STOP_REQUEST__INIT);
	if (!i || !(i->key = ctd_sandbox_key(t, id, sandboxer)))
		return grpc_no_memory(fault);
	i->forget = forget;
	*ret_internal = &i->base;
	return 0;
}

static int stop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const S(ControllerStopRequest) *q = (const S(ControllerStopRequest) *)request;
	return end_request(t, q->sandbox_id, q->sandboxer, false, ret_internal, fault);
}

static int shut_down(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		     struct fault *fault) {
	const S(ControllerShutdownRequest) *q = (const S(ControllerShutdownRequest) *)request;
	return end_request(t, q->sandbox_id, q->sandboxer, true, ret_internal, fault);
}

static int wait_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		      struct fault *fault) {
	const Bulkhead__Csandbox *s = (const Bulkhead__Csandbox *)internal;
	S(ControllerWaitResponse) *a = ARENA_NEW(t->arena, S(ControllerWaitResponse), S_INIT(CONTROLLER_WAIT_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	a->exit_status = s->exit_status;
	a->exited_at = ctd_time(t, s->exited_at);
	*ret_reply = &a->base;
	return 0;
}

/* --- looking ---------------------------------------------------------------- */

static int status_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			  struct fault *fault) {
	if (((const S(ControllerStatusRequest) *)request)->verbose)
		t->cursor = 1; /* with info */
	return status(t, request, ret_internal, fault);
}

static int info(struct grpc_translation *t, const Bulkhead__Csandbox *s, S(ControllerStatusResponse) * a) {
	const struct {
		const char *key;
		char *value;
	} entries[] = { { "pod", s->pod_id }, { "netns", s->netns_path } };
	if (!(a->info = arena_alloc(t->arena, ARRAY_SIZE(entries) * sizeof(*a->info))))
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
		S(ControllerStatusResponse__InfoEntry) *e = ARENA_NEW(t->arena, S(ControllerStatusResponse__InfoEntry),
								      S_INIT(CONTROLLER_STATUS_RESPONSE__INFO_ENTRY));
		if (!e)
			return -1;
		e->key = (char *)(uintptr_t)entries[i].key;
		e->value = entries[i].value;
		a->info[a->n_info++] = e;
	}
	return 0;
}

static int status_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
			struct fault *fault) {
	const Bulkhead__Csandbox *s = (const Bulkhead__Csandbox *)internal;
	if (s->drafted)
		return ctd_seed_sandbox_status(t, s, ret_reply, fault);
	S(ControllerStatusResponse) *a =
	    ARENA_NEW(t->arena, S(ControllerStatusResponse), S_INIT(CONTROLLER_STATUS_RESPONSE));
	if (!a || (t->cursor && info(t, s, a) < 0))
		return grpc_no_memory(fault);
	a->sandbox_id = id_of(s);
	a->pid = s->pid;
	a->state = (char *)(uintptr_t)ctd_sandbox_state(s);
	a->created_at = ctd_time(t, s->created_at);
	a->exited_at = ctd_time(t, s->exited_at);
	*ret_reply = &a->base;
	return 0;
}

static int platform_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
			  struct fault *fault) {
	S(ControllerPlatformResponse) *a =
	    ARENA_NEW(t->arena, S(ControllerPlatformResponse), S_INIT(CONTROLLER_PLATFORM_RESPONSE));
	if (!a || !(a->platform = ctd_platform(t->arena)))
		return grpc_no_memory(fault);
	*ret_reply = &a->base;
	return 0;
}

/* --- figures ---------------------------------------------------------------- */

static int metrics_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
			 struct fault *fault) {
	const Bulkhead__TaskStats *s = (const Bulkhead__TaskStats *)internal;
	S(ControllerMetricsResponse) *a =
	    ARENA_NEW(t->arena, S(ControllerMetricsResponse), S_INIT(CONTROLLER_METRICS_RESPONSE));
	G(Metrics) metrics = G_INIT(METRICS);
	G(PidsStat) pids = G_INIT(PIDS_STAT);
	G(CPUStat) cpu = G_INIT(CPUSTAT);
	G(MemoryStat) memory = G_INIT(MEMORY_STAT);
	pids.current = s->pids;
	cpu.usage_usec = s->cpu_usage_ns / 1000;
	memory.usage = s->memory_usage_bytes;
	memory.anon = s->memory_rss_bytes;
	metrics.pids = &pids;
	metrics.cpu = &cpu;
	metrics.memory = &memory;
	if (!a || !(a->metrics = ARENA_NEW(t->arena, Containerd__Types__Metric, CONTAINERD__TYPES__METRIC__INIT)) ||
	    !(a->metrics->data = ctd_pack(t, &metrics.base)))
		return grpc_no_memory(fault);
	a->metrics->timestamp = ctd_time(t, s->timestamp);
	a->metrics->id = t->state;
	*ret_reply = &a->base;
	return 0;
}

static int metrics_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			   struct fault *fault) {
	t->state = arena_strdup(t->kept, ((const S(ControllerMetricsRequest) *)request)->sandbox_id);
	return t->state ? metrics(t, request, ret_internal, fault) : grpc_no_memory(fault);
}

/* --- changes ---------------------------------------------------------------- */

/* Labels and extensions are the store's, and nothing that runs depends on them. */
static bool changeable(const char *field) {
	static const char *const names[] = { "labels", "extensions" };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		size_t n = strlen(names[i]);
		if (strncmp(field, names[i], n) == 0 && (field[n] == '\0' || field[n] == '.'))
			return true;
	}
	return false;
}

static int update(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const S(ControllerUpdateRequest) *q = (const S(ControllerUpdateRequest) *)request;
	for (size_t i = 0; i < q->n_fields; i++)
		if (!changeable(q->fields[i]))
			return fault_set(fault, FAULT_INVALID_ARGUMENT,
					 "sandbox \"%.76s\": \"%.100s\" can't be changed while the sandbox is there",
					 q->sandbox_id, q->fields[i]);
	return ctd_sandbox_request(t, q->sandbox_id, q->sandboxer, ret_internal, fault);
}

static const struct grpc_translator on_create = { create, create_reply }, on_start = { start, start_reply },
				    on_platform = { platform, platform_reply }, on_stop = { stop, stop_reply },
				    on_wait = { wait, wait_reply }, on_status = { status_request, status_reply },
				    on_shutdown = { shut_down, shutdown_reply },
				    on_metrics = { metrics_request, metrics_reply },
				    on_update = { update, update_reply };

const struct grpc_method ctd_sandbox_controller_methods[] = {
	{ .name = "Create", .number = MSG_csandbox_create, .translator = &on_create, .changes = true },
	{ .name = "Start", .number = MSG_csandbox_start, .translator = &on_start, .changes = true },
	{ .name = "Platform", .number = MSG_csandbox_get, .translator = &on_platform },
	{ .name = "Stop", .number = MSG_csandbox_stop, .translator = &on_stop, .changes = true },
	{ .name = "Wait", .number = MSG_csandbox_wait, .translator = &on_wait },
	{ .name = "Status", .number = MSG_csandbox_get, .translator = &on_status },
	{ .name = "Shutdown", .number = MSG_csandbox_stop, .translator = &on_shutdown, .changes = true },
	{ .name = "Metrics", .number = MSG_csandbox_metrics, .translator = &on_metrics },
	{ .name = "Update", .number = MSG_csandbox_get, .translator = &on_update },
	{ 0 },
};
