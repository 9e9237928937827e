/*
 * A holding is a folder, named by the hash of the mount point, in
 * <run_root>/guest: a link ".path" to the mount point, a file for each owner, and
 * marks. Whoever opens one has its lock until it closes it, or dies. An owner is
 * written down before anything is mounted for it.
 */
#include "guest.h"

#include "base/fd.h"
#include "base/sha256.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define PATH_LINK ".path"
#define FOLDER O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC

void holding_close(struct holding *h) {
	fd_close_p(&h->folder);
	fd_close_p(&h->parent);
}

static int parent_open(const struct work *w) {
	char path[BOOT_PATH_MAX + 8];
	snprintf(path, sizeof(path), "%s/guest", w->config->run_root);
	int fd = open(path, FOLDER);
	return fd < 0 ? -errno : fd;
}

/* One that was removed while we waited for its lock is none. */
static int lock(const struct holding *h) {
	struct stat st;
	if (flock(h->folder, LOCK_EX) < 0 || fstat(h->folder, &st) < 0)
		return -errno;
	return st.st_nlink == 0 ? -ESTALE : 0;
}

static int try_open(struct holding *h, const char *mount_point, bool make) {
	if (make && mkdirat(h->parent, h->name, 0700) < 0 && errno != EEXIST)
		return -errno;
	h->folder = openat(h->parent, h->name, FOLDER);
	int r = h->folder < 0 ? -errno : lock(h);
	if (r == 0 && symlinkat(mount_point, h->folder, PATH_LINK) < 0 && errno != EEXIST)
		r = -errno;
	if (r < 0)
		fd_close_p(&h->folder);
	return r == -ENOENT && make ? -ESTALE : r;
}

int holding_open(const struct work *w, const char *mount_point, bool make, struct holding *ret_holding) {
	CLEANUP_HOLDING struct holding h = HOLDING_NONE;
	char digest[DIGEST_SIZE];
	sha256_digest(mount_point, strlen(mount_point), digest);
	memcpy(h.name, strchr(digest, ':') + 1, sizeof(h.name));
	h.parent = parent_open(w);
	int r = h.parent;
	if (r >= 0)
		do
			r = try_open(&h, mount_point, make);
		while (r == -ESTALE);
	if (r < 0)
		return r;
	*ret_holding = h;
	h = (struct holding)HOLDING_NONE;
	return 0;
}

static int file_make(const struct holding *h, const char *name) {
	int fd = openat(h->folder, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int file_remove(const struct holding *h, const char *name) {
	return unlinkat(h->folder, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

static bool file_there(const struct holding *h, const char *name) {
	return faccessat(h->folder, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int holding_add(const struct holding *h, const char *owner) {
	return file_make(h, owner);
}
bool holding_has(const struct holding *h, const char *owner) {
	return file_there(h, owner);
}
int holding_mark(const struct holding *h, const char *mark) {
	return file_make(h, mark);
}
bool holding_marked(const struct holding *h, const char *mark) {
	return file_there(h, mark);
}
int holding_unmark(const struct holding *h, const char *mark) {
	return file_remove(h, mark);
}

static void dir_close(DIR **d) {
	if (*d)
		closedir(*d);
}

static DIR *dir_open(int folder) {
	int fd = openat(folder, ".", FOLDER);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		fd_close(fd);
	return d;
}

/* An owner's id doesn't begin with a dot. */
int holding_count(const struct holding *h) {
	CLEANUP(dir_close) DIR *d = dir_open(h->folder);
	if (!d)
		return -errno;
	int n = file_there(h, HOLDING_SHARED);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	return n;
}

static int drop_all(const struct holding *h) {
	CLEANUP(dir_close) DIR *d = dir_open(h->folder);
	int r = d ? 0 : -errno;
	for (struct dirent *e; r == 0 && (e = readdir(d));)
		if (e->d_name[0] != '.')
			r = file_remove(h, e->d_name);
	return r;
}

int holding_drop(const struct holding *h, const char *owner) {
	return *owner ? file_remove(h, owner) : drop_all(h);
}

void holding_remove(const struct holding *h) {
	file_remove(h, HOLDING_READY);
	file_remove(h, HOLDING_SHARED);
	file_remove(h, HOLDING_TREE);
	file_remove(h, HOLDING_UPPER);
	file_remove(h, PATH_LINK);
	unlinkat(h->parent, h->name, AT_REMOVEDIR);
}

int holdings_each(struct work *w, int (*fn)(struct work *w, const char *mount_point, void *ctx), void *ctx) {
	CLEANUP_FD int parent = parent_open(w);
	CLEANUP(dir_close) DIR *d = parent < 0 ? NULL : dir_open(parent);
	if (!d)
		return parent < 0 ? parent : -errno;
	int r = 0;
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		char link[NAME_MAX + 16], mount_point[PATH_MAX];
		if (e->d_name[0] == '.')
			continue;
		snprintf(link, sizeof(link), "%s/" PATH_LINK, e->d_name);
		ssize_t n = readlinkat(parent, link, mount_point, sizeof(mount_point) - 1);
		if (n <= 0) { /* it never had an owner; whoever is making it makes it again */
			unlinkat(parent, e->d_name, AT_REMOVEDIR);
			continue;
		}
		mount_point[n] = '\0';
		r = fn(w, mount_point, ctx);
	}
	return r;
}
