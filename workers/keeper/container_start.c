/*
 * container_create and container_start: everything that needs no namespace of
 * the container (log, streams, control group) is made here, then a child is
 * cloned that prepares itself (become.c, rootfs.c) and reports through its
 * status socket. Each failure kills the child and is answered when it is gone.
 */
#include "workers/keeper/backend.h"
#include "workers/keeper/container.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "workers/keeper/cgroup_update.h"
#include "workers/keeper/devices.h"
#include "workers/keeper/exitcode.h"
#include "workers/keeper/oom.h"
#include "workers/keeper/rootfs.h"
#include "workers/keeper/sys.h"
#include "workers/keeper/sysctl.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define UNKNOWN_EXIT 255
#define EXIT_PAUSE (5 * NS_PER_MS)
#define EXIT_TRIES 400
#define MAKER_TRIES 2000

/* --- the child --- */

struct birth {
	struct container *container;
	const Bulkhead__TaskCreateRequest *task;
	struct rootfs rootfs;
	struct become become;
	bool cgroup_namespace;
};

int container_sysctls(const struct container *c, const Grpc__Spec *spec, struct fault *fault) {
	const struct pod *p = &c->keeper->pod;
	const Grpc__Linux *l = spec->linux;
	struct sysctl_scope scope = {
		.net = p->network != BULKHEAD__NAMESPACE_MODE__NODE,
		.ipc = p->ipc != BULKHEAD__NAMESPACE_MODE__NODE,
		.uts = !p->host_uts,
	};
	for (size_t i = 0; l && i < l->n_sysctl; i++) {
		int r = sysctl_write(&scope, l->sysctl[i]->key, l->sysctl[i]->value, fault);
		if (r < 0)
			return r;
	}
	return 0;
}

/* What takes the host's rights, in a copy of the keeper that has them. */
static int birth_before(void *ctx, struct fault *fault) {
	struct birth *b = ctx;
	oom_score_become(b->become.process->oomscoreadj, b->become.status);
	b->become.scored = true;
	int r = container_sysctls(b->container, b->task->spec, fault);
	return r < 0 ? r : rootfs_prepare(&b->rootfs, fault);
}

static void birth_close(const struct birth *b) {
	int keep[6 + ROOTFS_FDS_MAX] = { b->become.status,   b->rootfs.root,	 b->rootfs.shm,
					 b->become.stdio[0], b->become.stdio[1], b->become.stdio[2] };
	become_close_others(keep, 6 + rootfs_fds(&b->rootfs, keep + 6));
}

static void birth_body(void *ctx) {
	struct birth *b = ctx;
	struct container *c = b->container;
	struct fault fault = { 0 };
	bool inside = b->rootfs.userns->fd >= 0;
	birth_close(b);
	int r = become_prepare(&b->become, &fault);
	if (r == 0 && (r = cgroup_enter_v1(&c->cgroup)) < 0)
		r = fault_errno(&fault, r, "enter the cgroup \"%s\"", c->cgroup.path);
	if (r == 0 && b->cgroup_namespace && unshare(CLONE_NEWCGROUP) < 0)
		r = fault_errno(&fault, errno, "make a cgroup namespace");
	if (r == 0)
		r = inside ? userns_become_root(&fault) : container_sysctls(c, b->task->spec, &fault);
	if (r == 0)
		r = rootfs_enter(&b->rootfs, &fault);
	if (r < 0)
		become_failed(b->become.status, &fault);
	if (b->rootfs.terminal >= 0) {
		become_send_terminal(b->become.status, b->rootfs.terminal);
		for (int i = 0; i < 3; i++)
			b->become.stdio[i] = b->rootfs.terminal_peer;
	}
	become_program(&b->become);
}

/* --- checks --- */

/* A namespace to join is the pod's or none: we live in those. */
static bool namespace_ours(const char *path, const char *own) {
	struct stat a, b;
	return own && stat(path, &a) == 0 && stat(own, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int namespace_check(const Grpc__LinuxNamespace *n, struct fault *fault) {
	static const struct {
		const char *type, *own;
	} known[] = {
		{ "network", "/proc/self/ns/net" },
		{ "ipc", "/proc/self/ns/ipc" },
		{ "uts", "/proc/self/ns/uts" },
		{ "pid", NULL },
		{ "mount", NULL },
		{ "cgroup", NULL },
	};
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(n->type, known[i].type) == 0 && (!n->path[0] || namespace_ours(n->path, known[i].own)))
			return 0;
	return fault_set(fault, FAULT_UNIMPLEMENTED, "a namespace of type \"%s\"%s%s is not supported", n->type,
			 n->path[0] ? " at " : "", n->path);
}

static bool has_hooks(const Grpc__Hooks *h) {
	return h && (h->n_prestart || h->n_createruntime || h->n_createcontainer || h->n_startcontainer ||
		     h->n_poststart || h->n_poststop);
}

static int create_check(const struct keeper *k, const Bulkhead__TaskCreateRequest *t, bool bare, struct fault *fault) {
	if (!t || !t->spec || !t->spec->process)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the container has no process to run");
	if (!k->pod.up || k->pod.ending)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "pod sandbox \"%s\" is not running", k->id);
	if (!id_valid(t->container_id))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.80s\" is no id of a container", t->container_id);
	if (bare && k->pod.runtime)
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "an OCI runtime can't run container \"%s\", which brings its own root",
				 t->container_id);
	if (container_find(k, t->container_id))
		return fault_set(fault, FAULT_ALREADY_EXISTS, "container \"%s\" exists already", t->container_id);
	const Grpc__Linux *l = t->spec->linux;
	if (l && (l->n_uidmappings || l->n_gidmappings))
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "a user namespace of the container alone is not supported");
	for (size_t i = 0; l && i < l->n_namespaces; i++) {
		int r = namespace_check(l->namespaces[i], fault);
		if (r < 0)
			return r;
	}
	if (has_hooks(t->spec->hooks))
		return fault_set(fault, FAULT_UNIMPLEMENTED, "hooks of the runtime specification are not supported");
	return 0;
}

bool spec_has_namespace(const Grpc__Spec *spec, const char *type) {
	for (size_t i = 0; spec->linux && i < spec->linux->n_namespaces; i++)
		if (strcmp(spec->linux->namespaces[i]->type, type) == 0)
			return true;
	return false;
}

bool container_strict_groups(const Grpc__Spec *spec) {
	for (size_t i = 0; i < spec->n_annotations; i++)
		if (strcmp(spec->annotations[i]->key, "bulkhead.io/groups") == 0)
			return strcmp(spec->annotations[i]->value, "strict") == 0;
	return false;
}

/* --- its pid namespace --- */

int container_pid_target(const struct container *c, const Bulkhead__TaskCreateRequest *t,
			 const struct container **ret_target, struct fault *fault) {
	if (c->pid_mode != BULKHEAD__NAMESPACE_MODE__TARGET)
		return 0;
	const struct container *target = container_find(c->keeper, t->target_container_id);
	if (!target || (target->state != CONTAINER_RUNNING && target->state != CONTAINER_CREATED))
		return fault_set(fault, FAULT_FAILED_PRECONDITION,
				 "the target container \"%s\" of the pid namespace does not run",
				 t->target_container_id);
	*ret_target = target;
	return 0;
}

static int pid_namespace(struct container *c, const Bulkhead__TaskCreateRequest *t, struct spawn *s,
			 struct fault *fault) {
	s->pid_namespace_of = -1;
	if (c->pid_mode == BULKHEAD__NAMESPACE_MODE__CONTAINER)
		s->namespaces |= CLONE_NEWPID;
	if (c->pid_mode == BULKHEAD__NAMESPACE_MODE__POD) {
		int r = pod_init_ensure(c->keeper, fault);
		s->pid_namespace_of = c->keeper->pod.init;
		return r;
	}
	const struct container *target = NULL;
	int r = container_pid_target(c, t, &target, fault);
	if (target)
		s->pid_namespace_of = target->pidfd;
	return r;
}

static int remember(struct container *c, const Bulkhead__ContainerCreateRequest *m) {
	const Grpc__Process *p = m->task->spec->process;
	size_t size = grpc__process__get_packed_size(p);
	uint8_t *room = buffer_reserve(&c->process, size);
	if (!room)
		return -ENOMEM;
	grpc__process__pack(p, room);
	c->process.size = size;
	buffer_add(&c->seccomp, m->seccomp_program.data, m->seccomp_program.len);
	c->seccomp_flags = m->seccomp_flags;
	c->log_path = strdup(m->task->log_path);
	c->pid_mode = m->task->pid_mode;
	c->terminal = p->terminal;
	c->takes_stdin = m->task->stdin;
	c->stdin_once = m->task->stdin_once;
	c->stop_signal = m->task->stop_signal;
	c->start_at_once = m->task->start;
	return c->seccomp.failed || !c->log_path ? -ENOMEM : 0;
}

int native_create(struct container *c, struct msg_request *r, const Bulkhead__ContainerCreateRequest *m,
		  struct fault *fault) {
	struct keeper *k = c->keeper;
	const Grpc__Spec *spec;
	CLEANUP_FD int child_status = -1;
	int e = devices_expand(&r->arena, m->task->spec, k->pod.userns.fd >= 0, &spec, fault);
	if (e < 0)
		return e;
	struct birth b = {
		.container = c,
		.task = m->task,
		.cgroup_namespace = spec_has_namespace(spec, "cgroup"),
		.rootfs = { .spec = spec,
			    .root = r->n_fds ? r->fds[0] : -1,
			    .volumes = r->fds + 1,
			    .n_volumes = r->n_fds ? r->n_fds - 1 : 0,
			    .mounts = m->task->rootfs,
			    .n_mounts = m->task->n_rootfs,
			    .bare = k->pod.bare,
			    .shm = k->pod.shm,
			    .run_dir = k->run_dir,
			    .cgroup = &c->cgroup,
			    .userns = &k->pod.userns },
		.become = { .process = spec->process,
			    .args = spec->process->args,
			    .n_args = spec->process->n_args,
			    .seccomp = c->seccomp.data,
			    .seccomp_size = c->seccomp.size,
			    .seccomp_flags = c->seccomp_flags,
			    .stdio = { -1, -1, -1 },
			    .strict_groups = container_strict_groups(spec),
			    .wait = true },
	};
	struct spawn s = { .namespaces = CLONE_NEWNS,
			   .userns = &k->pod.userns,
			   .cgroup = &c->cgroup,
			   .before = birth_before,
			   .body = birth_body,
			   .ctx = &b };
	b.rootfs.cgroup_namespace = b.cgroup_namespace;
	e = container_streams(c, m->task, b.become.stdio, fault);
	if (e == 0)
		e = container_group(c, spec, fault);
	if (e == 0)
		e = pid_namespace(c, m->task, &s, fault);
	if (e == 0 && (e = process_status_pair(&c->status, &child_status)) < 0)
		e = fault_errno(fault, e, "make a status socket");
	b.become.status = child_status;
	if (e == 0)
		e = process_spawn(&s, &c->pid, &c->pidfd, fault);
	for (int i = 0; i < 3; i++)
		fd_close(b.become.stdio[i]);
	return e;
}

/* --- what the child says --- */

static void abort_with(struct container *c, const struct fault *fault) {
	if (!c->failed && (c->failed = malloc(sizeof(*c->failed))))
		*c->failed = *fault;
	container_kill_now(c);
}

static void started(struct container *c) {
	loop_source_free_p(&c->status_source);
	fd_replace(&c->status, -1);
	c->state = CONTAINER_RUNNING;
	c->started_at = clock_real();
	container_vault(c);
	state_save(c->keeper);
	struct msg_request *r = take_ptr(c->pending);
	if (r)
		container_created_reply(r, c);
}

static void go(struct container *c) {
	if (process_go(c->status) < 0) {
		/* Nobody listens: it has ended, and how is what its end will
		 * say. That of its status isn't a program's beginning. */
		container_status_drain(c);
		container_kill_now(c);
	}
	c->state = CONTAINER_STARTING;
}

static void exit_ready(void *ctx, uint32_t events);

static void maker_ended(void *ctx, uint32_t events) {
	struct container *c = ctx;
	waitid(P_PIDFD, (id_t)c->maker, &(siginfo_t){ 0 }, WEXITED | WNOHANG);
	loop_source_free_p(&c->maker_source);
	fd_replace(&c->maker, -1);
	restore_over(c);
}

/* From here on the process that the sender has made is the container's, and the
 * sender only the one who tells of it. */
static int process_taken(struct container *c, pid_t pid, int *pidfd) {
	if (pid == 0)
		return 0;
	if (*pidfd < 0)
		return -EBADMSG;
	loop_source_free_p(&c->exit_source);
	/* Where a runtime is at work others reap its maker, too. */
	fd_replace(&c->maker, take_fd(&c->pidfd));
	int r = loop_poll(c->keeper->loop, c->maker, POLLIN, maker_ended, c, &c->maker_source);
	if (r < 0)
		return r;
	c->pidfd = take_fd(pidfd);
	c->pid = pid;
	/* With all the groups that the runtime has made. */
	cgroup_adopt(c->keeper->config.cgroups, c->cgroup.path, &c->cgroup);
	return loop_poll(c->keeper->loop, c->pidfd, POLLIN, exit_ready, c, &c->exit_source);
}

static void prepared(struct container *c, const struct status *s, int *pidfd) {
	struct fault fault;
	int e = process_taken(c, s->pid, pidfd);
	if (e < 0) {
		fault_errno(&fault, e, "watch container \"%s\"", c->id);
		abort_with(c, &fault);
		return;
	}
	c->user = malloc(sizeof(*c->user));
	if (c->user)
		*c->user = s->user;
	c->state = CONTAINER_CREATED;
	c->created_at = clock_real();
	container_vault(c);
	if (c->start_at_once) {
		go(c);
		return;
	}
	state_save(c->keeper);
	struct msg_request *r = take_ptr(c->pending);
	if (r)
		container_created_reply(r, c);
}

static void terminal_arrived(struct container *c, int fd) {
	struct fault fault;
	if (fd < 0)
		return;
	if (process_terminal(c->stdio, c->log, fd, &fault) < 0)
		abort_with(c, &fault);
}

/* A restore's maker has said that all is there: its end, which follows, says
 * that it goes on. */
static void restored(struct container *c, const struct status *s, int *pidfd) {
	struct fault fault;
	int e = process_taken(c, s->pid, pidfd);
	if (e == 0)
		e = restore_take(c);
	if (e == 0)
		return;
	fault_errno(&fault, e, "watch container \"%s\"", c->id);
	abort_with(c, &fault);
}

static void status_handle(struct container *c, const struct status *s, int fd) {
	struct fault fault = { .code = (enum fault_code)s->code };
	switch (s->kind) {
	case STATUS_WARNING:
		container_warn(c, s->text);
		break;
	case STATUS_TERMINAL:
		terminal_arrived(c, fd);
		return;
	case STATUS_READY:
		if (c->state == CONTAINER_CREATING)
			prepared(c, s, &fd);
		break;
	case STATUS_PROCESS:
		restored(c, s, &fd);
		break;
	case STATUS_FAULT:
		snprintf(fault.text, sizeof(fault.text), "%s", s->text);
		abort_with(c, &fault);
		break;
	}
	fd_close(fd);
}

void container_status_drain(struct container *c) {
	struct status s;
	int fd;
	while (c->status >= 0) {
		int r = process_status_receive(c->status, &s, &fd);
		if (r == -EAGAIN)
			return;
		if (r == 1) {
			status_handle(c, &s, fd);
			continue;
		}
		if (c->state == CONTAINER_STARTING && !c->failed && (!c->restores || c->maker >= 0)) {
			started(c);
			return;
		}
		/* It died before; its pidfd tells how. */
		loop_source_free_p(&c->status_source);
		fd_replace(&c->status, -1);
	}
}

static void status_ready(void *ctx, uint32_t events) {
	container_status_drain(ctx);
}

static void exit_again(void *ctx) {
	struct container *c = ctx;
	loop_source_free_p(&c->exit_timer);
	exit_ready(c, POLLIN);
}

/* Not our child: whoever it fell to has to reap it before its code is known,
 * which takes a moment. A kernel that doesn't keep the code leaves us without;
 * it has certainly not ended well for us, so it doesn't count as success. */
static void foreign_ended(struct container *c) {
	uint32_t code = UNKNOWN_EXIT;
	int r = exitcode_of(c->pidfd, &code);
	if (r == -EAGAIN && c->exit_tries++ < EXIT_TRIES &&
	    loop_timer(c->keeper->loop, clock_mono() + EXIT_PAUSE, exit_again, c, &c->exit_timer) == 0)
		return;
	if (r < 0)
		log_event(LOG_WARN, "the exit code of a container is not known", "container", c->id, NULL);
	container_ended(c, code);
}

/* A short program may have ended before a runtime that has started it says so.
 * True: to be looked at again. */
static bool maker_awaited(struct container *c) {
	if (c->state == CONTAINER_STARTING)
		container_status_drain(c);
	if (c->state != CONTAINER_STARTING || c->status < 0 || c->exit_tries++ >= MAKER_TRIES ||
	    loop_timer(c->keeper->loop, clock_mono() + EXIT_PAUSE, exit_again, c, &c->exit_timer) < 0)
		return false;
	loop_source_free_p(&c->exit_source);
	return true;
}

static void exit_ready(void *ctx, uint32_t events) {
	struct container *c = ctx;
	siginfo_t info = { 0 };
	int pidfd = c->pidfd;
	/* Whose end is it, the container's or that of who makes it? */
	if (c->state == CONTAINER_CREATING)
		container_status_drain(c);
	if (c->pidfd != pidfd || maker_awaited(c))
		return;
	if (c->adopted) {
		loop_source_free_p(&c->exit_source);
		foreign_ended(c);
		return;
	}
	if (waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		return;
	container_ended(c, (uint32_t)(info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status));
}

int container_watch(struct container *c) {
	int r = c->status >= 0 ? loop_poll(c->keeper->loop, c->status, POLLIN, status_ready, c, &c->status_source) : 0;
	if (r == 0)
		r = loop_poll(c->keeper->loop, c->pidfd, POLLIN, exit_ready, c, &c->exit_source);
	return r;
}

/* --- handlers --- */

static void pending_cancelled(struct msg_request *r, void *ctx) {
	struct container *c = ctx;
	struct fault fault;
	/* A start that has been told to go can't be taken back. */
	if (c->state == CONTAINER_CREATING) {
		fault_set(&fault, FAULT_CANCELLED, "the caller gave up");
		abort_with(c, &fault);
	}
}

static void pending_set(struct container *c, struct msg_request *r) {
	c->pending = r;
	r->cancelled = pending_cancelled;
	r->cancelled_ctx = c;
}

/* The container whose pid namespace it was to join may be why. */
static void target_fault(const struct keeper *k, const Bulkhead__TaskCreateRequest *t, struct fault *fault) {
	const struct container *target = container_find(k, t->target_container_id);
	if (t->pid_mode == BULKHEAD__NAMESPACE_MODE__TARGET && target)
		container_fault(target, 0, fault);
}

void on_container_create(struct keeper *k, struct msg_request *r, const Bulkhead__ContainerCreateRequest *m) {
	struct fault fault = { 0 };
	struct container *c = NULL;
	if (create_check(k, m->task, r->n_fds == 0, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	int e = container_new(k, m->task->container_id, &c);
	if (e == 0)
		e = remember(c, m);
	if (e < 0)
		fault_errno(&fault, e, "create container \"%s\"", m->task->container_id);
	if (e == 0)
		e = log_new(k->loop, m->task->stdio ? "" : m->task->log_path, k->config.log_line_max, -1, &c->log,
			    &fault);
	if (e == 0 && m->task->stdio)
		e = stdio_new(k, c->id, m->task->stdio, NULL, &c->stdio, &fault);
	if (e == 0)
		e = m->task->restore ? restore_create(c, r, m, &fault) : backend_of(k)->create(c, r, m, &fault);
	if (e < 0) {
		target_fault(k, m->task, &fault);
		container_free(c);
		msg_fail(r, &fault);
		return;
	}
	msg_close_fds(r);
	pending_set(c, r);
	e = container_watch(c);
	if (e < 0) {
		fault_errno(&fault, e, "watch container \"%s\"", c->id);
		abort_with(c, &fault);
	}
}

void on_container_start(struct keeper *k, struct msg_request *r, const Bulkhead__TaskKey *m) {
	struct container *c = container_of_request(k, r, m->container_id);
	if (!c)
		return;
	/* Asked again after an answer that got lost. */
	if (c->state == CONTAINER_RUNNING || (c->state == CONTAINER_EXITED && c->started_at)) {
		container_created_reply(r, c);
		return;
	}
	if (c->state != CONTAINER_CREATED || c->pending) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "container \"%.80s\" %s", c->id,
			  c->state == CONTAINER_EXITED ? "has ended before it was started" : "is being started");
		return;
	}
	struct fault fault;
	if (k->pod.cgroup_scope[0] && cgroup_bring(&c->cgroup, c->pid, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	hold_begin(c);
	pending_set(c, r);
	go(c);
}
