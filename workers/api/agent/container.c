/*
 * Containers as a whole. The specification is what a Kata host sends: without
 * the namespaces that the guest as such stands for (network, and pid, which the
 * request carries), and with paths of namespaces that mean nothing here.
 */
#include "workers/api/agent/streams.h"

#include "base/clock.h"
#include "workers/api/task_request.h"

#include <string.h>

/* --- CreateContainer -------------------------------------------------------- */

/* The sandbox's ipc and uts, a mount namespace, and a pid namespace or the
 * sandbox's. */
static int namespaces_make(struct arena *a, Grpc__Linux *l) {
	static const char *const types[] = { "ipc", "uts", "mount", "pid", "cgroup" };
	bool cgroup = false;
	for (size_t i = 0; i < l->n_namespaces; i++)
		cgroup |= strcmp(l->namespaces[i]->type, "cgroup") == 0;
	l->n_namespaces = 0;
	l->namespaces = arena_alloc(a, ARRAY_SIZE(types) * sizeof(*l->namespaces));
	for (size_t i = 0; l->namespaces && i < ARRAY_SIZE(types) - !cgroup; i++) {
		Grpc__LinuxNamespace *n = ARENA_NEW(a, Grpc__LinuxNamespace, GRPC__LINUX_NAMESPACE__INIT);
		if (!n)
			return -1;
		n->type = (char *)(uintptr_t)types[i];
		l->namespaces[l->n_namespaces++] = n;
	}
	return l->namespaces ? 0 : -1;
}

/* In the arena; what it points to is the client's. */
static Grpc__Spec *spec_make(struct arena *a, const Grpc__Spec *from) {
	Grpc__Spec *s = arena_alloc(a, sizeof(*s));
	Grpc__Linux *l = arena_alloc(a, sizeof(*l));
	if (!s || !l)
		return NULL;
	*s = *from;
	*l = *from->linux;
	s->linux = l;
	return namespaces_make(a, l) < 0 ? NULL : s;
}

/* As Kata's hosts choose them. */
static int id_check(const char *id, struct fault *fault) {
	if (strlen(id) < 2)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "create container: an id has at least two characters, not \"%s\"", id);
	return 0;
}

static int create_check(const Grpc__CreateContainerRequest *q, struct fault *fault) {
	const uint32_t ports[] = { q->stdin_port, q->stdout_port, q->stderr_port };
	const char *missing = !q->oci		 ? "specification"
			      : !q->oci->process ? "process"
			      : !q->oci->root	 ? "root"
			      : !q->oci->linux	 ? "part about Linux"
						 : NULL;
	int r = id_check(q->container_id, fault);
	if (r == 0 && missing)
		r = fault_set(fault, FAULT_INVALID_ARGUMENT, "create container \"%.76s\": it has no %s",
			      q->container_id, missing);
	if (r == 0 && q->n_shared_mounts)
		r = fault_set(fault, FAULT_UNIMPLEMENTED,
			      "create container \"%.76s\": folders of other containers aren't shared", q->container_id);
	return r < 0 ? r : agent_ports_check(ports, q->container_id, fault);
}

#define LOG_ANNOTATION "io.kubernetes.container.terminationMessagePath"

/* In the guest: the source of what is mounted where the container writes it. */
static char *termination_log(const Grpc__Spec *s) {
	for (size_t i = 0; i < s->n_annotations; i++)
		for (size_t n = 0; strcmp(s->annotations[i]->key, LOG_ANNOTATION) == 0 && n < s->n_mounts; n++)
			if (strcmp(s->mounts[n]->destination, s->annotations[i]->value) == 0)
				return s->mounts[n]->source;
	return (char *)"";
}

static Bulkhead__GuestContainer *guest_make(struct arena *a, const Grpc__CreateContainerRequest *q) {
	Bulkhead__GuestContainer *g = ARENA_NEW(a, Bulkhead__GuestContainer, BULKHEAD__GUEST_CONTAINER__INIT);
	if (g) {
		g->storages = q->storages;
		g->n_storages = q->n_storages;
		g->devices = q->devices;
		g->n_devices = q->n_devices;
		g->termination_log = termination_log(q->oci);
	}
	return g;
}

static int create(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const Grpc__CreateContainerRequest *q = (const Grpc__CreateContainerRequest *)request;
	int r = create_check(q, fault);
	if (r < 0)
		return r;
	Bulkhead__CtaskCreateRequest *c =
	    ARENA_NEW(t->arena, Bulkhead__CtaskCreateRequest, BULKHEAD__CTASK_CREATE_REQUEST__INIT);
	Bulkhead__ContainerBody *b = ARENA_NEW(t->arena, Bulkhead__ContainerBody, BULKHEAD__CONTAINER_BODY__INIT);
	if (!c || !b || !(c->key = agent_key(t, q->container_id, (char *)"")) ||
	    !(c->stdio = agent_stdio(t->arena, q->oci->process)) || !(b->parsed = spec_make(t->arena, q->oci)))
		return grpc_no_memory(fault);
	b->sandbox = (char *)AGENT_SANDBOX;
	c->container = b;
	c->sandbox_pid = q->sandbox_pidns;
	if (!(c->guest = guest_make(t->arena, q)))
		return grpc_no_memory(fault);
	*ret_internal = &c->base;
	return 0;
}

/* The container is made here, so what can't be found is the sandbox. */
static void create_failure(struct fault *fault) {
	if (fault->code == FAULT_NOT_FOUND)
		fault->code = FAULT_FAILED_PRECONDITION;
}

/* --- its life --------------------------------------------------------------- */

static int start(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		 struct fault *fault) {
	return task_key_request(agent_key(t, ((const Grpc__StartContainerRequest *)request)->container_id, (char *)""),
				ret_internal, fault);
}

static int remove_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			  struct fault *fault) {
	const Grpc__RemoveContainerRequest *q = (const Grpc__RemoveContainerRequest *)request;
	Bulkhead__CtaskRemoveRequest *m =
	    ARENA_NEW(t->arena, Bulkhead__CtaskRemoveRequest, BULKHEAD__CTASK_REMOVE_REQUEST__INIT);
	if (!m || !(m->key = agent_key(t, q->container_id, (char *)"")))
		return grpc_no_memory(fault);
	if (t->call)
		agent_streams_forget(grpc_call_server(t->call), q->container_id);
	m->timeout_ns = q->timeout * (uint64_t)NS_PER_SEC;
	*ret_internal = &m->base;
	return 0;
}

/* No resources: the container stays as it is. */
static int update(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const Grpc__UpdateContainerRequest *q = (const Grpc__UpdateContainerRequest *)request;
	Bulkhead__CtaskUpdateRequest *u =
	    ARENA_NEW(t->arena, Bulkhead__CtaskUpdateRequest, BULKHEAD__CTASK_UPDATE_REQUEST__INIT);
	if (!u || !(u->key = agent_key(t, q->container_id, (char *)"")))
		return grpc_no_memory(fault);
	u->resources = q->resources;
	if (!u->resources)
		u->resources = ARENA_NEW(t->arena, Grpc__LinuxResources, GRPC__LINUX_RESOURCES__INIT);
	*ret_internal = &u->base;
	return u->resources ? 0 : grpc_no_memory(fault);
}

static int freeze(struct grpc_translation *t, char *container_id, bool frozen, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	Bulkhead__CtaskFreezeRequest *f =
	    ARENA_NEW(t->arena, Bulkhead__CtaskFreezeRequest, BULKHEAD__CTASK_FREEZE_REQUEST__INIT);
	if (!f || !(f->key = agent_key(t, container_id, (char *)"")))
		return grpc_no_memory(fault);
	f->frozen = frozen;
	*ret_internal = &f->base;
	return 0;
}

static int pause_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			 struct fault *fault) {
	return freeze(t, ((const Grpc__PauseContainerRequest *)request)->container_id, true, ret_internal, fault);
}

static int resume_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			  struct fault *fault) {
	return freeze(t, ((const Grpc__ResumeContainerRequest *)request)->container_id, false, ret_internal, fault);
}

const struct grpc_translator agent_create_container = {
	.request = create,
	.failure = create_failure,
};

const struct grpc_translator agent_start_container = { .request = start };
const struct grpc_translator agent_remove_container = { .request = remove_request };

const struct grpc_translator agent_pause_container = {
	.request = pause_request,
	.failure = agent_unknown_container,
};

const struct grpc_translator agent_resume_container = {
	.request = resume_request,
	.failure = agent_unknown_container,
};

const struct grpc_translator agent_update_container = {
	.request = update,
	.failure = agent_unknown_container,
};
