/*
 * A container whose processes criu brings out of a checkpoint's images. A maker
 * takes the place of the process that would become the program:
 *
 *   maker, a child in the container's control group, with a mount namespace of
 *   its own: root and mounts as for any container, below a folder
 *     STATUS_READY ──────▶ created
 *     "go"         ◀────── criu restore, a child of the maker's
 *     STATUS_PROCESS ────▶ the container's process, which criu has left to the
 *     "go"         ◀────── maker, and the maker leaves to the keeper
 *     end          ──────▶ started
 *
 * criu makes the pid and the mount namespace as they were, takes from the folder
 * what comes from outside, and gives the processes the credentials, filters and
 * limits that they had: metadata/restore.h says why these are no others than
 * what is asked for. Network, IPC and UTS namespace, control group and streams
 * are those of this container.
 *
 * Failure: nothing has started, and what criu has made so far is killed with the
 * control group. The folder is as that of a checkpoint (checkpoint.h).
 */
#include "workers/keeper/backend.h"
#include "workers/keeper/container.h"

#include "base/fd.h"
#include "workers/keeper/checkpoint.h"
#include "workers/keeper/criu.h"
#include "workers/keeper/devices.h"
#include "workers/keeper/rootfs.h"
#include "workers/keeper/sys.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#define FOLDER_TRIES 100
#define FOLDER_PAUSE 10000000 /* ns */

struct maker {
	const struct container *container;
	const Bulkhead__TaskCreateRequest *task;
	const Grpc__Spec *spec;
	struct rootfs rootfs;
	struct user_ids user;
	int images, folder, status;
	int stdio[3];
	pid_t keeper;
	char folder_path[PATH_MAX], root_path[PATH_MAX + 8];
};

/* --- in the maker --- */

static void maker_close_others(const struct maker *m) {
	int keep[7 + ROOTFS_FDS_MAX] = { m->status,   m->images,   m->rootfs.root, m->rootfs.shm,
					 m->stdio[0], m->stdio[1], m->stdio[2] };
	become_close_others(keep, 7 + rootfs_fds(&m->rootfs, keep + 7));
}

static int groups_enter(const struct maker *m, struct fault *fault) {
	const struct container *c = m->container;
	int r = cgroup_enter_v1(&c->cgroup);
	if (r < 0)
		return fault_errno(fault, r, "enter the cgroup \"%s\"", c->cgroup.path);
	if (m->rootfs.cgroup_namespace && unshare(CLONE_NEWCGROUP) < 0)
		return fault_errno(fault, errno, "make a cgroup namespace");
	return 0;
}

/* An earlier criu that was killed may take a moment to be gone. */
static int folder_enter(struct maker *m, struct fault *fault) {
	const struct container *c = m->container;
	int r = -EAGAIN;
	for (int i = 0; r < 0 && i < FOLDER_TRIES; i++) {
		if (i > 0)
			nanosleep(&(struct timespec){ .tv_nsec = FOLDER_PAUSE }, NULL);
		r = checkpoint_folder(&c->keeper->config, c->id, CRIU_ROOT, &m->folder, fault);
	}
	return r;
}

static int root_make(struct maker *m, struct fault *fault) {
	const struct keeper_config *config = &m->container->keeper->config;
	int r = folder_enter(m, fault);
	if (r < 0)
		return r;
	snprintf(m->folder_path, sizeof(m->folder_path), "%s/%s", config->checkpoints, m->container->id);
	snprintf(m->root_path, sizeof(m->root_path), "%s/" CRIU_ROOT, m->folder_path);
	m->rootfs.place = m->root_path;
	r = user_resolve(m->rootfs.root, m->spec->process->user, container_strict_groups(m->spec), &m->user, fault);
	return r < 0 ? r : rootfs_enter(&m->rootfs, fault);
}

static bool taken(int status) {
	char go;
	ssize_t n;
	while ((n = recv(status, &go, 1, 0)) < 0 && errno == EINTR)
		;
	return n == 1;
}

static int processes_restore(const struct maker *m, struct fault *fault) {
	const Bulkhead__CheckpointPipes *pipes = m->task->restore;
	struct status s = { .kind = STATUS_PROCESS };
	CLEANUP_FD int pidfd = -1;
	const struct criu_restore restore = {
		.program = m->container->keeper->config.criu,
		.folder = m->folder_path,
		.root = m->root_path,
		.images = m->images,
		.held = m->folder,
		.shm = m->rootfs.shm,
		.host = m->keeper,
		.stdio = { m->stdio[0], m->stdio[1], m->stdio[2] },
		.numbers = { pipes->stdin, pipes->stdout, pipes->stderr },
	};
	int r = criu_restore(&restore, &s.pid, &pidfd, fault);
	if (r < 0)
		return r;
	s.user = m->user;
	/* Nobody there to take it: then nobody will ever end it. */
	if (!become_send(m->status, &s, sizeof(s), pidfd) || !taken(m->status))
		sys_pidfd_send_signal(pidfd, SIGKILL);
	return 0;
}

static void folder_leave(const struct maker *m) {
	if (m->folder < 0)
		return;
	umount2(m->root_path, MNT_DETACH | UMOUNT_NOFOLLOW);
	checkpoint_folder_remove(&m->container->keeper->config, m->container->id, m->folder);
}

static void maker_body(void *ctx) {
	struct maker *m = ctx;
	struct fault fault = { 0 };
	const struct become self = { .status = m->status, .wait = true };
	sigset_t none;
	maker_close_others(m);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	/* A successor of the keeper begins anew. */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	if (getppid() != m->keeper)
		_exit(PROCESS_FAILED);
	int r = groups_enter(m, &fault);
	if (r == 0)
		r = container_sysctls(m->container, m->spec, &fault);
	if (r == 0)
		r = root_make(m, &fault);
	if (r == 0) {
		become_ready(&self, &m->user);
		r = processes_restore(m, &fault);
	}
	folder_leave(m);
	if (r < 0)
		become_failed(m->status, &fault);
	_exit(0);
}

/* --- in the keeper --- */

static int check(const struct keeper *k, const Bulkhead__TaskCreateRequest *t, size_t n_fds, struct fault *fault) {
	if (n_fds < 2)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "a restore needs a root and images");
	if (k->pod.runtime || k->pod.vm)
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "only containers of the native runtime handler can be restored");
	if (k->pod.userns.fd >= 0)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "containers with a user namespace can't be restored");
	if (t->pid_mode != BULKHEAD__NAMESPACE_MODE__CONTAINER)
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "containers that share process ids with others can't be restored");
	if (t->spec->process->terminal || (t->stdio && t->stdio->terminal))
		return fault_set(fault, FAULT_UNIMPLEMENTED, "containers with a terminal can't be restored");
	return criu_check(k->config.criu, fault);
}

/* The maker's child becomes ours when it ends, and nothing else: what a restore
 * that failed leaves behind falls to the machine's init. */
int restore_take(struct container *c) {
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return -errno;
	return process_go(c->status);
}

void restore_over(struct container *c) {
	if (!c->restores)
		return;
	c->restores = false;
	checkpoint_sweep(&c->keeper->config);
	list_for_each (n, &c->keeper->containers)
		if (list_entry(n, struct container, node)->restores)
			return;
	prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
}

/* A restore that ended with an earlier keeper may have left something. */
static int group_check(const struct container *c, struct fault *fault) {
	if (!cgroup_populated(&c->cgroup))
		return 0;
	cgroup_kill(&c->cgroup);
	return fault_set(fault, FAULT_ABORTED, "an earlier restore of container \"%s\" is still ending", c->id);
}

int restore_create(struct container *c, struct msg_request *r, const Bulkhead__ContainerCreateRequest *request,
		   struct fault *fault) {
	struct keeper *k = c->keeper;
	const Bulkhead__TaskCreateRequest *t = request->task;
	CLEANUP_FD int status = -1;
	struct maker m = { .container = c,
			   .task = t,
			   .images = r->n_fds ? r->fds[r->n_fds - 1] : -1,
			   .folder = -1,
			   .stdio = { -1, -1, -1 },
			   .keeper = getpid() };
	struct spawn s = {
		.namespaces = CLONE_NEWNS, .pid_namespace_of = -1, .cgroup = &c->cgroup, .body = maker_body, .ctx = &m
	};
	int e = check(k, t, r->n_fds, fault);
	if (e == 0)
		e = devices_expand(&r->arena, t->spec, false, &m.spec, fault);
	if (e < 0)
		return e;
	m.rootfs = (struct rootfs){ .spec = m.spec,
				    .root = r->fds[0],
				    .volumes = r->fds + 1,
				    .n_volumes = r->n_fds - 2,
				    .bare = k->pod.bare,
				    .shm = k->pod.shm,
				    .run_dir = k->run_dir,
				    .cgroup = &c->cgroup,
				    .cgroup_namespace = spec_has_namespace(m.spec, "cgroup"),
				    .userns = &k->pod.userns };
	c->restores = c->restored = true;
	e = container_streams(c, t, m.stdio, fault);
	if (e == 0)
		e = container_group(c, m.spec, fault);
	if (e == 0)
		e = group_check(c, fault);
	if (e == 0 && (e = process_status_pair(&c->status, &status)) < 0)
		e = fault_errno(fault, e, "make a status socket");
	m.status = status;
	if (e == 0)
		e = process_spawn(&s, &c->pid, &c->pidfd, fault);
	for (int i = 0; i < 3; i++)
		fd_close(m.stdio[i]);
	return e;
}
