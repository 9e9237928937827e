#include "workers/skeleton/image.h"

#include "base/fd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

static int image_copy(const char *name, int from, int *ret_copy) {
	struct stat st;
	CLEANUP_FD int copy = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	/* Kernels before 6.3 don't know the flag and need none. */
	if (copy < 0 && errno == EINVAL)
		copy = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (copy < 0 || fstat(from, &st) < 0)
		return -errno;
	for (off_t done = 0; done < st.st_size;) {
		ssize_t n = sendfile(copy, from, &done, (size_t)(st.st_size - done));
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
	}
	if (fcntl(copy, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return -errno;
	*ret_copy = take_fd(&copy);
	return 0;
}

int image_seal(const char *name, char **argv) {
	CLEANUP_FD int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	CLEANUP_FD int copy = -1;
	if (self < 0)
		return -errno;
	int seals = fcntl(self, F_GET_SEALS);
	if (seals > 0 && seals & F_SEAL_WRITE)
		return 0;
	int r = image_copy(name, self, &copy);
	if (r < 0)
		return r;
	fexecve(copy, argv, environ);
	return -errno;
}
