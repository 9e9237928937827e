/*
 * Figures of a control group as the kernel has them, under the kernel's own
 * names, for clients that know those: "memory.stat/anon", "pids.current". What
 * the files of a version are called, and how each is read, is the table.
 */
#include "workers/keeper/cgroup_private.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_SIZE 8192
#define FIGURES_MAX 512

enum form {
	VALUE, /* one number, or "max" */
	LINES, /* "name number" each: file/name */
	LIST,  /* numbers: file/0, file/1, ... */
};

static const struct figure_file {
	bool v2;
	unsigned controller;
	const char *name;
	enum form form;
} files[] = {
	{ true, CGROUP_MEMORY, "memory.stat", LINES },
	{ true, CGROUP_MEMORY, "memory.events", LINES },
	{ true, CGROUP_MEMORY, "memory.current", VALUE },
	{ true, CGROUP_MEMORY, "memory.max", VALUE },
	{ true, CGROUP_MEMORY, "memory.peak", VALUE },
	{ true, CGROUP_MEMORY, "memory.swap.current", VALUE },
	{ true, CGROUP_MEMORY, "memory.swap.max", VALUE },
	{ true, CGROUP_MEMORY, "memory.swap.peak", VALUE },
	{ true, CGROUP_CPUACCT, "cpu.stat", LINES },
	{ true, CGROUP_PIDS, "pids.current", VALUE },
	{ true, CGROUP_PIDS, "pids.max", VALUE },
	{ false, CGROUP_MEMORY, "memory.stat", LINES },
	{ false, CGROUP_MEMORY, "memory.oom_control", LINES },
	{ false, CGROUP_MEMORY, "memory.usage_in_bytes", VALUE },
	{ false, CGROUP_MEMORY, "memory.limit_in_bytes", VALUE },
	{ false, CGROUP_MEMORY, "memory.max_usage_in_bytes", VALUE },
	{ false, CGROUP_MEMORY, "memory.failcnt", VALUE },
	{ false, CGROUP_MEMORY, "memory.memsw.usage_in_bytes", VALUE },
	{ false, CGROUP_MEMORY, "memory.memsw.limit_in_bytes", VALUE },
	{ false, CGROUP_MEMORY, "memory.memsw.max_usage_in_bytes", VALUE },
	{ false, CGROUP_MEMORY, "memory.memsw.failcnt", VALUE },
	{ false, CGROUP_MEMORY, "memory.kmem.usage_in_bytes", VALUE },
	{ false, CGROUP_MEMORY, "memory.kmem.limit_in_bytes", VALUE },
	{ false, CGROUP_MEMORY, "memory.kmem.max_usage_in_bytes", VALUE },
	{ false, CGROUP_MEMORY, "memory.kmem.failcnt", VALUE },
	{ false, CGROUP_MEMORY, "memory.kmem.tcp.usage_in_bytes", VALUE },
	{ false, CGROUP_MEMORY, "memory.kmem.tcp.limit_in_bytes", VALUE },
	{ false, CGROUP_MEMORY, "memory.kmem.tcp.max_usage_in_bytes", VALUE },
	{ false, CGROUP_MEMORY, "memory.kmem.tcp.failcnt", VALUE },
	{ false, CGROUP_CPU, "cpu.stat", LINES },
	{ false, CGROUP_CPUACCT, "cpuacct.usage", VALUE },
	{ false, CGROUP_CPUACCT, "cpuacct.usage_user", VALUE },
	{ false, CGROUP_CPUACCT, "cpuacct.usage_sys", VALUE },
	{ false, CGROUP_CPUACCT, "cpuacct.usage_percpu", LIST },
	{ false, CGROUP_PIDS, "pids.current", VALUE },
	{ false, CGROUP_PIDS, "pids.max", VALUE },
};

static void add(struct arena *a, Bulkhead__TaskStats *s, char *name, const char *text) {
	Bulkhead__KernelFigure *f = s->n_figures < FIGURES_MAX ? arena_alloc(a, sizeof(*f)) : NULL;
	if (!f || !name)
		return;
	*f = (Bulkhead__KernelFigure)BULKHEAD__KERNEL_FIGURE__INIT;
	f->name = name;
	f->value = strncmp(text, "max", 3) == 0 ? UINT64_MAX : strtoull(text, NULL, 10);
	s->figures[s->n_figures++] = f;
}

static void add_lines(struct arena *a, Bulkhead__TaskStats *s, const char *file, char *text) {
	char *save = NULL;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *blank = strchr(line, ' ');
		if (blank)
			add(a, s, arena_printf(a, "%s/%.*s", file, (int)(blank - line), line), blank + 1);
	}
}

static void add_list(struct arena *a, Bulkhead__TaskStats *s, const char *file, char *text) {
	char *save = NULL;
	unsigned i = 0;
	for (char *word = strtok_r(text, " \n", &save); word; word = strtok_r(NULL, " \n", &save))
		add(a, s, arena_printf(a, "%s/%u", file, i++), word);
}

static void add_file(struct arena *a, const struct cgroup *c, int h, const struct figure_file *f,
		     Bulkhead__TaskStats *s) {
	char text[TEXT_SIZE];
	if (cgroup_read(c, h, f->name, text, sizeof(text)) < 0)
		return; /* not of this kernel */
	switch (f->form) {
	case VALUE:
		add(a, s, (char *)(uintptr_t)f->name, text);
		break;
	case LINES:
		add_lines(a, s, f->name, text);
		break;
	case LIST:
		add_list(a, s, f->name, text);
		break;
	}
}

/* Of the one version that the machine's controllers are in; with v1's, the v2
 * hierarchy of a hybrid has none. */
static bool is_unified(const struct cgroup_system *system) {
	int h = cgroup_find(system, CGROUP_MEMORY);
	if (h < 0)
		h = cgroup_find(system, CGROUP_PIDS);
	return h >= 0 ? system->hierarchies[h].v2 : system->v2 >= 0;
}

void cgroup_figures(struct arena *a, const struct cgroup *c, Bulkhead__TaskStats *s) {
	s->figures = c->system ? arena_alloc(a, FIGURES_MAX * sizeof(*s->figures)) : NULL;
	if (!s->figures)
		return;
	s->unified = is_unified(c->system);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		int h = cgroup_find(c->system, files[i].controller);
		if (h >= 0 && c->made >> h & 1 && c->system->hierarchies[h].v2 == files[i].v2)
			add_file(a, c, h, &files[i], s);
	}
}
