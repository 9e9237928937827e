/* The agent's one sandbox: the pod whose IPC and UTS namespaces containers are
 * in; its network is the guest's own. */
#include "workers/api/agent/streams.h"

#include "workers/api/task_request.h"

#include <string.h>

void agent_sandbox_key(Bulkhead__CsandboxKey *ret_key) {
	*ret_key = (Bulkhead__CsandboxKey)BULKHEAD__CSANDBOX_KEY__INIT;
	ret_key->namespace_ = (char *)AGENT_NAMESPACE;
	ret_key->id = (char *)AGENT_SANDBOX;
}

static Bulkhead__CsandboxKey *key(struct arena *a) {
	Bulkhead__CsandboxKey *k = arena_alloc(a, sizeof(*k));
	if (k)
		agent_sandbox_key(k);
	return k;
}

/* What it has of its own, in the words of a specification. */
static Grpc__Spec *spec_make(struct arena *a, const Grpc__CreateSandboxRequest *q) {
	static const char *const own[] = { "ipc", "uts" };
	Grpc__Spec *s = ARENA_NEW(a, Grpc__Spec, GRPC__SPEC__INIT);
	Grpc__Linux *l = ARENA_NEW(a, Grpc__Linux, GRPC__LINUX__INIT);
	if (!s || !l || !(l->namespaces = arena_alloc(a, ARRAY_SIZE(own) * sizeof(*l->namespaces))))
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
		Grpc__LinuxNamespace *n = ARENA_NEW(a, Grpc__LinuxNamespace, GRPC__LINUX_NAMESPACE__INIT);
		if (!n)
			return NULL;
		n->type = (char *)(uintptr_t)own[i];
		l->namespaces[l->n_namespaces++] = n;
	}
	s->hostname = *q->hostname ? q->hostname : q->sandbox_id;
	s->linux = l;
	return s;
}

/* Without a word of the store's. */
static Bulkhead__CsandboxWish *wish_make(struct arena *a, const Grpc__CreateSandboxRequest *q) {
	Bulkhead__CsandboxWish *w = ARENA_NEW(a, Bulkhead__CsandboxWish, BULKHEAD__CSANDBOX_WISH__INIT);
	Bulkhead__Object *o = ARENA_NEW(a, Bulkhead__Object, BULKHEAD__OBJECT__INIT);
	Bulkhead__ObjectKey *id = ARENA_NEW(a, Bulkhead__ObjectKey, BULKHEAD__OBJECT_KEY__INIT);
	Bulkhead__SandboxBody *body = ARENA_NEW(a, Bulkhead__SandboxBody, BULKHEAD__SANDBOX_BODY__INIT);
	if (!w || !o || !id || !body || !(body->parsed = spec_make(a, q)))
		return NULL;
	id->kind = BULKHEAD__OBJECT_KIND__OBJECT_SANDBOX;
	id->namespace_ = (char *)AGENT_NAMESPACE;
	id->key = (char *)AGENT_SANDBOX;
	o->id = id;
	o->body_case = BULKHEAD__OBJECT__BODY_SANDBOX;
	o->sandbox = body;
	w->object = o;
	w->keeps_ooms = true;
	return w;
}

/* Only of an agent in a guest is there one to be set up. */
static Bulkhead__GuestSandbox *guest_make(struct arena *a, const Grpc__CreateSandboxRequest *q) {
	Bulkhead__GuestSandbox *g = ARENA_NEW(a, Bulkhead__GuestSandbox, BULKHEAD__GUEST_SANDBOX__INIT);
	if (!g || !(g->setup = ARENA_NEW(a, Bulkhead__GuestSetupRequest, BULKHEAD__GUEST_SETUP_REQUEST__INIT)))
		return NULL;
	g->setup->dns = q->dns;
	g->setup->n_dns = q->n_dns;
	g->setup->kernel_modules = q->kernel_modules;
	g->setup->n_kernel_modules = q->n_kernel_modules;
	g->storages = q->storages;
	g->n_storages = q->n_storages;
	return g;
}

static int create(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const Grpc__CreateSandboxRequest *q = (const Grpc__CreateSandboxRequest *)request;
	Bulkhead__CsandboxStartRequest *s =
	    ARENA_NEW(t->arena, Bulkhead__CsandboxStartRequest, BULKHEAD__CSANDBOX_START_REQUEST__INIT);
	if (!s || !(s->key = key(t->arena)) || !(s->wish = wish_make(t->arena, q)))
		return grpc_no_memory(fault);
	s->guest = guest_make(t->arena, q);
	*ret_internal = &s->base;
	return s->guest ? 0 : grpc_no_memory(fault);
}

static void create_failure(struct fault *fault) {
	if (fault->code == FAULT_ALREADY_EXISTS)
		fault_set(fault, FAULT_ALREADY_EXISTS,
			  "create sandbox: this agent has one already, and no agent has two: destroy it first");
}

static int destroy(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		   struct fault *fault) {
	Bulkhead__CsandboxStopRequest *q =
	    ARENA_NEW(t->arena, Bulkhead__CsandboxStopRequest, BULKHEAD__CSANDBOX_STOP_REQUEST__INIT);
	if (!q || !(q->key = key(t->arena)))
		return grpc_no_memory(fault);
	if (t->call)
		agent_streams_forget(grpc_call_server(t->call), NULL);
	q->forget = q->tasks = true;
	*ret_internal = &q->base;
	return 0;
}

static void destroy_failure(struct fault *fault) {
	if (fault->code == FAULT_NOT_FOUND)
		fault_set(fault, FAULT_NOT_FOUND, "destroy sandbox: this agent has none");
}

const struct grpc_translator agent_create_sandbox = {
	.request = create,
	.failure = create_failure,
};

const struct grpc_translator agent_destroy_sandbox = {
	.request = destroy,
	.failure = destroy_failure,
};
