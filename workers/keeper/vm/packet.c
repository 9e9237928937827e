#include "workers/keeper/vm/vm.h"

#include "base/fd.h"

#include <string.h>
#include <sys/socket.h>

int vm_send(int socket, const struct vm_packet *p, const void *payload, size_t size, const int *fds, size_t n_fds) {
	union {
		char space[CMSG_SPACE(sizeof(int) * VM_FDS_MAX)];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov[] = { { (void *)(uintptr_t)p, sizeof(*p) }, { (void *)(uintptr_t)payload, size } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = size ? 2 : 1 };
	if (size > VM_PAYLOAD_MAX)
		return -EMSGSIZE;
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
	return n < 0 ? -errno : 0;
}

int vm_receive(int socket, struct vm_packet *ret_packet, void *payload, size_t *ret_size, int fds[VM_FDS_MAX],
	       size_t *ret_n_fds) {
	union {
		char space[CMSG_SPACE(sizeof(int) * VM_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov[] = { { ret_packet, sizeof(*ret_packet) }, { payload, VM_PAYLOAD_MAX } };
	struct msghdr m = { .msg_iov = iov,
			    .msg_iovlen = payload ? 2 : 1,
			    .msg_control = fds ? &control : NULL,
			    .msg_controllen = fds ? sizeof(control) : 0 };
	ssize_t n;
	while ((n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
		;
	if (n <= 0)
		return n < 0 ? -errno : 0;
	struct cmsghdr *c = fds ? CMSG_FIRSTHDR(&m) : NULL;
	size_t n_fds = 0;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(c), n_fds * sizeof(int));
	}
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
