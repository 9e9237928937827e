#include "workers/keeper/backend.h"
#include "workers/keeper/checkpoint.h"
#include "workers/keeper/container.h"

#include "base/fd.h"
#include "base/log.h"
#include "workers/keeper/checkpoint.h"
#include "workers/keeper/proc.h"

#include <poll.h>
#include <string.h>

#define WARNINGS_MAX 32

struct container *container_find(const struct keeper *k, const char *id) {
	list_for_each (n, &k->containers) {
		struct container *c = list_entry(n, struct container, node);
		if (strcmp(c->id, id) == 0)
			return c;
	}
	return NULL;
}

int container_new(struct keeper *k, const char *id, struct container **ret_container) {
	struct container *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->id = strdup(id);
	if (!c->id) {
		free(c);
		return -ENOMEM;
	}
	c->keeper = k;
	c->pidfd = c->status = c->stdin_fd = c->maker = c->oom.fd = -1;
	list_init(&c->waits);
	list_init(&c->execs);
	list_init(&c->attachments);
	list_append(&k->containers, &c->node);
	*ret_container = c;
	return 0;
}

void container_free(struct container *c) {
	if (!c)
		return;
	list_unlink(&c->node);
	exec_free_all(c);
	attach_end_all(c);
	checkpoint_drop(c->checkpoint);
	loop_source_free(c->exit_source);
	loop_source_free(c->exit_timer);
	loop_source_free(c->status_source);
	stdio_free(c->stdio);
	log_free(c->log);
	restore_over(c);
	/* What was criu's when its maker died. */
	if (c->restored)
		checkpoint_sweep(&c->keeper->config);
	loop_source_free(c->maker_source);
	fd_close(c->maker);
	fd_close(c->pidfd);
	fd_close(c->status);
	fd_close(c->stdin_fd);
	oom_watch_end(c);
	hold_end(c);
	keeper_bury(c->keeper, &c->cgroup);
	buffer_deinit(&c->process);
	buffer_deinit(&c->seccomp);
	for (size_t i = 0; i < c->n_warnings; i++)
		free(c->warnings[i]);
	free(c->warnings);
	free(c->failed);
	free(c->user);
	free(c->log_path);
	free(c->id);
	free(c);
}

void container_warn(void *container, const char *text) {
	struct container *c = container;
	if (c->n_warnings == WARNINGS_MAX)
		return;
	for (size_t i = 0; i < c->n_warnings; i++)
		if (strcmp(c->warnings[i], text) == 0)
			return;
	char **more = realloc(c->warnings, (c->n_warnings + 1) * sizeof(*more));
	if (!more)
		return;
	c->warnings = more;
	char *copy = strdup(text);
	if (copy)
		c->warnings[c->n_warnings++] = copy;
}

void container_unwarn(struct container *c, const char *beginning) {
	size_t kept = 0;
	for (size_t i = 0; i < c->n_warnings; i++) {
		if (strncmp(c->warnings[i], beginning, strlen(beginning)) == 0)
			free(c->warnings[i]);
		else
			c->warnings[kept++] = c->warnings[i];
	}
	c->n_warnings = kept;
}

struct container *container_of_request(struct keeper *k, struct msg_request *r, const char *id) {
	struct container *c = container_find(k, id);
	if (!c)
		msg_failf(r, FAULT_NOT_FOUND, "no container \"%.80s\" in pod sandbox \"%.80s\"", id, k->id);
	return c;
}

int container_enterable(const struct container *c, struct fault *fault) {
	if (c->state == CONTAINER_RUNNING && !c->frozen)
		return 0;
	return fault_set(fault, FAULT_FAILED_PRECONDITION, "container \"%.80s\" %s", c->id,
			 c->frozen ? "is paused" : "does not run");
}

bool container_leaving(const struct container *c) {
	struct pollfd end = { .fd = c->pidfd, .events = POLLIN };
	uint64_t flags;
	if (c->state == CONTAINER_EXITED || poll(&end, 1, 0) > 0)
		return true;
	/* It lets go of its namespaces first, and is gone only when all others
	 * in its pid namespace are. */
	return proc_stat(c->pid, PROC_STAT_FLAGS, &flags) < 0 || flags & PROC_EXITING;
}

int container_fault(const struct container *c, int r, struct fault *fault) {
	if (!container_leaving(c))
		return r;
	fault->code = FAULT_FAILED_PRECONDITION;
	return fault_prefix(fault, r, "container \"%.80s\" isn't running any more", c->id);
}

bool container_shares_pids(const struct container *c) {
	return c->pid_mode != BULKHEAD__NAMESPACE_MODE__CONTAINER;
}

void container_exit(const struct container *c, Bulkhead__TaskExit *ret_exit) {
	*ret_exit = (Bulkhead__TaskExit)BULKHEAD__TASK_EXIT__INIT;
	ret_exit->sandbox_id = c->keeper->id;
	ret_exit->container_id = c->id;
	ret_exit->pid = c->pid;
	ret_exit->exit_code = c->exit_code;
	ret_exit->finished_at = c->finished_at;
	ret_exit->ooms = c->oom.times;
}

void container_created_reply(struct msg_request *r, struct container *c) {
	Bulkhead__TaskCreateReply created = BULKHEAD__TASK_CREATE_REPLY__INIT;
	Bulkhead__ContainerCreateReply reply = BULKHEAD__CONTAINER_CREATE_REPLY__INIT;
	Grpc__User user = GRPC__USER__INIT;
	created.pid = c->pid;
	created.created_at = c->created_at;
	created.started_at = c->started_at;
	created.warnings = c->warnings;
	created.n_warnings = c->n_warnings;
	created.cgroup_path = c->cgroup.path;
	if (c->user) {
		user.uid = c->user->uid;
		user.gid = c->user->gid;
		user.additionalgids = c->user->groups;
		user.n_additionalgids = c->user->n_groups;
		created.user = &user;
	}
	reply.created = &created;
	/* Both rows answer with the same message. */
	container_create_reply(r, &reply, NULL, 0);
}

void container_vault(struct container *c) {
	/* With stdin_once nobody but its one reader-to-be may hold it open. */
	int in = c->stdin_once ? -1 : c->stdin_fd;
	int fds[VAULT_FDS_MAX] = { c->pidfd, -1, -1, -1, in, c->status, -1, -1, -1, -1, -1, -1 };
	if (c->stdio)
		stdio_fds(c->stdio, fds + VAULT_STDIO);
	if (c->log) {
		fds[1] = log_fd(c->log, LOG_STDOUT);
		fds[2] = log_fd(c->log, LOG_STDERR);
		fds[3] = log_tail(c->log);
	}
	vault_put(c->keeper, VAULT_CONTAINER, c->id, fds);
}

void on_container_reopen_log(struct keeper *k, struct msg_request *r, const Bulkhead__TaskKey *m) {
	struct fault fault = { 0 };
	struct container *c = container_of_request(k, r, m->container_id);
	if (!c)
		return;
	if (c->state == CONTAINER_EXITED || !c->log) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "container \"%.80s\" does not run", c->id);
		return;
	}
	if (log_reopen(c->log, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	container_reopen_log_reply(r, &done, NULL, 0);
}
