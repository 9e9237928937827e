#include "workers/keeper/cgroup.h"

#include "base/fd.h"
#include "workers/keeper/cgroup_private.h"

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* --- what the machine has --- */

static const struct {
	const char *name;
	unsigned bit;
} controllers[] = {
	{ "cpu", CGROUP_CPU },	     { "cpuacct", CGROUP_CPUACCT }, { "cpuset", CGROUP_CPUSET },
	{ "memory", CGROUP_MEMORY }, { "devices", CGROUP_DEVICES }, { "freezer", CGROUP_FREEZER },
	{ "pids", CGROUP_PIDS },     { "hugetlb", CGROUP_HUGETLB }, { "blkio", CGROUP_BLKIO },
	{ "io", CGROUP_BLKIO },
};

static unsigned controllers_parse(const char *text, const char *separators) {
	unsigned set = 0;
	while (*text) {
		size_t n = strcspn(text, separators);
		for (size_t i = 0; i < ARRAY_SIZE(controllers); i++)
			if (strlen(controllers[i].name) == n && memcmp(text, controllers[i].name, n) == 0)
				set |= controllers[i].bit;
		text += n;
		text += strspn(text, separators);
	}
	return set;
}

unsigned cgroup_controllers_parse(const char *text) {
	return controllers_parse(text, " \n");
}

/* The v1 part of a superblock's options: controllers or a name, as a new mount
 * of the hierarchy would ask for it. */
static void name_parse(char *options, struct cgroup_hierarchy *h) {
	char *save = NULL;
	for (char *o = strtok_r(options, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
		if (!controllers_parse(o, ",") && strncmp(o, "name=", 5) != 0)
			continue;
		size_t used = strlen(h->name);
		snprintf(h->name + used, sizeof(h->name) - used, "%s%s", used ? "," : "", o);
	}
}

static bool hierarchy_known(const struct cgroup_system *s, const struct cgroup_hierarchy *h) {
	for (size_t i = 0; i < s->n; i++)
		if (s->hierarchies[i].v2 == h->v2 && strcmp(s->hierarchies[i].name, h->name) == 0)
			return true;
	return false;
}

/* "<id> <parent> <dev> <root> <mount point> <options> [tags] - <type> <source> <superblock options>" */
static void line_parse(char *line, struct cgroup_system *s) {
	char *rest = strstr(line, " - ");
	char *save = NULL, *point = NULL;
	if (!rest || s->n == CGROUP_HIERARCHIES_MAX)
		return;
	*rest = '\0';
	char *p = strtok_r(line, " ", &save);
	for (int i = 0; p && i < 4; i++)
		point = p = strtok_r(NULL, " ", &save);
	char *type = strtok_r(rest + 3, " ", &save);
	char *source = strtok_r(NULL, " ", &save);
	char *options = strtok_r(NULL, " ", &save);
	struct cgroup_hierarchy h = { 0 };
	if (!point || !type || !source || !options || strlen(point) >= sizeof(h.mount))
		return;
	h.v2 = strcmp(type, "cgroup2") == 0;
	if (!h.v2 && strcmp(type, "cgroup") != 0)
		return;
	strcpy(h.mount, point);
	if (!h.v2) {
		h.controllers = controllers_parse(options, ",");
		name_parse(options, &h);
	}
	if (!hierarchy_known(s, &h))
		s->hierarchies[s->n++] = h;
}

static void system_choose(struct cgroup_system *s) {
	s->v2 = s->tracker = -1;
	for (size_t i = 0; i < s->n; i++)
		if (s->hierarchies[i].v2)
			s->v2 = s->tracker = (int)i;
	if (s->tracker < 0)
		s->tracker = cgroup_find(s, CGROUP_FREEZER);
	if (s->tracker < 0)
		s->tracker = cgroup_find(s, CGROUP_PIDS);
}

void cgroup_system_parse(char *mountinfo, struct cgroup_system *ret_system) {
	struct cgroup_system s = { 0 };
	char *save = NULL;
	for (char *line = strtok_r(mountinfo, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		line_parse(line, &s);
	system_choose(&s);
	*ret_system = s;
}

int cgroup_system_detect(struct cgroup_system *ret_system) {
	CLEANUP_FD int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE char *text = NULL;
	if (fd < 0)
		return -errno;
	int r = fd_read_all(fd, 16 * 1024 * 1024, &text, NULL);
	if (r < 0)
		return r;
	cgroup_system_parse(text, ret_system);
	if (ret_system->v2 < 0)
		return 0;
	/* The v2 controllers are those that no v1 hierarchy has taken. */
	struct cgroup root = { .system = ret_system };
	char names[256];
	if (cgroup_read(&root, ret_system->v2, "cgroup.controllers", names, sizeof(names)) == 0)
		ret_system->hierarchies[ret_system->v2].controllers = controllers_parse(names, " \n");
	/* Device rules of v2 are a program and no controller. */
	if (cgroup_find(ret_system, CGROUP_DEVICES) < 0)
		ret_system->hierarchies[ret_system->v2].controllers |= CGROUP_DEVICES;
	if (cgroup_find(ret_system, CGROUP_CPUACCT) < 0)
		ret_system->hierarchies[ret_system->v2].controllers |= CGROUP_CPUACCT;
	return 0;
}

int cgroup_find(const struct cgroup_system *s, unsigned controller) {
	for (size_t i = 0; i < s->n; i++)
		if (s->hierarchies[i].controllers & controller)
			return (int)i;
	return -1;
}

/* --- files --- */

bool cgroup_path_valid(const char *path) {
	size_t n = strlen(path);
	if (path[0] != '/' || n < 2 || n >= CGROUP_PATH_MAX - NAME_MAX || path[n - 1] == '/')
		return false;
	for (const char *p = path; *p; p++) {
		if ((unsigned char)*p <= 0x20 || *p == 0x7f)
			return false;
		size_t size = *p == '/' ? strcspn(p + 1, "/") : 1;
		if (size == 0 || (*p == '/' && size <= 2 && strspn(p + 1, ".") >= size))
			return false;
	}
	return true;
}

int cgroup_file_open(const struct cgroup *c, int h, const char *file, int flags) {
	char path[CGROUP_PATH_MAX + 128];
	if ((size_t)snprintf(path, sizeof(path), "%s%s/%s", c->system->hierarchies[h].mount, c->path, file) >=
	    sizeof(path))
		return -ENAMETOOLONG;
	int fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int cgroup_write(const struct cgroup *c, int h, const char *file, const char *value) {
	CLEANUP_FD int fd = cgroup_file_open(c, h, file, O_WRONLY);
	return fd < 0 ? fd : fd_write_all(fd, value, strlen(value));
}

int cgroup_read(const struct cgroup *c, int h, const char *file, char *ret_text, size_t size) {
	CLEANUP_FD int fd = cgroup_file_open(c, h, file, O_RDONLY);
	if (fd < 0)
		return fd;
	size_t used = 0;
	while (used < size - 1) {
		ssize_t n = read(fd, ret_text + used, size - 1 - used);
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		used += (size_t)n;
	}
	ret_text[used] = '\0';
	return 0;
}

uint64_t cgroup_field(const char *text, const char *key) {
	size_t n = strlen(key);
	while (text && *text) {
		if (strncmp(text, key, n) == 0 && text[n] == ' ')
			return strtoull(text + n + 1, NULL, 10);
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	return 0;
}

/* --- making --- */

static void folder_path(const struct cgroup *c, int h, size_t path_size, char ret[CGROUP_PATH_MAX + 64]) {
	snprintf(ret, CGROUP_PATH_MAX + 64, "%s%.*s", c->system->hierarchies[h].mount, (int)path_size, c->path);
}

/* A new v1 cpuset is empty, and nobody may enter it, until it gets what its
 * parent has. */
static int cpuset_fill(const char *folder) {
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char path[PATH_MAX];
		CLEANUP_FREE char *text = NULL;
		snprintf(path, sizeof(path), "%s/../%s", folder, files[i]);
		CLEANUP_FD int from = open(path, O_RDONLY | O_CLOEXEC);
		snprintf(path, sizeof(path), "%s/%s", folder, files[i]);
		CLEANUP_FD int to = open(path, O_WRONLY | O_CLOEXEC);
		if (from < 0 || to < 0)
			return -errno;
		int r = fd_read_all(from, 4096, &text, NULL);
		if (r == 0)
			r = fd_write_all(to, text, strlen(text));
		if (r < 0)
			return r;
	}
	return 0;
}

/* Gives the children of the folder those v2 controllers that they need. */
static int subtree_enable(const char *folder, unsigned needed) {
	char path[CGROUP_PATH_MAX + 128], have[256] = "", want[128];
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", folder);
	CLEANUP_FD int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (read(fd, have, sizeof(have) - 1) < 0)
		return -errno;
	unsigned missing = needed & ~controllers_parse(have, " \n");
	for (size_t i = 0; i < ARRAY_SIZE(controllers); i++) {
		bool v1_name = strcmp(controllers[i].name, "blkio") == 0;
		if (v1_name || !(missing & controllers[i].bit))
			continue;
		int n = snprintf(want, sizeof(want), "+%s", controllers[i].name);
		if (write(fd, want, (size_t)n) < 0)
			return -errno;
	}
	return 0;
}

#define V2_REAL (CGROUP_CPU | CGROUP_CPUSET | CGROUP_MEMORY | CGROUP_PIDS | CGROUP_HUGETLB | CGROUP_BLKIO)

/* All of the path below hierarchy h, folder by folder. */
static int folders_make(const struct cgroup *c, int h, unsigned needed) {
	const struct cgroup_hierarchy *hierarchy = &c->system->hierarchies[h];
	char folder[CGROUP_PATH_MAX + 64];
	size_t at = 0;
	do {
		if (hierarchy->v2 && needed & V2_REAL & hierarchy->controllers) {
			folder_path(c, h, at, folder);
			int r = subtree_enable(folder, needed & V2_REAL & hierarchy->controllers);
			if (r < 0)
				return r;
		}
		at += 1 + strcspn(c->path + at + 1, "/");
		folder_path(c, h, at, folder);
		if (mkdir(folder, 0755) < 0) {
			if (errno != EEXIST)
				return -errno;
			continue;
		}
		int r = !hierarchy->v2 && hierarchy->controllers & CGROUP_CPUSET ? cpuset_fill(folder) : 0;
		if (r < 0)
			return r;
	} while (c->path[at]);
	return 0;
}

/* The leaf alone: its parents are nearly always there. */
int cgroup_folder_make(const struct cgroup *c, int h, unsigned needed) {
	const struct cgroup_hierarchy *hierarchy = &c->system->hierarchies[h];
	bool simple = hierarchy->v2 ? !(needed & V2_REAL & hierarchy->controllers)
				    : !(hierarchy->controllers & CGROUP_CPUSET);
	if (simple) {
		char folder[CGROUP_PATH_MAX + 64];
		folder_path(c, h, strlen(c->path), folder);
		if (mkdir(folder, 0755) == 0 || errno == EEXIST)
			return 0;
		if (errno != ENOENT)
			return -errno;
	}
	/* A pod next door may be removing a parent that it shares with us. */
	int r = -ENOENT;
	for (int i = 0; r == -ENOENT && i < 8; i++)
		r = folders_make(c, h, needed);
	return r;
}

void cgroup_settings_add(struct cgroup_settings *s, unsigned controller, bool needed, const char *file,
			 const char *format, ...) {
	if (s->n == CGROUP_SETTINGS_MAX)
		return;
	struct cgroup_setting *t = &s->list[s->n++];
	*t = (struct cgroup_setting){ .controller = controller, .needed = needed };
	snprintf(t->file, sizeof(t->file), "%s", file);
	va_list ap;
	va_start(ap, format);
	vsnprintf(t->value, sizeof(t->value), format, ap);
	va_end(ap);
}

bool cgroup_pagesize_valid(const char *text) {
	size_t digits = strspn(text, "0123456789");
	return digits > 0 && digits < 6 && strspn(text + digits, "KMGB") == strlen(text + digits) && strlen(text) < 9;
}

static unsigned settings_controllers(const struct cgroup_settings *s) {
	unsigned set = 0;
	for (size_t i = 0; i < s->n; i++)
		set |= s->list[i].controller;
	return set;
}

/* Writes those settings that belong to a hierarchy of this version. */
static int settings_write(const struct cgroup *c, const struct cgroup_settings *s, bool v2, cgroup_warn_fn warn,
			  void *ctx, struct fault *fault) {
	for (size_t i = 0; i < s->n; i++) {
		const struct cgroup_setting *t = &s->list[i];
		int h = cgroup_find(c->system, t->controller);
		if (h >= 0 && c->system->hierarchies[h].v2 != v2)
			continue;
		int r = h < 0 ? -ENODEV : cgroup_write(c, h, t->file, t->value);
		if (r == 0)
			continue;
		if (t->needed && (h >= 0 || !v2))
			return fault_errno(fault, r, "cgroup \"%s\": set %s to \"%s\"", c->path, t->file, t->value);
		char text[256];
		snprintf(text, sizeof(text), "cgroup: %s can't be set to \"%s\": %s", t->file, t->value,
			 strerrordesc_np(-r));
		if (warn && (h >= 0 || v2))
			warn(ctx, text);
	}
	return 0;
}

static int devices_set(const struct cgroup *c, const Grpc__LinuxResources *resources, struct fault *fault) {
	struct device_rules rules;
	int h = cgroup_find(c->system, CGROUP_DEVICES);
	int r = device_rules_make(resources, &rules, fault);
	if (r < 0 || h < 0)
		return r;
	if (!c->system->hierarchies[h].v2) {
		r = device_rules_v1(c, h, &rules);
	} else {
		CLEANUP_FD int fd = cgroup_open_v2(c);
		r = fd < 0 ? -EBADF : device_rules_v2(fd, &rules);
	}
	return r < 0 ? fault_errno(fault, r, "cgroup \"%s\": set device rules", c->path) : 0;
}

static int fill(struct cgroup *c, const Grpc__LinuxResources *resources, bool devices, cgroup_warn_fn warn, void *ctx,
		struct fault *fault) {
	struct cgroup_settings v1 = { 0 }, v2 = { 0 };
	if (resources) {
		cgroup_v1_settings(resources, &v1);
		cgroup_v2_settings(resources, &v2);
	}
	/* Figures need memory, CPU accounting and pids; the rest only its limits. */
	unsigned needed = CGROUP_CPUACCT | CGROUP_MEMORY | CGROUP_PIDS | (devices ? CGROUP_DEVICES : 0) |
			  settings_controllers(&v1) | settings_controllers(&v2);
	if (c->system->v2 >= 0)
		needed |= CGROUP_CPU; /* cpu.stat of a pure v2 system */
	if (cgroup_find(c->system, CGROUP_CPU) != c->system->v2)
		needed &= ~(unsigned)CGROUP_CPU | settings_controllers(&v1);
	for (int h = 0; h < (int)c->system->n; h++) {
		if (h != c->system->tracker && h != c->system->v2 && !(c->system->hierarchies[h].controllers & needed))
			continue;
		int r = cgroup_folder_make(c, h, needed);
		if (r < 0)
			return fault_errno(fault, r, "make cgroup \"%s%s\"", c->system->hierarchies[h].mount, c->path);
		c->made |= 1U << h;
	}
	const Grpc__LinuxBlockIO *io = resources ? resources->blockio : NULL;
	if (warn && io &&
	    (io->n_throttlereadbpsdevice || io->n_throttlewritebpsdevice || io->n_throttlereadiopsdevice ||
	     io->n_throttlewriteiopsdevice || io->n_weightdevice))
		warn(ctx, "cgroup: limits of single block devices are not set");
	int r = settings_write(c, &v1, false, warn, ctx, fault);
	if (r == 0)
		r = settings_write(c, &v2, true, warn, ctx, fault);
	if (r == 0 && devices)
		r = devices_set(c, resources, fault);
	return r;
}

int cgroup_create(const struct cgroup_system *s, const char *path, const Grpc__LinuxResources *resources, bool devices,
		  cgroup_warn_fn warn, void *ctx, struct cgroup *ret_cgroup, struct fault *fault) {
	struct cgroup c = { .system = s };
	if (!cgroup_path_valid(path))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is not a path of a cgroup", path);
	strcpy(c.path, path);
	int r = fill(&c, resources, devices, warn, ctx, fault);
	if (r < 0) {
		cgroup_remove(&c);
		return r;
	}
	*ret_cgroup = c;
	return 0;
}

void cgroup_adopt(const struct cgroup_system *s, const char *path, struct cgroup *ret_cgroup) {
	struct cgroup c = { .system = s };
	snprintf(c.path, sizeof(c.path), "%s", path);
	for (int h = 0; h < (int)s->n; h++) {
		char folder[CGROUP_PATH_MAX + 64];
		folder_path(&c, h, strlen(c.path), folder);
		if (access(folder, F_OK) == 0)
			c.made |= 1U << h;
	}
	*ret_cgroup = c;
}

int cgroup_create_sub(const struct cgroup *c, const char *name, struct cgroup *ret_cgroup) {
	struct cgroup sub = { .system = c->system };
	int h = c->system->tracker;
	if (h < 0 || !(c->made >> h & 1))
		return -ENODEV;
	if ((size_t)snprintf(sub.path, sizeof(sub.path), "%s/%s", c->path, name) >= sizeof(sub.path))
		return -ENAMETOOLONG;
	int r = cgroup_folder_make(&sub, h, 0);
	if (r < 0)
		return r;
	sub.made = 1U << h;
	*ret_cgroup = sub;
	return 0;
}

/* --- processes --- */

int cgroup_open_v2(const struct cgroup *c) {
	if (!c->system || c->system->v2 < 0 || !(c->made >> c->system->v2 & 1))
		return -1;
	int fd = cgroup_file_open(c, c->system->v2, ".", O_PATH | O_DIRECTORY);
	return fd < 0 ? -1 : fd;
}

int cgroup_enter_v1(const struct cgroup *c) {
	for (int h = 0; c->system && h < (int)c->system->n; h++) {
		if (!(c->made >> h & 1) || c->system->hierarchies[h].v2)
			continue;
		int r = cgroup_write(c, h, "tasks", "0");
		if (r < 0)
			return r;
	}
	return 0;
}
