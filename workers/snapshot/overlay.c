/*
 * The list of layers has three ways into the kernel, the cheapest first: one
 * string (fsconfig takes at most 255 bytes), one option per layer (since 6.8),
 * or mount(2) with a page of options on a scratch folder, from where the mount
 * is taken off again.
 *
 * volatile spares the sync of the whole upper file system when a container
 * ends. It leaves a mark in the work folder that refuses the next mount, which
 * is meant for what must survive a power cut; a container doesn't.
 */
#include "workers/snapshot/overlay.h"

#include "base/buffer.h"
#include "base/fd.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define OPTION_MAX 255
#define PAGE_MAX 4095
/* The place for the old way's mounts: a folder beside the layers. */
#define OLD_WAY_PLACE ".mount"

struct option {
	const char *name, *value; /* value NULL: a flag */
};

/* What the kernel had to say, which is more than its errno. */
static int kernel_fault(int fs, int err, struct fault *fault, const char *what) {
	char text[512];
	ssize_t n = fs < 0 ? -1 : read(fs, text, sizeof(text) - 1);
	if (n <= 2)
		return fault_errno(fault, err, "overlay: %s", what);
	text[n] = '\0';
	char *line = text[1] == ' ' ? text + 2 : text; /* "e overlay: ..." */
	line[strcspn(line, "\n")] = '\0';
	int r = fault_errno(fault, err, "overlay: %s (%s)", what, line);
	return r;
}

static size_t options_fill(const struct overlay *o, const char *upper, const char *work, struct option out[8]) {
	size_t n = 0;
	if (upper) {
		out[n++] = (struct option){ "upperdir", upper };
		out[n++] = (struct option){ "workdir", work };
		if (o->is_volatile)
			out[n++] = (struct option){ "volatile", NULL };
	}
	/* Each of these would make an upper folder usable with its own lower
	 * folders only, or write marks into it that an image can't carry. */
	out[n++] = (struct option){ "index", "off" };
	out[n++] = (struct option){ "metacopy", "off" };
	out[n++] = (struct option){ "redirect_dir", o->nofollow ? "nofollow" : "off" };
	return n;
}

static int option_set(int fs, const char *name, const char *value) {
	enum fsconfig_command command = value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;
	return fsconfig(fs, command, name, value, 0) < 0 ? -errno : 0;
}

static int lowers_set(int fs, const char *list, const char *const *lowers, size_t n) {
	if (strlen(list) <= OPTION_MAX)
		return option_set(fs, "lowerdir", list);
	for (size_t i = 0; i < n; i++) {
		int r = option_set(fs, "lowerdir+", lowers[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int mount_new_way(const char *list, const char *const *lowers, size_t n, const struct option *options,
			 size_t n_options, bool read_only, int *ret_mount, struct fault *fault) {
	CLEANUP_FD int fs = fsopen("overlay", FSOPEN_CLOEXEC);
	if (fs < 0)
		return fault_errno(fault, errno, "overlay: the kernel has none");
	int r = lowers_set(fs, list, lowers, n);
	if (r < 0)
		return kernel_fault(fs, r, fault, "set the layers");
	for (size_t i = 0; i < n_options; i++) {
		r = option_set(fs, options[i].name, options[i].value);
		if (r < 0)
			return kernel_fault(fs, r, fault, options[i].name);
	}
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return kernel_fault(fs, errno, fault, "mount");
	int fd = fsmount(fs, FSMOUNT_CLOEXEC, read_only ? MOUNT_ATTR_RDONLY : 0);
	if (fd < 0)
		return kernel_fault(fs, errno, fault, "mount");
	*ret_mount = fd;
	return 0;
}

static int mount_old_way(const char *list, const struct option *options, size_t n_options, bool read_only,
			 int *ret_mount, struct fault *fault) {
	CLEANUP_BUFFER struct buffer page = { 0 };
	buffer_addf(&page, "lowerdir=%s", list);
	for (size_t i = 0; i < n_options; i++)
		buffer_addf(&page, ",%s%s%s", options[i].name, options[i].value ? "=" : "", options[i].value ?: "");
	if (page.failed || page.size > PAGE_MAX)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED,
				 "overlay: the names of the layers take %zu bytes; this kernel takes %d", page.size,
				 PAGE_MAX);
	CLEANUP_FREE char *text = buffer_take_text(&page);
	if (!text)
		return fault_errno(fault, ENOMEM, "overlay: mount");
	if (mkdir(OLD_WAY_PLACE, 0700) < 0 && errno != EEXIST)
		return fault_errno(fault, errno, "overlay: make a place to mount");
	if (mount("overlay", OLD_WAY_PLACE, "overlay", read_only ? MS_RDONLY : 0, text) < 0)
		return fault_errno(fault, errno, "overlay: mount");
	int fd = open_tree(AT_FDCWD, OLD_WAY_PLACE, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	int err = errno;
	umount2(OLD_WAY_PLACE, MNT_DETACH);
	if (fd < 0)
		return fault_errno(fault, err, "overlay: take the mount off");
	*ret_mount = fd;
	return 0;
}

/* The mark is work/incompat/volatile with a file in it. */
void overlay_mark_remove(const char *work) {
	static const struct {
		const char *path;
		int flags;
	} mark[] = {
		{ "work/incompat/volatile/dirty", 0 },
		{ "work/incompat/volatile", AT_REMOVEDIR },
		{ "work/incompat", AT_REMOVEDIR },
	};
	CLEANUP_FD int fd = open(work, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	for (size_t i = 0; fd >= 0 && i < ARRAY_SIZE(mark); i++)
		if (unlinkat(fd, mark[i].path, mark[i].flags) < 0 && errno == ENOENT && i == 0)
			return;
}

int overlay_mount(const struct overlay *o, const char *const *lowers, size_t n, const char *upper, const char *work,
		  int *ret_mount, struct fault *fault) {
	CLEANUP_BUFFER struct buffer b = { 0 };
	struct option options[8];
	for (size_t i = 0; i < n; i++)
		buffer_addf(&b, "%s%s", i ? ":" : "", lowers[i]);
	CLEANUP_FREE char *list = buffer_take_text(&b);
	if (!list)
		return fault_errno(fault, ENOMEM, "overlay: mount");
	if (work)
		overlay_mark_remove(work);
	size_t n_options = options_fill(o, upper, work, options);
	if (strlen(list) > OPTION_MAX && !o->lower_append)
		return mount_old_way(list, options, n_options, !upper, ret_mount, fault);
	return mount_new_way(list, lowers, n, options, n_options, !upper, ret_mount, fault);
}

/* --- probing --- */

static const char *const probe_folders[] = { "lower", "lower2", "upper", "work" };

static int probe_mount(const struct overlay *o, const char *const lowers[2], const char *upper, const char *work,
		       struct fault *fault) {
	int fd;
	int r = overlay_mount(o, lowers, 2, upper, work, &fd, fault);
	if (r == 0)
		fd_close(fd);
	return r;
}

/* One layer at a time, as the list is done when it is long. */
static bool probe_append(const char *const lowers[2]) {
	CLEANUP_FD int fs = fsopen("overlay", FSOPEN_CLOEXEC);
	return fs >= 0 && option_set(fs, "lowerdir+", lowers[0]) == 0 && option_set(fs, "lowerdir+", lowers[1]) == 0 &&
	       fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0;
}

int overlay_probe(struct overlay *o, int scratch, struct fault *fault) {
	const char *const lowers[2] = { "lower", "lower2" };
	CLEANUP_FD int back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	*o = (struct overlay){ .is_volatile = true, .nofollow = true };
	if (back < 0 || fchdir(scratch) < 0)
		return fault_errno(fault, errno, "overlay: open the folder to try in");
	for (size_t i = 0; i < ARRAY_SIZE(probe_folders); i++)
		if (mkdir(probe_folders[i], 0700) < 0 && errno != EEXIST)
			return fault_errno(fault, errno, "overlay: make folders to try with");
	int r = probe_mount(o, lowers, "upper", "work", fault);
	if (r < 0) {
		o->is_volatile = false;
		r = probe_mount(o, lowers, "upper", "work", fault);
	}
	if (r < 0) {
		o->nofollow = false;
		r = probe_mount(o, lowers, "upper", "work", fault);
	}
	o->usable = r == 0;
	o->lower_append = o->usable && probe_append(lowers);
	return fchdir(back) < 0 ? fault_errno(fault, errno, "overlay: go back") : 0;
}
