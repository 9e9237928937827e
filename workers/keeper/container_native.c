/*
 * How the keeper itself makes a container (backend.h): everything that needs no
 * namespace of the container (streams, control group) is made here, then a
 * child is cloned that prepares itself (become.c, rootfs.c) and reports through
 * its status socket, which container_watch.c reads.
 */
#include "workers/keeper/backend.h"
#include "workers/keeper/container.h"

#include "base/fd.h"
#include "workers/keeper/devices.h"
#include "workers/keeper/oom.h"
#include "workers/keeper/rootfs.h"
#include "workers/keeper/sys.h"
#include "workers/keeper/sysctl.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

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

/* --- all of it --- */

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
			    .wait = true,
			    .early = k->pod.bare },
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
