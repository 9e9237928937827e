#include "workers/snapshot/unpack/folders.h"

#include "base/fd.h"
#include "workers/snapshot/unpack/path.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define LINKS_MAX 16

int open_inside(int root, const char *path, int flags) {
	return fd_open_in(root, path, (uint64_t)flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
}

void folders_init(struct folders *f, int root, struct buffer *report) {
	*f = (struct folders){ .root = root, .report = report };
	map_init(&f->late);
	arena_init(&f->arena, FOLDERS_MEMORY_MAX);
	for (size_t i = 0; i < FOLDERS_OPEN_MAX; i++)
		f->open[i].fd = -1;
}

void folders_forget(struct folders *f) {
	for (size_t i = 0; i < FOLDERS_OPEN_MAX; i++) {
		free(take_ptr(f->open[i].path));
		f->open[i].used = 0;
	}
}

void folders_deinit(struct folders *f) {
	folders_forget(f);
	for (size_t i = 0; i < FOLDERS_OPEN_MAX; i++)
		fd_close_p(&f->open[i].fd);
	map_deinit(&f->late);
	arena_deinit(&f->arena);
}

static struct open_folder *open_find(struct folders *f, const char *path) {
	for (size_t i = 0; i < FOLDERS_OPEN_MAX; i++)
		if (f->open[i].path && strcmp(f->open[i].path, path) == 0) {
			f->open[i].used = ++f->clock;
			return &f->open[i];
		}
	return NULL;
}

/* Takes fd; the one that wasn't used for longest makes room. */
static int open_keep(struct folders *f, const char *path, int fd) {
	struct open_folder *oldest = &f->open[0];
	for (size_t i = 1; i < FOLDERS_OPEN_MAX; i++)
		if (f->open[i].used < oldest->used)
			oldest = &f->open[i];
	char *copy = strdup(path);
	if (!copy) {
		fd_close(fd);
		return -ENOMEM;
	}
	free(oldest->path);
	oldest->path = copy;
	oldest->used = ++f->clock;
	fd_replace(&oldest->fd, fd);
	return 0;
}

static struct folder_late *late_get(struct folders *f, const char *path) {
	struct map_node *n = map_find(&f->late, path);
	if (n)
		return container_of(n, struct folder_late, node);
	struct folder_late *late = arena_zalloc(&f->arena, sizeof(*late));
	char *key = late ? arena_strdup(&f->arena, path) : NULL;
	if (!key || map_insert(&f->late, &late->node, key) < 0)
		return NULL;
	return late;
}

static int too_many(struct fault *fault) {
	return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "the layer has too many folders");
}

int folders_unnamed_root(struct folders *f) {
	struct folder_late *late = late_get(f, "");
	if (!late)
		return -ENOMEM;
	late->implicit = true;
	return 0;
}

int folders_named(struct folders *f, const char *path, struct timespec mtime, struct fault *fault) {
	struct folder_late *late = late_get(f, path);
	if (!late)
		return too_many(fault);
	late->implicit = false;
	late->has_mtime = true;
	late->mtime = mtime;
	return 0;
}

int folders_acl(struct folders *f, const char *path, const void *acl, size_t size, struct fault *fault) {
	struct folder_late *late = late_get(f, path);
	void *copy = late ? arena_alloc(&f->arena, size) : NULL;
	if (!copy)
		return too_many(fault);
	late->acl = memcpy(copy, acl, size);
	late->acl_size = size;
	return 0;
}

/* A whiteout gives way to a folder, which then hides what was below it. */
static int whiteout_replace(struct folders *f, int parent, const char *path, const char *name) {
	if (unlinkat(parent, name, 0) < 0 || mkdirat(parent, name, 0755) < 0)
		return -errno;
	return report_add(f->report, REPORT_OPAQUE, path, "");
}

/* Where a dangling link at path leads, as a clean path from the root. */
static int link_target(int parent, const char *path, const char *name, char ret_target[PATH_MAX]) {
	char target[PATH_MAX];
	ssize_t n = readlinkat(parent, name, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	size_t above = target[0] == '/' ? 0 : (size_t)(name - path);
	if (above + (size_t)n >= PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(ret_target, path, above);
	memcpy(ret_target + above, target, (size_t)n + 1);
	return path_clamp(ret_target);
}

static int folder_make(struct folders *f, const char *path, unsigned links);

/* Makes path, whose parent is open; what is in the way may be a whiteout, a
 * link to a folder that isn't there yet, or a reason to fail. */
static int folder_make_last(struct folders *f, int parent, const char *path, unsigned links) {
	const char *name = path_last(path);
	struct stat st;
	if (mkdirat(parent, name, 0755) == 0) {
		struct folder_late *late = late_get(f, path);
		if (!late)
			return -ENOMEM;
		late->implicit = true;
		f->made++;
		return 0;
	}
	if (errno != EEXIST)
		return -errno;
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISCHR(st.st_mode) && st.st_rdev == 0)
		return whiteout_replace(f, parent, path, name);
	if (!S_ISLNK(st.st_mode))
		return -ENOTDIR;
	if (links == 0)
		return -ELOOP;
	char target[PATH_MAX];
	int r = link_target(parent, path, name, target);
	return r < 0 ? r : folder_make(f, target, links - 1);
}

/* From the root down: what is there is opened, what isn't is made. links
 * bounds the only way in which this calls itself. */
static int folder_make(struct folders *f, const char *path, unsigned links) {
	char part[PATH_MAX];
	CLEANUP_FD int parent = open_inside(f->root, "", O_PATH | O_DIRECTORY);
	if (parent < 0)
		return parent;
	for (const char *p = path; *p;) {
		const char *end = strchrnul(p, '/');
		size_t n = (size_t)(end - path);
		if (n >= sizeof(part))
			return -ENAMETOOLONG;
		memcpy(part, path, n);
		part[n] = '\0';
		int fd = open_inside(f->root, part, O_PATH | O_DIRECTORY);
		if (fd == -ENOENT || fd == -ENOTDIR) {
			int r = folder_make_last(f, parent, part, links);
			if (r < 0)
				return r;
			fd = open_inside(f->root, part, O_PATH | O_DIRECTORY);
		}
		if (fd < 0)
			return fd;
		fd_replace(&parent, fd);
		p = *end ? end + 1 : end;
	}
	return 0;
}

int folders_open(struct folders *f, const char *path, int *ret_fd, struct fault *fault) {
	struct open_folder *open = open_find(f, path);
	if (open) {
		*ret_fd = open->fd;
		return 0;
	}
	int fd = open_inside(f->root, path, O_PATH | O_DIRECTORY);
	if (fd == -ENOENT || fd == -ENOTDIR) {
		int r = folder_make(f, path, LINKS_MAX);
		if (r < 0)
			return fault_errno(fault, r, "make the folder \"%.256s\"", path);
		fd = open_inside(f->root, path, O_PATH | O_DIRECTORY);
	}
	if (fd < 0)
		return fault_errno(fault, fd, "open the folder \"%.256s\"", path);
	int r = open_keep(f, path, fd);
	if (r < 0)
		return fault_errno(fault, r, "open the folder \"%.256s\"", path);
	*ret_fd = fd;
	return 0;
}

/* The folder may be gone or something else by now: then nothing is to do. */
static int late_apply(struct folders *f, const struct folder_late *late) {
	const char *path = late->node.key;
	if (late->implicit) {
		int r = report_add(f->report, REPORT_IMPLICIT, path, "");
		if (r < 0)
			return r;
	}
	if (!late->has_mtime && !late->acl)
		return 0;
	CLEANUP_FD int fd = open_inside(f->root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 0 : fd;
	if (late->acl && fsetxattr(fd, "system.posix_acl_default", late->acl, late->acl_size, 0) < 0 &&
	    errno != EOPNOTSUPP && errno != EINVAL)
		return -errno;
	const struct timespec times[2] = { late->mtime, late->mtime };
	return late->has_mtime && futimens(fd, times) < 0 ? -errno : 0;
}

int folders_finish(struct folders *f, struct fault *fault) {
	size_t pos;
	folders_forget(f);
	for (struct map_node *n = map_first(&f->late, &pos); n; n = map_next(&f->late, &pos, n)) {
		const struct folder_late *late = container_of(n, struct folder_late, node);
		int r = late_apply(f, late);
		if (r < 0)
			return fault_errno(fault, r, "finish the folder \"%.256s\"", late->node.key);
	}
	return 0;
}
