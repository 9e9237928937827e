/* Containers of the draft CRI. */
#include "workers/api/cri_seed/seed.h"

#include <string.h>

/* Of a StopContainer that says nothing: the ecosystem's usual grace. */
#define STOP_TIMEOUT 10

/* --- configuration ---------------------------------------------------------- */

static int resources(struct grpc_translation *t, const Runtime__LinuxContainerResources *from,
		     Runtime__V1__LinuxContainerResources **ret, struct fault *fault) {
	Runtime__V1__LinuxContainerResources *to =
	    ARENA_NEW(t->arena, Runtime__V1__LinuxContainerResources, RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT);
	if (!to)
		return grpc_no_memory(fault);
	to->cpu_period = from->cpu_period;
	to->cpu_quota = from->cpu_quota;
	to->cpu_shares = from->cpu_shares;
	to->memory_limit_in_bytes = from->memory_limit_in_bytes;
	to->oom_score_adj = from->oom_score_adj;
	*ret = to;
	return 0;
}

static int number(struct grpc_translation *t, bool has, int64_t value, Runtime__V1__Int64Value **ret,
		  struct fault *fault) {
	if (!has)
		return 0;
	*ret = ARENA_NEW(t->arena, Runtime__V1__Int64Value, RUNTIME__V1__INT64_VALUE__INIT);
	if (!*ret)
		return grpc_no_memory(fault);
	(*ret)->value = value;
	return 0;
}

/* A user that is set is one, 0 included; unset it is the image's. */
static int user(struct grpc_translation *t, const Runtime__LinuxUser *from,
		Runtime__V1__LinuxContainerSecurityContext *to, struct fault *fault) {
	int r = number(t, from->has_uid, from->uid, &to->run_as_user, fault);
	if (r == 0)
		r = number(t, from->has_gid, from->gid, &to->run_as_group, fault);
	to->n_supplemental_groups = from->n_additional_gids;
	to->supplemental_groups = from->additional_gids;
	return r;
}

static int capabilities(struct grpc_translation *t, const Runtime__Capability *from,
			Runtime__V1__LinuxContainerSecurityContext *to, struct fault *fault) {
	to->capabilities = ARENA_NEW(t->arena, Runtime__V1__Capability, RUNTIME__V1__CAPABILITY__INIT);
	if (!to->capabilities)
		return grpc_no_memory(fault);
	to->capabilities->n_add_capabilities = from->n_add_capabilities;
	to->capabilities->add_capabilities = from->add_capabilities;
	to->capabilities->n_drop_capabilities = from->n_drop_capabilities;
	to->capabilities->drop_capabilities = from->drop_capabilities;
	return 0;
}

static int selinux(struct grpc_translation *t, const Runtime__SELinuxOption *from,
		   Runtime__V1__LinuxContainerSecurityContext *to, struct fault *fault) {
	to->selinux_options = ARENA_NEW(t->arena, Runtime__V1__SELinuxOption, RUNTIME__V1__SELINUX_OPTION__INIT);
	if (!to->selinux_options)
		return grpc_no_memory(fault);
	to->selinux_options->user = seed_to_v1(from->user);
	to->selinux_options->role = seed_to_v1(from->role);
	to->selinux_options->type = seed_to_v1(from->type);
	to->selinux_options->level = seed_to_v1(from->level);
	return 0;
}

/* The container is in the namespaces of its sandbox, whose configuration comes
 * with the request. */
static int linux_config(struct grpc_translation *t, const Runtime__ContainerConfig *from,
			const Runtime__PodSandboxConfig *pod, Runtime__V1__ContainerConfig *to, struct fault *fault) {
	Runtime__V1__LinuxContainerConfig *l =
	    ARENA_NEW(t->arena, Runtime__V1__LinuxContainerConfig, RUNTIME__V1__LINUX_CONTAINER_CONFIG__INIT);
	Runtime__V1__LinuxContainerSecurityContext *s = ARENA_NEW(t->arena, Runtime__V1__LinuxContainerSecurityContext,
								  RUNTIME__V1__LINUX_CONTAINER_SECURITY_CONTEXT__INIT);
	const Runtime__LinuxContainerConfig *q = from->linux;
	if (!l || !s)
		return grpc_no_memory(fault);
	l->security_context = s;
	to->linux = l;
	s->privileged = from->privileged;
	s->readonly_rootfs = from->readonly_rootfs;
	int r =
	    seed_namespaces(t, pod && pod->linux ? pod->linux->namespace_options : NULL, &s->namespace_options, fault);
	if (r == 0 && q && q->resources)
		r = resources(t, q->resources, &l->resources, fault);
	if (r == 0 && q && q->capabilities)
		r = capabilities(t, q->capabilities, s, fault);
	if (r == 0 && q && q->selinux_options)
		r = selinux(t, q->selinux_options, s, fault);
	if (r == 0 && q && q->user)
		r = user(t, q->user, s, fault);
	return r;
}

static int environment(struct grpc_translation *t, const Runtime__ContainerConfig *from,
		       Runtime__V1__ContainerConfig *to, struct fault *fault) {
	to->envs = arena_alloc(t->arena, (from->n_envs + 1) * sizeof(*to->envs));
	for (size_t i = 0; i < from->n_envs; i++) {
		Runtime__V1__KeyValue *e = ARENA_NEW(t->arena, Runtime__V1__KeyValue, RUNTIME__V1__KEY_VALUE__INIT);
		if (!to->envs || !e)
			return grpc_no_memory(fault);
		e->key = seed_to_v1(from->envs[i]->key);
		e->value.data = (uint8_t *)seed_to_v1(from->envs[i]->value);
		e->value.len = strlen((const char *)e->value.data);
		to->envs[to->n_envs++] = e;
	}
	return 0;
}

static int mounts(struct grpc_translation *t, const Runtime__ContainerConfig *from, Runtime__V1__ContainerConfig *to,
		  struct fault *fault) {
	to->mounts = arena_alloc(t->arena, (from->n_mounts + 1) * sizeof(*to->mounts));
	for (size_t i = 0; i < from->n_mounts; i++) {
		const Runtime__Mount *m = from->mounts[i];
		Runtime__V1__Mount *v = ARENA_NEW(t->arena, Runtime__V1__Mount, RUNTIME__V1__MOUNT__INIT);
		if (!to->mounts || !v)
			return grpc_no_memory(fault);
		v->container_path = seed_to_v1(m->container_path);
		v->host_path = seed_to_v1(m->host_path);
		v->readonly = m->readonly;
		v->selinux_relabel = m->selinux_relabel;
		to->mounts[to->n_mounts++] = v;
	}
	return 0;
}

static int config(struct grpc_translation *t, const Runtime__ContainerConfig *from,
		  const Runtime__PodSandboxConfig *pod, Runtime__V1__ContainerConfig **ret, struct fault *fault) {
	Runtime__V1__ContainerConfig *to =
	    ARENA_NEW(t->arena, Runtime__V1__ContainerConfig, RUNTIME__V1__CONTAINER_CONFIG__INIT);
	Runtime__V1__ContainerMetadata *m =
	    ARENA_NEW(t->arena, Runtime__V1__ContainerMetadata, RUNTIME__V1__CONTAINER_METADATA__INIT);
	if (!to || !m)
		return grpc_no_memory(fault);
	m->name = seed_to_v1(from->name);
	to->metadata = m;
	to->n_command = from->n_command;
	to->command = from->command;
	to->n_args = from->n_args;
	to->args = from->args;
	to->working_dir = seed_to_v1(from->working_dir);
	to->n_labels = from->n_labels;
	to->labels = (void *)from->labels;
	to->n_annotations = from->n_annotations;
	to->annotations = (void *)from->annotations;
	to->log_path = seed_to_v1(from->log_path);
	to->stdin = from->stdin;
	to->stdin_once = from->stdin_once;
	to->tty = from->tty;
	*ret = to;
	int r = seed_image_spec(t, from->image, &to->image, fault);
	if (r == 0)
		r = environment(t, from, to, fault);
	if (r == 0)
		r = mounts(t, from, to, fault);
	return r == 0 ? linux_config(t, from, pod, to, fault) : r;
}

/* --- create, start, stop, remove -------------------------------------------- */

static int create_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			  struct fault *fault) {
	const Runtime__CreateContainerRequest *from = (const Runtime__CreateContainerRequest *)request;
	Runtime__V1__CreateContainerRequest *q =
	    ARENA_NEW(t->arena, Runtime__V1__CreateContainerRequest, RUNTIME__V1__CREATE_CONTAINER_REQUEST__INIT);
	if (!q)
		return grpc_no_memory(fault);
	q->pod_sandbox_id = seed_to_v1(from->pod_sandbox_id);
	*ret_internal = &q->base;
	int r = from->config ? config(t, from->config, from->sandbox_config, &q->config, fault) : 0;
	return r == 0 ? seed_pod_config(t, from->sandbox_config, &q->sandbox_config, fault) : r;
}

static int create_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			struct fault *fault) {
	Runtime__CreateContainerResponse *a = (Runtime__CreateContainerResponse *)*reply;
	a->container_id = ((const Runtime__V1__CreateContainerResponse *)internal)->container_id;
	return 0;
}

static int stop_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			struct fault *fault) {
	const Runtime__StopContainerRequest *from = (const Runtime__StopContainerRequest *)request;
	Runtime__V1__StopContainerRequest *q =
	    ARENA_NEW(t->arena, Runtime__V1__StopContainerRequest, RUNTIME__V1__STOP_CONTAINER_REQUEST__INIT);
	if (!q)
		return grpc_no_memory(fault);
	q->container_id = seed_to_v1(from->container_id);
	q->timeout = from->has_timeout ? from->timeout : STOP_TIMEOUT;
	*ret_internal = &q->base;
	return 0;
}

SEED_KEY_REQUEST(start_request, Runtime__StartContainerRequest, Runtime__V1__StartContainerRequest,
		 RUNTIME__V1__START_CONTAINER_REQUEST__INIT, container_id)
SEED_KEY_REQUEST(remove_request, Runtime__RemoveContainerRequest, Runtime__V1__RemoveContainerRequest,
		 RUNTIME__V1__REMOVE_CONTAINER_REQUEST__INIT, container_id)
SEED_KEY_REQUEST(status_request, Runtime__ContainerStatusRequest, Runtime__V1__ContainerStatusRequest,
		 RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT, container_id)

/* --- status ----------------------------------------------------------------- */

static int mounts_back(struct grpc_translation *t, const Runtime__V1__ContainerStatus *from,
		       Runtime__ContainerStatus *to, struct fault *fault) {
	to->mounts = arena_alloc(t->arena, (from->n_mounts + 1) * sizeof(*to->mounts));
	for (size_t i = 0; i < from->n_mounts; i++) {
		const Runtime__V1__Mount *m = from->mounts[i];
		Runtime__Mount *v = ARENA_NEW(t->arena, Runtime__Mount, RUNTIME__MOUNT__INIT);
		if (!to->mounts || !v)
			return grpc_no_memory(fault);
		v->container_path = m->container_path;
		v->host_path = m->host_path;
		v->has_readonly = v->has_selinux_relabel = true;
		v->readonly = m->readonly;
		v->selinux_relabel = m->selinux_relabel;
		to->mounts[to->n_mounts++] = v;
	}
	return 0;
}

/* The states have the same numbers. Times and the exit code are there once
 * they mean something: an exit code 0 is one, a missing one is none. */
static int status_back(struct grpc_translation *t, const Runtime__V1__ContainerStatus *from,
		       Runtime__ContainerStatus **ret, struct fault *fault) {
	Runtime__ContainerStatus *v = ARENA_NEW(t->arena, Runtime__ContainerStatus, RUNTIME__CONTAINER_STATUS__INIT);
	if (!v)
		return grpc_no_memory(fault);
	v->id = from->id;
	v->name = from->metadata ? from->metadata->name : NULL;
	v->has_state = true;
	v->state = (Runtime__ContainerState)from->state;
	v->has_created_at = true;
	v->created_at = from->created_at;
	v->has_started_at = from->started_at != 0;
	v->started_at = from->started_at;
	v->has_finished_at = from->finished_at != 0;
	v->finished_at = from->finished_at;
	v->has_exit_code = from->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED;
	v->exit_code = from->exit_code;
	v->image_ref = seed_from_v1(from->image_ref);
	v->reason = seed_from_v1(from->reason);
	v->n_labels = from->n_labels;
	v->labels = (void *)from->labels;
	v->n_annotations = from->n_annotations;
	v->annotations = (void *)from->annotations;
	*ret = v;
	int r = seed_image_spec_back(t, from->image, &v->image, fault);
	return r == 0 ? mounts_back(t, from, v, fault) : r;
}

static int status_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			struct fault *fault) {
	const Runtime__V1__ContainerStatusResponse *from = (const Runtime__V1__ContainerStatusResponse *)internal;
	Runtime__ContainerStatusResponse *a = (Runtime__ContainerStatusResponse *)*reply;
	return from->status ? status_back(t, from->status, &a->status, fault) : 0;
}

/* --- list ------------------------------------------------------------------- */

static int list_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			struct fault *fault) {
	const Runtime__ContainerFilter *f = ((const Runtime__ListContainersRequest *)request)->filter;
	Runtime__V1__ListContainersRequest *q =
	    ARENA_NEW(t->arena, Runtime__V1__ListContainersRequest, RUNTIME__V1__LIST_CONTAINERS_REQUEST__INIT);
	Runtime__V1__ContainerFilter *to =
	    ARENA_NEW(t->arena, Runtime__V1__ContainerFilter, RUNTIME__V1__CONTAINER_FILTER__INIT);
	Runtime__V1__ContainerStateValue *state =
	    ARENA_NEW(t->arena, Runtime__V1__ContainerStateValue, RUNTIME__V1__CONTAINER_STATE_VALUE__INIT);
	if (!q || !to || !state)
		return grpc_no_memory(fault);
	*ret_internal = &q->base;
	if (!f)
		return 0;
	q->filter = to;
	to->id = seed_to_v1(f->id);
	to->pod_sandbox_id = seed_to_v1(f->pod_sandbox_id);
	if (f->has_state) {
		state->state = (Runtime__V1__ContainerState)f->state;
		to->state = state;
	}
	to->n_label_selector = f->n_label_selector;
	to->label_selector = (void *)f->label_selector;
	return seed_filter_name(t, f->name, fault);
}

static int item_back(struct grpc_translation *t, const Runtime__V1__Container *from, Runtime__Container **ret,
		     struct fault *fault) {
	Runtime__Container *v = ARENA_NEW(t->arena, Runtime__Container, RUNTIME__CONTAINER__INIT);
	if (!v)
		return grpc_no_memory(fault);
	v->id = from->id;
	v->name = from->metadata ? from->metadata->name : NULL;
	v->image_ref = seed_from_v1(from->image_ref);
	v->has_state = true;
	v->state = (Runtime__ContainerState)from->state;
	v->n_labels = from->n_labels;
	v->labels = (void *)from->labels;
	*ret = v;
	return seed_image_spec_back(t, from->image, &v->image, fault);
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	const Runtime__V1__ListContainersResponse *from = (const Runtime__V1__ListContainersResponse *)internal;
	Runtime__ListContainersResponse *a = (Runtime__ListContainersResponse *)*reply;
	if (!(a->containers = arena_alloc(t->arena, (from->n_containers + 1) * sizeof(*a->containers))))
		return grpc_no_memory(fault);
	for (size_t i = 0; i < from->n_containers; i++) {
		const Runtime__V1__Container *c = from->containers[i];
		if (!seed_name_wanted(t, c->metadata ? c->metadata->name : ""))
			continue;
		int r = item_back(t, c, &a->containers[a->n_containers], fault);
		if (r < 0)
			return r;
		a->n_containers++;
	}
	return 0;
}

const struct grpc_translator seed_create_container = { .request = create_request, .reply = create_reply };
const struct grpc_translator seed_start_container = { .request = start_request };
const struct grpc_translator seed_stop_container = { .request = stop_request };
const struct grpc_translator seed_remove_container = { .request = remove_request };
const struct grpc_translator seed_list_containers = { .request = list_request, .reply = list_reply };
const struct grpc_translator seed_container_status = { .request = status_request, .reply = status_reply };
