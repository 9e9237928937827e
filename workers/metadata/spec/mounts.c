/*
 * What is mounted where: the kernel's own file systems, the pod's files, the
 * client's mounts. A mount of the client's takes the place of one of ours at
 * the same destination; all come sorted so that a folder precedes what is
 * mounted in it.
 *
 * A volume from an image is a mount of type "image" without a path; its source
 * is the number of the descriptor that comes with the message, which the root's
 * is 0 of.
 */
#include "workers/metadata/spec/parts.h"

#include "workers/metadata/check.h"
#include "workers/metadata/userns.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define OPTIONS_MAX 8
#define MOUNTS_MAX 4096

struct standard {
	const char *destination, *type, *source;
	const char *options[OPTIONS_MAX];
	bool lockable; /* "ro" is added unless the container is privileged */
};

static const struct standard standards[] = {
	{ .destination = "/proc", .type = "proc", .source = "proc", .options = { "nosuid", "noexec", "nodev" } },
	{ .destination = "/dev",
	  .type = "tmpfs",
	  .source = "tmpfs",
	  .options = { "nosuid", "strictatime", "mode=755", "size=65536k" } },
	{ .destination = "/dev/pts",
	  .type = "devpts",
	  .source = "devpts",
	  .options = { "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5" } },
	/* By this source the keeper knows that the pod's is meant. */
	{ .destination = "/dev/shm",
	  .type = "tmpfs",
	  .source = "shm",
	  .options = { "nosuid", "noexec", "nodev", "mode=1777", "size=65536k" } },
	{ .destination = "/dev/mqueue",
	  .type = "mqueue",
	  .source = "mqueue",
	  .options = { "nosuid", "noexec", "nodev" } },
	{ .destination = "/sys",
	  .type = "sysfs",
	  .source = "sysfs",
	  .options = { "nosuid", "noexec", "nodev" },
	  .lockable = true },
	{ .destination = "/sys/fs/cgroup",
	  .type = "cgroup",
	  .source = "cgroup",
	  .options = { "nosuid", "noexec", "nodev", "relatime" },
	  .lockable = true },
};

/* "/a//b/" names the same place as "/a/b". */
static char *path_clean(struct builder *b, const char *path) {
	char *clean = builder_alloc(b, strlen(path) + 2), *to = clean;
	if (!clean)
		return (char *)"";
	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");
		if (n > 0 && !(n == 1 && *p == '.')) {
			*to++ = '/';
			memcpy(to, p, n);
			to += n;
		}
		p += n + strspn(p + n, "/");
	}
	if (to == clean)
		*to++ = '/';
	return clean;
}

static bool taken(const struct builder *b, const char *destination, char *const *theirs, size_t n) {
	for (size_t i = 0; i < n; i++)
		/* A client's /dev brings its own folders. */
		if (strcmp(theirs[i], destination) == 0 ||
		    (strcmp(theirs[i], "/dev") == 0 && strncmp(destination, "/dev/", 5) == 0))
			return true;
	return false;
}

static void add(struct builder *b, const char *destination, const char *type, const char *source,
		struct strings options) {
	NEW(b, m, Mount, MOUNT);
	if (!m)
		return;
	m->destination = (char *)(uintptr_t)destination;
	m->type = (char *)(uintptr_t)type;
	m->source = (char *)(uintptr_t)source;
	m->options = options.v;
	m->n_options = options.n;
	APPEND(b, b->spec->mounts, b->spec->n_mounts, m);
}

static void add_bind(struct builder *b, const char *destination, const char *source, bool readonly) {
	struct strings o = { 0 };
	strings_add(b, &o, "rbind");
	strings_add(b, &o, "rprivate");
	strings_add(b, &o, readonly ? "ro" : "rw");
	add(b, destination, "bind", source, o);
}

static void add_standards(struct builder *b, char *const *theirs, size_t n) {
	for (size_t i = 0; i < ARRAY_SIZE(standards); i++) {
		const struct standard *s = &standards[i];
		struct strings o = { 0 };
		if (taken(b, s->destination, theirs, n))
			continue;
		for (size_t k = 0; k < OPTIONS_MAX && s->options[k]; k++)
			strings_add(b, &o, s->options[k]);
		if (s->lockable)
			strings_add(b, &o, b->privileged ? "rw" : "ro");
		add(b, s->destination, s->type, s->source, o);
	}
}

/* What the keeper made for all containers of the pod. */
static void add_pods(struct builder *b, char *const *theirs, size_t n) {
	static const struct {
		const char *destination, *file;
	} files[] = {
		{ "/etc/hostname", "hostname" },
		{ "/etc/hosts", "hosts" },
		{ "/etc/resolv.conf", "resolv.conf" },
	};
	const char *id = b->in->sandbox->id;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (!taken(b, files[i].destination, theirs, n))
			add_bind(b, files[i].destination,
				 builder_text(b, "%s/%s/%s", b->in->pods_dir, id, files[i].file),
				 b->security->readonly_rootfs);
}

/* A client's option as the keeper knows it: for all that is mounted below, too. */
static const char *mount_option(const char *name) {
	static const struct {
		const char *name, *tree;
	} options[] = {
		{ "noexec", "rnoexec" },
		{ "nodev", "rnodev" },
		{ "nosuid", "rnosuid" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (strcmp(name, options[i].name) == 0)
			return options[i].tree;
	return NULL;
}

static bool mapped(const Runtime__V1__Mount *m) {
	return m->n_uidmappings || m->n_gidmappings;
}

/* What holds for any mount of the client's. */
static int check_mount(struct builder *b, const Runtime__V1__Mount *m) {
	int r = check_path("mount point", m->container_path, b->fault);
	if (r < 0)
		return r;
	const Runtime__V1__UserNamespace *u = userns_of(b->pod);
	if (mapped(m) && (!u || !userns_same_map(m->uidmappings, m->n_uidmappings, u->uids, u->n_uids) ||
			  !userns_same_map(m->gidmappings, m->n_gidmappings, u->gids, u->n_gids)))
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT,
				 "mount \"%.256s\": its owners can only be mapped as the pod's user namespace does",
				 m->container_path);
	for (size_t i = 0; i < m->n_mount_options; i++)
		if (!mount_option(m->mount_options[i]))
			return fault_set(b->fault, FAULT_INVALID_ARGUMENT,
					 "mount \"%.256s\": option \"%.32s\" is none of noexec, nodev and nosuid",
					 m->container_path, m->mount_options[i]);
	if (m->recursive_read_only && !m->readonly)
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT,
				 "mount \"%.256s\": recursive_read_only needs readonly", m->container_path);
	return 0;
}

static int check_bind(struct builder *b, const Runtime__V1__Mount *m) {
	if (*m->image_sub_path)
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "mount \"%.256s\": image_sub_path needs an image",
				 m->container_path);
	if (m->recursive_read_only && m->propagation != RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_PRIVATE)
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT,
				 "mount \"%.256s\": recursive_read_only needs private propagation", m->container_path);
	return check_path("mount source", m->host_path, b->fault);
}

static int add_host(struct builder *b, const Runtime__V1__Mount *m, const char *destination) {
	static const char *const propagation[] = {
		[RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_PRIVATE] = "rprivate",
		[RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER] = "rslave",
		[RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL] = "rshared",
	};
	struct strings o = { 0 };
	int r = check_bind(b, m);
	if (r < 0)
		return r;
	if ((unsigned)m->propagation >= ARRAY_SIZE(propagation))
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "mount \"%.256s\": unknown propagation %d",
				 m->container_path, (int)m->propagation);
	strings_add(b, &o, "rbind");
	strings_add(b, &o, propagation[m->propagation]);
	strings_add(b, &o, m->recursive_read_only ? "rro" : m->readonly ? "ro" : "rw");
	/* Volumes of type hostPath count on it. */
	strings_add(b, &o, "x-make-source");
	if (mapped(m))
		strings_add(b, &o, "idmap");
	for (size_t i = 0; i < m->n_mount_options; i++)
		strings_add(b, &o, mount_option(m->mount_options[i]));
	add(b, destination, "bind", m->host_path, o);
	return 0;
}

/* Foreign files get neither devices nor other users' rights into the container. */
static void add_image(struct builder *b, const Runtime__V1__Mount *m, const char *destination, unsigned number) {
	static const char *const always[] = { "rprivate", "ro", "nosuid", "nodev" };
	struct strings o = { 0 };
	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		strings_add(b, &o, always[i]);
	for (size_t i = 0; i < m->n_mount_options; i++)
		strings_add(b, &o, m->mount_options[i]);
	add(b, destination, "image", builder_text(b, "%u", number), o);
}

static int add_clients(struct builder *b, char *const *destinations) {
	unsigned images = 0;
	for (size_t i = 0; i < b->config->n_mounts; i++) {
		const Runtime__V1__Mount *m = b->config->mounts[i];
		int r = check_mount(b, m);
		if (r == 0 && m->image)
			add_image(b, m, destinations[i], ++images);
		else if (r == 0)
			r = add_host(b, m, destinations[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static size_t depth(const char *path) {
	size_t n = 0;
	for (; *path; path++)
		n += *path == '/' && path[1];
	return n;
}

/* Stable, and short lists: insertion. */
static void sort(Grpc__Mount **v, size_t n) {
	for (size_t i = 1; i < n; i++) {
		Grpc__Mount *m = v[i];
		size_t at = i, d = depth(m->destination);
		for (; at > 0 && depth(v[at - 1]->destination) > d; at--)
			v[at] = v[at - 1];
		v[at] = m;
	}
}

int spec_mounts(struct builder *b) {
	const Runtime__V1__ContainerConfig *c = b->config;
	struct strings theirs = { 0 };
	if (c->n_mounts > MOUNTS_MAX)
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "more than %d mounts", MOUNTS_MAX);
	for (size_t i = 0; i < c->n_mounts; i++)
		strings_add(b, &theirs, path_clean(b, c->mounts[i]->container_path));
	if (b->failed)
		return fault_errno(b->fault, ENOMEM, "build the mounts");
	add_standards(b, theirs.v, theirs.n);
	add_pods(b, theirs.v, theirs.n);
	int r = add_clients(b, theirs.v);
	sort(b->spec->mounts, b->spec->n_mounts);
	return r;
}
