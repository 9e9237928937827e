/*
 * The end of a control group: finding and killing what is in it, removing its
 * folders, with whatever groups the container has made below it.
 */
#include "workers/keeper/cgroup.h"

#include "base/fd.h"
#include "workers/keeper/cgroup_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 64
#define REMOVALS_MAX 4096

static void signal_listed(int folder, int sig) {
	char text[4096];
	CLEANUP_FD int fd = openat(folder, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	ssize_t n;
	size_t kept = 0;
	if (fd < 0)
		return;
	while ((n = read(fd, text + kept, sizeof(text) - 1 - kept)) > 0) {
		size_t size = kept + (size_t)n;
		char *p = text, *newline;
		text[size] = '\0';
		while ((newline = strchr(p, '\n'))) {
			pid_t pid = (pid_t)strtol(p, NULL, 10);
			if (pid > 1 && pid != getpid())
				kill(pid, sig);
			p = newline + 1;
		}
		kept = size - (size_t)(p - text);
		memmove(text, p, kept);
	}
}

/* The first folder in there that isn't skipped; false when there is none. */
static bool first_folder(int folder, char ret_name[NAME_MAX + 1]) {
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	bool found = false;
	if (!d) {
		fd_close(fd);
		return false;
	}
	for (struct dirent *e; !found && (e = readdir(d));) {
		if (e->d_type != DT_DIR || strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(ret_name, NAME_MAX + 1, "%s", e->d_name);
		found = true;
	}
	closedir(d);
	return found;
}

/* Visits the tree below folder leaf by leaf, removing each; sig, when not 0,
 * goes to what is in there first. Depth is the container's choice, so no
 * recursion: it goes down by name and starts again at the top. */
static int tree_remove(int top, int sig) {
	for (int i = 0; i < REMOVALS_MAX; i++) {
		char name[NAME_MAX + 1];
		CLEANUP_FD int at = fcntl(top, F_DUPFD_CLOEXEC, 0);
		if (!first_folder(at, name))
			return 0;
		char child[NAME_MAX + 1];
		for (int depth = 0; depth < DEPTH_MAX; depth++) {
			CLEANUP_FD int next = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (next < 0)
				return errno == ENOENT ? 0 : -errno;
			if (sig)
				signal_listed(next, sig);
			if (!first_folder(next, child))
				break;
			fd_replace(&at, take_fd(&next));
			strcpy(name, child);
		}
		if (unlinkat(at, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
			return -errno;
	}
	return -EBUSY;
}

static int folder_open(const struct cgroup *c, int h) {
	char path[CGROUP_PATH_MAX + 64];
	snprintf(path, sizeof(path), "%s%s", c->system->hierarchies[h].mount, c->path);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int folder_remove(const struct cgroup *c, int h) {
	char path[CGROUP_PATH_MAX + 64];
	snprintf(path, sizeof(path), "%s%s", c->system->hierarchies[h].mount, c->path);
	if (rmdir(path) == 0 || errno == ENOENT)
		return 0;
	CLEANUP_FD int folder = folder_open(c, h);
	if (folder < 0)
		return folder == -ENOENT ? 0 : folder;
	int r = tree_remove(folder, 0);
	if (r < 0)
		return r;
	return rmdir(path) == 0 || errno == ENOENT ? 0 : -errno;
}

/* What is below it, alone. */
static int folder_empty(const struct cgroup *c, int h) {
	CLEANUP_FD int folder = folder_open(c, h);
	if (folder < 0)
		return folder == -ENOENT ? 0 : folder;
	int r = tree_remove(folder, 0);
	return r < 0 ? r : cgroup_populated(c) ? -EBUSY : 0;
}

void cgroup_signal(const struct cgroup *c, int sig) {
	if (!c->system || c->system->tracker < 0 || !(c->made >> c->system->tracker & 1))
		return;
	CLEANUP_FD int folder = folder_open(c, c->system->tracker);
	if (folder >= 0)
		signal_listed(folder, sig);
}

void cgroup_kill(const struct cgroup *c) {
	int h = c->system ? c->system->tracker : -1;
	if (h < 0 || !(c->made >> h & 1))
		return;
	if (c->system->hierarchies[h].v2 && cgroup_write(c, h, "cgroup.kill", "1") == 0)
		return;
	/* v1, or v2 before 5.14: what forks faster than it is listed is caught
	 * by the next call; below a frozen group nothing forks. */
	bool freezer = c->system->hierarchies[h].controllers & CGROUP_FREEZER;
	if (freezer)
		cgroup_write(c, h, "freezer.state", "FROZEN");
	CLEANUP_FD int folder = folder_open(c, h);
	if (folder >= 0) {
		signal_listed(folder, SIGKILL);
		tree_remove(folder, SIGKILL);
	}
	if (freezer)
		cgroup_write(c, h, "freezer.state", "THAWED");
}

bool cgroup_holds(const struct cgroup *c, pid_t pid) {
	int h = c->system ? c->system->tracker : -1;
	if (h < 0 || !(c->made >> h & 1) || pid <= 0)
		return false;
	CLEANUP_FD int folder = folder_open(c, h);
	CLEANUP_FD int fd = folder < 0 ? -1 : openat(folder, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE char *text = NULL;
	if (fd < 0 || fd_read_all(fd, 16 * 1024 * 1024, &text, NULL) < 0)
		return false;
	for (char *p = text; *p; p += strcspn(p, "\n") + 1)
		if (strtol(p, NULL, 10) == pid)
			return true;
	return false;
}

bool cgroup_populated(const struct cgroup *c) {
	int h = c->system ? c->system->tracker : -1;
	char text[256];
	if (h < 0 || !(c->made >> h & 1))
		return false;
	if (c->system->hierarchies[h].v2 && cgroup_read(c, h, "cgroup.events", text, sizeof(text)) == 0)
		return cgroup_field(text, "populated") != 0;
	return cgroup_read(c, h, "cgroup.procs", text, sizeof(text)) == 0 && text[0];
}

bool cgroup_in_use(const struct cgroup_system *s, const char *path) {
	struct cgroup c = { .system = s };
	char name[NAME_MAX + 1];
	if (s->tracker < 0)
		return false;
	snprintf(c.path, sizeof(c.path), "%s", path);
	c.made = 1U << s->tracker; /* or it isn't there */
	CLEANUP_FD int folder = folder_open(&c, s->tracker);
	return folder >= 0 && (cgroup_populated(&c) || first_folder(folder, name));
}

int cgroup_remove(struct cgroup *c) {
	int result = 0;
	if (!c->system || !c->path[0])
		return 0;
	for (int h = 0; h < (int)c->system->n; h++) {
		if (!(c->made >> h & 1))
			continue;
		int r = c->scope && h == c->system->v2 ? folder_empty(c, h) : folder_remove(c, h);
		if (r == 0)
			c->made &= ~(1U << h);
		else
			result = r;
	}
	return result;
}

int cgroup_remove_path(const struct cgroup_system *s, const char *path) {
	struct cgroup c;
	if (!cgroup_path_valid(path))
		return -EINVAL;
	cgroup_adopt(s, path, &c);
	return cgroup_remove(&c);
}

void cgroup_remove_empty(const struct cgroup_system *s, const char *path) {
	if (!cgroup_path_valid(path))
		return;
	for (size_t h = 0; h < s->n; h++) {
		char folder[CGROUP_PATH_MAX + 64];
		snprintf(folder, sizeof(folder), "%s%s", s->hierarchies[h].mount, path);
		rmdir(folder);
	}
}
