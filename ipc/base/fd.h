/* File descriptors as owned values: -1 is none, closing is a cleanup. */
#pragma once

#include "base/macros.h"

#include <errno.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <unistd.h>

static inline void fd_close(int fd) {
	int saved = errno;
	if (fd >= 0)
		close(fd);
	errno = saved;
}
static inline void fd_close_p(int *fd) {
	fd_close(*fd);
	*fd = -1;
}
#define CLEANUP_FD CLEANUP(fd_close_p)

/* Hands ownership of a descriptor on: the variable is -1 afterwards. */
static inline int take_fd(int *fd) {
	int t = *fd;
	*fd = -1;
	return t;
}

/* Closes what *slot held and puts fd there. */
static inline void fd_replace(int *slot, int fd) {
	fd_close(*slot);
	*slot = fd;
}

/* Writes all of data; 0 or a negative errno. Blocks when the descriptor does. */
int fd_write_all(int fd, const void *data, size_t size);
/* Reads until end of file or max bytes, NUL-terminates; *ret_data is from
 * malloc. -EFBIG when there is more than max. */
int fd_read_all(int fd, size_t max, char **ret_data, size_t *ret_size);
/* openat2 with O_CLOEXEC; "" is the folder itself, and resolve has RESOLVE_*. Names
 * that a race with somebody's rename or mount made the kernel give up are looked up
 * again. A negative errno on failure. */
int fd_open_in(int folder, const char *path, uint64_t flags, uint64_t resolve);
/* mkdir -p, mode 0755. What is there stays as it is, -ENOTDIR unless folders. */
int make_folders(const char *path);
/* Of a terminal or serial line: nothing that is sent may mean anything to it, and
 * no loss of carrier. */
int fd_set_raw(int fd);
