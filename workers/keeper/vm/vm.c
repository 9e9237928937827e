/*
 * The keeper's side of pods in virtual machines. While one boots the keeper goes
 * on; what it asks the relay later is answered by the guest within a moment, or
 * not at all.
 */
#include "workers/keeper/vm/vm.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "workers/keeper/backend.h"
#include "workers/keeper/exec.h"
#include "workers/keeper/sys.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define BOOT_LIMIT (120 * NS_PER_SEC)
#define STOP_PATIENCE (8 * NS_PER_SEC)
#define GROUP "vm"

/* --- the machine ------------------------------------------------------------ */

void vm_group(const struct keeper *k, char ret_path[CGROUP_PATH_MAX]) {
	const struct pod *p = &k->pod;
	snprintf(ret_path, CGROUP_PATH_MAX, "%.*s/" GROUP "-%s", CGROUP_PATH_MAX - 80,
		 p->cgroup_scope[0] ? p->cgroup_scope : p->cgroup_path, k->id);
}

void vm_folder_remove(const struct keeper *k) {
	static const char *const names[] = { "/files.sock", "/front.sock", "/console", ("/" VM_SHARED_NAME), "" };
	char path[PATH_MAX];
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/" VM_FOLDER "%s", k->run_dir, names[i]);
		remove(path);
	}
}

static void machine_over(struct vm *vm) {
	vm->over = true;
	loop_source_free_p(&vm->boot_source);
	loop_source_free_p(&vm->boot_timer);
	loop_source_free_p(&vm->exit_source);
	loop_source_free_p(&vm->oom_source);
	loop_source_free_p(&vm->oom_later);
	loop_source_free_p(&vm->patience);
	fd_replace(&vm->pidfd, -1);
	fd_replace(&vm->control, -1);
	fd_replace(&vm->mounts, -1);
	if (vm->led)
		vm_network_unmake();
	vm->led = false;
	/* QEMU and virtiofsd die with their parent. */
	keeper_bury(vm->keeper, &vm->group);
}

/* That of no container: the pod's. */
static void lost_tell(struct keeper *k) {
	Bulkhead__TaskExit exit = BULKHEAD__TASK_EXIT__INIT;
	log_event(LOG_ERROR, "a pod's virtual machine has ended", "pod", k->id, NULL);
	exit.sandbox_id = k->id;
	exit.finished_at = clock_real();
	if (link_attached(k->link))
		process_exited_send(k->link, NULL, &exit, NULL, 0, NULL, NULL);
}

static void relay_ended(void *ctx, uint32_t events) {
	struct vm *vm = ctx;
	struct keeper *k = vm->keeper;
	siginfo_t info = { 0 };
	/* A successor isn't its parent. */
	waitid(P_PIDFD, (id_t)vm->pidfd, &info, WEXITED | WNOHANG);
	if (!vm->stopping)
		lost_tell(k);
	machine_over(vm);
	vault_put_pod(k);
	pod_teardown_continue(k);
}

static void warn(void *ctx, const char *text) {
	log_event(LOG_WARN, text, "pod", ((const struct keeper *)ctx)->id, NULL);
}

static int relay_spawn(struct vm *vm, int control, struct fault *fault) {
	struct vm_relay_birth birth = { .vm = vm, .control = control };
	struct spawn s = { .pid_namespace_of = -1, .cgroup = &vm->group, .body = vm_relay, .ctx = &birth };
	char path[CGROUP_PATH_MAX];
	vm_group(vm->keeper, path);
	int r = cgroup_create(vm->keeper->config.cgroups, path, NULL, false, warn, vm->keeper, &vm->group, fault);
	return r < 0 ? r : process_spawn(&s, &vm->pid, &vm->pidfd, fault);
}

static int mounts_open(struct vm *vm, struct fault *fault) {
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)vm->pid);
	vm->mounts = open(path, O_RDONLY | O_CLOEXEC);
	return vm->mounts < 0 ? fault_errno(fault, errno, "find the mounts of the virtual machine") : 0;
}

static int vm_new(struct keeper *k, struct fault *fault) {
	struct vm *vm = calloc(1, sizeof(*vm));
	if (!vm)
		return fault_errno(fault, ENOMEM, "make a virtual machine");
	vm->keeper = k;
	vm->pidfd = vm->control = vm->mounts = -1;
	k->pod.vm = vm;
	return 0;
}

static int relay_watch(struct vm *vm, struct fault *fault) {
	int r = loop_poll(vm->keeper->loop, vm->pidfd, POLLIN, relay_ended, vm, &vm->exit_source);
	if (r == 0)
		vm_ooms_watch(vm);
	return r < 0 ? fault_errno(fault, r, "watch the virtual machine") : 0;
}

static int refuse_hosts(Bulkhead__NamespaceMode network, Bulkhead__NamespaceMode pid, Bulkhead__NamespaceMode ipc,
			struct fault *fault) {
	const Bulkhead__NamespaceMode hosts = BULKHEAD__NAMESPACE_MODE__NODE;
	if (network != hosts && pid != hosts && ipc != hosts)
		return 0;
	return fault_set(fault, FAULT_UNIMPLEMENTED,
			 "a pod in a virtual machine can't use the host's network, processes or IPC");
}

int vm_choose(struct keeper *k, const Bulkhead__SandboxStartRequest *s, struct fault *fault) {
	int r = refuse_hosts(s->network, s->pid, s->ipc, fault);
	if (r == 0 && s->n_sysctls)
		r = fault_set(fault, FAULT_UNIMPLEMENTED,
			      "a pod in a virtual machine can't have sysctls: they would be its host's");
	if (r == 0)
		r = vm_new(k, fault);
	if (r == 0 && *s->agent_socket && !(k->pod.vm->agent_socket = strdup(s->agent_socket)))
		r = fault_errno(fault, ENOMEM, "make a virtual machine");
	return r;
}

/* A network namespace of a client's stays when the machine has gone. */
static bool network_stays(const struct keeper *k) {
	return k->pod.network == BULKHEAD__NAMESPACE_MODE__TARGET;
}

static void boot_over(struct vm *vm, struct fault *fault) {
	loop_source_free_p(&vm->boot_source);
	loop_source_free_p(&vm->boot_timer);
	if (fault)
		fault_prefix(fault, 0, "start the virtual machine");
	vm->booted(vm->keeper, fault);
}

/* False: nothing yet, or only that the network leads there. */
static bool boot_hear(struct vm *vm, int *ret_result, struct fault *fault) {
	struct pollfd said = { .fd = vm->control, .events = POLLIN };
	struct vm_packet p;
	while (poll(&said, 1, 0) > 0) {
		*ret_result = vm_answer_await(vm->control, 0, &p, fault);
		if (*ret_result < 0 || p.kind != VM_LED)
			return true;
		vm->led = network_stays(vm->keeper);
	}
	return false;
}

static void boot_said(void *ctx, uint32_t events) {
	struct vm *vm = ctx;
	struct fault fault;
	int r;
	if (!boot_hear(vm, &r, &fault))
		return;
	if (r == 0)
		r = mounts_open(vm, &fault);
	if (r == 0)
		r = relay_watch(vm, &fault);
	boot_over(vm, r < 0 ? &fault : NULL);
}

static void boot_late(void *ctx) {
	struct fault fault;
	fault_set(&fault, FAULT_DEADLINE_EXCEEDED, "the virtual machine doesn't answer");
	boot_over(ctx, &fault);
}

int vm_start(struct keeper *k, vm_booted_fn booted, struct fault *fault) {
	struct vm *vm = k->pod.vm;
	int pair[2];
	/* Paths that were joined may have led to the host's. */
	if (refuse_hosts(k->pod.network, k->pod.pid, k->pod.ipc, fault) < 0)
		return -EINVAL;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fault_errno(fault, errno, "make a virtual machine");
	vm->control = pair[0];
	vm->booted = booted;
	int r = relay_spawn(vm, pair[1], fault);
	fd_close(pair[1]);
	if (r < 0)
		return fault_prefix(fault, r, "start the virtual machine");
	r = loop_poll(k->loop, vm->control, POLLIN, boot_said, vm, &vm->boot_source);
	if (r == 0)
		r = loop_timer(k->loop, clock_mono() + BOOT_LIMIT, boot_late, vm, &vm->boot_timer);
	return r < 0 ? fault_errno(fault, r, "watch the virtual machine") : 0;
}

int vm_adopt(struct keeper *k, int control, int mounts, int pidfd, struct fault *fault) {
	const struct vm_packet ooms = { .kind = VM_OOM };
	char path[CGROUP_PATH_MAX];
	int r = vm_new(k, fault);
	struct vm *vm = k->pod.vm;
	if (r < 0)
		return r;
	vm->control = control;
	vm->mounts = mounts;
	vm->pidfd = pidfd;
	vm->led = network_stays(k);
	vm_group(k, path);
	cgroup_adopt(k->config.cgroups, path, &vm->group);
	if (control < 0 || mounts < 0 || pidfd < 0) {
		machine_over(vm);
		return fault_set(fault, FAULT_DATA_LOSS,
				 "the virtual machine of pod sandbox \"%s\" is gone, it can only be stopped", k->id);
	}
	(void)vm_send(control, &ooms, NULL, 0, NULL, 0); /* if it has ended, relay_watch sees it */
	return relay_watch(vm, fault);
}

static void kill_now(void *ctx) {
	struct vm *vm = ctx;
	loop_source_free_p(&vm->patience);
	if (vm->pidfd >= 0)
		sys_pidfd_send_signal(vm->pidfd, SIGKILL);
}

void vm_abort(struct keeper *k) {
	struct vm *vm = k->pod.vm;
	siginfo_t info;
	struct fault fault;
	int ignored;
	if (!vm || vm->over)
		return;
	vm->stopping = true;
	kill_now(vm);
	if (vm->pidfd >= 0)
		waitid(P_PIDFD, (id_t)vm->pidfd, &info, WEXITED);
	if (vm->boot_source)
		boot_hear(vm, &ignored, &fault);
	machine_over(vm);
}

bool vm_ended(struct keeper *k) {
	struct vm *vm = k->pod.vm;
	const struct vm_packet stop = { .kind = VM_STOP };
	if (!vm || vm->over || vm->pidfd < 0)
		return true;
	if (vm->stopping)
		return false;
	vm->stopping = true;
	if (vm_send(vm->control, &stop, NULL, 0, NULL, 0) < 0 ||
	    loop_timer(k->loop, clock_mono() + STOP_PATIENCE, kill_now, vm, &vm->patience) < 0)
		kill_now(vm);
	return false;
}

/* --- containers ------------------------------------------------------------- */

static int stand_in_make(const struct vm *vm, struct vm_birth *b, const struct cgroup *group, int *ret_status,
			 pid_t *ret_pid, int *ret_pidfd, struct fault *fault) {
	CLEANUP_FD int channel = -1;
	CLEANUP_FD int theirs = -1;
	struct spawn s = { .pid_namespace_of = -1, .cgroup = group, .body = vm_stand_in, .ctx = b };
	int r = vm_channel_open(vm, &channel);
	if (r < 0)
		return fault_errno(fault, r, "reach the virtual machine");
	r = process_status_pair(ret_status, &theirs);
	if (r < 0)
		return fault_errno(fault, r, "make a status socket");
	b->vm = vm;
	b->channel = channel;
	b->status = theirs;
	return process_spawn(&s, ret_pid, ret_pidfd, fault);
}

/* The host's group has the stand-in alone: limits are the guest's. */
static int group_make(struct container *c, const Grpc__Spec *given, struct fault *fault) {
	Grpc__Spec spec = GRPC__SPEC__INIT;
	Grpc__Linux l = GRPC__LINUX__INIT;
	l.cgroupspath = given->linux->cgroupspath;
	spec.linux = &l;
	return container_group(c, &spec, fault);
}

static int create_check(const struct container *c, const Grpc__Spec *spec, struct fault *fault) {
	if (!spec->linux)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the specification has no part for Linux");
	if (c->pid_mode != BULKHEAD__NAMESPACE_MODE__CONTAINER && c->pid_mode != BULKHEAD__NAMESPACE_MODE__POD)
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "a container in a virtual machine has a PID namespace of its own, or the pod's");
	return 0;
}

static int vm_create(struct container *c, struct msg_request *r, const Bulkhead__ContainerCreateRequest *m,
		     struct fault *fault) {
	const Grpc__Spec *spec = m->task->spec;
	const Grpc__Process *p = spec->process;
	struct vm_birth b = { .container = c,
			      .spec = spec,
			      .process = p,
			      .root = r->n_fds ? r->fds[0] : -1,
			      .volumes = r->fds + 1,
			      .n_volumes = r->n_fds ? r->n_fds - 1 : 0,
			      .stdio = { -1, -1, -1 },
			      .columns = p->consolesize ? p->consolesize->width : 0,
			      .rows = p->consolesize ? p->consolesize->height : 0,
			      .strict_groups = container_strict_groups(spec) };
	int e = create_check(c, spec, fault);
	if (e == 0)
		e = container_streams(c, m->task, b.stdio, fault);
	if (e == 0)
		e = group_make(c, spec, fault);
	if (e == 0)
		e = stand_in_make(c->keeper->pod.vm, &b, &c->cgroup, &c->status, &c->pid, &c->pidfd, fault);
	for (int i = 0; i < 3; i++)
		fd_close(b.stdio[i]);
	return e;
}

static int vm_exec(struct exec *e, struct exec_plan *plan, struct fault *fault) {
	struct container *c = e->container;
	char name[32];
	struct vm_birth b = { .container = c,
			      .process = plan->process,
			      .user = plan->own_user ? NULL : c->user,
			      .name = name,
			      .root = -1,
			      .stdio = { plan->stdio[0], plan->stdio[1], plan->stdio[2] },
			      .columns = plan->size ? plan->size->width : 0,
			      .rows = plan->size ? plan->size->height : 0,
			      .wait = plan->wait };
	e->number = c->n_execs++;
	snprintf(name, sizeof(name), "exec-%u", e->number);
	const struct cgroup *group = cgroup_create_sub(&c->cgroup, name, &e->group) < 0 ? &c->cgroup : &e->group;
	int r = stand_in_make(c->keeper->pod.vm, &b, group, &e->status, &e->pid, &e->pidfd, fault);
	for (int i = 0; i < 3; i++)
		fd_replace(&plan->stdio[i], -1);
	if (r < 0)
		cgroup_remove(&e->group);
	return r;
}

/* A few system calls, in a process of its own since it changes its mounts. */
static void vm_container_ended(struct container *c) {
	struct spawn s = { .pid_namespace_of = -1, .body = vm_unshare, .ctx = c };
	struct fault fault;
	siginfo_t info;
	pid_t pid;
	int pidfd;
	if (c->keeper->pod.vm->over)
		return;
	if (process_spawn(&s, &pid, &pidfd, &fault) < 0) {
		log_event(LOG_WARN, "what a container shared with its virtual machine goes with that", "container",
			  c->id, "why", fault.text, NULL);
		return;
	}
	waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED);
	fd_close(pidfd);
}

static void vm_pod_ended(struct keeper *k) {
	(void)vm_ended(k);
}

static int vm_signal(int pidfd, int sig) {
	siginfo_t info = { .si_signo = VM_SIGNAL_CARRIER, .si_code = SI_QUEUE };
	info.si_value.sival_int = sig;
	return (int)syscall(SYS_pidfd_send_signal, pidfd, VM_SIGNAL_CARRIER, &info, 0);
}

const struct backend vm_backend = {
	.create = vm_create,
	.exec = vm_exec,
	.ended = vm_container_ended,
	.pod_ended = vm_pod_ended,
	.signal = vm_signal,
};
