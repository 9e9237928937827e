/* The OCI specification of what the CRI has made, as tools look at it: verbose statuses, checkpoints, containerd's API.
 */
#include "workers/metadata/view.h"

#include "workers/metadata/container.h"

#include <errno.h>
#include <string.h>

#define ANNOTATION "io.kubernetes.cri."

struct annotation {
	const char *key;
	char *value;
};

static int annotate(struct arena *a, const struct annotation *more, size_t n_more, Grpc__Spec *spec) {
	size_t n = spec->n_annotations;
	Grpc__Spec__AnnotationsEntry **list = arena_alloc(a, (n + n_more) * sizeof(*list));
	if (!list)
		return -ENOMEM;
	if (n)
		memcpy(list, spec->annotations, n * sizeof(*list));
	for (size_t i = 0; i < n_more; i++, n++) {
		list[n] = ARENA_NEW(a, Grpc__Spec__AnnotationsEntry, GRPC__SPEC__ANNOTATIONS_ENTRY__INIT);
		if (!list[n])
			return -ENOMEM;
		list[n]->key = (char *)(uintptr_t)more[i].key;
		list[n]->value = more[i].value;
	}
	spec->annotations = list;
	spec->n_annotations = n;
	return 0;
}

/* --- containers ------------------------------------------------------------- */

/* Tools find whose container it is in these. */
static int annotate_container(struct arena *a, const struct container *c, Grpc__Spec *spec) {
	const Runtime__V1__PodSandboxMetadata *pod = c->sandbox->record->config->metadata;
	const struct annotation more[] = {
		{ ANNOTATION "container-type", (char *)"container" },
		{ ANNOTATION "container-name", c->record->config->metadata->name },
		{ ANNOTATION "image-name", c->record->config->image->image },
		{ ANNOTATION "sandbox-id", c->record->sandbox_id },
		{ ANNOTATION "sandbox-name", pod->name },
		{ ANNOTATION "sandbox-namespace", pod->namespace_ },
		{ ANNOTATION "sandbox-uid", pod->uid },
	};
	return annotate(a, more, ARRAY_SIZE(more), spec);
}

int view_container_spec(struct metadata *m, struct arena *a, struct container *c, Grpc__Spec **ret_spec,
			struct fault *fault) {
	const Bulkhead__TaskCreateReply *t = c->record->task;
	Grpc__Spec *spec;
	int r = container_spec(m, c, a, &spec, fault);
	if (r < 0)
		return r;
	if (t && t->user)
		spec->process->user = t->user;
	if (t)
		spec->linux->cgroupspath = t->cgroup_path;
	if (annotate_container(a, c, spec) < 0)
		return fault_errno(fault, ENOMEM, "describe the container");
	*ret_spec = spec;
	return 0;
}

/* --- pod sandboxes ---------------------------------------------------------- */

static int namespace_add(struct arena *a, const char *type, char *path, Grpc__Linux *l) {
	Grpc__LinuxNamespace *n = path ? ARENA_NEW(a, Grpc__LinuxNamespace, GRPC__LINUX_NAMESPACE__INIT) : NULL;
	if (!n)
		return -ENOMEM;
	n->type = (char *)(uintptr_t)type;
	n->path = path;
	l->namespaces[l->n_namespaces++] = n;
	return 0;
}

/* The keeper is in them. */
static int namespaces(struct arena *a, const struct sandbox *s, Grpc__Linux *l) {
	const Bulkhead__SandboxStartReply *t = s->record->started;
	const Runtime__V1__LinuxPodSandboxConfig *config = s->record->config->linux;
	const Runtime__V1__NamespaceOption *o =
	    config && config->security_context ? config->security_context->namespace_options : NULL;
	if (!t || sandbox_state(s) != RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY)
		return 0;
	if (!(l->namespaces = arena_alloc(a, 2 * sizeof(Grpc__LinuxNamespace *))))
		return -ENOMEM;
	int r = *t->netns_path ? namespace_add(a, "network", t->netns_path, l) : 0;
	if (r == 0 && (!o || o->ipc != RUNTIME__V1__NAMESPACE_MODE__NODE))
		r = namespace_add(a, "ipc", arena_printf(a, "/proc/%d/ns/ipc", t->keeper_pid), l);
	return r;
}

/* No specification makes a pod. What tools want of one is where its namespaces are, and whose it is. */
Grpc__Spec *view_sandbox_spec(struct arena *a, const struct sandbox *s) {
	const Runtime__V1__PodSandboxMetadata *pod = s->record->config->metadata;
	const struct annotation more[] = {
		{ ANNOTATION "container-type", (char *)"sandbox" },
		{ ANNOTATION "sandbox-id", s->record->id },
		{ ANNOTATION "sandbox-name", pod->name },
		{ ANNOTATION "sandbox-namespace", pod->namespace_ },
		{ ANNOTATION "sandbox-uid", pod->uid },
		{ ANNOTATION "sandbox-log-directory", s->record->config->log_directory },
	};
	Grpc__Spec *spec = ARENA_NEW(a, Grpc__Spec, GRPC__SPEC__INIT);
	if (!spec || !(spec->linux = ARENA_NEW(a, Grpc__Linux, GRPC__LINUX__INIT)) ||
	    namespaces(a, s, spec->linux) < 0 || annotate(a, more, ARRAY_SIZE(more), spec) < 0)
		return NULL;
	spec->version = (char *)"1.1.0";
	spec->hostname = s->record->config->hostname;
	return spec;
}
