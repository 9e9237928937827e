/* What is asked of all processes of a control group that lives: to stand still,
 * and who they are. */
#include "workers/keeper/cgroup.h"

#include "base/clock.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define FREEZE_TRIES 200
#define FREEZE_PAUSE (5 * NS_PER_MS)
#define DEPTH_MAX 32

static int freezer_of(const struct cgroup *c) {
	int h = c->system ? c->system->tracker : -1;
	if (h < 0 || !(c->made >> h & 1))
		return -1;
	bool can = c->system->hierarchies[h].v2 || c->system->hierarchies[h].controllers & CGROUP_FREEZER;
	return can ? h : -1;
}

static bool is_done(const struct cgroup *c, int h, bool v2, bool frozen) {
	char text[256];
	if (cgroup_read(c, h, v2 ? "cgroup.events" : "freezer.state", text, sizeof(text)) < 0)
		return false;
	if (v2)
		return (cgroup_field(text, "frozen") != 0) == frozen;
	/* One that is "FREEZING" may have to be told again. */
	bool done = strncmp(text, frozen ? "FROZEN" : "THAWED", 6) == 0;
	if (!done)
		cgroup_write(c, h, "freezer.state", frozen ? "FROZEN" : "THAWED");
	return done;
}

int cgroup_freeze(const struct cgroup *c, bool frozen) {
	int h = freezer_of(c);
	if (h < 0)
		return -EOPNOTSUPP;
	bool v2 = c->system->hierarchies[h].v2;
	int r = v2 ? cgroup_write(c, h, "cgroup.freeze", frozen ? "1" : "0")
		   : cgroup_write(c, h, "freezer.state", frozen ? "FROZEN" : "THAWED");
	if (r < 0)
		return r == -ENOENT ? -EOPNOTSUPP : r;
	for (int i = 0; !is_done(c, h, v2, frozen); i++) {
		struct timespec pause = { .tv_nsec = FREEZE_PAUSE };
		if (i == FREEZE_TRIES) {
			/* Half of it must not stay. */
			if (frozen)
				cgroup_write(c, h, v2 ? "cgroup.freeze" : "freezer.state", v2 ? "0" : "THAWED");
			return -ETIMEDOUT;
		}
		nanosleep(&pause, NULL);
	}
	return 0;
}

int cgroup_freezer_path(const struct cgroup *c, char *ret_path, size_t size) {
	int h = freezer_of(c);
	if (h < 0)
		return -EOPNOTSUPP;
	int n = snprintf(ret_path, size, "%s%s", c->system->hierarchies[h].mount, c->path);
	return (size_t)n < size ? 0 : -ENAMETOOLONG;
}

bool cgroup_kills_frozen(const struct cgroup *c) {
	int h = freezer_of(c);
	return h < 0 || c->system->hierarchies[h].v2;
}

static void pids_of(int folder, void (*fn)(void *ctx, pid_t pid), void *ctx) {
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FD int fd = openat(folder, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fd_read_all(fd, 16 * 1024 * 1024, &text, NULL) < 0)
		return;
	for (char *p = text; *p; p += strspn(p, "\n")) {
		long pid = strtol(p, &p, 10);
		if (pid > 0)
			fn(ctx, (pid_t)pid);
		p += strcspn(p, "\n");
	}
}

static void visit(int folder, unsigned depth, void (*fn)(void *ctx, pid_t pid), void *ctx) {
	pids_of(folder, fn, ctx);
	int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	if (!d) {
		fd_close(copy);
		return;
	}
	for (struct dirent *e; depth < DEPTH_MAX && (e = readdir(d));) {
		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		CLEANUP_FD int next = openat(folder, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next >= 0)
			visit(next, depth + 1, fn, ctx);
	}
	closedir(d);
}

void cgroup_each_pid(const struct cgroup *c, void (*fn)(void *ctx, pid_t pid), void *ctx) {
	char path[CGROUP_PATH_MAX + 64];
	int h = c->system ? c->system->tracker : -1;
	if (h < 0 || !(c->made >> h & 1))
		return;
	snprintf(path, sizeof(path), "%s%s", c->system->hierarchies[h].mount, c->path);
	CLEANUP_FD int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder >= 0)
		visit(folder, 0, fn, ctx);
}
