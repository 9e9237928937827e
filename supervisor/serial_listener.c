/* Endpoints whose socket is serial:///dev/NAME: a virtio-serial port or a serial
 * line, for virtual machines without vsock. The device is itself what the API
 * worker gets; it serves one connection after the other on it. */
#include "supervisor/folders.h"

#include "base/fd.h"

#include <fcntl.h>
#include <sys/stat.h>

int serial_listener_open(const char *path, int *ret_fd, struct fault *fault) {
	/* It isn't waited for a carrier; written is as to a file. */
	CLEANUP_FD int fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return fault_errno(fault, errno, "open the serial line %s", path);
	if (!S_ISCHR(st.st_mode))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s is no character device", path);
	int r = isatty(fd) ? fd_set_raw(fd) : 0;
	if (r == 0 && fcntl(fd, F_SETFL, O_RDWR) < 0)
		r = -errno;
	if (r < 0)
		return fault_errno(fault, r, "set up the serial line %s", path);
	*ret_fd = take_fd(&fd);
	return 0;
}
