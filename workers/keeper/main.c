/*
 * bulkhead-keeper: started by the supervisor as the keepers' zygote.
 *
 * Its image is a sealed copy in memory: keepers enter the pid namespaces of
 * containers before they exec, and what /proc/<pid>/exe of theirs leads to must
 * be nothing that anybody could write to.
 */
#include "base/fd.h"
#include "base/log.h"
#include "workers/keeper/criu.h"
#include "workers/keeper/sys.h"
#include "workers/keeper/title.h"
#include "workers/keeper/zygote.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

static int image_copy(int from, int *ret_copy) {
	struct stat st;
	CLEANUP_FD int copy = memfd_create("bulkhead-keeper", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	/* Kernels before 6.3 don't know the flag and need none. */
	if (copy < 0 && errno == EINVAL)
		copy = memfd_create("bulkhead-keeper", MFD_CLOEXEC | MFD_ALLOW_SEALING);
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

/* Returns once it runs from a sealed copy. */
static int image_seal(char **argv) {
	CLEANUP_FD int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	CLEANUP_FD int copy = -1;
	if (self < 0)
		return -errno;
	int seals = fcntl(self, F_GET_SEALS);
	if (seals > 0 && seals & F_SEAL_WRITE)
		return 0;
	int r = image_copy(self, &copy);
	if (r < 0)
		return r;
	fexecve(copy, argv, environ);
	return -errno;
}

int main(int argc, char **argv) {
	if (criu_calls())
		return criu_called();
	int r = image_seal(argv);
	if (r < 0) {
		log_init("keeper", LOG_INFO);
		log_text(LOG_ERROR, "run from a sealed copy: %s", strerrordesc_np(-r));
		return 1;
	}
	prctl(PR_SET_NAME, "bulkhead-keeper", 0, 0, 0);
	title_init(argc, argv);
	return worker_main(&zygote_class, argc, argv);
}
