/* What a container must not see or change: masked paths get something empty
 * mounted over them, read-only ones a read-only view of themselves. */
#include "base/fd.h"
#include "workers/keeper/inside.h"
#include "workers/keeper/rootfs.h"
#include "workers/keeper/sys.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

static int move_onto(int tree, int target) {
	return syscall(SYS_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0
		   ? -errno
		   : 0;
}

static int clone_fd(int fd, unsigned flags) {
	int tree = (int)syscall(SYS_open_tree, fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | flags);
	return tree < 0 ? -errno : tree;
}

/* One empty file system serves all masked folders: the first mask attaches it,
 * the others are clones of the attached one. */
static int mask_folder(int target, int *empty) {
	if (*empty >= 0) {
		CLEANUP_FD int tree = clone_fd(*empty, 0);
		return tree < 0 ? tree : move_onto(tree, target);
	}
	struct fault ignored;
	int r = rootfs_new_fs("tmpfs", "tmpfs", NULL, MOUNT_ATTR_RDONLY, empty, &ignored);
	return r < 0 ? r : move_onto(*empty, target);
}

/* Files are hidden by the host's /dev/null; that it is it, is checked. */
static int mask_file(int target) {
	CLEANUP_FD int tree = -1;
	struct stat st;
	int r = rootfs_clone("/dev/null", false, &tree);
	if (r < 0)
		return r;
	if (fstat(tree, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		return -ENODEV;
	return move_onto(tree, target);
}

static int mask(const struct rootfs *r, const char *path, int *empty, struct fault *fault) {
	CLEANUP_FD int target = inside_open(r->root, path, O_PATH);
	if (target == -ENOENT || target == -ENOTDIR)
		return 0;
	int e = target < 0 ? target : rootfs_is_directory(target) ? mask_folder(target, empty) : mask_file(target);
	return e < 0 ? fault_errno(fault, e, "mask \"%s\"", path) : 0;
}

static int make_readonly(const struct rootfs *r, const char *path, struct fault *fault) {
	struct mount_attr a = { .attr_set = MOUNT_ATTR_RDONLY };
	CLEANUP_FD int target = inside_open(r->root, path, O_PATH);
	if (target == -ENOENT || target == -ENOTDIR)
		return 0;
	CLEANUP_FD int tree = target < 0 ? target : clone_fd(target, AT_RECURSIVE);
	int e = tree < 0 ? tree : 0;
	if (e == 0 && syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof(a)) < 0)
		e = -errno;
	if (e == 0)
		e = move_onto(tree, target);
	return e < 0 ? fault_errno(fault, e, "make \"%s\" read-only", path) : 0;
}

int rootfs_hide(const struct rootfs *r, struct fault *fault) {
	const Grpc__Linux *l = r->spec->linux;
	CLEANUP_FD int empty = -1;
	int e = 0;
	for (size_t i = 0; e == 0 && l && i < l->n_readonlypaths; i++)
		e = make_readonly(r, l->readonlypaths[i], fault);
	for (size_t i = 0; e == 0 && l && i < l->n_maskedpaths; i++)
		e = mask(r, l->maskedpaths[i], &empty, fault);
	if (e < 0 || !r->spec->root || !r->spec->root->readonly)
		return e;
	struct mount_attr a = { .attr_set = MOUNT_ATTR_RDONLY };
	if (syscall(SYS_mount_setattr, r->root, "", AT_EMPTY_PATH, &a, sizeof(a)) < 0)
		return fault_errno(fault, errno, "make the root read-only");
	return 0;
}
