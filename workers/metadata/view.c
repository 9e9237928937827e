#include "workers/metadata/view.h"

#include "workers/metadata/lifecycle.h"
#include "workers/metadata/signal.h"
#include "workers/metadata/spec/spec.h"

#include <string.h>

Runtime__V1__PodSandboxState sandbox_state(const struct sandbox *s) {
	return s->record->phase == BULKHEAD__SANDBOX_PHASE__SANDBOX_UP
		   ? RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY
		   : RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_NOTREADY;
}

Runtime__V1__ContainerState container_state(const struct container *c) {
	switch (c->record->phase) {
	case BULKHEAD__CONTAINER_PHASE__CONTAINER_UP:
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING;
	case BULKHEAD__CONTAINER_PHASE__CONTAINER_ENDED:
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED;
	default:
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED;
	}
}

/* --- pod sandboxes ---------------------------------------------------------- */

/* Label and annotation maps are different generated types with the same
 * layout: an entry is a string key and a string value. */
#define ENTRIES(to, from) ((to) = (void *)(from))

Runtime__V1__PodSandbox *view_sandbox(struct arena *a, const struct sandbox *s) {
	Runtime__V1__PodSandbox *v = ARENA_NEW(a, Runtime__V1__PodSandbox, RUNTIME__V1__POD_SANDBOX__INIT);
	const Runtime__V1__PodSandboxConfig *c = s->record->config;
	if (!v)
		return NULL;
	v->id = s->record->id;
	v->metadata = c->metadata;
	v->state = sandbox_state(s);
	v->created_at = s->record->created_at;
	v->n_labels = c->n_labels;
	ENTRIES(v->labels, c->labels);
	v->n_annotations = c->n_annotations;
	ENTRIES(v->annotations, c->annotations);
	v->runtime_handler = s->record->runtime_handler;
	return v;
}

static Runtime__V1__PodSandboxNetworkStatus *view_network(struct arena *a, const struct sandbox *s) {
	Runtime__V1__PodSandboxNetworkStatus *n =
	    ARENA_NEW(a, Runtime__V1__PodSandboxNetworkStatus, RUNTIME__V1__POD_SANDBOX_NETWORK_STATUS__INIT);
	const Bulkhead__SandboxStartReply *t = s->record->started;
	if (!n || !t || t->n_ips == 0 || sandbox_state(s) != RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY)
		return n;
	n->ip = t->ips[0];
	n->additional_ips = arena_zalloc(a, t->n_ips * sizeof(*n->additional_ips));
	for (size_t i = 1; n->additional_ips && i < t->n_ips; i++) {
		Runtime__V1__PodIP *ip = ARENA_NEW(a, Runtime__V1__PodIP, RUNTIME__V1__POD_IP__INIT);
		if (!ip)
			break;
		ip->ip = t->ips[i];
		n->additional_ips[n->n_additional_ips++] = ip;
	}
	return n;
}

Runtime__V1__PodSandboxStatus *view_sandbox_status(struct arena *a, const struct sandbox *s) {
	Runtime__V1__PodSandboxStatus *v =
	    ARENA_NEW(a, Runtime__V1__PodSandboxStatus, RUNTIME__V1__POD_SANDBOX_STATUS__INIT);
	Runtime__V1__LinuxPodSandboxStatus *l =
	    ARENA_NEW(a, Runtime__V1__LinuxPodSandboxStatus, RUNTIME__V1__LINUX_POD_SANDBOX_STATUS__INIT);
	Runtime__V1__Namespace *n = ARENA_NEW(a, Runtime__V1__Namespace, RUNTIME__V1__NAMESPACE__INIT);
	Runtime__V1__NamespaceOption *o =
	    ARENA_NEW(a, Runtime__V1__NamespaceOption, RUNTIME__V1__NAMESPACE_OPTION__INIT);
	const Runtime__V1__PodSandboxConfig *c = s->record->config;
	if (!v || !l || !n || !o)
		return NULL;
	const Runtime__V1__LinuxSandboxSecurityContext *sc = c->linux ? c->linux->security_context : NULL;
	v->id = s->record->id;
	v->metadata = c->metadata;
	v->state = sandbox_state(s);
	v->created_at = s->record->created_at;
	v->network = view_network(a, s);
	n->options = sc && sc->namespace_options ? sc->namespace_options : o;
	l->namespaces = n;
	v->linux = l;
	v->n_labels = c->n_labels;
	ENTRIES(v->labels, c->labels);
	v->n_annotations = c->n_annotations;
	ENTRIES(v->annotations, c->annotations);
	v->runtime_handler = s->record->runtime_handler;
	return v->network ? v : NULL;
}

/* --- containers ------------------------------------------------------------- */

Runtime__V1__Container *view_container(struct arena *a, const struct container *c) {
	Runtime__V1__Container *v = ARENA_NEW(a, Runtime__V1__Container, RUNTIME__V1__CONTAINER__INIT);
	const Runtime__V1__ContainerConfig *config = c->record->config;
	if (!v)
		return NULL;
	v->id = c->record->id;
	v->pod_sandbox_id = c->record->sandbox_id;
	v->metadata = config->metadata;
	v->image = config->image;
	v->image_ref = c->record->image_id;
	v->image_id = c->record->image_id;
	v->state = container_state(c);
	v->created_at = c->record->created_at;
	v->n_labels = config->n_labels;
	ENTRIES(v->labels, config->labels);
	v->n_annotations = config->n_annotations;
	ENTRIES(v->annotations, config->annotations);
	return v;
}

char *view_image_name(struct metadata *m, const struct container *c) {
	struct map_node *n = map_find(&m->model.image_ids, c->record->image_id);
	const struct image *i = n ? container_of(n, struct image, by_id) : NULL;
	return i && i->record->n_names ? i->record->names[0] : c->record->config->image->image;
}

/* The image by the name that it has now, as the reference implementation does. */
static Runtime__V1__ImageSpec *view_image_spec(struct metadata *m, struct arena *a, const struct container *c) {
	Runtime__V1__ImageSpec *v = ARENA_NEW(a, Runtime__V1__ImageSpec, RUNTIME__V1__IMAGE_SPEC__INIT);
	if (!v)
		return NULL;
	*v = *c->record->config->image;
	v->image = view_image_name(m, c);
	return v;
}

static Runtime__V1__ContainerUser *view_user(struct arena *a, const struct container *c) {
	const Grpc__User *u = c->record->task ? c->record->task->user : NULL;
	Runtime__V1__ContainerUser *v = ARENA_NEW(a, Runtime__V1__ContainerUser, RUNTIME__V1__CONTAINER_USER__INIT);
	Runtime__V1__LinuxContainerUser *l =
	    ARENA_NEW(a, Runtime__V1__LinuxContainerUser, RUNTIME__V1__LINUX_CONTAINER_USER__INIT);
	if (!u || !v || !l)
		return NULL;
	l->uid = u->uid;
	l->gid = u->gid;
	l->supplemental_groups = arena_zalloc(a, (u->n_additionalgids + 1) * sizeof(*l->supplemental_groups));
	for (size_t i = 0; l->supplemental_groups && i < u->n_additionalgids; i++)
		l->supplemental_groups[l->n_supplemental_groups++] = u->additionalgids[i];
	v->linux = l;
	return v;
}

static Runtime__V1__ContainerResources *view_resources(struct arena *a, const struct container *c) {
	const Runtime__V1__LinuxContainerConfig *l = c->record->config->linux;
	if (!l || !l->resources)
		return NULL;
	Runtime__V1__ContainerResources *v =
	    ARENA_NEW(a, Runtime__V1__ContainerResources, RUNTIME__V1__CONTAINER_RESOURCES__INIT);
	if (v)
		v->linux = l->resources;
	return v;
}

static void view_exit(const struct container *c, Runtime__V1__ContainerStatus *v) {
	const Bulkhead__TaskExit *e = c->record->exit;
	if (c->record->phase != BULKHEAD__CONTAINER_PHASE__CONTAINER_ENDED)
		return;
	if (e) {
		v->finished_at = e->finished_at;
		v->exit_code = (int32_t)e->exit_code;
	}
	if (*c->record->reason)
		v->reason = c->record->reason;
	else if (e && e->ooms > 0)
		v->reason = (char *)"OOMKilled";
	else
		v->reason = (char *)(v->exit_code == 0 ? "Completed" : "Error");
	v->message = c->record->message;
}

/* The client's own, with the digest of what is mounted where that's an image. */
static Runtime__V1__Mount **view_mounts(struct arena *a, const Bulkhead__ContainerRecord *r) {
	const Runtime__V1__ContainerConfig *config = r->config;
	if (r->n_volumes == 0)
		return config->mounts;
	Runtime__V1__Mount **list = arena_alloc(a, config->n_mounts * sizeof(*list));
	if (!list)
		return NULL;
	memcpy(list, config->mounts, config->n_mounts * sizeof(*list));
	for (size_t i = 0; i < r->n_volumes; i++) {
		Runtime__V1__Mount **slot = &list[r->volumes[i]->mount], *m = arena_alloc(a, sizeof(*m));
		Runtime__V1__ImageSpec *image = arena_alloc(a, sizeof(*image));
		if (!m || !image)
			return NULL;
		*m = **slot;
		*image = *m->image;
		image->image_ref = r->volumes[i]->image_id;
		m->image = image;
		*slot = m;
	}
	return list;
}

Runtime__V1__ContainerStatus *view_container_status(struct metadata *m, struct arena *a, const struct container *c) {
	Runtime__V1__ContainerStatus *v =
	    ARENA_NEW(a, Runtime__V1__ContainerStatus, RUNTIME__V1__CONTAINER_STATUS__INIT);
	const Runtime__V1__ContainerConfig *config = c->record->config;
	if (!v)
		return NULL;
	v->id = c->record->id;
	v->metadata = config->metadata;
	v->state = container_state(c);
	v->created_at = c->record->created_at;
	v->started_at = c->record->task ? c->record->task->started_at : 0;
	view_exit(c, v);
	v->image = view_image_spec(m, a, c);
	v->image_ref = c->record->image_ref;
	v->image_id = c->record->image_id;
	v->n_labels = config->n_labels;
	ENTRIES(v->labels, config->labels);
	v->n_annotations = config->n_annotations;
	ENTRIES(v->annotations, config->annotations);
	v->mounts = view_mounts(a, c->record);
	v->n_mounts = v->mounts ? config->n_mounts : 0;
	char *log = spec_log_path(a, c->sandbox->record, c->record);
	if (log)
		v->log_path = log;
	v->resources = view_resources(a, c);
	v->user = view_user(a, c);
	v->stop_signal = signal_to_cri(spec_stop_signal(c->record));
	return v->image && (v->mounts || !config->n_mounts) ? v : NULL;
}

size_t view_container_statuses(struct metadata *m, struct arena *a, const struct sandbox *s,
			       Runtime__V1__ContainerStatus ***ret_list) {
	size_t n = 0, count = 0;
	list_for_each (k, &s->containers)
		n++;
	Runtime__V1__ContainerStatus **list = arena_alloc(a, (n + 1) * sizeof(Runtime__V1__ContainerStatus *));
	list_for_each (k, &s->containers) {
		const struct container *c = list_entry(k, struct container, in_sandbox);
		if (list && container_visible(c) && (list[count] = view_container_status(m, a, c)))
			count++;
	}
	*ret_list = list;
	return count;
}

/* --- images ----------------------------------------------------------------- */

/* USER of the image: a number is a uid, anything else a name. */
static void view_image_user(struct arena *a, const struct image *i, Runtime__V1__Image *v) {
	const char *user = i->record->image_config ? i->record->image_config->user : "";
	size_t n = strcspn(user, ":");
	char *name = arena_alloc(a, n + 1);
	if (!name)
		return;
	memcpy(name, user, n);
	name[n] = '\0';
	if (n == 0 || n > 10 || strspn(name, "0123456789") != n) {
		v->username = name;
		return;
	}
	v->uid = ARENA_NEW(a, Runtime__V1__Int64Value, RUNTIME__V1__INT64_VALUE__INIT);
	if (v->uid)
		v->uid->value = strtoll(name, NULL, 10);
}

Runtime__V1__Image *view_image(struct metadata *m, struct arena *a, const struct image *i) {
	Runtime__V1__Image *v = ARENA_NEW(a, Runtime__V1__Image, RUNTIME__V1__IMAGE__INIT);
	if (!v)
		return NULL;
	v->id = i->record->id;
	v->n_repo_tags = i->record->n_names;
	v->repo_tags = i->record->names;
	v->n_repo_digests = i->record->n_digests;
	v->repo_digests = i->record->digests;
	/* What it takes on disk: the blobs, and the layers unpacked. */
	v->size = i->record->config ? i->record->config->size : 0;
	for (size_t n = 0; n < i->record->n_blobs; n++)
		v->size += i->record->blobs[n]->size;
	for (size_t n = 0; n < i->record->n_layers; n++) {
		const struct layer *l = model_find_layer(&m->model, i->record->layers[n]);
		v->size += l ? l->record->size : 0;
	}
	view_image_user(a, i, v);
	return v;
}
