/*
 * The new root is put together before it is a root: each visible path is
 * cloned as a detached mount while the old root is still there, then a tmpfs
 * gets a folder or a file at each place, then the clones are attached to it.
 * pivot_root and a detached unmount leave nothing of the old root behind.
 */
#include "workers/skeleton/root.h"

#include "base/fd.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct piece {
	const struct boot_visible *what;
	int mount; /* detached; -1: not there */
	bool folder;
};

static void pieces_close(struct piece (*pieces)[BOOT_VISIBLE_MAX]) {
	for (size_t i = 0; i < BOOT_VISIBLE_MAX; i++)
		fd_close((*pieces)[i].mount);
}

/* Links at the end of the path are followed: it is the host's administrator
 * who made them. */
static int piece_take(struct piece *p, struct fault *fault) {
	const char *path = p->what->path;
	CLEANUP_FD int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (fd < 0 && errno == ENOENT && p->what->optional)
		return 0;
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return fault_errno(fault, errno, "take %s along", path);
	struct mount_attr attributes = {
		.attr_set = (p->what->as_it_is ? 0 : MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC) |
			    (p->what->writable ? 0 : MOUNT_ATTR_RDONLY),
	};
	if (mount_setattr(fd, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) < 0)
		return fault_errno(fault, errno, "restrict the mount of %s", path);
	p->folder = S_ISDIR(st.st_mode);
	p->mount = take_fd(&fd);
	return 0;
}

static int tmpfs_new(void) {
	CLEANUP_FD int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "size", "64k", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	int fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Makes the place for a piece below root, with the folders above it. */
static int place_make(int root, const struct piece *p) {
	char path[BOOT_PATH_MAX];
	const char *whole = p->what->path + 1;
	for (const char *slash = strchr(whole, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(path, sizeof(path), "%.*s", (int)(slash - whole), whole);
		if (mkdirat(root, path, 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	int r = p->folder ? mkdirat(root, whole, 0755) : mknodat(root, whole, S_IFREG | 0444, 0);
	return r < 0 && errno != EEXIST ? -errno : 0;
}

static int pieces_attach(int root, struct piece *pieces, size_t n, struct fault *fault) {
	for (size_t i = 0; i < n; i++) {
		struct piece *p = &pieces[i];
		if (p->mount < 0)
			continue;
		int r = place_make(root, p);
		if (r == 0 && move_mount(p->mount, "", root, p->what->path + 1, MOVE_MOUNT_F_EMPTY_PATH) < 0)
			r = -errno;
		if (r < 0)
			return fault_errno(fault, r, "show %s", p->what->path);
	}
	return 0;
}

/* The new root is on top of the old one already; "." names it, and after the
 * pivot "." is where the old one went, on top of the new. */
static int pivot(int root, struct fault *fault) {
	if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return fault_errno(fault, errno, "replace the root");
	struct mount_attr attributes = { .attr_set = MOUNT_ATTR_RDONLY };
	if (mount_setattr(root, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) < 0)
		return fault_errno(fault, errno, "make the root read-only");
	return 0;
}

int root_replace(const struct boot_visible *visible, size_t n_visible, struct fault *fault) {
	CLEANUP(pieces_close) struct piece pieces[BOOT_VISIBLE_MAX];
	for (size_t i = 0; i < BOOT_VISIBLE_MAX; i++)
		pieces[i] = (struct piece){ .what = &visible[i], .mount = -1 };
	if (n_visible > BOOT_VISIBLE_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%zu visible paths", n_visible);
	/* Nothing of what happens here shows on the host. What the host mounts
	 * or unmounts later must not stay pinned here either; it can't: the old
	 * root goes. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return fault_errno(fault, errno, "make the mounts private");
	int r = 0;
	for (size_t i = 0; r == 0 && i < n_visible; i++)
		r = piece_take(&pieces[i], fault);
	if (r < 0)
		return r;
	CLEANUP_FD int root = tmpfs_new();
	if (root < 0)
		return fault_errno(fault, root, "make an empty root");
	if (move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return fault_errno(fault, errno, "mount the new root");
	r = pieces_attach(root, pieces, n_visible, fault);
	return r < 0 ? r : pivot(root, fault);
}
