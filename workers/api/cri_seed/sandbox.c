/* Pod sandboxes of the draft CRI. */
#include "workers/api/cri_seed/seed.h"

#include <math.h>

#define CPU_PERIOD 100000 /* microseconds */

/* --- configuration ---------------------------------------------------------- */

int seed_namespaces(struct grpc_translation *t, const Runtime__NamespaceOption *from,
		    Runtime__V1__NamespaceOption **ret, struct fault *fault) {
	Runtime__V1__NamespaceOption *to =
	    ARENA_NEW(t->arena, Runtime__V1__NamespaceOption, RUNTIME__V1__NAMESPACE_OPTION__INIT);
	if (!to)
		return grpc_no_memory(fault);
	to->pid = RUNTIME__V1__NAMESPACE_MODE__CONTAINER;
	if (from && from->host_network)
		to->network = RUNTIME__V1__NAMESPACE_MODE__NODE;
	if (from && from->host_pid)
		to->pid = RUNTIME__V1__NAMESPACE_MODE__NODE;
	if (from && from->host_ipc)
		to->ipc = RUNTIME__V1__NAMESPACE_MODE__NODE;
	*ret = to;
	return 0;
}

static int amount(const char *what, const Runtime__ResourceRequirements *r, bool limit, double unit, int64_t *ret,
		  struct fault *fault) {
	if (!r || !(limit ? r->has_limits : r->has_requests))
		return 0;
	double value = (limit ? r->limits : r->requests) * unit;
	if (!isfinite(value) || value < 0 || value > 1e18)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s can't be %g", what, value / unit);
	*ret = (int64_t)value;
	return 0;
}

static int resources(struct grpc_translation *t, const Runtime__PodSandboxResources *from,
		     Runtime__V1__LinuxContainerResources **ret, struct fault *fault) {
	Runtime__V1__LinuxContainerResources *to =
	    ARENA_NEW(t->arena, Runtime__V1__LinuxContainerResources, RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT);
	if (!to)
		return grpc_no_memory(fault);
	int r = amount("the limit of CPUs", from->cpu, true, CPU_PERIOD, &to->cpu_quota, fault);
	if (r == 0)
		r = amount("the request for CPUs", from->cpu, false, 1024, &to->cpu_shares, fault);
	if (r == 0)
		r = amount("the limit of memory", from->memory, true, 1, &to->memory_limit_in_bytes, fault);
	if (to->cpu_quota)
		to->cpu_period = CPU_PERIOD;
	*ret = to;
	return r;
}

/* privileged is a container's alone in the draft; v1 wants it of the sandbox
 * too, where by itself it grants nothing. */
static int linux_config(struct grpc_translation *t, const Runtime__PodSandboxConfig *from,
			Runtime__V1__PodSandboxConfig *to, struct fault *fault) {
	Runtime__V1__LinuxPodSandboxConfig *l =
	    ARENA_NEW(t->arena, Runtime__V1__LinuxPodSandboxConfig, RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT);
	Runtime__V1__LinuxSandboxSecurityContext *s = ARENA_NEW(t->arena, Runtime__V1__LinuxSandboxSecurityContext,
								RUNTIME__V1__LINUX_SANDBOX_SECURITY_CONTEXT__INIT);
	if (!l || !s)
		return grpc_no_memory(fault);
	if (from->linux)
		l->cgroup_parent = seed_to_v1(from->linux->cgroup_parent);
	s->privileged = true;
	l->security_context = s;
	to->linux = l;
	int r = seed_namespaces(t, from->linux ? from->linux->namespace_options : NULL, &s->namespace_options, fault);
	return r == 0 && from->resources ? resources(t, from->resources, &l->resources, fault) : r;
}

static int ports(struct grpc_translation *t, const Runtime__PodSandboxConfig *from, Runtime__V1__PodSandboxConfig *to,
		 struct fault *fault) {
	to->port_mappings = arena_alloc(t->arena, (from->n_port_mappings + 1) * sizeof(*to->port_mappings));
	for (size_t i = 0; i < from->n_port_mappings; i++) {
		const Runtime__PortMapping *p = from->port_mappings[i];
		Runtime__V1__PortMapping *q =
		    ARENA_NEW(t->arena, Runtime__V1__PortMapping, RUNTIME__V1__PORT_MAPPING__INIT);
		if (!to->port_mappings || !q)
			return grpc_no_memory(fault);
		q->protocol = p->has_protocol && p->protocol == RUNTIME__PROTOCOL__UDP ? RUNTIME__V1__PROTOCOL__UDP
										       : RUNTIME__V1__PROTOCOL__TCP;
		q->container_port = p->container_port;
		q->host_port = p->host_port;
		q->host_ip = seed_to_v1(p->host_ip);
		to->port_mappings[to->n_port_mappings++] = q;
	}
	return 0;
}

static int dns(struct grpc_translation *t, const Runtime__DNSOption *from, Runtime__V1__DNSConfig **ret,
	       struct fault *fault) {
	Runtime__V1__DNSConfig *d = ARENA_NEW(t->arena, Runtime__V1__DNSConfig, RUNTIME__V1__DNSCONFIG__INIT);
	if (!d)
		return grpc_no_memory(fault);
	d->n_servers = from->n_servers;
	d->servers = from->servers;
	d->n_searches = from->n_searches;
	d->searches = from->searches;
	*ret = d;
	return 0;
}

int seed_pod_config(struct grpc_translation *t, const Runtime__PodSandboxConfig *from,
		    Runtime__V1__PodSandboxConfig **ret, struct fault *fault) {
	*ret = NULL;
	if (!from)
		return 0;
	Runtime__V1__PodSandboxConfig *to =
	    ARENA_NEW(t->arena, Runtime__V1__PodSandboxConfig, RUNTIME__V1__POD_SANDBOX_CONFIG__INIT);
	Runtime__V1__PodSandboxMetadata *m =
	    ARENA_NEW(t->arena, Runtime__V1__PodSandboxMetadata, RUNTIME__V1__POD_SANDBOX_METADATA__INIT);
	if (!to || !m)
		return grpc_no_memory(fault);
	m->name = m->uid = seed_to_v1(from->name);
	m->namespace_ = (char *)"default";
	to->metadata = m;
	to->hostname = seed_to_v1(from->hostname);
	to->log_directory = seed_to_v1(from->log_directory);
	to->n_labels = from->n_labels;
	to->labels = (void *)from->labels;
	to->n_annotations = from->n_annotations;
	to->annotations = (void *)from->annotations;
	*ret = to;
	int r = linux_config(t, from, to, fault);
	if (r == 0)
		r = ports(t, from, to, fault);
	return r == 0 && from->dns_options ? dns(t, from->dns_options, &to->dns_config, fault) : r;
}

/* --- create, stop, remove --------------------------------------------------- */

static int create_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			  struct fault *fault) {
	Runtime__V1__RunPodSandboxRequest *q =
	    ARENA_NEW(t->arena, Runtime__V1__RunPodSandboxRequest, RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT);
	if (!q)
		return grpc_no_memory(fault);
	*ret_internal = &q->base;
	return seed_pod_config(t, ((const Runtime__CreatePodSandboxRequest *)request)->config, &q->config, fault);
}

static int create_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			struct fault *fault) {
	Runtime__CreatePodSandboxResponse *a = (Runtime__CreatePodSandboxResponse *)*reply;
	a->pod_sandbox_id = ((const Runtime__V1__RunPodSandboxResponse *)internal)->pod_sandbox_id;
	return 0;
}

SEED_KEY_REQUEST(stop_request, Runtime__StopPodSandboxRequest, Runtime__V1__StopPodSandboxRequest,
		 RUNTIME__V1__STOP_POD_SANDBOX_REQUEST__INIT, pod_sandbox_id)
SEED_KEY_REQUEST(remove_request, Runtime__RemovePodSandboxRequest, Runtime__V1__RemovePodSandboxRequest,
		 RUNTIME__V1__REMOVE_POD_SANDBOX_REQUEST__INIT, pod_sandbox_id)
SEED_KEY_REQUEST(status_request, Runtime__PodSandboxStatusRequest, Runtime__V1__PodSandboxStatusRequest,
		 RUNTIME__V1__POD_SANDBOX_STATUS_REQUEST__INIT, pod_sandbox_id)

/* --- status ----------------------------------------------------------------- */

static Runtime__PodSandBoxState state_back(Runtime__V1__PodSandboxState state) {
	return state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY ? RUNTIME__POD_SAND_BOX_STATE__READY
								      : RUNTIME__POD_SAND_BOX_STATE__NOTREADY;
}

static int namespaces_back(struct grpc_translation *t, const Runtime__V1__NamespaceOption *from,
			   Runtime__PodSandboxStatus *v, struct fault *fault) {
	Runtime__LinuxPodSandboxStatus *l =
	    ARENA_NEW(t->arena, Runtime__LinuxPodSandboxStatus, RUNTIME__LINUX_POD_SANDBOX_STATUS__INIT);
	Runtime__Namespace *n = ARENA_NEW(t->arena, Runtime__Namespace, RUNTIME__NAMESPACE__INIT);
	Runtime__NamespaceOption *o = ARENA_NEW(t->arena, Runtime__NamespaceOption, RUNTIME__NAMESPACE_OPTION__INIT);
	if (!l || !n || !o)
		return grpc_no_memory(fault);
	o->has_host_network = o->has_host_pid = o->has_host_ipc = true;
	o->host_network = from->network == RUNTIME__V1__NAMESPACE_MODE__NODE;
	o->host_pid = from->pid == RUNTIME__V1__NAMESPACE_MODE__NODE;
	o->host_ipc = from->ipc == RUNTIME__V1__NAMESPACE_MODE__NODE;
	n->options = o;
	l->namespaces = n;
	v->linux = l;
	return 0;
}

static int status_back(struct grpc_translation *t, const Runtime__V1__PodSandboxStatus *from,
		       Runtime__PodSandboxStatus **ret, struct fault *fault) {
	Runtime__PodSandboxStatus *v =
	    ARENA_NEW(t->arena, Runtime__PodSandboxStatus, RUNTIME__POD_SANDBOX_STATUS__INIT);
	if (!v)
		return grpc_no_memory(fault);
	v->id = from->id;
	v->name = from->metadata ? from->metadata->name : NULL;
	v->has_state = true;
	v->state = state_back(from->state);
	v->has_created_at = true;
	v->created_at = from->created_at;
	v->n_labels = from->n_labels;
	v->labels = (void *)from->labels;
	v->n_annotations = from->n_annotations;
	v->annotations = (void *)from->annotations;
	if (from->network && *from->network->ip) {
		v->network =
		    ARENA_NEW(t->arena, Runtime__PodSandboxNetworkStatus, RUNTIME__POD_SANDBOX_NETWORK_STATUS__INIT);
		if (!v->network)
			return grpc_no_memory(fault);
		v->network->ip = from->network->ip;
	}
	*ret = v;
	const Runtime__V1__LinuxPodSandboxStatus *l = from->linux;
	return l && l->namespaces && l->namespaces->options ? namespaces_back(t, l->namespaces->options, v, fault) : 0;
}

static int status_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			struct fault *fault) {
	const Runtime__V1__PodSandboxStatusResponse *from = (const Runtime__V1__PodSandboxStatusResponse *)internal;
	Runtime__PodSandboxStatusResponse *a = (Runtime__PodSandboxStatusResponse *)*reply;
	return from->status ? status_back(t, from->status, &a->status, fault) : 0;
}

/* --- list ------------------------------------------------------------------- */

static int list_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			struct fault *fault) {
	const Runtime__PodSandboxFilter *f = ((const Runtime__ListPodSandboxRequest *)request)->filter;
	Runtime__V1__ListPodSandboxRequest *q =
	    ARENA_NEW(t->arena, Runtime__V1__ListPodSandboxRequest, RUNTIME__V1__LIST_POD_SANDBOX_REQUEST__INIT);
	Runtime__V1__PodSandboxFilter *to =
	    ARENA_NEW(t->arena, Runtime__V1__PodSandboxFilter, RUNTIME__V1__POD_SANDBOX_FILTER__INIT);
	Runtime__V1__PodSandboxStateValue *state =
	    ARENA_NEW(t->arena, Runtime__V1__PodSandboxStateValue, RUNTIME__V1__POD_SANDBOX_STATE_VALUE__INIT);
	if (!q || !to || !state)
		return grpc_no_memory(fault);
	*ret_internal = &q->base;
	if (!f)
		return 0;
	q->filter = to;
	to->id = seed_to_v1(f->id);
	if (f->has_state) {
		state->state = f->state == RUNTIME__POD_SAND_BOX_STATE__READY
				   ? RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY
				   : RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_NOTREADY;
		to->state = state;
	}
	to->n_label_selector = f->n_label_selector;
	to->label_selector = (void *)f->label_selector;
	return seed_filter_name(t, f->name, fault);
}

static Runtime__PodSandbox *item_back(struct grpc_translation *t, const Runtime__V1__PodSandbox *from) {
	Runtime__PodSandbox *v = ARENA_NEW(t->arena, Runtime__PodSandbox, RUNTIME__POD_SANDBOX__INIT);
	if (!v)
		return NULL;
	v->id = from->id;
	v->name = from->metadata ? from->metadata->name : NULL;
	v->has_state = true;
	v->state = state_back(from->state);
	v->has_created_at = true;
	v->created_at = from->created_at;
	v->n_labels = from->n_labels;
	v->labels = (void *)from->labels;
	return v;
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	const Runtime__V1__ListPodSandboxResponse *from = (const Runtime__V1__ListPodSandboxResponse *)internal;
	Runtime__ListPodSandboxResponse *a = (Runtime__ListPodSandboxResponse *)*reply;
	if (!(a->items = arena_alloc(t->arena, (from->n_items + 1) * sizeof(*a->items))))
		return grpc_no_memory(fault);
	for (size_t i = 0; i < from->n_items; i++) {
		const Runtime__V1__PodSandbox *s = from->items[i];
		if (!seed_name_wanted(t, s->metadata ? s->metadata->name : ""))
			continue;
		if (!(a->items[a->n_items++] = item_back(t, s)))
			return grpc_no_memory(fault);
	}
	return 0;
}

const struct grpc_translator seed_create_pod_sandbox = { .request = create_request, .reply = create_reply };
const struct grpc_translator seed_stop_pod_sandbox = { .request = stop_request };
const struct grpc_translator seed_remove_pod_sandbox = { .request = remove_request };
const struct grpc_translator seed_pod_sandbox_status = { .request = status_request, .reply = status_reply };
const struct grpc_translator seed_list_pod_sandbox = { .request = list_request, .reply = list_reply };
