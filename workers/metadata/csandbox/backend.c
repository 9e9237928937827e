/*
 * A runtime's name says who makes the sandbox: one row each. A backend says what
 * the pod is started with; whatever is asked of the pod later goes to the task
 * worker by the pod's id, which knows by then what it is made of. One whose row
 * names a runtime handler of the CRI's is made as that one makes its pods.
 */
#include "workers/metadata/csandbox/csandbox.h"

#include <string.h>

static const struct backend {
	const char *runtime, *handler; /* handler NULL: the native one */
	csandbox_fill_fn *fill;
} backends[] = {
	{ .runtime = "", .fill = namespaces_fill },
	{ .runtime = "io.containerd.runc.v2", .fill = namespaces_fill },
	{ .runtime = "io.containerd.runc.v1", .fill = namespaces_fill },
	{ .runtime = "io.containerd.runtime.v1.linux", .fill = namespaces_fill },
	{ .runtime = "linux", .fill = namespaces_fill }, /* its first name */
	{ .runtime = BOOT_VM_HANDLER, .handler = BOOT_VM_HANDLER, .fill = vm_fill },
	{ .runtime = "io.containerd.kata.v2", .handler = BOOT_VM_HANDLER, .fill = vm_fill },
};

static const struct backend *backend_of(const char *runtime) {
	for (size_t i = 0; i < ARRAY_SIZE(backends); i++)
		if (strcmp(backends[i].runtime, runtime) == 0)
			return &backends[i];
	return NULL;
}

static bool is_configured(const struct metadata *m, const char *handler) {
	for (uint32_t i = 0; handler && i < m->config->n_runtimes; i++)
		if (strcmp(m->config->runtimes[i].name, handler) == 0)
			return true;
	return !handler;
}

/* The row, when that is there on this machine. */
static const struct backend *backend_here(const struct metadata *m, const char *runtime) {
	const struct backend *b = backend_of(runtime);
	return b && is_configured(m, b->handler) ? b : NULL;
}

bool csandbox_runtime_known(const struct metadata *m, const char *runtime) {
	return backend_here(m, runtime) != NULL;
}

int csandbox_runtime_check(const struct metadata *m, const char *runtime, const struct csandbox *s,
			   struct fault *fault) {
	const struct backend *b = backend_here(m, runtime);
	if (!b)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "nothing is run by the runtime \"%.100s\" here",
				 runtime);
	if (!b->handler || (s && strcmp(s->record->pod->runtime, b->handler) == 0))
		return 0;
	return fault_set(fault, FAULT_INVALID_ARGUMENT,
			 "the runtime \"%.100s\" runs containers in sandboxes of its own only", runtime);
}

const char *csandbox_runtime(const Bulkhead__Object *o) {
	return o->sandbox->runtime ? o->sandbox->runtime->name : "";
}

int csandbox_pod(const struct metadata *m, struct arena *a, const Bulkhead__Object *o, const Bulkhead__CsandboxWish *w,
		 Bulkhead__SandboxStartRequest *ret_pod, struct fault *fault) {
	const char *runtime = csandbox_runtime(o);
	const struct backend *b = backend_here(m, runtime);
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
	pod.runtime = (char *)(uintptr_t)(b->handler ? b->handler : "");
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
