#include "workers/keeper/oom.h"

#include "base/fd.h"
#include "workers/keeper/cgroup_update.h"
#include "workers/keeper/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROCESSES_MAX 65536
#define ROUNDS 16

static int score_open(pid_t pid) {
	char path[40] = "/proc/self/oom_score_adj";
	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
	return open(path, O_RDWR | O_CLOEXEC);
}

static int score_write(int fd, int64_t score) {
	char text[32];
	int n = snprintf(text, sizeof(text), "%" PRId64, score);
	return pwrite(fd, text, (size_t)n, 0) < 0 ? -errno : 0;
}

static int score_read(int fd, int64_t *ret_score) {
	char text[32] = "";
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return -ESRCH;
	*ret_score = strtoll(text, NULL, 10);
	return 0;
}

void oom_score_become(int64_t score, int status) {
	CLEANUP_FD int fd = score_open(0);
	int r = fd < 0 ? -errno : score_write(fd, score);
	char now[32] = "?";
	int64_t is;
	if (r == 0)
		return;
	if (score_read(fd, &is) == 0)
		snprintf(now, sizeof(now), "%" PRId64, is);
	become_warn(status, OOM_WARNING_FORMAT, score, strerrordesc_np(-r), now);
}

/* --- what runs already --- */

struct change {
	int64_t score, own;
	size_t changed;
	int refused;
	int64_t is; /* where it was refused */
};

static void change_one(void *ctx, pid_t pid) {
	struct change *c = ctx;
	CLEANUP_FD int fd = score_open(pid);
	int64_t now;
	if (score_read(fd, &now) < 0 || now == c->score)
		return; /* gone, or has it */
	int r = score_write(fd, c->score);
	c->changed += r == 0;
	if (r != -EACCES)
		return;
	if (c->own < now && score_write(fd, c->own) == 0) {
		c->changed++;
		now = c->own;
	}
	c->refused = r;
	c->is = now;
}

void oom_score_set(const struct cgroup *c, int64_t score, cgroup_warn_fn warn, void *ctx) {
	struct change change = { .score = score, .own = score };
	char text[160], now[32];
	CLEANUP_FD int self = score_open(0);
	if (score_read(self, &change.own) < 0 || change.own < score)
		change.own = INT64_MAX;
	/* What is born during one round has its parent's, and is found by the next. */
	for (int i = 0; i < ROUNDS; i++) {
		change.changed = 0;
		cgroup_each_process(c, PROCESSES_MAX, change_one, &change);
		if (change.changed == 0)
			break;
	}
	if (!change.refused)
		return;
	snprintf(now, sizeof(now), "%" PRId64, change.is);
	snprintf(text, sizeof(text), OOM_WARNING_FORMAT, score, strerrordesc_np(-change.refused), now);
	warn(ctx, text);
}
