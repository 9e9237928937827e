/*
 * The init of a pod's shared pid namespace: a copy of the keeper that holds
 * nothing and reaps what its children leave behind. It lives until it is
 * killed; then the kernel ends all that is in the namespace.
 */
#include "workers/keeper/keeper.h"

#include "base/fd.h"
#include "workers/keeper/process.h"
#include "workers/keeper/sys.h"
#include "workers/keeper/title.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* How long the keeper does nothing else while the namespace ends. */
#define INIT_PATIENCE_MS 20

static void init_body(void *ctx) {
	const struct keeper *k = ctx;
	sigset_t all;
	siginfo_t info;
	title_set("bulkhead-init", k->id);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setsid();
	cgroup_enter_v1(&k->pod.init_cgroup);
	struct fault ignored;
	if (k->pod.userns.fd >= 0 && userns_become_root(&ignored) < 0)
		_exit(1);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	sys_close_range(0, ~0U, 0);
	if (chdir("/") < 0)
		_exit(1);
	for (;;) {
		while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) == 0 && info.si_pid > 0)
			info.si_pid = 0;
		sigwaitinfo(&all, &info);
		info.si_pid = 0;
	}
}

static const char *init_parent(const struct pod *p) {
	return p->cgroup_scope[0] ? p->cgroup_scope : p->cgroup_path;
}

void pod_init_group(const struct keeper *k, char ret_path[CGROUP_PATH_MAX]) {
	snprintf(ret_path, CGROUP_PATH_MAX, "%.*s/%s", CGROUP_PATH_MAX - 80, init_parent(&k->pod), k->id);
}

int pod_init_ensure(struct keeper *k, struct fault *fault) {
	struct pod *p = &k->pod;
	struct cgroup parent = { .system = k->config.cgroups };
	struct spawn s = { .namespaces = CLONE_NEWPID,
			   .pid_namespace_of = -1,
			   .body = init_body,
			   .ctx = k,
			   .cgroup = &p->init_cgroup,
			   .userns = &p->userns };
	if (p->init >= 0)
		return 0;
	/* Only to be found again: it uses nothing worth limiting. */
	snprintf(parent.path, sizeof(parent.path), "%s", init_parent(p));
	parent.made = k->config.cgroups->tracker >= 0 ? 1U << k->config.cgroups->tracker : 0;
	int r = cgroup_create_sub(&parent, k->id, &p->init_cgroup);
	if (r < 0 && r != -ENODEV)
		return fault_errno(fault, r, "make the pod's cgroup");
	r = process_spawn(&s, &p->init_pid, &p->init, fault);
	if (r < 0) {
		cgroup_remove(&p->init_cgroup);
		return fault_prefix(fault, r, "make the pod's pid namespace");
	}
	vault_put_pod(k);
	state_save(k);
	return 0;
}

bool pod_init_end(struct keeper *k) {
	struct pod *p = &k->pod;
	siginfo_t info = { 0 };
	if (p->init < 0)
		return true;
	sys_pidfd_send_signal(p->init, SIGKILL);
	/* Ends when all of its namespace has, and that may wait for children of
	 * ours to be reaped: so never without a bound. */
	struct pollfd end = { .fd = p->init, .events = POLLIN };
	poll(&end, 1, INIT_PATIENCE_MS);
	/* A successor isn't its parent: an error is an end. */
	if (waitid(P_PIDFD, (id_t)p->init, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0)
		return false;
	fd_replace(&p->init, -1);
	keeper_bury(k, &p->init_cgroup);
	return true;
}
