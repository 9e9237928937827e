/*
 * A VMM and virtiofsd, children of the relay that die with it. virtiofsd serves
 * one folder, a tmpfs of the relay's mount namespace, under which the keeper's
 * stand-ins attach what containers see. The VMM lives on descriptors: all that it
 * opens by itself are its own files. It has another user and no network.
 */
#include "workers/keeper/vm/machine.h"

#include "base/fd.h"
#include "workers/keeper/sys.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static const struct vmm *const vmms[] = {
	[BOOT_VMM_QEMU] = &vmm_qemu,
	[BOOT_VMM_UML] = &vmm_uml,
};

/* --- arguments --- */

void arguments_add(struct arguments *a, const char *format, ...) {
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

void arguments_add_all(struct arguments *a, const char *const *words) {
	for (; *words; words++)
		arguments_add(a, "%s", *words);
}

/* --- children --- */

void machine_stay_open(int fd) {
	if (fd >= 0)
		fcntl(fd, F_SETFD, 0);
}

void machine_child_begin(int relay, int console) {
	struct pollfd p = { .fd = relay, .events = POLLIN };
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	dup2(null, STDIN_FILENO);
	dup2(console, STDOUT_FILENO);
	dup2(console, STDERR_FILENO);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	/* It may have ended before. */
	if (poll(&p, 1, 0) != 0)
		_exit(1);
}

int machine_child_make(uint64_t namespaces, pid_t *ret_pid, int *ret_pidfd, struct fault *fault) {
	struct clone_args args = { .flags = CLONE_PIDFD | namespaces,
				   .pidfd = (uintptr_t)ret_pidfd,
				   .exit_signal = SIGCHLD };
	*ret_pid = sys_clone3(&args);
	return *ret_pid < 0 ? fault_errno(fault, errno, "make a process") : 0;
}

void machine_child_fail(const char *what, int error) {
	dprintf(STDERR_FILENO, "%s: %s\n", what, strerrordesc_np(error));
	_exit(127);
}

char *const machine_environment[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", (char *)"HOME=/tmp",
				      (char *)"TMPDIR=/tmp", NULL };

void machine_execute(struct arguments *a) {
	if (!a->failed)
		execve(a->list[0], a->list, machine_environment);
	machine_child_fail(a->list[0], errno);
}

int machine_user(const struct boot_vm *c, const gid_t *groups, size_t n) {
	return setgroups(n, groups) < 0 || setresgid(c->gid, c->gid, c->gid) < 0 ||
		       setresuid(c->uid, c->uid, c->uid) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0
		   ? -errno
		   : 0;
}

/* --- files --- */

int machine_file_check(const char *key, const char *path, int mode, struct fault *fault) {
	if (access(path, mode) == 0)
		return 0;
	fault_errno(fault, errno, "%s: \"%s\"", key, path);
	fault->code = FAULT_FAILED_PRECONDITION;
	return -EINVAL;
}

int machine_file_open(const char *key, const char *path, int *ret_fd, struct fault *fault) {
	*ret_fd = open(path, O_RDONLY | O_CLOEXEC);
	return *ret_fd < 0 ? fault_errno(fault, errno, "%s: \"%s\"", key, path) : 0;
}

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

/* --- sockets --- */

/* The folder's own path may be too long for an address. */
static int place(const char *folder, const char *name, struct sockaddr_un *ret) {
	int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", dir, name);
	return dir;
}

int machine_listen(const char *folder, const char *name, int *ret_listener, struct fault *fault) {
	struct sockaddr_un address;
	CLEANUP_FD int dir = place(folder, name, &address);
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unlink(address.sun_path);
	if (dir < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0)
		return fault_errno(fault, errno, "make the socket \"%s\"", name);
	*ret_listener = take_fd(&fd);
	return 0;
}

int machine_connect(const char *folder, const char *name, int *ret_socket, struct fault *fault) {
	struct sockaddr_un address;
	CLEANUP_FD int dir = place(folder, name, &address);
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (dir < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return fault_errno(fault, errno, "reach the socket \"%s\"", name);
	unlink(address.sun_path);
	*ret_socket = take_fd(&fd);
	return 0;
}

/* --- the agent's line --- */

#define AGENT_BACKLOG 8

/* A client's: the VMM takes one connection after the other, and ours is the first. */
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

/* Ours and the VMM's end. */
static int agent_line(const struct vmm *v, const char *path, int ret_line[2], struct fault *fault) {
	if (path && !v->listens)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "a client can't have the agent's socket of %s", v->name);
	if (path)
		return agent_listen(path, ret_line, fault);
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_line) < 0
		   ? fault_errno(fault, errno, "make the lines of a virtual machine")
		   : 0;
}

/* --- virtiofsd --- */

/* Listening, since it takes nothing else. */
static int virtiofsd_start(const struct machine_birth *b, int *ret_pidfd, struct fault *fault) {
	struct arguments a = { .n = 0 };
	pid_t pid = -1;
	CLEANUP_FD int listener = -1;
	CLEANUP_FD int relay = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int r = machine_listen(b->folder, MACHINE_FILES, &listener, fault);
	arguments_add(&a, "%s", b->config->virtiofsd);
	arguments_add(&a, "--fd=%d", listener);
	arguments_add_all(
	    &a, (const char *const[]){ "-o", "sandbox=chroot", "-o", "xattr", "-o", "cache=auto", "-o", NULL });
	arguments_add(&a, "source=%s", b->shared);
	if (r == 0)
		r = machine_child_make(0, &pid, ret_pidfd, fault);
	if (r < 0 || pid > 0)
		return r;
	machine_child_begin(relay, b->console);
	machine_stay_open(listener);
	machine_execute(&a);
}

/* --- all of it --- */

const char *vm_machine_name(const struct boot_vm *c) {
	return vmms[c->vmm]->name;
}

bool vm_machine_headers(const struct boot_vm *c) {
	return vmms[c->vmm]->headers;
}

static int check(const struct vmm *v, const struct boot_vm *c, struct fault *fault) {
	int r = v->check(c, fault);
	if (r == 0)
		r = machine_file_check("vm_initrd", c->initrd, R_OK, fault);
	return r < 0 ? r : machine_file_check("vm_virtiofsd", c->virtiofsd, X_OK, fault);
}

int vm_machine_start(const struct keeper *k, const struct vm_network *n, struct vm_machine *ret_machine,
		     struct fault *fault) {
	const struct vmm *v = vmms[k->config.vm->vmm];
	char folder[PATH_MAX], shared[PATH_MAX];
	int agent[2], console[2];
	snprintf(folder, sizeof(folder), "%s/" VM_FOLDER, k->run_dir);
	if (agent_line(v, k->pod.vm->agent_socket, agent, fault) < 0)
		return -EINVAL;
	if (pipe2(console, O_CLOEXEC) < 0)
		return fault_errno(fault, errno, "make the lines of a virtual machine");
	*ret_machine = (struct vm_machine){
		.agent = agent[0], .console = console[0], .announces = v->announces, .front = -1, .back = -1
	};
	fcntl(agent[0], F_SETFL, O_NONBLOCK);
	fcntl(console[0], F_SETFL, O_NONBLOCK);
	struct machine_birth b = { .config = k->config.vm,
				   .network = n,
				   .id = k->id,
				   .folder = folder,
				   .shared = shared,
				   .agent = agent[1],
				   .listens = k->pod.vm->agent_socket != NULL,
				   .console = console[1] };
	int r = check(v, b.config, fault);
	if (r == 0)
		r = shared_make(folder, shared, fault);
	if (r == 0)
		r = virtiofsd_start(&b, &ret_machine->files, fault);
	if (r == 0)
		r = v->start(&b, ret_machine, fault);
	fd_close(agent[1]);
	fd_close(console[1]);
	for (size_t i = 0; i < n->n_links; i++)
		fd_close(n->taps[i]);
	return r;
}
