/*
 * One walk over the layer makes everything; a second one gives the folders
 * their times, which the first spoils. Hard links inside of the layer stay
 * links: the first path of each inode is remembered.
 */
#include "workers/snapshot/tree/merge.h"

#include "base/fd.h"
#include "workers/snapshot/tree/copy.h"
#include "workers/snapshot/tree/inodes.h"
#include "tree/remove.h"
#include "tree/walk.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/xattr.h>

struct merge {
	int tree, trash;
	char dir_path[PATH_MAX]; /* of dir; the walk stays in one folder for long */
	int dir;
	struct inodes linked; /* inode: index into paths */
	char **paths;
	size_t n_paths, room;
};

static int open_in_tree(int tree, const char *path, int flags) {
	return fd_open_in(tree, path, (uint64_t)flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

/* The tree's folder for an entry; the descriptor is m's. */
static int dir_of(struct merge *m, const char *path) {
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	memcpy(dir, path, n);
	dir[n] = '\0';
	if (m->dir >= 0 && strcmp(dir, m->dir_path) == 0)
		return m->dir;
	int fd = open_in_tree(m->tree, dir, O_PATH | O_DIRECTORY);
	if (fd < 0)
		return fd;
	fd_replace(&m->dir, fd);
	strcpy(m->dir_path, dir);
	return fd;
}

static int name_free(struct merge *m, int dir, const char *name) {
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	return errno == EISDIR ? trash_put(m->trash, dir, name) : -errno;
}

static bool is_opaque(int fd) {
	char value;
	return fgetxattr(fd, "trusted.overlay.opaque", &value, 1) == 1 && value == 'y';
}

static int merge_folder(struct merge *m, const struct walk_entry *e, int dir) {
	CLEANUP_FD int from = openat(e->dir, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (from < 0)
		return -errno;
	bool there = fstatat(dir, e->name, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (there && (!S_ISDIR(st.st_mode) || is_opaque(from))) {
		int r = name_free(m, dir, e->name);
		if (r < 0)
			return r;
		there = false;
	}
	if (!there && mkdirat(dir, e->name, 0700) < 0)
		return -errno;
	CLEANUP_FD int to = openat(dir, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return to < 0 ? -errno : copy_attributes(from, to, e->st);
}

/* 1: the inode is in the tree already and got one more name. */
static int link_again(struct merge *m, const struct walk_entry *e, int dir) {
	uint64_t index;
	int r = inodes_add(&m->linked, e->st->st_ino, m->n_paths, &index);
	if (r == -EEXIST)
		return linkat(m->tree, m->paths[index], dir, e->name, 0) < 0 ? -errno : 1;
	if (r < 0)
		return r;
	if (m->n_paths == m->room) {
		size_t room = m->room ? m->room * 2 : 64;
		char **more = realloc(m->paths, room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		m->paths = more;
		m->room = room;
	}
	m->paths[m->n_paths] = strdup(e->path);
	return m->paths[m->n_paths++] ? 0 : -ENOMEM;
}

static int merge_entry(void *ctx, const struct walk_entry *e) {
	struct merge *m = ctx;
	if (!e->path)
		return -ENAMETOOLONG;
	int dir = dir_of(m, e->path);
	if (dir < 0)
		return dir;
	if (S_ISDIR(e->st->st_mode))
		return merge_folder(m, e, dir);
	int r = name_free(m, dir, e->name);
	if (r < 0 || (S_ISCHR(e->st->st_mode) && e->st->st_rdev == 0))
		return r;
	if (e->st->st_nlink > 1) {
		r = link_again(m, e, dir);
		if (r != 0)
			return MIN(r, 0);
	}
	return copy_file(e->dir, e->name, e->st, dir, e->name);
}

static int folder_times(void *ctx, const struct walk_entry *e) {
	struct merge *m = ctx;
	const struct timespec times[2] = { e->st->st_mtim, e->st->st_mtim };
	if (!S_ISDIR(e->st->st_mode))
		return 0;
	CLEANUP_FD int fd = open_in_tree(m->tree, e->path, O_RDONLY | O_DIRECTORY);
	return fd < 0 ? fd : futimens(fd, times) < 0 ? -errno : 0;
}

static int root_attributes(int layer, int tree) {
	struct stat st;
	return fstat(layer, &st) < 0 ? -errno : copy_attributes(layer, tree, &st);
}

int merge_layer(int layer, int tree, int trash) {
	struct merge m = { .tree = tree, .trash = trash, .dir = -1 };
	int r = walk_tree(layer, 0, merge_entry, &m);
	if (r == 0)
		r = walk_tree(layer, 0, folder_times, &m);
	if (r == 0)
		r = root_attributes(layer, tree);
	for (size_t i = 0; i < m.n_paths; i++)
		free(m.paths[i]);
	free(m.paths);
	inodes_deinit(&m.linked);
	fd_close(m.dir);
	return r;
}
