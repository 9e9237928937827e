#include "tree/remove.h"

#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

int trash_put(int trash, int dir, const char *name) {
	/* The number is a guess that rarely misses; RENAME_NOREPLACE decides. */
	static unsigned next;
	for (unsigned tries = 0; tries < 1000000; tries++) {
		char number[16];
		snprintf(number, sizeof(number), "%u", next++);
		if (renameat2(dir, name, trash, number, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

static bool is_dot(const char *name) {
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Opens a folder for reading its entries, whatever its mode says. */
static DIR *dir_open(int at, const char *name) {
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	DIR *d = fdopendir(fd);
	if (!d)
		fd_close(fd);
	return d;
}

/* A container with the capability may have made a file or folder immutable;
 * then nothing in it can be changed or removed. false: that wasn't it. */
static bool flags_clear(int dir, const char *name) {
	int flags;
	CLEANUP_FD int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 || !(flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)))
		return false;
	flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
	return ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
}

static int name_unlink(int dir, const char *name, int flags) {
	if (unlinkat(dir, name, flags) == 0 || errno == ENOENT)
		return 0;
	if (errno != EPERM)
		return -errno;
	/* The flag may be the name's own or its folder's. */
	bool own = flags_clear(dir, name), above = flags_clear(dir, ".");
	if (!own && !above)
		return -EPERM;
	return unlinkat(dir, name, flags) < 0 && errno != ENOENT ? -errno : 0;
}

/* Removes one entry of a folder; a folder that isn't empty goes to the trash. */
static int entry_remove(int trash, int dir, const struct dirent *e) {
	int r;
	if (e->d_type != DT_DIR) {
		r = name_unlink(dir, e->d_name, 0);
		if (r != -EISDIR)
			return r;
	}
	r = name_unlink(dir, e->d_name, AT_REMOVEDIR);
	if (r != -ENOTEMPTY && r != -EEXIST)
		return r;
	r = trash_put(trash, dir, e->d_name);
	return r == -EPERM && flags_clear(dir, e->d_name) ? trash_put(trash, dir, e->d_name) : r;
}

/* Empties and removes one folder that lies at the top of the trash. */
static int folder_remove(int trash, const char *name) {
	DIR *d = dir_open(trash, name);
	if (!d)
		return errno == ENOENT ? 0 : -errno;
	int result = 0;
	for (struct dirent *e; (e = readdir(d));) {
		int r = is_dot(e->d_name) ? 0 : entry_remove(trash, dirfd(d), e);
		if (r < 0)
			result = r;
	}
	closedir(d);
	if (result < 0)
		return result;
	return name_unlink(trash, name, AT_REMOVEDIR);
}

/* One pass; *ret_left says whether folders appeared meanwhile. */
static int pass(int trash, bool *ret_progress) {
	DIR *d = dir_open(trash, ".");
	if (!d)
		return -errno;
	int result = 0;
	*ret_progress = false;
	for (struct dirent *e; (e = readdir(d));) {
		if (is_dot(e->d_name))
			continue;
		int r = 0;
		if (e->d_type != DT_DIR)
			r = name_unlink(trash, e->d_name, 0);
		if (r == -EISDIR || e->d_type == DT_DIR)
			r = folder_remove(trash, e->d_name);
		if (r < 0)
			result = r;
		else
			*ret_progress = true;
	}
	closedir(d);
	return result;
}

int trash_empty(int trash) {
	bool progress;
	int r;
	do
		r = pass(trash, &progress);
	while (progress);
	return r;
}
