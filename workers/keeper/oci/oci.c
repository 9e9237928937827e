/*
 * The keeper's side of pods that an OCI runtime runs: starts makers, runs
 * errands (what is left to clean up, in children of their own), reaps orphans.
 *
 * Orphans: the runtime leaves processes to the keeper, those it made for us and
 * others that their parents left behind. The first are waited for by pidfd; a
 * SIGCHLD for any other reaps it, but never while a maker is at work, whose
 * process isn't known yet.
 */
#include "workers/keeper/oci/oci.h"
#include "workers/keeper/backend.h"
#include "workers/keeper/exec.h"

#include "base/fd.h"
#include "base/log.h"
#include "workers/keeper/devices.h"
#include "workers/keeper/sys.h"

#include <dirent.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define FOLDER "oci"
#define STATE FOLDER "/state"
#define ERRAND_LIMIT 60 /* seconds */
#define REMOVE_FDS 16

int oci_place(const struct keeper *k, const char *id, struct oci_place *ret_place, struct fault *fault) {
	struct oci_place p = { .program = k->pod.runtime, .id = id };
	if ((size_t)snprintf(p.state, sizeof(p.state), "%s/" STATE, k->run_dir) >= sizeof(p.state) ||
	    (size_t)snprintf(p.bundle, sizeof(p.bundle), "%s/" FOLDER "/%s", k->run_dir, id) >= sizeof(p.bundle))
		return fault_errno(fault, ENAMETOOLONG, "bundle of container \"%s\"", id);
	*ret_place = p;
	return 0;
}

/* --- makers --- */

/* On the hybrid of both the v2 hierarchy tracks processes, and runtimes don't
 * know of it: what they make stays where the maker is. Elsewhere they put it
 * where the configuration says, and want to find that empty. */
static const struct cgroup *group_to_be_born_in(const struct cgroup *c) {
	return c->system->v2 >= 0 && c->system->n > 1 ? c : NULL;
}

static int maker_spawn(struct oci_birth *b, void (*body)(void *), const struct cgroup *group, int *ret_status,
		       pid_t *ret_pid, int *ret_pidfd, struct fault *fault) {
	CLEANUP_FD int theirs = -1;
	struct spawn s = { .pid_namespace_of = -1, .cgroup = group, .body = body, .ctx = b };
	int r = process_status_pair(ret_status, &theirs);
	if (r < 0)
		return fault_errno(fault, r, "make a status socket");
	b->status = theirs;
	return process_spawn(&s, ret_pid, ret_pidfd, fault);
}

static int pid_namespace(struct container *c, const Bulkhead__TaskCreateRequest *t, pid_t *ret_pid,
			 struct fault *fault) {
	*ret_pid = 0;
	if (c->pid_mode == BULKHEAD__NAMESPACE_MODE__POD) {
		int r = pod_init_ensure(c->keeper, fault);
		*ret_pid = c->keeper->pod.init_pid;
		return r;
	}
	const struct container *target = NULL;
	int r = container_pid_target(c, t, &target, fault);
	if (target)
		*ret_pid = target->pid;
	return r;
}

static int oci_create(struct container *c, struct msg_request *r, const Bulkhead__ContainerCreateRequest *m,
		      struct fault *fault) {
	struct keeper *k = c->keeper;
	struct oci_place place;
	struct oci_birth b = { .place = &place,
			       .container = c,
			       .root = r->fds[0],
			       .volumes = r->fds + 1,
			       .n_volumes = r->n_fds - 1,
			       .shm = k->pod.shm,
			       .stdio = { -1, -1, -1 } };
	if (k->pod.userns.fd >= 0)
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "only the native runtime handler runs pods with a user namespace");
	int e = oci_place(k, c->id, &place, fault);
	if (e == 0)
		e = devices_expand(&r->arena, m->task->spec, false, &b.spec, fault);
	if (e < 0)
		return e;
	b.process = b.spec->process;
	b.strict_groups = container_strict_groups(b.spec);
	if (!b.spec->linux)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the specification has no part for Linux");
	e = container_streams(c, m->task, b.stdio, fault);
	if (e == 0)
		e = container_group(c, b.spec, fault);
	if (e == 0)
		e = pid_namespace(c, m->task, &b.pid_namespace, fault);
	if (e == 0)
		e = maker_spawn(&b, oci_make_container, group_to_be_born_in(&c->cgroup), &c->status, &c->pid, &c->pidfd,
				fault);
	for (int i = 0; i < 3; i++)
		fd_close(b.stdio[i]);
	return e;
}

static int oci_exec(struct exec *e, struct exec_plan *plan, struct fault *fault) {
	struct container *c = e->container;
	const struct cgroup *group = NULL;
	struct oci_place place;
	char name[32];
	struct oci_birth b = { .place = &place,
			       .container = c,
			       .process = plan->process,
			       .user = c->user,
			       .name = name,
			       .root = -1,
			       .shm = -1,
			       .stdio = { plan->stdio[0], plan->stdio[1], plan->stdio[2] } };
	snprintf(name, sizeof(name), "exec-%u", c->n_execs++);
	int r = oci_place(c->keeper, c->id, &place, fault);
	if (r == 0 && plan->own_user)
		r = fault_set(fault, FAULT_UNIMPLEMENTED,
			      "an OCI runtime runs no processes beside the container's first "
			      "with a specification of their own");
	if (r == 0 && !c->user)
		r = fault_set(fault, FAULT_INTERNAL, "the container's user is not known");
	if (r == 0 && group_to_be_born_in(&c->cgroup))
		group = cgroup_create_sub(&c->cgroup, name, &e->group) < 0 ? &c->cgroup : &e->group;
	if (r == 0)
		r = maker_spawn(&b, oci_make_exec, group, &e->status, &e->pid, &e->pidfd, fault);
	for (int i = 0; i < 3; i++)
		fd_replace(&plan->stdio[i], -1);
	e->making = r == 0;
	if (r < 0)
		cgroup_remove(&e->group);
	return r;
}

/* --- errands --- */

struct errand {
	struct list node;
	struct keeper *keeper;
	struct oci_place place;
	char *id;
	pid_t pid;
	int pidfd;
	struct loop_source *source;
};

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
	remove(path);
	return 0;
}

static void runtime_delete(const struct oci_place *p) {
	static const int none[3] = { -1, -1, -1 };
	const char *args[] = { "delete", "--force", p->id, NULL };
	struct fault fault;
	char path[PATH_MAX + 80];
	snprintf(path, sizeof(path), "%s/%s", p->state, p->id);
	/* Nothing that it knows of. */
	if (access(path, F_OK) < 0)
		return;
	if (oci_run(p, "delete.log", none, args, &fault) < 0)
		log_event(LOG_WARN, "a runtime can't delete its container", "container", p->id, "why", fault.text,
			  NULL);
}

static void errand_begin(void) {
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	sys_close_range(3, ~0U, 0);
	setsid();
	/* A runtime that hangs is left alone: it dies with this. */
	alarm(ERRAND_LIMIT);
}

static void clean_container(void *errand) {
	const struct errand *e = errand;
	errand_begin();
	runtime_delete(&e->place);
	nftw(e->place.bundle, remove_one, REMOVE_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	_exit(0);
}

/* What is still there when the pod ends: of containers that a killed keeper had. */
static void clean_pod(void *errand) {
	struct errand *e = errand;
	char folder[PATH_MAX];
	errand_begin();
	snprintf(folder, sizeof(folder), "%.*s", (int)(strlen(e->place.state) - strlen("/state")), e->place.state);
	/* Whose bundles may be gone: the logs go beside them. */
	memcpy(e->place.bundle, folder, sizeof(folder));
	DIR *d = opendir(e->place.state);
	for (struct dirent *entry; d && (entry = readdir(d));)
		if (entry->d_name[0] != '.') {
			e->place.id = entry->d_name;
			runtime_delete(&e->place);
		}
	nftw(folder, remove_one, REMOVE_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	_exit(0);
}

static void errand_free(struct errand *e) {
	loop_source_free(e->source);
	fd_close(e->pidfd);
	free(e->id);
	list_unlink(&e->node);
	free(e);
}

static void errand_done(void *ctx, uint32_t events) {
	struct errand *e = ctx;
	struct keeper *k = e->keeper;
	siginfo_t info;
	waitid(P_PIDFD, (id_t)e->pidfd, &info, WEXITED | WNOHANG);
	errand_free(e);
	oci_reap(k);
	pod_teardown_continue(k);
}

static int errand_start(struct keeper *k, const char *id, void (*body)(void *), struct fault *fault) {
	struct errand *e = calloc(1, sizeof(*e));
	if (!e)
		return fault_errno(fault, ENOMEM, "clean up");
	e->keeper = k;
	e->pidfd = -1;
	list_append(&k->errands, &e->node);
	e->id = strdup(id);
	struct spawn s = { .pid_namespace_of = -1, .body = body, .ctx = e };
	int r = e->id ? oci_place(k, e->id, &e->place, fault) : fault_errno(fault, ENOMEM, "clean up");
	if (r == 0)
		r = process_spawn(&s, &e->pid, &e->pidfd, fault);
	if (r == 0 && (r = loop_poll(k->loop, e->pidfd, POLLIN, errand_done, e, &e->source)) < 0)
		fault_errno(fault, r, "wait for a clean-up");
	if (r < 0)
		errand_free(e);
	return r;
}

static void oci_ended(struct container *c) {
	struct fault fault;
	oci_reap(c->keeper);
	if (errand_start(c->keeper, c->id, clean_container, &fault) < 0)
		log_event(LOG_WARN, "a runtime's container is cleaned up with its pod", "container", c->id, "why",
			  fault.text, NULL);
}

static void oci_pod_ended(struct keeper *k) {
	struct fault fault;
	if (k->pod.runtime_swept)
		return;
	k->pod.runtime_swept = true;
	if (errand_start(k, k->id, clean_pod, &fault) < 0)
		log_event(LOG_WARN, "a runtime's files are left behind", "pod", k->id, "why", fault.text, NULL);
}

/* --- orphans --- */

static bool makers_at_work(const struct keeper *k) {
	list_for_each (n, &k->containers) {
		const struct container *c = list_entry(n, struct container, node);
		if (c->state == CONTAINER_CREATING)
			return true;
		list_for_each (x, &c->execs)
			if (list_entry(x, struct exec, node)->making)
				return true;
	}
	return false;
}

static bool awaited(const struct keeper *k, pid_t pid) {
	if (pid == k->pod.init_pid)
		return true;
	list_for_each (n, &k->errands)
		if (list_entry(n, struct errand, node)->pid == pid)
			return true;
	list_for_each (n, &k->containers) {
		const struct container *c = list_entry(n, struct container, node);
		if (c->pid == pid && c->state != CONTAINER_EXITED)
			return true;
		list_for_each (x, &c->execs)
			if (list_entry(x, struct exec, node)->pid == pid && !list_entry(x, struct exec, node)->over)
				return true;
	}
	return false;
}

/* The kernel shows one at a time, always the same until it's reaped. */
void oci_reap(struct keeper *k) {
	while (k->pod.runtime && !makers_at_work(k)) {
		siginfo_t info = { 0 };
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0 ||
		    awaited(k, info.si_pid))
			return;
		waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG);
	}
}

static void child_ended(void *ctx, uint32_t events) {
	struct keeper *k = ctx;
	struct signalfd_siginfo info;
	while (read(k->children, &info, sizeof(info)) == sizeof(info))
		;
	oci_reap(k);
}

int oci_attach(struct keeper *k, const char *program, struct fault *fault) {
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	k->pod.runtime = strdup(program);
	if (!k->pod.runtime)
		return fault_errno(fault, ENOMEM, "choose the runtime");
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 || sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return fault_errno(fault, errno, "be the parent of what a runtime makes");
	k->children = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	int r = k->children < 0 ? -errno : loop_poll(k->loop, k->children, POLLIN, child_ended, k, &k->children_source);
	return r < 0 ? fault_errno(fault, r, "wait for what a runtime makes") : 0;
}

const struct backend oci_backend = {
	.create = oci_create,
	.exec = oci_exec,
	.ended = oci_ended,
	.pod_ended = oci_pod_ended,
	.signal = native_signal,
};
