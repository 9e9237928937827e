/*
 * pod_setup. It leaves the keeper inside the pod's namespaces for good, so a keeper
 * whose set-up failed is good for a teardown only. Only the boot of a pod's virtual
 * machine is waited for in the loop.
 */
#include "workers/keeper/backend.h"
#include "workers/keeper/container.h"

#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "workers/keeper/shm.h"
#include "workers/keeper/sys.h"
#include "workers/keeper/sysctl.h"
#include "workers/keeper/title.h"
#include "workers/keeper/vm/vm.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* --- set-up --- */

static int hostname_check(const char *name, struct fault *fault) {
	size_t n = strlen(name);
	bool good = n <= HOST_NAME_MAX;
	for (const char *p = name; good && *p; p++)
		good = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '-' ||
		       *p == '.' || *p == '_';
	return good ? 0 : fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.80s\" is not a host name", name);
}

/* The task worker knows the same (workers/task/ahead.c). */
static bool ahead_fits(const Bulkhead__SandboxStartRequest *s) {
	return s->network == BULKHEAD__NAMESPACE_MODE__POD && s->ipc == BULKHEAD__NAMESPACE_MODE__POD &&
	       (!s->bare || s->uts == BULKHEAD__NAMESPACE_MODE__POD) && s->n_join == 0 && s->n_uid_mappings == 0;
}

static int setup_check(const struct keeper *k, const Bulkhead__PodSetupRequest *m, struct fault *fault) {
	const Bulkhead__SandboxStartRequest *s = m->sandbox;
	if (k->pod.used)
		return fault_set(fault, FAULT_ALREADY_EXISTS, "the keeper of pod sandbox \"%s\" has a pod already",
				 k->id);
	if (!s || strcmp(s->id, k->id) != 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the set-up is for another pod sandbox");
	if (k->pod.ahead && !ahead_fits(s))
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "pod sandbox \"%s\" can't have namespaces that were made before it", k->id);
	int r = userns_check(s, fault);
	if (r < 0)
		return r;
	const char *paths[] = { s->cgroup_parent, s->cgroup_scope };
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (paths[i][0] && !cgroup_path_valid(paths[i]))
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.200s\" is not a path of a cgroup",
					 paths[i]);
	bool machine = strcmp(s->runtime, BOOT_VM_HANDLER) == 0;
	if (s->bare && (s->n_uid_mappings || (s->runtime[0] && !machine)))
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "a pod without CNI can have neither a user namespace nor an OCI runtime");
	if (s->n_join && !s->bare)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "namespaces to join are for bare pods");
	return hostname_check(s->hostname, fault);
}

#define AHEAD (CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)

int pod_ahead(struct pod *p, struct fault *fault) {
	const struct network_pod nobodys = { .id = "", .run_dir = "" };
	struct network_attached nothing;
	int r = network_host_open(&p->host, fault);
	if (r == 0 && unshare(AHEAD) < 0)
		r = fault_errno(fault, errno, "make namespaces");
	if (r == 0) /* its loopback goes up */
		r = network_attach(NULL, &nobodys, &p->host, &nothing, fault);
	p->ahead = r == 0;
	return r;
}

/* One that was made ahead of its pod learns now which it is. */
static int id_take(struct keeper *k, const Bulkhead__SandboxStartRequest *s, struct fault *fault) {
	if (k->id[0] || !s)
		return 0;
	if (!id_valid(s->id))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.80s\" is no id of a pod sandbox", s->id);
	char *copy = strdup(s->id);
	if (!copy)
		return fault_errno(fault, ENOMEM, "take the id \"%s\"", s->id);
	free(k->id);
	k->id = copy;
	title_set("bulkhead-keeper", k->id);
	return 0;
}

static int namespaces_enter(struct keeper *k, const Bulkhead__SandboxStartRequest *s, struct fault *fault) {
	struct pod *p = &k->pod;
	int flags = 0, joined = 0;
	p->bare = s->bare;
	p->namespace = strdup(s->namespace_);
	p->network = s->network;
	p->ipc = s->ipc;
	p->pid = s->pid;
	/* The CRI has no word for it: the host's network brings the host's name. */
	p->host_uts = p->bare ? s->uts == BULKHEAD__NAMESPACE_MODE__NODE
			      : s->network == BULKHEAD__NAMESPACE_MODE__NODE && !s->hostname[0];
	if (p->network != BULKHEAD__NAMESPACE_MODE__NODE)
		flags |= CLONE_NEWNET;
	if (p->ipc != BULKHEAD__NAMESPACE_MODE__NODE)
		flags |= CLONE_NEWIPC;
	if (!p->host_uts)
		flags |= CLONE_NEWUTS;
	int r = p->ahead ? 0 : network_host_open(&p->host, fault);
	if (r == 0 && p->bare)
		r = pod_bare_join(p, s, &joined, fault);
	if (r < 0)
		return r;
	flags &= ~(joined | (p->ahead ? AHEAD : 0));
	if (s->n_uid_mappings)
		r = userns_enter_new(s, flags, &p->userns, fault);
	else if (unshare(flags) < 0)
		r = fault_errno(fault, errno, "make the pod's namespaces");
	if (r < 0)
		return r;
	p->inside = true;
	if (s->hostname[0] && !p->host_uts && sethostname(s->hostname, strlen(s->hostname)) < 0)
		return fault_errno(fault, errno, "set the host name \"%s\"", s->hostname);
	return 0;
}

static int sysctls_set(const struct pod *p, const Bulkhead__SandboxStartRequest *s, struct fault *fault) {
	struct sysctl_scope scope = {
		.net = p->network != BULKHEAD__NAMESPACE_MODE__NODE,
		.ipc = p->ipc != BULKHEAD__NAMESPACE_MODE__NODE,
		.uts = !p->host_uts,
	};
	for (size_t i = 0; i < s->n_sysctls; i++) {
		int r = sysctl_write(&scope, s->sysctls[i]->key, s->sysctls[i]->value, fault);
		if (r < 0)
			return r;
	}
	return 0;
}

int pod_shm_make(struct pod *p, struct fault *fault) {
	return p->bare || p->ipc == BULKHEAD__NAMESPACE_MODE__NODE
		   ? 0
		   : shm_new(p->userns.uid, p->userns.gid, &p->shm, fault);
}

static void setup_warn(void *ctx, const char *text) {
	log_event(LOG_WARN, text, "pod", ((struct keeper *)ctx)->id, NULL);
}

static int group_make(struct keeper *k, const Bulkhead__SandboxStartRequest *s, struct fault *fault) {
	struct cgroup c;
	/* A parent that the client names has the client's limits. */
	if (!k->pod.cgroup_owned || !s->resources)
		return 0;
	return cgroup_create(k->config.cgroups, k->pod.cgroup_path, s->resources, false, setup_warn, k, &c, fault);
}

static void group_choose(struct keeper *k, const Bulkhead__SandboxStartRequest *s) {
	struct pod *p = &k->pod;
	p->cgroup_owned = !s->cgroup_parent[0] || s->cgroup_own;
	if (!s->cgroup_parent[0])
		snprintf(p->cgroup_path, sizeof(p->cgroup_path), "%.*s/%s", CGROUP_PATH_MAX - 80,
			 k->config.cgroup_parent, k->id);
	else
		snprintf(p->cgroup_path, sizeof(p->cgroup_path), "%s", s->cgroup_parent);
	snprintf(p->cgroup_scope, sizeof(p->cgroup_scope), "%s", s->cgroup_scope);
}

/* A copy of what the caller is told, for later questions. */
static int started_make(struct keeper *k, const struct network_attached *a, struct fault *fault) {
	Bulkhead__SandboxStartReply reply = BULKHEAD__SANDBOX_START_REPLY__INIT;
	char path[64] = "", *ips[NETWORK_IPS_MAX], *warnings[NETWORK_WARNINGS_MAX];
	for (size_t i = 0; i < a->n_ips; i++)
		ips[i] = (char *)a->ips[i];
	for (size_t i = 0; i < a->n_warnings; i++)
		warnings[i] = (char *)a->warnings[i];
	if (k->pod.network != BULKHEAD__NAMESPACE_MODE__NODE)
		snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)getpid());
	reply.keeper_pid = getpid();
	reply.netns_path = path;
	reply.ips = ips;
	reply.n_ips = a->n_ips;
	reply.warnings = warnings;
	reply.n_warnings = a->n_warnings;
	CLEANUP_BUFFER struct buffer b = { 0 };
	size_t size = bulkhead__sandbox_start_reply__get_packed_size(&reply);
	if (!buffer_reserve(&b, size + 1))
		return fault_errno(fault, ENOMEM, "remember the pod");
	bulkhead__sandbox_start_reply__pack(&reply, b.data);
	k->pod.started = bulkhead__sandbox_start_reply__unpack(NULL, size, b.data);
	return k->pod.started ? 0 : fault_errno(fault, ENOMEM, "remember the pod");
}

static int network_up(struct keeper *k, const Bulkhead__PodSetupRequest *m, struct network_attached *ret,
		      struct fault *fault) {
	struct network_pod pod = { .id = k->id, .run_dir = k->run_dir };
	/* The host's is there as long as the pod. */
	if (k->pod.network == BULKHEAD__NAMESPACE_MODE__NODE) {
		k->pod.network_ready = true;
		return 0;
	}
	if (k->pod.bare && k->pod.network == BULKHEAD__NAMESPACE_MODE__TARGET) {
		k->pod.network_ready = true;
		return 0;
	}
	int r = network_attach(k->pod.bare ? NULL : m->network, &pod, &k->pod.host, ret, fault);
	k->pod.network_ready = r == 0;
	return r;
}

/* The program is the configuration's word, never the caller's. */
static int runtime_choose(struct keeper *k, const Bulkhead__SandboxStartRequest *s, struct fault *fault) {
	const char *handler = s->runtime;
	if (!handler[0])
		return 0;
	for (size_t i = 0; i < k->config.n_runtimes; i++)
		if (strcmp(k->config.runtimes[i].name, handler) == 0)
			return k->config.runtimes[i].path[0] ? oci_attach(k, k->config.runtimes[i].path, fault)
							     : vm_choose(k, s, fault);
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "no runtime handler \"%.64s\" is configured", handler);
}

static int setup(struct keeper *k, const Bulkhead__PodSetupRequest *m, struct network_attached *attached,
		 struct fault *fault) {
	const char *ips[NETWORK_IPS_MAX];
	group_choose(k, m->sandbox);
	int r = runtime_choose(k, m->sandbox, fault);
	if (r == 0)
		r = namespaces_enter(k, m->sandbox, fault);
	/* From here on a successor must be able to take it all back. */
	if (r == 0)
		state_save(k);
	if (r == 0)
		r = network_up(k, m, attached, fault);
	if (r == 0)
		r = sysctls_set(&k->pod, m->sandbox, fault);
	if (r == 0)
		r = pod_shm_make(&k->pod, fault);
	for (size_t i = 0; i < attached->n_ips; i++)
		ips[i] = attached->ips[i];
	if (r == 0 && !k->pod.bare)
		r = pod_files_write(k, m->sandbox, ips, attached->n_ips, fault);
	return r < 0 ? r : group_make(k, m->sandbox, fault);
}

/* fault NULL: all is there. */
static void setup_end(struct keeper *k, struct msg_request *r, const struct network_attached *a,
		      const struct fault *fault) {
	struct fault own = { 0 }, ignored = { 0 };
	if (!fault && started_make(k, a, &own) < 0)
		fault = &own;
	if (fault) {
		vm_abort(k);
		vm_folder_remove(k);
		pod_network_down(k, k->pod.inside && k->pod.network != BULKHEAD__NAMESPACE_MODE__NODE, &ignored);
		cgroup_remove_path(k->config.cgroups, k->pod.cgroup_owned ? k->pod.cgroup_path : "");
		msg_fail(r, fault);
		return;
	}
	k->pod.up = true;
	vault_put_pod(k);
	state_save(k);
	Bulkhead__PodSetupReply reply = BULKHEAD__POD_SETUP_REPLY__INIT;
	reply.started = k->pod.started;
	pod_setup_reply(r, &reply, NULL, 0);
}

/* The set-up that waits for the pod's virtual machine. */
struct pod_boot {
	struct msg_request *request;
	struct network_attached attached;
};

static void boot_end(struct keeper *k, const struct fault *fault) {
	struct pod_boot *b CLEANUP_FREE = take_ptr(k->pod.boot);
	b->request->cancelled = NULL;
	setup_end(k, b->request, &b->attached, fault);
}

static void boot_cancelled(struct msg_request *r, void *ctx) {
	struct fault fault;
	fault_set(&fault, FAULT_CANCELLED, "the caller gave up");
	boot_end(ctx, &fault);
}

void pod_boot_abort(struct keeper *k) {
	struct fault fault;
	if (!k->pod.boot)
		return;
	fault_set(&fault, FAULT_ABORTED, "pod sandbox \"%.80s\" is being stopped", k->id);
	boot_end(k, &fault);
}

static int boot_begin(struct keeper *k, struct msg_request *r, const struct network_attached *a, struct fault *fault) {
	struct pod_boot *b = malloc(sizeof(*b));
	if (!b)
		return fault_errno(fault, ENOMEM, "start the virtual machine");
	*b = (struct pod_boot){ .request = r, .attached = *a };
	int e = vm_start(k, boot_end, fault);
	if (e < 0) {
		free(b);
		return e;
	}
	k->pod.boot = b;
	r->cancelled = boot_cancelled;
	r->cancelled_ctx = k;
	return 0;
}

void on_pod_setup(struct keeper *k, struct msg_request *r, const Bulkhead__PodSetupRequest *m) {
	struct network_attached attached = { 0 };
	struct fault fault = { 0 };
	if (id_take(k, m->sandbox, &fault) < 0 || setup_check(k, m, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	k->pod.used = true;
	int e = m->run_dir[0] ? keeper_run_dir(k, m->run_dir, &fault) : 0;
	if (e == 0)
		e = keeper_listen(k, &fault);
	if (e == 0)
		e = setup(k, m, &attached, &fault);
	if (e == 0 && k->pod.vm)
		e = boot_begin(k, r, &attached, &fault);
	if (e < 0 || !k->pod.vm)
		setup_end(k, r, &attached, e < 0 ? &fault : NULL);
}

void on_keeper_userns(struct keeper *k, struct msg_request *r, const Bulkhead__Empty *m) {
	Bulkhead__Empty reply = BULKHEAD__EMPTY__INIT;
	if (k->pod.userns.fd < 0)
		msg_failf(r, FAULT_FAILED_PRECONDITION, "pod sandbox \"%.80s\" has no user namespace", k->id);
	else
		keeper_userns_reply(r, &reply, &k->pod.userns.fd, 1);
}
