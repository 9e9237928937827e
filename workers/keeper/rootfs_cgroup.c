/* /sys/fs/cgroup of a container: the v2 hierarchy, or a folder with the
 * container's own groups of each v1 hierarchy. */
#include "base/fd.h"
#include "base/mountopt.h"
#include "workers/keeper/rootfs.h"
#include "workers/keeper/sys.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int pure_v2(const struct rootfs *r, const Grpc__Mount *m, const struct mount_options *o, struct fault *fault) {
	CLEANUP_FD int tree = -1;
	int e = rootfs_new_fs("cgroup2", m->source, NULL, o->set, &tree, fault);
	return e < 0 ? fault_prefix(fault, e, "mount \"%s\"", m->destination)
		     : rootfs_attach(r->root, tree, m->destination, true, fault);
}

/* The container's own group of a hierarchy; with a cgroup namespace it is the
 * root of a new mount, without one a folder of the host's. */
static int group_tree(const struct rootfs *r, const struct cgroup_hierarchy *h, uint64_t attributes, int *ret_tree,
		      struct fault *fault) {
	char path[PATH_MAX];
	struct mount_attr a = { .attr_set = attributes, .propagation = MS_PRIVATE };
	if (r->cgroup_namespace) {
		struct mount_options o = { .data = { h->name }, .n_data = h->v2 ? 0 : 1 };
		char names[sizeof(h->name)];
		/* Several controllers of one hierarchy are several options. */
		strcpy(names, h->name);
		if (!h->v2) {
			o.n_data = 0;
			char *save = NULL;
			for (char *n = strtok_r(names, ",", &save); n; n = strtok_r(NULL, ",", &save))
				o.data[o.n_data++] = n;
			if (strncmp(h->name, "name=", 5) == 0)
				o.data[o.n_data++] = "none";
		}
		return rootfs_new_fs(h->v2 ? "cgroup2" : "cgroup", "cgroup", &o, attributes, ret_tree, fault);
	}
	snprintf(path, sizeof(path), "%s%s", h->mount, r->cgroup->path);
	int e = rootfs_clone(path, false, ret_tree);
	if (e == 0 && syscall(SYS_mount_setattr, *ret_tree, "", AT_EMPTY_PATH, &a, sizeof(a)) < 0)
		e = -errno;
	return e < 0 ? fault_errno(fault, e, "clone \"%s\"", path) : 0;
}

/* folder is the fresh file system that the groups are shown in: ours, so that
 * names in it can be trusted. */
static int group_attach(const struct rootfs *r, int folder, const struct cgroup_hierarchy *h, uint64_t attributes,
			struct fault *fault) {
	CLEANUP_FD int tree = -1;
	const char *slash = strrchr(h->mount, '/');
	const char *name = slash && slash[1] ? slash + 1 : "cgroup";
	int e = group_tree(r, h, attributes, &tree, fault);
	if (e < 0)
		return e;
	if (mkdirat(folder, name, 0755) < 0 && errno != EEXIST)
		return fault_errno(fault, errno, "make \"%s\"", name);
	if (syscall(SYS_move_mount, tree, "", folder, name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return fault_errno(fault, errno, "attach \"%s\"", name);
	return 0;
}

int rootfs_cgroup(const struct rootfs *r, const Grpc__Mount *m, const struct mount_options *o, struct fault *fault) {
	static const struct mount_options folder = { .data = { "mode=755" }, .n_data = 1 };
	const struct cgroup_system *s = r->cgroup->system;
	CLEANUP_FD int tree = -1;
	if (s->n == 1 && s->v2 == 0)
		return pure_v2(r, m, o, fault);
	uint64_t plain = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	int e = rootfs_new_fs("tmpfs", "tmpfs", &folder, plain, &tree, fault);
	if (e == 0)
		e = rootfs_attach(r->root, tree, m->destination, true, fault);
	for (size_t i = 0; e == 0 && i < s->n; i++)
		if (r->cgroup->made >> i & 1)
			e = group_attach(r, tree, &s->hierarchies[i], o->set, fault);
	struct mount_attr a = { .attr_set = MOUNT_ATTR_RDONLY };
	if (e == 0 && o->set & MOUNT_ATTR_RDONLY &&
	    syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &a, sizeof(a)) < 0)
		e = fault_errno(fault, errno, "make it read-only");
	return e < 0 ? fault_prefix(fault, e, "mount \"%s\"", m->destination) : 0;
}
