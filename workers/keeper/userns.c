#include "workers/keeper/userns.h"

#include "base/fd.h"
#include "workers/keeper/sys.h"

#include <grp.h>
#include <inttypes.h>
#include <linux/nsfs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int mapping_check(Bulkhead__IdMapping *const *map, size_t n, const char *what, struct fault *fault) {
	if (n == 1 && map[0]->container_id == 0 && map[0]->length > 0 && map[0]->host_id > 0 &&
	    (uint64_t)map[0]->host_id + map[0]->length <= UINT32_MAX)
		return 0;
	return fault_set(fault, FAULT_INVALID_ARGUMENT,
			 "a user namespace needs one mapping of %s, from 0 inside to others than the host's root",
			 what);
}

int userns_check(const Bulkhead__SandboxStartRequest *s, struct fault *fault) {
	if (s->n_uid_mappings == 0 && s->n_gid_mappings == 0)
		return 0;
	int r = mapping_check(s->uid_mappings, s->n_uid_mappings, "user ids", fault);
	if (r == 0)
		r = mapping_check(s->gid_mappings, s->n_gid_mappings, "group ids", fault);
	if (r == 0 && (s->network == BULKHEAD__NAMESPACE_MODE__NODE || s->ipc == BULKHEAD__NAMESPACE_MODE__NODE ||
		       s->pid == BULKHEAD__NAMESPACE_MODE__NODE))
		r = fault_set(fault, FAULT_INVALID_ARGUMENT,
			      "a pod with a user namespace can't use the host's network, IPC or PID namespace");
	return r;
}

static int map_write(pid_t pid, const char *name, const Bulkhead__IdMapping *m) {
	char path[64], text[64];
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	int n = snprintf(text, sizeof(text), "%" PRIu32 " %" PRIu32 " %" PRIu32 "\n", m->container_id, m->host_id,
			 m->length);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd_write_all(fd, text, (size_t)n);
}

/* The namespaces have an owner as soon as they are there, and its mappings
 * before anybody is in them. */
static int holder_use(const Bulkhead__SandboxStartRequest *s, pid_t pid, int pidfd, int flags,
		      struct userns *ret_userns, struct fault *fault) {
	char path[64];
	int r = map_write(pid, "uid_map", s->uid_mappings[0]);
	if (r == 0)
		r = map_write(pid, "gid_map", s->gid_mappings[0]);
	if (r < 0)
		return fault_errno(fault, r, "map the ids of the pod's user namespace");
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(pidfd, flags) < 0)
		return fault_errno(fault, errno, "enter the pod's namespaces");
	*ret_userns = (struct userns){ .uid = s->uid_mappings[0]->host_id, .gid = s->gid_mappings[0]->host_id };
	ret_userns->fd = take_fd(&fd);
	return 0;
}

int userns_enter_new(const Bulkhead__SandboxStartRequest *s, int flags, struct userns *ret_userns,
		     struct fault *fault) {
	int pidfd = -1;
	struct clone_args args = { .flags = CLONE_NEWUSER | CLONE_PIDFD | (uint64_t)flags,
				   .pidfd = (uintptr_t)&pidfd,
				   .exit_signal = SIGCHLD };
	siginfo_t info;
	pid_t pid = sys_clone3(&args);
	if (pid == 0)
		for (;;)
			pause();
	if (pid < 0)
		return fault_errno(fault, errno, "make the pod's user namespace (is user.max_user_namespaces 0?)");
	int r = holder_use(s, pid, pidfd, flags, ret_userns, fault);
	sys_pidfd_send_signal(pidfd, SIGKILL);
	waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED);
	fd_close(pidfd);
	return r;
}

int userns_find(int *ret_fd) {
	CLEANUP_FD int net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (net < 0)
		return -errno;
	int fd = ioctl(net, NS_GET_USERNS);
	if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int userns_become_root(struct fault *fault) {
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return fault_errno(fault, errno, "become root of the pod's user namespace");
	return 0;
}
