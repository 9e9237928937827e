#include "workers/keeper/shm.h"

#include "base/fd.h"
#include "base/mountopt.h"
#include "workers/keeper/rootfs.h"
#include "workers/keeper/sys.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#define SIZE_OPTION "size=65536k"

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

static int clone_detached(int tree) {
	int fd = (int)syscall(SYS_open_tree, tree, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	return fd < 0 ? -errno : fd;
}

/* In a child with a mount namespace of its own: the tree becomes its root and
 * all else is let go. */
static int holder_enter(int tree) {
	struct mount_attr a = { .propagation = MS_PRIVATE };
	if (syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &a, sizeof(a)) < 0 ||
	    syscall(SYS_move_mount, tree, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 || fchdir(tree) < 0 ||
	    sys_pivot_root(".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
		return -errno;
	return 0;
}

int shm_hold(int tree, int *ret_shm) {
	char path[64];
	int pipes[2], pidfd = -1, r = -EIO;
	struct clone_args args = { .flags = CLONE_NEWNS | CLONE_PIDFD,
				   .pidfd = (uintptr_t)&pidfd,
				   .exit_signal = SIGCHLD };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pipes) < 0)
		return -errno;
	CLEANUP_FD int ours = pipes[0];
	pid_t pid = sys_clone3(&args);
	if (pid == 0) {
		close(ours);
		r = holder_enter(tree);
		/* Lives until its namespace has been opened. */
		if (send(pipes[1], &r, sizeof(r), MSG_NOSIGNAL) == sizeof(r))
			r = (int)recv(pipes[1], &r, sizeof(r), 0);
		_exit(0);
	}
	int error = errno;
	close(pipes[1]);
	if (pid < 0)
		return -error;
	if (recv(ours, &r, sizeof(r), 0) != sizeof(r))
		r = -EIO;
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
	int fd = r == 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	error = errno;
	fd_replace(&ours, -1);
	siginfo_t info;
	waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED);
	fd_close(pidfd);
	if (fd < 0)
		return r < 0 ? r : -error;
	*ret_shm = fd;
	return 0;
}

int shm_new(uid_t uid, gid_t gid, int *ret_shm, struct fault *fault) {
	char user[24], group[24];
	struct mount_options o = { .data = { "mode=1777", SIZE_OPTION, user, group }, .n_data = 4 };
	snprintf(user, sizeof(user), "uid=%u", uid);
	snprintf(group, sizeof(group), "gid=%u", gid);
	CLEANUP_FD int tree = -1;
	int r =
	    rootfs_new_fs("tmpfs", "shm", &o, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, &tree, fault);
	if (r < 0)
		return fault_prefix(fault, r, "make the pod's shared memory");
	CLEANUP_FD int probe = clone_detached(tree);
	if (probe >= 0) {
		*ret_shm = take_fd(&tree);
		return 0;
	}
	r = shm_hold(tree, ret_shm);
	return r < 0 ? fault_errno(fault, r, "hold the pod's shared memory") : 0;
}

int shm_clone(int shm, int *ret_tree) {
	struct statfs fs;
	if (fstatfs(shm, &fs) < 0)
		return -errno;
	if (fs.f_type != NSFS_MAGIC) {
		int tree = clone_detached(shm);
		*ret_tree = tree;
		return tree < 0 ? tree : 0;
	}
	CLEANUP_FD int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (own < 0 || setns(shm, CLONE_NEWNS) < 0)
		return -errno;
	int r = rootfs_clone("/", false, ret_tree);
	if (setns(own, CLONE_NEWNS) < 0)
		return -errno;
	return r;
}
