#include "workers/snapshot/diff.h"

#include "base/fd.h"
#include "workers/snapshot/jail.h"
#include "workers/snapshot/tree/inodes.h"
#include "tree/walk.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"
#define OPAQUE_XATTR "trusted.overlay.opaque"
#define XATTR_NAMES_MAX 65536
#define XATTR_VALUE_MAX 65536
#define XATTR_RECORD "SCHILY.xattr."

struct diff {
	struct tar_writer *w;
	struct inodes opaque; /* folders */
	struct inodes linked; /* inode to the index in names */
	char **names;
	size_t n_names;
	char *space; /* XATTR_NAMES_MAX and XATTR_VALUE_MAX */
};

/* --- extended attributes --- */

static int xattr_add(const struct diff *d, int fd, const char *name, struct buffer *records) {
	char key[sizeof(XATTR_RECORD) + XATTR_NAME_MAX + 1];
	char *value = d->space + XATTR_NAMES_MAX;
	/* A record's key ends at "=". */
	if (strncmp(name, "trusted.", 8) == 0 || strchr(name, '='))
		return 0;
	ssize_t n = fgetxattr(fd, name, value, XATTR_VALUE_MAX);
	if (n < 0)
		return errno == ENODATA || errno == EOPNOTSUPP ? 0 : -errno;
	snprintf(key, sizeof(key), XATTR_RECORD "%s", name);
	tar_record(records, key, value, (size_t)n);
	return 0;
}

static int xattrs_read(const struct diff *d, int fd, struct buffer *records) {
	ssize_t n = flistxattr(fd, d->space, XATTR_NAMES_MAX);
	if (n < 0)
		return errno == EOPNOTSUPP ? 0 : -errno;
	int r = 0;
	for (const char *p = d->space; r == 0 && p < d->space + n; p += strlen(p) + 1)
		r = xattr_add(d, fd, p, records);
	return r == 0 && records->failed ? -ENOMEM : r;
}

/* --- entries --- */

static int marker_write(const struct diff *d, const char *folder, size_t folder_size, const char *name) {
	char path[PATH_MAX + NAME_MAX];
	const struct tar_member m = { .name = path, .type = '0', .mode = 0600 };
	if ((size_t)snprintf(path, sizeof(path), "%.*s%s", (int)folder_size, folder, name) >= sizeof(path))
		return -ENAMETOOLONG;
	return tar_write_header(d->w, &m);
}

static int whiteout_write(const struct diff *d, const struct walk_entry *e) {
	char name[sizeof(WHITEOUT) + NAME_MAX];
	snprintf(name, sizeof(name), WHITEOUT "%s", e->name);
	return marker_write(d, e->path, strlen(e->path) - strlen(e->name), name);
}

static int folder_write(struct diff *d, const struct walk_entry *e, struct tar_member *m, struct buffer *records) {
	char path[PATH_MAX + 1];
	CLEANUP_FD int fd = openat(e->dir, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r = fd < 0 ? -errno : xattrs_read(d, fd, records);
	if (r < 0)
		return r;
	int n = snprintf(path, sizeof(path), "%s/", e->path);
	m->name = path;
	r = tar_write_header(d->w, m);
	if (r == 0 && inodes_has(&d->opaque, e->st->st_ino))
		r = marker_write(d, path, (size_t)n, OPAQUE);
	return r;
}

static int file_write(struct diff *d, const struct walk_entry *e, struct tar_member *m, struct buffer *records) {
	struct stat st;
	CLEANUP_FD int fd = openat(e->dir, e->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ESTALE;
	int r = xattrs_read(d, fd, records);
	if (r < 0)
		return r;
	m->size = (uint64_t)st.st_size;
	r = tar_write_header(d->w, m);
	return r < 0 ? r : tar_write_file(d->w, fd, m->size);
}

static int special_write(struct diff *d, const struct walk_entry *e, struct tar_member *m, struct buffer *records) {
	char target[PATH_MAX];
	if (m->type == '2') {
		ssize_t n = readlinkat(e->dir, e->name, target, sizeof(target) - 1);
		if (n < 0)
			return -errno;
		target[n] = '\0';
		m->link = target;
	}
	return tar_write_header(d->w, m);
}

/* A further name of a file that was written: 1. */
static int link_write(struct diff *d, const struct walk_entry *e, struct tar_member *m) {
	uint64_t first;
	int r = inodes_add(&d->linked, e->st->st_ino, d->n_names, &first);
	if (r == -EEXIST) {
		m->type = '1';
		m->link = d->names[first];
		m->size = 0;
		r = tar_write_header(d->w, m);
		return r < 0 ? r : 1;
	}
	char **more = r < 0 ? NULL : realloc(d->names, (d->n_names + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	d->names = more;
	d->names[d->n_names] = strdup(e->path);
	return d->names[d->n_names++] ? 0 : -ENOMEM;
}

static int entry(void *ctx, const struct walk_entry *e) {
	struct diff *d = ctx;
	CLEANUP_BUFFER struct buffer records = { 0 };
	int r = 0;
	if (!e->path)
		return -ENAMETOOLONG;
	struct tar_member m = tar_member_of(e->path, e->st);
	m.records = &records;
	if (!m.type || strncmp(e->name, WHITEOUT, strlen(WHITEOUT)) == 0)
		return 1;
	if (m.type == '3' && e->st->st_rdev == makedev(0, 0))
		return whiteout_write(d, e);
	if (m.type != '5' && e->st->st_nlink > 1)
		r = link_write(d, e, &m);
	if (r != 0)
		return MIN(r, 0);
	r = m.type == '5'   ? folder_write(d, e, &m, &records)
	    : m.type == '0' ? file_write(d, e, &m, &records)
			    : special_write(d, e, &m, &records);
	/* Gone, or something else by now: commands may still run in the container. */
	return r == -ENOENT || r == -ELOOP || r == -ENOTDIR || r == -ESTALE ? 1 : r;
}

/* --- before the jail --- */

static int opaque_note(void *ctx, const struct walk_entry *e) {
	struct diff *d = ctx;
	char mark;
	if (!S_ISDIR(e->st->st_mode))
		return 0;
	CLEANUP_FD int fd = openat(e->dir, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fgetxattr(fd, OPAQUE_XATTR, &mark, 1) != 1 || mark != 'y')
		return 0;
	int r = inodes_add(&d->opaque, e->st->st_ino, 0, NULL);
	return r == -EEXIST ? 0 : r;
}

/* upper is the jail's root afterwards, which can't be written to. */
static int jailed(int upper, struct fault *fault) {
	int r = jail_enter(JAIL_PACK, upper, fault);
	if (r < 0)
		return r;
	CLEANUP_FD int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return root < 0 || dup3(root, upper, O_CLOEXEC) < 0 ? fault_errno(fault, errno, "open the folder to pack") : 0;
}

static int tree_write(struct diff *d, int upper, struct fault *fault) {
	int r = d->space ? walk_tree(upper, 0, opaque_note, d) : -ENOMEM;
	if (r < 0)
		return fault_errno(fault, r, "look at what the container has changed in its root");
	r = jailed(upper, fault);
	if (r < 0)
		return r;
	r = walk_tree_sorted(upper, entry, d);
	return r < 0 ? fault_errno(fault, r, "write what the container has changed in its root") : 0;
}

int diff_write(struct tar_writer *w, int upper, struct fault *fault) {
	struct diff d = { .w = w, .space = malloc(XATTR_NAMES_MAX + XATTR_VALUE_MAX) };
	int r = tree_write(&d, upper, fault);
	for (size_t i = 0; i < d.n_names; i++)
		free(d.names[i]);
	free(d.names);
	free(d.space);
	inodes_deinit(&d.linked);
	inodes_deinit(&d.opaque);
	return r;
}
