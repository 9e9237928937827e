/*
 * A runtime's name says who makes the sandbox. The one backend so far makes it
 * of namespaces: a bare pod, as tasks have, with a network namespace that is
 * the client's or has nothing but its loopback.
 */
#include "workers/metadata/csandbox/csandbox.h"

#include <errno.h>
#include <string.h>

/* --- of namespaces ---------------------------------------------------------- */

static const Grpc__LinuxNamespace *namespace_of(const Grpc__Spec *spec, const char *type) {
	for (size_t i = 0; i < spec->linux->n_namespaces; i++)
		if (strcmp(spec->linux->namespaces[i]->type, type) == 0)
			return spec->linux->namespaces[i];
	return NULL;
}

/* A specification that speaks of namespaces means the host's by those that it
 * doesn't name. */
static Bulkhead__NamespaceMode mode_of(const Grpc__Spec *spec, const char *type) {
	bool says = spec && spec->linux && spec->linux->n_namespaces;
	return says && !namespace_of(spec, type) ? BULKHEAD__NAMESPACE_MODE__NODE : BULKHEAD__NAMESPACE_MODE__POD;
}

/* 0 and 1 namespaces to join. */
static int join_network(struct arena *a, const char *path, Bulkhead__SandboxStartRequest *pod) {
	Grpc__LinuxNamespace *n = arena_alloc(a, sizeof(*n));
	pod->join = arena_alloc(a, sizeof(*pod->join));
	if (!n || !pod->join)
		return -ENOMEM;
	*n = (Grpc__LinuxNamespace)GRPC__LINUX_NAMESPACE__INIT;
	n->type = (char *)"network";
	n->path = (char *)(uintptr_t)path;
	pod->join[pod->n_join++] = n;
	pod->network = BULKHEAD__NAMESPACE_MODE__POD;
	return 0;
}

static int namespaces_fill(struct arena *a, const Bulkhead__Object *o, const char *netns_path,
			   Bulkhead__SandboxStartRequest *pod) {
	const Grpc__Spec *spec = o->sandbox->parsed;
	pod->bare = true;
	pod->network = mode_of(spec, "network");
	pod->ipc = mode_of(spec, "ipc");
	pod->uts = mode_of(spec, "uts");
	pod->pid = BULKHEAD__NAMESPACE_MODE__CONTAINER;
	if (pod->uts == BULKHEAD__NAMESPACE_MODE__POD)
		pod->hostname = spec && *spec->hostname ? spec->hostname : o->id->key;
	const Grpc__LinuxNamespace *network =
	    spec && spec->linux && spec->linux->n_namespaces ? namespace_of(spec, "network") : NULL;
	if (!*netns_path && network)
		netns_path = network->path;
	return *netns_path ? join_network(a, netns_path, pod) : 0;
}

/* --- the table -------------------------------------------------------------- */

static const struct backend {
	const char *runtime;
	int (*fill)(struct arena *a, const Bulkhead__Object *o, const char *netns_path,
		    Bulkhead__SandboxStartRequest *pod);
} backends[] = {
	{ "", namespaces_fill },
	{ "io.containerd.runc.v2", namespaces_fill },
	{ "io.containerd.runc.v1", namespaces_fill },
	{ "io.containerd.runtime.v1.linux", namespaces_fill },
};

static const struct backend *backend_of(const char *runtime) {
	for (size_t i = 0; i < ARRAY_SIZE(backends); i++)
		if (strcmp(backends[i].runtime, runtime) == 0)
			return &backends[i];
	return NULL;
}

int csandbox_pod(struct arena *a, const Bulkhead__Object *o, const char *netns_path,
		 Bulkhead__SandboxStartRequest *ret_pod, struct fault *fault) {
	const char *runtime = o->sandbox->runtime ? o->sandbox->runtime->name : "";
	const struct backend *b = backend_of(runtime);
	Bulkhead__SandboxStartRequest pod = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	if (!b)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "sandbox \"%.76s\": no sandbox is made by the runtime \"%.100s\" here", o->id->key,
				 runtime);
	if (*netns_path && *netns_path != '/')
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "sandbox \"%.76s\": a network namespace is an absolute path, not \"%.200s\"",
				 o->id->key, netns_path);
	pod.name = o->id->key;
	pod.namespace_ = o->id->namespace_;
	int r = b->fill(a, o, netns_path, &pod);
	if (r < 0)
		return fault_errno(fault, r, "sandbox \"%.76s\"", o->id->key);
	*ret_pod = pod;
	return 0;
}
