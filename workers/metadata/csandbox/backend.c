/*
 * A runtime's name says who makes the sandbox: one row each. A backend says what
 * the pod is started with; whatever is asked of the pod later goes to the task
 * worker by the pod's id, which knows by then what it is made of.
 */
#include "workers/metadata/csandbox/csandbox.h"

#include <string.h>

static const struct backend {
	const char *runtime;
	csandbox_fill_fn *fill;
} backends[] = {
	{ .runtime = "", .fill = namespaces_fill },
	{ .runtime = "io.containerd.runc.v2", .fill = namespaces_fill },
	{ .runtime = "io.containerd.runc.v1", .fill = namespaces_fill },
	{ .runtime = "io.containerd.runtime.v1.linux", .fill = namespaces_fill },
	{ .runtime = "linux", .fill = namespaces_fill }, /* its first name */
};

static const struct backend *backend_of(const char *runtime) {
	for (size_t i = 0; i < ARRAY_SIZE(backends); i++)
		if (strcmp(backends[i].runtime, runtime) == 0)
			return &backends[i];
	return NULL;
}

bool csandbox_runtime_known(const char *runtime) {
	return backend_of(runtime) != NULL;
}

const char *csandbox_runtime(const Bulkhead__Object *o) {
	return o->sandbox->runtime ? o->sandbox->runtime->name : "";
}

int csandbox_pod(struct arena *a, const Bulkhead__Object *o, const Bulkhead__CsandboxWish *w,
		 Bulkhead__SandboxStartRequest *ret_pod, struct fault *fault) {
	const char *runtime = csandbox_runtime(o);
	const struct backend *b = backend_of(runtime);
	Bulkhead__SandboxStartRequest pod = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	if (!b)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "sandbox \"%.76s\": no sandbox is made by the runtime \"%.100s\" here", o->id->key,
				 runtime);
	if (*w->netns_path && *w->netns_path != '/')
		return fault_set(
		    fault, FAULT_INVALID_ARGUMENT,
		    "sandbox \"%.76s\": netns_path: a network namespace is an absolute path, not \"%.200s\"",
		    o->id->key, w->netns_path);
	pod.name = o->id->key;
	pod.namespace_ = o->id->namespace_;
	pod.annotations = (void *)w->annotations; /* maps have one layout */
	pod.n_annotations = w->n_annotations;
	int r = b->fill(a, o, w, &pod, fault);
	if (r < 0) {
		fault_prefix(fault, 0, "sandbox \"%.76s\"", o->id->key);
		return r;
	}
	*ret_pod = pod;
	return 0;
}
