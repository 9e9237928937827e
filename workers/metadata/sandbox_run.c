/*
 * RunPodSandbox: record (STARTING) -> sandbox_start -> (its scope) -> record (UP).
 *
 * A start whose answer was lost with the task worker counts when the pod runs,
 * and is taken back and made again under the same id when it doesn't. The
 * record STARTING is what a restart of this worker needs to know: it goes on
 * when the pod runs, and forgets it when not.
 */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "base/log.h"
#include "msg/message_json.h"
#include "workers/metadata/check.h"
#include "workers/metadata/object/object.h"
#include "workers/metadata/reconcile.h"
#include "workers/metadata/sandbox.h"
#include "workers/metadata/sweep.h"
#include "workers/metadata/unit.h"
#include "workers/metadata/userns.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void sandbox_op_free(struct op *op) {
	free(container_of(op, struct sandbox_op, op));
}

struct sandbox *sandbox_of(struct op *op) {
	return container_of(op, struct sandbox_op, op)->s;
}

struct sandbox_op *sandbox_op_new(struct metadata *m, const struct op_class *class, struct sandbox *s,
				  struct msg_request *r) {
	struct sandbox_op *so = calloc(1, sizeof(*so));
	if (!so) {
		if (r)
			msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", class->name);
		return NULL;
	}
	op_init(&so->op, class, m, &s->op, s->record->config->metadata->name, r);
	so->s = s;
	snprintf(so->id, sizeof(so->id), "%s", s->record->id);
	if (r)
		op_join(&so->op, r);
	return so;
}

/* --- steps ------------------------------------------------------------------ */

static void run_record(struct op *op) {
	int r = sandbox_save(op->m, sandbox_of(op));
	if (r < 0) {
		op_fail_store(op, r);
	} else
		op_commit(op, STORE_PODS);
}

static void run_unrecord(struct op *op) {
	struct sandbox *s = sandbox_of(op);
	char key[KEY_SIZE];
	sandbox_key(s->record->id, key);
	if (store_delete(op->m->store, STORE_PODS, key) < 0)
		log_event(LOG_WARN, "a restart will undo it again", "sandbox", s->record->id, NULL);
	op->slot = NULL;
	model_free_sandbox(&op->m->model, s);
}

/* The request's parts live in an arena that the caller ends. */
static void start_request(const struct sandbox *s, struct arena *a, Bulkhead__SandboxStartRequest *q) {
	const Runtime__V1__PodSandboxConfig *c = s->record->config;
	const Runtime__V1__NamespaceOption *n = sandbox_namespaces(c);
	char *host = arena_zalloc(a, HOST_NAME_MAX + 1);
	q->id = s->record->id;
	q->runtime = s->record->runtime_handler;
	q->name = c->metadata->name;
	q->namespace_ = c->metadata->namespace_;
	q->uid = c->metadata->uid;
	q->network = (Bulkhead__NamespaceMode)n->network;
	q->pid = (Bulkhead__NamespaceMode)n->pid;
	q->ipc = (Bulkhead__NamespaceMode)n->ipc;
	if (n->network != RUNTIME__V1__NAMESPACE_MODE__NODE) {
		q->hostname = c->hostname;
		if (!*c->hostname && host && gethostname(host, HOST_NAME_MAX) == 0)
			q->hostname = host;
	}
	const Runtime__V1__UserNamespace *u = userns_of(c);
	if (u) {
		q->uid_mappings = userns_map(a, u->uids, u->n_uids, &q->n_uid_mappings);
		q->gid_mappings = userns_map(a, u->gids, u->n_gids, &q->n_gid_mappings);
	}
	q->n_port_mappings = 0;
	q->port_mappings = arena_zalloc(a, (c->n_port_mappings + 1) * sizeof(*q->port_mappings));
	for (size_t i = 0; q->port_mappings && i < c->n_port_mappings; i++) {
		static const uint32_t protocols[] = { 6, 17, 132 }; /* IPPROTO_TCP, _UDP, _SCTP */
		const Runtime__V1__PortMapping *p = c->port_mappings[i];
		Bulkhead__PortMapping *to = arena_alloc(a, sizeof(*to));
		if (p->host_port == 0 || !to)
			continue;
		*to = (Bulkhead__PortMapping)BULKHEAD__PORT_MAPPING__INIT;
		to->protocol = protocols[p->protocol];
		to->container_port = (uint32_t)p->container_port;
		to->host_port = (uint32_t)p->host_port;
		to->host_ip = p->host_ip;
		q->port_mappings[q->n_port_mappings++] = to;
	}
	if (c->dns_config) {
		q->n_dns_servers = c->dns_config->n_servers;
		q->dns_servers = c->dns_config->servers;
		q->n_dns_searches = c->dns_config->n_searches;
		q->dns_searches = c->dns_config->searches;
		q->n_dns_options = c->dns_config->n_options;
		q->dns_options = c->dns_config->options;
	}
	q->log_directory = c->log_directory;
	if (c->linux) {
		q->cgroup_parent = c->linux->cgroup_parent;
		q->n_sysctls = c->linux->n_sysctls;
		/* Two map types with the same entries: string key, string value. */
		q->sysctls = (Bulkhead__SandboxStartRequest__SysctlsEntry **)c->linux->sysctls;
	}
	q->n_annotations = c->n_annotations;
	q->annotations = (Bulkhead__SandboxStartRequest__AnnotationsEntry **)c->annotations;
}

static void run_restarted(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault)
		op_fail_below(op, answer->fault);
	else
		op_again(op, op->step, 0);
}

static void run_succeeded(struct op *op, const Bulkhead__SandboxStartReply *started) {
	struct sandbox *s = sandbox_of(op);
	s->record->started = message_copy(&s->arena, &started->base);
	op_next(op);
}

static void run_looked(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	struct sandbox *s = sandbox_of(op);
	if (answer->fault) {
		op_fail_below(op, answer->fault);
		return;
	}
	const Bulkhead__SandboxInfo *i = task_list_sandbox(task_list_answer(answer), s->record->id);
	if (i && i->started && i->network_ready) {
		run_succeeded(op, i->started);
		return;
	}
	Bulkhead__SandboxStopRequest q = BULKHEAD__SANDBOX_STOP_REQUEST__INIT;
	q.id = s->record->id;
	struct msg_context c = op_context(op, SANDBOX_START_TIMEOUT_NS);
	sandbox_stop_send(op->m->task, &c, &q, NULL, 0, run_restarted, op);
}

static void run_started(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (!answer->fault)
		run_succeeded(op, sandbox_start_answer(answer));
	else if (answer->fault->code == FAULT_UNAVAILABLE && op->attempts + 1 < START_ATTEMPTS) {
		Bulkhead__Empty q = BULKHEAD__EMPTY__INIT;
		struct msg_context c = op_context(op, SANDBOX_START_TIMEOUT_NS);
		task_list_send(op->m->task, &c, &q, NULL, 0, run_looked, op);
	} else
		op_fail_below(op, answer->fault);
}

static void run_start(struct op *op) {
	struct arena a;
	arena_init(&a, 0);
	Bulkhead__SandboxStartRequest q = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	start_request(sandbox_of(op), &a, &q);
	if (unit_place_pod(op->m, sandbox_of(op), &a, &q, &op->fault) < 0) {
		arena_deinit(&a);
		op_fail(op);
		return;
	}
	struct msg_context c = op_context(op, SANDBOX_START_TIMEOUT_NS);
	sandbox_start_send(op->m->task, &c, &q, NULL, 0, run_started, op);
	arena_deinit(&a);
}

static void run_unstart(struct op *op) {
	sweep_sandbox(op->m, sandbox_of(op)->record->id);
}

static void run_scope(struct op *op) {
	unit_step_pod(op, sandbox_of(op));
}

static void run_ready(struct op *op) {
	struct sandbox *s = sandbox_of(op);
	s->record->phase = BULKHEAD__SANDBOX_PHASE__SANDBOX_UP;
	s->up_at = clock_real();
	int r = sandbox_save(op->m, s);
	if (r < 0) {
		op_fail_store(op, r);
		return;
	}
	op_commit(op, STORE_PODS);
	events_add(&op->m->events, EVENT_CREATED, s->record->id, NULL);
	events_add(&op->m->events, EVENT_STARTED, s->record->id, NULL);
	sandbox_view_tell(op->m, CONTAINER_NEWS_MADE, s);
}

static const struct op_step run_steps[] = {
	{ .name = "record the intent", .run = run_record, .undo = run_unrecord },
	{ .name = "start", .run = run_start, .undo = run_unstart },
	{ .name = "make its scope", .run = run_scope },
	{ .name = "record", .run = run_ready },
	{ .name = NULL },
};

static void run_answer(struct op *op, struct msg_request *r) {
	Runtime__V1__RunPodSandboxResponse a = RUNTIME__V1__RUN_POD_SANDBOX_RESPONSE__INIT;
	a.pod_sandbox_id = container_of(op, struct sandbox_op, op)->id;
	cri_run_pod_sandbox_reply(r, &a, NULL, 0);
}

static const struct op_class run_class = {
	.name = "run pod sandbox",
	.steps = run_steps,
	.answer = run_answer,
	.free = sandbox_op_free,
};

/* From the store: the pod runs, only the record doesn't say so yet. */
void sandbox_run_resume(struct metadata *m, struct sandbox *s) {
	struct sandbox_op *so = sandbox_op_new(m, &run_class, s, NULL);
	if (!so)
		return;
	so->op.step = 2;
	op_start(&so->op);
}

/* "" and "native" are the same handler. */
static const char *handler_of(const Runtime__V1__RunPodSandboxRequest *q) {
	return strcmp(q->runtime_handler, "native") == 0 ? "" : q->runtime_handler;
}

/* The pod of this name is there already: the same request came again, or a mistake. */
static void run_again(struct metadata *m, struct sandbox *s, struct msg_request *r,
		      const Runtime__V1__RunPodSandboxRequest *q) {
	bool made = !s->op && s->record->phase == BULKHEAD__SANDBOX_PHASE__SANDBOX_UP;
	if ((made || (s->op && s->op->class == &run_class)) &&
	    (!message_same(&s->record->config->base, &q->config->base) ||
	     strcmp(s->record->runtime_handler, handler_of(q)) != 0))
		attempt_taken(r, "run pod sandbox", q->config->metadata->name, q->config->metadata->attempt,
			      s->record->id);
	else if (s->op && s->op->class == &run_class)
		op_join(s->op, r);
	else if (s->op)
		op_requeue(s->op, r, &q->base, cri_run_pod_sandbox);
	else if (s->record->phase != BULKHEAD__SANDBOX_PHASE__SANDBOX_UP)
		msg_failf(r, FAULT_ALREADY_EXISTS,
			  "run pod sandbox \"%s\": attempt %u of it was stopped (%s): remove it first",
			  q->config->metadata->name, q->config->metadata->attempt, s->record->id);
	else {
		Runtime__V1__RunPodSandboxResponse a = RUNTIME__V1__RUN_POD_SANDBOX_RESPONSE__INIT;
		a.pod_sandbox_id = s->record->id;
		cri_run_pod_sandbox_reply(r, &a, NULL, 0);
	}
}

static int handler_check(const struct metadata *m, const Runtime__V1__RunPodSandboxRequest *q, struct fault *fault) {
	const char *name = handler_of(q);
	char known[BOOT_RUNTIMES_MAX * (BOOT_RUNTIME_NAME_MAX + 4) + 16] = "\"native\"";
	bool found = !*name;
	for (uint32_t i = 0; i < m->config->n_runtimes; i++) {
		const char *runtime = m->config->runtimes[i].name;
		size_t n = strlen(known);
		found |= strcmp(runtime, name) == 0;
		snprintf(known + n, sizeof(known) - n, ", \"%s\"", runtime);
	}
	if (!found)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "no runtime handler \"%.64s\" is configured; there are %s", name, known);
	if (*name && userns_of(q->config))
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "the runtime handler \"%s\" runs no pods with a user namespace, \"native\" does",
				 name);
	return 0;
}

void sandbox_run(struct metadata *m, struct msg_request *r, const Runtime__V1__RunPodSandboxRequest *q,
		 const char *restored_from) {
	struct fault fault;
	if (check_sandbox_config(q->config, &fault) < 0) {
		fault_prefix(&fault, 0, "run pod sandbox");
		msg_fail(r, &fault);
		return;
	}
	if (handler_check(m, q, &fault) < 0 ||
	    (q->config->linux && unit_parent_check(m, q->config->linux->cgroup_parent, &fault) < 0)) {
		fault_prefix(&fault, 0, "run pod sandbox \"%s\"", q->config->metadata->name);
		msg_fail(r, &fault);
		return;
	}
	if (userns_of(q->config) && m->info && !m->info->mapped) {
		msg_failf(r, FAULT_UNIMPLEMENTED,
			  "run pod sandbox \"%s\": no user namespaces here: the kernel, or the file system of the "
			  "images, can't map owners",
			  q->config->metadata->name);
		return;
	}
	struct sandbox *s = model_sandbox_by_name(&m->model, q->config->metadata);
	if (s) {
		run_again(m, s, r, q);
		return;
	}
	Bulkhead__SandboxRecord record = BULKHEAD__SANDBOX_RECORD__INIT;
	char id[ID_SIZE];
	id_random(id);
	record.id = id;
	record.config = q->config;
	record.runtime_handler = (char *)(uintptr_t)handler_of(q);
	record.created_at = clock_real();
	record.boot_id = m->boot_id;
	record.restored_from = (char *)(uintptr_t)restored_from;
	record.restoring = *restored_from != '\0';
	s = model_add_sandbox(&m->model, &record);
	if (!s) {
		fault_errno(&fault, errno, "run pod sandbox \"%s\"", q->config->metadata->name);
		msg_fail(r, &fault);
		return;
	}
	struct sandbox_op *so = sandbox_op_new(m, &run_class, s, r);
	if (so)
		op_start(&so->op);
	else
		model_free_sandbox(&m->model, s);
}

void cri_run_pod_sandbox(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	if (!metadata_gate(m, r, request, cri_run_pod_sandbox))
		sandbox_run(m, r, (const Runtime__V1__RunPodSandboxRequest *)request, "");
}
