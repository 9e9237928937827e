/* The lab's processes and sockets. Whatever of its own fails ends the test
 * program: a broken lab proves nothing. */
#include "network_lab.h"

#include "base/clock.h"
#include "base/fd.h"

#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

bool lab_shell(const char *format, ...) {
	char command[1024];
	va_list ap;
	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	fflush(NULL);
	return system(command) == 0;
}

const char *lab_output(char ret_text[256], const char *format, ...) {
	char command[1024];
	va_list ap;
	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	ret_text[0] = '\0';
	FILE *f = popen(command, "r");
	if (f) {
		if (fgets(ret_text, 256, f))
			ret_text[strcspn(ret_text, "\n")] = '\0';
		pclose(f);
	}
	return ret_text;
}

bool lab_soon(int milliseconds, const char *command) {
	int64_t deadline = clock_mono() + milliseconds * NS_PER_MS;
	for (;;) {
		if (lab_shell("%s", command))
			return true;
		if (clock_mono() > deadline)
			return false;
		usleep(10000);
	}
}

bool lab_open(struct lab *lab, const char **ret_reason) {
	*lab = (struct lab){ .root = "/tmp/bulkhead-network-XXXXXX" };
	char bin_dirs[128];
	if (geteuid() != 0) {
		*ret_reason = "needs root";
		return false;
	}
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		*ret_reason = "needs network and mount namespaces";
		return false;
	}
	if (!mkdtemp(lab->root) || mount("lab", lab->root, "tmpfs", 0, NULL) < 0)
		err(1, "lab folder");
	snprintf(lab->conf, sizeof(lab->conf), "%s/conf", lab->root);
	snprintf(lab->cache, sizeof(lab->cache), "%s/cache", lab->root);
	snprintf(lab->bin, sizeof(lab->bin), "%s/bin", lab->root);
	snprintf(bin_dirs, sizeof(bin_dirs), "%s:/opt/cni/bin:/usr/lib/cni", lab->bin);
	mkdir(lab->bin, 0755);
	mkdir(lab->conf, 0755);
	mkdir(lab->cache, 0755);
	struct cni_options options = { .conf_dir = lab->conf, .bin_dirs = bin_dirs, .cache_dir = lab->cache };
	if (cni_new(&options, &lab->cni) < 0)
		errx(1, "cni_new");
	return lab_shell("ip link set lo up");
}

void lab_close(struct lab *lab) {
	cni_free(lab->cni);
	if (umount2(lab->root, MNT_DETACH) == 0)
		rmdir(lab->root);
}

void lab_configure(struct lab *lab, const char *json) {
	char path[128];
	snprintf(path, sizeof(path), "%s/10-lab.conflist", lab->conf);
	FILE *f = fopen(path, "w");
	if (!f || fputs(json, f) < 0 || fclose(f) != 0)
		err(1, "%s", path);
}

/* --- sockets --- */

static int inet_socket(int protocol, const char *address, unsigned port, struct sockaddr_storage *ret_address,
		       socklen_t *ret_size) {
	struct sockaddr_in *four = (struct sockaddr_in *)ret_address;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)ret_address;
	memset(ret_address, 0, sizeof(*ret_address));
	bool is_six = strchr(address, ':');
	if (is_six) {
		six->sin6_family = AF_INET6;
		six->sin6_port = htons((uint16_t)port);
		inet_pton(AF_INET6, address, &six->sin6_addr);
	} else {
		four->sin_family = AF_INET;
		four->sin_port = htons((uint16_t)port);
		inet_pton(AF_INET, address, &four->sin_addr);
	}
	*ret_size = is_six ? sizeof(*six) : sizeof(*four);
	return socket(is_six ? AF_INET6 : AF_INET, (protocol == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC,
		      0);
}

static int answer_text(const char *name, const struct sockaddr_storage *peer, char *text, size_t room) {
	char address[64] = "?";
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)peer;
	if (peer->ss_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)peer)->sin_addr, address, sizeof(address));
	else if (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
		inet_ntop(AF_INET, six->sin6_addr.s6_addr + 12, address, sizeof(address));
	else
		inet_ntop(AF_INET6, &six->sin6_addr, address, sizeof(address));
	return snprintf(text, room, "%s %s", name, address);
}

static void serve(int s, const char *name, int protocol) {
	char text[256];
	for (;;) {
		struct sockaddr_storage peer;
		socklen_t size = sizeof(peer);
		int c = s;
		if (protocol == IPPROTO_UDP) {
			if (recvfrom(s, text, sizeof(text), 0, (struct sockaddr *)&peer, &size) < 0)
				_exit(1);
		} else {
			c = accept(s, (struct sockaddr *)&peer, &size);
		}
		int n = answer_text(name, &peer, text, sizeof(text));
		sendto(c, text, (size_t)n, MSG_NOSIGNAL, (struct sockaddr *)&peer, protocol == IPPROTO_UDP ? size : 0);
		if (c != s)
			close(c);
	}
}

static bool server_start(const char *name, int protocol, unsigned port) {
	struct sockaddr_storage address;
	socklen_t size;
	int on = 1, s = inet_socket(protocol, "::", port, &address, &size);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (s < 0 || bind(s, (struct sockaddr *)&address, size) < 0 || (protocol == IPPROTO_TCP && listen(s, 16) < 0)) {
		fd_close(s);
		return false;
	}
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent)
			serve(s, name, protocol);
		_exit(0);
	}
	close(s);
	return pid > 0;
}

static void ask(int protocol, const char *address, unsigned port, char ret_text[256]) {
	struct sockaddr_storage to;
	socklen_t size;
	struct timeval limit = { .tv_sec = 1 };
	CLEANUP_FD int s = inet_socket(protocol, address, port, &to, &size);
	ret_text[0] = '\0';
	if (protocol == IPPROTO_UDP) { /* the same flow each time */
		struct sockaddr_in6 from = { .sin6_family = to.ss_family, .sin6_port = htons(40053) };
		if (bind(s, (struct sockaddr *)&from, size) < 0)
			return;
	}
	setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)); /* connect's too */
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(s, (struct sockaddr *)&to, size) < 0)
		return;
	if (protocol == IPPROTO_UDP)
		send(s, "?", 1, 0);
	ssize_t n = recv(s, ret_text, 255, 0);
	ret_text[MAX(n, 0)] = '\0';
}

/* --- the pod's process --- */

struct order {
	enum { ORDER_ATTACH, ORDER_DETACH, ORDER_RUN, ORDER_SERVE, ORDER_ASK, ORDER_END } what;
	int protocol;
	unsigned port;
	char text[512], address[64];
	size_t plan_size; /* ORDER_ATTACH: a packed NetworkPlan follows */
};

static void obey_attach(const struct order *o, int control, const struct network_pod *me, struct network_host *host,
			struct lab_answer *a) {
	CLEANUP_FREE uint8_t *data = malloc(o->plan_size + 1);
	if (!data || recv(control, data, o->plan_size, MSG_WAITALL) != (ssize_t)o->plan_size)
		errx(1, "plan");
	Bulkhead__NetworkPlan *plan = bulkhead__network_plan__unpack(NULL, o->plan_size, data);
	a->result = network_attach(plan, me, host, &a->attached, &a->fault);
	bulkhead__network_plan__free_unpacked(plan, NULL);
}

static void obey(const struct order *o, int control, const struct network_pod *me, struct network_host *host,
		 struct lab_answer *a) {
	int64_t wall = clock_mono(), cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
	switch (o->what) {
	case ORDER_ATTACH:
		obey_attach(o, control, me, host, a);
		break;
	case ORDER_DETACH:
		a->result = network_detach(me, host, true, &a->fault);
		break;
	case ORDER_RUN:
		a->result = system(o->text);
		break;
	case ORDER_SERVE:
		a->result = server_start(o->text, o->protocol, o->port);
		break;
	case ORDER_ASK:
		ask(o->protocol, o->address, o->port, a->text);
		break;
	case ORDER_END:
		_exit(0);
	}
	a->wall_ns = clock_mono() - wall;
	a->cpu_ns = clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
}

static void pod_main(int control, const struct network_pod *me) {
	struct network_host host;
	struct fault fault;
	struct order o;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (network_host_open(&host, &fault) < 0)
		errx(1, "%s", fault.text);
	if (unshare(CLONE_NEWNET) < 0)
		err(1, "unshare");
	send(control, "", 1, MSG_NOSIGNAL); /* ready */
	while (recv(control, &o, sizeof(o), MSG_WAITALL) == sizeof(o)) {
		struct lab_answer a = { 0 };
		obey(&o, control, me, &host, &a);
		if (send(control, &a, sizeof(a), MSG_NOSIGNAL) != sizeof(a))
			break;
	}
	_exit(0);
}

void lab_pod_start(struct lab *lab, struct lab_pod *pod, const char *id) {
	int pair[2];
	snprintf(pod->id, sizeof(pod->id), "%s", id);
	snprintf(pod->run_dir, sizeof(pod->run_dir), "%s/run-%.40s", lab->root, id);
	mkdir(pod->run_dir, 0700);
	fflush(NULL);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		err(1, "socketpair");
	pod->pid = fork();
	if (pod->pid < 0)
		err(1, "fork");
	if (pod->pid == 0) {
		struct network_pod me = { .id = pod->id, .run_dir = pod->run_dir };
		close(pair[0]);
		pod_main(pair[1], &me);
	}
	char ready;
	close(pair[1]);
	pod->control = pair[0];
	if (recv(pod->control, &ready, 1, 0) != 1)
		errx(1, "pod %s doesn't start", id);
}

static void order_send(struct lab_pod *pod, const struct order *o, const void *more, size_t more_size,
		       struct lab_answer *ret_answer) {
	if (send(pod->control, o, sizeof(*o), MSG_NOSIGNAL) != sizeof(*o) ||
	    (more_size && send(pod->control, more, more_size, MSG_NOSIGNAL) != (ssize_t)more_size))
		err(1, "send to pod %s", pod->id);
	if (o->what == ORDER_END)
		return;
	if (!ret_answer)
		return;
	if (recv(pod->control, ret_answer, sizeof(*ret_answer), MSG_WAITALL) != sizeof(*ret_answer))
		errx(1, "pod %s is gone", pod->id);
}

/* Follows the pod's process through its system calls until it sends its answer
 * or is killed. */
static bool follow_and_kill(struct lab_pod *pod, unsigned stop) {
	int status;
	char ignored[sizeof(struct lab_answer)];
	for (unsigned entered = 0; waitpid(pod->pid, &status, 0) == pod->pid && WIFSTOPPED(status);) {
		struct __ptrace_syscall_info info = { 0 };
		if (WSTOPSIG(status) == (SIGTRAP | 0x80))
			ptrace(PTRACE_GET_SYSCALL_INFO, pod->pid, sizeof(info), &info);
		if (info.op == PTRACE_SYSCALL_INFO_ENTRY && ++entered == stop)
			break;
		if (recv(pod->control, ignored, sizeof(ignored), MSG_DONTWAIT) > 0) {
			lab_pod_kill(pod);
			return false;
		}
		ptrace(PTRACE_SYSCALL, pod->pid, 0, 0);
	}
	lab_pod_kill(pod);
	return true;
}

static void follow_begin(struct lab_pod *pod) {
	int status;
	if (ptrace(PTRACE_SEIZE, pod->pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) < 0 ||
	    ptrace(PTRACE_INTERRUPT, pod->pid, 0, 0) < 0 || waitpid(pod->pid, &status, 0) != pod->pid ||
	    ptrace(PTRACE_SYSCALL, pod->pid, 0, 0) < 0)
		err(1, "trace pod %s", pod->id);
}

void lab_pod_end(struct lab_pod *pod) {
	struct order o = { .what = ORDER_END };
	order_send(pod, &o, NULL, 0, NULL);
	waitpid(pod->pid, NULL, 0);
	fd_close_p(&pod->control);
}

void lab_pod_kill(struct lab_pod *pod) {
	kill(pod->pid, SIGKILL);
	waitpid(pod->pid, NULL, 0);
	fd_close_p(&pod->control);
}

/* ret_answer NULL: only sends the order. */
static void attach_order(struct lab *lab, struct lab_pod *pod, const Bulkhead__PortMapping *ports, size_t n_ports,
			 struct lab_answer *ret_answer, struct fault *ret_fault) {
	Bulkhead__SandboxStartRequest request = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	const Bulkhead__PortMapping *list[16];
	Bulkhead__NetworkPlan *plan;
	struct arena arena;
	for (size_t i = 0; i < n_ports; i++)
		list[i] = &ports[i];
	request.id = pod->id;
	request.name = (char *)"web";
	request.namespace_ = (char *)"default";
	request.uid = (char *)"0001";
	request.port_mappings = (Bulkhead__PortMapping **)list;
	request.n_port_mappings = n_ports;
	arena_init(&arena, 0);
	if (cni_plan(lab->cni, &request, &arena, &plan, ret_fault) == 0) {
		size_t size = bulkhead__network_plan__get_packed_size(plan);
		uint8_t *data = arena_alloc(&arena, size);
		if (!data)
			errx(1, "out of memory");
		bulkhead__network_plan__pack(plan, data);
		order_send(pod, &(struct order){ .what = ORDER_ATTACH, .plan_size = size }, data, size, ret_answer);
	}
	arena_deinit(&arena);
}

void lab_attach_begin(struct lab *lab, struct lab_pod *pod, const Bulkhead__PortMapping *ports, size_t n_ports) {
	struct fault fault;
	attach_order(lab, pod, ports, n_ports, NULL, &fault);
}

void lab_detach_begin(struct lab_pod *pod) {
	order_send(pod, &(struct order){ .what = ORDER_DETACH }, NULL, 0, NULL);
}

void lab_wait(struct lab_pod *pod, struct lab_answer *ret_answer) {
	if (recv(pod->control, ret_answer, sizeof(*ret_answer), MSG_WAITALL) != sizeof(*ret_answer))
		errx(1, "pod %s is gone", pod->id);
	if (ret_answer->result < 0)
		printf("# pod %s: %s\n", pod->id, ret_answer->fault.text);
}

bool lab_attach_killed(struct lab *lab, struct lab_pod *pod, const Bulkhead__PortMapping *ports, size_t n_ports,
		       unsigned stop) {
	struct fault fault;
	follow_begin(pod);
	attach_order(lab, pod, ports, n_ports, NULL, &fault);
	return follow_and_kill(pod, stop);
}

bool lab_detach_killed(struct lab_pod *pod, unsigned stop) {
	follow_begin(pod);
	order_send(pod, &(struct order){ .what = ORDER_DETACH }, NULL, 0, NULL);
	return follow_and_kill(pod, stop);
}

void lab_attach(struct lab *lab, struct lab_pod *pod, const Bulkhead__PortMapping *ports, size_t n_ports,
		struct lab_answer *ret_answer) {
	*ret_answer = (struct lab_answer){ .result = -1 };
	attach_order(lab, pod, ports, n_ports, ret_answer, &ret_answer->fault);
	if (ret_answer->result < 0)
		printf("# attach %s: %s\n", pod->id, ret_answer->fault.text);
	for (size_t i = 0; i < ret_answer->attached.n_warnings; i++)
		printf("# attach %s: %s\n", pod->id, ret_answer->attached.warnings[i]);
}

void lab_detach(struct lab_pod *pod, struct lab_answer *ret_answer) {
	order_send(pod, &(struct order){ .what = ORDER_DETACH }, NULL, 0, ret_answer);
	if (ret_answer->result < 0)
		printf("# detach %s: %s\n", pod->id, ret_answer->fault.text);
}

void lab_detach_gone(struct lab_pod *pod, struct lab_answer *ret_answer) {
	struct network_host host;
	struct network_pod me = { .id = pod->id, .run_dir = pod->run_dir };
	*ret_answer = (struct lab_answer){ 0 };
	ret_answer->result = network_host_open(&host, &ret_answer->fault);
	if (ret_answer->result == 0) {
		ret_answer->result = network_detach(&me, &host, false, &ret_answer->fault);
		network_host_close(&host);
	}
	if (ret_answer->result < 0)
		printf("# detach %s: %s\n", pod->id, ret_answer->fault.text);
}

int lab_run(struct lab_pod *pod, const char *command) {
	struct order o = { .what = ORDER_RUN };
	struct lab_answer a;
	snprintf(o.text, sizeof(o.text), "%s", command);
	order_send(pod, &o, NULL, 0, &a);
	return a.result;
}

bool lab_serve(struct lab_pod *pod, const char *name, int protocol, unsigned port) {
	struct order o = { .what = ORDER_SERVE, .protocol = protocol, .port = port };
	struct lab_answer a;
	snprintf(o.text, sizeof(o.text), "%s", name);
	order_send(pod, &o, NULL, 0, &a);
	return a.result;
}

const char *lab_ask(struct lab_pod *pod, int protocol, const char *address, unsigned port, char ret_text[256]) {
	if (!pod) {
		ask(protocol, address, port, ret_text);
		return ret_text;
	}
	struct order o = { .what = ORDER_ASK, .protocol = protocol, .port = port };
	struct lab_answer a;
	snprintf(o.address, sizeof(o.address), "%s", address);
	order_send(pod, &o, NULL, 0, &a);
	memcpy(ret_text, a.text, sizeof(a.text));
	return ret_text;
}
