/*
 * UpdateContainerResources, UpdatePodSandboxResources: first what runs gets
 * the new limits, then the record says so. What doesn't run has only the
 * record: a container that is started later gets them then.
 *
 * What the request leaves out (0, empty) stays as it was.
 */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/container.h"
#include "workers/metadata/object/object.h"
#include "workers/metadata/sandbox.h"
#include "workers/metadata/spec/spec.h"
#include "workers/metadata/unit.h"

#include <errno.h>

#define UPDATE_TIMEOUT_NS (60 * NS_PER_SEC)

/* --- merging ---------------------------------------------------------------- */

static void take_number(int64_t *to, int64_t from) {
	if (from)
		*to = from;
}

static void take_text(char **to, char *from) {
	if (*from)
		*to = from;
}

/* What the request says, over what was; the parts are still the request's. */
static void merge(Runtime__V1__LinuxContainerResources *to, const Runtime__V1__LinuxContainerResources *from) {
	take_number(&to->cpu_period, from->cpu_period);
	take_number(&to->cpu_quota, from->cpu_quota);
	take_number(&to->cpu_shares, from->cpu_shares);
	take_number(&to->memory_limit_in_bytes, from->memory_limit_in_bytes);
	take_number(&to->memory_swap_limit_in_bytes, from->memory_swap_limit_in_bytes);
	take_number(&to->oom_score_adj, from->oom_score_adj);
	take_text(&to->cpuset_cpus, from->cpuset_cpus);
	take_text(&to->cpuset_mems, from->cpuset_mems);
	if (from->n_hugepage_limits) {
		to->n_hugepage_limits = from->n_hugepage_limits;
		to->hugepage_limits = from->hugepage_limits;
	}
	if (from->n_unified) {
		to->n_unified = from->n_unified;
		to->unified = from->unified;
	}
}

/* The merged message as a copy in the arena; NULL when out of memory. */
static Runtime__V1__LinuxContainerResources *merged(struct arena *a, const Runtime__V1__LinuxContainerResources *old,
						    const Runtime__V1__LinuxContainerResources *new) {
	Runtime__V1__LinuxContainerResources both = RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
	if (old)
		both = *old;
	merge(&both, new);
	return message_copy(a, &both.base);
}

static void send_update(struct op *op, const char *sandbox_id, const char *container_id,
			const Runtime__V1__LinuxContainerResources *resources, msg_done_fn done) {
	Bulkhead__TaskUpdateRequest q = BULKHEAD__TASK_UPDATE_REQUEST__INIT;
	struct arena a;
	arena_init(&a, 0);
	if (spec_resources_of(&a, resources, &q.resources, &op->fault) < 0) {
		arena_deinit(&a);
		op_fail(op);
		return;
	}
	q.sandbox_id = (char *)(uintptr_t)sandbox_id;
	q.container_id = (char *)(uintptr_t)container_id;
	/* A pod has no process of its own. */
	q.oom_score_adj = *container_id ? (int32_t)resources->oom_score_adj : 0;
	q.n_unified = resources->n_unified;
	q.unified = (void *)resources->unified;
	struct msg_context context = op_context(op, UPDATE_TIMEOUT_NS);
	task_update_send(op->m->task, &context, &q, NULL, 0, done, op);
	arena_deinit(&a);
}

static void warnings_log(const struct op *op, const Bulkhead__TaskUpdateReply *a) {
	for (size_t i = 0; i < a->n_warnings; i++)
		log_event(LOG_WARN, "a limit isn't set", "object", op->object, "why", a->warnings[i], NULL);
}

/* --- containers ------------------------------------------------------------- */

struct update_op {
	struct container_op co; /* first */
	struct arena arena;
	Runtime__V1__LinuxContainerResources *resources; /* the request's */
};

static struct update_op *update_of(struct op *op) {
	return container_of(op, struct update_op, co.op);
}

/* What the verbose status says is what can't be granted now. */
static void warnings_take(struct container *c, const Bulkhead__TaskUpdateReply *a) {
	Bulkhead__TaskCreateReply task = BULKHEAD__TASK_CREATE_REPLY__INIT;
	if (c->record->task)
		task = *c->record->task;
	task.warnings = a->container_warnings;
	task.n_warnings = a->n_container_warnings;
	Bulkhead__TaskCreateReply *copy = message_copy(&c->arena, &task.base);
	if (copy)
		c->record->task = copy;
}

static void updated(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault) {
		op_fail_with(op, answer->fault);
		return;
	}
	warnings_log(op, task_update_answer(answer));
	warnings_take(container_of_op(op), task_update_answer(answer));
	op_next(op);
}

static void update_apply(struct op *op) {
	const struct container *c = container_of_op(op);
	if (c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP)
		send_update(op, c->record->sandbox_id, c->record->id, update_of(op)->resources, updated);
	else
		op_next(op);
}

static void update_unit(struct op *op) {
	unit_step_update_container(op, container_of_op(op), update_of(op)->resources);
}

static void update_record(struct op *op) {
	struct container *c = container_of_op(op);
	Runtime__V1__ContainerConfig *config = c->record->config;
	if (!config->linux) {
		static const Runtime__V1__LinuxContainerConfig none = RUNTIME__V1__LINUX_CONTAINER_CONFIG__INIT;
		config->linux = arena_alloc(&c->arena, sizeof(none));
		if (config->linux)
			*config->linux = none;
	}
	Runtime__V1__LinuxContainerResources *new =
	    config->linux ? merged(&c->arena, config->linux->resources, update_of(op)->resources) : NULL;
	if (new)
		config->linux->resources = new;
	int r = new ? container_save(op->m, c) : -ENOMEM;
	if (r < 0) {
		op_fail_store(op, r);
		return;
	}
	op_commit(op, STORE_PODS);
	container_view_tell(op->m, CONTAINER_NEWS_CHANGED, c);
}

static const struct op_step update_steps[] = {
	{ .name = "set its limits", .run = update_apply },
	{ .name = "tell systemd", .run = update_unit },
	{ .name = "record", .run = update_record },
	{ .name = NULL },
};

static void update_answer(struct op *op, struct msg_request *r) {
	Runtime__V1__UpdateContainerResourcesResponse a = RUNTIME__V1__UPDATE_CONTAINER_RESOURCES_RESPONSE__INIT;
	cri_update_container_resources_reply(r, &a, NULL, 0);
}

static void update_free(struct op *op) {
	arena_deinit(&update_of(op)->arena);
	free(update_of(op));
}

static const struct op_class update_class = {
	.name = "update container",
	.steps = update_steps,
	.answer = update_answer,
	.free = update_free,
};

static void update_begin(struct metadata *m, struct container *c, struct msg_request *r,
			 const Runtime__V1__LinuxContainerResources *resources) {
	struct update_op *u = calloc(1, sizeof(*u));
	if (!u) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "update container: out of memory");
		return;
	}
	arena_init(&u->arena, 0);
	op_init(&u->co.op, &update_class, m, &c->op, c->record->config->metadata->name, r);
	u->co.c = c;
	u->resources = message_copy(&u->arena, &resources->base);
	op_join(&u->co.op, r);
	if (u->resources) {
		op_start(&u->co.op);
		return;
	}
	fault_errno(&u->co.op.fault, ENOMEM, "keep the request");
	op_fail(&u->co.op);
}

void cri_update_container_resources(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__UpdateContainerResourcesRequest *q =
	    (const Runtime__V1__UpdateContainerResourcesRequest *)request;
	struct container *c;
	struct fault fault;
	Grpc__LinuxResources *checked;
	if (metadata_gate(m, r, request, cri_update_container_resources))
		return;
	int e = model_find_container(&m->model, q->container_id, &c, &fault);
	if (e == 0 && c->op) {
		op_requeue(c->op, r, request, cri_update_container_resources);
		return;
	}
	if (e == 0 && q->linux)
		e = spec_resources_of(&r->arena, q->linux, &checked, &fault);
	if (e < 0) {
		fault_prefix(&fault, 0, "update container");
		msg_fail(r, &fault);
	} else if (!q->linux)
		update_answer(NULL, r);
	else
		update_begin(m, c, r, q->linux);
}

/* --- pod sandboxes ---------------------------------------------------------- */

struct pod_update_op {
	struct sandbox_op so; /* first */
	struct arena arena;
	Runtime__V1__LinuxContainerResources *overhead, *resources; /* the request's; may be NULL */
};

static struct pod_update_op *pod_update_of(struct op *op) {
	return container_of(op, struct pod_update_op, so.op);
}

static int64_t sum(int64_t a, int64_t b) {
	return a > 0 && b > 0 && a <= INT64_MAX - b ? a + b : a;
}

static void pod_updated(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault) {
		op_fail_with(op, answer->fault);
		return;
	}
	warnings_log(op, task_update_answer(answer));
	op_next(op);
}

/* The pod's own group holds its containers and what running a pod costs. */
static Runtime__V1__LinuxContainerResources pod_limits(const struct pod_update_op *u) {
	Runtime__V1__LinuxContainerResources whole = *u->resources;
	if (!u->overhead)
		return whole;
	whole.memory_limit_in_bytes = sum(whole.memory_limit_in_bytes, u->overhead->memory_limit_in_bytes);
	whole.cpu_shares = sum(whole.cpu_shares, u->overhead->cpu_shares);
	if (whole.cpu_period == u->overhead->cpu_period)
		whole.cpu_quota = sum(whole.cpu_quota, u->overhead->cpu_quota);
	return whole;
}

static void pod_update_apply(struct op *op) {
	const struct pod_update_op *u = pod_update_of(op);
	const struct sandbox *s = sandbox_of(op);
	if (!u->resources || s->record->phase != BULKHEAD__SANDBOX_PHASE__SANDBOX_UP) {
		op_next(op);
		return;
	}
	Runtime__V1__LinuxContainerResources whole = pod_limits(u);
	send_update(op, s->record->id, "", &whole, pod_updated);
}

static void pod_update_unit(struct op *op) {
	const struct pod_update_op *u = pod_update_of(op);
	if (!u->resources) {
		op_next(op);
		return;
	}
	Runtime__V1__LinuxContainerResources whole = pod_limits(u);
	unit_step_update_pod(op, sandbox_of(op), &whole);
}

static void pod_update_record(struct op *op) {
	const struct pod_update_op *u = pod_update_of(op);
	struct sandbox *s = sandbox_of(op);
	Runtime__V1__PodSandboxConfig *config = s->record->config;
	int r = 0;
	if (!config->linux) {
		static const Runtime__V1__LinuxPodSandboxConfig none = RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT;
		config->linux = arena_alloc(&s->arena, sizeof(none));
		if (config->linux)
			*config->linux = none;
	}
	if (!config->linux)
		r = -ENOMEM;
	if (r == 0 && u->overhead &&
	    !(config->linux->overhead = merged(&s->arena, config->linux->overhead, u->overhead)))
		r = -ENOMEM;
	if (r == 0 && u->resources &&
	    !(config->linux->resources = merged(&s->arena, config->linux->resources, u->resources)))
		r = -ENOMEM;
	if (r == 0)
		r = sandbox_save(op->m, s);
	if (r < 0) {
		op_fail_store(op, r);
		return;
	}
	op_commit(op, STORE_PODS);
	sandbox_view_tell(op->m, CONTAINER_NEWS_CHANGED, s);
}

static const struct op_step pod_update_steps[] = {
	{ .name = "set its limits", .run = pod_update_apply },
	{ .name = "tell systemd", .run = pod_update_unit },
	{ .name = "record", .run = pod_update_record },
	{ .name = NULL },
};

static void pod_update_answer(struct op *op, struct msg_request *r) {
	Runtime__V1__UpdatePodSandboxResourcesResponse a = RUNTIME__V1__UPDATE_POD_SANDBOX_RESOURCES_RESPONSE__INIT;
	cri_update_pod_sandbox_resources_reply(r, &a, NULL, 0);
}

static void pod_update_free(struct op *op) {
	arena_deinit(&pod_update_of(op)->arena);
	free(pod_update_of(op));
}

static const struct op_class pod_update_class = {
	.name = "update pod sandbox",
	.steps = pod_update_steps,
	.answer = pod_update_answer,
	.free = pod_update_free,
};

static void pod_update_begin(struct metadata *m, struct sandbox *s, struct msg_request *r,
			     const Runtime__V1__UpdatePodSandboxResourcesRequest *q) {
	struct pod_update_op *u = calloc(1, sizeof(*u));
	if (!u) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "update pod sandbox: out of memory");
		return;
	}
	arena_init(&u->arena, 0);
	op_init(&u->so.op, &pod_update_class, m, &s->op, s->record->config->metadata->name, r);
	u->so.s = s;
	u->overhead = q->overhead ? message_copy(&u->arena, &q->overhead->base) : NULL;
	u->resources = q->resources ? message_copy(&u->arena, &q->resources->base) : NULL;
	op_join(&u->so.op, r);
	if ((u->overhead || !q->overhead) && (u->resources || !q->resources)) {
		op_start(&u->so.op);
		return;
	}
	fault_errno(&u->so.op.fault, ENOMEM, "keep the request");
	op_fail(&u->so.op);
}

void cri_update_pod_sandbox_resources(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__UpdatePodSandboxResourcesRequest *q =
	    (const Runtime__V1__UpdatePodSandboxResourcesRequest *)request;
	struct sandbox *s;
	struct fault fault;
	Grpc__LinuxResources *checked;
	if (metadata_gate(m, r, request, cri_update_pod_sandbox_resources))
		return;
	int e = model_find_sandbox(&m->model, q->pod_sandbox_id, &s, &fault);
	if (e == 0 && s->op) {
		op_requeue(s->op, r, request, cri_update_pod_sandbox_resources);
		return;
	}
	if (e == 0 && q->overhead)
		e = spec_resources_of(&r->arena, q->overhead, &checked, &fault);
	if (e == 0 && q->resources)
		e = spec_resources_of(&r->arena, q->resources, &checked, &fault);
	if (e < 0) {
		fault_prefix(&fault, 0, "update pod sandbox");
		msg_fail(r, &fault);
	} else
		pod_update_begin(m, s, r, q);
}
