/*
 * Commands run in a container and waited for. Each is born in a group of its
 * own below the container's, so that a time-out finds all that it has started,
 * however it hid.
 */
#include "workers/keeper/exec.h"
#include "workers/keeper/backend.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "workers/keeper/exitcode.h"
#include "workers/keeper/oom.h"
#include "workers/keeper/orphan.h"
#include "workers/keeper/rootfs.h"
#include "workers/keeper/sys.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define UNKNOWN_EXIT 255
#define EXIT_PAUSE (5 * NS_PER_MS)
#define EXIT_TRIES 400

/* --- the child --- */

struct exec_birth {
	const struct exec *exec;
	struct become become;
	int pidfd; /* of the container's first process */
	bool terminal;
	const Bulkhead__Stdio *size;
};

/* A terminal of the container's own, in its mount namespace. */
static int terminal_give(struct exec_birth *b, struct fault *fault) {
	CLEANUP_FD int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int master = -1;
	int peer;
	if (root < 0)
		return fault_errno(fault, errno, "open the container's root");
	Grpc__Box box = GRPC__BOX__INIT;
	if (b->size) {
		box.width = b->size->width;
		box.height = b->size->height;
	}
	int r = rootfs_terminal(root, b->size ? &box : NULL, &master, &peer, fault);
	if (r < 0)
		return r;
	become_send_terminal(b->become.status, master);
	for (int i = 0; i < 3; i++)
		b->become.stdio[i] = peer;
	return 0;
}

/* What takes the host's rights, for a container without them. */
static int exec_before(void *ctx, struct fault *fault) {
	struct exec_birth *b = ctx;
	oom_score_become(b->become.process->oomscoreadj, b->become.status);
	b->become.scored = true;
	return 0;
}

static void exec_body(void *ctx) {
	struct exec_birth *b = ctx;
	struct fault fault = { 0 };
	int keep[] = { b->become.status, b->pidfd, b->become.stdio[0], b->become.stdio[1], b->become.stdio[2] };
	become_close_others(keep, ARRAY_SIZE(keep));
	int r = become_prepare(&b->become, &fault);
	if (r == 0) {
		r = cgroup_enter_v1(&b->exec->container->cgroup);
		if (r == 0)
			r = cgroup_enter_v1(&b->exec->group);
		if (r < 0)
			fault_errno(&fault, r, "enter the container's cgroup");
	}
	if (r == 0 && setns(b->pidfd, CLONE_NEWNS | CLONE_NEWCGROUP) < 0)
		r = fault_errno(&fault, errno, "enter the container");
	if (r == 0 && b->exec->container->keeper->pod.userns.fd >= 0)
		r = userns_become_root(&fault);
	if (r == 0 && b->terminal)
		r = terminal_give(b, &fault);
	if (r < 0)
		become_failed(b->become.status, &fault);
	become_program(&b->become);
}

/* --- life --- */

void exec_free(struct exec *e) {
	orphan_adopt(e->container->keeper->loop, &e->pidfd);
	list_unlink(&e->node);
	loop_source_free(e->exit_source);
	loop_source_free(e->status_source);
	loop_source_free(e->timer);
	outputs_deinit(e);
	for (int i = 0; i < 3; i++)
		fd_close(e->streams[i]);
	fd_close(e->pidfd);
	fd_close(e->status);
	stdio_free(e->stdio);
	log_free(e->log);
	free(e->session);
	free(e->name);
	free(e);
}

/* Those whose process is there belong to their pidfd's callback; this is for a
 * container that goes before them. */
void exec_free_all(struct container *c) {
	list_for_each_safe (n, &c->execs) {
		struct exec *e = list_entry(n, struct exec, node);
		if (e->request)
			msg_failf(e->request, FAULT_ABORTED, "container \"%.80s\" was removed", c->id);
		exec_free(e);
	}
}

bool exec_any(const struct container *c) {
	list_for_each (n, &c->execs)
		if (!list_entry(n, struct exec, node)->over)
			return true;
	return false;
}

void exec_kill(struct exec *e) {
	if (e->over)
		return;
	sys_pidfd_send_signal(e->pidfd, SIGKILL);
	/* Without a group of its own its session is all that we know of. */
	if (e->group.made)
		cgroup_kill(&e->group);
	else
		kill(-e->pid, SIGKILL);
}

static void exec_reply(struct exec *e, struct msg_request *r, uint32_t code) {
	Bulkhead__ExecSyncReply reply = BULKHEAD__EXEC_SYNC_REPLY__INIT;
	r->cancelled = NULL;
	if (e->failed) {
		container_fault(e->container, 0, &e->fault);
		msg_fail(r, &e->fault);
		return;
	}
	if (e->timed_out) {
		msg_failf(r, FAULT_DEADLINE_EXCEEDED, "the command ran longer than %.3f s and was killed",
			  (double)e->timeout_ns / 1e9);
		return;
	}
	if (e->outputs[0].data.failed || e->outputs[1].data.failed) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "out of memory for the command's output");
		return;
	}
	reply.stdout_data.data = e->outputs[0].data.data;
	reply.stdout_data.len = e->outputs[0].data.size;
	reply.stderr_data.data = e->outputs[1].data.data;
	reply.stderr_data.len = e->outputs[1].data.size;
	reply.exit_code = (int32_t)code;
	keeper_exec_reply(r, &reply, NULL, 0);
}

static void exit_ready(void *ctx, uint32_t events);

static void exit_watch(struct exec *e) {
	if (loop_poll(e->container->keeper->loop, e->pidfd, POLLIN, exit_ready, e, &e->exit_source) < 0)
		log_event(LOG_WARN, "out of memory: the end of a command won't be seen", "container", e->container->id,
			  NULL);
}

/* From here on the process that the sender has made is the command. */
static void process_taken(struct exec *e, const struct status *s, int *pidfd) {
	if (*pidfd < 0 || !e->making)
		return;
	loop_source_free_p(&e->exit_source);
	fd_replace(&e->pidfd, take_fd(pidfd));
	e->pid = s->pid;
	e->making = false;
	exit_watch(e);
	if (e->timed_out)
		exec_kill(e);
}

static void status_drain(struct exec *e) {
	struct status s;
	int fd;
	while (e->status >= 0) {
		int r = process_status_receive(e->status, &s, &fd);
		if (r == 1 && s.kind == STATUS_TERMINAL && e->session)
			session_terminal(e, take_fd(&fd));
		if (r == 1 && s.kind == STATUS_TERMINAL && e->name)
			named_terminal(e, take_fd(&fd));
		if (r == 1 && s.kind == STATUS_READY && e->name)
			named_ready(e);
		if (r == 1 && s.kind == STATUS_PROCESS)
			process_taken(e, &s, &fd);
		fd_close(fd);
		if (r == -EAGAIN)
			return;
		if (r == 1 && s.kind == STATUS_FAULT) {
			e->failed = true;
			e->fault.code = (enum fault_code)s.code;
			snprintf(e->fault.text, sizeof(e->fault.text), "%s", s.text);
		}
		if (r == 1)
			continue;
		loop_source_free_p(&e->status_source);
		fd_replace(&e->status, -1);
		if (e->session)
			session_started(e);
		if (e->name)
			named_started(e);
		if (e->over_early)
			exit_watch(e);
		e->over_early = false;
	}
}

static void ended(struct exec *e, uint32_t code) {
	struct keeper *k = e->container->keeper;
	status_drain(e);
	e->making = false;
	outputs_drain(e);
	struct msg_request *r = e->session || e->name ? NULL : take_ptr(e->request);
	if (r)
		exec_reply(e, r, code);
	/* What it left running on purpose lives on, in a group that goes with
	 * the container's. */
	if (e->timed_out || !cgroup_populated(&e->group))
		keeper_bury(k, &e->group);
	bool stays = e->session ? session_ended(e, code) : e->name ? named_ended(e, code) : false;
	if (!stays)
		exec_free(e);
	/* What its maker had left waited as long as that was at work. A container's
	 * first process doesn't end before all in its pid namespace are reaped. */
	oci_reap(k);
	pod_teardown_continue(k);
}

static void exit_again(void *ctx) {
	struct exec *e = ctx;
	loop_source_free_p(&e->timer);
	exit_ready(e, POLLIN);
}

/* As with a container, see container_watch.c. */
static void foreign_ended(struct exec *e) {
	uint32_t code = UNKNOWN_EXIT;
	loop_source_free_p(&e->exit_source);
	if (exitcode_of(e->pidfd, &code) == -EAGAIN && e->exit_tries++ < EXIT_TRIES &&
	    loop_timer(e->container->keeper->loop, clock_mono() + EXIT_PAUSE, exit_again, e, &e->timer) == 0)
		return;
	ended(e, code);
}

/* A short command may have ended before its maker, which has handed it over, has
 * said all that there is. ExecSync's answer is its end alone. True: to be looked
 * at again when the maker is silent. */
static bool maker_awaited(struct exec *e) {
	status_drain(e);
	if ((!e->session && !e->name) || e->status < 0)
		return false;
	loop_source_free_p(&e->exit_source);
	e->over_early = true;
	return true;
}

static void exit_ready(void *ctx, uint32_t events) {
	struct exec *e = ctx;
	siginfo_t info = { 0 };
	int pidfd = e->pidfd;
	if (e->making)
		status_drain(e);
	if (e->pidfd != pidfd || maker_awaited(e))
		return;
	if (e->adopted) {
		foreign_ended(e);
		return;
	}
	if (waitid(P_PIDFD, (id_t)e->pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		return;
	ended(e, (uint32_t)(info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status));
}

static void timed_out(void *ctx) {
	struct exec *e = ctx;
	loop_source_free_p(&e->timer);
	e->timed_out = true;
	exec_kill(e);
}

static void cancelled(struct msg_request *r, void *ctx) {
	struct exec *e = ctx;
	e->request = NULL;
	e->timed_out = true;
	msg_failf(r, FAULT_CANCELLED, "the caller gave up");
	exec_kill(e);
}

/* --- start --- */

int exec_process(const struct container *c, struct arena *a, char **args, size_t n_args, bool terminal,
		 Grpc__Process **ret_process, struct fault *fault) {
	Grpc__Process *p = (Grpc__Process *)msg_decode(&grpc__process__descriptor, a, c->process.data, c->process.size);
	if (!p)
		return fault_errno(fault, ENOMEM, "read the container's process");
	p->args = args;
	p->n_args = n_args;
	p->terminal = terminal;
	*ret_process = p;
	return 0;
}

static void status_ready(void *ctx, uint32_t events) {
	status_drain(ctx);
}

int native_exec(struct exec *e, struct exec_plan *plan, struct fault *fault) {
	const Grpc__Process *p = plan->process;
	struct container *c = e->container;
	CLEANUP_FD int child_status = -1;
	char name[32];
	struct exec_birth b = {
		.exec = e,
		.pidfd = c->pidfd,
		.become = { .process = p,
			    .added = true,
			    .args = p->args,
			    .n_args = p->n_args,
			    .user = plan->own_user ? NULL : c->user,
			    .wait = plan->wait,
			    .seccomp = c->seccomp.data,
			    .seccomp_size = c->seccomp.size,
			    .seccomp_flags = c->seccomp_flags,
			    .stdio = { plan->stdio[0], plan->stdio[1], plan->stdio[2] } },
		.terminal = plan->terminal,
		.size = plan->size,
	};
	struct spawn s = { .pid_namespace_of = c->pidfd,
			   .userns = &c->keeper->pod.userns,
			   .before = exec_before,
			   .body = exec_body,
			   .ctx = &b,
			   .cgroup = &e->group };
	e->number = c->n_execs++;
	snprintf(name, sizeof(name), "exec-%u", e->number);
	int r = process_status_pair(&e->status, &child_status);
	if (r < 0)
		fault_errno(fault, r, "make a status socket");
	b.become.status = child_status;
	if (r == 0 && cgroup_create_sub(&c->cgroup, name, &e->group) < 0)
		s.cgroup = &c->cgroup;
	if (r == 0)
		r = process_spawn(&s, &e->pid, &e->pidfd, fault);
	for (int i = 0; i < 3; i++)
		fd_replace(&plan->stdio[i], -1);
	if (r < 0)
		cgroup_remove(&e->group);
	return r;
}

int exec_watch(struct exec *e, uint64_t timeout_ns) {
	struct loop *l = e->container->keeper->loop;
	/* For ExecSync what its maker says is soon enough read at the end. */
	bool listens = e->making || e->session || e->name;
	int r = e->status >= 0 && listens ? loop_poll(l, e->status, POLLIN, status_ready, e, &e->status_source) : 0;
	if (r == 0)
		r = loop_poll(l, e->pidfd, POLLIN, exit_ready, e, &e->exit_source);
	e->timeout_ns = MIN(timeout_ns, (uint64_t)INT64_MAX / 4);
	if (r == 0 && timeout_ns > 0)
		r = loop_timer(l, clock_mono() + (int64_t)e->timeout_ns, timed_out, e, &e->timer);
	return r;
}

struct exec *exec_new(struct container *c) {
	struct exec *e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->container = c;
	e->pidfd = e->status = e->streams[0] = e->streams[1] = e->streams[2] = -1;
	outputs_init(e);
	list_append(&c->execs, &e->node);
	return e;
}

void on_keeper_exec(struct keeper *k, struct msg_request *r, const Bulkhead__KeeperExecRequest *m) {
	struct fault fault = { 0 };
	Grpc__Process *p = NULL;
	const char *id = m->exec ? m->exec->container_id : "";
	struct container *c = container_of_request(k, r, id);
	if (!c)
		return;
	if (container_enterable(c, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	struct exec *e = exec_new(c);
	struct exec_plan plan = { .stdio = { -1, -1, -1 } };
	int result = e ? exec_process(c, &r->arena, m->exec->args, m->exec->n_args, false, &p, &fault)
		       : fault_errno(&fault, ENOMEM, "execute");
	plan.process = p;
	if (result == 0)
		result = outputs_make(e, plan.stdio, &fault);
	if (result == 0)
		result = backend_of(k)->exec(e, &plan, &fault);
	if (result < 0) {
		for (int i = 0; i < 3; i++)
			fd_close(plan.stdio[i]);
		if (e)
			exec_free(e);
		container_fault(c, 0, &fault);
		msg_fail(r, &fault);
		return;
	}
	e->request = r;
	r->cancelled = cancelled;
	r->cancelled_ctx = e;
	if (exec_watch(e, m->exec->timeout_ns) < 0) {
		e->failed = true;
		fault_errno(&e->fault, ENOMEM, "watch the command");
		exec_kill(e);
	}
}
