/*
 * The tree is the archive's, so every path of the report is resolved inside of
 * it. Order: the tree's contents, a sync of the file system, the rename, a sync
 * of the folder that has the name. A layer with its final name is whole.
 */
#include "workers/snapshot/unpack/commit.h"

#include "base/arena.h"
#include "base/fd.h"
#include "base/map.h"
#include "workers/snapshot/stack.h"
#include "workers/snapshot/tree/copy.h"
#include "workers/snapshot/unpack/folders.h"
#include "workers/snapshot/unpack/path.h"
#include "workers/snapshot/unpack/report.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

struct commit {
	int tree;
	int *parents; /* top first */
	size_t n_parents;
	struct map copies; /* hard links' targets that are copied already */
	struct arena arena;
};

struct copied {
	struct map_node node; /* by target */
	const char *path;
};

/* --- implicit folders --- */

/* Where no parent has it, the folder stays as it was made: root's, 0755. */
static int on_implicit(struct commit *c, const struct report_record *record) {
	struct stat st;
	size_t layer;
	CLEANUP_FD int model = -1;
	int r = stack_find(c->parents, c->n_parents, record->path, &model, &st, &layer);
	if (r == -ENOENT || (r == 0 && !S_ISDIR(st.st_mode)))
		return 0;
	if (r < 0)
		return r;
	CLEANUP_FD int from = openat(model, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int to = open_inside(c->tree, record->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	if (to < 0) /* replaced by something else since */
		return to == -ENOENT || to == -ENOTDIR || to == -ELOOP ? 0 : to;
	return from < 0 ? -errno : copy_attributes(from, to, &st);
}

/* --- opaque folders --- */

static int opaque_set(int dir) {
	return fsetxattr(dir, "trusted.overlay.opaque", "y", 1, 0) < 0 ? -errno : 0;
}

/* overlayfs doesn't look at the mark on a layer's root: each name of the layers
 * below is hidden by itself. */
static int root_hide_name(struct commit *c, const char *name) {
	if (mknodat(c->tree, name, S_IFCHR, 0) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	CLEANUP_FD int fd = openat(c->tree, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOTDIR || errno == ELOOP ? 0 : -errno;
	return opaque_set(fd);
}

static int root_hide(struct commit *c, int parent) {
	int fd = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return -errno;
	int r = 0;
	for (struct dirent *e; r == 0 && (e = readdir(d));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = root_hide_name(c, e->d_name);
	closedir(d);
	return r;
}

static int on_opaque(struct commit *c, const struct report_record *record) {
	if (*record->path == '\0') {
		int r = 0;
		for (size_t i = 0; r == 0 && i < c->n_parents; i++)
			r = root_hide(c, c->parents[i]);
		return r;
	}
	CLEANUP_FD int fd = open_inside(c->tree, record->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 0 : fd;
	return opaque_set(fd);
}

/* --- hard links into the layers below --- */

static int parent_open(int root, const char *path) {
	char dir[PATH_MAX];
	size_t n = (size_t)(path_last(path) - path);
	if (n >= sizeof(dir))
		return -ENAMETOOLONG;
	memcpy(dir, path, n);
	dir[n] = '\0';
	return open_inside(root, dir, O_PATH | O_DIRECTORY);
}

static int remember(struct commit *c, const struct report_record *record) {
	struct copied *copied = arena_zalloc(&c->arena, sizeof(*copied));
	if (!copied)
		return -ENOMEM;
	copied->path = record->path;
	return map_insert(&c->copies, &copied->node, record->target);
}

static int link_copy(struct commit *c, const struct report_record *record, int dir) {
	struct stat st;
	size_t layer;
	CLEANUP_FD int found = -1;
	int r = stack_find(c->parents, c->n_parents, record->target, &found, &st, &layer);
	if (r < 0)
		return r;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	CLEANUP_FD int from = parent_open(c->parents[layer], record->target);
	if (from < 0)
		return from;
	return copy_file(from, path_last(record->target), &st, dir, path_last(record->path));
}

static int on_link(struct commit *c, const struct report_record *record) {
	CLEANUP_FD int dir = parent_open(c->tree, record->path);
	if (dir < 0)
		return dir;
	struct map_node *n = map_find(&c->copies, record->target);
	int r;
	if (n) {
		const char *first = container_of(n, struct copied, node)->path;
		CLEANUP_FD int from = parent_open(c->tree, first);
		if (from < 0)
			return from;
		r = linkat(from, path_last(first), dir, path_last(record->path), 0) < 0 ? -errno : 0;
	} else {
		r = link_copy(c, record, dir);
		if (r == 0)
			r = remember(c, record);
	}
	/* A later entry of the archive took the name. */
	return r == -EEXIST ? 0 : r;
}

/* --- the whole --- */

static int (*const resolvers[])(struct commit *, const struct report_record *) = {
	[REPORT_IMPLICIT] = on_implicit,
	[REPORT_OPAQUE] = on_opaque,
	[REPORT_LINK] = on_link,
};

static int record_clean(const struct report_record *record) {
	char path[PATH_MAX];
	const char *both[] = { record->path, record->target };
	for (size_t i = 0; i < 2; i++) {
		if (strlen(both[i]) >= sizeof(path))
			return -ENAMETOOLONG;
		strcpy(path, both[i]);
		if (path_clean(path) < 0 || strcmp(path, both[i]) != 0)
			return -EBADMSG;
	}
	return 0;
}

/* Folders last: what is made in them changes their times. */
static int report_apply(struct commit *c, const char *data, size_t size, bool folders, struct fault *fault) {
	struct report_record record;
	size_t pos = 0;
	int r;
	while ((r = report_next(data, size, &pos, &record)) > 0) {
		if ((record.kind == REPORT_IMPLICIT) != folders)
			continue;
		r = record_clean(&record);
		if (r == 0)
			r = resolvers[record.kind](c, &record);
		if (r == -ENOENT && record.kind == REPORT_LINK)
			return fault_set(fault, FAULT_DATA_LOSS,
					 "\"%.256s\" is a hard link to \"%.256s\", which no layer has", record.path,
					 record.target);
		if (r < 0)
			return fault_errno(fault, r, "\"%.256s\"", record.path);
	}
	return r < 0 ? fault_errno(fault, r, "read the unpacker's report") : 0;
}

static int resolve(struct commit *c, int staged, struct fault *fault) {
	CLEANUP_FREE char *data = NULL;
	size_t size;
	CLEANUP_FD int fd = openat(staged, "report", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : fault_errno(fault, errno, "open the unpacker's report");
	int r = fd_read_all(fd, REPORT_SIZE_MAX, &data, &size);
	if (r < 0)
		return fault_errno(fault, r, "read the unpacker's report");
	r = report_apply(c, data, size, false, fault);
	if (r == 0)
		r = report_apply(c, data, size, true, fault);
	if (r == 0 && unlinkat(staged, "report", 0) < 0)
		return fault_errno(fault, errno, "remove the unpacker's report");
	return r;
}

static int parents_open(struct commit *c, const struct commit_job *job, struct fault *fault) {
	char path[NAME_MAX + 4];
	c->parents = calloc(job->n_parents + 1, sizeof(int));
	if (!c->parents)
		return fault_errno(fault, ENOMEM, "open the layers below");
	for (; c->n_parents < job->n_parents; c->n_parents++) {
		snprintf(path, sizeof(path), "%s/fs", job->parents[c->n_parents]);
		int fd = openat(job->layers, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return fault_errno(fault, errno, "open the layer below, %s", path);
		c->parents[c->n_parents] = fd;
	}
	return 0;
}

int commit_durable(const struct commit_job *job, int staged, struct fault *fault) {
	if (syncfs(staged) < 0)
		return fault_errno(fault, errno, "write the layer to disk");
	if (renameat2(job->layers, job->staged, job->layers, job->name, RENAME_NOREPLACE) < 0)
		return fault_errno(fault, errno, "give the layer its name");
	CLEANUP_FD int folder = openat(job->layers, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0 || fsync(folder) < 0)
		return fault_errno(fault, errno, "write the layer's name to disk");
	return 0;
}

int commit_resolve(const struct commit_job *job, int staged, struct fault *fault) {
	struct commit c = { .tree = -1 };
	map_init(&c.copies);
	arena_init(&c.arena, REPORT_SIZE_MAX);
	c.tree = openat(staged, "fs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r = c.tree < 0 ? fault_errno(fault, errno, "open the unpacked layer") : parents_open(&c, job, fault);
	if (r == 0)
		r = resolve(&c, staged, fault);
	for (size_t i = 0; i < c.n_parents; i++)
		fd_close(c.parents[i]);
	free(c.parents);
	map_deinit(&c.copies);
	arena_deinit(&c.arena);
	fd_close(c.tree);
	return r;
}

int commit_run(const struct commit_job *job, struct fault *fault) {
	CLEANUP_FD int staged = openat(job->layers, job->staged, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (staged < 0)
		return fault_errno(fault, errno, "open the unpacked layer");
	int r = commit_resolve(job, staged, fault);
	return r == 0 ? commit_durable(job, staged, fault) : r;
}
