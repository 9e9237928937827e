#include "boot/control.h"

#include "base/fd.h"

#include <string.h>
#include <sys/socket.h>

union fd_space {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int) * CONTROL_FDS_MAX)];
};

int control_pair(int ret_fds[2]) {
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_fds) < 0 ? -errno : 0;
}

int control_send(int fd, const struct control *c, const int *fds, size_t n_fds) {
	if (n_fds > CONTROL_FDS_MAX)
		return -EINVAL;
	union fd_space space = { 0 };
	struct iovec iov = { .iov_base = (void *)c, .iov_len = sizeof(*c) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (n_fds > 0) {
		m.msg_control = &space;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(h), fds, sizeof(int) * n_fds);
	}
	ssize_t n;
	do
		n = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

void control_fds_close(int fds[CONTROL_FDS_MAX]) {
	for (size_t i = 0; i < CONTROL_FDS_MAX; i++)
		fd_replace(&fds[i], -1);
}

static size_t take_rights(struct msghdr *m, int ret_fds[CONTROL_FDS_MAX]) {
	size_t n = 0;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
			if (n < CONTROL_FDS_MAX)
				ret_fds[n++] = fd;
			else
				close(fd);
		}
	}
	return n;
}

int control_recv(int fd, struct control *ret_c, int ret_fds[CONTROL_FDS_MAX], size_t *ret_n_fds) {
	for (size_t i = 0; i < CONTROL_FDS_MAX; i++)
		ret_fds[i] = -1;
	*ret_n_fds = 0;
	union fd_space space;
	struct iovec iov = { .iov_base = ret_c, .iov_len = sizeof(*ret_c) };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &space,
		.msg_controllen = sizeof(space),
	};
	ssize_t n;
	do
		n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	if (n == 0)
		return 0;
	*ret_n_fds = take_rights(&m, ret_fds);
	if (n != sizeof(*ret_c) || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		control_fds_close(ret_fds);
		*ret_n_fds = 0;
		return -EBADMSG;
	}
	ret_c->text[sizeof(ret_c->text) - 1] = '\0';
	return 1;
}
