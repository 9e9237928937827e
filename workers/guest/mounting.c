#include "guest.h"

#include "base/fd.h"
#include "base/mountopt.h"

#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Of the agent's hosts, for the agent itself. */
#define OWN_OPTION "io.katacontainers."

static const struct {
	uint64_t attribute;
	unsigned long flag;
} flags[] = {
	{ MOUNT_ATTR_RDONLY, MS_RDONLY },
	{ MOUNT_ATTR_NOSUID, MS_NOSUID },
	{ MOUNT_ATTR_NODEV, MS_NODEV },
	{ MOUNT_ATTR_NOEXEC, MS_NOEXEC },
	{ MOUNT_ATTR_NODIRATIME, MS_NODIRATIME },
	{ MOUNT_ATTR_NOATIME, MS_NOATIME },
	{ MOUNT_ATTR_STRICTATIME, MS_STRICTATIME },
};

struct options {
	struct mount_options parsed;
	unsigned long flags;
	char *data; /* with commas, for the file system */
};

static int data_join(struct work *w, struct options *o) {
	size_t size = 1;
	for (size_t i = 0; i < o->parsed.n_data; i++)
		size += strlen(o->parsed.data[i]) + 1;
	char *p = o->data = arena_zalloc(&w->arena, size);
	if (!p)
		return -ENOMEM;
	for (size_t i = 0; i < o->parsed.n_data; i++) {
		const char *option = o->parsed.data[i];
		if (strcmp(option, "remount") == 0)
			o->flags |= MS_REMOUNT;
		else if (strncmp(option, OWN_OPTION, strlen(OWN_OPTION)) != 0)
			p += sprintf(p, "%s%s", p == o->data ? "" : ",", option);
	}
	return 0;
}

static int options_read(struct work *w, const struct mounting *m, struct options *ret_options, struct fault *fault) {
	struct options o = { 0 };
	int r = mount_options_parse(m->options, m->n_options, &o.parsed, fault);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (o.parsed.set & flags[i].attribute)
			o.flags |= flags[i].flag;
	o.parsed.bind |= strcmp(m->fstype, "bind") == 0;
	if (data_join(w, &o) < 0)
		return no_memory(fault);
	*ret_options = o;
	return 0;
}

/* --- where --- */

static bool is_file(const char *source) {
	struct stat st;
	return stat(source, &st) == 0 && !S_ISDIR(st.st_mode);
}

static int target_make(const struct place *at, bool file) {
	if (!file)
		return mkdirat(at->folder, at->name, 0755) < 0 && errno != EEXIST ? -errno : 0;
	int fd = openat(at->folder, at->name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

bool mounting_is(const struct place *at) {
	struct statx st;
	return statx(at->folder, at->name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &st) == 0 &&
	       (st.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

/* --- the mount --- */

/* The target by its descriptor: nothing can come between the look and the mount. */
static void target_name(int target, char ret_name[32]) {
	snprintf(ret_name, 32, "/proc/self/fd/%d", target);
}

static int bind_mount(const struct mounting *m, const struct options *o, int target, const struct place *at) {
	char name[32];
	target_name(target, name);
	if (mount(m->source, name, NULL, MS_BIND | (o->parsed.recursive ? MS_REC : 0), NULL) < 0)
		return -errno;
	struct mount_attr a = { .attr_set = o->parsed.set, .attr_clr = o->parsed.clear };
	if ((a.attr_set | a.attr_clr) == 0)
		return 0;
	CLEANUP_FD int top = place_open(at);
	return top < 0 || mount_setattr(top, "", AT_EMPTY_PATH, &a, sizeof(a)) < 0 ? -errno : 0;
}

static int propagate(const struct options *o, const struct place *at) {
	struct mount_attr a = { .propagation = o->parsed.propagation };
	if (!a.propagation)
		return 0;
	CLEANUP_FD int top = place_open(at);
	unsigned tree = o->parsed.propagation_tree ? AT_RECURSIVE : 0;
	return top < 0 || mount_setattr(top, "", AT_EMPTY_PATH | tree, &a, sizeof(a)) < 0 ? -errno : 0;
}

static int new_mount(const struct mounting *m, const struct options *o, int target) {
	char name[32];
	target_name(target, name);
	return mount(m->source, name, m->fstype, o->flags, o->data) < 0 ? -errno : 0;
}

int mounting_do(struct work *w, const struct mounting *m, const struct place *at, struct fault *fault) {
	struct options o = { 0 };
	int r = options_read(w, m, &o, fault);
	if (r < 0)
		return r;
	r = target_make(at, o.parsed.bind && is_file(m->source));
	CLEANUP_FD int target = r < 0 ? -1 : place_open(at);
	if (r == 0 && target < 0)
		r = target;
	if (r < 0)
		return fault_errno(fault, r, "make what it is mounted on");
	r = o.parsed.bind ? bind_mount(m, &o, target, at) : new_mount(m, &o, target);
	if (r == 0)
		r = propagate(&o, at);
	if (r == -ENODEV)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "the kernel has no file system \"%s\"", m->fstype);
	return r < 0 ? fault_errno(fault, r, "mount it as %s", *m->fstype ? m->fstype : "bind") : 0;
}

/* The name is looked up in its own folder: a path might lead elsewhere by now. */
int mounting_end(const struct place *at) {
	if (!mounting_is(at))
		return 0;
	if (fchdir(at->folder) < 0)
		return -errno;
	while (mounting_is(at))
		if (umount2(at->name, UMOUNT_NOFOLLOW) < 0 &&
		    (errno != EBUSY || umount2(at->name, UMOUNT_NOFOLLOW | MNT_DETACH) < 0))
			return -errno;
	return 0;
}
