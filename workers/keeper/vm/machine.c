/*
 * QEMU and virtiofsd, children of the relay that die with it. virtiofsd serves
 * one folder, a tmpfs of the relay's mount namespace, under which the keeper's
 * stand-ins attach what containers see. QEMU lives on descriptors: all that it
 * opens by itself are its own files. It has another user, no network, and
 * QEMU's own system call filter.
 */
#include "workers/keeper/vm/vm.h"

#include "base/fd.h"
#include "boot/boot.h"
#include "workers/keeper/sys.h"

#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define ARGUMENTS_MAX 96
#define AGENT_BACKLOG 8
#define LINE                                                        \
	"console=ttyS0 quiet tsc=reliable no_timer_check panic=-1 " \
	"agent.server_addr=serial:///dev/virtio-ports/" VM_PORT

/* --- arguments --- */

struct arguments {
	char *list[ARGUMENTS_MAX];
	size_t n;
	bool failed;
};

PRINTF(2, 3) static void add(struct arguments *a, const char *format, ...) {
	va_list list;
	va_start(list, format);
	if (a->n + 1 == ARGUMENTS_MAX || vasprintf(&a->list[a->n], format, list) < 0) {
		a->list[a->n] = NULL;
		a->failed = true;
	} else {
		a->n++;
	}
	va_end(list);
}

static void add_all(struct arguments *a, const char *const *words) {
	for (; *words; words++)
		add(a, "%s", *words);
}

/* --- children --- */

static void stay_open(int fd) {
	if (fd >= 0)
		fcntl(fd, F_SETFD, 0);
}

/* What both are: they die with the relay, say what they say to the console, and
 * have nothing else open but what was told to stay. */
static void child_begin(pid_t parent, int console) {
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	dup2(null, STDIN_FILENO);
	dup2(console, STDOUT_FILENO);
	dup2(console, STDERR_FILENO);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent)
		_exit(1);
}

static int child_make(pid_t *ret_pid, int *ret_pidfd, struct fault *fault) {
	struct clone_args args = { .flags = CLONE_PIDFD, .pidfd = (uintptr_t)ret_pidfd, .exit_signal = SIGCHLD };
	*ret_pid = sys_clone3(&args);
	return *ret_pid < 0 ? fault_errno(fault, errno, "make a process") : 0;
}

static _Noreturn void execute(struct arguments *a) {
	static char *env[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	if (!a->failed)
		execve(a->list[0], a->list, env);
	dprintf(STDERR_FILENO, "execute %s: %s\n", a->list[0], strerrordesc_np(errno));
	_exit(127);
}

static int file_check(const char *key, const char *path, int mode, struct fault *fault) {
	if (access(path, mode) == 0)
		return 0;
	fault_errno(fault, errno, "%s: \"%s\"", key, path);
	fault->code = FAULT_FAILED_PRECONDITION;
	return -EINVAL;
}

/* --- files --- */

/* The tmpfs makes that nothing made below it outlives the namespace. */
static int shared_make(const char *folder, char ret_path[PATH_MAX], struct fault *fault) {
	snprintf(ret_path, PATH_MAX, "%s/" VM_SHARED_NAME, folder);
	int r = make_folders(ret_path);
	if (r < 0)
		return fault_errno(fault, r, "make \"%s\"", ret_path);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("shared", ret_path, "tmpfs", MS_NOSUID, "mode=0755,size=1m") < 0)
		return fault_errno(fault, errno, "make the folder that the guest shares");
	return 0;
}

/* Listening, since virtiofsd takes nothing else, and QEMU's end. */
static int files_pair(const char *folder, int *ret_listener, int *ret_connection, struct fault *fault) {
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	CLEANUP_FD int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CLEANUP_FD int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* The folder's own path may be too long for an address. */
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/files.sock", dir);
	unlink(address.sun_path);
	if (dir < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 1) < 0 ||
	    connect(connection, (struct sockaddr *)&address, sizeof(address)) < 0)
		return fault_errno(fault, errno, "make the socket of virtiofsd");
	unlink(address.sun_path);
	*ret_listener = take_fd(&listener);
	*ret_connection = take_fd(&connection);
	return 0;
}

/* A client's: QEMU takes one connection after the other, and ours is the first. */
static int agent_listen(const char *path, int ret_line[2], struct fault *fault) {
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	CLEANUP_FD int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CLEANUP_FD int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (strlen(path) >= sizeof(address.sun_path))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.200s\" is too long for a socket", path);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || chmod(path, 0600) < 0 ||
	    listen(listener, AGENT_BACKLOG) < 0 ||
	    connect(connection, (struct sockaddr *)&address, sizeof(address)) < 0)
		return fault_errno(fault, errno, "make the agent's socket \"%s\"", path);
	ret_line[0] = take_fd(&connection);
	ret_line[1] = take_fd(&listener);
	return 0;
}

/* Ours and QEMU's end. */
static int agent_line(const char *path, int ret_line[2], struct fault *fault) {
	if (path)
		return agent_listen(path, ret_line, fault);
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_line) < 0
		   ? fault_errno(fault, errno, "make the lines of a virtual machine")
		   : 0;
}

static int virtiofsd_start(const struct boot_vm *c, const char *shared, int listener, int console, int *ret_pidfd,
			   struct fault *fault) {
	struct arguments a = { .n = 0 };
	pid_t parent = getpid(), pid = -1;
	add(&a, "%s", c->virtiofsd);
	add(&a, "--fd=%d", listener);
	add_all(&a, (const char *const[]){ "-o", "sandbox=chroot", "-o", "xattr", "-o", "cache=auto", "-o", NULL });
	add(&a, "source=%s", shared);
	int r = file_check("vm_virtiofsd", c->virtiofsd, X_OK, fault);
	if (r == 0)
		r = child_make(&pid, ret_pidfd, fault);
	if (r < 0 || pid > 0)
		return r;
	child_begin(parent, console);
	stay_open(listener);
	execute(&a);
}

/* --- QEMU --- */

struct qemu {
	const struct boot_vm *config;
	const struct vm_network *network;
	const char *id;
	int kernel, initrd, agent, files, console;
	bool listens; /* agent is a listening socket */
};

static void accel_add(struct arguments *a, uint32_t accel) {
	bool kvm = accel == BOOT_ACCEL_KVM || (accel == BOOT_ACCEL_AUTO && access("/dev/kvm", R_OK | W_OK) == 0);
	if (kvm)
		add_all(a, (const char *const[]){ "-accel", "kvm", NULL });
	/* The next one is tried when one can't be had. */
	if (!kvm || accel == BOOT_ACCEL_AUTO)
		add_all(a, (const char *const[]){ "-accel", "tcg", NULL });
}

static void qemu_arguments(const struct qemu *q, struct arguments *a) {
	const struct boot_vm *c = q->config;
	add(a, "%s", c->qemu);
	add_all(a,
		(const char *const[]){ "-M", "q35,memory-backend=mem", "-cpu", "max", "-nodefaults", "-no-user-config",
				       "-no-reboot", "-display", "none", "-sandbox",
				       "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
				       "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", NULL });
	accel_add(a, c->accel);
	add_all(a, (const char *const[]){ "-name", q->id, "-smp", NULL });
	add(a, "%u", c->cpus);
	add(a, "-m");
	add(a, "%uM", c->memory_mb);
	add(a, "-object");
	add(a, "memory-backend-memfd,id=mem,size=%uM,share=on", c->memory_mb);
	add(a, "-kernel");
	add(a, "/proc/self/fd/%d", q->kernel);
	add(a, "-initrd");
	add(a, "/proc/self/fd/%d", q->initrd);
	add(a, "-append");
	add(a, LINE " %s", c->parameters);
	add(a, "-chardev");
	add(a, "socket,id=agent,fd=%d%s", q->agent, q->listens ? ",server=on,wait=off" : "");
	add_all(a, (const char *const[]){ "-device", "virtio-serial-pci", "-device",
					  "virtserialport,chardev=agent,name=" VM_PORT, "-chardev", NULL });
	add(a, "socket,id=files,fd=%d", q->files);
	add_all(a, (const char *const[]){ "-device", "vhost-user-fs-pci,chardev=files,tag=" VM_SHARE_TAG, NULL });
	for (size_t i = 0; i < q->network->n_links; i++) {
		add(a, "-netdev");
		add(a, "tap,id=net%zu,fd=%d", i, q->network->taps[i]);
		add(a, "-device");
		add(a, "virtio-net-pci,netdev=net%zu,mac=%s,romfile=", i, q->network->links[i].hwaddr);
	}
}

/* KVM's node belongs to a group on most machines. */
static int user_become(const struct boot_vm *c) {
	struct stat st;
	gid_t groups[1];
	size_t n = 0;
	if (stat("/dev/kvm", &st) == 0)
		groups[n++] = st.st_gid;
	return setgroups(n, groups) < 0 || setresgid(c->gid, c->gid, c->gid) < 0 ||
		       setresuid(c->uid, c->uid, c->uid) < 0
		   ? -errno
		   : 0;
}

static _Noreturn void qemu_body(const struct qemu *q, pid_t parent) {
	struct arguments a = { .n = 0 };
	qemu_arguments(q, &a);
	/* Its devices are descriptors; it needs no namespace's network or mounts. */
	int r = unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS) < 0 ? -errno : user_become(q->config);
	child_begin(parent, q->console);
	for (size_t i = 0; i < q->network->n_links; i++)
		stay_open(q->network->taps[i]);
	for (const int *fd = (const int[]){ q->kernel, q->initrd, q->agent, q->files, -1 }; *fd >= 0; fd++)
		stay_open(*fd);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (r < 0) {
		dprintf(STDERR_FILENO, "become QEMU's user: %s\n", strerrordesc_np(-r));
		_exit(127);
	}
	execute(&a);
}

static int file_open(const char *key, const char *path, int *ret_fd, struct fault *fault) {
	int r = file_check(key, path, R_OK, fault);
	if (r == 0 && (*ret_fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		r = fault_errno(fault, errno, "%s: \"%s\"", key, path);
	return r;
}

static int qemu_start(struct qemu *q, int *ret_pidfd, struct fault *fault) {
	pid_t parent = getpid(), pid = -1;
	int r = file_check("vm_qemu", q->config->qemu, X_OK, fault);
	if (r == 0)
		r = file_open("vm_kernel", q->config->kernel, &q->kernel, fault);
	if (r == 0)
		r = file_open("vm_initrd", q->config->initrd, &q->initrd, fault);
	if (r == 0)
		r = child_make(&pid, ret_pidfd, fault);
	if (r == 0 && pid == 0)
		qemu_body(q, parent);
	fd_close(q->kernel);
	fd_close(q->initrd);
	return r;
}

int vm_machine_start(const struct keeper *k, const struct vm_network *n, struct vm_machine *ret_machine,
		     struct fault *fault) {
	char folder[PATH_MAX], shared[PATH_MAX];
	int agent[2], console[2], listener = -1, files = -1;
	snprintf(folder, sizeof(folder), "%s/" VM_FOLDER, k->run_dir);
	if (agent_line(k->pod.vm->agent_socket, agent, fault) < 0)
		return -EINVAL;
	if (pipe2(console, O_CLOEXEC) < 0)
		return fault_errno(fault, errno, "make the lines of a virtual machine");
	*ret_machine = (struct vm_machine){ .config = k->config.vm, .agent = agent[0], .console = console[0] };
	fcntl(agent[0], F_SETFL, O_NONBLOCK);
	fcntl(console[0], F_SETFL, O_NONBLOCK);
	int r = shared_make(folder, shared, fault);
	if (r == 0)
		r = files_pair(folder, &listener, &files, fault);
	if (r < 0)
		return r;
	struct qemu q = { .config = k->config.vm,
			  .network = n,
			  .id = k->id,
			  .kernel = -1,
			  .initrd = -1,
			  .agent = agent[1],
			  .listens = k->pod.vm->agent_socket != NULL,
			  .files = files,
			  .console = console[1] };
	r = virtiofsd_start(k->config.vm, shared, listener, console[1], &ret_machine->files, fault);
	if (r == 0)
		r = qemu_start(&q, &ret_machine->qemu, fault);
	for (const int *fd = (const int[]){ agent[1], console[1], listener, files, -1 }; *fd >= 0; fd++)
		fd_close(*fd);
	for (size_t i = 0; i < n->n_links; i++)
		fd_close(n->taps[i]);
	return r;
}
