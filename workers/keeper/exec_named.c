/*
 * Processes of containerd's API beside a container's first: each has a name, a
 * specification and streams of its own, and its end is told and kept until
 * process_delete.
 *
 *   made -> ready (the vault and the state know it) -> go -> answered
 *        -> ended: its streams end, its exit is told and kept -> deleted
 *
 * A keeper killed before "go" takes the process with it; killed later, it is
 * the successor's.
 */
#include "workers/keeper/backend.h"
#include "workers/keeper/exec.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"

#include <stdio.h>
#include <string.h>

struct exec *named_find(const struct container *c, const char *name) {
	list_for_each (n, &c->execs) {
		struct exec *e = list_entry(n, struct exec, node);
		if (e->name && !e->unwanted && strcmp(e->name, name) == 0)
			return e;
	}
	return NULL;
}

void named_exit(const struct exec *e, Bulkhead__TaskExit *ret_exit) {
	*ret_exit = (Bulkhead__TaskExit)BULKHEAD__TASK_EXIT__INIT;
	ret_exit->sandbox_id = e->container->keeper->id;
	ret_exit->container_id = e->container->id;
	ret_exit->exec_id = e->name;
	ret_exit->pid = e->pid;
	ret_exit->exit_code = e->code;
	ret_exit->finished_at = e->finished_at;
}

void named_vault_id(const struct container *c, unsigned number, char *ret_id, size_t size) {
	snprintf(ret_id, size, "%s/%u", c->id, number);
}

void named_vault(const struct exec *e) {
	char id[96];
	int fds[VAULT_FDS_MAX] = { e->pidfd, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1 };
	named_vault_id(e->container, e->number, id, sizeof(id));
	if (e->log) {
		fds[1] = log_fd(e->log, LOG_STDOUT);
		fds[2] = log_fd(e->log, LOG_STDERR);
	}
	if (e->stdio)
		stdio_fds(e->stdio, fds + VAULT_STDIO);
	vault_put(e->container->keeper, VAULT_CONTAINER, id, fds);
}

/* --- what the child says --- */

static void fail(struct exec *e, const struct fault *fault) {
	if (!e->failed)
		e->fault = *fault;
	e->failed = true;
	exec_kill(e);
}

void named_terminal(struct exec *e, int fd) {
	struct fault fault;
	if (fd >= 0 && process_terminal(e->stdio, e->log, fd, &fault) < 0)
		fail(e, &fault);
}

void named_ready(struct exec *e) {
	if (e->failed)
		return;
	named_vault(e);
	state_save(e->container->keeper);
	/* When it doesn't hear that, its end says why. */
	(void)process_go(e->status);
}

void named_started(struct exec *e) {
	struct msg_request *r = take_ptr(e->request);
	Bulkhead__TaskCreateReply reply = BULKHEAD__TASK_CREATE_REPLY__INIT;
	if (r)
		r->cancelled = NULL;
	if (e->failed) {
		e->unwanted = true;
		container_fault(e->container, 0, &e->fault);
		if (r)
			msg_fail(r, &e->fault);
		return;
	}
	e->started_at = clock_real();
	named_vault(e);
	state_save(e->container->keeper);
	reply.pid = e->pid;
	reply.started_at = e->started_at;
	if (r)
		keeper_process_start_reply(r, &reply, NULL, 0);
}

bool named_kept(const struct exec *e) {
	return e->over ? stdio_is_held(e->stdio) && !e->unwanted : e->pidfd >= 0;
}

void named_forget(const struct exec *e) {
	char id[96];
	named_vault_id(e->container, e->number, id, sizeof(id));
	vault_put(e->container->keeper, VAULT_GONE, id, NULL);
}

bool named_ended(struct exec *e, uint32_t code) {
	struct keeper *k = e->container->keeper;
	Bulkhead__TaskExit exit;
	struct msg_request *r = take_ptr(e->request);
	e->over = true;
	e->code = code;
	e->finished_at = clock_real();
	loop_source_free_p(&e->exit_source);
	log_drain(e->log);
	if (!stdio_is_held(e->stdio)) {
		stdio_end(take_ptr(e->stdio));
		log_free(take_ptr(e->log));
	}
	if (r)
		msg_failf(r, FAULT_ABORTED, "process \"%.80s\" ended with %u before it ran", e->name, code);
	e->unwanted |= r != NULL;
	if (!named_kept(e))
		named_forget(e);
	/* Whoever waits for the end of its streams waits for that of the vault's. */
	vault_renew(k);
	state_save(k);
	named_exit(e, &exit);
	if (!e->unwanted && link_attached(k->link))
		process_exited_send(k->link, NULL, &exit, NULL, 0, NULL, NULL);
	return !e->unwanted;
}

/* --- start --- */

static void cancelled(struct msg_request *r, void *ctx) {
	struct exec *e = ctx;
	struct fault fault;
	e->request = NULL;
	fault_set(&fault, FAULT_CANCELLED, "the caller gave up");
	msg_fail(r, &fault);
	/* One that runs isn't taken back: it is in the state, to be killed. */
	if (!e->started_at)
		fail(e, &fault);
}

static int start_check(const struct container *c, const Bulkhead__ProcessStartRequest *m, struct fault *fault) {
	if (!m->process)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "no process is given");
	if (!id_valid(m->exec_id))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.80s\" can't name a process", m->exec_id);
	if (named_find(c, m->exec_id))
		return fault_set(fault, FAULT_ALREADY_EXISTS, "container \"%s\" has a process \"%s\" already", c->id,
				 m->exec_id);
	return container_enterable(c, fault);
}

/* Without a word on capabilities it has those of the container. */
static const Grpc__Process *process_meant(const struct container *c, struct arena *a, Grpc__Process *p) {
	Grpc__Process *whole = p->capabilities ? p : arena_alloc(a, sizeof(*whole));
	if (p->capabilities || !whole)
		return whole;
	const Grpc__Process *first =
	    (const Grpc__Process *)msg_decode(&grpc__process__descriptor, a, c->process.data, c->process.size);
	*whole = *p;
	whole->capabilities = first ? first->capabilities : NULL;
	return first ? whole : NULL;
}

static int start(struct exec *e, struct arena *a, const Bulkhead__ProcessStartRequest *m, struct fault *fault) {
	static const Bulkhead__Stdio nowhere = BULKHEAD__STDIO__INIT;
	struct keeper *k = e->container->keeper;
	const Bulkhead__Stdio *stdio = m->stdio ? m->stdio : &nowhere;
	struct exec_plan plan = {
		.process = process_meant(e->container, a, m->process),
		.stdio = { -1, -1, -1 },
		.terminal = m->process->terminal,
		.size = stdio,
		.own_user = true,
		.wait = true,
	};
	e->name = strdup(m->exec_id);
	e->terminal = plan.terminal;
	int r = e->name && plan.process ? 0 : fault_errno(fault, ENOMEM, "start process \"%s\"", m->exec_id);
	if (r == 0)
		r = stdio_new(k, e->container->id, stdio, NULL, &e->stdio, fault);
	if (r == 0)
		r = log_new(k->loop, "", 0, -1, &e->log, fault);
	if (r == 0 && !plan.terminal)
		r = process_pipes(k, e->stdio, e->log, plan.stdio, fault);
	if (r == 0)
		r = backend_of(k)->exec(e, &plan, fault);
	for (int i = 0; i < 3; i++)
		fd_close(plan.stdio[i]);
	return r;
}

void on_keeper_process_start(struct keeper *k, struct msg_request *r, const Bulkhead__ProcessStartRequest *m) {
	struct fault fault = { 0 };
	struct container *c = container_of_request(k, r, m->container_id);
	if (!c)
		return;
	if (start_check(c, m, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	struct exec *e = exec_new(c);
	if ((e ? start(e, &r->arena, m, &fault) : fault_errno(&fault, ENOMEM, "start process \"%s\"", m->exec_id)) <
	    0) {
		if (e)
			exec_free(e);
		container_fault(c, 0, &fault);
		msg_fail(r, &fault);
		return;
	}
	e->request = r;
	r->cancelled = cancelled;
	r->cancelled_ctx = e;
	if (exec_watch(e, 0) < 0) {
		fault_errno(&fault, ENOMEM, "watch process \"%s\"", e->name);
		fail(e, &fault);
	}
}
