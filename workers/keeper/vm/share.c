/*
 * What of the host a container sees: its root, volumes and the pod's files, each
 * a mount in the relay's mount namespace below vm/shared/<container>, which the
 * guest has as a file system (virtio-fs). All of a container's are below one
 * mount, so one unmount takes them away.
 *
 * The specification is the guest's then: sources are paths there, and what only
 * the host has is left out. What the guest's agent makes by itself (proc, sysfs,
 * tmpfs, ...) stays as it is.
 */
#include "workers/keeper/vm/vm.h"

#include "base/fd.h"
#include "base/mountopt.h"
#include "workers/keeper/rootfs.h"
#include "workers/keeper/sys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DEVICE_ANNOTATION "bulkhead.io/device/"
#define SECCOMP_ANNOTATION "bulkhead.io/seccomp"

struct sharing {
	const struct vm_birth *birth;
	const char *id;
	int *trees; /* detached; those of "m0", "m1", ... */
	size_t n_trees;
	Grpc__Mount **mounts; /* of the guest's specification */
	size_t n_mounts;
};

/* --- mounts ----------------------------------------------------------------- */

static bool option_is_hosts(const char *o) {
	static const char *const words[] = { "shared",	      "rshared",  "slave",	"rslave",
					     "private",	      "rprivate", "unbindable", "runbindable",
					     "x-make-source", "idmap",	  "ridmap" };
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(o, words[i]) == 0)
			return true;
	return false;
}

static Grpc__Mount *mount_new(struct sharing *s, const char *destination, char *const *options, size_t n_options) {
	Grpc__Mount *m = malloc(sizeof(*m));
	if (!m || !(m->options = calloc(n_options + 1, sizeof(*m->options))))
		return NULL;
	char **list = m->options;
	*m = (Grpc__Mount)GRPC__MOUNT__INIT;
	m->options = list;
	m->destination = (char *)(uintptr_t)destination;
	m->type = (char *)"bind";
	for (size_t i = 0; i < n_options; i++)
		if (!option_is_hosts(options[i]))
			m->options[m->n_options++] = options[i];
	s->mounts[s->n_mounts++] = m;
	return m;
}

/* What the guest has below the container's folder: tree, which is taken. */
static int shared_add(struct sharing *s, const char *destination, char *const *options, size_t n, int tree,
		      struct fault *fault) {
	Grpc__Mount *m = mount_new(s, destination, options, n);
	s->trees[s->n_trees] = tree;
	if (!m || asprintf(&m->source, VM_SHARED_GUEST "/%s/m%zu", s->id, s->n_trees) < 0)
		return fault_errno(fault, ENOMEM, "mount \"%s\"", destination);
	s->n_trees++;
	return 0;
}

static int shm_add(struct sharing *s, struct fault *fault) {
	static char *options[] = { (char *)"rbind" };
	Grpc__Mount *m = mount_new(s, "/dev/shm", options, 1);
	if (!m)
		return fault_errno(fault, ENOMEM, "mount \"/dev/shm\"");
	m->source = (char *)VM_SHM_GUEST;
	return 0;
}

static int bind_add(struct sharing *s, const Grpc__Mount *m, const struct mount_options *o, struct fault *fault) {
	int tree, r = rootfs_clone(m->source, o->recursive, &tree);
	if (r == -ENOENT && o->make_source && (r = make_folders(m->source)) == 0)
		r = rootfs_clone(m->source, o->recursive, &tree);
	if (r < 0)
		return fault_errno(fault, r, "mount \"%s\": source \"%s\"", m->destination, m->source);
	return shared_add(s, m->destination, m->options, m->n_options, tree, fault);
}

static int mount_add(struct sharing *s, Grpc__Mount *m, struct fault *fault) {
	static char *bind[] = { (char *)"rbind", (char *)"ro" };
	struct mount_options o;
	int tree, r = mount_options_parse(m->options, m->n_options, &o, fault);
	if (r < 0)
		return fault_prefix(fault, r, "mount \"%s\"", m->destination);
	if (strcmp(m->type, "image") == 0) {
		r = rootfs_volume(m, s->birth->volumes, s->birth->n_volumes, &tree, fault);
		return r < 0 ? r : shared_add(s, m->destination, bind, 1 + !!(o.set & MOUNT_ATTR_RDONLY), tree, fault);
	}
	if (o.bind || strcmp(m->type, "bind") == 0)
		return bind_add(s, m, &o, fault);
	if (strcmp(m->destination, "/dev/shm") == 0 && strcmp(m->source, "shm") == 0)
		return shm_add(s, fault);
	s->mounts[s->n_mounts++] = m;
	return 0;
}

static bool mentioned(const Grpc__Spec *spec, const char *path) {
	for (size_t i = 0; i < spec->n_mounts; i++)
		if (strcmp(spec->mounts[i]->destination, path) == 0)
			return true;
	return false;
}

/* Files of the pod that the specification doesn't mention. */
static int pod_files_add(struct sharing *s, struct fault *fault) {
	static const char *const files[][2] = { { "hosts", "/etc/hosts" },
						{ "resolv.conf", "/etc/resolv.conf" },
						{ "hostname", "/etc/hostname" } };
	static char *options[] = { (char *)"rbind", (char *)"ro" };
	const Grpc__Spec *spec = s->birth->spec;
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(files); i++) {
		char source[PATH_MAX];
		int tree;
		snprintf(source, sizeof(source), "%s/%s", s->birth->container->keeper->run_dir, files[i][0]);
		if (mentioned(spec, files[i][1]) || access(source, F_OK) < 0)
			continue;
		r = rootfs_clone(source, false, &tree);
		if (r < 0)
			return fault_errno(fault, r, "mount \"%s\" of the pod", files[i][1]);
		r = shared_add(s, files[i][1], options, 1 + (spec->root && spec->root->readonly), tree, fault);
	}
	return r;
}

static int mounts_make(struct sharing *s, struct fault *fault) {
	const Grpc__Spec *spec = s->birth->spec;
	int r = 0;
	s->trees = calloc(spec->n_mounts + ROOTFS_POD_FILES, sizeof(*s->trees));
	s->mounts = calloc(spec->n_mounts + ROOTFS_POD_FILES, sizeof(Grpc__Mount *));
	if (!s->trees || !s->mounts)
		return fault_errno(fault, ENOMEM, "share a container's files");
	for (size_t i = 0; r == 0 && i < spec->n_mounts; i++)
		r = mount_add(s, spec->mounts[i], fault);
	return r < 0 ? r : pod_files_add(s, fault);
}

/* --- in the relay's namespace ----------------------------------------------- */

static int namespace_enter(const struct vm *vm, const char *id, char ret_folder[PATH_MAX]) {
	snprintf(ret_folder, PATH_MAX, "%s/" VM_FOLDER "/" VM_SHARED_NAME "/%s", vm->keeper->run_dir, id);
	return setns(vm->mounts, CLONE_NEWNS) < 0 ? -errno : 0;
}

static int attach(int folder, const char *name, int tree, struct fault *fault) {
	int r = rootfs_is_directory(tree) ? mkdirat(folder, name, 0755) : mknodat(folder, name, S_IFREG | 0600, 0);
	if (r < 0 || syscall(SYS_move_mount, tree, "", folder, name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return fault_errno(fault, errno, "share \"%s\" with the guest", name);
	return 0;
}

static int trees_attach(const struct sharing *s, struct fault *fault) {
	char path[PATH_MAX], name[16];
	int r = namespace_enter(s->birth->vm, s->id, path);
	if (r == 0 && (mkdir(path, 0755) < 0 || mount("shared", path, "tmpfs", MS_NOSUID, "mode=0755,size=1m") < 0))
		r = -errno;
	CLEANUP_FD int folder = r < 0 ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return fault_errno(fault, r < 0 ? r : errno, "make the folder \"%s\"", path);
	r = attach(folder, "rootfs", s->birth->root, fault);
	for (size_t i = 0; r == 0 && i < s->n_trees; i++) {
		snprintf(name, sizeof(name), "m%zu", i);
		r = attach(folder, name, s->trees[i], fault);
	}
	return r;
}

void vm_unshare(void *container) {
	const struct container *c = container;
	char path[PATH_MAX];
	/* What the guest still holds of it is virtiofsd's until it lets go. */
	if (namespace_enter(c->keeper->pod.vm, c->id, path) < 0 || umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ||
	    rmdir(path) < 0)
		_exit(1);
	_exit(0);
}

/* --- the specification ------------------------------------------------------ */

static int annotations_copy(const Grpc__Spec *from, Grpc__Spec *to, struct fault *fault) {
	to->annotations = calloc(from->n_annotations + 1, sizeof(*to->annotations));
	to->n_annotations = 0;
	if (!to->annotations)
		return fault_errno(fault, ENOMEM, "describe a container to the guest");
	for (size_t i = 0; i < from->n_annotations; i++) {
		const char *key = from->annotations[i]->key;
		if (strncmp(key, DEVICE_ANNOTATION, strlen(DEVICE_ANNOTATION)) == 0)
			return fault_set(fault, FAULT_UNIMPLEMENTED,
					 "devices of the host can't be given to a container in a virtual machine");
		/* The profile itself is in the specification. */
		if (strcmp(key, SECCOMP_ANNOTATION) != 0)
			to->annotations[to->n_annotations++] = from->annotations[i];
	}
	return 0;
}

static int linux_copy(const struct vm_birth *b, Grpc__Spec *to, struct fault *fault) {
	static Grpc__LinuxNamespace list[] = { GRPC__LINUX_NAMESPACE__INIT, GRPC__LINUX_NAMESPACE__INIT,
					       GRPC__LINUX_NAMESPACE__INIT, GRPC__LINUX_NAMESPACE__INIT };
	static Grpc__LinuxNamespace *namespaces[] = { &list[0], &list[1], &list[2], &list[3] };
	static const char *const types[] = { "ipc", "uts", "mount", "cgroup" };
	Grpc__Linux *l = malloc(sizeof(*l));
	Grpc__LinuxResources *resources = malloc(sizeof(*resources));
	if (!l || !resources || asprintf(&l->cgroupspath, "/pod/%s", b->container->id) < 0)
		return fault_errno(fault, ENOMEM, "describe a container to the guest");
	char *path = l->cgroupspath;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		list[i].type = (char *)(uintptr_t)types[i];
	*l = *to->linux;
	l->cgroupspath = path;
	l->namespaces = namespaces;
	l->n_namespaces = ARRAY_SIZE(types);
	l->n_uidmappings = l->n_gidmappings = l->n_devices = 0;
	l->mountlabel = l->rootfspropagation = (char *)"";
	l->intelrdt = NULL;
	if (l->resources) {
		*resources = *l->resources;
		resources->n_hugepagelimits = 0;
		resources->blockio = NULL;
		resources->network = NULL;
		l->resources = resources;
		/* The host's processors and memory nodes. */
		if (resources->cpu) {
			Grpc__LinuxCPU *cpu = malloc(sizeof(*cpu));
			if (!cpu)
				return fault_errno(fault, ENOMEM, "describe a container to the guest");
			*cpu = *resources->cpu;
			cpu->cpus = cpu->mems = (char *)"";
			resources->cpu = cpu;
		}
	}
	to->linux = l;
	return 0;
}

int vm_share(const struct vm_birth *b, Grpc__Spec **ret_spec, struct fault *fault) {
	struct sharing s = { .birth = b, .id = b->container->id };
	Grpc__Spec *spec = malloc(sizeof(*spec));
	Grpc__Root *root = malloc(sizeof(*root));
	int r = spec && root ? mounts_make(&s, fault) : fault_errno(fault, ENOMEM, "share a container's files");
	if (r < 0)
		return r;
	*spec = *b->spec;
	*root = (Grpc__Root)GRPC__ROOT__INIT;
	root->readonly = b->spec->root && b->spec->root->readonly;
	if (asprintf(&root->path, VM_SHARED_GUEST "/%s/rootfs", s.id) < 0)
		return fault_errno(fault, ENOMEM, "share a container's files");
	spec->root = root;
	spec->mounts = s.mounts;
	spec->n_mounts = s.n_mounts;
	spec->hooks = NULL;
	r = annotations_copy(b->spec, spec, fault);
	if (r == 0)
		r = linux_copy(b, spec, fault);
	if (r == 0)
		r = trees_attach(&s, fault);
	if (r == 0)
		*ret_spec = spec;
	return r;
}
