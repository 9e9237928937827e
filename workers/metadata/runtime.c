/* Status, RuntimeConfig, UpdateRuntimeConfig, and the command line's Inspect. */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "base/json.h"
#include "workers/metadata/unit.h"
#include "workers/metadata/view.h"

#include <string.h>

/* An answer of the task worker is good for so long. */
#define RUNTIME_FRESH_NS (1 * NS_PER_SEC)
#define RUNTIME_TIMEOUT_NS (2 * NS_PER_SEC)

struct asking {
	struct metadata *m;
	struct msg_request *r;
	const ProtobufCMessage *request;
	/* fault NULL: m->runtime is fresh. */
	void (*answer)(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
		       const struct fault *fault);
};

static void runtime_done(void *ctx, const struct msg_answer *answer) {
	struct asking *k = ctx;
	if (!answer->fault) {
		arena_deinit(&k->m->runtime_arena);
		arena_init(&k->m->runtime_arena, 0);
		k->m->runtime = message_copy(&k->m->runtime_arena, answer->reply);
		k->m->runtime_at = clock_mono();
	}
	k->answer(k->m, k->r, k->request, answer->fault);
}

static void ask_runtime(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
			void (*answer)(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
				       const struct fault *fault)) {
	if (m->runtime && link_attached(m->task) && clock_mono() - m->runtime_at < RUNTIME_FRESH_NS) {
		answer(m, r, request, NULL);
		return;
	}
	struct asking *k = arena_alloc(&r->arena, sizeof(*k));
	if (!k) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "runtime status: out of memory");
		return;
	}
	*k = (struct asking){ .m = m, .r = r, .request = request, .answer = answer };
	struct msg_context c = r->context;
	int64_t limit = clock_mono() + RUNTIME_TIMEOUT_NS;
	c.deadline = c.deadline ? MIN(c.deadline, limit) : limit;
	Bulkhead__Empty q = BULKHEAD__EMPTY__INIT;
	runtime_info_send(m->task, &c, &q, NULL, 0, runtime_done, k);
}

/* --- Status ----------------------------------------------------------------- */

/* Which workers a pod needs; the sentence says which of them is away. */
static const char *missing_worker(const struct metadata *m, const struct fault *fault) {
	if (fault)
		return fault->text;
	if (!link_attached(m->snapshot))
		return "the snapshot worker is being restarted";
	if (!link_attached(m->image))
		return "the image worker is being restarted";
	return NULL;
}

static char *status_info(struct metadata *m, struct arena *a) {
	struct json j = { 0 };
	const Bulkhead__RuntimeInfoReply *i = m->runtime;
	json_open(&j, NULL, '{');
	json_text(&j, "stateRoot", m->config->state_root);
	json_text(&j, "runRoot", m->config->run_root);
	json_text(&j, "cniConfDir", m->config->cni_conf_dir);
	json_text(&j, "cniBinDirs", m->config->cni_bin_dirs);
	json_text(&j, "cgroupParent", m->config->cgroup_parent);
	json_text(&j, "cgroupDriver", i ? i->cgroup_driver : "");
	json_text(&j, "cgroupVersion", i ? i->cgroup_version : "");
	json_text(&j, "cniConfig", i ? i->cni_config : "");
	json_text(&j, "snapshotDriver", m->info ? m->info->driver : "");
	/* What is under way, and at which step: where a slow call hangs. */
	json_open(&j, "operations", '[');
	list_for_each (n, &m->ops) {
		const struct op *op = list_entry(n, struct op, node);
		json_open(&j, NULL, '{');
		json_text(&j, "operation", op->class->name);
		json_text(&j, "object", op->object);
		json_text(&j, "step", op->class->steps[op->step].name ? op->class->steps[op->step].name : "end");
		json_number(&j, "ms", (clock_mono() - op->begun) / NS_PER_MS);
		json_close(&j, '}');
	}
	json_close(&j, ']');
	json_open(&j, "warnings", '[');
	for (size_t n = 0; i && n < i->n_warnings; n++)
		json_text(&j, NULL, i->warnings[n]);
	json_close(&j, ']');
	json_close(&j, '}');
	CLEANUP_FREE char *text = buffer_take_text(&j.text);
	return text ? arena_strdup(a, text) : NULL;
}

/* --- handlers: the native one, which is the default, then those of the configuration --- */

#define NATIVE_NAMES 2

static const char *const native_names[NATIVE_NAMES] = { "", "native" };

struct handlers {
	Runtime__V1__RuntimeHandlerFeatures features[NATIVE_NAMES + BOOT_RUNTIMES_MAX];
	Runtime__V1__RuntimeHandler handlers[NATIVE_NAMES + BOOT_RUNTIMES_MAX], *list[NATIVE_NAMES + BOOT_RUNTIMES_MAX];
};

static const Bulkhead__RuntimeHandlerInfo *handler_find(const struct metadata *m, const char *name) {
	for (size_t i = 0; m->runtime && i < m->runtime->n_handlers; i++)
		if (strcmp(m->runtime->handlers[i]->name, name) == 0)
			return m->runtime->handlers[i];
	return NULL;
}

/* An OCI runtime says it of itself. User namespaces aren't asked of it. */
static void features_fill(const struct metadata *m, const char *name, bool native,
			  Runtime__V1__RuntimeHandlerFeatures *features) {
	const Bulkhead__RuntimeHandlerInfo *info = native ? NULL : handler_find(m, name);
	runtime__v1__runtime_handler_features__init(features);
	features->recursive_read_only_mounts = native || (info && info->recursive_read_only_mounts);
	features->user_namespaces = native && m->info && m->info->mapped;
}

static size_t handlers_fill(const struct metadata *m, struct handlers *h) {
	size_t n = NATIVE_NAMES + MIN(m->config->n_runtimes, (uint32_t)BOOT_RUNTIMES_MAX);
	for (size_t i = 0; i < n; i++) {
		bool native = i < NATIVE_NAMES;
		const char *name = native ? native_names[i] : m->config->runtimes[i - NATIVE_NAMES].name;
		features_fill(m, name, native, &h->features[i]);
		runtime__v1__runtime_handler__init(&h->handlers[i]);
		h->handlers[i].features = &h->features[i];
		h->handlers[i].name = (char *)(uintptr_t)name;
		h->list[i] = &h->handlers[i];
	}
	return n;
}

static void status_answer(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
			  const struct fault *fault) {
	const Runtime__V1__StatusRequest *q = (const Runtime__V1__StatusRequest *)request;
	Runtime__V1__StatusResponse a = RUNTIME__V1__STATUS_RESPONSE__INIT;
	Runtime__V1__RuntimeStatus status = RUNTIME__V1__RUNTIME_STATUS__INIT;
	Runtime__V1__RuntimeCondition runtime = RUNTIME__V1__RUNTIME_CONDITION__INIT, network = runtime;
	Runtime__V1__RuntimeCondition *conditions[] = { &runtime, &network };
	struct handlers handlers;
	Runtime__V1__RuntimeFeatures features = RUNTIME__V1__RUNTIME_FEATURES__INIT;
	Runtime__V1__StatusResponse__InfoEntry info = RUNTIME__V1__STATUS_RESPONSE__INFO_ENTRY__INIT,
					       *infos[] = { &info };
	const char *missing = missing_worker(m, fault), *no_units;
	bool units = units_ready(m, &no_units);

	runtime.type = (char *)"RuntimeReady";
	runtime.status = !missing && units;
	runtime.reason = (char *)(missing ? "WorkerUnavailable" : units ? "" : "SystemdUnavailable");
	runtime.message = (char *)(uintptr_t)(missing ? missing : units ? "" : no_units);
	network.type = (char *)"NetworkReady";
	network.status = m->runtime && m->runtime->network_ready && !fault;
	if (!network.status) {
		bool known = m->runtime && !fault;
		network.reason = known && *m->runtime->network_reason ? m->runtime->network_reason
								      : (char *)"NetworkPluginNotReady";
		network.message = known ? m->runtime->network_message : runtime.message;
	}
	status.n_conditions = 2;
	status.conditions = conditions;
	a.status = &status;
	a.n_runtime_handlers = handlers_fill(m, &handlers);
	a.runtime_handlers = handlers.list;
	features.supplemental_groups_policy = true;
	features.mount_options = true;
	a.features = &features;
	if (q->verbose) {
		info.key = (char *)"config";
		info.value = status_info(m, &r->arena);
		a.n_info = info.value ? 1 : 0;
		a.info = infos;
	}
	cri_status_reply(r, &a, NULL, 0);
}

void cri_status(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	ask_runtime(m, r, request, status_answer);
}

/* --- configuration ---------------------------------------------------------- */

static void config_reply(struct metadata *m, struct msg_request *r) {
	Runtime__V1__RuntimeConfigResponse a = RUNTIME__V1__RUNTIME_CONFIG_RESPONSE__INIT;
	Runtime__V1__LinuxRuntimeConfiguration l = RUNTIME__V1__LINUX_RUNTIME_CONFIGURATION__INIT;
	l.cgroup_driver = strcmp(m->runtime->cgroup_driver, "systemd") == 0 ? RUNTIME__V1__CGROUP_DRIVER__SYSTEMD
									    : RUNTIME__V1__CGROUP_DRIVER__CGROUPFS;
	a.linux = &l;
	cri_runtime_config_reply(r, &a, NULL, 0);
}

static void config_answer(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
			  const struct fault *fault) {
	if (m->runtime)
		config_reply(m, r);
	else if (fault)
		msg_fail(r, fault);
	else
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "runtime configuration: out of memory");
}

void cri_runtime_config(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	/* The driver doesn't change while the daemon runs. */
	if (m->runtime)
		config_reply(m, r);
	else
		ask_runtime(m, r, request, config_answer);
}

/* The pod's addresses come from the CNI configuration, whose owner writes it:
 * the range that kubelet tells is taken note of by nobody, as elsewhere. */
void cri_update_runtime_config(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	Runtime__V1__UpdateRuntimeConfigResponse a = RUNTIME__V1__UPDATE_RUNTIME_CONFIG_RESPONSE__INIT;
	cri_update_runtime_config_reply(r, &a, NULL, 0);
}

/* --- Inspect ---------------------------------------------------------------- */

static void inspect_workers(const struct metadata *m, struct arena *a, Bulkhead__V1__InspectReply *reply) {
	const unsigned n = ROLE_COUNT * BOOT_ENDPOINTS_MAX;
	reply->workers = arena_zalloc(a, n * sizeof(*reply->workers));
	for (unsigned i = 0; reply->workers && i < n; i++) {
		unsigned role = i / BOOT_ENDPOINTS_MAX, instance = i % BOOT_ENDPOINTS_MAX;
		const struct peer *peer = &m->peers[role][instance];
		Bulkhead__V1__InspectReply__Worker *v =
		    peer->starts == 0
			? NULL
			: ARENA_NEW(a, Bulkhead__V1__InspectReply__Worker, BULKHEAD__V1__INSPECT_REPLY__WORKER__INIT);
		if (!v)
			continue;
		v->name = (char *)(uintptr_t)role_name((enum role)role);
		v->endpoint = (char *)(uintptr_t)(role == ROLE_API ? m->config->endpoints[instance].name : "");
		v->pid = peer->pid;
		v->restarts = peer->starts - 1;
		reply->workers[reply->n_workers++] = v;
	}
}

static void inspect_services(Bulkhead__V1__InspectReply__Endpoint *v, uint32_t services) {
	for (enum service_group g = 0; g < GROUP_COUNT; g++)
		if (services & GROUPS_SERVED & (1u << g))
			v->services[v->n_services++] = (char *)(uintptr_t)service_group_name(g);
}

static void inspect_endpoints(const struct metadata *m, struct arena *a, Bulkhead__V1__InspectReply *reply) {
	reply->endpoints = arena_zalloc(a, BOOT_ENDPOINTS_MAX * sizeof(*reply->endpoints));
	for (uint32_t i = 0; reply->endpoints && i < m->config->n_endpoints; i++) {
		const struct boot_endpoint *e = &m->config->endpoints[i];
		Bulkhead__V1__InspectReply__Endpoint *v =
		    ARENA_NEW(a, Bulkhead__V1__InspectReply__Endpoint, BULKHEAD__V1__INSPECT_REPLY__ENDPOINT__INIT);
		if (!v || !(v->services = arena_alloc(a, GROUP_COUNT * sizeof(*v->services))))
			return;
		v->name = (char *)(uintptr_t)e->name;
		v->socket = (char *)(uintptr_t)e->socket;
		v->access = (char *)(uintptr_t)link_access_name((enum link_access)e->access);
		inspect_services(v, e->services);
		v->uids = (uint32_t *)(uintptr_t)e->uids;
		v->n_uids = e->n_uids;
		reply->endpoints[reply->n_endpoints++] = v;
	}
}

void admin_inspect(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	Bulkhead__V1__InspectReply a = BULKHEAD__V1__INSPECT_REPLY__INIT;
	const struct aside *aside = store_aside(m->store);
	inspect_workers(m, &r->arena, &a);
	inspect_endpoints(m, &r->arena, &a);
	a.sandboxes = (uint32_t)m->model.sandbox_ids.n_nodes;
	a.containers = (uint32_t)m->model.container_ids.n_nodes;
	a.images = (uint32_t)m->model.image_ids.n_nodes;
	a.set_aside = arena_zalloc(&r->arena, (aside->n_entries + 1) * sizeof(*a.set_aside));
	list_for_each (n, &aside->entries) {
		const struct aside_entry *e = list_entry(n, struct aside_entry, node);
		Bulkhead__V1__InspectReply__SetAside *v = ARENA_NEW(&r->arena, Bulkhead__V1__InspectReply__SetAside,
								    BULKHEAD__V1__INSPECT_REPLY__SET_ASIDE__INIT);
		if (!a.set_aside || !v)
			break;
		v->key = e->key ? e->key : (char *)"";
		v->reason = e->reason ? e->reason : (char *)"";
		a.set_aside[a.n_set_aside++] = v;
	}
	admin_inspect_reply(r, &a, NULL, 0);
}
