/*
 * Containers can write to much of what is below agent_run_root, so a path is
 * walked one folder after the other, and a symbolic link on it is an error:
 * ELOOP. Below a folder that is open nothing can be exchanged any more.
 */
#include "guest.h"

#include "base/fd.h"
#include "tree/remove.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define RESOLVE_STRICT (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)

void place_close(struct place *p) {
	fd_close(p->folder);
	p->folder = -1;
}

bool path_clean(const char *path) {
	if (*path != '/')
		return false;
	while (*path == '/') {
		size_t n = strcspn(++path, "/");
		if (n == 0 || (n == 1 && path[0] == '.') || (n == 2 && path[0] == '.' && path[1] == '.'))
			return false;
		path += n;
	}
	return true;
}

static int open_strictly(int folder, const char *name, uint64_t flags) {
	return fd_open_in(folder, name, flags, RESOLVE_STRICT);
}

/* Below agent_run_root, what follows it; NULL when the path isn't there. */
static const char *below_root(const struct work *w, const char *path) {
	size_t n = strlen(w->config->agent_run_root);
	return path_clean(path) && strncmp(path, w->config->agent_run_root, n) == 0 && path[n] == '/' ? path + n + 1
												      : NULL;
}

static int step(int *folder, const char *name, bool make) {
	int next = open_strictly(*folder, name, O_PATH | O_DIRECTORY);
	if (next == -ENOENT && make) {
		if (mkdirat(*folder, name, 0755) < 0 && errno != EEXIST)
			return -errno;
		next = open_strictly(*folder, name, O_PATH | O_DIRECTORY);
	}
	if (next < 0)
		return next;
	fd_replace(folder, next);
	return 0;
}

int place_find(const struct work *w, const char *path, bool make, struct place *ret_place, struct fault *fault) {
	const char *rest = below_root(w, path);
	if (!rest)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is no clean path below %s", path,
				 w->config->agent_run_root);
	CLEANUP_FD int folder = open(w->config->agent_run_root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return fault_errno(fault, errno, "open %s", w->config->agent_run_root);
	for (const char *slash; (slash = strchr(rest, '/')); rest = slash + 1) {
		char name[NAME_MAX + 1];
		size_t n = (size_t)(slash - rest);
		if (n > NAME_MAX)
			return fault_errno(fault, ENAMETOOLONG, "\"%s\"", path);
		memcpy(name, rest, n);
		name[n] = '\0';
		int r = step(&folder, name, make);
		if (r < 0)
			return fault_errno(fault, r, "the folder of \"%s\"", path);
	}
	*ret_place = (struct place){ .folder = take_fd(&folder), .name = rest };
	return 0;
}

int place_open(const struct place *p) {
	return open_strictly(p->folder, p->name, O_PATH);
}

/* Through a trash beside it: depth and names don't matter then. */
int tree_remove(const struct place *p) {
	static const char trash[] = ".bulkhead-trash";
	if (mkdirat(p->folder, trash, 0700) < 0 && errno != EEXIST)
		return -errno;
	CLEANUP_FD int fd = openat(p->folder, trash, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = trash_put(fd, p->folder, p->name);
	if (r == -ENOENT)
		r = 0;
	if (r == 0)
		r = trash_empty(fd);
	unlinkat(p->folder, trash, AT_REMOVEDIR);
	return r;
}
