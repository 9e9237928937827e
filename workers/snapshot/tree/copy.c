#include "workers/snapshot/tree/copy.h"

#include "base/fd.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

#define XATTR_NAMES_MAX 65536
#define XATTR_VALUE_MAX 65536

static int copy_xattr(int from, int to, const char *name, char *value) {
	ssize_t n = fgetxattr(from, name, value, XATTR_VALUE_MAX);
	if (n < 0)
		return errno == ENODATA || errno == EOPNOTSUPP ? 0 : -errno;
	if (fsetxattr(to, name, value, (size_t)n, 0) < 0 && errno != EOPNOTSUPP && errno != EPERM)
		return -errno;
	return 0;
}

static int copy_xattrs(int from, int to) {
	ssize_t n = flistxattr(from, NULL, 0);
	if (n <= 0)
		return n == 0 || errno == EOPNOTSUPP ? 0 : -errno;
	CLEANUP_FREE char *names = malloc(XATTR_NAMES_MAX + XATTR_VALUE_MAX);
	if (!names)
		return -ENOMEM;
	char *value = names + XATTR_NAMES_MAX;
	n = flistxattr(from, names, XATTR_NAMES_MAX);
	if (n < 0)
		return -errno;
	for (const char *p = names; p < names + n; p += strlen(p) + 1) {
		if (strncmp(p, "trusted.overlay.", 16) == 0)
			continue;
		int r = copy_xattr(from, to, p, value);
		if (r < 0)
			return r;
	}
	return 0;
}

int copy_attributes(int from, int to, const struct stat *st) {
	const struct timespec times[2] = { st->st_mtim, st->st_mtim };
	/* The owner first: changing it clears set-id bits and capabilities. */
	if (fchown(to, st->st_uid, st->st_gid) < 0 || fchmod(to, st->st_mode & 07777) < 0)
		return -errno;
	int r = copy_xattrs(from, to);
	if (r < 0)
		return r;
	return futimens(to, times) < 0 ? -errno : 0;
}

/* Data only, holes stay holes. */
static int copy_data(int from, int to, off_t size) {
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (ftruncate(to, size) < 0)
		return -errno;
	for (off_t at = 0; at < size;) {
		off_t data = lseek(from, at, SEEK_DATA);
		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		off_t end = lseek(from, data, SEEK_HOLE);
		if (end < 0)
			return -errno;
		off_t in = data, out = data;
		while (in < end) {
			ssize_t n = copy_file_range(from, &in, to, &out, (size_t)MIN(end - in, 1 << 30), 0);
			if (n < 0)
				return -errno;
			if (n == 0)
				return 0;
		}
		at = end;
	}
	return 0;
}

static int copy_regular(int from_dir, const char *from_name, const struct stat *st, int to_dir, const char *to_name) {
	CLEANUP_FD int from = openat(from_dir, from_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0)
		return -errno;
	CLEANUP_FD int to = openat(to_dir, to_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return -errno;
	int r = copy_data(from, to, st->st_size);
	return r < 0 ? r : copy_attributes(from, to, st);
}

static int copy_special(int from_dir, const char *from_name, const struct stat *st, int to_dir, const char *to_name) {
	const struct timespec times[2] = { st->st_mtim, st->st_mtim };
	if (S_ISLNK(st->st_mode)) {
		char target[PATH_MAX];
		ssize_t n = readlinkat(from_dir, from_name, target, sizeof(target) - 1);
		if (n < 0)
			return -errno;
		target[n] = '\0';
		if (symlinkat(target, to_dir, to_name) < 0)
			return -errno;
	} else if (mknodat(to_dir, to_name, (st->st_mode & S_IFMT) | 0600, st->st_rdev) < 0) {
		return -errno;
	}
	if (fchownat(to_dir, to_name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISLNK(st->st_mode) && fchmodat(to_dir, to_name, st->st_mode & 07777, 0) < 0)
		return -errno;
	return utimensat(to_dir, to_name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int copy_file(int from_dir, const char *from_name, const struct stat *st, int to_dir, const char *to_name) {
	return S_ISREG(st->st_mode) ? copy_regular(from_dir, from_name, st, to_dir, to_name)
				    : copy_special(from_dir, from_name, st, to_dir, to_name);
}
