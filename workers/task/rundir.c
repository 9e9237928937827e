/*
 * The folders of running pods: <run_root>/pods/<sandbox id>/, one each, with
 * the keeper's socket, its notes for a successor, and the pod's own files.
 *
 * Owns: the folders themselves (mode 0700, this worker's uid). What is in them
 * is the keeper's, who is root; being the folder's owner is enough to remove
 * it.
 * Invariant: a folder exists before a keeper is asked for and is removed after
 * the last keeper has given everything back, so a folder that is there says
 * "there may be something to clean up".
 * Failure: a sentence that names the folder.
 */
#include "task.h"

#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Deep enough for anything that a keeper makes, shallow enough to be safe. */
#define RUNDIR_DEPTH_MAX 8

int rundir_make(struct task_worker *w, const char *id, struct fault *fault) {
	if (mkdirat(w->pods, id, 0700) < 0 && errno != EEXIST)
		return fault_errno(fault, errno, "make folder \"%s/%s\"", w->pods_path, id);
	return 0;
}

bool rundir_exists(struct task_worker *w, const char *id) {
	return faccessat(w->pods, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool dot_name(const char *name) {
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int remove_tree(int parent, const char *name, unsigned depth) {
	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (unlinkat(parent, name, AT_REMOVEDIR) == 0)
		return 0;
	if ((errno != ENOTEMPTY && errno != EEXIST) || depth == 0)
		return -errno;
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	DIR *d = fdopendir(fd);
	if (!d) {
		fd_close(fd);
		return -ENOMEM;
	}
	int r = 0;
	for (struct dirent *e; r >= 0 && (e = readdir(d));)
		if (!dot_name(e->d_name))
			r = remove_tree(fd, e->d_name, depth - 1);
	closedir(d);
	if (r >= 0 && unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	return r;
}

int rundir_remove(struct task_worker *w, const char *id, struct fault *fault) {
	int r = remove_tree(w->pods, id, RUNDIR_DEPTH_MAX);
	if (r < 0)
		return fault_errno(fault, r, "remove folder \"%s/%s\"", w->pods_path, id);
	return 0;
}

int rundir_connect(struct task_worker *w, const char *id, int *ret_fd) {
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	/* Relative to pods/, where serve has put this process: an absolute path
	 * could be longer than a socket's address. */
	int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/keeper.sock", id);
	if (n < 0 || (size_t)n >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

int rundir_scan(struct task_worker *w, void (*fn)(struct task_worker *w, const char *id)) {
	int fd = openat(w->pods, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	DIR *d = fdopendir(fd);
	if (!d) {
		fd_close(fd);
		return -ENOMEM;
	}
	for (struct dirent *e; (e = readdir(d));) {
		if (dot_name(e->d_name))
			continue;
		if (id_valid(e->d_name))
			fn(w, e->d_name);
		else
			log_event(LOG_WARN, "not a pod's folder, left alone", "folder", e->d_name, NULL);
	}
	closedir(d);
	return 0;
}
