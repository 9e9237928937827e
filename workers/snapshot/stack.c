#include "workers/snapshot/stack.h"

#include "base/fd.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/xattr.h>

enum step { STEP_FOUND, STEP_BELOW, STEP_HIDDEN };

static bool is_opaque(int dir) {
	char value;
	CLEANUP_FD int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 && fgetxattr(fd, "trusted.overlay.opaque", &value, 1) == 1 && value == 'y';
}

/* Goes down one layer as far as it has the path. */
static int layer_find(int layer, const char *path, int *ret_fd, struct stat *ret_st) {
	char name[NAME_MAX + 1];
	bool opaque = false;
	CLEANUP_FD int at = openat(layer, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (at < 0 || fstat(at, ret_st) < 0)
		return -errno;
	for (const char *p = path; *p;) {
		const char *end = strchrnul(p, '/');
		if ((size_t)(end - p) > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, p, (size_t)(end - p));
		name[end - p] = '\0';
		if (!S_ISDIR(ret_st->st_mode))
			return STEP_HIDDEN;
		opaque = opaque || is_opaque(at);
		int fd = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return errno == ENOENT ? (opaque ? STEP_HIDDEN : STEP_BELOW) : -errno;
		fd_replace(&at, fd);
		if (fstat(at, ret_st) < 0)
			return -errno;
		if (S_ISCHR(ret_st->st_mode) && ret_st->st_rdev == 0)
			return STEP_HIDDEN;
		p = *end ? end + 1 : end;
	}
	*ret_fd = take_fd(&at);
	return STEP_FOUND;
}

int stack_find(const int *layers, size_t n, const char *path, int *ret_fd, struct stat *ret_st, size_t *ret_layer) {
	for (size_t i = 0; i < n; i++) {
		int r = layer_find(layers[i], path, ret_fd, ret_st);
		if (r < 0)
			return r;
		if (r == STEP_FOUND) {
			*ret_layer = i;
			return 0;
		}
		if (r == STEP_HIDDEN)
			break;
	}
	return -ENOENT;
}
