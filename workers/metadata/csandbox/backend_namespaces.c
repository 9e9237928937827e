/*
 * A sandbox of namespaces: a bare pod, as tasks have, with a network namespace
 * that is the client's or has nothing but its loopback. No process of its own
 * runs in it, so it has no root. Its specification says which namespaces are
 * its own; a pod's configuration, as the CRI's clients give it in the options,
 * says that as well, the host name and sysctls. The rest of a configuration is
 * for whoever makes the containers.
 */
#include "workers/metadata/csandbox/csandbox.h"

#include <errno.h>
#include <string.h>

#define MODE(name) BULKHEAD__NAMESPACE_MODE__##name

/* --- the specification ------------------------------------------------------ */

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
	return says && !namespace_of(spec, type) ? MODE(NODE) : MODE(POD);
}

/* Instead of what was to be joined. */
static int join_network(struct arena *a, const char *path, Bulkhead__SandboxStartRequest *pod) {
	Grpc__LinuxNamespace *n = arena_alloc(a, sizeof(*n));
	pod->join = arena_alloc(a, sizeof(*pod->join));
	if (!n || !pod->join)
		return -ENOMEM;
	*n = (Grpc__LinuxNamespace)GRPC__LINUX_NAMESPACE__INIT;
	n->type = (char *)"network";
	n->path = (char *)(uintptr_t)path;
	pod->join[0] = n;
	pod->n_join = 1;
	pod->network = MODE(POD);
	return 0;
}

static int of_spec(struct arena *a, const Bulkhead__Object *o, Bulkhead__SandboxStartRequest *pod) {
	const Grpc__Spec *spec = o->sandbox->parsed;
	pod->bare = true;
	pod->network = mode_of(spec, "network");
	pod->ipc = mode_of(spec, "ipc");
	pod->uts = mode_of(spec, "uts");
	pod->pid = MODE(CONTAINER);
	pod->hostname = spec && *spec->hostname ? spec->hostname : o->id->key;
	const Grpc__LinuxNamespace *network =
	    spec && spec->linux && spec->linux->n_namespaces ? namespace_of(spec, "network") : NULL;
	return network && *network->path ? join_network(a, network->path, pod) : 0;
}

/* --- the options ------------------------------------------------------------ */

static void of_config(const Runtime__V1__PodSandboxConfig *c, Bulkhead__SandboxStartRequest *pod) {
	const Runtime__V1__LinuxPodSandboxConfig *l = c->linux;
	const Runtime__V1__NamespaceOption *n = l && l->security_context ? l->security_context->namespace_options
									 : NULL;
	if (*c->hostname)
		pod->hostname = c->hostname;
	if (l) {
		pod->sysctls = (void *)l->sysctls; /* maps have one layout */
		pod->n_sysctls = l->n_sysctls;
	}
	if (n && n->network == RUNTIME__V1__NAMESPACE_MODE__NODE) {
		pod->network = pod->uts = MODE(NODE);
		pod->n_join = 0;
	}
	if (n && n->ipc == RUNTIME__V1__NAMESPACE_MODE__NODE)
		pod->ipc = MODE(NODE);
}

/* --- what it can't give ----------------------------------------------------- */

static int refuse(const Bulkhead__CsandboxWish *w, struct fault *fault) {
	if (w->n_rootfs)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "rootfs: no process of its own runs in a sandbox, so it has no root");
	if (w->config && w->config->n_port_mappings)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "options: port_mappings: a sandbox has no network but its client's");
	if (w->options && !w->config)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "options: a sandbox understands runtime.v1.PodSandboxConfig, not \"%.120s\"",
				 w->options->type_url);
	return 0;
}

int namespaces_fill(struct arena *a, const Bulkhead__Object *o, const Bulkhead__CsandboxWish *w,
		    Bulkhead__SandboxStartRequest *pod, struct fault *fault) {
	int r = refuse(w, fault);
	if (r < 0)
		return r;
	r = of_spec(a, o, pod);
	if (r == 0 && w->config)
		of_config(w->config, pod);
	if (r == 0 && *w->netns_path)
		r = join_network(a, w->netns_path, pod);
	if (pod->uts == MODE(NODE))
		pod->hostname = (char *)"";
	return r < 0 ? fault_errno(fault, r, "make its pod") : 0;
}
