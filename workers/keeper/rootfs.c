#include "workers/keeper/rootfs.h"

#include "base/fd.h"
#include "workers/keeper/inside.h"
#include "base/mountopt.h"
#include "workers/keeper/shm.h"
#include "workers/keeper/sys.h"

#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

/* A mount of the specification on its way. */
struct mount_job {
	const Grpc__Mount *m;
	struct mount_options o;
	int tree;	/* a bind's source, cloned; later whatever is mounted */
	bool ro_at_end; /* a new file system that is filled first */
};

bool rootfs_is_directory(int fd) {
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

int rootfs_clone(const char *path, bool recursive, int *ret_tree) {
	int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path,
			      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0));
	if (fd < 0)
		return -errno;
	*ret_tree = fd;
	return 0;
}

/* --- targets --- */

/* Files of /proc that may be mounted over, for those who fake them. */
static const char *const proc_files[] = {
	"/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo",  "/proc/stat",    "/proc/swaps",
	"/proc/uptime",	 "/proc/loadavg",   "/proc/slabinfo", "/proc/net/dev",
};

static bool is_proc(int fd) {
	struct statfs fs;
	return fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

static bool is_whole_proc(int fd) {
	const ino_t root = 1; /* of every instance */
	struct stat st;
	return is_proc(fd) && fstat(fd, &st) == 0 && st.st_ino == root;
}

/* A whole /proc may be replaced by another whole /proc, and by nothing else;
 * over anything else of it nothing is mounted: what security code reads and
 * writes there must be the kernel's. */
static bool target_allowed(int target, int tree, const char *path) {
	if (is_whole_proc(tree))
		return true;
	if (!is_proc(target))
		return strcmp(path, "/proc") != 0;
	for (size_t i = 0; i < ARRAY_SIZE(proc_files); i++)
		if (strcmp(path, proc_files[i]) == 0)
			return true;
	return false;
}

int rootfs_attach(int root, int tree, const char *path, bool directory, struct fault *fault) {
	CLEANUP_FD int target = inside_make(root, path, directory);
	if (target < 0)
		return fault_errno(fault, target, "mount \"%s\"", path);
	if (!target_allowed(target, tree, path))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "mount \"%s\": nothing may be mounted over /proc",
				 path);
	if (rootfs_is_directory(target) != directory)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "mount \"%s\": a folder and a file can't be mounted on each other", path);
	if (syscall(SYS_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return fault_errno(fault, errno, "mount \"%s\"", path);
	return 0;
}

/* --- new file systems --- */

/* The kernel says in words what it didn't like. */
static int fs_failed(int fs, const char *type, struct fault *fault) {
	int error = errno;
	char text[256];
	ssize_t n = read(fs, text, sizeof(text) - 1);
	if (n <= 2)
		return fault_errno(fault, error, "new %s file system", type);
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return fault_errno(fault, error, "new %s file system: %s", type, text + 2);
}

static int fs_option(int fs, const char *option) {
	char key[64];
	const char *value = strchr(option, '=');
	size_t n = value ? (size_t)(value - option) : strlen(option);
	if (n >= sizeof(key)) {
		errno = EINVAL;
		return -1;
	}
	memcpy(key, option, n);
	key[n] = '\0';
	if (!value)
		return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, key, NULL, 0);
	return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value + 1, 0);
}

int rootfs_new_fs(const char *type, const char *source, const struct mount_options *o, uint64_t attributes,
		  int *ret_tree, struct fault *fault) {
	CLEANUP_FD int fs = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
	if (fs < 0)
		return fault_errno(fault, errno, "new %s file system", type);
	if (source[0] && syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", source, 0) < 0)
		return fs_failed(fs, type, fault);
	for (size_t i = 0; o && i < o->n_data; i++)
		if (fs_option(fs, o->data[i]) < 0)
			return fs_failed(fs, type, fault);
	if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return fs_failed(fs, type, fault);
	int tree = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
	if (tree < 0)
		return fs_failed(fs, type, fault);
	*ret_tree = tree;
	return 0;
}

/* --- the mounts of the specification --- */

static int attributes_set(int tree, uint64_t set, uint64_t clear, uint64_t propagation, bool recursive) {
	struct mount_attr a = { .attr_set = set, .attr_clr = clear, .propagation = propagation };
	if (!set && !clear && !propagation)
		return 0;
	return syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &a, sizeof(a)) < 0
		   ? -errno
		   : 0;
}

int rootfs_options(int tree, const struct mount_options *o, bool bind) {
	uint64_t propagation = o->propagation ? o->propagation : bind ? MS_PRIVATE : 0;
	bool whole = o->propagation ? o->propagation_tree : bind;
	int r = attributes_set(tree, 0, 0, propagation, whole);
	if (r == 0)
		r = attributes_set(tree, o->tree_set, o->tree_clear, 0, true);
	if (r == 0 && bind)
		r = attributes_set(tree, o->set, o->clear & ~o->set, 0, false);
	return r;
}

static bool is_bind(const struct mount_job *j) {
	return j->o.bind || strcmp(j->m->type, "bind") == 0;
}

/* /dev/shm is the pod's: said as the specification's usual list says it, or as
 * a bind of what would be it in the pod's folder. */
static bool is_pod_shm(const struct rootfs *r, const Grpc__Mount *m) {
	size_t n = strlen(r->run_dir);
	if (r->bare || strcmp(m->destination, "/dev/shm") != 0)
		return false;
	if (strcmp(m->type, "bind") != 0)
		return strcmp(m->source, "shm") == 0;
	return strncmp(m->source, r->run_dir, n) == 0 && strcmp(m->source + n, "/shm") == 0;
}

static int pod_shm_clone(const struct rootfs *r, int *ret_tree) {
	return r->shm < 0 ? rootfs_clone("/dev/shm", false, ret_tree) : shm_clone(r->shm, ret_tree);
}

int rootfs_idmap(const struct rootfs *r, int tree) {
	struct mount_attr a = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)r->userns->fd };
	return syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &a, sizeof(a)) < 0 ? -errno : 0;
}

static int job_idmap(const struct rootfs *r, const struct mount_job *j, struct fault *fault) {
	if (!j->o.idmap)
		return 0;
	if (r->userns->fd < 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "mount \"%s\": its owners can't be mapped, since the pod has no user namespace",
				 j->m->destination);
	int e = rootfs_idmap(r, j->tree);
	return e < 0 ? fault_errno(fault, e, "mount \"%s\": map the owners of \"%s\" (can its file system do that?)",
				   j->m->destination, j->m->source)
		     : 0;
}

int rootfs_volume(const Grpc__Mount *m, const int *volumes, size_t n, int *ret_tree, struct fault *fault) {
	char *end;
	unsigned long number = strtoul(m->source, &end, 10);
	if (*end || number == 0 || number > n)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "mount \"%s\": there is no descriptor \"%s\" for it",
				 m->destination, m->source);
	*ret_tree = volumes[number - 1];
	return 0;
}

/* Opens what belongs to the host, before propagation is cut: a shared mount
 * ("Bidirectional") must be cloned while it still is one. */
static int job_prepare(const struct rootfs *r, struct mount_job *j, struct fault *fault) {
	int e = mount_options_parse(j->m->options, j->m->n_options, &j->o, fault);
	if (e < 0)
		return fault_prefix(fault, e, "mount \"%s\"", j->m->destination);
	if (is_pod_shm(r, j->m)) {
		j->o = (struct mount_options){ .bind = true };
		e = pod_shm_clone(r, &j->tree);
		return e < 0 ? fault_errno(fault, e, "mount \"/dev/shm\" of the pod") : 0;
	}
	if (strcmp(j->m->type, "image") == 0)
		return rootfs_volume(j->m, r->volumes, r->n_volumes, &j->tree, fault);
	if (!is_bind(j))
		return 0;
	if (j->o.n_data > 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "mount \"%s\": unknown option \"%s\"",
				 j->m->destination, j->o.data[0]);
	if (j->m->source[0] != '/')
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "mount \"%s\": source \"%s\" is not an absolute path",
				 j->m->destination, j->m->source);
	e = rootfs_clone(j->m->source, j->o.recursive, &j->tree);
	if (e == -ENOENT && j->o.make_source) {
		e = make_folders(j->m->source);
		if (e == 0)
			e = rootfs_clone(j->m->source, j->o.recursive, &j->tree);
	}
	if (e < 0)
		return fault_errno(fault, e, "mount \"%s\": source \"%s\"", j->m->destination, j->m->source);
	return job_idmap(r, j, fault);
}

static int job_mount(const struct rootfs *r, struct mount_job *j, struct fault *fault) {
	const Grpc__Mount *m = j->m;
	bool bind = j->tree >= 0;
	int e = 0;
	if (!bind && strcmp(m->type, "cgroup") == 0)
		return rootfs_cgroup(r, m, &j->o, fault);
	if (!bind) {
		j->ro_at_end = strcmp(m->type, "tmpfs") == 0 && j->o.set & MOUNT_ATTR_RDONLY;
		e = rootfs_new_fs(m->type, m->source, &j->o, j->o.set & ~(j->ro_at_end ? MOUNT_ATTR_RDONLY : 0ULL),
				  &j->tree, fault);
		if (e < 0)
			return fault_prefix(fault, e, "mount \"%s\"", m->destination);
	}
	e = rootfs_options(j->tree, &j->o, bind);
	if (e < 0)
		return fault_errno(fault, e, "mount \"%s\": set options", m->destination);
	return rootfs_attach(r->root, j->tree, m->destination, rootfs_is_directory(j->tree), fault);
}

static bool mentioned(const Grpc__Spec *spec, const char *path) {
	for (size_t i = 0; i < spec->n_mounts; i++)
		if (strcmp(spec->mounts[i]->destination, path) == 0)
			return true;
	return false;
}

/* Files of the pod that the specification doesn't mention. */
static const char *const pod_files[ROOTFS_POD_FILES] = { "hosts", "resolv.conf", "hostname" };

static int pod_files_prepare(struct rootfs *r, struct fault *fault) {
	bool readonly = r->spec->root && r->spec->root->readonly;
	for (size_t i = 0; i < ARRAY_SIZE(pod_files); i++) {
		char source[PATH_MAX], target[64];
		snprintf(target, sizeof(target), "/etc/%s", pod_files[i]);
		if (mentioned(r->spec, target))
			continue;
		snprintf(source, sizeof(source), "%s/%s", r->run_dir, pod_files[i]);
		int e = rootfs_clone(source, false, &r->pod_files[i]);
		if (e == -ENOENT)
			continue;
		if (e == 0)
			e = attributes_set(r->pod_files[i], readonly ? MOUNT_ATTR_RDONLY : 0, 0, MS_PRIVATE, false);
		if (e < 0)
			return fault_errno(fault, e, "mount \"%s\" of the pod", target);
		/* Everybody may read them, so it is as good without. */
		if (r->userns->fd >= 0)
			rootfs_idmap(r, r->pod_files[i]);
	}
	return 0;
}

static int pod_files_attach(const struct rootfs *r, struct fault *fault) {
	int e = 0;
	for (size_t i = 0; e == 0 && i < ARRAY_SIZE(pod_files); i++) {
		char target[64];
		snprintf(target, sizeof(target), "/etc/%s", pod_files[i]);
		if (r->pod_files[i] >= 0)
			e = rootfs_attach(r->root, r->pod_files[i], target, false, fault);
	}
	return e;
}

/* --- the way in --- */

static int root_attach(struct rootfs *r, struct fault *fault) {
	struct mount_attr a = { .propagation = MS_PRIVATE };
	if (syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &a, sizeof(a)) < 0)
		return fault_errno(fault, errno, "cut off the host's mounts");
	int e = r->root < 0 ? rootfs_bare_make(r, fault) : 0;
	if (e < 0)
		return e;
	if (syscall(SYS_move_mount, r->root, "", AT_FDCWD, r->place ? r->place : "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return fault_errno(fault, errno, "attach the container's root");
	return rootfs_bare_rest(r, fault);
}

/* Of the root alone, since each mount has its own; and once it is the root,
 * since pivot_root refuses shared ones. */
static int root_propagation(const struct rootfs *r, struct fault *fault) {
	const char *name = r->spec->linux ? r->spec->linux->rootfspropagation : "";
	struct mount_options o;
	char *options[] = { (char *)name };
	if (!name[0])
		return 0;
	int e = mount_options_parse(options, 1, &o, fault);
	if (e < 0)
		return e;
	if (!o.propagation)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is not a propagation", name);
	e = attributes_set(r->root, 0, 0, o.propagation, false);
	return e < 0 ? fault_errno(fault, e, "set the root's propagation to \"%s\"", name) : 0;
}

/* The new root in place of the old one, which ends below it for the moment
 * between two system calls. */
static int root_pivot(const struct rootfs *r, struct fault *fault) {
	if (fchdir(r->root) < 0 || sys_pivot_root(".", ".") < 0)
		return fault_errno(fault, errno, "change to the container's root");
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return fault_errno(fault, errno, "let go of the host's root");
	return 0;
}

static int jobs_run(struct rootfs *r, struct fault *fault) {
	int e = 0;
	for (size_t i = 0; e == 0 && i < r->n_jobs; i++)
		e = job_mount(r, &r->jobs[i], fault);
	if (e == 0)
		e = rootfs_dev(r, fault);
	if (e == 0)
		e = pod_files_attach(r, fault);
	for (size_t i = 0; e == 0 && i < r->n_jobs; i++)
		if (r->jobs[i].ro_at_end && (e = attributes_set(r->jobs[i].tree, MOUNT_ATTR_RDONLY, 0, 0, false)) < 0)
			e = fault_errno(fault, e, "mount \"%s\": make it read-only", r->jobs[i].m->destination);
	return e;
}

/* The specification's mounts, and the pod's shared memory when it has a /dev
 * but says nothing of that. */
static int jobs_prepare(struct rootfs *r, struct fault *fault) {
	size_t n = r->spec->n_mounts;
	int e = 0;
	for (size_t i = 0; e == 0 && i < n; i++) {
		r->jobs[i] = (struct mount_job){ .m = r->spec->mounts[i], .tree = -1 };
		r->n_jobs = i + 1;
		e = job_prepare(r, &r->jobs[i], fault);
	}
	if (e == 0 && !r->bare && mentioned(r->spec, "/dev") && !mentioned(r->spec, "/dev/shm")) {
		grpc__mount__init(&r->pod_shm);
		r->pod_shm.destination = (char *)"/dev/shm";
		r->pod_shm.type = (char *)"tmpfs";
		r->pod_shm.source = (char *)"shm";
		r->jobs[n] = (struct mount_job){ .m = &r->pod_shm, .tree = -1 };
		r->n_jobs = n + 1;
		e = job_prepare(r, &r->jobs[n], fault);
	}
	return e;
}

int rootfs_prepare(struct rootfs *r, struct fault *fault) {
	size_t n = r->spec->n_mounts;
	r->terminal = r->terminal_peer = -1;
	for (size_t i = 0; i < ROOTFS_POD_FILES; i++)
		r->pod_files[i] = -1;
	if (n > ROOTFS_MOUNTS_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%zu mounts are too many", n);
	r->jobs = calloc(n + 1, sizeof(*r->jobs));
	if (!r->jobs)
		return fault_errno(fault, ENOMEM, "plan %zu mounts", n);
	int e = jobs_prepare(r, fault);
	return e < 0 || r->bare ? e : pod_files_prepare(r, fault);
}

size_t rootfs_fds(const struct rootfs *r, int *ret_fds) {
	size_t n = 0;
	for (size_t i = 0; !r->jobs && i < r->n_volumes; i++)
		ret_fds[n++] = r->volumes[i];
	for (size_t i = 0; r->jobs && i < r->n_jobs; i++)
		if (r->jobs[i].tree >= 0)
			ret_fds[n++] = r->jobs[i].tree;
	for (size_t i = 0; r->jobs && i < ROOTFS_POD_FILES; i++)
		if (r->pod_files[i] >= 0)
			ret_fds[n++] = r->pod_files[i];
	return n;
}

int rootfs_enter(struct rootfs *r, struct fault *fault) {
	int e = r->jobs ? 0 : rootfs_prepare(r, fault);
	if (e == 0)
		e = root_attach(r, fault);
	if (e == 0)
		e = jobs_run(r, fault);
	if (e == 0)
		e = rootfs_hide(r, fault);
	if (e == 0 && !r->place)
		e = root_pivot(r, fault);
	if (e == 0)
		e = root_propagation(r, fault);
	/* The jobs' descriptors close with the process or with its exec. */
	free(r->jobs);
	r->jobs = NULL;
	return e;
}
