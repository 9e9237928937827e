/*
 * Storages by driver: where the source comes from, and what is to be done beside
 * the mount. A driver that needs hardware waits for it (device.c).
 */
#include "device.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define OVERLAY_RW "io.katacontainers.fs-opt.overlay-rw"
#define OVERLAY_FOLDER "io.katacontainers.volume.overlayfs.create_directory="

struct storage {
	const Grpc__Storage *s;
	const struct place *at;
};

/* --- what drivers share --- */

/* NULL when there is no option KEY=; its value otherwise. */
static const char *option_value(const Grpc__Storage *s, const char *key) {
	size_t n = strlen(key);
	for (size_t i = 0; i < s->n_options; i++)
		if (strncmp(s->options[i], key, n) == 0 && s->options[i][n] == '=')
			return s->options[i] + n + 1;
	return NULL;
}

static int number_of(const char *text, int base, uint32_t max, uint32_t *ret_n, struct fault *fault) {
	char *end;
	errno = 0;
	unsigned long n = strtoul(text, &end, base);
	if (*text < '0' || *text > '9' || *end || errno || n > max)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is no number from 0 to %u", text, max);
	*ret_n = (uint32_t)n;
	return 0;
}

/* The options without KEY=. */
static char **options_without(struct work *w, const Grpc__Storage *s, const char *key, size_t *ret_n) {
	char **options = arena_zalloc(&w->arena, (s->n_options + 1) * sizeof(*options));
	size_t n = 0, size = strlen(key);
	for (size_t i = 0; options && i < s->n_options; i++)
		if (strncmp(s->options[i], key, size) != 0 || s->options[i][size] != '=')
			options[n++] = s->options[i];
	*ret_n = n;
	return options;
}

static int mount_source(struct work *w, const struct storage *x, const char *source, struct fault *fault) {
	const struct mounting m = {
		.source = source,
		.fstype = x->s->fstype,
		.options = x->s->options,
		.n_options = x->s->n_options,
	};
	return mounting_do(w, &m, x->at, fault);
}

/* The group of a folder, whose new files have it too; mode is added, unless
 * it is absolute. */
static int folder_give(const struct place *at, const char *group, const char *mode, struct fault *fault) {
	uint32_t gid = 0, bits = 0;
	int r = group ? number_of(group, 10, UINT32_MAX - 1, &gid, fault) : 0;
	if (r == 0 && mode)
		r = number_of(mode, 8, 07777, &bits, fault);
	if (r < 0)
		return r;
	CLEANUP_FD int fd = openat(at->folder, at->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0 || (group && fchown(fd, (uid_t)-1, gid) < 0) ||
	    fchmod(fd, (mode ? bits : st.st_mode & 07777) | (group ? S_ISGID : 0)) < 0)
		return fault_errno(fault, errno, "set its group and mode");
	return 0;
}

/* --- the drivers --- */

static int shared_fs(struct work *w, struct storage *x, struct fault *fault) {
	return mount_source(w, x, x->s->source, fault);
}

static int ephemeral(struct work *w, struct storage *x, struct fault *fault) {
	const char *group = option_value(x->s, "fsgid");
	struct mounting m = { .source = x->s->source, .fstype = x->s->fstype };
	m.options = options_without(w, x->s, "fsgid", &m.n_options);
	if (!m.options)
		return no_memory(fault);
	int r = mounting_do(w, &m, x->at, fault);
	return r == 0 && group ? folder_give(x->at, group, NULL, fault) : r;
}

static int local(struct work *w, struct storage *x, struct fault *fault) {
	if (mkdirat(x->at->folder, x->at->name, 0755) < 0 && errno != EEXIST)
		return fault_errno(fault, errno, "make the folder");
	return folder_give(x->at, option_value(x->s, "fsgid"), option_value(x->s, "mode"), fault);
}

static int folder_make(struct work *w, const char *path, struct fault *fault) {
	CLEANUP_PLACE struct place p = PLACE_NONE;
	int r = place_find(w, path, true, &p, fault);
	if (r == 0 && mkdirat(p.folder, p.name, 0755) < 0 && errno != EEXIST)
		r = fault_errno(fault, errno, "make the folder \"%s\"", path);
	return r;
}

static bool overlay_writable(const Grpc__Storage *s) {
	for (size_t i = 0; i < s->n_options; i++)
		if (strcmp(s->options[i], OVERLAY_RW) == 0)
			return true;
	return false;
}

/* With its option "overlay-rw" the upper folder is the agent's to find. */
static int overlay_upper(struct work *w, const struct storage *x, struct mounting *m, struct fault *fault) {
	static const char *const parts[] = { "upper", "work" };
	char **options = arena_zalloc(&w->arena, (m->n_options + 3) * sizeof(*options));
	if (!options)
		return no_memory(fault);
	memcpy(options, m->options, m->n_options * sizeof(*options));
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		char *path = arena_printf(&w->arena, "%s.%s", x->s->mount_point, parts[i]);
		int r = path ? folder_make(w, path, fault) : no_memory(fault);
		if (r < 0)
			return r;
		options[m->n_options++] = arena_printf(&w->arena, "%sdir=%s", parts[i], path);
	}
	m->options = options;
	return 0;
}

static int overlayfs(struct work *w, struct storage *x, struct fault *fault) {
	struct mounting m = {
		.source = x->s->source, .fstype = x->s->fstype, .options = x->s->options, .n_options = x->s->n_options
	};
	int r = 0;
	for (size_t i = 0; r == 0 && i < x->s->n_driver_options; i++)
		if (strncmp(x->s->driver_options[i], OVERLAY_FOLDER, strlen(OVERLAY_FOLDER)) == 0)
			r = folder_make(w, x->s->driver_options[i] + strlen(OVERLAY_FOLDER), fault);
	if (r == 0 && overlay_writable(x->s))
		r = overlay_upper(w, x, &m, fault);
	return r < 0 ? r : mounting_do(w, &m, x->at, fault);
}

static int blk(struct work *w, struct storage *x, struct fault *fault) {
	const char *source = x->s->source;
	int r = *source == '/' ? device_node(w, source, fault) : device_pci_block(w, source, &source, fault);
	return r < 0 ? r : mount_source(w, x, source, fault);
}

static int node(struct work *w, struct storage *x, struct fault *fault) {
	int r = device_node(w, x->s->source, fault);
	return r < 0 ? r : mount_source(w, x, x->s->source, fault);
}

static int scsi(struct work *w, struct storage *x, struct fault *fault) {
	const char *source;
	int r = device_scsi(w, x->s->source, &source, fault);
	return r < 0 ? r : mount_source(w, x, source, fault);
}

static int without(struct work *w, struct storage *x, struct fault *fault) {
	return fault_set(fault, FAULT_UNIMPLEMENTED, "this agent has no driver \"%s\"", x->s->driver);
}

static const struct driver {
	const char *name;
	int (*attach)(struct work *w, struct storage *x, struct fault *fault);
} drivers[] = {
	{ "ephemeral", ephemeral },
	{ "local", local },
	{ "overlayfs", overlayfs },
	{ "virtio-fs", shared_fs },
	{ "blk", blk },
	{ "mmioblk", node },
	{ "nvdimm", node },
	{ "scsi", scsi },
	{ "watchable-bind", shared_fs },
	{ "image_guest_pull", without },
	{ "erofs.multi-layer", without },
	{ "blk-ccw", without },
	{ "9p", without },
};

int driver_attach(struct work *w, const Grpc__Storage *s, const struct place *at, struct fault *fault) {
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		struct storage x = { .s = s, .at = at };
		if (strcmp(drivers[i].name, s->driver) != 0)
			continue;
		int r = drivers[i].attach(w, &x, fault);
		if (r == 0 && s->fs_group)
			r = group_give(at, s, fault);
		return r;
	}
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "there is no storage driver \"%s\"", s->driver);
}

const char *driver_mark(const Grpc__Storage *s) {
	if (strcmp(s->driver, "local") == 0)
		return HOLDING_TREE;
	return strcmp(s->driver, "overlayfs") == 0 && overlay_writable(s) ? HOLDING_UPPER : NULL;
}

const char *driver_name(size_t i) {
	return i < ARRAY_SIZE(drivers) && drivers[i].attach != without ? drivers[i].name : NULL;
}
