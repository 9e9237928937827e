/*
 * The relay of one pod: starts the machine, gives up its rights, tells the
 * guest's agent of the sandbox, and then passes on what stand-ins and the keeper
 * ask. It is the parent of the VMM and virtiofsd, which die with it; it outlives the
 * keeper, and ends with the guest.
 */
#include "workers/keeper/vm/relay.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "kata/health.pb-c.h"
#include "workers/keeper/sys.h"
#include "workers/keeper/title.h"
#include "workers/keeper/vm/vhost.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BOOT_LIMIT (100 * NS_PER_SEC)
#define STOP_LIMIT (6 * NS_PER_SEC)
/* Of the console the beginning and the latest are kept. */
#define LOG_MAX ((size_t)64 * 1024)
#define LOG_HEAD ((size_t)16 * 1024)
#define LOG_CUT "\n[...]\n"

static const uint8_t opcodes[] = { IORING_OP_NOP,	   IORING_OP_POLL_ADD, IORING_OP_POLL_REMOVE,
				   IORING_OP_ASYNC_CANCEL, IORING_OP_TIMEOUT,  IORING_OP_TIMEOUT_REMOVE,
				   IORING_OP_RECV,	   IORING_OP_SEND };

/* --- the console ------------------------------------------------------------ */

static void console_write(struct relay *r, const char *text, size_t n) {
	if (fd_write_all(r->log, text, n) == 0)
		r->logged += n;
}

static void console_keep(struct relay *r, const char *text, size_t n) {
	if (r->logged + n > LOG_MAX && ftruncate(r->log, (off_t)LOG_HEAD) == 0) {
		r->logged = LOG_HEAD;
		console_write(r, LOG_CUT, strlen(LOG_CUT));
	}
	if (r->logged + n <= LOG_MAX)
		console_write(r, text, n);
	size_t kept = MIN(n, sizeof(r->last) - 1), old = MIN(r->n_last, sizeof(r->last) - 1 - kept);
	memmove(r->last, r->last + r->n_last - old, old);
	memcpy(r->last + old, text + n - kept, kept);
	r->n_last = old + kept;
	r->last[r->n_last] = '\0';
}

static void console_ready(void *ctx, uint32_t events) {
	struct relay *r = ctx;
	char text[4096];
	ssize_t n;
	while ((n = read(r->machine.console, text, sizeof(text))) > 0)
		console_keep(r, text, (size_t)n);
	if (n == 0)
		loop_source_free_p(&r->console_source);
}

/* The last line that was said, on one line. */
static const char *last_words(struct relay *r) {
	while (r->n_last > 0 && (r->last[r->n_last - 1] == '\n' || r->last[r->n_last - 1] == '\r'))
		r->last[--r->n_last] = '\0';
	const char *line = strrchr(r->last, '\n');
	return line ? line + 1 : r->last;
}

/* --- the end ---------------------------------------------------------------- */

static _Noreturn void boot_failed(struct relay *r, const struct fault *fault) {
	(void)vm_send_fault(r->control, fault);
	_exit(1);
}

void relay_over(struct relay *r, const char *what) {
	struct fault fault;
	console_ready(r, 0);
	fault_set(&fault, FAULT_FAILED_PRECONDITION, "%s before its agent answered: %s", what, last_words(r));
	if (!r->booted)
		boot_failed(r, &fault);
	/* All channels end with this process. */
	_exit(0);
}

static void vmm_ended(void *ctx, uint32_t events) {
	struct relay *r = ctx;
	char what[64];
	snprintf(what, sizeof(what), "%s has ended", vm_machine_name(r->vm->keeper->config.vm));
	relay_over(r, what);
}

static void files_ended(void *ctx, uint32_t events) {
	relay_over(ctx, "virtiofsd has ended");
}

static void agent_ended(void *ctx, const struct fault *fault) {
	struct relay *r = ctx;
	/* A guest that goes off closes it first. */
	if (!r->stopping)
		relay_over(r, fault->text);
}

static void call(struct relay *r, const ProtobufCServiceDescriptor *service, const char *method,
		 const ProtobufCMessage *request, int64_t timeout_ns, ttrpc_done_fn done, void *ctx) {
	if (ttrpc_call(r->agent, service, method, request, timeout_ns, done, ctx, NULL) < 0)
		relay_over(r, "out of memory");
}

void agent_call(struct relay *r, const char *method, const ProtobufCMessage *request, int64_t timeout_ns,
		ttrpc_done_fn done, void *ctx) {
	call(r, &grpc__agent_service__descriptor, method, request, timeout_ns, done, ctx);
}

static void patience_over(void *ctx) {
	_exit(0);
}

static void destroyed(void *ctx, const ProtobufCMessage *reply, const struct fault *fault) {
}

/* The guest writes what it has, and turns itself off. */
static void stop(struct relay *r) {
	const Grpc__DestroySandboxRequest q = GRPC__DESTROY_SANDBOX_REQUEST__INIT;
	if (r->stopping)
		return;
	r->stopping = true;
	/* What its agent's client hasn't ended is over now. */
	if (!r->booted || !r->agent ||
	    loop_timer(r->loop, clock_mono() + STOP_LIMIT, patience_over, r, &r->patience) < 0)
		_exit(0);
	agent_call(r, "DestroySandbox", &q.base, STOP_LIMIT, destroyed, r);
}

/* --- what the keeper asks --------------------------------------------------- */

static void control_ready(void *ctx, uint32_t events) {
	struct relay *r = ctx;
	struct vm_packet p;
	int fds[VM_FDS_MAX];
	size_t n_fds;
	for (;;) {
		int e = vm_receive(r->control, &p, NULL, NULL, fds, &n_fds);
		if (e == -EAGAIN)
			return;
		if (e <= 0 || p.kind == VM_STOP) {
			if (e <= 0)
				loop_source_free_p(&r->control_source);
			stop(r);
			if (e <= 0)
				return;
		}
		if (p.kind == VM_OOM)
			relay_ooms_tell(r);
		for (size_t i = 0; e > 0 && i < n_fds; i++)
			if (r->agent)
				guest_new(r, fds[i]);
			else
				fd_close(fds[i]);
	}
}

/* --- the boot --------------------------------------------------------------- */

static void step_done(void *ctx, const ProtobufCMessage *reply, const struct fault *fault);

static void health_check(struct relay *r) {
	const Grpc__CheckRequest q = GRPC__CHECK_REQUEST__INIT;
	call(r, &grpc__health__descriptor, "Check", &q.base, BOOT_LIMIT, step_done, r);
}

static void interface_update(struct relay *r, Types__Interface *i) {
	Grpc__UpdateInterfaceRequest q = GRPC__UPDATE_INTERFACE_REQUEST__INIT;
	q.interface = i;
	agent_call(r, "UpdateInterface", &q.base, CALL_LIMIT, step_done, r);
}

static void routes_update(struct relay *r) {
	Grpc__UpdateRoutesRequest q = GRPC__UPDATE_ROUTES_REQUEST__INIT;
	Grpc__Routes routes = GRPC__ROUTES__INIT;
	routes.routes = r->network.routes;
	routes.n_routes = r->network.n_routes;
	q.routes = &routes;
	agent_call(r, "UpdateRoutes", &q.base, CALL_LIMIT, step_done, r);
}

static void sandbox_create(struct relay *r) {
	static char *shm_options[] = { (char *)"noexec", (char *)"nosuid", (char *)"nodev", (char *)"mode=1777",
				       (char *)"size=67108864" };
	Grpc__Storage files = GRPC__STORAGE__INIT, shm = GRPC__STORAGE__INIT;
	Grpc__Storage *storages[] = { &files, &shm };
	Grpc__CreateSandboxRequest q = GRPC__CREATE_SANDBOX_REQUEST__INIT;
	const struct keeper *k = r->vm->keeper;
	files.driver = (char *)"virtio-fs";
	files.source = (char *)VM_SHARE_TAG;
	files.fstype = (char *)"virtiofs";
	files.mount_point = (char *)VM_SHARED_GUEST;
	shm.driver = (char *)"ephemeral";
	shm.source = (char *)"shm";
	shm.fstype = (char *)"tmpfs";
	shm.mount_point = (char *)VM_SHM_GUEST;
	shm.options = shm_options;
	shm.n_options = ARRAY_SIZE(shm_options);
	q.hostname = r->hostname;
	q.sandbox_id = k->id;
	q.sandbox_pidns = k->pod.pid == BULKHEAD__NAMESPACE_MODE__POD;
	q.storages = storages;
	q.n_storages = ARRAY_SIZE(storages);
	agent_call(r, "CreateSandbox", &q.base, CALL_LIMIT, step_done, r);
}

static void booted(struct relay *r) {
	const struct vm_packet p = { .kind = VM_DONE };
	r->booted = true;
	/* Then the next one has the line. */
	if (r->vm->agent_socket)
		ttrpc_client_free(take_ptr(r->agent));
	if (vm_send(r->control, &p, NULL, 0, NULL, 0) < 0)
		_exit(1);
	if (r->agent)
		relay_ooms_ask(r);
}

/* Health, each device, routes, the sandbox, unless another makes that. */
static void step_next(struct relay *r) {
	size_t n = r->network.n_links, step = r->step++;
	if (step == 0)
		health_check(r);
	else if (step <= n)
		interface_update(r, &r->network.links[step - 1]);
	else if (step == n + 1 && r->network.n_routes > 0)
		routes_update(r);
	else if (step <= n + 2 && !r->vm->agent_socket)
		r->step = n + 3, sandbox_create(r);
	else
		booted(r);
}

static void step_done(void *ctx, const ProtobufCMessage *reply, const struct fault *fault) {
	struct relay *r = ctx;
	struct fault f;
	if (!fault) {
		step_next(r);
		return;
	}
	f = *fault;
	console_ready(r, 0);
	fault_prefix(&f, 0, r->step == 1 ? "the guest's agent" : "prepare the guest");
	boot_failed(r, &f);
}

/* --- birth ------------------------------------------------------------------ */

static int line_use(struct relay *r) {
	const struct ttrpc_client_options options = { .loop = r->loop, .line = true, .ended = agent_ended, .ctx = r };
	int e = ttrpc_client_new(&options, r->machine.agent, &r->agent);
	if (e == 0)
		step_next(r);
	return e;
}

/* What it says doesn't matter: a client on a line finds its place. */
static void line_ready(void *ctx, uint32_t events) {
	struct relay *r = ctx;
	loop_source_free_p(&r->line_source);
	/* Why it was hung up, the VMM's end says. */
	if (!(events & (POLLHUP | POLLERR)) && line_use(r) < 0)
		relay_over(r, "out of memory");
}

static void files_confused(void *ctx) {
	relay_over(ctx, "what is said between the virtual machine and virtiofsd makes no sense");
}

static int watch(struct relay *r, struct fault *fault) {
	int e = loop_poll(r->loop, r->machine.vmm, POLLIN, vmm_ended, r, &r->vmm_source);
	if (e == 0)
		e = loop_poll(r->loop, r->machine.files, POLLIN, files_ended, r, &r->files_source);
	if (e == 0)
		e = loop_poll(r->loop, r->machine.console, POLLIN, console_ready, r, &r->console_source);
	if (e == 0)
		e = loop_poll(r->loop, r->control, POLLIN, control_ready, r, &r->control_source);
	if (e == 0 && r->machine.front >= 0)
		e = vhost_new(r->loop, r->machine.front, r->machine.back, files_confused, r, &r->vhost);
	if (e == 0)
		e = r->machine.announces ? loop_poll(r->loop, r->machine.agent, POLLIN, line_ready, r, &r->line_source)
					 : line_use(r);
	return e < 0 ? fault_errno(fault, e, "watch the virtual machine") : 0;
}

static int console_open(struct relay *r, struct fault *fault) {
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/" VM_FOLDER "/console", r->vm->keeper->run_dir);
	r->log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	return r->log < 0 ? fault_errno(fault, errno, "open \"%s\"", path) : 0;
}

static int prepare(struct relay *r, struct fault *fault) {
	static const struct loop_options options = { .entries = 64, .buffers = 8 };
	const struct keeper *k = r->vm->keeper;
	const struct vm_packet led = { .kind = VM_LED };
	int e = vm_network_make(vm_machine_headers(k->config.vm), &r->network, fault);
	if (e == 0 && (e = vm_send(r->control, &led, NULL, 0, NULL, 0)) < 0)
		fault_errno(fault, e, "reach the keeper");
	if (e == 0)
		e = vm_machine_start(k, &r->network, &r->machine, fault);
	if (e == 0)
		e = console_open(r, fault);
	if (e == 0 &&
	    ((e = loop_new(&options, &r->loop)) < 0 || (e = loop_enable(r->loop, opcodes, ARRAY_SIZE(opcodes))) < 0))
		fault_errno(fault, e, "make a loop");
	if (e == 0)
		e = vm_jail_enter(VM_JAIL_RELAY, k->config.vm, fault);
	return e < 0 ? e : watch(r, fault);
}

static void begin(struct relay *r) {
	sigset_t none;
	become_close_others(&r->control, 1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_IGN);
	setsid();
	umask(0022);
	gethostname(r->hostname, sizeof(r->hostname) - 1);
	title_set("bulkhead-vm", r->vm->keeper->id);
	fcntl(r->control, F_SETFL, O_NONBLOCK);
	cgroup_enter_v1(&r->vm->group);
}

void vm_relay(void *birth) {
	const struct vm_relay_birth *b = birth;
	static struct relay r;
	struct fault fault = { 0 };
	r = (struct relay){ .vm = b->vm, .control = b->control, .log = -1 };
	list_init(&r.guests);
	begin(&r);
	if (prepare(&r, &fault) < 0)
		boot_failed(&r, &fault);
	loop_run(r.loop);
	_exit(1);
}
