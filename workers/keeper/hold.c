/*
 * With the systemd driver a scope ends as soon as systemd sees that nothing is
 * in it, and why the container ended may then be gone before it was read. So a
 * process that does nothing stays in there until it was: in a group of its own
 * below the scope, and in the v2 hierarchy alone, where systemd looks.
 *
 * When the keeper is killed it stays on, for the successor, which removes it
 * with whatever else is in the container's group.
 */
#include "workers/keeper/container.h"

#include "base/fd.h"
#include "base/log.h"
#include "workers/keeper/process.h"
#include "workers/keeper/sys.h"
#include "workers/keeper/title.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static void hold_body(void *ctx) {
	const struct container *c = ctx;
	int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	/* Killed with the container for want of memory it would be of no use. */
	if (score >= 0)
		(void)fd_write_all(score, "-1000", 5);
	title_set("bulkhead-hold", c->id);
	setsid();
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	sys_close_range(0, ~0U, 0);
	if (chdir("/") < 0)
		_exit(1);
	for (;;)
		pause();
}

void hold_begin(struct container *c) {
	const struct keeper *k = c->keeper;
	struct cgroup group;
	struct fault fault = { 0 };
	int pidfd = -1;
	struct spawn s = { .pid_namespace_of = -1, .cgroup = &group, .body = hold_body, .ctx = c };
	if (!k->pod.cgroup_scope[0] || k->config.cgroups->v2 < 0 || c->holder > 0)
		return;
	int r = cgroup_create_sub(&c->cgroup, CGROUP_HOLD, &group);
	if (r < 0)
		fault_errno(&fault, r, "make a cgroup");
	else
		r = process_spawn(&s, &c->holder, &pidfd, &fault);
	if (r < 0)
		log_event(LOG_WARN, "an end for want of memory may not be told as such", "container", c->id, "why",
			  fault.text, NULL);
	fd_close(pidfd);
}

void hold_end(struct container *c) {
	siginfo_t info;
	if (c->holder <= 0)
		return;
	kill(c->holder, SIGKILL);
	waitid(P_PID, (id_t)c->holder, &info, WEXITED);
	c->holder = 0;
}
