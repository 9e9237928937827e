#include "workers/keeper/vm/vm.h"

#include "base/fd.h"

#include <string.h>
#include <sys/socket.h>

union space {
	char space[CMSG_SPACE(sizeof(int) * VM_FDS_MOST)];
	struct cmsghdr align;
};

ssize_t vm_send_raw(int socket, const struct iovec *iov, size_t n_iov, const int *fds, size_t n_fds) {
	union space control = { { 0 } };
	struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n_iov };
	if (n_fds > 0) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	ssize_t n;
	while ((n = sendmsg(socket, &m, MSG_NOSIGNAL)) < 0 && errno == EINTR)
		;
	return n < 0 ? -errno : n;
}

ssize_t vm_receive_raw(int socket, const struct iovec *iov, size_t n_iov, int *fds, size_t room, size_t *ret_n_fds) {
	union space control;
	struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)iov,
			    .msg_iovlen = n_iov,
			    .msg_control = room > 0 ? &control : NULL,
			    .msg_controllen = room > 0 ? CMSG_SPACE(sizeof(int) * room) : 0 };
	ssize_t n;
	*ret_n_fds = 0;
	while ((n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
		;
	if (n < 0)
		return -errno;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		/* Padding has room for one more. */
		size_t got = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		*ret_n_fds = MIN(got, room);
		memcpy(fds, CMSG_DATA(c), *ret_n_fds * sizeof(int));
		for (size_t i = room; i < got; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			fd_close(fd);
		}
	}
	return n;
}

int vm_send(int socket, const struct vm_packet *p, const void *payload, size_t size, const int *fds, size_t n_fds) {
	struct iovec iov[] = { { (void *)(uintptr_t)p, sizeof(*p) }, { (void *)(uintptr_t)payload, size } };
	if (size > VM_PAYLOAD_MAX)
		return -EMSGSIZE;
	ssize_t n = vm_send_raw(socket, iov, size ? 2 : 1, fds, n_fds);
	return n < 0 ? (int)n : 0;
}

int vm_receive(int socket, struct vm_packet *ret_packet, void *payload, size_t *ret_size, int fds[VM_FDS_MAX],
	       size_t *ret_n_fds) {
	struct iovec iov[] = { { ret_packet, sizeof(*ret_packet) }, { payload, VM_PAYLOAD_MAX } };
	size_t n_fds;
	ssize_t n = vm_receive_raw(socket, iov, payload ? 2 : 1, fds, fds ? VM_FDS_MAX : 0, &n_fds);
	if (n <= 0)
		return (int)n;
	if (ret_n_fds)
		*ret_n_fds = n_fds;
	if ((size_t)n < sizeof(*ret_packet)) {
		for (size_t i = 0; i < n_fds; i++)
			fd_close(fds[i]);
		return -EBADMSG;
	}
	ret_packet->container[sizeof(ret_packet->container) - 1] = '\0';
	ret_packet->process[sizeof(ret_packet->process) - 1] = '\0';
	if (ret_size)
		*ret_size = (size_t)n - sizeof(*ret_packet);
	return 1;
}

int vm_send_fault(int socket, const struct fault *fault) {
	struct vm_packet p = { .kind = VM_FAULT, .value = (int32_t)fault->code };
	return vm_send(socket, &p, fault->text, strlen(fault->text), NULL, 0);
}
