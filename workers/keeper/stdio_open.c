/* The names that clients give to streams, and what they lead to. A name is the
 * client's, so nothing is used before it is known to be what it claims. */
#include "workers/keeper/stdio.h"

#include "base/fd.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int fifo_open(const char *path, enum stdio_use use, const char *stream, int *ret_fd, struct fault *fault) {
	char self[32];
	struct stat st;
	CLEANUP_FD int found = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (found < 0 || fstat(found, &st) < 0)
		return fault_errno(fault, errno, "open \"%s\" for %s", path, stream);
	if (!S_ISFIFO(st.st_mode))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" for %s is not a fifo", path, stream);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", found);
	/* A reader alone sees when its writers have gone. */
	int fd = open(self, (use == STDIO_INPUT ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return fault_errno(fault, errno, "open \"%s\" for %s", path, stream);
	*ret_fd = fd;
	return 0;
}

static int file_open(const char *path, enum stdio_use use, const char *stream, int *ret_fd, struct fault *fault) {
	char folder[PATH_MAX];
	struct stat st;
	if (use != STDIO_OUTPUT)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\": %s can't come from a file", path, stream);
	snprintf(folder, sizeof(folder), "%s", path);
	char *slash = strrchr(folder, '/');
	if (slash > folder) {
		*slash = '\0';
		int r = make_folders(folder);
		if (r < 0)
			return fault_errno(fault, r, "make the folder of \"%s\" for %s", path, stream);
	}
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
	if (fd < 0)
		return fault_errno(fault, errno, "open \"%s\" for %s", path, stream);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" for %s is not a regular file", path, stream);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int binary_open(const char *path, enum stdio_use use, const char *stream, int *ret_fd, struct fault *fault) {
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.200s\" for %s: a program takes stdout, and stderr with it",
			 path, stream);
}

static const struct {
	const char *prefix;
	int (*open)(const char *path, enum stdio_use use, const char *stream, int *ret_fd, struct fault *fault);
} schemes[] = {
	{ "fifo://", fifo_open },
	{ "file://", file_open },
	{ "binary://", binary_open },
	{ "", fifo_open },
};

int stdio_open(const char *name, enum stdio_use use, const char *stream, int *ret_fd, struct fault *fault) {
	size_t i = 0, n;
	*ret_fd = -1;
	if (!name[0])
		return 0;
	while ((n = strlen(schemes[i].prefix)) && strncmp(name, schemes[i].prefix, n) != 0)
		i++;
	if (name[n] != '/' || strlen(name) >= PATH_MAX)
		return fault_set(
		    fault, FAULT_INVALID_ARGUMENT,
		    "\"%.200s\" for %s is neither an absolute path nor fifo://, file:// or binary:// and one", name,
		    stream);
	return schemes[i].open(name + n, use, stream, ret_fd, fault);
}
