#include "workers/keeper/devices.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define PREFIX_DEVICE "bulkhead.io/device/"
#define PRIVILEGED "bulkhead.io/privileged"
#define DEVICES_MAX 4096

struct found {
	struct found *next;
	Grpc__LinuxDevice device;
	Grpc__LinuxDeviceCgroup rule;
	Grpc__Mount mount; /* of the host's node, in a user namespace */
};

struct folder {
	struct folder *next;
	const char *host, *inside;
};

struct search {
	struct arena *arena;
	struct fault *fault;
	struct found *found, **end;
	size_t n;
	struct folder *folders; /* still to be read */
	const char *access;	/* of what is found; NULL: rules say all already */
	bool mounts;
};

static int no_memory(const struct search *s) {
	return fault_errno(s->fault, ENOMEM, "look up the host's devices");
}

static int device_add(struct search *s, const char *host, const char *inside, const struct stat *st) {
	static const char *const options[] = { "bind" };
	struct found *f = arena_zalloc(s->arena, sizeof(*f));
	char *path = arena_strdup(s->arena, inside);
	char *source = arena_strdup(s->arena, host);
	if (!f || !path || !source)
		return no_memory(s);
	if (++s->n > DEVICES_MAX)
		return fault_set(s->fault, FAULT_INVALID_ARGUMENT, "more than %d devices", DEVICES_MAX);
	f->device = (Grpc__LinuxDevice)GRPC__LINUX_DEVICE__INIT;
	f->device.path = path;
	f->device.type = (char *)(S_ISBLK(st->st_mode) ? "b" : "c");
	f->device.major = major(st->st_rdev);
	f->device.minor = minor(st->st_rdev);
	f->device.filemode = st->st_mode & 07777;
	f->device.uid = st->st_uid;
	f->device.gid = st->st_gid;
	f->rule = (Grpc__LinuxDeviceCgroup)GRPC__LINUX_DEVICE_CGROUP__INIT;
	f->rule.allow = s->access != NULL;
	f->rule.type = f->device.type;
	f->rule.major = f->device.major;
	f->rule.minor = f->device.minor;
	f->rule.access = (char *)(s->access ? s->access : "");
	f->mount = (Grpc__Mount)GRPC__MOUNT__INIT;
	f->mount.destination = path;
	f->mount.source = source;
	f->mount.type = (char *)"bind";
	f->mount.options = (char **)(uintptr_t)options;
	f->mount.n_options = ARRAY_SIZE(options);
	*s->end = f;
	s->end = &f->next;
	return 0;
}

static int folder_add(struct search *s, const char *host, const char *inside) {
	struct folder *f = arena_alloc(s->arena, sizeof(*f));
	if (!f)
		return no_memory(s);
	*f = (struct folder){ .next = s->folders,
			      .host = arena_strdup(s->arena, host),
			      .inside = arena_strdup(s->arena, inside) };
	s->folders = f;
	return f->host && f->inside ? 0 : no_memory(s);
}

/* Of a /dev what belongs to whoever lives there, and is made anew for each. */
static bool skipped(const char *name) {
	static const char *const names[] = { ".",      "..",   "pts",	      "ptmx",  "shm",	 "fd",
					     "mqueue", ".lxc", ".lxd-mounts", ".udev", "console" };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* Links aren't followed; what vanishes meanwhile was never there. */
static int entry_add(struct search *s, const struct folder *f, DIR *d, const char *name) {
	char host[PATH_MAX], inside[PATH_MAX];
	struct stat st;
	if (skipped(name) || fstatat(dirfd(d), name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if ((size_t)snprintf(host, sizeof(host), "%s/%s", f->host, name) >= sizeof(host) ||
	    (size_t)snprintf(inside, sizeof(inside), "%s/%s", f->inside, name) >= sizeof(inside))
		return fault_errno(s->fault, ENAMETOOLONG, "device \"%.256s/%s\"", f->host, name);
	if (S_ISDIR(st.st_mode))
		return folder_add(s, host, inside);
	return S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode) ? device_add(s, host, inside, &st) : 0;
}

static int folders_read(struct search *s) {
	while (s->folders) {
		struct folder *f = s->folders;
		struct dirent *e;
		int r = 0;
		s->folders = f->next;
		DIR *d = opendir(f->host);
		if (!d)
			return fault_errno(s->fault, errno, "devices of \"%s\"", f->host);
		while (r == 0 && (e = readdir(d)))
			r = entry_add(s, f, d, e->d_name);
		closedir(d);
		if (r < 0)
			return r;
	}
	return 0;
}

static int device_find(struct search *s, const char *host, const char *inside, const char *access) {
	struct stat st;
	size_t before = s->n;
	if (stat(host, &st) < 0)
		return fault_errno(s->fault, errno, "device \"%s\"", host);
	s->access = access;
	if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
		return device_add(s, host, inside, &st);
	if (!S_ISDIR(st.st_mode))
		return fault_set(s->fault, FAULT_INVALID_ARGUMENT, "device \"%s\" is neither a device nor a folder",
				 host);
	int r = folder_add(s, host, inside);
	if (r == 0)
		r = folders_read(s);
	if (r == 0 && s->n == before)
		return fault_set(s->fault, FAULT_INVALID_ARGUMENT, "device \"%s\" is a folder without devices", host);
	return r;
}

/* "<host path>\n<path in the container>\n<rwm>" */
static int device_parse(struct search *s, const char *value, bool all) {
	char *text = arena_strdup(s->arena, value);
	if (!text)
		return no_memory(s);
	char *inside = strchr(text, '\n');
	char *access = inside ? strchr(inside + 1, '\n') : NULL;
	if (!access || text[0] != '/' || inside[1] != '/')
		return fault_set(s->fault, FAULT_INVALID_ARGUMENT, "\"%.256s\" describes no device", value);
	*inside++ = *access++ = '\0';
	return device_find(s, text, inside, all ? NULL : access);
}

/* Lists of the specification with what was found behind them. */
static int lists_make(const struct search *s, Grpc__Linux *l, Grpc__LinuxResources *r) {
	Grpc__LinuxDevice **devices = arena_alloc(s->arena, (l->n_devices + s->n + 1) * sizeof(*devices));
	Grpc__LinuxDeviceCgroup **rules = arena_alloc(s->arena, (r->n_devices + s->n + 1) * sizeof(*rules));
	if (!devices || !rules)
		return no_memory(s);
	if (l->n_devices)
		memcpy(devices, l->devices, l->n_devices * sizeof(*devices));
	if (r->n_devices)
		memcpy(rules, r->devices, r->n_devices * sizeof(*rules));
	l->devices = devices;
	r->devices = rules;
	for (struct found *f = s->found; f; f = f->next) {
		devices[l->n_devices++] = &f->device;
		if (f->rule.allow)
			rules[r->n_devices++] = &f->rule;
	}
	return 0;
}

static int mounts_make(const struct search *s, Grpc__Spec *spec) {
	Grpc__Mount **mounts = arena_alloc(s->arena, (spec->n_mounts + s->n + 1) * sizeof(*mounts));
	if (!mounts)
		return no_memory(s);
	if (spec->n_mounts)
		memcpy(mounts, spec->mounts, spec->n_mounts * sizeof(*mounts));
	spec->mounts = mounts;
	for (struct found *f = s->found; f; f = f->next)
		mounts[spec->n_mounts++] = &f->mount;
	return 0;
}

static int spec_copy(const struct search *s, const Grpc__Spec *spec, const Grpc__Spec **ret_spec) {
	Grpc__Spec *copy = arena_alloc(s->arena, sizeof(*copy));
	Grpc__Linux *l = arena_alloc(s->arena, sizeof(*l));
	Grpc__LinuxResources *r = arena_alloc(s->arena, sizeof(*r));
	if (!copy || !l || !r)
		return no_memory(s);
	*copy = *spec;
	*l = spec->linux ? *spec->linux : (Grpc__Linux)GRPC__LINUX__INIT;
	*r = l->resources ? *l->resources : (Grpc__LinuxResources)GRPC__LINUX_RESOURCES__INIT;
	copy->linux = l;
	l->resources = r;
	int e = lists_make(s, l, r);
	if (e == 0 && s->mounts)
		e = mounts_make(s, copy);
	if (e == 0)
		*ret_spec = copy;
	return e;
}

/* Unless the container's /dev is a folder of the host. */
static int standards_find(struct search *s, const Grpc__Spec *spec) {
	static const char *const names[] = { "/dev/null",   "/dev/zero", "/dev/full",
					     "/dev/random", "/dev/tty",	 "/dev/urandom" };
	int r = 0;
	for (size_t i = 0; i < spec->n_mounts; i++)
		if (strcmp(spec->mounts[i]->destination, "/dev") == 0 && strcmp(spec->mounts[i]->type, "bind") == 0)
			return 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++)
		r = device_find(s, names[i], names[i], NULL);
	return r;
}

int devices_expand(struct arena *a, const Grpc__Spec *spec, bool user_namespace, const Grpc__Spec **ret_spec,
		   struct fault *fault) {
	struct search s = { .arena = a, .fault = fault, .mounts = user_namespace };
	bool all = false;
	int r = 0;
	s.end = &s.found;
	for (size_t i = 0; i < spec->n_annotations; i++)
		all |= strcmp(spec->annotations[i]->key, PRIVILEGED) == 0 &&
		       strcmp(spec->annotations[i]->value, "true") == 0;
	if (all)
		r = folder_add(&s, "/dev", "/dev");
	else if (user_namespace)
		r = standards_find(&s, spec);
	if (r == 0)
		r = folders_read(&s);
	for (size_t i = 0; r == 0 && i < spec->n_annotations; i++)
		if (strncmp(spec->annotations[i]->key, PREFIX_DEVICE, strlen(PREFIX_DEVICE)) == 0)
			r = device_parse(&s, spec->annotations[i]->value, all);
	if (r < 0)
		return r;
	*ret_spec = spec;
	return s.found ? spec_copy(&s, spec, ret_spec) : 0;
}
