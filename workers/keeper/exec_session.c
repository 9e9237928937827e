/*
 * Commands whose streams are given away: to a client's session, through the
 * task worker. keeper_exec_open answers with our ends once the program runs,
 * keeper_exec_wait with its exit code; no byte of it goes through here.
 *
 * Somebody must want its end: a command for whose end nobody asks, or nobody
 * any more, is killed with all that it has started. A caller that died without
 * a word (a worker that is being replaced) has a moment to ask again; since
 * such a one may also take an answer with it, an exit code is kept for a moment.
 */
#include "workers/keeper/exec.h"
#include "workers/keeper/backend.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"

#include <fcntl.h>
#include <string.h>

#define WAIT_FOR_FIRST (5 * NS_PER_SEC)
#define WAIT_FOR_SUCCESSOR (15 * NS_PER_SEC)
#define WAIT_FOR_LOSS (5 * NS_PER_SEC)
#define SESSION_STREAMS 3

static void give_up(struct exec *e) {
	e->unwanted = e->timed_out = true;
	exec_kill(e);
}

static void nobody_came(void *ctx) {
	struct exec *e = ctx;
	loop_source_free_p(&e->timer);
	if (e->over)
		exec_free(e);
	else
		give_up(e);
}

static void wait_for_waiter(struct exec *e, int64_t patience) {
	struct loop *l = e->container->keeper->loop;
	loop_source_free_p(&e->timer);
	if (loop_timer(l, clock_mono() + patience, nobody_came, e, &e->timer) < 0)
		give_up(e);
}

static void cancelled(struct msg_request *r, void *ctx) {
	struct exec *e = ctx;
	e->request = NULL;
	msg_failf(r, FAULT_CANCELLED, "the caller gave up");
	if (e->given && !link_attached(e->container->keeper->link))
		wait_for_waiter(e, WAIT_FOR_SUCCESSOR);
	else
		give_up(e);
}

static void request_set(struct exec *e, struct msg_request *r) {
	e->request = r;
	r->cancelled = cancelled;
	r->cancelled_ctx = e;
}

static struct msg_request *request_take(struct exec *e) {
	struct msg_request *r = take_ptr(e->request);
	if (r)
		r->cancelled = NULL;
	return r;
}

/* --- what the child says --- */

void session_terminal(struct exec *e, int fd) {
	fd_replace(&e->streams[0], fd);
}

static void give_streams(struct exec *e, struct msg_request *r) {
	Bulkhead__Empty reply = BULKHEAD__EMPTY__INIT;
	CLEANUP_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fds[SESSION_STREAMS];
	for (int i = 0; i < SESSION_STREAMS; i++)
		fds[i] = e->streams[i] >= 0 ? e->streams[i] : null;
	if (null < 0) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "open /dev/null: %s", strerrordesc_np(errno));
		give_up(e);
		return;
	}
	e->given = true;
	keeper_exec_open_reply(r, &reply, fds, SESSION_STREAMS);
	for (int i = 0; i < SESSION_STREAMS; i++)
		fd_replace(&e->streams[i], -1);
	wait_for_waiter(e, WAIT_FOR_FIRST);
}

void session_started(struct exec *e) {
	struct msg_request *r = e->given ? NULL : request_take(e);
	if (!r)
		return;
	if (!e->failed) {
		give_streams(e, r);
		return;
	}
	e->unwanted = true;
	container_fault(e->container, 0, &e->fault);
	msg_fail(r, &e->fault);
}

static void exit_reply(struct msg_request *r, uint32_t code) {
	Bulkhead__ExecWaitReply reply = BULKHEAD__EXEC_WAIT_REPLY__INIT;
	reply.exit_code = (int32_t)code;
	keeper_exec_wait_reply(r, &reply, NULL, 0);
}

bool session_ended(struct exec *e, uint32_t code) {
	struct msg_request *r = request_take(e);
	e->over = true;
	e->code = code;
	if (r && e->given)
		exit_reply(r, code);
	else if (r)
		msg_failf(r, FAULT_ABORTED, "the command ended with %u before it ran", code);
	if (e->unwanted || !e->given)
		return false;
	loop_source_free_p(&e->exit_source);
	if (r)
		wait_for_waiter(e, WAIT_FOR_LOSS);
	return true;
}

/* --- start --- */

static int streams_make(struct exec *e, const Bulkhead__ExecOpenRequest *m, struct exec_plan *plan,
			struct fault *fault) {
	const bool wanted[SESSION_STREAMS] = { m->stdin, m->stdout, m->stderr };
	for (int i = 0; i < SESSION_STREAMS && !m->tty; i++) {
		int ends[2];
		if (!wanted[i])
			continue;
		if (pipe2(ends, O_CLOEXEC) < 0)
			return fault_errno(fault, errno, "make a pipe");
		plan->stdio[i] = ends[i == 0 ? 0 : 1];
		e->streams[i] = ends[i == 0 ? 1 : 0];
	}
	return 0;
}

static int session_spawn(struct exec *e, struct msg_request *r, const Bulkhead__ExecOpenRequest *m,
			 struct fault *fault) {
	Grpc__Process *p = NULL;
	struct exec_plan plan = { .stdio = { -1, -1, -1 }, .terminal = m->tty };
	e->session = strdup(m->exec_id);
	if (!e->session)
		return fault_errno(fault, ENOMEM, "execute");
	int result = exec_process(e->container, &r->arena, m->args, m->n_args, m->tty, &p, fault);
	plan.process = p;
	if (result == 0)
		result = streams_make(e, m, &plan, fault);
	if (result == 0)
		result = backend_of(e->container->keeper)->exec(e, &plan, fault);
	for (int i = 0; i < SESSION_STREAMS; i++)
		fd_close(plan.stdio[i]);
	return result;
}

static struct exec *session_find(const struct container *c, const char *name) {
	list_for_each (n, &c->execs) {
		struct exec *e = list_entry(n, struct exec, node);
		if (e->session && strcmp(e->session, name) == 0)
			return e;
	}
	return NULL;
}

void on_keeper_exec_open(struct keeper *k, struct msg_request *r, const Bulkhead__ExecOpenRequest *m) {
	struct fault fault = { 0 };
	struct container *c = container_of_request(k, r, m->container_id);
	if (!c)
		return;
	if (container_enterable(c, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if (!id_valid(m->exec_id) || session_find(c, m->exec_id)) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "\"%.80s\" can't name a command", m->exec_id);
		return;
	}
	struct exec *e = exec_new(c);
	if ((e ? session_spawn(e, r, m, &fault) : fault_errno(&fault, ENOMEM, "execute")) < 0) {
		if (e)
			exec_free(e);
		container_fault(c, 0, &fault);
		msg_fail(r, &fault);
		return;
	}
	request_set(e, r);
	if (exec_watch(e, 0) < 0) {
		e->failed = true;
		fault_errno(&e->fault, ENOMEM, "watch the command");
		exec_kill(e);
	}
}

void on_keeper_exec_wait(struct keeper *k, struct msg_request *r, const Bulkhead__ExecWaitRequest *m) {
	struct container *c = container_of_request(k, r, m->container_id);
	struct exec *e = c ? session_find(c, m->exec_id) : NULL;
	if (!c)
		return;
	if (!e || !e->given) {
		msg_failf(r, FAULT_NOT_FOUND, "container \"%.80s\" runs no such command", c->id);
		return;
	}
	if (e->over) {
		exit_reply(r, e->code);
		wait_for_waiter(e, WAIT_FOR_LOSS);
		return;
	}
	loop_source_free_p(&e->timer);
	/* Asked again by a successor of who asked first. */
	struct msg_request *before = request_take(e);
	if (before)
		msg_failf(before, FAULT_ABORTED, "somebody else waits for this command now");
	request_set(e, r);
}
