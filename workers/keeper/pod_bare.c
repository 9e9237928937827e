/*
 * A pod for one container of containerd's API may live in namespaces that the
 * client names by a path of the host. Such a path is opened without its file
 * being used, and is what it claims to be before it is entered.
 */
#include "workers/keeper/keeper.h"

#include "base/fd.h"
#include "workers/keeper/sys.h"

#include <linux/magic.h>
#include <linux/nsfs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static const struct kind {
	const char *type, *own;
	int flag;
} kinds[] = {
	{ "network", "/proc/self/ns/net", CLONE_NEWNET },
	{ "ipc", "/proc/self/ns/ipc", CLONE_NEWIPC },
	{ "uts", "/proc/self/ns/uts", CLONE_NEWUTS },
};

int namespace_open(const char *path, int flag, const char *type, int *ret_fd, struct fault *fault) {
	char self[32];
	struct statfs fs;
	CLEANUP_FD int found = open(path, O_PATH | O_CLOEXEC);
	if (found < 0)
		return fault_errno(fault, errno, "open the %s namespace \"%s\"", type, path);
	if (fstatfs(found, &fs) < 0 || fs.f_type != NSFS_MAGIC)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is not a namespace", path);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", found);
	CLEANUP_FD int fd = open(self, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fault_errno(fault, errno, "open the %s namespace \"%s\"", type, path);
	if (ioctl(fd, NS_GET_NSTYPE) != flag)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is not a %s namespace", path, type);
	*ret_fd = take_fd(&fd);
	return 0;
}

static bool is_own(int fd, const char *own) {
	struct stat a, b;
	return fstat(fd, &a) == 0 && stat(own, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* To name the host's is to use the host's. */
static void mode_set(struct pod *p, int flag, bool host) {
	Bulkhead__NamespaceMode mode = host ? BULKHEAD__NAMESPACE_MODE__NODE : BULKHEAD__NAMESPACE_MODE__TARGET;
	if (flag == CLONE_NEWNET)
		p->network = mode;
	else if (flag == CLONE_NEWIPC)
		p->ipc = mode;
	else
		p->host_uts = host;
}

static int join(struct pod *p, const Grpc__LinuxNamespace *n, int *joined, struct fault *fault) {
	const struct kind *k = NULL;
	CLEANUP_FD int fd = -1;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].type, n->type) == 0)
			k = &kinds[i];
	if (!k)
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "a namespace of type \"%.40s\" can't be joined by its path", n->type);
	int r = namespace_open(n->path, k->flag, k->type, &fd, fault);
	if (r < 0)
		return r;
	mode_set(p, k->flag, is_own(fd, k->own));
	*joined |= k->flag;
	return setns(fd, k->flag) < 0 ? fault_errno(fault, errno, "join the %s namespace \"%s\"", k->type, n->path) : 0;
}

int pod_bare_join(struct pod *p, const Bulkhead__SandboxStartRequest *s, int *ret_joined, struct fault *fault) {
	int r = 0;
	*ret_joined = 0;
	for (size_t i = 0; r == 0 && i < s->n_join; i++)
		r = join(p, s->join[i], ret_joined, fault);
	return r;
}
