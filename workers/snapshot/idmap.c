#include "workers/snapshot/idmap.h"

#include "base/fd.h"
#include "workers/snapshot/overlay.h"
#include "workers/snapshot/rooms.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

int idmap_mount(int mount, int userns, struct fault *fault) {
	struct mount_attr a = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns };
	if (mount_setattr(mount, "", AT_EMPTY_PATH, &a, sizeof(a)) < 0)
		return fault_errno(fault, errno,
				   "map owners into the user namespace (can this file system be mapped?)");
	return 0;
}

int idmap_attach(int userns, struct fault *fault) {
	CLEANUP_FD int tree = open_tree(AT_FDCWD, ".", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return fault_errno(fault, errno, "clone the folder of the layers");
	int r = idmap_mount(tree, userns, fault);
	if (r < 0)
		return r;
	if (mkdir(ROOM_MAPPED, 0700) < 0 && errno != EEXIST)
		return fault_errno(fault, errno, "make the folder %s", ROOM_MAPPED);
	if (move_mount(tree, "", AT_FDCWD, ROOM_MAPPED, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return fault_errno(fault, errno, "attach the mapped layers");
	return 0;
}

void idmap_detach(void) {
	umount2(ROOM_MAPPED, MNT_DETACH);
}

unsigned idmap_host_id(Bulkhead__IdMapping *const *map, size_t n, unsigned id) {
	if (n == 0)
		return id;
	for (size_t i = 0; i < n; i++)
		if (id >= map[i]->container_id && id - map[i]->container_id < map[i]->length)
			return map[i]->host_id + (id - map[i]->container_id);
	return (unsigned)-1;
}

static int map_write(pid_t pid, const char *name) {
	static const char text[] = "0 65536 65536\n";
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd_write_all(fd, text, sizeof(text) - 1);
}

static _Noreturn void holder(int socket) {
	char byte = 0;
	if (unshare(CLONE_NEWUSER) == 0 && send(socket, &byte, 1, MSG_NOSIGNAL) == 1)
		while (recv(socket, &byte, 1, 0) < 0 && errno == EINTR)
			;
	_exit(0);
}

int idmap_namespace_new(void) {
	int pair[2], fd = -1;
	char byte, path[64];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	CLEANUP_FD int ours = pair[0];
	CLEANUP_FD int theirs = pair[1];
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		close(ours);
		holder(theirs);
	}
	fd_replace(&theirs, -1);
	int r = recv(ours, &byte, 1, 0) == 1 ? map_write(pid, "uid_map") : -ENOSYS;
	if (r == 0)
		r = map_write(pid, "gid_map");
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	if (r == 0 && (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		r = -errno;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return r < 0 ? r : fd;
}

bool idmap_probe(const struct overlay *o, int userns) {
	static const char *const lowers[] = { ROOM_MAPPED "/" ROOM_EMPTY_1, ROOM_MAPPED "/" ROOM_EMPTY_2 };
	struct fault ignored;
	CLEANUP_FD int fd = -1;
	if (userns < 0 || idmap_attach(userns, &ignored) < 0)
		return false;
	int r = o->usable ? overlay_mount(o, lowers, 2, NULL, NULL, &fd, &ignored) : 0;
	idmap_detach();
	return r == 0;
}
