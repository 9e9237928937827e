/*
 * container_update: new limits for a container, or with no container's id for
 * the pod's own group. There every container gets a folder too, or its
 * processes would be outside of the pod's. What fails leaves the limits as they
 * were. The oom score comes last: it can't fail, so nothing takes it back.
 */
#include "workers/keeper/container.h"

#include "base/buffer.h"
#include "workers/keeper/cgroup_update.h"
#include "workers/keeper/oom.h"
#include "workers/keeper/vm/vm.h"

#include <errno.h>

struct update {
	struct msg_request *request;
	struct container *container; /* NULL: the pod */
	Bulkhead__TaskUpdateReply reply;
};

#define WARNINGS_MAX 32

static void warn(void *ctx, const char *text) {
	struct update *u = ctx;
	if (u->container)
		container_warn(u->container, text);
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

/* The process that commands are made from, with another score. */
static int process_scored(const struct container *c, struct arena *a, int32_t score, struct buffer *ret_process,
			  struct fault *fault) {
	Grpc__Process *p = (Grpc__Process *)msg_decode(&grpc__process__descriptor, a, c->process.data, c->process.size);
	if (!p)
		return fault_errno(fault, ENOMEM, "read the container's process");
	p->oomscoreadj = score;
	size_t size = grpc__process__get_packed_size(p);
	uint8_t *room = buffer_reserve(ret_process, size);
	if (!room)
		return fault_errno(fault, ENOMEM, "remember the container's process");
	ret_process->size = grpc__process__pack(p, room);
	return 0;
}

static void score(struct container *c, int32_t score, struct buffer *process, struct update *u) {
	buffer_deinit(&c->process);
	c->process = buffer_take(process);
	container_unwarn(c, OOM_WARNING);
	oom_score_set(&c->cgroup, score, warn, u);
}

static int update_container(struct keeper *k, const Bulkhead__TaskUpdateRequest *m, struct update *u,
			    struct fault *fault) {
	struct container *c = container_find(k, m->container_id);
	if (!c)
		return fault_set(fault, FAULT_NOT_FOUND, "container \"%.80s\" doesn't run", m->container_id);
	if (!has_processes(c))
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "container \"%s\" has ended", c->id);
	CLEANUP_BUFFER struct buffer process = { 0 };
	struct cgroup_undo undo = { 0 };
	u->container = c;
	int r = m->oom_score_adj ? process_scored(c, &u->request->arena, m->oom_score_adj, &process, fault) : 0;
	if (r == 0 && k->pod.vm)
		r = m->resources ? vm_update(c, m->resources, fault) : 0;
	else if (r == 0)
		r = update_group(&c->cgroup, m, u, &undo, fault);
	if (r < 0) {
		cgroup_undo(&undo, &c->cgroup);
		return container_fault(c, r, fault);
	}
	if (m->oom_score_adj)
		score(c, m->oom_score_adj, &process, u);
	u->reply.container_warnings = c->warnings;
	u->reply.n_container_warnings = c->n_warnings;
	state_save(k);
	return 0;
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
