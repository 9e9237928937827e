/*
 * The task worker's table and its moves, with a metadata worker, a zygote and
 * keepers that this test plays, all in one loop over socket pairs; the pods'
 * folders are real. The keepers can be told to fail, hang and die.
 */
#include "tap.h"

#include "base/clock.h"
#include "base/fd.h"
#include "seccomp_annotation.h"
#include "workers/task/cni/cni.h"
#include "workers/task/seccomp/seccomp.h"
#include "workers/task/ahead.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* --- the network's part, played --- */

static bool network_broken;

bool cni_ready(struct cni *c) {
	return !network_broken;
}
const char *cni_name(const struct cni *c) {
	return "testnet";
}
const char *cni_reason(const struct cni *c) {
	return network_broken ? "NetworkPluginNotReady" : "";
}
const char *cni_message(const struct cni *c) {
	return network_broken ? "no network configuration" : "";
}
int cni_plan(struct cni *c, const Bulkhead__SandboxStartRequest *sandbox, struct arena *arena,
	     Bulkhead__NetworkPlan **ret_plan, struct fault *fault) {
	if (network_broken)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "no network configuration");
	Bulkhead__NetworkPlan *p = arena_zalloc(arena, sizeof(*p));
	*p = (Bulkhead__NetworkPlan)BULKHEAD__NETWORK_PLAN__INIT;
	p->name = (char *)"testnet";
	*ret_plan = p;
	return 0;
}

/* --- the stage --- */

#define KEEPERS_MAX 32

struct keeper {
	struct stage *stage;
	struct link *link;
	char id[80], run_dir[256];
	int listener, vault[2];
	struct loop_source *accepting;
	bool alive, set_up, adopted, torn_down;
	bool had_network, had_vault, ahead;
	size_t seccomp_size;
	int stops_before_adopt;
	struct msg_request *hung[8]; /* requests that "hang" keeps open */
	int n_hung;
};

struct stage {
	struct loop *loop;
	struct task_worker *w;
	struct link *metadata; /* the metadata worker's end */
	struct link *zygote;   /* the zygote's end */
	struct keeper keepers[KEEPERS_MAX];
	int forks, teardowns, adoptions;
	char last_torn_down[80];
	/* orders for keepers */
	bool fork_fails, setup_fails, adopt_fails, nothing_left, hang, die_at_setup;
	int die_at_teardown; /* how many keepers */
	bool teardown_fails;
	/* what metadata heard */
	int exits;
	char exit_container[80];
	char dir[64];
};

static struct stage *stage;

static void turn_until(const int *counter, int value) {
	for (int i = 0; i < 400 && *counter < value; i++)
		loop_turn(stage->loop, 10 * NS_PER_MS);
}

static void turns(int n) {
	for (int i = 0; i < n; i++)
		loop_turn(stage->loop, NS_PER_MS);
}

static void keeper_die(struct keeper *k) {
	k->alive = false;
	loop_source_free_p(&k->accepting);
	fd_replace(&k->listener, -1);
	fd_replace(&k->vault[0], -1);
	fd_replace(&k->vault[1], -1);
	link_free(take_ptr(k->link));
	while (k->n_hung > 0) /* owed, though it goes nowhere */
		msg_failf(k->hung[--k->n_hung], FAULT_UNAVAILABLE, "dead");
}

static void keeper_hang(struct keeper *k, struct msg_request *r) {
	k->hung[k->n_hung++] = r;
}

/* --- keepers --- */

static void keeper_accepted(void *ctx, int fd);

static void keeper_listen(struct keeper *k) {
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/%s/keeper.sock", stage->dir, k->id);
	unlink(a.sun_path);
	k->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (bind(k->listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(k->listener, 4) < 0 ||
	    loop_accept(stage->loop, k->listener, keeper_accepted, k, &k->accepting) < 0)
		abort();
}

static void on_pod_setup(struct keeper *k, struct msg_request *r, const Bulkhead__PodSetupRequest *m) {
	struct stat st;
	if (stage->die_at_setup) {
		keeper_hang(k, r);
		keeper_die(k);
		return;
	}
	if (stage->setup_fails) {
		msg_failf(r, FAULT_INTERNAL, "attach network \"testnet\": no address left");
		return;
	}
	if (stage->hang) {
		keeper_hang(k, r);
		return;
	}
	snprintf(k->id, sizeof(k->id), "%s", m->sandbox->id);
	k->set_up = stat(m->run_dir, &st) == 0 && (st.st_mode & 0777) == 0700;
	k->had_network = m->network != NULL;
	keeper_listen(k);
	Bulkhead__SandboxStartReply started = BULKHEAD__SANDBOX_START_REPLY__INIT;
	Bulkhead__PodSetupReply reply = BULKHEAD__POD_SETUP_REPLY__INIT;
	started.keeper_pid = 4242;
	reply.started = &started;
	pod_setup_reply(r, &reply, NULL, 0);
}

static void on_pod_teardown(struct keeper *k, struct msg_request *r, const Bulkhead__SandboxStopRequest *m) {
	if (stage->die_at_teardown > 0) {
		stage->die_at_teardown--;
		keeper_hang(k, r);
		keeper_die(k);
		return;
	}
	if (stage->teardown_fails) {
		msg_failf(r, FAULT_INTERNAL, "cgroup is busy");
		return;
	}
	stage->teardowns++;
	k->torn_down = true;
	snprintf(stage->last_torn_down, sizeof(stage->last_torn_down), "%s", m->id);
	Bulkhead__Empty reply = BULKHEAD__EMPTY__INIT;
	pod_teardown_reply(r, &reply, NULL, 0);
}

static void on_container_create(struct keeper *k, struct msg_request *r, const Bulkhead__ContainerCreateRequest *m) {
	char byte = 0;
	k->seccomp_size = m->seccomp_program.len;
	if (pread(r->fds[0], &byte, 1, 0) != 1 || byte != 'R') {
		msg_failf(r, FAULT_INTERNAL, "this isn't the root");
		return;
	}
	Bulkhead__TaskCreateReply created = BULKHEAD__TASK_CREATE_REPLY__INIT;
	Bulkhead__ContainerCreateReply reply = BULKHEAD__CONTAINER_CREATE_REPLY__INIT;
	created.pid = 77;
	reply.created = &created;
	container_create_reply(r, &reply, NULL, 0);
}

static void on_container_start(struct keeper *k, struct msg_request *r, const Bulkhead__TaskKey *m) {
	Bulkhead__TaskCreateReply created = BULKHEAD__TASK_CREATE_REPLY__INIT;
	Bulkhead__ContainerCreateReply reply = BULKHEAD__CONTAINER_CREATE_REPLY__INIT;
	created.pid = 78;
	reply.created = &created;
	container_start_reply(r, &reply, NULL, 0);
}

static void on_container_kill(struct keeper *k, struct msg_request *r, const Bulkhead__TaskKillRequest *m) {
	msg_failf(r, FAULT_NOT_FOUND, "container \"%s\": no such container", m->container_id);
}

static void on_container_stop(struct keeper *k, struct msg_request *r, const Bulkhead__TaskStopRequest *m) {
	if (!k->set_up && !k->adopted)
		k->stops_before_adopt++;
	Bulkhead__TaskExit reply = BULKHEAD__TASK_EXIT__INIT;
	reply.exit_code = 137;
	container_stop_reply(r, &reply, NULL, 0);
}

static void on_container_delete(struct keeper *k, struct msg_request *r, const Bulkhead__TaskKey *m) {
	Bulkhead__TaskExit reply = BULKHEAD__TASK_EXIT__INIT;
	reply.exit_code = 3;
	container_delete_reply(r, &reply, NULL, 0);
}

static void hung_cancelled(struct msg_request *r, void *ctx) {
	struct keeper *k = ctx;
	k->n_hung = 0;
	msg_failf(r, FAULT_CANCELLED, "cancelled");
}

static void on_keeper_exec(struct keeper *k, struct msg_request *r, const Bulkhead__KeeperExecRequest *m) {
	if (stage->hang) {
		keeper_hang(k, r);
		r->cancelled = hung_cancelled;
		r->cancelled_ctx = k;
		return;
	}
	Bulkhead__ExecSyncReply reply = BULKHEAD__EXEC_SYNC_REPLY__INIT;
	reply.exit_code = 9;
	keeper_exec_reply(r, &reply, NULL, 0);
}

static void on_keeper_stats(struct keeper *k, struct msg_request *r, const Bulkhead__TaskStatsRequest *m) {
	Bulkhead__TaskStatsReply reply = BULKHEAD__TASK_STATS_REPLY__INIT;
	keeper_stats_reply(r, &reply, NULL, 0);
}

static void on_container_reopen_log(struct keeper *k, struct msg_request *r, const Bulkhead__TaskKey *m) {
	Bulkhead__Empty reply = BULKHEAD__EMPTY__INIT;
	container_reopen_log_reply(r, &reply, NULL, 0);
}

struct state_message {
	Bulkhead__KeeperStateReply reply;
	Bulkhead__SandboxInfo info;
	Bulkhead__SandboxStartReply started;
	Bulkhead__TaskInfo task, *tasks[1];
	Bulkhead__TaskExit exit;
};

static const Bulkhead__KeeperStateReply *state_message(struct state_message *s, struct keeper *k) {
	*s = (struct state_message){ .reply = BULKHEAD__KEEPER_STATE_REPLY__INIT,
				     .info = BULKHEAD__SANDBOX_INFO__INIT,
				     .started = BULKHEAD__SANDBOX_START_REPLY__INIT,
				     .task = BULKHEAD__TASK_INFO__INIT,
				     .exit = BULKHEAD__TASK_EXIT__INIT };
	s->exit.container_id = s->task.container_id = (char *)"web";
	s->exit.exit_code = 5;
	s->task.state = BULKHEAD__TASK_STATE__TASK_EXITED;
	s->task.exit = &s->exit;
	s->tasks[0] = &s->task;
	s->started.keeper_pid = k->adopted ? 5555 : 4242;
	s->info.id = k->id;
	s->info.started = &s->started;
	s->info.tasks = s->tasks;
	s->info.n_tasks = 1;
	s->info.network_ready = true;
	s->reply.info = &s->info;
	return &s->reply;
}

static void on_keeper_state(struct keeper *k, struct msg_request *r, const Bulkhead__Empty *m) {
	struct state_message s;
	if (stage->hang)
		keeper_hang(k, r);
	else
		keeper_state_reply(r, state_message(&s, k), NULL, 0);
}

static void on_keeper_vault(struct keeper *k, struct msg_request *r, const Bulkhead__Empty *m) {
	Bulkhead__Empty reply = BULKHEAD__EMPTY__INIT;
	if (k->vault[0] < 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, k->vault) < 0)
		abort();
	if (send(k->vault[0], "pipe", 4, 0) != 4)
		abort();
	keeper_vault_reply(r, &reply, &k->vault[1], 1);
}

static void on_keeper_adopt(struct keeper *k, struct msg_request *r, const Bulkhead__KeeperAdoptRequest *m) {
	char text[8] = "";
	struct state_message s;
	stage->adoptions++;
	if (stage->adopt_fails) {
		msg_failf(r, FAULT_INTERNAL, "its record is damaged");
		return;
	}
	if (stage->nothing_left) {
		msg_failf(r, FAULT_DATA_LOSS, "its namespaces are gone");
		return;
	}
	k->had_vault = recv(r->fds[0], text, sizeof(text) - 1, MSG_DONTWAIT) == 4 && strcmp(text, "pipe") == 0;
	k->adopted = true;
	keeper_listen(k);
	keeper_adopt_reply(r, state_message(&s, k), NULL, 0);
}

static void on_keeper_read(struct keeper *k, struct msg_request *r, const Bulkhead__KeeperReadRequest *m) {
	static char text[] = "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":"
			     "[{\"names\":[\"mount\"],\"action\":\"SCMP_ACT_ERRNO\"}]}";
	Bulkhead__KeeperReadReply reply = BULKHEAD__KEEPER_READ_REPLY__INIT;
	Bulkhead__HostFile file = BULKHEAD__HOST_FILE__INIT, *files[] = { &file };
	if (strcmp(m->file, "/etc/web.json") != 0) {
		msg_failf(r, FAULT_NOT_FOUND, "read \"%s\": no such file", m->file);
		return;
	}
	file.path = m->file;
	file.data = (ProtobufCBinaryData){ .len = strlen(text), .data = (uint8_t *)text };
	reply.files = files;
	reply.n_files = 1;
	keeper_read_reply(r, &reply, NULL, 0);
}

HANDLER_DEFINE(struct keeper, pod_setup)
HANDLER_DEFINE(struct keeper, pod_teardown)
HANDLER_DEFINE(struct keeper, container_create)
HANDLER_DEFINE(struct keeper, container_start)
HANDLER_DEFINE(struct keeper, container_kill)
HANDLER_DEFINE(struct keeper, container_stop)
HANDLER_DEFINE(struct keeper, container_delete)
HANDLER_DEFINE(struct keeper, keeper_exec)
HANDLER_DEFINE(struct keeper, keeper_stats)
HANDLER_DEFINE(struct keeper, keeper_state)
HANDLER_DEFINE(struct keeper, keeper_vault)
HANDLER_DEFINE(struct keeper, keeper_adopt)
HANDLER_DEFINE(struct keeper, container_reopen_log)
HANDLER_DEFINE(struct keeper, keeper_read)

static const struct link_handler fake_keeper_handlers[] = {
	HANDLER(pod_setup),
	HANDLER(pod_teardown),
	HANDLER(container_create),
	HANDLER(container_start),
	HANDLER(container_kill),
	HANDLER(container_stop),
	HANDLER(container_delete),
	HANDLER(keeper_exec),
	HANDLER(keeper_stats),
	HANDLER(keeper_state),
	HANDLER(keeper_vault),
	HANDLER(keeper_adopt),
	HANDLER(container_reopen_log),
	HANDLER(keeper_read),
	{ 0 },
};

static void keeper_accepted(void *ctx, int fd) {
	struct keeper *k = ctx;
	if (fd >= 0 && link_attach_socket(k->link, fd) < 0)
		abort();
}

static void on_keeper_fork(struct stage *s, struct msg_request *r, const Bulkhead__KeeperForkRequest *m) {
	if (s->fork_fails) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "fork a keeper: no process left");
		return;
	}
	struct keeper *k = &s->keepers[s->forks++];
	*k = (struct keeper){ .stage = s, .alive = true, .listener = -1, .vault = { -1, -1 }, .ahead = m->ahead };
	snprintf(k->id, sizeof(k->id), "%s", m->sandbox_id);
	snprintf(k->run_dir, sizeof(k->run_dir), "%s", m->run_dir);
	struct link_options o = {
		.loop = s->loop, .self = ROLE_KEEPER, .peer = ROLE_TASK, .handlers = fake_keeper_handlers, .worker = k
	};
	if (link_new(&o, &k->link) < 0 || link_attach_socket(k->link, take_fd(&r->fds[0])) < 0)
		abort();
	Bulkhead__KeeperForkReply reply = BULKHEAD__KEEPER_FORK_REPLY__INIT;
	keeper_fork_reply(r, &reply, NULL, 0);
}

HANDLER_DEFINE(struct stage, keeper_fork)

static const struct link_handler zygote_handlers[] = { HANDLER(keeper_fork), { 0 } };

static void on_task_exited(struct stage *s, struct msg_request *r, const Bulkhead__TaskExit *m) {
	s->exits++;
	snprintf(s->exit_container, sizeof(s->exit_container), "%s", m->container_id);
	Bulkhead__Empty none = BULKHEAD__EMPTY__INIT;
	task_exited_reply(r, &none, NULL, 0);
}

HANDLER_DEFINE(struct stage, task_exited)

static const struct link_handler metadata_handlers[] = { HANDLER(task_exited), { 0 } };

/* --- setting the stage --- */

static void connect_ends(struct link *a, struct link *b) {
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0 ||
	    link_attach_socket(a, pair[0]) < 0 || link_attach_socket(b, pair[1]) < 0)
		abort();
}

static struct link *new_link(struct stage *s, enum role self, enum role peer, const struct link_handler *handlers,
			     void *worker) {
	struct link_options o = { .loop = s->loop, .self = self, .peer = peer, .handlers = handlers, .worker = worker };
	struct link *l;
	if (link_new(&o, &l) < 0)
		abort();
	return l;
}

static void found(struct task_worker *w, const char *id) {
	struct sandbox *s;
	if (sandbox_new(w, id, SANDBOX_ORPHANED, &s) < 0)
		abort();
}

static void worker_begin(struct stage *s) {
	struct task_worker *w = s->w = calloc(1, sizeof(*w));
	w->loop = s->loop;
	w->ahead.fd = -1;
	w->pods_path = strdup(s->dir);
	w->pods = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w->pods < 0 || fchdir(w->pods) < 0)
		abort();
	map_init(&w->sandboxes);
	list_init(&w->dead);
	w->metadata = new_link(s, ROLE_TASK, ROLE_METADATA, task_handlers, w);
	w->zygote = new_link(s, ROLE_TASK, ROLE_KEEPER, NULL, w);
	if (seccomp_cache_new("/nonexistent", &w->seccomp) < 0)
		abort();
	connect_ends(w->metadata, s->metadata);
	connect_ends(w->zygote, s->zygote);
	rundir_scan(w, found);
	keeper_revive_all(w);
}

static void worker_end(struct stage *s) {
	struct task_worker *w = s->w;
	sandbox_table_deinit(w);
	ahead_drop(w);
	link_free(w->metadata);
	link_free(w->zygote);
	loop_source_free_p(&w->retry);
	seccomp_cache_free(w->seccomp);
	fd_close(w->pods);
	free(w->pods_path);
	free(w);
	s->w = NULL;
}

static void stage_begin(struct stage *s) {
	*s = (struct stage){ .dir = "/tmp/bulkhead-task-XXXXXX" };
	stage = s;
	network_broken = false;
	if (!mkdtemp(s->dir) || loop_new(&(struct loop_options){ 0 }, &s->loop) < 0 ||
	    loop_enable(s->loop, NULL, 0) < 0)
		abort();
	s->metadata = new_link(s, ROLE_METADATA, ROLE_TASK, metadata_handlers, s);
	s->zygote = new_link(s, ROLE_KEEPER, ROLE_TASK, zygote_handlers, s);
	worker_begin(s);
}

static void stage_end(struct stage *s) {
	if (s->w)
		worker_end(s);
	for (int i = 0; i < s->forks; i++)
		keeper_die(&s->keepers[i]);
	link_free(s->metadata);
	link_free(s->zygote);
	turns(10); /* what the kernel still holds comes back */
	loop_free(s->loop);
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", s->dir);
	if (system(command) != 0)
		abort();
}

static int folders(void) {
	DIR *d = opendir(stage->dir);
	int n = 0;
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/* --- asking, as metadata does --- */

struct answer {
	int n;
	enum fault_code code;
	char text[256];
	int number; /* a pid or an exit code */
	size_t tasks;
	bool unreachable;
};

static void take_fault(struct answer *r, const struct msg_answer *a) {
	r->n++;
	r->code = a->fault ? a->fault->code : FAULT_NONE;
	snprintf(r->text, sizeof(r->text), "%s", a->fault ? a->fault->text : "");
}

static void started(void *ctx, const struct msg_answer *a) {
	take_fault(ctx, a);
	if (!a->fault)
		((struct answer *)ctx)->number = sandbox_start_answer(a)->keeper_pid;
}
static void empty_done(void *ctx, const struct msg_answer *a) {
	take_fault(ctx, a);
}
static void created(void *ctx, const struct msg_answer *a) {
	take_fault(ctx, a);
	if (!a->fault)
		((struct answer *)ctx)->number = task_create_answer(a)->pid;
}
static void exited(void *ctx, const struct msg_answer *a) {
	take_fault(ctx, a);
	if (!a->fault)
		((struct answer *)ctx)->number = (int)task_stop_answer(a)->exit_code;
}
static void executed(void *ctx, const struct msg_answer *a) {
	take_fault(ctx, a);
	if (!a->fault)
		((struct answer *)ctx)->number = exec_sync_answer(a)->exit_code;
}
static void listed(void *ctx, const struct msg_answer *a) {
	struct answer *r = ctx;
	take_fault(r, a);
	if (a->fault)
		return;
	const Bulkhead__TaskListReply *m = task_list_answer(a);
	r->number = (int)m->n_sandboxes;
	r->tasks = 0;
	r->unreachable = false;
	for (size_t i = 0; i < m->n_sandboxes; i++) {
		r->tasks += m->sandboxes[i]->n_tasks;
		r->unreachable |= m->sandboxes[i]->unreachable;
	}
}

static void send_start(struct answer *r, const char *id, Bulkhead__NamespaceMode network, Bulkhead__NamespaceMode ipc) {
	Bulkhead__SandboxStartRequest m = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	m.id = (char *)id;
	m.network = network;
	m.ipc = ipc;
	sandbox_start_send(stage->metadata, NULL, &m, NULL, 0, started, r);
}

static struct answer do_start(const char *id) {
	struct answer r = { 0 };
	send_start(&r, id, BULKHEAD__NAMESPACE_MODE__POD, BULKHEAD__NAMESPACE_MODE__POD);
	turn_until(&r.n, 1);
	return r;
}

static void send_stop(struct answer *r, const char *id) {
	Bulkhead__SandboxStopRequest m = BULKHEAD__SANDBOX_STOP_REQUEST__INIT;
	m.id = (char *)id;
	sandbox_stop_send(stage->metadata, NULL, &m, NULL, 0, empty_done, r);
}

static struct answer do_stop(const char *id) {
	struct answer r = { 0 };
	send_stop(&r, id);
	turn_until(&r.n, 1);
	return r;
}

static struct answer do_list(const struct msg_context *context) {
	struct answer r = { 0 };
	Bulkhead__Empty m = BULKHEAD__EMPTY__INIT;
	task_list_send(stage->metadata, context, &m, NULL, 0, listed, &r);
	turn_until(&r.n, 1);
	return r;
}

/* --- the tests --- */

static void test_ahead(void) {
	struct stage s;
	stage_begin(&s);
	s.w->ahead.enabled = true;
	turns(50);
	tap_check(s.forks == 0, "an idle worker has no keeper ahead");
	struct answer a = do_start("pod1");
	turn_until(&s.forks, 2);
	turns(5);
	tap_check(a.code == FAULT_NONE && s.keepers[1].ahead && !s.keepers[1].set_up,
		  "after a pod's start a keeper is made for the next");
	struct answer host = { 0 };
	send_start(&host, "host", BULKHEAD__NAMESPACE_MODE__NODE, BULKHEAD__NAMESPACE_MODE__POD);
	turn_until(&host.n, 1);
	tap_check(host.code == FAULT_NONE && s.forks == 3 && !s.keepers[2].ahead,
		  "a pod with the host's network gets another");
	host = (struct answer){ 0 };
	send_start(&host, "ipc", BULKHEAD__NAMESPACE_MODE__POD, BULKHEAD__NAMESPACE_MODE__NODE);
	turn_until(&host.n, 1);
	tap_check(host.code == FAULT_NONE && s.forks == 4 && !s.keepers[3].ahead,
		  "and so does one with the host's IPC");
	a = do_start("pod2");
	tap_check(a.code == FAULT_NONE && a.number == 4242 && s.forks == 4 && s.keepers[1].set_up &&
		      strcmp(s.keepers[1].id, "pod2") == 0,
		  "the next pod with one of its own gets it %s", a.text);
	turn_until(&s.forks, 5);
	turns(5);
	keeper_die(&s.keepers[4]);
	turns(5);
	a = do_start("pod3");
	tap_check(a.code == FAULT_NONE && s.forks == 6 && !s.keepers[5].ahead,
		  "one that has died is nobody's: the pod gets a fresh one %s", a.text);
	turn_until(&s.forks, 7);
	turns(5);
	ahead_drop(s.w);
	a = do_start("pod4");
	tap_check(a.code == FAULT_NONE && s.forks == 8 && !s.keepers[7].ahead, "and so it is after a reload %s",
		  a.text);
	s.fork_fails = true;
	turns(50);
	s.fork_fails = false;
	a = do_start("pod5");
	tap_check(a.code == FAULT_NONE && s.forks == 9, "where none could be made the pod's start makes its own %s",
		  a.text);
	stage_end(&s);
}

static void test_start_stop(void) {
	struct stage s;
	stage_begin(&s);
	struct answer a = do_start("pod1");
	tap_check(a.code == FAULT_NONE && a.number == 4242, "a pod starts %s", a.text);
	tap_check(s.keepers[0].set_up && s.keepers[0].had_network, "its keeper has a folder of its own and a network");
	a = do_start("pod1");
	tap_check(a.code == FAULT_NONE && a.number == 4242 && s.forks == 1, "started again: the same pod");
	struct answer host = { 0 };
	send_start(&host, "pod2", BULKHEAD__NAMESPACE_MODE__NODE, BULKHEAD__NAMESPACE_MODE__POD);
	turn_until(&host.n, 1);
	tap_check(host.code == FAULT_NONE && !s.keepers[1].had_network, "the host's network needs no plan");
	a = do_start("../etc");
	tap_check(a.code == FAULT_INVALID_ARGUMENT, "%s", a.text);
	tap_check(folders() == 2, "two folders");
	a = do_stop("pod1");
	tap_check(a.code == FAULT_NONE && s.keepers[0].torn_down && folders() == 1, "a pod stops");
	a = do_stop("pod1");
	tap_check(a.code == FAULT_NONE && s.teardowns == 1, "stopping it again is nothing");
	a = do_stop("nobody");
	tap_check(a.code == FAULT_NONE, "stopping what nobody knows is nothing");
	struct answer both[2] = { 0 };
	send_stop(&both[0], "pod2");
	send_stop(&both[1], "pod2");
	turn_until(&both[1].n, 1);
	tap_check(both[0].n == 1 && both[1].n == 1 && both[0].code + both[1].code == 0 && s.teardowns == 2,
		  "two who stop the same pod are both answered");
	tap_check(s.w->sandboxes.n_nodes == 0 && folders() == 0, "nothing is left");
	stage_end(&s);
}

static void test_start_fails(void) {
	struct stage s;
	stage_begin(&s);
	s.setup_fails = true;
	struct answer a = do_start("pod1");
	tap_check(a.code == FAULT_INTERNAL && strstr(a.text, "no address left"), "%s", a.text);
	tap_check(s.teardowns == 1 && folders() == 0 && s.w->sandboxes.n_nodes == 0, "was undone by its keeper");
	s.setup_fails = false;
	s.fork_fails = true;
	a = do_start("pod1");
	tap_check(a.code == FAULT_RESOURCE_EXHAUSTED && strstr(a.text, "no process left"), "%s", a.text);
	tap_check(s.teardowns == 1 && folders() == 0, "without a keeper there is only the folder to undo");
	s.fork_fails = false;
	s.die_at_setup = true;
	a = do_start("pod1");
	tap_check(a.code == FAULT_UNAVAILABLE, "%s", a.text);
	tap_check(s.teardowns == 2 && s.forks == 3 && folders() == 0, "a keeper that dies is undone by another");
	s.die_at_setup = false;
	network_broken = true;
	a = do_start("pod1");
	tap_check(a.code == FAULT_FAILED_PRECONDITION && folders() == 0, "%s", a.text);
	network_broken = false;
	link_free(s.zygote);
	s.zygote = new_link(&s, ROLE_KEEPER, ROLE_TASK, zygote_handlers, &s);
	turns(5);
	a = do_start("pod1");
	tap_check(a.code == FAULT_UNAVAILABLE && folders() == 0, "%s", a.text);
	connect_ends(s.w->zygote, s.zygote);
	a = do_start("pod1");
	tap_check(a.code == FAULT_NONE, "with the zygote's successor it works");
	stage_end(&s);
}

static void test_stop_while_starting(void) {
	struct stage s;
	stage_begin(&s);
	s.hang = true;
	struct answer start = { 0 }, stop = { 0 };
	send_start(&start, "pod1", BULKHEAD__NAMESPACE_MODE__POD, BULKHEAD__NAMESPACE_MODE__POD);
	turn_until(&s.forks, 1);
	turns(10);
	struct answer again = do_start("pod1");
	tap_check(again.code == FAULT_ABORTED, "%s", again.text);
	send_stop(&stop, "pod1");
	turns(10);
	tap_check(stop.n == 0 && s.keepers[0].n_hung == 1, "a stop waits for the start");
	s.hang = false;
	struct msg_request *r = s.keepers[0].hung[--s.keepers[0].n_hung];
	Bulkhead__SandboxStartReply st = BULKHEAD__SANDBOX_START_REPLY__INIT;
	Bulkhead__PodSetupReply reply = BULKHEAD__POD_SETUP_REPLY__INIT;
	reply.started = &st;
	pod_setup_reply(r, &reply, NULL, 0);
	turn_until(&stop.n, 1);
	tap_check(start.n == 1 && start.code == FAULT_NONE && stop.code == FAULT_NONE && folders() == 0,
		  "and comes after it");
	stage_end(&s);
}

static void test_stop_fails(void) {
	struct stage s;
	stage_begin(&s);
	do_start("pod1");
	s.die_at_teardown = 1;
	struct answer a = do_stop("pod1");
	tap_check(a.code == FAULT_NONE && s.forks == 2 && folders() == 0,
		  "a keeper dies in the teardown: another does it");
	do_start("pod1");
	s.die_at_teardown = 10;
	a = do_stop("pod1");
	tap_check(a.code != FAULT_NONE && strstr(a.text, "pod1"), "%s", a.text);
	tap_check(folders() == 1, "what isn't torn down stays known");
	s.die_at_teardown = 0;
	s.teardown_fails = true;
	a = do_stop("pod1");
	tap_check(a.code == FAULT_INTERNAL && strstr(a.text, "cgroup is busy"), "%s", a.text);
	a = do_start("pod1");
	tap_check(a.code == FAULT_ABORTED, "%s", a.text);
	s.teardown_fails = false;
	a = do_stop("pod1");
	tap_check(a.code == FAULT_NONE && folders() == 0, "a later stop succeeds");
	char path[128];
	snprintf(path, sizeof(path), "%s/left", s.dir);
	mkdir(path, 0700);
	a = do_stop("left");
	tap_check(a.code == FAULT_NONE && strcmp(s.last_torn_down, "left") == 0 && folders() == 0,
		  "a folder that nobody speaks for is torn down by a fresh keeper");
	stage_end(&s);
}

static struct answer do_create(const char *pod, const char *profile) {
	struct answer r = { 0 };
	Bulkhead__TaskCreateRequest m = BULKHEAD__TASK_CREATE_REQUEST__INIT;
	struct annotated_spec spec;
	m.sandbox_id = (char *)pod;
	m.container_id = (char *)"web";
	m.spec = annotated_spec(&spec, profile);
	char path[] = "/tmp/bulkhead-root-XXXXXX";
	int fd = mkstemp(path);
	if (fd < 0 || write(fd, "R", 1) != 1)
		abort();
	unlink(path);
	task_create_send(stage->metadata, NULL, &m, &fd, 1, created, &r);
	close(fd);
	turn_until(&r.n, 1);
	return r;
}

static struct answer do_key(struct msg_call *(*send)(struct link *, const struct msg_context *,
						     const Bulkhead__TaskKey *, const int *, size_t, msg_done_fn,
						     void *),
			    const char *pod, msg_done_fn done) {
	struct answer r = { 0 };
	Bulkhead__TaskKey m = BULKHEAD__TASK_KEY__INIT;
	m.sandbox_id = (char *)pod;
	m.container_id = (char *)"web";
	send(stage->metadata, NULL, &m, NULL, 0, done, &r);
	turn_until(&r.n, 1);
	return r;
}

static void send_task_stop(struct answer *r, const char *pod) {
	Bulkhead__TaskStopRequest m = BULKHEAD__TASK_STOP_REQUEST__INIT;
	m.sandbox_id = (char *)pod;
	m.container_id = (char *)"web";
	task_stop_send(stage->metadata, NULL, &m, NULL, 0, exited, r);
}

static struct answer do_exec(const struct msg_context *context) {
	struct answer r = { 0 };
	Bulkhead__ExecSyncRequest m = BULKHEAD__EXEC_SYNC_REQUEST__INIT;
	m.sandbox_id = (char *)"pod1";
	m.container_id = (char *)"web";
	exec_sync_send(stage->metadata, context, &m, NULL, 0, executed, &r);
	turn_until(&r.n, 1);
	return r;
}

static void test_containers(void) {
	struct stage s;
	stage_begin(&s);
	do_start("pod1");
	struct answer a = do_create("pod1", NULL);
	tap_check(a.code == FAULT_NONE && a.number == 77 && s.keepers[0].seccomp_size == 0, "create, with its root");
	a = do_create("pod1", "runtime/default");
	tap_check(a.code == FAULT_NONE && s.keepers[0].seccomp_size > 100 * sizeof(struct sock_filter),
		  "and with its seccomp program");
	s.keepers[0].seccomp_size = 0;
	a = do_create("pod1", "localhost//etc/web.json");
	tap_check(a.code == FAULT_NONE && s.keepers[0].seccomp_size >= 4 * sizeof(struct sock_filter),
		  "a profile's file is read by the keeper: %s", a.text);
	a = do_create("pod1", "localhost/none.json");
	tap_check(a.code == FAULT_NOT_FOUND && strstr(a.text, "web") && strstr(a.text, "none.json"), "%s", a.text);
	a = do_create("pod9", NULL);
	tap_check(a.code == FAULT_NOT_FOUND && strstr(a.text, "pod9"), "%s", a.text);
	a = do_key(task_start_send, "pod1", created);
	tap_check(a.code == FAULT_NONE && a.number == 78, "start");
	a = do_exec(NULL);
	tap_check(a.code == FAULT_NONE && a.number == 9, "exec");
	struct answer stop = { 0 };
	send_task_stop(&stop, "pod1");
	turn_until(&stop.n, 1);
	tap_check(stop.code == FAULT_NONE && stop.number == 137, "stop");
	a = do_key(task_delete_send, "pod1", exited);
	tap_check(a.code == FAULT_NONE && a.number == 3, "delete");
	a = do_key(task_reopen_log_send, "pod1", empty_done);
	tap_check(a.code == FAULT_NONE, "reopen a log");
	Bulkhead__TaskKillRequest kill = BULKHEAD__TASK_KILL_REQUEST__INIT;
	kill.sandbox_id = (char *)"pod1";
	kill.container_id = (char *)"web";
	a = (struct answer){ 0 };
	task_kill_send(s.metadata, NULL, &kill, NULL, 0, empty_done, &a);
	turn_until(&a.n, 1);
	tap_check(a.code == FAULT_NOT_FOUND && strstr(a.text, "no such container"), "what a keeper says goes on: %s",
		  a.text);
	s.hang = true;
	struct msg_context soon = { .deadline = clock_mono() + 30 * NS_PER_MS };
	a = do_exec(&soon);
	turns(10);
	tap_check(a.code == FAULT_DEADLINE_EXCEEDED && s.keepers[0].n_hung == 0,
		  "an exec given up is given up by the keeper");
	s.hang = false;
	Bulkhead__TaskExit end = BULKHEAD__TASK_EXIT__INIT;
	end.container_id = (char *)"web";
	process_exited_send(s.keepers[0].link, NULL, &end, NULL, 0, NULL, NULL);
	turn_until(&s.exits, 1);
	tap_check(s.exits == 1 && strcmp(s.exit_container, "web") == 0, "an end is told to metadata");
	stage_end(&s);
}

static void test_list(void) {
	struct stage s;
	stage_begin(&s);
	struct answer a = do_list(NULL);
	tap_check(a.code == FAULT_NONE && a.number == 0, "no pods");
	do_start("pod1");
	do_start("pod2");
	a = do_list(NULL);
	tap_check(a.number == 2 && a.tasks == 2 && !a.unreachable, "two pods, two tasks");
	s.hang = true;
	struct msg_context soon = { .deadline = clock_mono() + 200 * NS_PER_MS };
	a = do_list(&soon);
	tap_check(a.code == FAULT_NONE && a.number == 2 && a.unreachable, "silent keepers are told apart: %s", a.text);
	s.hang = false;
	stage_end(&s);
}

static void test_successor(void) {
	struct stage s;
	stage_begin(&s);
	do_start("pod1");
	turns(10);
	keeper_die(&s.keepers[0]);
	turns(2);
	struct answer stop = { 0 };
	send_task_stop(&stop, "pod1");
	turn_until(&stop.n, 1);
	tap_check(s.adoptions == 1 && s.forks == 2 && s.keepers[1].adopted, "a killed keeper has a successor");
	tap_check(s.keepers[1].had_vault, "who got its descriptors");
	tap_check(stop.code == FAULT_NONE && stop.number == 137 && s.keepers[1].stops_before_adopt == 0,
		  "a call that came meanwhile waits for it");
	turn_until(&s.exits, 1);
	tap_check(s.exits == 1, "what ended meanwhile is told");
	turns(10);
	struct answer a = do_list(NULL);
	tap_check(a.number == 1 && a.tasks == 1 && !a.unreachable, "it is listed as before");
	keeper_die(&s.keepers[1]);
	s.adopt_fails = true;
	turn_until(&s.adoptions, 3);
	tap_check(s.adoptions >= 3, "a failed adoption is tried again");
	a = do_create("pod1", NULL);
	tap_check(a.code == FAULT_UNAVAILABLE, "%s", a.text);
	s.adopt_fails = false;
	int before = s.adoptions;
	turn_until(&s.adoptions, before + 1);
	turns(20);
	a = do_create("pod1", NULL);
	tap_check(a.code == FAULT_NONE, "and works in the end %s", a.text);
	a = do_stop("pod1");
	tap_check(a.code == FAULT_NONE && folders() == 0, "stopped");
	do_start("pod2");
	keeper_die(&s.keepers[s.forks - 1]);
	turns(2);
	s.nothing_left = true;
	stop = (struct answer){ 0 };
	send_task_stop(&stop, "pod2");
	turn_until(&stop.n, 1);
	tap_check(stop.code == FAULT_UNAVAILABLE, "a pod that can't be adopted keeps nobody waiting: %s", stop.text);
	a = do_create("pod2", NULL);
	tap_check(a.code == FAULT_NOT_FOUND, "%s", a.text);
	a = do_stop("pod2");
	tap_check(a.code == FAULT_NONE && folders() == 0, "it can be stopped");
	stage_end(&s);
}

static void test_restart(void) {
	struct stage s;
	stage_begin(&s);
	do_start("pod1");
	do_start("pod2");
	turns(5);
	worker_end(&s);
	turns(5);
	keeper_die(&s.keepers[1]);
	worker_begin(&s);
	struct answer a = do_list(NULL);
	tap_check(a.number == 2 && a.tasks == 2 && !a.unreachable,
		  "a new task worker finds the pods: %d with %zu tasks %s", a.number, a.tasks, a.text);
	tap_check(s.adoptions == 1 && s.forks == 3, "and a successor for the keeper that died meanwhile");
	tap_check(!s.keepers[2].had_vault, "without its descriptors, as nobody had them");
	a = do_start("pod1");
	tap_check(a.code == FAULT_NONE && a.number == 4242, "what a pod answered is remembered by its keeper");
	tap_check(do_stop("pod1").code == FAULT_NONE && do_stop("pod2").code == FAULT_NONE && folders() == 0,
		  "stopped");
	stage_end(&s);
}

int main(void) {
	test_start_stop();
	test_ahead();
	test_start_fails();
	test_stop_while_starting();
	test_stop_fails();
	test_containers();
	test_list();
	test_successor();
	test_restart();
	return tap_done();
}
