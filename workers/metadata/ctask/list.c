/* ctask_get, ctask_list, ctask_wait, and the ends of processes. */
#include "workers/metadata/ctask/ctask.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/handlers.h"
#include "workers/metadata/sweep.h"

#include <string.h>

#define UNKNOWN_EXIT 255

struct ctask_wait {
	struct list node;
	struct msg_request *r;
	const char *exec_id;
};

/* --- what is told ----------------------------------------------------------- */

static Bulkhead__Typed *spec_of(struct metadata *m, const Bulkhead__CtaskRecord *r) {
	const struct object *o =
	    object_find(&m->objects, BULKHEAD__OBJECT_KIND__OBJECT_CONTAINER, r->namespace_, r->container_id);
	return o ? o->record->container->spec : NULL;
}

static void process_fill(const Bulkhead__CtaskRecord *r, const Bulkhead__CtaskExec *exec, Bulkhead__CtaskKey *key,
			 Bulkhead__CtaskProcess *ret_process) {
	const Bulkhead__TaskExit *exit = exec ? exec->exit : r->exit;
	*key = (Bulkhead__CtaskKey)BULKHEAD__CTASK_KEY__INIT;
	*ret_process = (Bulkhead__CtaskProcess)BULKHEAD__CTASK_PROCESS__INIT;
	key->namespace_ = r->namespace_;
	key->container_id = r->container_id;
	key->exec_id = exec ? exec->id : (char *)"";
	ret_process->key = key;
	ret_process->pid = exec ? exec->pid : (uint32_t)r->task->pid;
	ret_process->status = exec ? exec->status : r->status;
	ret_process->stdio = exec ? exec->stdio : r->stdio;
	ret_process->exit_status = exit ? exit->exit_code : 0;
	ret_process->exited_at = exit ? exit->finished_at : 0;
}

void ctask_exit_fill(const struct ctask *t, const Bulkhead__CtaskExec *exec, Bulkhead__CtaskKey *key,
		     Bulkhead__CtaskExit *ret_exit) {
	Bulkhead__CtaskProcess p;
	process_fill(t->record, exec, key, &p);
	*ret_exit = (Bulkhead__CtaskExit)BULKHEAD__CTASK_EXIT__INIT;
	ret_exit->key = key;
	ret_exit->pid = p.pid;
	ret_exit->exit_status = p.exit_status;
	ret_exit->exited_at = p.exited_at;
}

void ctask_get(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	Bulkhead__CtaskExec *exec;
	struct ctask *t;
	struct fault fault;
	if (metadata_gate_read(m, r, request, ctask_get))
		return;
	if (ctask_process_of(m, (const Bulkhead__CtaskKey *)request, &t, &exec, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	Bulkhead__CtaskProcess p;
	Bulkhead__CtaskKey key;
	process_fill(t->record, exec, &key, &p);
	ctask_get_reply(r, &p, NULL, 0);
}

/* The list as it grows, in an arena. */
struct listing {
	struct arena *arena;
	const Bulkhead__CtaskListRequest *q;
	Bulkhead__CtaskList a;
	bool failed;
};

static bool is_listed(const Bulkhead__CtaskListRequest *q, const Bulkhead__CtaskRecord *r) {
	return strcmp(r->namespace_, q->namespace_) == 0 &&
	       (!*q->container_id || strcmp(r->container_id, q->container_id) == 0);
}

static void list_add(struct listing *l, struct metadata *m, const Bulkhead__CtaskRecord *r) {
	if (!is_listed(l->q, r))
		return;
	Bulkhead__CtaskProcess *p = arena_alloc(l->arena, sizeof(*p));
	Bulkhead__CtaskKey *key = arena_alloc(l->arena, sizeof(*key));
	if (!p || !key) {
		l->failed = true;
		return;
	}
	process_fill(r, NULL, key, p);
	if (l->q->specs)
		p->spec = spec_of(m, r);
	l->a.tasks[l->a.n_tasks++] = p;
}

/* Those of the CRI's containers, whether somebody has asked for them or not. */
static void list_lent(struct listing *l, struct metadata *m) {
	list_for_each (node, &m->model.containers) {
		const struct container *c = list_entry(node, struct container, node);
		Bulkhead__CtaskRecord record;
		Bulkhead__Stdio *stdio = arena_alloc(l->arena, sizeof(*stdio));
		if (!stdio || !ctask_lends(c))
			continue;
		ctask_lent_record(m, c, stdio, &record);
		list_add(l, m, &record);
	}
}

void ctask_list(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskListRequest *q = (const Bulkhead__CtaskListRequest *)request;
	struct listing l = { .arena = &r->arena, .q = q, .a = BULKHEAD__CTASK_LIST__INIT };
	if (metadata_gate_read(m, r, request, ctask_list))
		return;
	size_t n = m->ctasks.names.n_nodes + m->model.container_ids.n_nodes;
	l.a.tasks = arena_alloc(&r->arena, (n + 1) * sizeof(*l.a.tasks));
	list_for_each (node, &m->ctasks.all) {
		const struct ctask *t = list_entry(node, struct ctask, node);
		if (l.a.tasks && t->made && !t->record->lent)
			list_add(&l, m, t->record);
	}
	if (l.a.tasks)
		list_lent(&l, m);
	if (!l.a.tasks || l.failed)
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "list tasks: out of memory");
	else if (*q->container_id && l.a.n_tasks == 0)
		msg_failf(r, FAULT_NOT_FOUND, "task \"%.76s\" in namespace \"%.76s\": not found", q->container_id,
			  q->namespace_);
	else
		ctask_list_reply(r, &l.a, NULL, 0);
}

/* --- waiting ---------------------------------------------------------------- */

static void wait_answer(struct metadata *m, struct ctask *t, const Bulkhead__CtaskExec *exec, struct msg_request *r) {
	Bulkhead__CtaskKey key;
	Bulkhead__CtaskExit a;
	ctask_exit_fill(t, exec, &key, &a);
	ctask_wait_reply(r, &a, NULL, 0);
	ctask_waited(m, t, exec);
}

static void gave_up(struct msg_request *r, void *ctx) {
	struct ctask_wait *w = ctx;
	list_unlink(&w->node);
	msg_failf(r, FAULT_CANCELLED, "the caller gave up");
}

void ctask_wait(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskKey *key = (const Bulkhead__CtaskKey *)request;
	Bulkhead__CtaskExec *exec;
	struct ctask *t;
	struct fault fault;
	if (metadata_gate_read(m, r, request, ctask_wait))
		return;
	if (ctask_process_of(m, key, &t, &exec, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if ((exec ? exec->status : t->record->status) == CTASK(STOPPED)) {
		wait_answer(m, t, exec, r);
		return;
	}
	struct ctask_wait *w = arena_zalloc(&r->arena, sizeof(*w));
	if (!w) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "wait: out of memory");
		return;
	}
	*w = (struct ctask_wait){ .r = r, .exec_id = key->exec_id };
	r->cancelled = gave_up;
	r->cancelled_ctx = w;
	list_append(&t->waits, &w->node);
}

void ctask_waits_end(struct ctask *t) {
	for (struct list *n; (n = list_pop(&t->waits));) {
		struct msg_request *r = list_entry(n, struct ctask_wait, node)->r;
		r->cancelled = NULL;
		msg_failf(r, FAULT_NOT_FOUND, "task \"%s\": it was deleted", t->record->container_id);
	}
}

/* --- ends ------------------------------------------------------------------- */

static void waiters_answer(struct metadata *m, struct ctask *t, const Bulkhead__CtaskExec *exec) {
	list_for_each_safe (n, &t->waits) {
		struct ctask_wait *w = list_entry(n, struct ctask_wait, node);
		if (strcmp(w->exec_id, exec ? exec->id : "") != 0)
			continue;
		list_unlink(&w->node);
		w->r->cancelled = NULL;
		wait_answer(m, t, exec, w->r);
	}
}

static const Bulkhead__TaskExit *exit_unknown(Bulkhead__TaskExit *e, const struct ctask *t) {
	*e = (Bulkhead__TaskExit)BULKHEAD__TASK_EXIT__INIT;
	e->sandbox_id = t->record->sandbox_id;
	e->container_id = t->record->container_id;
	e->exit_code = UNKNOWN_EXIT;
	e->finished_at = clock_real();
	return e;
}

/* From the last one: what has no name leaves the list with its end. */
void ctask_ended_meanwhile(struct metadata *m, struct ctask *t) {
	ctask_oomed(m, t, 0);
	for (size_t i = t->record->n_execs; i-- > 0;)
		if (t->record->execs[i]->exit)
			ctask_ended(m, t, t->record->execs[i], t->record->execs[i]->exit);
	if (t->record->exit)
		ctask_ended(m, t, NULL, t->record->exit);
}

void ctask_exec_forget(struct metadata *m, struct ctask *t, Bulkhead__CtaskExec *exec) {
	sweep_process(m, t->record->sandbox_id, t->record->container_id, exec->id);
	ctask_exec_drop(t, exec);
	if (t->made && ctask_save(m, t) < 0)
		log_event(LOG_WARN, "a task's record is old", "container", t->record->container_id, NULL);
}

void ctask_ended(struct metadata *m, struct ctask *t, Bulkhead__CtaskExec *exec, const Bulkhead__TaskExit *e) {
	Bulkhead__CtaskStatus *status = exec ? &exec->status : &t->record->status;
	Bulkhead__TaskExit unknown;
	if (*status == CTASK(STOPPED))
		return;
	const Bulkhead__TaskExit *copy = ctask_exit_set(t, exec, e ? e : exit_unknown(&unknown, t));
	if (!copy) {
		log_event(LOG_ERROR, "out of memory: the end of a process isn't recorded", "container",
			  t->record->container_id, NULL);
		return;
	}
	if (!exec && !t->record->lent)
		ctask_oomed(m, t, copy->ooms);
	*status = CTASK(STOPPED);
	if (t->made && ctask_save(m, t) < 0)
		log_event(LOG_WARN, "the end of a task isn't recorded", "container", t->record->container_id, NULL);
	if (exec || !t->record->lent)
		ctask_tell(m, "/tasks/exit", t, exec);
	waiters_answer(m, t, exec);
	if (exec && exec->unnamed)
		ctask_exec_forget(m, t, exec);
}
