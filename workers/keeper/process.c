#include "workers/keeper/process.h"

#include "base/fd.h"
#include "workers/keeper/sys.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

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
	if (ret_status->kind != STATUS_READY && ret_status->kind != STATUS_PROCESS)
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

static int spawn(const struct spawn *s, uint64_t more, pid_t *ret_pid, int *ret_pidfd, struct fault *fault) {
	CLEANUP_FD int group = s->cgroup ? cgroup_open_v2(s->cgroup) : -1;
	int pidfd = -1;
	struct clone_args args = {
		.flags = s->namespaces | more | CLONE_PIDFD | CLONE_CLEAR_SIGHAND |
			 (group >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = more & CLONE_PARENT ? 0 : SIGCHLD,
		.cgroup = group >= 0 ? (uint64_t)group : 0,
	};
	pid_t pid = sys_clone3(&args);
	if (pid == 0) {
		s->body(s->ctx);
		_exit(PROCESS_FAILED);
	}
	if (pid < 0)
		return fault_errno(fault, errno, "make a process");
	*ret_pid = pid;
	*ret_pidfd = pidfd;
	return 0;
}

/* --- with a user namespace --- */

/* What the copy in between says; the pidfd comes with it. */
struct birth_report {
	pid_t pid;
	struct fault fault;
};

static void report_send(int socket, const struct birth_report *report, int pidfd) {
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { (void *)report, sizeof(*report) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (pidfd >= 0) {
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &pidfd, sizeof(int));
	}
	ssize_t ignored = sendmsg(socket, &m, MSG_NOSIGNAL);
	(void)ignored;
}

static int report_receive(int socket, struct birth_report *ret_report, int *ret_pidfd) {
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { ret_report, sizeof(*ret_report) };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	ssize_t n;
	while ((n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
		;
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	*ret_pidfd = -1;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(ret_pidfd, CMSG_DATA(c), sizeof(int));
	return n == sizeof(*ret_report) ? 0 : -EIO;
}

static _Noreturn void between(const struct spawn *s, int socket) {
	struct birth_report report = { 0 };
	struct fault *fault = &report.fault;
	int pidfd = -1;
	int r = s->before ? s->before(s->ctx, fault) : 0;
	/* In this order: whose pid namespace it is may be out of sight inside. */
	if (r == 0)
		r = pid_namespace_enter(s->pid_namespace_of, fault);
	if (r == 0 && setns(s->userns->fd, CLONE_NEWUSER) < 0)
		r = fault_errno(fault, errno, "enter the pod's user namespace");
	if (r == 0)
		r = spawn(s, CLONE_PARENT, &report.pid, &pidfd, fault);
	report_send(socket, &report, pidfd);
	_exit(0);
}

static int spawn_inside(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct fault *fault) {
	int pair[2], copy = -1;
	struct birth_report report;
	struct clone_args args = { .flags = CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
				   .pidfd = (uintptr_t)&copy,
				   .exit_signal = SIGCHLD };
	siginfo_t info;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fault_errno(fault, errno, "make a process");
	CLEANUP_FD int ours = pair[0];
	CLEANUP_FD int theirs = pair[1];
	pid_t pid = sys_clone3(&args);
	if (pid == 0) {
		fd_replace(&ours, -1);
		between(s, theirs);
	}
	if (pid < 0)
		return fault_errno(fault, errno, "make a process");
	fd_replace(&theirs, -1);
	int r = report_receive(ours, &report, ret_pidfd);
	waitid(P_PIDFD, (id_t)copy, &info, WEXITED);
	fd_close(copy);
	if (r < 0)
		return fault_set(fault, FAULT_INTERNAL, "the process that makes the container's has died");
	if (*ret_pidfd < 0) {
		*fault = report.fault;
		return fault_prefix(fault, -EIO, "make a process in the pod's user namespace");
	}
	*ret_pid = report.pid;
	return 0;
}

int process_spawn(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct fault *fault) {
	if (s->userns && s->userns->fd >= 0)
		return spawn_inside(s, ret_pid, ret_pidfd, fault);
	int r = pid_namespace_enter(s->pid_namespace_of, fault);
	if (r < 0)
		return r;
	r = spawn(s, 0, ret_pid, ret_pidfd, fault);
	pid_namespace_leave(s->pid_namespace_of);
	return r;
}
