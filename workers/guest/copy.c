/*
 * CopyFile: files, folders and links that the host brings, one call for each, or
 * several for the parts of a large file. They go below shared/containers of
 * agent_run_root and nowhere else: containers can write there, so the way to a
 * name is walked as if that folder were the root, and links that lead out of it
 * lead to its top. What is written has another name until it is whole.
 */
#include "guest.h"

#include "base/fd.h"
#include "base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SHARED "/shared/containers"
#define PART_NAME_SIZE 32

struct copy {
	const Grpc__CopyFileRequest *q;
	struct place at;
	mode_t mode;
	char part[PART_NAME_SIZE]; /* the name until it is whole */
};

/* --- the way there --- */

static int open_in(int root, const char *path) {
	return fd_open_in(root, path, O_PATH | O_DIRECTORY, RESOLVE_IN_ROOT);
}

static int folder_own(int parent, const char *name, const Grpc__CopyFileRequest *q) {
	mode_t mode = q->dir_mode & 0777;
	if (mkdirat(parent, name, mode) < 0)
		return errno == EEXIST ? 0 : -errno;
	/* Nobody else knows the folder yet. */
	if (fchownat(parent, name, (uid_t)q->uid, (gid_t)q->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	CLEANUP_FD int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 || fchmod(fd, mode) < 0 ? -errno : 0;
}

/* Opens the folder that the first n bytes of path name, which are part of a path
 * whose folders are there up to its last part. */
static int folder_open(int root, const char *path, size_t n, int parent, const Grpc__CopyFileRequest *q) {
	char text[PATH_MAX];
	snprintf(text, sizeof(text), "%.*s", (int)n, path);
	int fd = open_in(root, text);
	if (fd != -ENOENT)
		return fd;
	const char *slash = strrchr(text, '/');
	int r = folder_own(parent, slash ? slash + 1 : text, q);
	return r < 0 ? r : open_in(root, text);
}

static int place_in(int root, const char *path, const Grpc__CopyFileRequest *q, struct place *ret_place) {
	CLEANUP_FD int folder = open_in(root, ".");
	if (folder < 0)
		return folder;
	const char *rest = path;
	for (const char *slash; (slash = strchr(rest, '/')); rest = slash + 1) {
		int next = folder_open(root, path, (size_t)(slash - path), folder, q);
		if (next < 0)
			return next;
		fd_replace(&folder, next);
	}
	*ret_place = (struct place){ .folder = take_fd(&folder), .name = rest };
	return 0;
}

static int root_open(const struct work *w) {
	char path[BOOT_PATH_MAX + sizeof(SHARED)];
	snprintf(path, sizeof(path), "%s" SHARED, w->config->agent_run_root);
	int r = make_folders(path);
	int fd = r < 0 ? r : open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 && r == 0 ? -errno : fd;
}

static int way_find(const struct work *w, struct copy *c, struct fault *fault) {
	char top[BOOT_PATH_MAX + sizeof(SHARED) + 1];
	int n = snprintf(top, sizeof(top), "%s" SHARED "/", w->config->agent_run_root);
	const char *path = c->q->path;
	if (!path_clean(path) || strncmp(path, top, (size_t)n) != 0 || strlen(path) >= PATH_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "it is no clean path below %s", top);
	CLEANUP_FD int root = root_open(w);
	int r = root < 0 ? root : place_in(root, path + n, c->q, &c->at);
	return r < 0 ? fault_errno(fault, r, "make the folder that it goes to") : 0;
}

/* --- what comes --- */

static int into_place(const struct copy *c) {
	if (renameat(c->at.folder, c->part, c->at.folder, c->at.name) == 0)
		return 0;
	/* A file for a folder. */
	if (errno != EISDIR && errno != ENOTEMPTY && errno != EEXIST)
		return -errno;
	int r = tree_remove(&c->at);
	return r == 0 && renameat(c->at.folder, c->part, c->at.folder, c->at.name) < 0 ? -errno : r;
}

static int copy_folder(const struct copy *c) {
	mode_t mode = c->mode & 07777;
	struct stat st;
	if (fstatat(c->at.folder, c->at.name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode) &&
	    unlinkat(c->at.folder, c->at.name, 0) < 0)
		return -errno;
	if (mkdirat(c->at.folder, c->at.name, 0700) < 0 && errno != EEXIST)
		return -errno;
	CLEANUP_FD int fd = openat(c->at.folder, c->at.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 || fchown(fd, (uid_t)c->q->uid, (gid_t)c->q->gid) < 0 || fchmod(fd, mode) < 0 ? -errno : 0;
}

static int copy_link(const struct copy *c) {
	char target[PATH_MAX];
	if (c->q->data.len == 0 || c->q->data.len >= sizeof(target) || memchr(c->q->data.data, 0, c->q->data.len))
		return -EINVAL;
	memcpy(target, c->q->data.data, c->q->data.len);
	target[c->q->data.len] = '\0';
	unlinkat(c->at.folder, c->part, 0);
	if (symlinkat(target, c->at.folder, c->part) < 0 ||
	    fchownat(c->at.folder, c->part, (uid_t)c->q->uid, (gid_t)c->q->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return into_place(c);
}

/* The last part may come twice, when we were replaced after it. */
static bool whole_already(const struct copy *c) {
	struct stat st;
	return c->q->offset + (int64_t)c->q->data.len == c->q->file_size &&
	       fstatat(c->at.folder, c->at.name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	       st.st_size == c->q->file_size;
}

static int part_open(const struct copy *c) {
	int flags = O_WRONLY | O_NOFOLLOW | O_CLOEXEC;
	if (c->q->offset == 0) {
		unlinkat(c->at.folder, c->part, 0);
		flags |= O_CREAT | O_EXCL;
	}
	int fd = openat(c->at.folder, c->part, flags, 0600);
	return fd < 0 ? -errno : fd;
}

static int data_write(int fd, const Grpc__CopyFileRequest *q) {
	for (size_t n = 0; n < q->data.len;) {
		ssize_t w = pwrite(fd, q->data.data + n, q->data.len - n, q->offset + (off_t)n);
		if (w < 0 && errno != EINTR)
			return -errno;
		n += w > 0 ? (size_t)w : 0;
	}
	return 0;
}

static int copy_file(const struct copy *c) {
	struct stat st;
	CLEANUP_FD int fd = part_open(c);
	if (fd == -ENOENT && whole_already(c))
		return 0;
	int r = fd < 0 ? fd : data_write(fd, c->q);
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0 || st.st_size != c->q->file_size)
		return r;
	/* In this order: a change of the owner takes setuid away. */
	if (fchown(fd, (uid_t)c->q->uid, (gid_t)c->q->gid) < 0 || fchmod(fd, c->mode & 07777) < 0)
		return -errno;
	return into_place(c);
}

/* --- the call --- */

static int check(const Grpc__CopyFileRequest *q, mode_t type, struct fault *fault) {
	if (type != S_IFREG && type != S_IFDIR && type != S_IFLNK)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "mode 0%o is no file's, folder's or link's",
				 q->file_mode);
	if (q->offset < 0 || q->file_size < 0 || q->uid < 0 || q->gid < 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "its offset, size or owner is negative");
	if (type == S_IFREG && (q->offset > q->file_size || (int64_t)q->data.len > q->file_size - q->offset))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%zu bytes at %lld are more than its size of %lld",
				 q->data.len, (long long)q->offset, (long long)q->file_size);
	return 0;
}

static int copy_run(const struct work *w, struct copy *c, struct fault *fault) {
	char digest[DIGEST_SIZE];
	mode_t type = c->mode & S_IFMT;
	int r = check(c->q, type, fault);
	if (r == 0)
		r = way_find(w, c, fault);
	if (r < 0)
		return r;
	sha256_digest(c->at.name, strlen(c->at.name), digest);
	snprintf(c->part, sizeof(c->part), ".copy-%.16s", strchr(digest, ':') + 1);
	r = type == S_IFDIR ? copy_folder(c) : type == S_IFLNK ? copy_link(c) : copy_file(c);
	if (r == -ENOENT && c->q->offset > 0)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "none of it has come yet: begin at offset 0");
	return r < 0 ? fault_errno(fault, r, "write it") : 0;
}

/* Without a type it is a file. */
int guest_copy_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Grpc__CopyFileRequest *q = (const Grpc__CopyFileRequest *)request;
	struct copy c = { .q = q, .at = PLACE_NONE, .mode = q->file_mode };
	if ((c.mode & S_IFMT) == 0)
		c.mode |= S_IFREG;
	int r = copy_run(w, &c, fault);
	place_close(&c.at);
	return r < 0 ? fault_prefix(fault, r, "\"%s\"", q->path) : 0;
}
