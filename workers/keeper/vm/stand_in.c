/*
 * A process of the host that stands for one of the guest. To the keeper it is
 * what any container's child is (process.h): it reports through the status
 * socket, waits for the word to go, and ends with an exit code.
 *
 *   prepare -> ask the relay to make it -> STATUS_READY -> "go" -> started
 *           -> signals, sizes of its terminal -> end
 *
 * A terminal is one of the host's: the keeper has the master, the relay the
 * other end, and this process is the session that hears when its size changes.
 */
#include "workers/keeper/vm/vm.h"

#include "base/clock.h"
#include "base/fd.h"
#include "boot/boot.h"
#include "workers/keeper/sys.h"
#include "workers/keeper/title.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>

#define KILLED (128 + SIGKILL)
/* A guest that doesn't end what is killed has lost its say. */
#define KILL_PATIENCE (10 * NS_PER_SEC)

struct stand_in {
	const struct vm_birth *birth;
	int signals, terminal; /* -1: none */
	int64_t deadline;      /* 0: none */
	struct user_ids user;
};

static _Noreturn void failed(const struct stand_in *s, const struct fault *fault) {
	become_failed(s->birth->status, fault);
}

/* --- signals and sizes ------------------------------------------------------ */

static void ask(const struct stand_in *s, const struct vm_packet *p) {
	/* When the relay is gone the end of the channel says so. */
	(void)vm_send(s->birth->channel, p, NULL, 0, NULL, 0);
}

static void resize(const struct stand_in *s) {
	struct vm_packet p = { .kind = VM_RESIZE };
	struct winsize size;
	if (s->terminal < 0 || ioctl(s->terminal, TIOCGWINSZ, &size) < 0 || !size.ws_col || !size.ws_row)
		return;
	p.columns = size.ws_col;
	p.rows = size.ws_row;
	ask(s, &p);
}

static void signals_handle(struct stand_in *s, bool runs) {
	struct signalfd_siginfo info;
	struct vm_packet p = { .kind = VM_SIGNAL };
	while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
		bool carried = (int)info.ssi_signo == VM_SIGNAL_CARRIER && info.ssi_code == SI_QUEUE;
		p.value = carried ? info.ssi_int : (int)info.ssi_signo;
		if (p.value == SIGKILL && !runs)
			_exit(KILLED);
		if (p.value == SIGKILL && !s->deadline)
			s->deadline = clock_mono() + KILL_PATIENCE;
		if (p.value == SIGWINCH && !carried)
			resize(s);
		else if (runs && p.value != SIGCHLD)
			ask(s, &p);
	}
}

/* --- what the relay says ---------------------------------------------------- */

/* The next packet; meanwhile signals are. */
static void await(struct stand_in *s, bool runs, struct vm_packet *ret_packet, char text[FAULT_TEXT_MAX]) {
	static char payload[VM_PAYLOAD_MAX];
	struct pollfd fds[] = { { .fd = s->birth->channel, .events = POLLIN }, { .fd = s->signals, .events = POLLIN } };
	size_t size = 0;
	for (;;) {
		int64_t left = s->deadline ? (s->deadline - clock_mono()) / NS_PER_MS : -1;
		if (s->deadline && left <= 0)
			_exit(KILLED);
		if (poll(fds, ARRAY_SIZE(fds), (int)left) < 0 && errno != EINTR)
			_exit(VM_UNKNOWN_EXIT);
		if (fds[1].revents)
			signals_handle(s, runs);
		if (fds[0].revents)
			break;
	}
	if (vm_receive(s->birth->channel, ret_packet, payload, &size, NULL, NULL) <= 0)
		_exit(VM_UNKNOWN_EXIT);
	snprintf(text, FAULT_TEXT_MAX, "%.*s", (int)size, payload);
}

/* The answer to what was asked; a refusal is the end. */
static void expect(struct stand_in *s, bool runs) {
	struct fault fault;
	struct vm_packet p;
	char text[FAULT_TEXT_MAX];
	await(s, runs, &p, text);
	if (p.kind == VM_DONE)
		return;
	fault_set(&fault, (enum fault_code)p.value, "%s", text);
	failed(s, &fault);
}

static void go_await(struct stand_in *s) {
	struct pollfd fds[] = { { .fd = s->birth->status, .events = POLLIN },
				{ .fd = s->birth->channel, .events = 0 },
				{ .fd = s->signals, .events = POLLIN } };
	char go;
	for (;;) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			_exit(PROCESS_FAILED);
		if (fds[2].revents)
			signals_handle(s, false);
		if (fds[1].revents)
			_exit(VM_UNKNOWN_EXIT);
		if (fds[0].revents)
			break;
	}
	if (recv(s->birth->status, &go, 1, 0) != 1)
		_exit(PROCESS_FAILED);
}

/* --- making it -------------------------------------------------------------- */

static int terminal_make(struct stand_in *s, struct fault *fault) {
	const struct vm_birth *b = s->birth;
	struct winsize size = { .ws_col = (unsigned short)b->columns, .ws_row = (unsigned short)b->rows };
	struct termios mode;
	CLEANUP_FD int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0 || unlockpt(master) < 0)
		return fault_errno(fault, errno, "make a terminal");
	s->terminal = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (s->terminal < 0 || tcgetattr(s->terminal, &mode) < 0)
		return fault_errno(fault, errno, "make a terminal");
	/* The guest's is the one that edits lines. */
	cfmakeraw(&mode);
	if (tcsetattr(s->terminal, TCSANOW, &mode) < 0 || ioctl(s->terminal, TIOCSCTTY, 0) < 0 ||
	    (size.ws_col && ioctl(master, TIOCSWINSZ, &size) < 0))
		return fault_errno(fault, errno, "prepare a terminal");
	become_send_terminal(b->status, master);
	return 0;
}

/* A command with a user of its own: its container's root is the guest's by now,
 * so its agent looks that up. */
static bool user_is_guests(const struct vm_birth *b) {
	return !b->user && !b->spec;
}

static void process_copy(const struct stand_in *s, Grpc__Process *ret, Grpc__User *ret_user) {
	*ret = *s->birth->process;
	ret->apparmorprofile = ret->selinuxlabel = (char *)"";
	if (user_is_guests(s->birth))
		return;
	*ret_user = (Grpc__User)GRPC__USER__INIT;
	ret_user->uid = s->user.uid;
	ret_user->gid = s->user.gid;
	ret_user->additionalgids = (uint32_t *)(uintptr_t)s->user.groups;
	ret_user->n_additionalgids = s->user.n_groups;
	ret->user = ret_user;
}

static int request_send(const struct stand_in *s, enum vm_kind kind, const ProtobufCMessage *request,
			struct fault *fault) {
	const struct vm_birth *b = s->birth;
	struct vm_packet p = { .kind = kind, .terminal = s->terminal >= 0 };
	size_t size = protobuf_c_message_get_packed_size(request), n = 0;
	CLEANUP_FREE uint8_t *packed = malloc(size + 1);
	int fds[VM_FDS_MAX];
	if (!packed)
		return fault_errno(fault, ENOMEM, "describe a process to the guest");
	protobuf_c_message_pack(request, packed);
	snprintf(p.container, sizeof(p.container), "%s", b->container->id);
	snprintf(p.process, sizeof(p.process), "%s", b->name ? b->name : "");
	for (uint32_t i = 0; i < 3; i++) {
		int fd = s->terminal < 0 ? b->stdio[i] : i < 2 ? s->terminal : -1;
		if (fd < 0)
			continue;
		p.streams |= 1u << i;
		fds[n++] = fd;
	}
	int r = vm_send(b->channel, &p, packed, size, fds, n);
	return r < 0 ? fault_errno(fault, r, "describe a process of %zu bytes to the guest", size) : 0;
}

static int container_ask(const struct stand_in *s, Grpc__Spec *spec, struct fault *fault) {
	Grpc__CreateContainerRequest q = GRPC__CREATE_CONTAINER_REQUEST__INIT;
	Grpc__Process process;
	Grpc__User user;
	process_copy(s, &process, &user);
	spec->process = &process;
	q.container_id = q.exec_id = s->birth->container->id;
	q.oci = spec;
	q.sandbox_pidns = s->birth->container->pid_mode == BULKHEAD__NAMESPACE_MODE__POD;
	return request_send(s, VM_CREATE, &q.base, fault);
}

static int command_ask(const struct stand_in *s, struct fault *fault) {
	Grpc__ExecProcessRequest q = GRPC__EXEC_PROCESS_REQUEST__INIT;
	Grpc__Process process;
	Grpc__User user;
	process_copy(s, &process, &user);
	process.terminal = s->terminal >= 0;
	q.container_id = s->birth->container->id;
	q.exec_id = (char *)(uintptr_t)s->birth->name;
	q.process = &process;
	return request_send(s, VM_EXEC, &q.base, fault);
}

/* --- its life --------------------------------------------------------------- */

static void begin(struct stand_in *s) {
	const struct vm_birth *b = s->birth;
	int keep[8 + MSG_FDS_MAX] = { b->channel,  b->status,	b->root,    b->vm->mounts,
				      b->stdio[0], b->stdio[1], b->stdio[2] };
	sigset_t all;
	for (size_t i = 0; i < b->n_volumes; i++)
		keep[7 + i] = b->volumes[i];
	become_close_others(keep, 7 + b->n_volumes);
	title_set("bulkhead-guest-process", b->container->id);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	s->signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	setsid();
	umask(0022);
	cgroup_enter_v1(&b->container->cgroup);
}

static int prepare(struct stand_in *s, Grpc__Spec **ret_spec, struct fault *fault) {
	const struct vm_birth *b = s->birth;
	int r = 0;
	if (b->user)
		s->user = *b->user;
	else if (!user_is_guests(b))
		r = user_resolve(b->root, b->process->user, b->strict_groups, &s->user, fault);
	if (r == 0 && b->process->terminal)
		r = terminal_make(s, fault);
	if (r == 0 && b->spec)
		r = vm_share(b, ret_spec, fault);
	if (r == 0)
		r = vm_jail_enter(VM_JAIL_STAND_IN, b->container->keeper->config.vm, fault);
	return r;
}

/* The guest's process runs from here on: the keeper hears it by the end of the
 * status socket. Nothing of the streams stays open here but the terminal. */
static _Noreturn void run(struct stand_in *s) {
	struct vm_packet p;
	char text[FAULT_TEXT_MAX];
	close(s->birth->status);
	resize(s);
	do
		await(s, true, &p, text);
	while (p.kind != VM_EXIT);
	_exit(p.value & 0xff);
}

void vm_stand_in(void *birth) {
	struct stand_in s = { .birth = birth, .terminal = -1 };
	const struct vm_birth *b = birth;
	const struct vm_packet start = { .kind = VM_START };
	struct become ready = { .status = b->status };
	struct fault fault = { 0 };
	Grpc__Spec *spec = NULL;
	begin(&s);
	int r = prepare(&s, &spec, &fault);
	/* A command starts at once, so it isn't made before the word to go. */
	if (r == 0 && b->spec) {
		r = container_ask(&s, spec, &fault);
	} else if (r == 0) {
		become_ready(&ready, &s.user);
		if (b->wait)
			go_await(&s);
		r = command_ask(&s, &fault);
	}
	if (r < 0)
		failed(&s, &fault);
	for (int i = 0; i < 3; i++)
		fd_close(b->stdio[i]);
	expect(&s, false);
	if (b->spec) {
		become_ready(&ready, &s.user);
		go_await(&s);
		ask(&s, &start);
		expect(&s, true);
	}
	run(&s);
}
