/* What is known of the pod, as the task worker asks for it and as a successor
 * reads it from the run folder. */
#include "workers/keeper/exec.h"

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

static Bulkhead__ExecInfo *exec_info(const struct exec *e, struct arena *a) {
	Bulkhead__ExecInfo *i = arena_alloc(a, sizeof(*i));
	Bulkhead__TaskExit *exit = arena_alloc(a, sizeof(*exit));
	if (!i || !exit)
		return NULL;
	*i = (Bulkhead__ExecInfo)BULKHEAD__EXEC_INFO__INIT;
	i->exec_id = e->name;
	i->pid = e->pid;
	i->started_at = e->started_at;
	if (e->over) {
		named_exit(e, exit);
		i->exit = exit;
	}
	return i;
}

static bool is_named(const struct exec *e) {
	return e->name && !e->unwanted;
}

static size_t named_count(const struct container *c) {
	size_t n = 0;
	list_for_each (x, &c->execs)
		n += is_named(list_entry(x, struct exec, node));
	return n;
}

static bool execs_info(const struct container *c, struct arena *a, Bulkhead__TaskInfo *t) {
	t->execs = arena_alloc(a, (named_count(c) + 1) * sizeof(*t->execs));
	if (!t->execs)
		return false;
	list_for_each (x, &c->execs) {
		const struct exec *e = list_entry(x, struct exec, node);
		if (is_named(e) && !(t->execs[t->n_execs++] = exec_info(e, a)))
			return false;
	}
	return true;
}

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
	t->frozen = c->frozen;
	t->ooms = c->oom.times;
	if (!execs_info(c, a, t))
		return NULL;
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
	list_for_each (node, &k->containers)
		n++;
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
	list_for_each (n, &k->containers) {
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

/*
 * --- the files ---
 *
 * Two, written in turns and in place: making a new inode for each change would
 * cost more than all else that is done for it. Whoever reads takes the newer
 * one that is whole; a keeper killed in the middle of a write leaves the other.
 */

static Bulkhead__ExecSaved *exec_saved(const struct exec *e, Bulkhead__ExecInfo *info, struct arena *a) {
	Bulkhead__ExecSaved *s = arena_alloc(a, sizeof(*s));
	if (!s)
		return NULL;
	*s = (Bulkhead__ExecSaved)BULKHEAD__EXEC_SAVED__INIT;
	s->info = info;
	s->number = e->number;
	s->terminal = e->terminal;
	if (e->stdio) {
		s->stdio = (Bulkhead__Stdio *)stdio_message(e->stdio);
		s->stdin_closed = stdio_input_closed(e->stdio);
	}
	return s;
}

/* Their infos go with what else is known of them. */
static bool execs_saved(const struct container *c, struct arena *a, Bulkhead__ContainerSaved *s) {
	size_t i = 0;
	s->named = arena_alloc(a, (s->info->n_execs + 1) * sizeof(*s->named));
	if (!s->named)
		return false;
	list_for_each (x, &c->execs) {
		const struct exec *e = list_entry(x, struct exec, node);
		if (is_named(e) && !(s->named[s->n_named++] = exec_saved(e, s->info->execs[i++], a)))
			return false;
	}
	s->info->n_execs = 0;
	return true;
}

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
	s->stdin = c->takes_stdin;
	s->stdin_once = c->stdin_once;
	s->stop_signal = c->stop_signal;
	s->starting = c->state == CONTAINER_STARTING || c->state == CONTAINER_CREATING;
	s->execs = c->n_execs;
	s->restores = c->restores;
	s->oom_kills = c->oom.kills;
	if (c->stdio) {
		s->stdio = (Bulkhead__Stdio *)stdio_message(c->stdio);
		s->stdin_closed = stdio_input_closed(c->stdio);
	}
	return s->info && execs_saved(c, a, s) ? s : NULL;
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
	s->bare = p->bare;
	s->namespace_ = p->namespace ? p->namespace : (char *)"";
	s->cgroup_path = (char *)p->cgroup_path;
	s->cgroup_owned = p->cgroup_owned;
	s->cgroup_scope = (char *)p->cgroup_scope;
	s->runtime = p->vm ? (char *)BOOT_VM_HANDLER : p->runtime ? p->runtime : (char *)"";
	s->started = p->started;
	s->network_ready = p->network_ready;
	s->init_pid = p->init_pid;
	s->log_line_max = (uint32_t)k->config.log_line_max;
	if (p->userns.fd >= 0) {
		s->root = arena_alloc(a, sizeof(*s->root));
		if (!s->root)
			return NULL;
		*s->root = (Bulkhead__IdMapping)BULKHEAD__ID_MAPPING__INIT;
		s->root->host_id = p->userns.uid;
		s->root_gid = p->userns.gid;
	}
	s->containers = arena_alloc(a, (count(k) + 1) * sizeof(*s->containers));
	if (!s->containers)
		return NULL;
	list_for_each (n, &k->containers) {
		s->containers[s->n_containers] = container_saved(list_entry(n, struct container, node), a);
		if (!s->containers[s->n_containers++])
			return NULL;
	}
	return s;
}

/* In front of the packed message. */
struct state_head {
	uint32_t magic, size;
	uint64_t sequence, sum;
};
#define STATE_MAGIC 0x62686b73 /* "bhks" */

static const char *const file_names[2] = { "state.0", "state.1" };

static uint64_t checksum(const uint8_t *data, size_t size) {
	uint64_t sum = UINT64_C(0xcbf29ce484222325);
	for (size_t i = 0; i < size; i++)
		sum = (sum ^ data[i]) * UINT64_C(0x100000001b3);
	return sum;
}

static int file_open(const struct keeper *k, int i) {
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", k->run_dir, file_names[i]);
	int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

static int file_write(struct keeper *k, uint8_t *data, size_t size) {
	struct state_head head = { .magic = STATE_MAGIC, .size = (uint32_t)size, .sequence = ++k->state_sequence };
	int i = (int)(head.sequence & 1);
	if (k->state[i] < 0)
		k->state[i] = file_open(k, i);
	if (k->state[i] < 0)
		return k->state[i];
	head.sum = checksum(data + sizeof(head), size);
	memcpy(data, &head, sizeof(head));
	size_t whole = sizeof(head) + size;
	ssize_t n = pwrite(k->state[i], data, whole, 0);
	return n < 0 ? -errno : (size_t)n < whole ? -ENOSPC : 0;
}

void state_save(struct keeper *k) {
	struct arena a;
	CLEANUP_FREE uint8_t *data = NULL;
	int r = -ENOMEM;
	/* After the teardown there is no state to find. */
	if (k->quitting)
		return;
	arena_init(&a, 0);
	Bulkhead__KeeperSaved *s = keeper_saved(k, &a);
	size_t size = s ? bulkhead__keeper_saved__get_packed_size(s) : 0;
	if (s && (data = malloc(sizeof(struct state_head) + size))) {
		bulkhead__keeper_saved__pack(s, data + sizeof(struct state_head));
		r = file_write(k, data, size);
	}
	arena_deinit(&a);
	if (r < 0)
		log_event(LOG_WARN, "the pod's state can't be written", "pod", k->id, "why", strerrordesc_np(-r), NULL);
}

/* 0 and the file's content when it is whole. */
static int file_read(const char *run_dir, int i, char **ret_data, struct state_head *ret_head) {
	char path[PATH_MAX];
	CLEANUP_FREE char *data = NULL;
	size_t size;
	snprintf(path, sizeof(path), "%s/%s", run_dir, file_names[i]);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int r = fd < 0 ? -errno : fd_read_all(fd, STATE_MAX, &data, &size);
	if (r < 0)
		return r;
	if (size < sizeof(*ret_head))
		return -EBADMSG;
	memcpy(ret_head, data, sizeof(*ret_head));
	if (ret_head->magic != STATE_MAGIC || ret_head->size > size - sizeof(*ret_head) ||
	    ret_head->sum != checksum((uint8_t *)data + sizeof(*ret_head), ret_head->size))
		return -EBADMSG;
	*ret_data = take_ptr(data);
	return 0;
}

int state_load(const char *run_dir, struct arena *a, Bulkhead__KeeperSaved **ret_saved, uint64_t *ret_sequence) {
	CLEANUP_FREE char *first = NULL;
	CLEANUP_FREE char *second = NULL;
	struct state_head heads[2] = { 0 };
	int r = file_read(run_dir, 0, &first, &heads[0]);
	int e = file_read(run_dir, 1, &second, &heads[1]);
	if (r < 0 && e < 0)
		return r == -ENOENT ? e : r;
	bool newer = r < 0 || (e == 0 && heads[1].sequence > heads[0].sequence);
	const uint8_t *data = (uint8_t *)(newer ? second : first);
	/* The request's arena is sized for the request. */
	a->limit = 0;
	*ret_saved = (Bulkhead__KeeperSaved *)msg_decode(&bulkhead__keeper_saved__descriptor, a,
							 data + sizeof(struct state_head), heads[newer].size);
	*ret_sequence = heads[newer].sequence;
	return *ret_saved ? 0 : -EBADMSG;
}

void state_forget(struct keeper *k) {
	char path[PATH_MAX];
	for (int i = 0; i < 2; i++) {
		fd_replace(&k->state[i], -1);
		snprintf(path, sizeof(path), "%s/%s", k->run_dir, file_names[i]);
		unlink(path);
	}
}
