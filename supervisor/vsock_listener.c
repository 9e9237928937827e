/* Endpoints whose socket is vsock://CID:PORT: between a virtual machine and its
 * host, so it has no file and no owner. */
#include "supervisor/folders.h"

#include "base/fd.h"

#include <errno.h>
#include <sys/socket.h>

#include <linux/vm_sockets.h>

int vsock_listener_open(uint32_t cid, uint32_t port, int *ret_fd, struct fault *fault) {
	const struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
	CLEANUP_FD int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fault_errno(fault, errno, "make a vsock socket (is the kernel's module vsock there?)");
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 4096) < 0)
		return fault_errno(fault, errno, "listen on vsock port %u", port);
	*ret_fd = take_fd(&fd);
	return 0;
}
