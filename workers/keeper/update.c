/*
 * container_update: new limits for a container, or with no container's id for
 * the pod's own group. There every container gets a folder too, or its
 * processes would be outside of the pod's. What fails leaves the limits as they
 * were.
 */
#include "workers/keeper/container.h"

#include "workers/keeper/cgroup_update.h"

struct update {
	struct msg_request *request;
	Bulkhead__TaskUpdateReply reply;
};

#define WARNINGS_MAX 32

static void warn(void *ctx, const char *text) {
	struct update *u = ctx;
	char *copy = u->reply.n_warnings < WARNINGS_MAX ? arena_strdup(&u->request->arena, text) : NULL;
	if (copy)
		u->reply.warnings[u->reply.n_warnings++] = copy;
}

static int update_group(struct cgroup *group, const Bulkhead__TaskUpdateRequest *m, struct update *u,
			struct cgroup_undo *undo, struct fault *fault) {
	int r = m->resources ? cgroup_update(group, m->resources, undo, warn, u, fault) : 0;
	for (size_t i = 0; r == 0 && i < m->n_unified; i++) {
		if (cgroup_unified_allowed(m->unified[i]->key))
			cgroup_undo_note(undo, group, group->system->v2, m->unified[i]->key);
		r = cgroup_unified_set(group, m->unified[i]->key, m->unified[i]->value, warn, u, fault);
	}
	return r;
}

static bool has_processes(const struct container *c) {
	return c->state == CONTAINER_CREATED || c->state == CONTAINER_STARTING || c->state == CONTAINER_RUNNING;
}

static int update_pod(struct keeper *k, const Bulkhead__TaskUpdateRequest *m, struct update *u, struct fault *fault) {
	struct cgroup group;
	struct cgroup_undo undo = { 0 };
	if (!k->pod.up)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "pod sandbox \"%s\" doesn't run", k->id);
	/* Whoever made the pod's group has its limits in hand. */
	if (!k->pod.cgroup_owned)
		return 0;
	cgroup_adopt(k->config.cgroups, k->pod.cgroup_path, &group);
	int r = update_group(&group, m, u, &undo, fault);
	list_for_each (n, &k->containers) {
		struct container *c = list_entry(n, struct container, node);
		if (r == 0 && has_processes(c) && m->resources)
			r = cgroup_ensure(&c->cgroup, m->resources, fault);
	}
	if (r < 0)
		cgroup_undo(&undo, &group);
	return r;
}

static int update_container(struct keeper *k, const Bulkhead__TaskUpdateRequest *m, struct update *u,
			    struct fault *fault) {
	struct container *c = container_find(k, m->container_id);
	if (!c)
		return fault_set(fault, FAULT_NOT_FOUND, "container \"%.80s\" doesn't run", m->container_id);
	if (!has_processes(c))
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "container \"%s\" has ended", c->id);
	struct cgroup_undo undo = { 0 };
	int r = update_group(&c->cgroup, m, u, &undo, fault);
	if (r < 0)
		cgroup_undo(&undo, &c->cgroup);
	return r < 0 ? container_fault(c, r, fault) : 0;
}

void on_container_update(struct keeper *k, struct msg_request *r, const Bulkhead__TaskUpdateRequest *m) {
	struct update u = { .request = r, .reply = BULKHEAD__TASK_UPDATE_REPLY__INIT };
	struct fault fault;
	u.reply.warnings = arena_alloc(&r->arena, WARNINGS_MAX * sizeof(*u.reply.warnings));
	if (!u.reply.warnings) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "out of memory for new limits");
		return;
	}
	int e = m->container_id[0] ? update_container(k, m, &u, &fault) : update_pod(k, m, &u, &fault);
	if (e < 0)
		msg_fail(r, &fault);
	else
		container_update_reply(r, &u.reply, NULL, 0);
}
