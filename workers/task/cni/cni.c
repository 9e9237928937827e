/*
 * Owns the loaded configuration and what is known about the folder it came
 * from. There is always exactly one answer: a network that is ready, or a
 * sentence why there is none.
 *
 * A change is seen by the times of the folder and of the file that was read.
 * Times that are younger than a second when read prove nothing (two writes
 * can share a tick), so then it's read again the next time.
 */
#include "cni.h"
#include "conflist.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define IFNAME "eth0"

/* What a change of a file or folder changes. */
struct stamp {
	dev_t device;
	ino_t inode;
	off_t size;
	int64_t modified, changed;
};

struct cni {
	char *conf_dir, *cache_dir;
	char **bin_dirs;
	size_t n_bin_dirs;
	char *bin_text; /* as configured, for what people read */

	struct arena arena; /* of the configuration */
	struct conflist list;
	char file[256]; /* its name in conf_dir; "" when there is none */
	struct stamp dir_stamp, file_stamp;
	bool settled;
	struct fault fault;   /* why there is no configuration */
	struct fault missing; /* a plugin that isn't installed */
};

static int64_t ns_of(struct timespec t) {
	return t.tv_sec * NS_PER_SEC + t.tv_nsec;
}

/* All zero when it isn't there. */
static struct stamp stamp_of(int dir, const char *path) {
	struct stat st;
	if (fstatat(dir, path, &st, 0) < 0)
		return (struct stamp){ 0 };
	return (struct stamp){ st.st_dev, st.st_ino, st.st_size, ns_of(st.st_mtim), ns_of(st.st_ctim) };
}

static bool stamp_equal(const struct stamp *a, const struct stamp *b) {
	return a->device == b->device && a->inode == b->inode && a->size == b->size && a->modified == b->modified &&
	       a->changed == b->changed;
}

static int split_dirs(struct cni *c, const char *text) {
	size_t n = 1;
	for (const char *p = text; *p; p++)
		n += *p == ':';
	c->bin_text = strdup(text);
	c->bin_dirs = calloc(n, sizeof(*c->bin_dirs));
	if (!c->bin_text || !c->bin_dirs)
		return -ENOMEM;
	while (*text) {
		size_t size = strcspn(text, ":");
		if (size > 0) {
			c->bin_dirs[c->n_bin_dirs] = strndup(text, size);
			if (!c->bin_dirs[c->n_bin_dirs++])
				return -ENOMEM;
		}
		text += size + (text[size] == ':');
	}
	return 0;
}

int cni_new(const struct cni_options *options, struct cni **ret_cni) {
	struct cni *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->conf_dir = strdup(options->conf_dir);
	c->cache_dir = strdup(options->cache_dir && *options->cache_dir ? options->cache_dir : CNI_CACHE_DIR);
	if (!c->conf_dir || !c->cache_dir || split_dirs(c, options->bin_dirs) < 0) {
		cni_free(c);
		return -ENOMEM;
	}
	cni_refresh(c);
	*ret_cni = c;
	return 0;
}

void cni_free(struct cni *c) {
	if (!c)
		return;
	arena_deinit(&c->arena);
	for (size_t i = 0; i < c->n_bin_dirs; i++)
		free(c->bin_dirs[i]);
	free(c->bin_dirs);
	free(c->bin_text);
	free(c->conf_dir);
	free(c->cache_dir);
	free(c);
}

/* --- the folder --- */

static int is_configuration(const struct dirent *e) {
	const char *dot = strrchr(e->d_name, '.');
	if (!dot || dot == e->d_name || e->d_name[0] == '.')
		return 0;
	return strcmp(dot, ".conflist") == 0 || strcmp(dot, ".conf") == 0 || strcmp(dot, ".json") == 0;
}

/* By bytes, as other runtimes sort; the locale doesn't count. */
static int by_name(const struct dirent **a, const struct dirent **b) {
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* The name of the first configuration; "" when there is none. */
static int find_first(const char *dir, char *ret_name, size_t room) {
	struct dirent **entries;
	int n = scandir(dir, &entries, is_configuration, by_name);
	if (n < 0)
		return -errno;
	snprintf(ret_name, room, "%s", n > 0 ? entries[0]->d_name : "");
	for (int i = 0; i < n; i++)
		free(entries[i]);
	free(entries);
	return 0;
}

static int load_file(struct cni *c, int dir) {
	CLEANUP_FREE char *text = NULL;
	size_t size;
	/* Non-blocking, so that a pipe in the folder can't stop the worker. */
	CLEANUP_FD int fd = openat(dir, c->file, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return fault_errno(&c->fault, errno, "network configuration %s/%s", c->conf_dir, c->file);
	if (!S_ISREG(st.st_mode))
		return fault_set(&c->fault, FAULT_INVALID_ARGUMENT, "network configuration %s/%s: is no regular file",
				 c->conf_dir, c->file);
	int r = fd_read_all(fd, CONFLIST_SIZE_MAX, &text, &size);
	if (r < 0)
		return fault_errno(&c->fault, r, "network configuration %s/%s", c->conf_dir, c->file);
	r = conflist_parse(text, size, c->cache_dir, &c->arena, &c->list, &c->fault);
	return r < 0 ? fault_prefix(&c->fault, r, "network configuration %s/%s", c->conf_dir, c->file) : 0;
}

static void load(struct cni *c) {
	arena_deinit(&c->arena);
	arena_init(&c->arena, 8 * CONFLIST_SIZE_MAX);
	c->list = (struct conflist){ 0 };
	c->fault = (struct fault){ 0 };
	c->file[0] = '\0';
	/* The stamps first: a change that comes after them is seen next time. */
	int64_t now = clock_real();
	CLEANUP_FD int dir = open(c->conf_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = dir < 0 ? -errno : find_first(c->conf_dir, c->file, sizeof(c->file));
	c->dir_stamp = stamp_of(AT_FDCWD, c->conf_dir);
	c->file_stamp = dir >= 0 && *c->file ? stamp_of(dir, c->file) : (struct stamp){ 0 };
	c->settled = now - MAX(c->dir_stamp.changed, c->file_stamp.changed) > NS_PER_SEC;
	if (r < 0 && r != -ENOENT)
		fault_errno(&c->fault, r, "no network configuration: read %s", c->conf_dir);
	else if (!*c->file)
		fault_set(&c->fault, FAULT_FAILED_PRECONDITION,
			  "no network configuration in %s: put a *.conflist there", c->conf_dir);
	else
		load_file(c, dir);
}

/* A plugin that is to be executed and can't be found. Folders that this
 * process can't see at all prove nothing. */
static void find_plugins(struct cni *c) {
	c->missing = (struct fault){ 0 };
	for (size_t i = 0; i < c->list.n_plugins; i++) {
		const Bulkhead__NetworkPlan__Plugin *p = c->list.plugins[i];
		bool found = p->native_case != BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE__NOT_SET, seen = false;
		for (size_t d = 0; !found && d < c->n_bin_dirs; d++) {
			CLEANUP_FD int dir = open(c->bin_dirs[d], O_PATH | O_DIRECTORY | O_CLOEXEC);
			seen |= dir >= 0;
			found = dir >= 0 && faccessat(dir, p->type, X_OK, AT_EACCESS) == 0;
		}
		if (found || !seen)
			continue;
		fault_set(&c->missing, FAULT_FAILED_PRECONDITION,
			  "network \"%s\" needs the CNI plugin \"%s\", which is in none of %s", c->list.name, p->type,
			  c->bin_text);
		return;
	}
}

void cni_refresh(struct cni *c) {
	struct stamp dir = stamp_of(AT_FDCWD, c->conf_dir), file = { 0 };
	if (*c->file) {
		char path[4096];
		snprintf(path, sizeof(path), "%s/%s", c->conf_dir, c->file);
		file = stamp_of(AT_FDCWD, path);
	}
	bool same = c->settled && stamp_equal(&dir, &c->dir_stamp) && stamp_equal(&file, &c->file_stamp);
	if (!same)
		load(c);
	if (!same || c->missing.code != FAULT_NONE)
		find_plugins(c);
}

/* --- the answer --- */

bool cni_ready(struct cni *c) {
	cni_refresh(c);
	return c->fault.code == FAULT_NONE && c->missing.code == FAULT_NONE;
}

const char *cni_name(const struct cni *c) {
	return c->fault.code == FAULT_NONE ? c->list.name : "";
}

const char *cni_reason(const struct cni *c) {
	return c->fault.code == FAULT_NONE && c->missing.code == FAULT_NONE ? "" : "NetworkPluginNotReady";
}

const char *cni_message(const struct cni *c) {
	return c->fault.code != FAULT_NONE ? c->fault.text : c->missing.code != FAULT_NONE ? c->missing.text : "";
}

/* CNI_ARGS is a list in one string, so a value can't have what separates it. */
static bool args_value_valid(const char *value) {
	for (; *value; value++)
		if (*value <= ' ' || *value == ';' || *value == '=' || *value == 0x7f)
			return false;
	return true;
}

static int plan_args(const Bulkhead__SandboxStartRequest *s, struct arena *arena, Bulkhead__NetworkPlan *plan,
		     struct fault *fault) {
	const char *values[] = { s->namespace_, s->name, s->id, s->uid };
	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		if (!args_value_valid(values[i]))
			return fault_set(
			    fault, FAULT_INVALID_ARGUMENT,
			    "\"%.64s\" can't be told to CNI plugins: no space, \";\" or \"=\" in a pod's name, "
			    "namespace, id or uid",
			    values[i]);
	plan->cni_args = arena_printf(arena,
				      "IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;"
				      "K8S_POD_INFRA_CONTAINER_ID=%s;K8S_POD_UID=%s",
				      values[0], values[1], values[2], values[3]);
	return plan->cni_args ? 0 : fault_errno(fault, ENOMEM, "configure the pod's network");
}

/* A copy of an executed plugin with this pod's runtimeConfig in it. */
static int plan_plugin(const struct conflist *list, size_t i, const Bulkhead__SandboxStartRequest *sandbox,
		       struct arena *arena, Bulkhead__NetworkPlan__Plugin **ret_plugin, struct fault *fault) {
	const char *runtime = NULL;
	*ret_plugin = list->plugins[i];
	if (list->capabilities[i] == 0)
		return 0;
	int r = runtime_config(list->capabilities[i], sandbox, arena, &runtime, fault);
	if (r < 0 || !runtime)
		return r;
	const char *config = list->plugins[i]->config_json;
	Bulkhead__NetworkPlan__Plugin *p = arena_alloc(arena, sizeof(*p));
	/* The object was written by us and isn't empty: it ends with its brace. */
	char *text = arena_printf(arena, "%.*s,\"runtimeConfig\":%s}", (int)strlen(config) - 1, config, runtime);
	if (!p || !text)
		return fault_errno(fault, ENOMEM, "configure the pod's network");
	*p = *list->plugins[i];
	p->config_json = text;
	*ret_plugin = p;
	return 0;
}

/* Those that are to be published; host port 0 is none. */
static int plan_ports(const Bulkhead__SandboxStartRequest *s, struct arena *arena, Bulkhead__NetworkPlan *plan,
		      struct fault *fault) {
	plan->port_mappings = arena_alloc(arena, (s->n_port_mappings + 1) * sizeof(*plan->port_mappings));
	if (!plan->port_mappings)
		return fault_errno(fault, ENOMEM, "configure the pod's network");
	for (size_t i = 0; i < s->n_port_mappings; i++)
		if (s->port_mappings[i]->host_port != 0)
			plan->port_mappings[plan->n_port_mappings++] = s->port_mappings[i];
	return 0;
}

int cni_plan(struct cni *c, const Bulkhead__SandboxStartRequest *sandbox, struct arena *arena,
	     Bulkhead__NetworkPlan **ret_plan, struct fault *fault) {
	if (!cni_ready(c))
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "%s", cni_message(c));
	Bulkhead__NetworkPlan *plan = arena_alloc(arena, sizeof(*plan));
	Bulkhead__NetworkPlan__Plugin **plugins = arena_alloc(arena, c->list.n_plugins * sizeof(*plugins));
	if (!plan || !plugins)
		return fault_errno(fault, ENOMEM, "configure the pod's network");
	bulkhead__network_plan__init(plan);
	plan->name = (char *)c->list.name;
	plan->cni_version = (char *)c->list.cni_version;
	plan->plugins = plugins;
	plan->bin_dirs = c->bin_dirs;
	plan->n_bin_dirs = c->n_bin_dirs;
	plan->ifname = (char *)IFNAME;
	plan->cache_dir = c->cache_dir;
	int r = plan_ports(sandbox, arena, plan, fault);
	for (size_t i = 0; r == 0 && i < c->list.n_plugins; i++, plan->n_plugins++)
		r = plan_plugin(&c->list, i, sandbox, arena, &plugins[i], fault);
	if (r == 0 && c->list.executes)
		r = plan_args(sandbox, arena, plan, fault);
	if (r == 0)
		*ret_plan = plan;
	return r;
}
