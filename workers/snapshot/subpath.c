#include "workers/snapshot/subpath.h"

#include "base/fd.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* A folder beside the layers. */
#define PLACE ".view"

/* What the path leads to, or doesn't, is the image's doing and the caller's. */
static int refuse(int error, const char *path, struct fault *fault) {
	switch (error) {
	case ENOENT:
	case ENOTDIR:
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the image has no \"%.256s\"", path);
	case ELOOP:
	case ENAMETOOLONG:
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "sub path \"%.256s\": %s", path,
				 strerrordesc_np(error));
	default:
		return fault_errno(fault, error, "open the sub path \"%.256s\"", path);
	}
}

static int resolve(const char *path, int *ret_fd, struct fault *fault) {
	struct stat st;
	CLEANUP_FD int root = open(PLACE, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (root < 0)
		return fault_errno(fault, errno, "open the view");
	CLEANUP_FD int fd = fd_open_in(root, path, O_PATH, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	if (fd < 0)
		return refuse(-fd, path, fault);
	if (fstat(fd, &st) < 0)
		return fault_errno(fault, errno, "look at the sub path \"%.256s\"", path);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "\"%.256s\" in the image is neither a folder nor a regular file", path);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int clone_part(const char *path, int *ret_mount, struct fault *fault) {
	CLEANUP_FD int part = -1;
	int r = resolve(path, &part, fault);
	if (r < 0)
		return r;
	int fd = open_tree(part, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (fd < 0)
		return fault_errno(fault, errno, "clone the mount of the sub path \"%.256s\"", path);
	*ret_mount = fd;
	return 0;
}

int subpath_mount(int view, const char *path, int *ret_mount, struct fault *fault) {
	if (mkdir(PLACE, 0700) < 0 && errno != EEXIST)
		return fault_errno(fault, errno, "make a place for views");
	if (move_mount(view, "", AT_FDCWD, PLACE, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return fault_errno(fault, errno, "attach the view");
	int r = clone_part(path, ret_mount, fault);
	umount2(PLACE, MNT_DETACH);
	return r;
}
