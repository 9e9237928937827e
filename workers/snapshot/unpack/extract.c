/*
 * Each entry: clean its name, open its folder, make it by its type's row in
 * makers[]. What is in the way is removed first; whole trees are moved into a
 * trash folder inside of the root (its name is one that archives can't use),
 * which goes at the end.
 */
#include "workers/snapshot/unpack/extract.h"

#include "base/fd.h"
#include "tree/remove.h"
#include "workers/snapshot/unpack/attributes.h"
#include "workers/snapshot/unpack/folders.h"
#include "workers/snapshot/unpack/path.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define TRASH ".wh..wh.bulkhead"
#define BLOCK UINT64_C(4096)

struct extract {
	struct tar *tar;
	int root;
	int trash; /* -1: not needed so far */
	struct buffer *report;
	struct folders folders;
	struct extract_result result;
	bool aufs_links;
};

/* One entry on its way. path is the clean whole name, name its last part. */
struct place {
	const char *path, *name;
	int dir;
};

static int trash_open(struct extract *x) {
	if (x->trash >= 0)
		return x->trash;
	if (mkdirat(x->root, TRASH, 0700) < 0 && errno != EEXIST)
		return -errno;
	x->trash = openat(x->root, TRASH, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return x->trash < 0 ? -errno : x->trash;
}

static bool is_whiteout(const struct stat *st) {
	return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

/* Removes what has the name. A whiteout that a folder replaces still hides
 * what the layers below have in it. */
static int name_free(struct extract *x, const struct place *p, enum tar_type type) {
	struct stat st;
	if (fstatat(p->dir, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	/* Paths that lead through it may be open. */
	if (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode))
		folders_forget(&x->folders);
	if (S_ISDIR(st.st_mode)) {
		int trash = trash_open(x);
		return trash < 0 ? trash : trash_put(trash, p->dir, p->name);
	}
	if (unlinkat(p->dir, p->name, 0) < 0)
		return -errno;
	return is_whiteout(&st) && type == TAR_DIR ? report_add(x->report, REPORT_OPAQUE, p->path, "") : 0;
}

static int write_at(int fd, const uint8_t *data, size_t size, uint64_t offset) {
	while (size > 0) {
		ssize_t n = pwrite(fd, data, size, (off_t)offset);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			data += n;
			size -= (size_t)n;
			offset += (uint64_t)n;
		}
	}
	return 0;
}

static int data_write(struct extract *x, int fd, const struct tar_entry *e, struct fault *fault) {
	const uint8_t *data;
	uint64_t offset, stored = 0;
	ssize_t n;
	while ((n = tar_data(x->tar, &data, &offset, fault)) > 0) {
		int r = write_at(fd, data, (size_t)n, offset);
		if (r < 0)
			return r;
		stored += (uint64_t)n;
	}
	if (n < 0)
		return (int)n;
	x->result.size += (stored + BLOCK - 1) / BLOCK * BLOCK;
	return e->sparse && ftruncate(fd, (off_t)e->size) < 0 ? -errno : 0;
}

static int make_file(struct extract *x, const struct place *p, const struct tar_entry *e, struct fault *fault) {
	CLEANUP_FD int fd = openat(p->dir, p->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	x->result.inodes++;
	int r = data_write(x, fd, e, fault);
	if (r == 0)
		r = attributes_set_open(fd, e, &x->result.xattrs_skipped);
	const struct timespec times[2] = { e->mtime, e->mtime };
	if (r == 0 && futimens(fd, times) < 0)
		r = -errno;
	return r;
}

static int folder_attributes(struct extract *x, int fd, const char *path, const struct tar_entry *e,
			     struct fault *fault) {
	int r = attributes_set_open(fd, e, &x->result.xattrs_skipped);
	if (r == 0)
		r = folders_named(&x->folders, path, e->mtime, fault);
	const struct tar_xattr *acl = attributes_default_acl(e);
	return r == 0 && acl ? folders_acl(&x->folders, path, acl->value, acl->size, fault) : r;
}

/* A folder that is there already keeps what it has and takes the attributes. */
static int make_dir(struct extract *x, const struct place *p, const struct tar_entry *e, struct fault *fault) {
	bool made = mkdirat(p->dir, p->name, 0700) == 0;
	if (!made && errno != EEXIST)
		return -errno;
	CLEANUP_FD int fd = openat(p->dir, p->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOTDIR || errno == ELOOP ? -EEXIST : -errno;
	if (made) {
		x->result.inodes++;
		x->result.size += BLOCK;
	}
	return folder_attributes(x, fd, p->path, e, fault);
}

static int make_symlink(struct extract *x, const struct place *p, const struct tar_entry *e, struct fault *fault) {
	if (symlinkat(e->link, p->dir, p->name) < 0)
		return -errno;
	x->result.inodes++;
	return attributes_set_named(p->dir, p->name, e);
}

static int make_node(struct extract *x, const struct place *p, const struct tar_entry *e, struct fault *fault) {
	static const mode_t kinds[] = { [TAR_CHAR] = S_IFCHR, [TAR_BLOCK] = S_IFBLK, [TAR_FIFO] = S_IFIFO };
	dev_t dev = e->type == TAR_FIFO ? 0 : makedev(e->major, e->minor);
	if (mknodat(p->dir, p->name, kinds[e->type] | 0600, dev) < 0)
		return -errno;
	x->result.inodes++;
	return attributes_set_named(p->dir, p->name, e);
}

/* Links path's target to the place: -ENOENT when this layer doesn't have it. */
static int link_here(struct extract *x, char *target, const struct place *p) {
	char *slash = strrchr(target, '/');
	if (slash)
		*slash = '\0';
	CLEANUP_FD int dir = open_inside(x->root, slash ? target : "", O_PATH | O_DIRECTORY);
	if (slash)
		*slash = '/';
	if (dir < 0)
		return dir == -ENOTDIR ? -ENOENT : dir;
	return linkat(dir, path_last(target), p->dir, p->name, 0) < 0 ? -errno : 0;
}

/* A target that isn't here is in a layer below: layer_commit finds it. */
static int make_link(struct extract *x, const struct place *p, const struct tar_entry *e, struct fault *fault) {
	char target[TAR_NAME_MAX + 1];
	struct stat st;
	size_t n = strlen(e->link);
	if (n >= sizeof(target))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the target of the hard link is too long");
	memcpy(target, e->link, n + 1);
	if (path_clean(target) < 0 || target[0] == '\0')
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "the hard link's target \"%.256s\" leads out of the layer", e->link);
	if (strcmp(target, p->path) == 0)
		return 0;
	int r = link_here(x, target, p);
	if (r != -ENOENT)
		return r;
	if (fstatat(p->dir, p->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return report_add(x->report, REPORT_LINK, p->path, target);
}

static int (*const makers[])(struct extract *, const struct place *, const struct tar_entry *, struct fault *) = {
	[TAR_FILE] = make_file,	 [TAR_LINK] = make_link, [TAR_SYMLINK] = make_symlink, [TAR_CHAR] = make_node,
	[TAR_BLOCK] = make_node, [TAR_DIR] = make_dir,	 [TAR_FIFO] = make_node,
};

static int make_plain(struct extract *x, const struct place *p, const struct tar_entry *e, struct fault *fault) {
	int r = makers[e->type](x, p, e, fault);
	if (r != -EEXIST)
		return r;
	r = name_free(x, p, e->type);
	return r < 0 ? r : makers[e->type](x, p, e, fault);
}

/* NAME of this layer stays; if it is a folder, it hides what is below it. */
static int make_whiteout(struct extract *x, const struct place *p) {
	char path[TAR_NAME_MAX + 1];
	const char *name = p->name + strlen(PATH_WHITEOUT_PREFIX);
	struct stat st;
	if (mknodat(p->dir, name, S_IFCHR, 0) == 0) {
		x->result.inodes++;
		return 0;
	}
	if (errno != EEXIST)
		return -errno;
	if (fstatat(p->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return 0;
	size_t above = (size_t)(p->name - p->path);
	memcpy(path, p->path, above);
	memcpy(path + above, name, strlen(name) + 1);
	return report_add(x->report, REPORT_OPAQUE, path, "");
}

/* Everything below a folder with a mark's name is AUFS's own business. */
static bool inside_mark(const char *path) {
	for (const char *slash = strchr(path, '/'); slash; path = slash + 1, slash = strchr(path, '/'))
		if (strncmp(path, PATH_WHITEOUT_PREFIX, strlen(PATH_WHITEOUT_PREFIX)) == 0)
			return true;
	return false;
}

static bool is_aufs_link(const char *path) {
	const size_t n = strlen(PATH_AUFS_LINKS);
	return strncmp(path, PATH_AUFS_LINKS, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static int make_root(struct extract *x, const struct tar_entry *e, struct fault *fault) {
	CLEANUP_FD int fd = open_inside(x->root, "", O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	if (e->type != TAR_DIR)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the root of the layer is no folder");
	return folder_attributes(x, fd, "", e, fault);
}

/* path is clean and scratch. */
static int entry_make(struct extract *x, char *path, const struct tar_entry *e, struct fault *fault) {
	struct place p = { .path = path, .name = path_last(path) };
	enum path_kind kind = path_kind(p.name);

	if (*path == '\0')
		return make_root(x, e, fault);
	if (is_aufs_link(path)) {
		x->aufs_links = true;
		kind = PATH_PLAIN;
	} else if (kind == PATH_IGNORED || inside_mark(path)) {
		return 0;
	}
	if (kind == PATH_BAD)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "a whiteout of nothing");

	char folder[TAR_NAME_MAX + 1];
	size_t n = p.name > path ? (size_t)(p.name - path) - 1 : 0;
	memcpy(folder, path, n);
	folder[n] = '\0';
	int r = folders_open(&x->folders, folder, &p.dir, fault);
	if (r < 0)
		return r;
	switch (kind) {
	case PATH_WHITEOUT:
		return make_whiteout(x, &p);
	case PATH_OPAQUE:
		return report_add(x->report, REPORT_OPAQUE, folder, "");
	default:
		return make_plain(x, &p, e, fault);
	}
}

static int extract_entry(struct extract *x, const struct tar_entry *e, struct fault *fault) {
	char path[TAR_NAME_MAX + 1];
	size_t n = strlen(e->path);
	*fault = (struct fault){ 0 };
	int r;
	if (n >= sizeof(path)) {
		r = fault_set(fault, FAULT_INVALID_ARGUMENT, "the name has more than %d bytes", TAR_NAME_MAX);
	} else {
		memcpy(path, e->path, n + 1);
		r = path_clean(path);
		if (r == -EXDEV)
			fault_set(fault, FAULT_INVALID_ARGUMENT, "the name leads out of the layer");
	}
	if (r == 0)
		r = entry_make(x, path, e, fault);
	if (r == 0)
		return 0;
	if (fault->code == FAULT_NONE)
		return fault_errno(fault, r, "\"%.256s\"", e->path);
	return fault_prefix(fault, r, "\"%.256s\"", e->path);
}

static int extract_finish(struct extract *x, struct fault *fault) {
	int r = 0;
	if (x->aufs_links) {
		r = trash_open(x);
		if (r >= 0)
			r = trash_put(x->trash, x->root, PATH_AUFS_LINKS);
	}
	if (r >= 0 || r == -ENOENT)
		r = trash_open(x);
	if (r >= 0)
		r = trash_empty(x->trash);
	if (r == 0 && unlinkat(x->root, TRASH, AT_REMOVEDIR) < 0)
		r = -errno;
	if (r < 0)
		return fault_errno(fault, r, "remove what the layer replaced itself");
	/* Last: all of the above changes the times of folders. */
	r = folders_finish(&x->folders, fault);
	x->result.inodes += x->folders.made;
	x->result.size += x->folders.made * BLOCK;
	return r;
}

int extract_archive(struct tar *tar, int root, const struct extract_limits *limits, struct buffer *report,
		    struct extract_result *ret_result, struct fault *fault) {
	struct extract x = { .tar = tar, .root = root, .trash = -1, .report = report };
	x.result = (struct extract_result){ .size = BLOCK, .inodes = 1 }; /* the root */
	struct tar_entry e;
	uint64_t entries = 0;

	folders_init(&x.folders, root, report);
	int r = folders_unnamed_root(&x.folders);
	if (r < 0)
		r = fault_errno(fault, r, "unpack");
	while (r == 0 && (r = tar_next(tar, &e, fault)) > 0) {
		if (limits->entries && ++entries > limits->entries)
			r = fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "the layer has more than %llu entries",
				      (unsigned long long)limits->entries);
		else
			r = extract_entry(&x, &e, fault);
	}
	if (r == 0)
		r = extract_finish(&x, fault);
	folders_deinit(&x.folders);
	fd_close(x.trash);
	if (r == 0)
		*ret_result = x.result;
	return r;
}
