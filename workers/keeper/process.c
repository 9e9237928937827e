#include "workers/keeper/process.h"

#include "base/fd.h"
#include "workers/keeper/sys.h"

#include <string.h>
#include <sys/socket.h>

int process_status_pair(int *ret_keeper, int *ret_child) {
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	*ret_keeper = pair[0];
	*ret_child = pair[1];
	return 0;
}

int process_status_receive(int fd, struct status *ret_status, int *ret_fd) {
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { ret_status, sizeof(*ret_status) };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	*ret_fd = -1;
	memset(ret_status, 0, sizeof(*ret_status));
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EWOULDBLOCK || errno == EINTR ? -EAGAIN : -errno;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	if (n == 0)
		return 0;
	if (ret_status->kind != STATUS_READY)
		ret_status->text[FAULT_TEXT_MAX - 1] = '\0';
	return 1;
}

int process_go(int fd) {
	return send(fd, "g", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 0 : -errno;
}

/* The pid namespace of children is a property of the caller: it is changed for
 * the clone and back again. */
static int pid_namespace_enter(int pidfd, struct fault *fault) {
	if (pidfd >= 0 && setns(pidfd, CLONE_NEWPID) < 0)
		return fault_errno(fault, errno, "join the pid namespace");
	return 0;
}

static void pid_namespace_leave(int pidfd) {
	if (pidfd < 0)
		return;
	CLEANUP_FD int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	/* Can't fail for a namespace that we are in; if it did, every later
	 * child would land in the wrong one. */
	if (own < 0 || setns(own, CLONE_NEWPID) < 0)
		_exit(70);
}

int process_spawn(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct fault *fault) {
	CLEANUP_FD int group = s->cgroup ? cgroup_open_v2(s->cgroup) : -1;
	int pidfd = -1;
	struct clone_args args = {
		.flags = s->namespaces | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | (group >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = group >= 0 ? (uint64_t)group : 0,
	};
	int r = pid_namespace_enter(s->pid_namespace_of, fault);
	if (r < 0)
		return r;
	pid_t pid = sys_clone3(&args);
	if (pid == 0) {
		s->body(s->ctx);
		_exit(PROCESS_FAILED);
	}
	int error = errno;
	pid_namespace_leave(s->pid_namespace_of);
	if (pid < 0)
		return fault_errno(fault, error, "make a process");
	*ret_pid = pid;
	*ret_pidfd = pidfd;
	return 0;
}
