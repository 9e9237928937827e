/*
 * Folders that wait form a stack of nodes that point to their parents. A folder
 * is opened by the names from the root down; a path that is longer than the
 * kernel takes at once is opened in pieces.
 */
#include "tree/walk.h"

#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct node {
	struct node *parent; /* NULL: the root itself */
	struct node *next;   /* on the stack */
	unsigned refs;
	char name[];
};

struct walk {
	int root;
	uint64_t limit, visited;
	size_t waiting;
	bool sorted;
	struct node *stack;
	walk_fn fn;
	void *ctx;
};

static void node_unref(struct node *n) {
	while (n && --n->refs == 0) {
		struct node *parent = n->parent;
		free(n);
		n = parent;
	}
}

static int push(struct walk *w, struct node *parent, const char *name) {
	size_t size = strlen(name) + 1;
	if (w->waiting == WALK_FOLDERS_MAX)
		return -E2BIG;
	struct node *n = malloc(sizeof(*n) + size);
	if (!n)
		return -ENOMEM;
	*n = (struct node){ .parent = parent, .next = w->stack, .refs = 1 };
	memcpy(n->name, name, size);
	if (parent)
		parent->refs++;
	w->stack = n;
	w->waiting++;
	return 0;
}

/* The node's path, built from its end; NULL when it doesn't fit. */
static char *path_build(const struct node *n, char buffer[PATH_MAX]) {
	char *p = buffer + PATH_MAX - 1;
	*p = '\0';
	for (bool first = true; n && n->parent; n = n->parent, first = false) {
		size_t size = strlen(n->name);
		if ((size_t)(p - buffer) < size + 1)
			return NULL;
		if (!first)
			*--p = '/';
		p -= size;
		memcpy(p, n->name, size);
	}
	return p;
}

#define OPEN_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static int open_path(int root, const char *path) {
	return fd_open_in(root, path, OPEN_FLAGS, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

/* Name by name from the root. */
static int open_long(int root, const struct node *n) {
	size_t depth = 0;
	for (const struct node *i = n; i->parent; i = i->parent)
		depth++;
	CLEANUP_FREE const struct node **way = malloc((depth + 1) * sizeof(*way));
	if (!way)
		return -ENOMEM;
	size_t at = depth;
	for (const struct node *i = n; i->parent; i = i->parent)
		way[--at] = i;
	CLEANUP_FD int dir = openat(root, ".", OPEN_FLAGS);
	for (; dir >= 0 && at < depth; at++)
		fd_replace(&dir, openat(dir, way[at]->name, OPEN_FLAGS));
	return dir < 0 ? -errno : take_fd(&dir);
}

static int visit(struct walk *w, struct node *n, int dir, const char *path, const char *name) {
	char whole[PATH_MAX];
	struct stat st;
	if (w->limit && ++w->visited > w->limit)
		return -E2BIG;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	struct walk_entry e = { .dir = dir, .name = name, .st = &st };
	if (path && snprintf(whole, sizeof(whole), "%s%s%s", path, *path ? "/" : "", name) < (int)sizeof(whole))
		e.path = whole;
	int r = w->fn(w->ctx, &e);
	return r == 0 && S_ISDIR(st.st_mode) ? push(w, n, name) : MIN(r, 0);
}

static bool is_dots(const char *name) {
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int visit_all(struct walk *w, struct node *n, DIR *d, const char *path) {
	int r = 0;
	for (struct dirent *e; r >= 0 && (e = readdir(d));)
		if (!is_dots(e->d_name))
			r = visit(w, n, dirfd(d), path, e->d_name);
	return r;
}

static int by_name(const void *a, const void *b) {
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int names_read(DIR *d, char ***names, size_t *n) {
	size_t room = 0;
	for (struct dirent *e; (e = readdir(d));) {
		if (is_dots(e->d_name))
			continue;
		if (*n == room) {
			room = room ? 2 * room : 64;
			char **more = realloc(*names, room * sizeof(*more));
			if (!more)
				return -ENOMEM;
			*names = more;
		}
		if (!((*names)[*n] = strdup(e->d_name)))
			return -ENOMEM;
		++*n;
	}
	return 0;
}

static int visit_sorted(struct walk *w, struct node *n, DIR *d, const char *path) {
	char **names = NULL;
	size_t n_names = 0;
	int r = names_read(d, &names, &n_names);
	if (n_names)
		qsort(names, n_names, sizeof(*names), by_name);
	for (size_t i = 0; i < n_names; i++) {
		if (r >= 0)
			r = visit(w, n, dirfd(d), path, names[i]);
		free(names[i]);
	}
	free(names);
	return r;
}

static int folder(struct walk *w, struct node *n) {
	char buffer[PATH_MAX];
	const char *path = path_build(n, buffer);
	int fd = path ? open_path(w->root, path) : open_long(w->root, n);
	if (fd < 0) /* gone, or something else by now */
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 0 : fd;
	DIR *d = fdopendir(fd);
	if (!d) {
		fd_close(fd);
		return -ENOMEM;
	}
	int r = w->sorted ? visit_sorted(w, n, d, path) : visit_all(w, n, d, path);
	closedir(d);
	return r;
}

static int walk(struct walk *w) {
	int r = push(w, NULL, "");
	while (w->stack) {
		struct node *n = w->stack;
		w->stack = n->next;
		w->waiting--;
		if (r >= 0)
			r = folder(w, n);
		node_unref(n);
	}
	return r;
}

int walk_tree(int root, uint64_t limit, walk_fn fn, void *ctx) {
	struct walk w = { .root = root, .limit = limit, .fn = fn, .ctx = ctx };
	return walk(&w);
}

int walk_tree_sorted(int root, walk_fn fn, void *ctx) {
	struct walk w = { .root = root, .sorted = true, .fn = fn, .ctx = ctx };
	return walk(&w);
}
