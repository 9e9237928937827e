/*
 * A successor takes over the pod of a killed keeper: what it was, from the
 * state in the run folder; what it held, from the vault. Its containers are not
 * our children: their end is seen by pidfd, and their exit code is what the
 * kernel keeps with the pidfd once their reaper has reaped them.
 */
#include "workers/keeper/backend.h"
#include "workers/keeper/cut.h"
#include "workers/keeper/exec.h"
#include "workers/keeper/vault.h"
#include "workers/keeper/vm/vm.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "workers/keeper/exitcode.h"
#include "workers/keeper/sys.h"

#include <stdio.h>
#include <string.h>

#define UNKNOWN_EXIT 255

/* What the vault says of one container in the end. */
struct held {
	struct list node;
	char id[80];
	int fds[VAULT_FDS_MAX];
};

struct adoption {
	struct keeper *keeper;
	int pod[VAULT_FDS_MAX];
	struct list held;
};

static void fds_close(int fds[VAULT_FDS_MAX]) {
	for (size_t i = 0; i < VAULT_FDS_MAX; i++)
		fd_replace(&fds[i], -1);
}

static struct held *held_find(struct adoption *a, const char *id) {
	list_for_each (n, &a->held) {
		struct held *h = list_entry(n, struct held, node);
		if (strcmp(h->id, id) == 0)
			return h;
	}
	return NULL;
}

static void held_put(struct adoption *a, const struct vault_packet *p, int fds[VAULT_FDS_MAX]) {
	struct held *h = held_find(a, p->id);
	if (!h && (h = calloc(1, sizeof(*h)))) {
		snprintf(h->id, sizeof(h->id), "%s", p->id);
		memset(h->fds, -1, sizeof(h->fds));
		list_append(&a->held, &h->node);
	}
	if (!h) {
		fds_close(fds);
		return;
	}
	fds_close(h->fds);
	memcpy(h->fds, fds, sizeof(h->fds));
}

static void vault_read(struct adoption *a, int vault) {
	struct vault_packet p = { 0 };
	int fds[VAULT_FDS_MAX];
	while (vault_take(vault, &p, fds) == 1) {
		struct held *h;
		switch (p.kind) {
		case VAULT_POD:
			fds_close(a->pod);
			memcpy(a->pod, fds, sizeof(a->pod));
			break;
		case VAULT_CONTAINER:
			held_put(a, &p, fds);
			break;
		default:
			fds_close(fds);
			h = held_find(a, p.id);
			if (h)
				fds_close(h->fds);
		}
	}
}

/* --- the pod --- */

/* A process of the dead keeper's, when no descriptor says which: the number may
 * be a stranger's by now, but strangers aren't in its control group. */
static int pidfd_find(const struct cgroup *c, pid_t pid) {
	if (!cgroup_holds(c, pid))
		return -1;
	CLEANUP_FD int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	return cgroup_holds(c, pid) ? take_fd(&fd) : -1;
}

static int namespaces_join(struct keeper *k, int fds[VAULT_FDS_MAX], struct fault *fault) {
	static const int kinds[] = { CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS };
	bool all = true;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		all &= fds[i] >= 0;
		if (fds[i] >= 0 && setns(fds[i], kinds[i]) < 0)
			return fault_errno(fault, errno, "join the pod's namespaces");
	}
	k->pod.inside = all;
	return 0;
}

/* Without the vault a container that lives shows the way into the pod; without
 * one the pod's namespaces are gone. */
static int namespaces_search(struct keeper *k, const Bulkhead__KeeperSaved *s, struct fault *fault) {
	for (size_t i = 0; i < s->n_containers && !k->pod.inside; i++) {
		struct cgroup c;
		cgroup_adopt(k->config.cgroups, s->containers[i]->cgroup_path, &c);
		CLEANUP_FD int fd = pidfd_find(&c, s->containers[i]->info ? s->containers[i]->info->pid : 0);
		if (fd < 0)
			continue;
		if (setns(fd, CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
			return fault_errno(fault, errno, "join the pod's namespaces");
		k->pod.inside = true;
	}
	if (k->pod.inside)
		return 0;
	return fault_set(fault, FAULT_DATA_LOSS,
			 "the namespaces of pod sandbox \"%s\" are gone, it can only be stopped", k->id);
}

static int started_copy(struct pod *p, const Bulkhead__SandboxStartReply *started, struct fault *fault) {
	size_t size = bulkhead__sandbox_start_reply__get_packed_size(started);
	CLEANUP_FREE uint8_t *packed = malloc(size + 1);
	if (packed) {
		bulkhead__sandbox_start_reply__pack(started, packed);
		p->started = bulkhead__sandbox_start_reply__unpack(NULL, size, packed);
	}
	if (!p->started)
		return fault_errno(fault, ENOMEM, "remember the pod");
	p->started->keeper_pid = getpid();
	return 0;
}

static int pod_adopt(struct keeper *k, struct adoption *a, const Bulkhead__KeeperSaved *s, struct fault *fault) {
	struct pod *p = &k->pod;
	char init[CGROUP_PATH_MAX];
	p->used = true;
	p->network = s->network;
	p->pid = s->pid;
	p->ipc = s->ipc;
	p->host_uts = s->host_uts;
	p->bare = s->bare;
	p->namespace = strdup(s->namespace_);
	p->network_ready = s->network_ready;
	p->cgroup_owned = s->cgroup_owned;
	snprintf(p->cgroup_path, sizeof(p->cgroup_path), "%s", s->cgroup_path);
	snprintf(p->cgroup_scope, sizeof(p->cgroup_scope), "%s", s->cgroup_scope);
	p->init_pid = s->init_pid;
	p->shm = take_fd(&a->pod[3]);
	p->init = take_fd(&a->pod[4]);
	pod_init_group(k, init);
	cgroup_adopt(k->config.cgroups, init, &p->init_cgroup);
	if (p->init < 0)
		p->init = pidfd_find(&p->init_cgroup, s->init_pid);
	int r = network_host_open(&k->pod.host, fault);
	if (r == 0)
		r = namespaces_join(k, a->pod, fault);
	if (r == 0 && !p->inside)
		r = namespaces_search(k, s, fault);
	if (r == 0 && s->root) {
		p->userns.uid = s->root->host_id;
		p->userns.gid = s->root_gid;
		r = userns_find(&p->userns.fd);
		if (r < 0)
			r = fault_errno(fault, r, "find the pod's user namespace");
	}
	/* Shared memory that is lost is lost for containers to come only. */
	if (r == 0 && p->shm < 0)
		r = pod_shm_make(p, fault);
	return r < 0 ? r : started_copy(p, s->started, fault);
}

/* The namespace's old path is the dead keeper's. */
static int netns_path_renew(struct pod *p) {
	char path[64];
	if (!p->started->netns_path[0])
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)getpid());
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	free(p->started->netns_path);
	p->started->netns_path = copy;
	return 0;
}

/* --- containers --- */

static int record_restore(struct container *c, const Bulkhead__ContainerSaved *s) {
	const Bulkhead__TaskInfo *t = s->info;
	buffer_add(&c->process, s->process.data, s->process.len);
	buffer_add(&c->seccomp, s->seccomp_program.data, s->seccomp_program.len);
	c->seccomp_flags = s->seccomp_flags;
	c->log_path = strdup(s->log_path);
	c->pid_mode = s->pid_mode;
	c->terminal = s->terminal;
	c->takes_stdin = s->stdin;
	c->stdin_once = s->stdin_once;
	c->stop_signal = s->stop_signal;
	c->restores = c->restored = s->restores;
	c->n_execs = s->execs;
	c->frozen = t->frozen;
	c->oom.kills = s->oom_kills;
	c->oom.times = t->ooms;
	c->pid = t->pid;
	c->created_at = t->created_at;
	c->started_at = t->started_at;
	for (size_t i = 0; i < t->n_warnings; i++)
		container_warn(c, t->warnings[i]);
	if (t->user && (c->user = calloc(1, sizeof(*c->user)))) {
		c->user->uid = t->user->uid;
		c->user->gid = t->user->gid;
		c->user->n_groups = MIN(t->user->n_additionalgids, (size_t)USER_GROUPS_MAX);
		for (size_t i = 0; i < c->user->n_groups; i++)
			c->user->groups[i] = t->user->additionalgids[i];
		strcpy(c->user->home, "/");
	}
	return c->process.failed || c->seccomp.failed || !c->log_path ? -ENOMEM : 0;
}

static void exit_restore(struct container *c, const Bulkhead__TaskExit *exit) {
	c->state = CONTAINER_EXITED;
	c->exit_code = exit->exit_code;
	c->finished_at = exit->finished_at;
	c->oom.times = exit->ooms;
	/* Its group went with its end, or goes now. */
	keeper_bury(c->keeper, &c->cgroup);
	c->cgroup.made = 0;
}

/* A process whose input has ended, or was lost with its pipe, reads no fifo. */
static int stdio_restore(struct keeper *k, const char *id, const Bulkhead__Stdio *m, bool terminal, bool closed,
			 int held[STDIO_FDS], struct log *l, struct stdio **ret_stdio, struct fault *fault) {
	Bulkhead__Stdio given = *m;
	if (!terminal && held[STDIO_TO] < 0)
		given.stdin = (char *)"";
	int r = stdio_new(k, id, &given, held, ret_stdio, fault);
	if (r < 0 || m->held)
		return r;
	stdio_outputs(*ret_stdio, l);
	int to = terminal ? fcntl(log_fd(l, LOG_STDOUT), F_DUPFD_CLOEXEC, 3) : take_fd(&held[STDIO_TO]);
	if (to >= 0 && stdio_wants(*ret_stdio, 0))
		r = stdio_input(*ret_stdio, to, terminal, fault);
	else
		fd_close(to);
	if (r == 0 && closed)
		stdio_close_input(*ret_stdio);
	return r;
}

static int streams_restore(struct container *c, const Bulkhead__ContainerSaved *s, struct held *h,
			   struct fault *fault) {
	int r =
	    log_new(c->keeper->loop, c->log_path, c->keeper->config.log_line_max, take_fd(&h->fds[3]), &c->log, fault);
	/* A log whose folder is gone costs the log, not the container. */
	if (r < 0)
		r = log_new(c->keeper->loop, "", c->keeper->config.log_line_max, -1, &c->log, fault);
	for (int i = 0; r == 0 && i < LOG_STREAMS; i++)
		if (h->fds[1 + i] >= 0 &&
		    (r = log_attach(c->log, (enum log_stream_kind)i, take_fd(&h->fds[1 + i]))) < 0)
			fault_errno(fault, r, "read the output of container \"%s\"", c->id);
	if (r == 0 && s->stdio && (c->state != CONTAINER_EXITED || s->stdio->held))
		r = stdio_restore(c->keeper, c->id, s->stdio, c->terminal, s->stdin_closed, h->fds + VAULT_STDIO,
				  c->log, &c->stdio, fault);
	return r;
}

static struct exec *exec_restore(struct container *c, const Bulkhead__ExecSaved *s) {
	char path[CGROUP_PATH_MAX];
	struct exec *e = exec_new(c);
	if (!e)
		return NULL;
	e->name = strdup(s->info->exec_id);
	e->number = s->number;
	e->terminal = s->terminal;
	e->pid = s->info->pid;
	e->started_at = s->info->started_at;
	e->adopted = true;
	snprintf(path, sizeof(path), "%.*s/exec-%u", CGROUP_PATH_MAX - 32, c->cgroup.path, s->number);
	cgroup_adopt(c->keeper->config.cgroups, path, &e->group);
	return e;
}

/* Where its end hasn't been seen by anybody it is unknown. */
static void exec_over(struct exec *e, const Bulkhead__TaskExit *exit) {
	e->over = true;
	e->code = exit ? exit->exit_code : UNKNOWN_EXIT;
	e->finished_at = exit ? exit->finished_at : clock_real();
	keeper_bury(e->container->keeper, &e->group);
}

static int exec_adopt(struct adoption *a, struct container *c, const Bulkhead__ExecSaved *s, struct fault *fault) {
	struct keeper *k = c->keeper;
	char id[96];
	struct held nothing;
	memset(nothing.fds, -1, sizeof(nothing.fds));
	if (!s->info)
		return 0;
	struct exec *e = exec_restore(c, s);
	if (!e || !e->name)
		return fault_errno(fault, ENOMEM, "remember process \"%s\"", s->info->exec_id);
	named_vault_id(c, s->number, id, sizeof(id));
	struct held *h = held_find(a, id);
	h = h ? h : &nothing;
	e->pidfd = h->fds[0] >= 0 ? take_fd(&h->fds[0]) : s->info->exit ? -1 : pidfd_find(&e->group, e->pid);
	if (s->info->exit || e->pidfd < 0) {
		exec_over(e, s->info->exit);
		return s->stdio && s->stdio->held ? stdio_restore(k, c->id, s->stdio, e->terminal, s->stdin_closed,
								  h->fds + VAULT_STDIO, NULL, &e->stdio, fault)
						  : 0;
	}
	int r = log_new(k->loop, "", 0, -1, &e->log, fault);
	for (int i = 0; r == 0 && i < LOG_STREAMS; i++)
		if (h->fds[1 + i] >= 0 &&
		    (r = log_attach(e->log, (enum log_stream_kind)i, take_fd(&h->fds[1 + i]))) < 0)
			fault_errno(fault, r, "read the output of process \"%s\"", e->name);
	if (r == 0 && s->stdio)
		r = stdio_restore(k, c->id, s->stdio, e->terminal, s->stdin_closed, h->fds + VAULT_STDIO, e->log,
				  &e->stdio, fault);
	if (r == 0 && exec_watch(e, 0) < 0)
		r = fault_errno(fault, ENOMEM, "watch process \"%s\"", e->name);
	return r;
}

static int container_adopt(struct adoption *a, const Bulkhead__ContainerSaved *s, struct fault *fault) {
	struct keeper *k = a->keeper;
	struct held nothing;
	memset(nothing.fds, -1, sizeof(nothing.fds));
	struct container *c;
	if (!s->info)
		return 0;
	struct held *h = held_find(a, s->info->container_id);
	int r = container_new(k, s->info->container_id, &c);
	if (r == 0)
		r = record_restore(c, s);
	if (r < 0)
		return fault_errno(fault, r, "remember container \"%s\"", s->info->container_id);
	cgroup_adopt(k->config.cgroups, s->cgroup_path, &c->cgroup);
	c->cgroup.scope = k->pod.cgroup_scope[0] && s->info->state == BULKHEAD__TASK_STATE__TASK_RUNNING;
	h = h ? h : &nothing;
	if (s->info->state == BULKHEAD__TASK_STATE__TASK_EXITED && s->info->exit) {
		exit_restore(c, s->info->exit);
		r = streams_restore(c, s, h, fault);
		for (size_t i = 0; r == 0 && i < s->n_named; i++)
			r = exec_adopt(a, c, s->named[i], fault);
		return r;
	}
	c->adopted = true;
	c->pidfd = h->fds[0] >= 0 ? take_fd(&h->fds[0]) : pidfd_find(&c->cgroup, c->pid);
	c->stdin_fd = take_fd(&h->fds[4]);
	c->status = take_fd(&h->fds[5]);
	/* A container whose creation was never answered has no one to miss it. */
	if (c->pidfd < 0) {
		container_free(c);
		return 0;
	}
	/* The status socket left the vault when the program ran. */
	c->state = c->status < 0 ? CONTAINER_RUNNING : s->starting ? CONTAINER_STARTING : CONTAINER_CREATED;
	if (c->state == CONTAINER_RUNNING && !c->started_at)
		c->started_at = c->created_at;
	r = streams_restore(c, s, h, fault);
	for (size_t i = 0; r == 0 && i < s->n_named; i++)
		r = exec_adopt(a, c, s->named[i], fault);
	return r < 0 ? r : container_watch(c);
}

static int containers_adopt(struct adoption *a, const Bulkhead__KeeperSaved *s, struct fault *fault) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < s->n_containers; i++)
		r = container_adopt(a, s->containers[i], fault);
	return r;
}

/* --- the handler --- */

static int adopt(struct keeper *k, struct adoption *a, const Bulkhead__KeeperAdoptRequest *m, struct msg_request *req,
		 struct fault *fault) {
	Bulkhead__KeeperSaved *s = NULL;
	if (k->pod.used)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "this keeper has a pod already");
	int r = m->run_dir[0] ? keeper_run_dir(k, m->run_dir, fault) : 0;
	if (r < 0)
		return r;
	r = state_load(k->run_dir, &req->arena, &s, &k->state_sequence);
	if (r < 0)
		return fault_errno(fault, r, "read the state of pod sandbox \"%s\"", k->id);
	if (strcmp(s->sandbox_id, k->id) != 0 || !s->started)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "pod sandbox \"%s\" was never set up", k->id);
	if (s->log_line_max)
		k->config.log_line_max = s->log_line_max;
	bool machine = strcmp(s->runtime, BOOT_VM_HANDLER) == 0;
	r = s->runtime[0] && !machine ? oci_attach(k, s->runtime, fault) : 0;
	if (r == 0)
		r = pod_adopt(k, a, s, fault);
	if (r == 0 && machine)
		r = vm_adopt(k, take_fd(&a->pod[VAULT_VM]), take_fd(&a->pod[VAULT_VM + 1]),
			     take_fd(&a->pod[VAULT_VM + 2]), fault);
	if (r == 0)
		r = netns_path_renew(&k->pod);
	if (r == 0)
		r = containers_adopt(a, s, fault);
	return r < 0 ? r : keeper_listen(k, fault);
}

/* All of them must be in the state that it saves. */
static void ooms_watch(struct keeper *k) {
	list_for_each (n, &k->containers) {
		struct container *c = list_entry(n, struct container, node);
		if (c->state == CONTAINER_RUNNING)
			oom_watch_begin(c);
	}
	vm_ooms_take(k);
}

void on_keeper_adopt(struct keeper *k, struct msg_request *r, const Bulkhead__KeeperAdoptRequest *m) {
	struct fault fault = { 0 };
	struct adoption a = { .keeper = k };
	Bulkhead__KeeperStateReply reply = BULKHEAD__KEEPER_STATE_REPLY__INIT;
	memset(a.pod, -1, sizeof(a.pod));
	list_init(&a.held);
	vault_read(&a, r->fds[0]);
	int e = adopt(k, &a, m, r, &fault);
	if (e == 0) {
		k->pod.up = true;
		cut_recover(k);
		vault_renew(k);
		state_save(k);
		ooms_watch(k);
	}
	fds_close(a.pod);
	list_for_each_safe (n, &a.held) {
		struct held *h = list_entry(n, struct held, node);
		fds_close(h->fds);
		list_unlink(n);
		free(h);
	}
	if (e == 0 && !(reply.info = state_info(k, &r->arena)))
		e = fault_errno(&fault, ENOMEM, "describe the pod");
	if (e < 0)
		msg_fail(r, &fault);
	else
		keeper_adopt_reply(r, &reply, NULL, 0);
}
