/*
 * The keepers' zygote: a worker as any other to the supervisor, small and idle,
 * whose one job is to fork keepers. It reads nothing but keeper_fork and
 * runtime_features, so that what its children inherit is clean.
 *
 * It is the subreaper of what keepers leave behind: containers of a killed
 * keeper become its children and it reaps them, after which the kernel tells
 * the successor their exit code by pidfd.
 */
#include "workers/keeper/zygote.h"

#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "msg/typed.h"
#include "workers/keeper/checkpoint.h"
#include "workers/keeper/features.h"
#include "workers/keeper/keeper.h"
#include "workers/keeper/sys.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

struct zygote {
	struct worker *worker;
	struct link *link; /* to the task worker */
	struct cgroup_system cgroups;
	struct keeper_config config;
	int signals;
	struct loop_source *signals_source;
};

static struct zygote zygote = { .signals = -1 };

/* --- forking --- */

static _Noreturn void child(struct zygote *z, const Bulkhead__KeeperForkRequest *m, int link_fd) {
	/* The copy of the zygote's ring goes; its descriptors go with the rest. */
	loop_free(z->worker->loop);
	if (link_fd != 3 && dup3(link_fd, 3, O_CLOEXEC) < 0)
		_exit(1);
	sys_close_range(4, ~0U, 0);
	prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
	setsid();
	keeper_main(&z->config, m->sandbox_id, m->run_dir, 3);
}

static void on_keeper_fork(struct zygote *z, struct msg_request *r, const Bulkhead__KeeperForkRequest *m) {
	Bulkhead__KeeperForkReply reply = BULKHEAD__KEEPER_FORK_REPLY__INIT;
	if (m->ahead ? m->sandbox_id[0] || m->run_dir[0] : !id_valid(m->sandbox_id) || m->run_dir[0] != '/') {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "a keeper needs an id and a run folder");
		return;
	}
	pid_t pid = fork();
	if (pid == 0)
		child(z, m, r->fds[0]);
	if (pid < 0) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "fork a keeper: %s", strerrordesc_np(errno));
		return;
	}
	reply.pid = pid;
	keeper_fork_reply(r, &reply, NULL, 0);
}

static void on_runtime_features(struct zygote *z, struct msg_request *r, const Bulkhead__RuntimeFeaturesRequest *m) {
	for (size_t i = 0; i < z->config.n_runtimes; i++)
		if (strcmp(z->config.runtimes[i].name, m->name) == 0) {
			features_ask(z->worker->loop, &z->config.runtimes[i], r);
			return;
		}
	msg_failf(r, FAULT_NOT_FOUND, "no runtime \"%.64s\" is configured", m->name);
}

#define TO_ZYGOTE(name) HANDLER_DEFINE(struct zygote, name)
#include "msg/receivers.def"

static const struct link_handler handlers[] = {
#define TO_ZYGOTE(name) HANDLER(name),
#include "msg/receivers.def"
	{ 0 },
};

/* --- reaping --- */

static void reap(void *ctx, uint32_t events) {
	struct zygote *z = ctx;
	struct signalfd_siginfo info;
	while (read(z->signals, &info, sizeof(info)) == sizeof(info))
		;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static int reaping_start(struct zygote *z) {
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 || sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	z->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (z->signals < 0)
		return -errno;
	int r = loop_poll(z->worker->loop, z->signals, POLLIN, reap, z, &z->signals_source);
	if (r == 0)
		reap(z, 0);
	return r;
}

/* --- the worker --- */

static void config_take(struct zygote *z) {
	const struct boot_config *c = &z->worker->config;
	z->config.cgroups = &z->cgroups;
	z->config.log_line_max = c->log_line_max;
	snprintf(z->config.criu, sizeof(z->config.criu), "%s", c->criu);
	snprintf(z->config.checkpoints, sizeof(z->config.checkpoints), "%s/checkpoints", c->state_root);
	z->config.runtimes = c->runtimes;
	z->config.n_runtimes = MIN(c->n_runtimes, (uint32_t)BOOT_RUNTIMES_MAX);
	z->config.log_binaries = c->log_binaries;
	z->config.n_log_binaries = MIN(c->n_log_binaries, (uint32_t)BOOT_RUNTIMES_MAX);
	z->config.vm = &c->vm;
	snprintf(z->config.cgroup_parent, sizeof(z->config.cgroup_parent), "%s", c->cgroup_parent);
}

static int prepare(struct worker *w) {
	struct zygote *z = &zygote;
	z->worker = w;
	w->state = z;
	int r = cgroup_system_detect(&z->cgroups);
	if (r < 0)
		log_text(LOG_ERROR, "read the mount table: %s", strerrordesc_np(-r));
	return r;
}

static void link_down(void *worker, struct link *l, bool violation, const char *text) {
	if (violation)
		log_event(LOG_ERROR, "the task worker broke the protocol", "why", text, NULL);
}

static int serve(struct worker *w) {
	struct zygote *z = w->state;
	struct link_options options = {
		.loop = w->loop,
		.self = ROLE_KEEPER,
		.peer = ROLE_TASK,
		.handlers = handlers,
		.worker = z,
		.on_down = link_down,
	};
	config_take(z);
	checkpoint_sweep(&z->config);
	int r = link_new(&options, &z->link);
	return r < 0 ? r : reaping_start(z);
}

static void task_arrived(struct worker *w, int fd) {
	struct zygote *z = w->state;
	int r = link_attach_socket(z->link, fd);
	if (r < 0)
		log_text(LOG_ERROR, "link to the task worker: %s", strerrordesc_np(-r));
}

static void reload(struct worker *w) {
	config_take(w->state);
}

/* Keepers live on. The default parent of their groups goes if they are gone. */
static void stop(struct worker *w) {
	struct zygote *z = w->state;
	cgroup_remove_empty(&z->cgroups, z->config.cgroup_parent);
	worker_exit(w, 0);
}

static const enum role peers[] = { ROLE_SUPERVISOR };

const struct worker_class zygote_class = {
	.role = ROLE_KEEPER,
	.loop = { .entries = 8 },
	.peers = peers,
	.prepare = prepare,
	.serve = serve,
	.zygote = task_arrived,
	.reload = reload,
	.stop = stop,
};
