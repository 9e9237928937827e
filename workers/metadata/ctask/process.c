/*
 * What is asked of a task's processes: checked here, done by the task worker,
 * answered with what it says. ctask_exec adds a process, which runs once it is
 * started.
 */
#include "workers/metadata/ctask/ctask.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/handlers.h"

#include <errno.h>
#include <string.h>

#define PROCESS_TIMEOUT_NS (60 * NS_PER_SEC)

void ctask_tell(struct metadata *m, const char *topic, const struct ctask *t, const Bulkhead__CtaskExec *exec) {
	Bulkhead__BusEvent e = BULKHEAD__BUS_EVENT__INIT;
	const Bulkhead__CtaskRecord *r = t->record;
	const Bulkhead__TaskExit *exit = exec ? exec->exit : r->exit;
	e.topic = (char *)(uintptr_t)topic;
	e.namespace_ = r->namespace_;
	e.id = r->container_id;
	e.exec_id = exec ? exec->id : (char *)"";
	e.pid = exec ? exec->pid : r->task ? (uint32_t)r->task->pid : 0;
	e.stdio = exec ? exec->stdio : r->stdio;
	e.exit_status = exit ? exit->exit_code : 0;
	e.exited_at = exit ? exit->finished_at : 0;
	bus_tell(&m->bus, &e);
}

/* --- relaying --------------------------------------------------------------- */

static void relayed(void *ctx, const struct msg_answer *answer) {
	struct msg_request *r = ctx;
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	if (answer->fault)
		msg_fail(r, answer->fault);
	else
		msg_reply(r, &done.base, NULL, 0, false);
}

typedef void (*handler_fn)(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request);

/* The process, when it may be asked something now; NULL: the request has been
 * failed, or is handled again when what is under way is over. */
static struct ctask *asked(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
			   handler_fn handle, enum ctask_action action, const Bulkhead__CtaskKey *key,
			   Bulkhead__ProcessKey *ret_process) {
	Bulkhead__CtaskExec *exec;
	struct ctask *t;
	struct fault fault;
	if (ctask_process_of(m, key, &t, &exec, &fault) < 0) {
		msg_fail(r, &fault);
		return NULL;
	}
	Bulkhead__CtaskStatus status = exec ? exec->status : t->record->status;
	/* A signal to what runs waits for nothing that is done beside it. */
	bool runs = status == CTASK(RUNNING) || status == CTASK(PAUSED);
	if (t->op && !(action == CTASK_MAY_SIGNAL && runs)) {
		op_requeue(t->op, r, request, handle);
		return NULL;
	}
	if (ctask_may(t, exec, action, key, &fault) < 0) {
		msg_fail(r, &fault);
		return NULL;
	}
	*ret_process = (Bulkhead__ProcessKey)BULKHEAD__PROCESS_KEY__INIT;
	ret_process->sandbox_id = t->record->sandbox_id;
	ret_process->container_id = t->record->container_id;
	ret_process->exec_id = exec ? exec->id : (char *)"";
	return t;
}

static struct msg_context within(const struct msg_request *r) {
	struct msg_context c = r->context;
	int64_t latest = clock_mono() + PROCESS_TIMEOUT_NS;
	if (!c.deadline || c.deadline > latest)
		c.deadline = latest;
	return c;
}

/* Whoever it was to end has ended. */
static bool kill_late(struct metadata *m, const Bulkhead__CtaskKillRequest *q) {
	Bulkhead__CtaskExec *exec;
	struct ctask *t;
	struct fault fault;
	if (!q->late || ctask_process_of(m, q->key, &t, &exec, &fault) < 0 || t->op)
		return false;
	return (exec ? exec->status : t->record->status) == CTASK(STOPPED);
}

/* The same, when the keeper was the first to see it. */
static void late_relayed(void *ctx, const struct msg_answer *answer) {
	static const struct msg_answer done = { 0 };
	relayed(ctx, answer->fault && answer->fault->code == FAULT_NOT_FOUND ? &done : answer);
}

void ctask_kill(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskKillRequest *q = (const Bulkhead__CtaskKillRequest *)request;
	Bulkhead__ProcessKey process;
	struct msg_context context = within(r);
	msg_done_fn answered = q->late ? late_relayed : relayed;
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	if (metadata_gate(m, r, request, ctask_kill))
		return;
	if (kill_late(m, q)) {
		ctask_kill_reply(r, &done, NULL, 0);
		return;
	}
	if (!asked(m, r, request, ctask_kill, CTASK_MAY_SIGNAL, q->key, &process))
		return;
	if (*process.exec_id) {
		Bulkhead__ProcessKillRequest k = BULKHEAD__PROCESS_KILL_REQUEST__INIT;
		k.process = &process;
		k.signal = q->signal;
		process_kill_send(m->task, &context, &k, NULL, 0, answered, r);
		return;
	}
	Bulkhead__TaskKillRequest k = BULKHEAD__TASK_KILL_REQUEST__INIT;
	k.sandbox_id = process.sandbox_id;
	k.container_id = process.container_id;
	k.signal = q->signal;
	k.all = q->all;
	k.term_kills = q->term_kills;
	task_kill_send(m->task, &context, &k, NULL, 0, answered, r);
}

void ctask_resize(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskResizeRequest *q = (const Bulkhead__CtaskResizeRequest *)request;
	Bulkhead__ProcessResizeRequest z = BULKHEAD__PROCESS_RESIZE_REQUEST__INIT;
	Bulkhead__ProcessKey process;
	struct msg_context context = within(r);
	if (metadata_gate(m, r, request, ctask_resize) ||
	    !asked(m, r, request, ctask_resize, CTASK_MAY_REACH, q->key, &process))
		return;
	z.process = &process;
	z.width = q->width;
	z.height = q->height;
	process_resize_send(m->task, &context, &z, NULL, 0, relayed, r);
}

/* A client may be through with its input before the process runs: start_op
 * closes it then. */
static bool close_early(struct metadata *m, const Bulkhead__CtaskKey *key) {
	struct ctask *t = ctask_find(&m->ctasks, key->namespace_, key->container_id);
	Bulkhead__CtaskExec *exec = t && !t->op ? ctask_exec_find(t, key->exec_id) : NULL;
	if (!exec || exec->status != CTASK(CREATED))
		return false;
	exec->stdin_closed = true;
	return true;
}

void ctask_close_stdin(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskKey *key = (const Bulkhead__CtaskKey *)request;
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	Bulkhead__ProcessKey process;
	struct msg_context context = within(r);
	if (metadata_gate(m, r, request, ctask_close_stdin))
		return;
	if (close_early(m, key))
		ctask_close_stdin_reply(r, &done, NULL, 0);
	else if (asked(m, r, request, ctask_close_stdin, CTASK_MAY_REACH, key, &process))
		process_close_stdin_send(m->task, &context, &process, NULL, 0, relayed, r);
}

static void streams_given(void *ctx, const struct msg_answer *answer) {
	struct msg_request *r = ctx;
	if (answer->fault)
		msg_fail(r, answer->fault);
	else
		ctask_streams_reply(r, process_streams_answer(answer), answer->fds, 3);
}

void ctask_streams(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskKey *key = (const Bulkhead__CtaskKey *)request;
	struct msg_context context = within(r);
	Bulkhead__CtaskExec *exec;
	struct ctask *t;
	struct fault fault;
	if (metadata_gate(m, r, request, ctask_streams))
		return;
	if (ctask_process_of(m, key, &t, &exec, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if (t->op) {
		op_requeue(t->op, r, request, ctask_streams);
		return;
	}
	Bulkhead__ProcessKey process = BULKHEAD__PROCESS_KEY__INIT;
	process.sandbox_id = t->record->sandbox_id;
	process.container_id = t->record->container_id;
	process.exec_id = exec ? exec->id : (char *)"";
	process_streams_send(m->task, &context, &process, NULL, 0, streams_given, r);
}

void ctask_update(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskUpdateRequest *q = (const Bulkhead__CtaskUpdateRequest *)request;
	Bulkhead__TaskUpdateRequest u = BULKHEAD__TASK_UPDATE_REQUEST__INIT;
	Bulkhead__ProcessKey process;
	struct msg_context context = within(r);
	struct fault fault;
	if (metadata_gate(m, r, request, ctask_update))
		return;
	const struct ctask *t = asked(m, r, request, ctask_update, CTASK_MAY_UPDATE, q->key, &process);
	if (!t)
		return;
	if (ctask_own(t, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if (!q->resources) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "update task \"%s\": there are no resources",
			  q->key->container_id);
		return;
	}
	u.sandbox_id = process.sandbox_id;
	u.container_id = process.container_id;
	u.resources = q->resources;
	task_update_send(m->task, &context, &u, NULL, 0, relayed, r);
}

/* --- freezing --------------------------------------------------------------- */

struct freezing {
	struct metadata *m;
	struct msg_request *r;
	bool frozen;
	const Bulkhead__CtaskKey *key;
};

void ctask_froze(struct metadata *m, struct ctask *t, bool frozen) {
	t->record->status = frozen ? CTASK(PAUSED) : CTASK(RUNNING);
	if (ctask_save(m, t) < 0)
		log_event(LOG_WARN, "a task's record is old", "container", t->record->container_id, NULL);
	ctask_tell(m, frozen ? "/tasks/paused" : "/tasks/resumed", t, NULL);
}

static void frozen(void *ctx, const struct msg_answer *answer) {
	struct freezing *f = ctx;
	struct ctask *t;
	struct fault fault;
	/* It may have ended, or have been deleted, meanwhile. */
	if (!answer->fault && ctask_of(f->m, f->key, &t, &fault) == 0 && t->record->status != CTASK(STOPPED))
		ctask_froze(f->m, t, f->frozen);
	relayed(f->r, answer);
}

void ctask_freeze(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskFreezeRequest *q = (const Bulkhead__CtaskFreezeRequest *)request;
	Bulkhead__TaskFreezeRequest z = BULKHEAD__TASK_FREEZE_REQUEST__INIT;
	Bulkhead__ProcessKey process;
	struct msg_context context = within(r);
	/* One that comes again may find that it is done. */
	enum ctask_action action = r->again ? CTASK_MAY_FREEZE : q->frozen ? CTASK_MAY_PAUSE : CTASK_MAY_RESUME;
	if (metadata_gate(m, r, request, ctask_freeze) || !asked(m, r, request, ctask_freeze, action, q->key, &process))
		return;
	struct freezing *f = arena_zalloc(&r->arena, sizeof(*f));
	if (!f) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "task \"%s\": out of memory", process.container_id);
		return;
	}
	*f = (struct freezing){ .m = m, .r = r, .frozen = q->frozen, .key = q->key };
	z.sandbox_id = process.sandbox_id;
	z.container_id = process.container_id;
	z.frozen = q->frozen;
	task_freeze_send(m->task, &context, &z, NULL, 0, frozen, f);
}

/* --- pids ------------------------------------------------------------------- */

static void pids_known(void *ctx, const struct msg_answer *answer) {
	struct msg_request *r = ctx;
	if (answer->fault)
		msg_fail(r, answer->fault);
	else
		ctask_pids_reply(r, task_pids_answer(answer), NULL, 0);
}

void ctask_pids(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	Bulkhead__ProcessKey process;
	Bulkhead__TaskKey k = BULKHEAD__TASK_KEY__INIT;
	struct msg_context context = within(r);
	if (metadata_gate_read(m, r, request, ctask_pids) ||
	    !asked(m, r, request, ctask_pids, CTASK_MAY_REACH, (const Bulkhead__CtaskKey *)request, &process))
		return;
	k.sandbox_id = process.sandbox_id;
	k.container_id = process.container_id;
	task_pids_send(m->task, &context, &k, NULL, 0, pids_known, r);
}

/* --- another process -------------------------------------------------------- */

int ctask_exec_check(const struct ctask *t, const Bulkhead__CtaskExecRequest *q, enum ctask_action action,
		     struct fault *fault) {
	char text[CTASK_TEXT_MAX];
	if (!id_valid(q->key->exec_id))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "task \"%s\": the exec id \"%.100s\" is no identifier",
				 q->key->container_id, q->key->exec_id);
	if (ctask_exec_find(t, q->key->exec_id))
		return fault_set(fault, FAULT_ALREADY_EXISTS, "%s: already exists", ctask_text(q->key, text));
	int r = ctask_may(t, NULL, action, q->key, fault);
	if (r < 0)
		return r;
	if (!q->stdio || !q->process || q->process->n_args == 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: the command is empty", ctask_text(q->key, text));
	return 0;
}

static int exec_add_saved(struct metadata *m, struct ctask *t, const Bulkhead__CtaskExecRequest *q,
			  struct fault *fault) {
	int e = ctask_exec_add(t, q, false);
	if (e == 0 && (e = ctask_save(m, t)) < 0)
		ctask_exec_drop(t, ctask_exec_find(t, q->key->exec_id));
	return e < 0 ? fault_errno(fault, e, "add a process to task \"%s\"", q->key->container_id) : 0;
}

void ctask_exec(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskExecRequest *q = (const Bulkhead__CtaskExecRequest *)request;
	Bulkhead__CtaskKey first = BULKHEAD__CTASK_KEY__INIT;
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	struct ctask *t;
	struct fault fault;
	if (metadata_gate(m, r, request, ctask_exec))
		return;
	if (q->key) {
		first.namespace_ = q->key->namespace_;
		first.container_id = q->key->container_id;
	}
	int e = ctask_of(m, &first, &t, &fault);
	if (e == 0)
		e = ctask_exec_check(t, q, CTASK_MAY_ADD, &fault);
	if (e == 0)
		e = exec_add_saved(m, t, q, &fault);
	if (e < 0) {
		msg_fail(r, &fault);
		return;
	}
	ctask_tell(m, "/tasks/exec-added", t, ctask_exec_find(t, q->key->exec_id));
	ctask_exec_reply(r, &done, NULL, 0);
}
