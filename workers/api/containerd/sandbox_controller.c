/*
 * containerd.services.sandbox.v1.Controller, and what the API's first form has
 * of it: the same paths, and requests whose fields don't collide. That form's
 * Start creates, too, with a root and options, and its Shutdown has the time
 * that today's gives to Stop. The answer of Status differs: a sandbox gives it
 * in the form in which it was started. What that form alone has is
 * workers/api/containerd_seed/sandbox.c.
 */
#include "workers/api/containerd/sandbox.h"

#include "workers/api/containerd/metrics.h"

#include <string.h>

#define S(name) Containerd__Services__Sandbox__V1__##name
#define S_INIT(name) CONTAINERD__SERVICES__SANDBOX__V1__##name##__INIT

/* The type of options that the CRI's clients give. */
#define CONFIG_TYPE "runtime.v1.PodSandboxConfig"

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
KEY_REQUEST(platform, ControllerPlatformRequest)
KEY_REQUEST(wait, ControllerWaitRequest)
KEY_REQUEST(status, ControllerStatusRequest)
KEY_REQUEST(metrics, ControllerMetricsRequest)

/* --- life ------------------------------------------------------------------- */

/* A type's name may have a prefix, up to the last slash. */
static bool is_config(const Google__Protobuf__Any *any) {
	const char *slash = strrchr(any->type_url, '/');
	return strcmp(slash ? slash + 1 : any->type_url, CONFIG_TYPE) == 0;
}

/* None, as clients say it: nothing, or a message without a content. */
static bool is_nothing(const Google__Protobuf__Any *any) {
	return !any || (any->value.len == 0 && !is_config(any));
}

static int options(struct grpc_translation *t, const Google__Protobuf__Any *any, Bulkhead__CsandboxWish *w,
		   struct fault *fault) {
	if (is_nothing(any))
		return 0;
	if (!(w->options = ctd_typed(t, any)))
		return grpc_no_memory(fault);
	if (!is_config(any))
		return 0;
	w->config = (Runtime__V1__PodSandboxConfig *)msg_decode(&runtime__v1__pod_sandbox_config__descriptor, t->arena,
								any->value.data, any->value.len);
	return w->config ? 0 : fault_set(fault, FAULT_INVALID_ARGUMENT, "options: their content is no " CONFIG_TYPE);
}

/* What both Create and the first form's Start have. */
static int wish(struct grpc_translation *t, Containerd__Types__Mount *const *rootfs, size_t n_rootfs,
		const Google__Protobuf__Any *any, Bulkhead__CsandboxWish **ret_wish, struct fault *fault) {
	Bulkhead__CsandboxWish *w = ARENA_NEW(t->arena, Bulkhead__CsandboxWish, BULKHEAD__CSANDBOX_WISH__INIT);
	if (!w || !(w->rootfs = ctd_mounts(t, rootfs, n_rootfs)))
		return grpc_no_memory(fault);
	w->n_rootfs = n_rootfs;
	*ret_wish = w;
	return options(t, any, w, fault);
}

static int create(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const S(ControllerCreateRequest) *q = (const S(ControllerCreateRequest) *)request;
	Bulkhead__CsandboxCreateRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__CsandboxCreateRequest, BULKHEAD__CSANDBOX_CREATE_REQUEST__INIT);
	if (!i || !(i->key = ctd_sandbox_key(t, q->sandbox_id, q->sandboxer)))
		return grpc_no_memory(fault);
	int r = wish(t, q->rootfs, q->n_rootfs, q->options, &i->wish, fault);
	if (r < 0)
		return r;
	i->wish->netns_path = q->netns_path;
	i->wish->annotations = (void *)q->annotations;
	i->wish->n_annotations = q->n_annotations;
	if (q->sandbox && !(i->wish->object = ctd_sandbox_object(t, q->sandbox)))
		return grpc_no_memory(fault);
	*ret_internal = &i->base;
	return 0;
}

static int start(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		 struct fault *fault) {
	const S(ControllerStartRequest) *q = (const S(ControllerStartRequest) *)request;
	Bulkhead__CsandboxStartRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__CsandboxStartRequest, BULKHEAD__CSANDBOX_START_REQUEST__INIT);
	if (!i || !(i->key = ctd_sandbox_key(t, q->sandbox_id, q->sandboxer)))
		return grpc_no_memory(fault);
	*ret_internal = &i->base;
	return wish(t, q->rootfs, q->n_rootfs, q->options, &i->wish, fault);
}

/* The metadata worker sends the key; without it something is wrong with it. */
static char *id_of(const Bulkhead__Csandbox *s) {
	return s->key ? s->key->id : (char *)"";
}

static int create_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			struct fault *fault) {
	S(ControllerCreateResponse) *a = (S(ControllerCreateResponse) *)*reply;
	a->sandbox_id = id_of((const Bulkhead__Csandbox *)internal);
	return 0;
}

static int start_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		       struct fault *fault) {
	const Bulkhead__Csandbox *s = (const Bulkhead__Csandbox *)internal;
	S(ControllerStartResponse) *a = (S(ControllerStartResponse) *)*reply;
	a->sandbox_id = id_of(s);
	a->pid = s->pid;
	if (!s->drafted) {
		a->created_at = ctd_time(t, s->created_at);
		a->spec = ctd_any(t, s->spec);
	}
	return 0;
}

static int end_request(struct grpc_translation *t, Bulkhead__CsandboxKey *key, uint32_t grace_seconds, bool forget,
		       ProtobufCMessage **ret_internal, struct fault *fault) {
	Bulkhead__CsandboxStopRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__CsandboxStopRequest, BULKHEAD__CSANDBOX_STOP_REQUEST__INIT);
	if (!i || !key)
		return grpc_no_memory(fault);
	i->key = key;
	i->grace_seconds = grace_seconds;
	i->forget = forget;
	*ret_internal = &i->base;
	return 0;
}

static int stop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const S(ControllerStopRequest) *q = (const S(ControllerStopRequest) *)request;
	return end_request(t, ctd_sandbox_key(t, q->sandbox_id, q->sandboxer), q->timeout_secs, false, ret_internal,
			   fault);
}

static int shut_down(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		     struct fault *fault) {
	const S(ControllerShutdownRequest) *q = (const S(ControllerShutdownRequest) *)request;
	return end_request(t, ctd_sandbox_key(t, q->sandbox_id, q->sandboxer), q->timeout_secs, true, ret_internal,
			   fault);
}

static int wait_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	const Bulkhead__Csandbox *s = (const Bulkhead__Csandbox *)internal;
	S(ControllerWaitResponse) *a = (S(ControllerWaitResponse) *)*reply;
	a->exit_status = s->exit_status;
	a->exited_at = ctd_time(t, s->exited_at);
	return 0;
}

/* --- looking ---------------------------------------------------------------- */

static int status_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			  struct fault *fault) {
	if (((const S(ControllerStatusRequest) *)request)->verbose)
		t->cursor = 1; /* with info */
	return status(t, request, ret_internal, fault);
}

#define INFO_OWN 2 /* entries beside the annotations */

static int info_add(struct grpc_translation *t, S(ControllerStatusResponse) * a, const char *key, char *value) {
	S(ControllerStatusResponse__InfoEntry) *e =
	    ARENA_NEW(t->arena, S(ControllerStatusResponse__InfoEntry), S_INIT(CONTROLLER_STATUS_RESPONSE__INFO_ENTRY));
	if (!e || !key)
		return -1;
	e->key = (char *)(uintptr_t)key;
	e->value = value;
	a->info[a->n_info++] = e;
	return 0;
}

static int info(struct grpc_translation *t, const Bulkhead__Csandbox *s, S(ControllerStatusResponse) * a) {
	if (!(a->info = arena_alloc(t->arena, (INFO_OWN + s->n_annotations) * sizeof(*a->info))) ||
	    info_add(t, a, "pod", s->pod_id) < 0 || info_add(t, a, "netns", s->netns_path) < 0)
		return -1;
	for (size_t i = 0; i < s->n_annotations; i++)
		if (info_add(t, a, arena_printf(t->arena, "annotations.%s", s->annotations[i]->key),
			     s->annotations[i]->value) < 0)
			return -1;
	return 0;
}

static int status_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			struct fault *fault) {
	const Bulkhead__Csandbox *s = (const Bulkhead__Csandbox *)internal;
	if (s->drafted)
		return ctd_seed_sandbox_status(t, s, reply, fault);
	S(ControllerStatusResponse) *a = (S(ControllerStatusResponse) *)*reply;
	if ((t->cursor && info(t, s, a) < 0))
		return grpc_no_memory(fault);
	a->sandbox_id = id_of(s);
	a->pid = s->pid;
	a->state = (char *)(uintptr_t)ctd_sandbox_state(s);
	a->created_at = ctd_time(t, s->created_at);
	a->exited_at = ctd_time(t, s->exited_at);
	return 0;
}

static int platform_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			  struct fault *fault) {
	S(ControllerPlatformResponse) *a = (S(ControllerPlatformResponse) *)*reply;
	if (!(a->platform = ctd_platform(t->arena)))
		return grpc_no_memory(fault);
	return 0;
}

/* --- figures ---------------------------------------------------------------- */

static int metrics_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			 struct fault *fault) {
	S(ControllerMetricsResponse) *a = (S(ControllerMetricsResponse) *)*reply;
	if (!(a->metrics = ctd_metric(t, (const Bulkhead__TaskStats *)internal, t->state)))
		return grpc_no_memory(fault);
	return 0;
}

static int metrics_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			   struct fault *fault) {
	t->state = arena_strdup(t->kept, ((const S(ControllerMetricsRequest) *)request)->sandbox_id);
	return t->state ? metrics(t, request, ret_internal, fault) : grpc_no_memory(fault);
}

/* --- changes ---------------------------------------------------------------- */

static int update(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const S(ControllerUpdateRequest) *q = (const S(ControllerUpdateRequest) *)request;
	Bulkhead__CsandboxUpdateRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__CsandboxUpdateRequest, BULKHEAD__CSANDBOX_UPDATE_REQUEST__INIT);
	if (!i || !(i->key = ctd_sandbox_key(t, q->sandbox_id, q->sandboxer)) ||
	    (q->sandbox && !(i->object = ctd_sandbox_object(t, q->sandbox))))
		return grpc_no_memory(fault);
	i->paths = q->fields;
	i->n_paths = q->n_fields;
	*ret_internal = &i->base;
	return 0;
}

static const struct grpc_translator on_create = { create, create_reply }, on_start = { start, start_reply },
				    on_platform = { platform, platform_reply }, on_stop = { .request = stop },
				    on_wait = { wait, wait_reply }, on_status = { status_request, status_reply },
				    on_shutdown = { .request = shut_down },
				    on_metrics = { metrics_request, metrics_reply }, on_update = { .request = update };

const struct grpc_method ctd_sandbox_controller_methods[] = {
	{ .name = "Create", .number = MSG_csandbox_create, .translator = &on_create, .changes = true },
	{ .name = "Start", .number = MSG_csandbox_start, .translator = &on_start, .changes = true },
	{ .name = "Platform", .number = MSG_csandbox_get, .translator = &on_platform },
	{ .name = "Stop", .number = MSG_csandbox_stop, .translator = &on_stop, .changes = true },
	{ .name = "Wait", .number = MSG_csandbox_wait, .translator = &on_wait },
	{ .name = "Status", .number = MSG_csandbox_get, .translator = &on_status },
	{ .name = "Shutdown", .number = MSG_csandbox_stop, .translator = &on_shutdown, .changes = true },
	{ .name = "Metrics", .number = MSG_csandbox_metrics, .translator = &on_metrics },
	{ .name = "Update", .number = MSG_csandbox_update, .translator = &on_update, .changes = true },
	{ 0 },
};
