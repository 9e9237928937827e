/*
 * Changing the limits of what runs.
 *
 * Values can depend on each other in both directions (memory on memory and
 * swap, quota on period), so what the kernel refuses is tried again after all
 * the others; what it refuses then is the error.
 *
 * An update is all or nothing: each value is read before it is replaced, and
 * after a failure what was replaced is written back, in the same rounds. A file
 * with a line per device isn't read back: one write can't restore it.
 */
#include "workers/keeper/cgroup_update.h"

#include "base/fd.h"
#include "workers/keeper/cgroup_private.h"

#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MOVE_ROUNDS 16
#define PROCESSES_MAX 65536

/* --- processes -------------------------------------------------------------- */

static size_t each_listed(const char *folder, size_t max, void (*fn)(void *ctx, pid_t pid), void *ctx) {
	char path[4096];
	CLEANUP_FREE char *text = NULL;
	size_t n = 0;
	if ((size_t)snprintf(path, sizeof(path), "%s/cgroup.procs", folder) >= sizeof(path))
		return 0;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fd_read_all(fd, 16 * 1024 * 1024, &text, NULL) < 0)
		return 0;
	for (char *p = text; *p && n < max; p += strcspn(p, "\n") + 1) {
		long pid = strtol(p, NULL, 10);
		if (pid <= 0)
			break;
		fn(ctx, (pid_t)pid);
		n++;
	}
	return n;
}

size_t cgroup_each_process(const struct cgroup *c, size_t max, void (*fn)(void *ctx, pid_t pid), void *ctx) {
	int h = c->system ? c->system->tracker : -1;
	char path[CGROUP_PATH_MAX + 64], *paths[] = { path, NULL };
	size_t n = 0;
	if (h < 0 || !(c->made >> h & 1))
		return 0;
	snprintf(path, sizeof(path), "%s%s", c->system->hierarchies[h].mount, c->path);
	FTS *walk = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	if (!walk)
		return 0;
	for (FTSENT *e; n < max && (e = fts_read(walk));)
		if (e->fts_info == FTS_D && strcmp(e->fts_name, CGROUP_HOLD) != 0)
			n += each_listed(e->fts_accpath, max - n, fn, ctx);
	fts_close(walk);
	return n;
}

struct move {
	const struct cgroup *to;
	int h;
	size_t moved;
	int error;
};

/* Already there costs nothing but a look. */
static void move_one(void *ctx, pid_t pid) {
	struct move *m = ctx;
	char path[32], pattern[CGROUP_PATH_MAX + 8], text[32];
	CLEANUP_FREE char *groups = NULL;
	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fd_read_all(fd, 64 * 1024, &groups, NULL) < 0)
		return; /* gone */
	/* "<n>:<controllers>:<path>"; only this group's own hierarchies have it
	 * so often as there are folders of it. */
	snprintf(pattern, sizeof(pattern), ":%s", m->to->path);
	const char *name = m->to->system->hierarchies[m->h].name;
	for (char *line = groups, *next; *line; line = next) {
		size_t n = strcspn(line, "\n");
		next = line + n + (line[n] == '\n');
		line[n] = '\0';
		char *controllers = strchr(line, ':');
		char *where = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!where || strncmp(controllers + 1, name, strlen(name)) != 0 || controllers[1 + strlen(name)] != ':')
			continue;
		size_t size = strlen(pattern);
		if (strncmp(where, pattern, size) == 0 && (where[size] == '\0' || where[size] == '/'))
			return;
	}
	snprintf(text, sizeof(text), "%d", (int)pid);
	int r = cgroup_write(m->to, m->h, "cgroup.procs", text);
	if (r == 0)
		m->moved++;
	else if (r != -ESRCH)
		m->error = r;
}

/* What is born during one round is found by the next. */
static int move_all(const struct cgroup *c, int h) {
	for (int i = 0; i < MOVE_ROUNDS; i++) {
		struct move m = { .to = c, .h = h };
		cgroup_each_process(c, PROCESSES_MAX, move_one, &m);
		if (m.error < 0)
			return m.error;
		if (m.moved == 0)
			return 0;
	}
	return -EAGAIN;
}

int cgroup_bring(struct cgroup *c, pid_t pid, struct fault *fault) {
	struct cgroup now;
	cgroup_adopt(c->system, c->path, &now);
	/* Limits that were in a folder must not get lost with it. */
	if (c->made & ~now.made)
		return fault_set(fault, FAULT_ABORTED, "cgroup \"%s\": somebody has removed a part of it", c->path);
	for (int h = 0; h < (int)now.system->n; h++) {
		struct move m = { .to = &now, .h = h };
		if (now.system->hierarchies[h].v2 || !(now.made >> h & 1))
			continue;
		move_one(&m, pid);
		if (m.error < 0)
			return fault_errno(fault, m.error, "cgroup \"%s%s\": move process %d into it",
					   now.system->hierarchies[h].mount, c->path, (int)pid);
	}
	*c = now;
	c->scope = true;
	return 0;
}

static int ensure(struct cgroup *c, unsigned controller, struct fault *fault) {
	int h = cgroup_find(c->system, controller);
	if (h < 0)
		return 0;
	bool v2 = c->system->hierarchies[h].v2;
	if (!v2 && c->made >> h & 1)
		return 0;
	int r = cgroup_folder_make(c, h, controller);
	c->made |= 1U << h;
	if (r == 0 && !v2)
		r = move_all(c, h);
	if (r < 0)
		return fault_errno(fault, r, "cgroup \"%s%s\": move what runs into it", c->system->hierarchies[h].mount,
				   c->path);
	return 0;
}

/* --- settings --------------------------------------------------------------- */

/* All settings of both versions, each with its place in the list of its own. */
struct both {
	struct cgroup_settings v1, v2;
};

static void settings_of(const Grpc__LinuxResources *r, struct both *ret) {
	*ret = (struct both){ 0 };
	cgroup_v1_settings(r, &ret->v1);
	cgroup_v2_settings(r, &ret->v2);
}

int cgroup_ensure(struct cgroup *c, const Grpc__LinuxResources *resources, struct fault *fault) {
	struct both b;
	settings_of(resources, &b);
	for (size_t i = 0; i < b.v1.n; i++) {
		int r = ensure(c, b.v1.list[i].controller, fault);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Lower than what is used, the kernel would kill for it (v2) or refuse (v1). */
static int check_memory(const struct cgroup *c, const Grpc__LinuxResources *r, struct fault *fault) {
	Bulkhead__TaskStats s = BULKHEAD__TASK_STATS__INIT;
	if (!r->memory || r->memory->limit <= 0)
		return 0;
	cgroup_stats(c, &s);
	if ((uint64_t)r->memory->limit >= s.memory_working_set_bytes)
		return 0;
	return fault_set(fault, FAULT_FAILED_PRECONDITION,
			 "a memory limit of %" PRId64 " bytes is less than the %" PRIu64 " bytes in use",
			 r->memory->limit, s.memory_working_set_bytes);
}

/* --- taking back ------------------------------------------------------------ */

void cgroup_undo_note(struct cgroup_undo *u, const struct cgroup *c, int h, const char *file) {
	struct cgroup_old *o = &u->list[u->n];
	if (h < 0 || u->n == CGROUP_UNDO_MAX || strlen(file) >= sizeof(o->file))
		return;
	for (size_t i = 0; i < u->n; i++)
		if (u->list[i].h == h && strcmp(u->list[i].file, file) == 0)
			return; /* the first is the oldest */
	if (cgroup_read(c, h, file, o->value, sizeof(o->value)) < 0)
		return;
	size_t line = strcspn(o->value, "\n");
	if (o->value[line] == '\0' || o->value[line + 1] != '\0')
		return;
	o->value[line] = '\0';
	o->h = h;
	snprintf(o->file, sizeof(o->file), "%s", file);
	u->n++;
}

/* How many weren't taken; the newest comes first. */
static size_t undo_round(const struct cgroup_undo *u, const struct cgroup *c, uint64_t *done) {
	size_t refused = 0;
	for (size_t i = u->n; i-- > 0;) {
		const struct cgroup_old *o = &u->list[i];
		if (*done >> i & 1)
			continue;
		if (cgroup_write(c, o->h, o->file, o->value) == 0)
			*done |= UINT64_C(1) << i;
		else
			refused++;
	}
	return refused;
}

void cgroup_undo(const struct cgroup_undo *u, const struct cgroup *c) {
	uint64_t done = 0;
	size_t refused = undo_round(u, c, &done), before = refused + 1;
	while (refused > 0 && refused < before) {
		before = refused;
		refused = undo_round(u, c, &done);
	}
}

/* --- writing ---------------------------------------------------------------- */

/* Writes those that aren't done; how many were refused, and why the last was. */
static size_t write_round(const struct cgroup *c, const struct cgroup_settings *s, bool v2, uint32_t *done,
			  struct cgroup_undo *undo, struct fault *fault) {
	size_t refused = 0;
	for (size_t i = 0; i < s->n; i++) {
		const struct cgroup_setting *t = &s->list[i];
		int h = cgroup_find(c->system, t->controller);
		if (*done >> i & 1 || h < 0 || c->system->hierarchies[h].v2 != v2)
			continue;
		cgroup_undo_note(undo, c, h, t->file);
		int r = cgroup_write(c, h, t->file, t->value);
		if (r == 0) {
			*done |= 1U << i;
			continue;
		}
		refused++;
		fault_errno(fault, r, "cgroup \"%s\": set %s to \"%s\"", c->path, t->file, t->value);
	}
	return refused;
}

static int settings_write(const struct cgroup *c, const struct cgroup_settings *s, bool v2, struct cgroup_undo *undo,
			  struct fault *fault) {
	uint32_t done = 0;
	size_t refused = write_round(c, s, v2, &done, undo, fault), before = refused + 1;
	while (refused > 0 && refused < before) {
		before = refused;
		refused = write_round(c, s, v2, &done, undo, fault);
	}
	return refused > 0 ? -EINVAL : 0;
}

static void warn_missing(const struct cgroup *c, const struct cgroup_settings *s, cgroup_warn_fn warn, void *ctx) {
	for (size_t i = 0; i < s->n; i++) {
		char text[160];
		if (cgroup_find(c->system, s->list[i].controller) >= 0)
			continue;
		snprintf(text, sizeof(text), "cgroup: %s can't be set to \"%s\": the machine has no such controller",
			 s->list[i].file, s->list[i].value);
		warn(ctx, text);
	}
}

int cgroup_update(struct cgroup *c, const Grpc__LinuxResources *resources, struct cgroup_undo *undo,
		  cgroup_warn_fn warn, void *ctx, struct fault *fault) {
	struct both b;
	settings_of(resources, &b);
	int r = check_memory(c, resources, fault);
	if (r == 0)
		r = cgroup_ensure(c, resources, fault);
	if (r == 0)
		r = settings_write(c, &b.v1, false, undo, fault);
	if (r == 0)
		r = settings_write(c, &b.v2, true, undo, fault);
	if (r == 0)
		warn_missing(c, &b.v2, warn, ctx);
	return r;
}
