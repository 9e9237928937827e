#include "workers/snapshot/rooms.h"

#include "base/clock.h"
#include "base/fd.h"
#include "tree/remove.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define OPEN_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static int room_open(const char *state_root, const char *name, int *ret_fd, struct fault *fault) {
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", state_root, name);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return fault_errno(fault, errno, "make the folder %s", path);
	*ret_fd = open(path, OPEN_FLAGS);
	return *ret_fd < 0 ? fault_errno(fault, errno, "open the folder %s", path) : 0;
}

/*
 * ext4 without a journal doesn't give an inode away again for minutes after its
 * file was removed, and looks at each of those when it searches for a free one.
 * It searches near the folder that the file is in; containers come and go in
 * one place, where making a file then takes ten times as long. This hint spreads
 * the folders below one over the whole disk. As placing a folder so takes 0.1 ms,
 * SPREAD of them are made once, and each snapshot begins its life in another.
 * Other file systems don't know the hint.
 */
#define SPREAD 256

static void spread_hint(int dir) {
	int flags;
	if (ioctl(dir, FS_IOC_GETFLAGS, &flags) == 0 && !(flags & FS_TOPDIR_FL)) {
		flags |= FS_TOPDIR_FL;
		(void)ioctl(dir, FS_IOC_SETFLAGS, &flags);
	}
}

int rooms_spread_make(struct rooms *r, const char *key, char ret_name[ROOMS_SPREAD_NAME]) {
	char slot[16];
	snprintf(slot, sizeof(slot), "%02x", r->next_spread++ % SPREAD);
	if (mkdirat(r->snapshots_spread, slot, 0700) < 0 && errno != EEXIST)
		return -errno;
	snprintf(ret_name, ROOMS_SPREAD_NAME, "%s/%.80s", slot, key);
	return mkdirat(r->snapshots_spread, ret_name, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int part_open(int room, const char *name, int *ret_fd, struct fault *fault) {
	if (mkdirat(room, name, 0700) < 0 && errno != EEXIST)
		return fault_errno(fault, errno, "make the folder %s", name);
	*ret_fd = openat(room, name, OPEN_FLAGS);
	return *ret_fd < 0 ? fault_errno(fault, errno, "open the folder %s", name) : 0;
}

/* Whatever is in part was not finished. */
static int part_clear(struct rooms *rooms, int part, int trash, struct fault *fault) {
	int fd = openat(part, ".", OPEN_FLAGS);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return fault_errno(fault, errno, "read a folder of leftovers");
	int r = 0;
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		r = trash_put(trash, part, e->d_name);
		rooms->leftovers = true;
	}
	closedir(d);
	return r < 0 ? fault_errno(fault, r, "put leftovers into the trash") : 0;
}

static int leftovers_clear(struct rooms *r, struct fault *fault) {
	int e = part_clear(r, r->layers_staging, r->layers_trash, fault);
	if (e == 0)
		e = part_clear(r, r->snapshots_new, r->snapshots_trash, fault);
	for (unsigned i = 0; e == 0 && i < SPREAD; i++) {
		char slot[16];
		snprintf(slot, sizeof(slot), "%02x", i);
		CLEANUP_FD int fd = openat(r->snapshots_spread, slot, OPEN_FLAGS);
		if (fd >= 0)
			e = part_clear(r, fd, r->snapshots_trash, fault);
	}
	return e;
}

int room_folder(int dir, const char *name, unsigned mode, unsigned uid, unsigned gid) {
	if (mkdirat(dir, name, (mode_t)mode) < 0 && errno != EEXIST)
		return -errno;
	/* By name: nobody else writes here. The mode last, a chown clears bits of it. */
	if (fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 || fchmodat(dir, name, (mode_t)mode, 0) < 0)
		return -errno;
	return 0;
}

int rooms_open(struct rooms *r, const char *state_root, struct fault *fault) {
	*r = (struct rooms){ 0 };
	int e = room_open(state_root, "layers", &r->layers, fault);
	if (e == 0)
		e = room_open(state_root, "snapshots", &r->snapshots, fault);
	if (e < 0)
		return e;
	const struct {
		int room;
		const char *name;
		int *fd;
	} parts[] = {
		{ r->layers, ROOM_STAGING, &r->layers_staging },     { r->layers, ".trash", &r->layers_trash },
		{ r->layers, ROOM_WRITABLE, &r->layers_writable },   { r->snapshots, ROOM_NEW, &r->snapshots_new },
		{ r->snapshots, ROOM_VIEWS, &r->snapshots_views },   { r->snapshots, ".trash", &r->snapshots_trash },
		{ r->snapshots, ROOM_SPREAD, &r->snapshots_spread },
	};
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		e = part_open(parts[i].room, parts[i].name, parts[i].fd, fault);
		if (e < 0)
			return e;
	}
	static const char *const empty[] = { ROOM_EMPTY, ROOM_EMPTY_1, ROOM_EMPTY_2 };
	for (size_t i = 0; i < ARRAY_SIZE(empty); i++) {
		e = room_folder(r->layers, empty[i], 0755, 0, 0);
		if (e < 0)
			return fault_errno(fault, e, "make the folder %s", empty[i]);
	}
	if (fchdir(r->layers) < 0)
		return fault_errno(fault, errno, "enter the folder of the layers");
	spread_hint(r->layers_staging);
	spread_hint(r->snapshots_spread);
	r->next_spread = (unsigned)clock_mono();
	return leftovers_clear(r, fault);
}
