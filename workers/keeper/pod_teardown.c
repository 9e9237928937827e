/*
 * pod_teardown. It needs nothing but the run folder: a fresh keeper can do it for
 * one that was killed.
 */
#include "workers/keeper/backend.h"
#include "workers/keeper/container.h"

#include "base/clock.h"
#include "workers/keeper/vm/vm.h"

#include <stdio.h>
#include <string.h>

#define TEARDOWN_RETRY (20 * NS_PER_MS)

void pod_network_down(struct keeper *k, bool in_pod, struct fault *fault) {
	struct network_pod pod = { .id = k->id, .run_dir = k->run_dir };
	fault->code = FAULT_NONE;
	if (k->pod.host.netns < 0 && network_host_open(&k->pod.host, fault) < 0)
		return;
	if (network_detach(&pod, &k->pod.host, in_pod, fault) == 0)
		k->pod.network_ready = false;
}

/* What a killed keeper left: its containers' groups, by their usual places and
 * by its state. */
static void leftovers_bury(struct keeper *k, struct msg_request *r, const Bulkhead__SandboxStopRequest *m) {
	Bulkhead__KeeperSaved *saved = NULL;
	struct cgroup c;
	char path[CGROUP_PATH_MAX];
	if (state_load(k->run_dir, &r->arena, &saved, &k->state_sequence) < 0)
		return;
	snprintf(k->pod.cgroup_path, sizeof(k->pod.cgroup_path), "%s", saved->cgroup_path);
	k->pod.cgroup_owned = saved->cgroup_owned;
	snprintf(k->pod.cgroup_scope, sizeof(k->pod.cgroup_scope), "%s", saved->cgroup_scope);
	struct fault ignored;
	vm_group(k, path);
	cgroup_adopt(k->config.cgroups, path, &c);
	if (strcmp(saved->runtime, BOOT_VM_HANDLER) == 0 && cgroup_path_valid(path))
		keeper_bury(k, &c);
	else if (saved->runtime[0])
		(void)oci_attach(k, saved->runtime, &ignored);
	for (size_t i = 0; i < saved->n_containers; i++) {
		cgroup_adopt(k->config.cgroups, saved->containers[i]->cgroup_path, &c);
		if (cgroup_path_valid(c.path))
			keeper_bury(k, &c);
	}
	for (size_t i = 0; i < m->n_container_ids; i++) {
		snprintf(path, sizeof(path), "%.*s/%s", CGROUP_PATH_MAX - 80, k->pod.cgroup_path, m->container_ids[i]);
		cgroup_adopt(k->config.cgroups, path, &c);
		if (cgroup_path_valid(c.path))
			keeper_bury(k, &c);
	}
	pod_init_group(k, path);
	cgroup_adopt(k->config.cgroups, path, &c);
	if (cgroup_path_valid(path))
		keeper_bury(k, &c);
	if (k->pod.cgroup_owned && cgroup_path_valid(k->pod.cgroup_path)) {
		cgroup_adopt(k->config.cgroups, k->pod.cgroup_path, &c);
		keeper_bury(k, &c);
	}
}

static bool all_ended(const struct keeper *k) {
	list_for_each (n, &k->containers) {
		struct container *c = list_entry(n, struct container, node);
		if (c->state != CONTAINER_EXITED || exec_any(c))
			return false;
	}
	return true;
}

static void teardown_timer(void *ctx) {
	struct keeper *k = ctx;
	loop_source_free_p(&k->pod.teardown_timer);
	pod_teardown_continue(k);
}

static void teardown_later(struct keeper *k) {
	if (!k->pod.teardown_timer &&
	    loop_timer(k->loop, clock_mono() + TEARDOWN_RETRY, teardown_timer, k, &k->pod.teardown_timer) < 0)
		k->pod.teardown_timer = NULL;
}

static void teardown_finish(struct keeper *k) {
	struct pod *p = &k->pod;
	struct fault fault = { 0 };
	struct msg_request *r = take_ptr(p->teardown);
	pod_network_down(k, p->inside && p->network != BULKHEAD__NAMESPACE_MODE__NODE, &fault);
	if (fault.code != FAULT_NONE) {
		/* Everything else waits with it: the record is in the run folder. */
		p->ending = false;
		if (r)
			msg_fail(r, &fault);
		return;
	}
	if (p->cgroup_owned && cgroup_path_valid(p->cgroup_path))
		cgroup_remove_path(k->config.cgroups, p->cgroup_path);
	p->up = false;
	keeper_unlisten(k);
	pod_files_remove(k);
	vm_folder_remove(k);
	state_forget(k);
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	if (r)
		pod_teardown_reply(r, &done, NULL, 0);
	keeper_quit(k);
}

void pod_teardown_continue(struct keeper *k) {
	struct pod *p = &k->pod;
	if (!p->ending || k->quitting || !all_ended(k) || stdio_any_ending(k))
		return;
	if (!pod_init_end(k)) {
		teardown_later(k);
		return;
	}
	/* Those of containers first: the pod's own takes away what they need. */
	if (list_empty(&k->errands))
		backend_of(k)->pod_ended(k);
	if (!list_empty(&k->errands) || !vm_ended(k))
		return;
	if (!keeper_graves_empty(k)) {
		teardown_later(k);
		return;
	}
	teardown_finish(k);
}

static void teardown_cancelled(struct msg_request *r, void *ctx) {
	struct keeper *k = ctx;
	k->pod.teardown = NULL;
	msg_failf(r, FAULT_CANCELLED, "the caller gave up");
}

void on_pod_teardown(struct keeper *k, struct msg_request *r, const Bulkhead__SandboxStopRequest *m) {
	struct pod *p = &k->pod;
	if (p->teardown) {
		msg_failf(r, FAULT_ABORTED, "pod sandbox \"%.80s\" is being stopped", k->id);
		return;
	}
	pod_boot_abort(k);
	p->teardown = r;
	r->cancelled = teardown_cancelled;
	r->cancelled_ctx = k;
	p->ending = true;
	if (!p->used)
		leftovers_bury(k, r, m);
	list_for_each_safe (n, &k->containers) {
		struct container *c = list_entry(n, struct container, node);
		container_kill_now(c);
	}
	pod_teardown_continue(k);
}
