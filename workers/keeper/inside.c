#include "workers/keeper/inside.h"

#include "base/fd.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LINKS_MAX 40

int inside_open(int root, const char *path, uint64_t flags) {
	return fd_open_in(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

/* A walk: done has no symbolic link in it, todo is what is left. */
struct walk {
	int root;
	char done[PATH_MAX], todo[PATH_MAX];
	int links;
};

/* Takes the next component off todo; false at the end. */
static bool walk_next(struct walk *w, char ret_name[NAME_MAX + 1], int *ret_error) {
	char *p = w->todo + strspn(w->todo, "/");
	size_t n = strcspn(p, "/");
	*ret_error = n > NAME_MAX ? -ENAMETOOLONG : 0;
	if (n == 0 || *ret_error)
		return false;
	memcpy(ret_name, p, n);
	ret_name[n] = '\0';
	memmove(w->todo, p + n, strlen(p + n) + 1);
	return true;
}

static void walk_up(struct walk *w) {
	char *slash = strrchr(w->done, '/');
	if (slash)
		*slash = '\0';
}

static int walk_down(struct walk *w, const char *name) {
	size_t used = strlen(w->done);
	int n = snprintf(w->done + used, sizeof(w->done) - used, "/%s", name);
	return (size_t)n >= sizeof(w->done) - used ? -ENAMETOOLONG : 0;
}

/* The target of a link goes in front of what is left. */
static int walk_link(struct walk *w, int fd) {
	char target[PATH_MAX], rest[PATH_MAX];
	ssize_t n = readlinkat(fd, "", target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	if (++w->links > LINKS_MAX)
		return -ELOOP;
	memcpy(rest, w->todo, sizeof(rest));
	size_t r = strlen(rest);
	if ((size_t)n + 1 + r >= sizeof(w->todo))
		return -ENAMETOOLONG;
	memcpy(w->todo, target, (size_t)n);
	w->todo[n] = '/';
	memcpy(w->todo + n + 1, rest, r + 1);
	walk_up(w);
	if (target[0] == '/')
		w->done[0] = '\0';
	return 0;
}

/* w->done is missing: makes it; its parent is there. */
static int walk_make(struct walk *w, bool directory) {
	char *slash = strrchr(w->done, '/');
	*slash = '\0';
	CLEANUP_FD int parent = inside_open(w->root, w->done, O_PATH | O_DIRECTORY);
	*slash = '/';
	if (parent < 0)
		return parent;
	if (directory)
		return mkdirat(parent, slash + 1, 0755) < 0 && errno != EEXIST ? -errno : 0;
	CLEANUP_FD int fd = openat(parent, slash + 1, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
	return fd < 0 && errno != EEXIST ? -errno : 0;
}

static int walk_step(struct walk *w, const char *name, bool directory) {
	int r = walk_down(w, name);
	if (r < 0)
		return r;
	CLEANUP_FD int fd = inside_open(w->root, w->done, O_PATH | O_NOFOLLOW);
	if (fd == -ENOENT)
		return walk_make(w, directory || w->todo[strspn(w->todo, "/")]);
	if (fd < 0)
		return fd;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISLNK(st.st_mode) ? walk_link(w, fd) : 0;
}

/* The usual case: only the last component is missing. -EEXIST when something
 * is there that can't be opened (a link to nowhere). */
static int leaf_make(int root, const char *path, bool directory) {
	char folder[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	if (!slash || !slash[1] || n >= sizeof(folder) || strcmp(slash, "/.") == 0 || strcmp(slash, "/..") == 0)
		return -ENOENT;
	memcpy(folder, path, n);
	folder[n] = '\0';
	CLEANUP_FD int parent = inside_open(root, folder, O_PATH | O_DIRECTORY);
	if (parent < 0)
		return parent;
	if (directory) {
		if (mkdirat(parent, slash + 1, 0755) < 0)
			return -errno;
	} else {
		CLEANUP_FD int made =
		    openat(parent, slash + 1, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
		if (made < 0)
			return -errno;
	}
	int fd = openat(parent, slash + 1, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int inside_make(int root, const char *path, bool directory) {
	int fd = inside_open(root, path, O_PATH);
	if (fd == -ENOENT)
		fd = leaf_make(root, path, directory);
	if (fd != -ENOENT && fd != -EEXIST)
		return fd;
	struct walk w = { .root = root };
	if ((size_t)snprintf(w.todo, sizeof(w.todo), "%s", path) >= sizeof(w.todo))
		return -ENAMETOOLONG;
	char name[NAME_MAX + 1];
	int r = 0;
	while (walk_next(&w, name, &r)) {
		if (strcmp(name, ".") == 0)
			continue;
		if (strcmp(name, "..") == 0) {
			walk_up(&w);
			continue;
		}
		r = walk_step(&w, name, directory);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : inside_open(root, w.done, O_PATH | O_NOFOLLOW);
}

int inside_parent(int root, const char *path, char *ret_name) {
	char folder[PATH_MAX];
	if ((size_t)snprintf(folder, sizeof(folder), "%s", path) >= sizeof(folder))
		return -ENAMETOOLONG;
	size_t n = strlen(folder);
	while (n > 0 && folder[n - 1] == '/')
		folder[--n] = '\0';
	char *slash = strrchr(folder, '/');
	const char *name = slash ? slash + 1 : folder;
	if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	strcpy(ret_name, name);
	if (slash)
		slash[0] = '\0';
	return inside_make(root, slash ? folder : "/", true);
}
