/* What is done to processes that run: by name, or to a container's first one
 * when no name is given. And to all of a container: freezing, counting. */
#include "workers/keeper/backend.h"
#include "workers/keeper/exec.h"

#include "base/fd.h"
#include "base/log.h"
#include "workers/keeper/sys.h"
#include "workers/keeper/vm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

/* The two kinds, as one. */
struct target {
	struct container *container;
	struct exec *exec; /* NULL: the container's first process */
	struct stdio *stdio;
	struct log *log;
	bool terminal, over;
};

/* Answers the request when there is no such process. */
static bool target_find(struct keeper *k, struct msg_request *r, const Bulkhead__ProcessKey *m, struct target *ret) {
	struct container *c = container_of_request(k, r, m ? m->container_id : "");
	if (!c)
		return false;
	struct exec *e = m->exec_id[0] ? named_find(c, m->exec_id) : NULL;
	if (m->exec_id[0] && !e) {
		msg_failf(r, FAULT_NOT_FOUND, "container \"%.80s\" has no process \"%.80s\"", c->id, m->exec_id);
		return false;
	}
	*ret = (struct target){
		.container = c,
		.exec = e,
		.stdio = e ? e->stdio : c->stdio,
		.log = e ? e->log : c->log,
		.terminal = e ? e->terminal : c->terminal,
		.over = e ? e->over : c->state == CONTAINER_EXITED,
	};
	return true;
}

static bool target_alive(struct keeper *k, struct msg_request *r, const Bulkhead__ProcessKey *m, struct target *ret) {
	if (!target_find(k, r, m, ret))
		return false;
	/* Clients know these words. */
	if (ret->over)
		msg_failf(r, FAULT_NOT_FOUND, "process already finished: \"%.80s\"",
			  ret->exec ? ret->exec->name : ret->container->id);
	return !ret->over;
}

void on_keeper_process_kill(struct keeper *k, struct msg_request *r, const Bulkhead__ProcessKillRequest *m) {
	struct target t;
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	if (!target_alive(k, r, m->process, &t))
		return;
	if (m->signal == 0 || m->signal >= (uint32_t)_NSIG) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "%u is no signal", m->signal);
		return;
	}
	if (t.container->state == CONTAINER_CREATING || (t.exec && t.exec->making)) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "the process does not run yet");
		return;
	}
	if (t.exec)
		backend_of(k)->signal(t.exec->pidfd, (int)m->signal);
	else if (m->all)
		container_signal_all(t.container, (int)m->signal);
	else
		container_signal(t.container, (int)m->signal);
	if (m->signal == SIGKILL)
		container_thaw_to_die(t.container);
	keeper_process_kill_reply(r, &done, NULL, 0);
}

void on_keeper_process_delete(struct keeper *k, struct msg_request *r, const Bulkhead__ProcessKey *m) {
	Bulkhead__TaskKey key = BULKHEAD__TASK_KEY__INIT;
	Bulkhead__TaskExit exit;
	struct target t;
	if (!m->exec_id[0]) {
		key.container_id = m->container_id;
		on_container_delete(k, r, &key);
		return;
	}
	if (!target_find(k, r, m, &t))
		return;
	if (!t.over) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "process \"%.80s\" of container \"%.80s\" still runs",
			  t.exec->name, t.container->id);
		return;
	}
	named_exit(t.exec, &exit);
	t.exec->unwanted = true;
	named_forget(t.exec);
	state_save(k);
	keeper_process_delete_reply(r, &exit, NULL, 0);
	exec_free(t.exec);
}

void on_keeper_process_resize(struct keeper *k, struct msg_request *r, const Bulkhead__ProcessResizeRequest *m) {
	struct target t;
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	struct winsize size = { .ws_col = (unsigned short)m->width, .ws_row = (unsigned short)m->height };
	if (!target_alive(k, r, m->process, &t))
		return;
	int fd = !t.terminal		  ? -1
		 : stdio_is_held(t.stdio) ? stdio_held(t.stdio, 1)
		 : t.log		  ? log_fd(t.log, LOG_STDOUT)
					  : -1;
	if (fd < 0)
		msg_failf(r, FAULT_FAILED_PRECONDITION, "the process has no terminal");
	else if (m->width > UINT16_MAX || m->height > UINT16_MAX || ioctl(fd, TIOCSWINSZ, &size) < 0)
		msg_failf(r, FAULT_INVALID_ARGUMENT, "a terminal can't have %u columns and %u lines", m->width,
			  m->height);
	else
		keeper_process_resize_reply(r, &done, NULL, 0);
}

void on_keeper_process_close_stdin(struct keeper *k, struct msg_request *r, const Bulkhead__ProcessKey *m) {
	struct target t;
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	if (!target_alive(k, r, m, &t))
		return;
	if (!t.stdio) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "the streams of container \"%.80s\" are not a client's",
			  t.container->id);
		return;
	}
	stdio_close_input(t.stdio);
	state_save(k);
	keeper_process_close_stdin_reply(r, &done, NULL, 0);
}

/* A terminal is where all of them lead. */
static void streams_fill(const struct target *t, int null, int ret_fds[3], Bulkhead__ProcessStreams *ret_streams) {
	int fds[3];
	for (int i = 0; i < 3; i++)
		fds[i] = stdio_held(t->stdio, i);
	*ret_streams = (Bulkhead__ProcessStreams)BULKHEAD__PROCESS_STREAMS__INIT;
	ret_streams->terminal = t->terminal;
	ret_streams->stdin = fds[0] >= 0;
	ret_streams->stdout = fds[1] >= 0;
	ret_streams->stderr = fds[2] >= 0;
	for (int i = 0; i < 3; i++)
		ret_fds[i] = fds[i] >= 0 ? fds[i] : null;
}

void on_keeper_process_streams(struct keeper *k, struct msg_request *r, const Bulkhead__ProcessKey *m) {
	Bulkhead__ProcessStreams streams;
	struct target t;
	int fds[3];
	if (!target_find(k, r, m, &t))
		return;
	CLEANUP_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (!stdio_is_held(t.stdio)) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "the streams of container \"%.80s\" are not held",
			  t.container->id);
	} else if (null < 0) {
		msg_failf(r, FAULT_INTERNAL, "open /dev/null: %s", strerrordesc_np(errno));
	} else {
		streams_fill(&t, null, fds, &streams);
		keeper_process_streams_reply(r, &streams, fds, 3);
	}
}

/* --- all of a container --- */

void container_thaw_to_die(struct container *c) {
	if (!(c->frozen || c->held) || cgroup_kills_frozen(&c->cgroup))
		return;
	bool thawed = cgroup_freeze(&c->cgroup, false) == 0;
	c->frozen &= !thawed;
	c->held &= !thawed;
	state_save(c->keeper);
}

void on_container_freeze(struct keeper *k, struct msg_request *r, const Bulkhead__TaskFreezeRequest *m) {
	struct container *c = container_of_request(k, r, m->container_id);
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	struct fault fault;
	if (!c)
		return;
	if (c->state != CONTAINER_RUNNING) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "container \"%.80s\" does not run", c->id);
		return;
	}
	if (c->held) {
		msg_failf(r, FAULT_ABORTED, "a checkpoint of the pod of container \"%.80s\" is under way", c->id);
		return;
	}
	/* The guest says no to what is so already; this row may come twice. */
	if (k->pod.vm && vm_freeze(c, m->frozen, &fault) < 0 &&
	    !(fault.code == FAULT_FAILED_PRECONDITION && c->frozen == m->frozen)) {
		fault_prefix(&fault, 0, "%s container \"%s\"", m->frozen ? "pause" : "resume", c->id);
		msg_fail(r, &fault);
		return;
	}
	int e = k->pod.vm ? 0 : cgroup_freeze(&c->cgroup, m->frozen);
	if (e < 0) {
		fault_errno(&fault, e, "%s container \"%s\"", m->frozen ? "pause" : "resume", c->id);
		fault.code = e == -EOPNOTSUPP ? FAULT_UNIMPLEMENTED : FAULT_INTERNAL;
		msg_fail(r, &fault);
		return;
	}
	c->frozen = m->frozen;
	state_save(k);
	container_freeze_reply(r, &done, NULL, 0);
}

struct listing {
	struct container *container;
	struct arena *arena;
	Bulkhead__TaskPidsReply reply;
	size_t room;
	bool failed;
};

static char *name_of(const struct container *c, pid_t pid) {
	list_for_each (n, &c->execs) {
		struct exec *e = list_entry(n, struct exec, node);
		if (e->name && !e->over && e->pid == pid)
			return e->name;
	}
	return (char *)"";
}

static void listed(void *ctx, pid_t pid) {
	struct listing *l = ctx;
	Bulkhead__TaskPidsReply__Pid *p = arena_alloc(l->arena, sizeof(*p));
	if (l->reply.n_pids == l->room) {
		size_t room = l->room ? l->room * 2 : 16;
		Bulkhead__TaskPidsReply__Pid **more =
		    arena_alloc(l->arena, room * sizeof(Bulkhead__TaskPidsReply__Pid *));
		if (more && l->room)
			memcpy(more, l->reply.pids, l->room * sizeof(*more));
		l->failed |= !more;
		l->room = more ? room : 0;
		l->reply.pids = more;
	}
	if (!p || l->failed) {
		l->failed = true;
		l->reply.n_pids = l->room = 0;
		return;
	}
	*p = (Bulkhead__TaskPidsReply__Pid)BULKHEAD__TASK_PIDS_REPLY__PID__INIT;
	p->pid = pid;
	p->exec_id = name_of(l->container, pid);
	l->reply.pids[l->reply.n_pids++] = p;
}

void on_container_pids(struct keeper *k, struct msg_request *r, const Bulkhead__TaskKey *m) {
	struct container *c = container_of_request(k, r, m->container_id);
	if (!c)
		return;
	struct listing l = { .container = c,
			     .arena = &r->arena,
			     .reply = (Bulkhead__TaskPidsReply)BULKHEAD__TASK_PIDS_REPLY__INIT };
	cgroup_each_pid(&c->cgroup, listed, &l);
	if (l.failed)
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "container \"%.80s\" has too many processes to list", c->id);
	else
		container_pids_reply(r, &l.reply, NULL, 0);
}
