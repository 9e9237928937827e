/* What is known of the pod, as the task worker asks for it and as a successor
 * reads it from the run folder. */
#include "workers/keeper/container.h"

#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define STATE_MAX (16 * 1024 * 1024)

static const Bulkhead__TaskState states[] = {
	[CONTAINER_CREATING] = BULKHEAD__TASK_STATE__TASK_CREATED,
	[CONTAINER_CREATED] = BULKHEAD__TASK_STATE__TASK_CREATED,
	[CONTAINER_STARTING] = BULKHEAD__TASK_STATE__TASK_CREATED,
	[CONTAINER_RUNNING] = BULKHEAD__TASK_STATE__TASK_RUNNING,
	[CONTAINER_EXITED] = BULKHEAD__TASK_STATE__TASK_EXITED,
};

static Bulkhead__TaskInfo *task_info(const struct container *c, struct arena *a) {
	Bulkhead__TaskInfo *t = arena_alloc(a, sizeof(*t));
	Bulkhead__TaskExit *exit = arena_alloc(a, sizeof(*exit));
	Grpc__User *user = arena_alloc(a, sizeof(*user));
	if (!t || !exit || !user)
		return NULL;
	*t = (Bulkhead__TaskInfo)BULKHEAD__TASK_INFO__INIT;
	t->container_id = c->id;
	t->state = states[c->state];
	t->pid = c->pid;
	t->created_at = c->created_at;
	t->started_at = c->started_at;
	t->warnings = c->warnings;
	t->n_warnings = c->n_warnings;
	if (c->state == CONTAINER_EXITED) {
		container_exit(c, exit);
		t->exit = exit;
	}
	if (c->user) {
		*user = (Grpc__User)GRPC__USER__INIT;
		user->uid = c->user->uid;
		user->gid = c->user->gid;
		user->additionalgids = c->user->groups;
		user->n_additionalgids = c->user->n_groups;
		t->user = user;
	}
	return t;
}

static size_t count(const struct keeper *k) {
	size_t n = 0;
	list_for_each(node, &k->containers) n++;
	return n;
}

Bulkhead__SandboxInfo *state_info(const struct keeper *k, struct arena *a) {
	Bulkhead__SandboxInfo *info = arena_alloc(a, sizeof(*info));
	Bulkhead__TaskInfo **tasks = arena_alloc(a, (count(k) + 1) * sizeof(*tasks));
	if (!info || !tasks)
		return NULL;
	*info = (Bulkhead__SandboxInfo)BULKHEAD__SANDBOX_INFO__INIT;
	info->id = k->id;
	info->started = k->pod.started;
	info->network_ready = k->pod.network_ready;
	info->tasks = tasks;
	list_for_each(n, &k->containers) {
		struct container *c = list_entry(n, struct container, node);
		/* Who asked for it is still waiting, or has given it up. */
		if (c->state == CONTAINER_CREATING)
			continue;
		tasks[info->n_tasks] = task_info(c, a);
		if (!tasks[info->n_tasks++])
			return NULL;
	}
	return info;
}

void on_keeper_state(struct keeper *k, struct msg_request *r, const Bulkhead__Empty *m) {
	Bulkhead__KeeperStateReply reply = BULKHEAD__KEEPER_STATE_REPLY__INIT;
	reply.info = state_info(k, &r->arena);
	if (!reply.info)
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "out of memory for the pod's state");
	else
		keeper_state_reply(r, &reply, NULL, 0);
}

/* --- the file --- */

static Bulkhead__ContainerSaved *container_saved(const struct container *c, struct arena *a) {
	Bulkhead__ContainerSaved *s = arena_alloc(a, sizeof(*s));
	if (!s)
		return NULL;
	*s = (Bulkhead__ContainerSaved)BULKHEAD__CONTAINER_SAVED__INIT;
	s->info = task_info(c, a);
	s->process.data = c->process.data;
	s->process.len = c->process.size;
	s->seccomp_program.data = c->seccomp.data;
	s->seccomp_program.len = c->seccomp.size;
	s->seccomp_flags = c->seccomp_flags;
	s->cgroup_path = (char *)c->cgroup.path;
	s->log_path = c->log_path ? c->log_path : (char *)"";
	s->pid_mode = c->pid_mode;
	s->terminal = c->terminal;
	s->stop_signal = c->stop_signal;
	s->starting = c->state == CONTAINER_STARTING || c->state == CONTAINER_CREATING;
	s->execs = c->n_execs;
	return s->info ? s : NULL;
}

static Bulkhead__KeeperSaved *keeper_saved(const struct keeper *k, struct arena *a) {
	const struct pod *p = &k->pod;
	Bulkhead__KeeperSaved *s = arena_alloc(a, sizeof(*s));
	if (!s)
		return NULL;
	*s = (Bulkhead__KeeperSaved)BULKHEAD__KEEPER_SAVED__INIT;
	s->sandbox_id = k->id;
	s->network = p->network;
	s->pid = p->pid;
	s->ipc = p->ipc;
	s->host_uts = p->host_uts;
	s->cgroup_path = (char *)p->cgroup_path;
	s->cgroup_owned = p->cgroup_owned;
	s->started = p->started;
	s->network_ready = p->network_ready;
	s->init_pid = p->init_pid;
	s->log_line_max = (uint32_t)k->config.log_line_max;
	s->containers = arena_alloc(a, (count(k) + 1) * sizeof(*s->containers));
	if (!s->containers)
		return NULL;
	list_for_each(n, &k->containers) {
		s->containers[s->n_containers] = container_saved(list_entry(n, struct container, node), a);
		if (!s->containers[s->n_containers++])
			return NULL;
	}
	return s;
}

static int file_write(const struct keeper *k, const uint8_t *data, size_t size) {
	char path[PATH_MAX], temporary[PATH_MAX];
	snprintf(path, sizeof(path), "%s/state", k->run_dir);
	snprintf(temporary, sizeof(temporary), "%s/state.new", k->run_dir);
	CLEANUP_FD int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : fd_write_all(fd, data, size);
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	return r;
}

void state_save(const struct keeper *k) {
	struct arena a;
	CLEANUP_FREE uint8_t *data = NULL;
	int r = -ENOMEM;
	/* After the teardown there is no state to find. */
	if (k->quitting)
		return;
	arena_init(&a, 0);
	Bulkhead__KeeperSaved *s = keeper_saved(k, &a);
	size_t size = s ? bulkhead__keeper_saved__get_packed_size(s) : 0;
	if (s && (data = malloc(size + 1))) {
		bulkhead__keeper_saved__pack(s, data);
		r = file_write(k, data, size);
	}
	arena_deinit(&a);
	if (r < 0)
		log_event(LOG_WARN, "the pod's state can't be written", "pod", k->id, "why", strerrordesc_np(-r), NULL);
}

int state_load(const char *run_dir, struct arena *a, Bulkhead__KeeperSaved **ret_saved) {
	char path[PATH_MAX];
	CLEANUP_FREE char *data = NULL;
	size_t size;
	snprintf(path, sizeof(path), "%s/state", run_dir);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int r = fd < 0 ? -errno : fd_read_all(fd, STATE_MAX, &data, &size);
	if (r < 0)
		return r;
	/* The request's arena is sized for the request. */
	a->limit = 0;
	*ret_saved = (Bulkhead__KeeperSaved *)msg_decode(&bulkhead__keeper_saved__descriptor, a, (uint8_t *)data, size);
	return *ret_saved ? 0 : -EBADMSG;
}
