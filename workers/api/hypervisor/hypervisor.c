/*
 * The four calls: CreateVM is the sandbox Controller's Create, StartVM its Start,
 * StopVM its Shutdown. The answer of CreateVM says where the agent will be once
 * the machine is started; what goes through there is nobody's here.
 *
 * Networks, mounts and containers are the shim's, but for the devices of the
 * network namespace that it names, which the guest has by the time that StartVM
 * answers. Annotations are kept with the sandbox; sizes are the configuration's.
 */
#include "workers/api/hypervisor/hypervisor.h"

#include "base/version.h"
#include "boot/boot.h"
#include "kata/hypervisor.pb-c.h"
#include "msg/typed.h"

#define NAMESPACE "hypervisor"
#define H(name) Hypervisor__##name

static int key_of(struct grpc_translation *t, const char *id, Bulkhead__CsandboxKey **ret_key, struct fault *fault) {
	Bulkhead__CsandboxKey *k = ARENA_NEW(t->arena, Bulkhead__CsandboxKey, BULKHEAD__CSANDBOX_KEY__INIT);
	if (!k)
		return grpc_no_memory(fault);
	k->namespace_ = (char *)NAMESPACE;
	k->id = (char *)(uintptr_t)id;
	*ret_key = k;
	return 0;
}

/* The object that clients of the Controller have in the store. */
static Bulkhead__Object *object_of(struct grpc_translation *t, const char *id) {
	Bulkhead__Object *o = ARENA_NEW(t->arena, Bulkhead__Object, BULKHEAD__OBJECT__INIT);
	Bulkhead__ObjectKey *key = ARENA_NEW(t->arena, Bulkhead__ObjectKey, BULKHEAD__OBJECT_KEY__INIT);
	Bulkhead__SandboxBody *body = ARENA_NEW(t->arena, Bulkhead__SandboxBody, BULKHEAD__SANDBOX_BODY__INIT);
	Bulkhead__Runtime *runtime = ARENA_NEW(t->arena, Bulkhead__Runtime, BULKHEAD__RUNTIME__INIT);
	if (!o || !key || !body || !runtime)
		return NULL;
	key->kind = BULKHEAD__OBJECT_KIND__OBJECT_SANDBOX;
	key->namespace_ = (char *)NAMESPACE;
	key->key = (char *)(uintptr_t)id;
	runtime->name = (char *)BOOT_VM_HANDLER;
	body->runtime = runtime;
	o->id = key;
	o->body_case = BULKHEAD__OBJECT__BODY_SANDBOX;
	o->sandbox = body;
	return o;
}

static int create(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const H(CreateVMRequest) *q = (const H(CreateVMRequest) *)request;
	Bulkhead__CsandboxCreateRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__CsandboxCreateRequest, BULKHEAD__CSANDBOX_CREATE_REQUEST__INIT);
	Bulkhead__CsandboxWish *w = ARENA_NEW(t->arena, Bulkhead__CsandboxWish, BULKHEAD__CSANDBOX_WISH__INIT);
	if (!i || !w || !(w->object = object_of(t, q->id)))
		return grpc_no_memory(fault);
	w->netns_path = q->networknamespacepath;
	w->annotations = (void *)q->annotations; /* maps have one layout */
	w->n_annotations = q->n_annotations;
	w->agent = true;
	i->wish = w;
	*ret_internal = &i->base;
	return key_of(t, q->id, &i->key, fault);
}

static int create_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			struct fault *fault) {
	((H(CreateVMResponse) *)*reply)->agentsocketpath = ((const Bulkhead__Csandbox *)internal)->agent_socket;
	return 0;
}

static int start(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		 struct fault *fault) {
	Bulkhead__CsandboxStartRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__CsandboxStartRequest, BULKHEAD__CSANDBOX_START_REQUEST__INIT);
	if (!i)
		return grpc_no_memory(fault);
	*ret_internal = &i->base;
	return key_of(t, ((const H(StartVMRequest) *)request)->id, &i->key, fault);
}

static int stop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	Bulkhead__CsandboxStopRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__CsandboxStopRequest, BULKHEAD__CSANDBOX_STOP_REQUEST__INIT);
	if (!i)
		return grpc_no_memory(fault);
	i->forget = true;
	*ret_internal = &i->base;
	return key_of(t, ((const H(StopVMRequest) *)request)->id, &i->key, fault);
}

static void version(struct grpc_call *c, const ProtobufCMessage *request) {
	H(VersionResponse) a = HYPERVISOR__VERSION_RESPONSE__INIT;
	a.version = (char *)BULKHEAD_VERSION;
	grpc_reply(c, &a.base);
}

static const struct grpc_translator on_create = { create, create_reply }, on_start = { .request = start },
				    on_stop = { .request = stop };

const struct grpc_method hypervisor_methods[] = {
	{ .name = "CreateVM", .number = MSG_csandbox_create, .translator = &on_create, .changes = true },
	{ .name = "StartVM", .number = MSG_csandbox_start, .translator = &on_start, .changes = true },
	{ .name = "StopVM", .number = MSG_csandbox_stop, .translator = &on_stop, .changes = true },
	{ .name = "Version", .answer = version },
	{ 0 },
};
