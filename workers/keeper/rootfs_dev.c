/* /dev of a container: the nodes that every container has, the links, those
 * of the specification, and the terminal. Skipped when /dev is the host's. */
#include "base/fd.h"
#include "workers/keeper/inside.h"
#include "workers/keeper/rootfs.h"
#include "workers/keeper/sys.h"

#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <termios.h>

static const struct {
	const char *name;
	unsigned major, minor;
} nodes[] = {
	{ "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 }, { "tty", 5, 0 }, { "random", 1, 8 }, { "urandom", 1, 9 },
};

static const struct {
	const char *name, *target;
} links[] = {
	{ "fd", "/proc/self/fd" },	 { "stdin", "/proc/self/fd/0" }, { "stdout", "/proc/self/fd/1" },
	{ "stderr", "/proc/self/fd/2" }, { "ptmx", "pts/ptmx" },
};

/* The container's own multiplexer is a link, and the host's has no place in it:
 * clients that give all devices of the host give that one, too. */
static bool is_multiplexer(const Grpc__LinuxDevice *d) {
	return strcmp(d->path, "/dev/ptmx") == 0 && d->major == 5 && d->minor == 2;
}

/* Makes the node, or makes sure that the one that is there is the same. */
static int node_make(int folder, const char *name, mode_t mode, dev_t device) {
	if (mknodat(folder, name, mode, device) == 0)
		return 0;
	struct stat st;
	if (errno != EEXIST || fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	bool same = (st.st_mode & S_IFMT) == (mode & S_IFMT) && (S_ISFIFO(mode) || st.st_rdev == device);
	return same ? 0 : -EEXIST;
}

static int standard_nodes(int dev, bool nodes_too, struct fault *fault) {
	for (size_t i = 0; nodes_too && i < ARRAY_SIZE(nodes); i++) {
		int r = node_make(dev, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor));
		if (r < 0)
			return fault_errno(fault, r, "make \"/dev/%s\"", nodes[i].name);
	}
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		if (symlinkat(links[i].target, dev, links[i].name) < 0 && errno != EEXIST)
			return fault_errno(fault, errno, "make \"/dev/%s\"", links[i].name);
	return 0;
}

static int device_make(int root, const Grpc__LinuxDevice *d, struct fault *fault) {
	char name[NAME_MAX + 1];
	mode_t type = strcmp(d->type, "b") == 0 ? S_IFBLK : strcmp(d->type, "p") == 0 ? S_IFIFO : S_IFCHR;
	if (!type || !strchr("bcup", d->type[0]) || strlen(d->type) != 1)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "device \"%s\" has no type \"%s\"", d->path, d->type);
	CLEANUP_FD int folder = inside_parent(root, d->path, name);
	if (folder < 0)
		return fault_errno(fault, folder, "make device \"%s\"", d->path);
	mode_t mode = d->filemode ? d->filemode & 07777 : 0666;
	int r = node_make(folder, name, type | mode, makedev((unsigned)d->major, (unsigned)d->minor));
	if (r == 0 && (d->uid || d->gid) && fchownat(folder, name, d->uid, d->gid, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	return r < 0 ? fault_errno(fault, r, "make device \"%s\"", d->path) : 0;
}

/* A pair of the container's own devpts; the slave comes by descriptor, since
 * its path may lie. */
int rootfs_terminal(int root, const Grpc__Box *box, int *ret_master, int *ret_peer, struct fault *fault) {
	CLEANUP_FD int master = inside_open(root, "/dev/pts/ptmx", O_RDWR | O_NOCTTY);
	struct statfs fs;
	int unlock = 0;
	if (master < 0)
		return fault_errno(fault, master, "open a terminal");
	if (fstatfs(master, &fs) < 0 || fs.f_type != DEVPTS_SUPER_MAGIC)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "open a terminal: /dev/pts is not a devpts");
	if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return fault_errno(fault, errno, "unlock the terminal");
	int peer = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (peer < 0)
		return fault_errno(fault, errno, "open the terminal's other side");
	struct winsize size = { 0 };
	if (box) {
		size.ws_row = (unsigned short)box->height;
		size.ws_col = (unsigned short)box->width;
		ioctl(master, TIOCSWINSZ, &size);
	}
	*ret_master = take_fd(&master);
	*ret_peer = peer;
	return 0;
}

static int console_bind(struct rootfs *r, struct fault *fault) {
	CLEANUP_FD int tree =
	    (int)syscall(SYS_open_tree, r->terminal_peer, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	/* The peer's mount is the kernel's own on some kernels; then there is no
	 * /dev/console, and nothing else is missing. */
	if (tree < 0)
		return 0;
	return rootfs_attach(r->root, tree, "/dev/console", false, fault);
}

int rootfs_dev(struct rootfs *r, struct fault *fault) {
	const Grpc__Spec *spec = r->spec;
	bool own = true;
	for (size_t i = 0; i < spec->n_mounts; i++)
		if (strcmp(spec->mounts[i]->destination, "/dev") == 0)
			own = strcmp(spec->mounts[i]->type, "bind") != 0;
	int e = 0;
	mode_t old = umask(0);
	if (own) {
		/* In a user namespace no node can be made: the host's are mounted. */
		bool nodes_too = r->userns->fd < 0;
		CLEANUP_FD int dev = inside_make(r->root, "/dev", true);
		e = dev < 0 ? fault_errno(fault, dev, "open \"/dev\"") : standard_nodes(dev, nodes_too, fault);
		for (size_t i = 0; e == 0 && nodes_too && spec->linux && i < spec->linux->n_devices; i++)
			if (!is_multiplexer(spec->linux->devices[i]))
				e = device_make(r->root, spec->linux->devices[i], fault);
	}
	umask(old);
	if (e == 0 && spec->process->terminal) {
		e = rootfs_terminal(r->root, spec->process->consolesize, &r->terminal, &r->terminal_peer, fault);
		if (e == 0)
			e = console_bind(r, fault);
	}
	return e;
}
