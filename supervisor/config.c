/*
 * One table of keys; reading a line, checking a value, copying what a reload
 * may change all walk it. A wrong line is an error with its place, never
 * skipped: a daemon that runs with half of what was asked for is worse than
 * one that doesn't start.
 */
#include "supervisor/config.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/unit.h"
#include "supervisor/account.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define FILE_MAX (64 * 1024)

enum kind { PATH, PATH_LIST, TEXT, NUMBER, LEVEL, DRIVER, CHOICE, GROUP };

struct key {
	const char *name;
	enum kind kind;
	size_t offset, size;	    /* of the field; size is that of text */
	uint32_t min, max;	    /* of a number */
	bool live;		    /* a reload may change it */
	const char *const *choices; /* words, by their numbers; ends with NULL */
};

static const char *const modes[] = { [BOOT_HOST] = "host", [BOOT_AGENT] = "agent", NULL };
static const char *const vmms[] = { [BOOT_VMM_QEMU] = "qemu", [BOOT_VMM_UML] = "uml", NULL };
static const char *const accels[] = {
	[BOOT_ACCEL_AUTO] = "auto", [BOOT_ACCEL_KVM] = "kvm", [BOOT_ACCEL_TCG] = "tcg", NULL
};

#define TEXT_FIELD(field) .offset = offsetof(struct config, field), .size = sizeof(((struct config *)0)->field)
#define NUMBER_FIELD(field) .offset = offsetof(struct config, field)

static const struct key keys[] = {
	{ .name = "mode", .kind = CHOICE, NUMBER_FIELD(boot.mode), .choices = modes },
	{ .name = "state_root", .kind = PATH, TEXT_FIELD(boot.state_root) },
	{ .name = "run_root", .kind = PATH, TEXT_FIELD(boot.run_root) },
	{ .name = "certs_dir", .kind = PATH, TEXT_FIELD(boot.certs_dir) },
	{ .name = "cni_conf_dir", .kind = PATH, TEXT_FIELD(boot.cni_conf_dir) },
	{ .name = "cni_bin_dirs", .kind = PATH_LIST, TEXT_FIELD(boot.cni_bin_dirs) },
	{ .name = "cni_cache_dir", .kind = PATH, TEXT_FIELD(boot.cni_cache_dir) },
	{ .name = "cgroup_parent", .kind = GROUP, TEXT_FIELD(boot.cgroup_parent) },
	{ .name = "cgroup_driver", .kind = DRIVER, NUMBER_FIELD(boot.cgroup_driver) },
	{ .name = "criu", .kind = PATH, TEXT_FIELD(boot.criu) },
	{ .name = "vm_vmm", .kind = CHOICE, NUMBER_FIELD(boot.vm.vmm), .choices = vmms },
	{ .name = "vm_uml", .kind = PATH, TEXT_FIELD(boot.vm.uml) },
	{ .name = "vm_qemu", .kind = PATH, TEXT_FIELD(boot.vm.qemu) },
	{ .name = "vm_virtiofsd", .kind = PATH, TEXT_FIELD(boot.vm.virtiofsd) },
	{ .name = "vm_kernel", .kind = PATH, TEXT_FIELD(boot.vm.kernel) },
	{ .name = "vm_initrd", .kind = PATH, TEXT_FIELD(boot.vm.initrd) },
	{ .name = "vm_parameters", .kind = TEXT, TEXT_FIELD(boot.vm.parameters) },
	{ .name = "vm_memory_mb", .kind = NUMBER, NUMBER_FIELD(boot.vm.memory_mb), .min = 64, .max = 1024 * 1024 },
	{ .name = "vm_cpus", .kind = NUMBER, NUMBER_FIELD(boot.vm.cpus), .min = 1, .max = 256 },
	{ .name = "vm_accel", .kind = CHOICE, NUMBER_FIELD(boot.vm.accel), .choices = accels },
	{ .name = "agent_run_root", .kind = PATH, TEXT_FIELD(boot.agent_run_root) },
	{ .name = "agent_sysfs", .kind = PATH, TEXT_FIELD(boot.agent_sysfs) },
	{ .name = "agent_resolv_conf", .kind = PATH, TEXT_FIELD(boot.agent_resolv_conf) },
	{ .name = "agent_hotplug_timeout_s",
	  .kind = NUMBER,
	  NUMBER_FIELD(boot.agent_hotplug_timeout_s),
	  .min = 1,
	  .max = 3600 },
	{ .name = "agent_ends", .kind = NUMBER, NUMBER_FIELD(boot.agent_ends), .max = 1 },
	{ .name = "uid_base", .kind = NUMBER, NUMBER_FIELD(uid_base), .min = 1, .max = INT32_MAX - ROLE_COUNT },
	{ .name = "log_level", .kind = LEVEL, NUMBER_FIELD(boot.log_level), .live = true },
	{ .name = "max_concurrent_downloads",
	  .kind = NUMBER,
	  NUMBER_FIELD(boot.max_concurrent_downloads),
	  .min = 1,
	  .max = 64,
	  .live = true },
	{ .name = "pull_progress_timeout_s",
	  .kind = NUMBER,
	  NUMBER_FIELD(boot.pull_progress_timeout_s),
	  .max = 86400,
	  .live = true },
	{ .name = "log_line_max",
	  .kind = NUMBER,
	  NUMBER_FIELD(boot.log_line_max),
	  .min = 128,
	  .max = 1024 * 1024,
	  .live = true },
	{ .name = "stream_address", .kind = TEXT, TEXT_FIELD(stream_address) },
	{ .name = "stream_port", .kind = NUMBER, NUMBER_FIELD(stream_port), .max = 65535 },
	{ .name = "stream_idle_timeout_s",
	  .kind = NUMBER,
	  NUMBER_FIELD(boot.stream_idle_timeout_s),
	  .max = 30 * 86400,
	  .live = true },
	{ .name = "worker_timeout_s", .kind = NUMBER, NUMBER_FIELD(worker_timeout_s), .max = 3600, .live = true },
	{ .name = "stop_timeout_s", .kind = NUMBER, NUMBER_FIELD(stop_timeout_s), .min = 1, .max = 600, .live = true },
};

static const struct config defaults = {
	.boot = {
		.state_root = "/var/lib/bulkhead",
		.run_root = "/run/bulkhead",
		.certs_dir = "/etc/bulkhead/certs.d",
		.cni_conf_dir = "/etc/cni/net.d",
		.cni_bin_dirs = "/opt/cni/bin:/usr/lib/cni",
		.cni_cache_dir = "/var/lib/cni",
		.criu = "/usr/sbin/criu",
		.vm = {
			.qemu = "/usr/bin/qemu-system-x86_64",
			.uml = "/usr/bin/linux.uml",
			.virtiofsd = "/usr/lib/qemu/virtiofsd",
			.memory_mb = 256,
			.cpus = 1,
		},
		.agent_run_root = "/run/kata-containers",
		.agent_sysfs = "/sys",
		.agent_resolv_conf = "/etc/resolv.conf",
		.agent_hotplug_timeout_s = 3,
		.log_level = LOG_INFO,
		.max_concurrent_downloads = 3,
		.pull_progress_timeout_s = 300,
		.log_line_max = 16384,
		.stream_idle_timeout_s = 4 * 3600,
		.endpoints = {
			{
				.name = "cri",
				.services = GROUP_BIT(CRI) | GROUP_BIT(CRI_V1ALPHA2) | GROUP_BIT(CRI_SEED) |
					    GROUP_BIT(HEALTH) | GROUP_BIT(ADMIN),
				.access = ACCESS_FULL,
			},
			{
				.name = "containerd",
				.services = GROUP_BIT(CONTAINERD) | GROUP_BIT(CONTAINERD_SEED) | GROUP_BIT(SANDBOX_SEED) | GROUP_BIT(HEALTH),
				.access = ACCESS_FULL,
			},
		},
		.n_endpoints = 2,
	},
	.listeners = { LISTENER_DEFAULT, LISTENER_DEFAULT },
	.stream_address = "127.0.0.1",
	.uid_base = 64100,
	.worker_timeout_s = 30,
	.stop_timeout_s = 5,
};

static char *text_of(struct config *c, const struct key *k) {
	return (char *)c + k->offset;
}

static uint32_t *number_of(struct config *c, const struct key *k) {
	return (uint32_t *)((char *)c + k->offset);
}

/* --- values --- */

bool config_path_clean(const char *p, size_t n) {
	if (n == 0 || p[0] != '/')
		return false;
	for (size_t i = 0; i < n;) {
		size_t start = ++i;
		while (i < n && p[i] != '/')
			i++;
		size_t part = i - start;
		if ((part == 0 && n > 1) || (part == 1 && p[start] == '.') ||
		    (part == 2 && p[start] == '.' && p[start + 1] == '.'))
			return false;
	}
	return true;
}

static bool path_list_clean(const char *text) {
	for (;;) {
		size_t n = strcspn(text, ":");
		if (!config_path_clean(text, n))
			return false;
		if (text[n] == '\0')
			return true;
		text += n + 1;
	}
}

static int text_set(const struct key *k, char *field, const char *where, const char *value, struct fault *fault) {
	const char *want = NULL;
	if (k->kind == PATH && !config_path_clean(value, strlen(value)))
		want = "an absolute path without \".\", \"..\" or empty parts";
	else if (k->kind == PATH_LIST && !path_list_clean(value))
		want = "absolute paths with \":\" between them";
	else if (k->kind == GROUP && !config_path_clean(value, strlen(value)) && !slice_valid(value))
		want = "an absolute path, or a slice such as bulkhead.slice";
	else if (k->kind == TEXT && value[0] == '\0')
		want = "a value";
	if (want)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: \"%s\" takes %s, not \"%s\"", where, k->name, want,
				 value);
	if (strlen(value) >= k->size)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: the value of \"%s\" is longer than %zu bytes",
				 where, k->name, k->size - 1);
	memcpy(field, value, strlen(value) + 1);
	return 0;
}

static int number_set(const struct key *k, uint32_t *field, const char *where, const char *value, struct fault *fault) {
	char *end = NULL;
	errno = 0;
	unsigned long long n = isdigit((unsigned char)value[0]) ? strtoull(value, &end, 10) : 0;
	if (!end || *end || errno || n < k->min || n > k->max)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: \"%s\" takes a number from %u to %u, not \"%s\"",
				 where, k->name, k->min, k->max, value);
	*field = (uint32_t)n;
	return 0;
}

static int choice_set(const struct key *k, uint32_t *field, const char *where, const char *value, struct fault *fault) {
	char words[64] = "";
	for (uint32_t i = 0; k->choices[i]; i++) {
		if (strcmp(k->choices[i], value) == 0) {
			*field = i;
			return 0;
		}
		size_t n = strlen(words);
		snprintf(words + n, sizeof(words) - n, "%s%s",
			 i == 0		     ? ""
			 : k->choices[i + 1] ? ", "
					     : " or ",
			 k->choices[i]);
	}
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: \"%s\" takes %s, not \"%s\"", where, k->name, words,
			 value);
}

/* --- virtual machines --- */

/* The handler is there when its kernel is; user-mode Linux is one. */
static int vm_finish(struct config *c, struct fault *fault) {
	struct boot_vm *vm = &c->boot.vm;
	const char *key = vm->vmm == BOOT_VMM_UML ? "vm_vmm" : "vm_kernel";
	if (vm->vmm != BOOT_VMM_UML && !vm->kernel[0])
		return 0;
	if (!vm->initrd[0])
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is set, so \"vm_initrd\" must be, too", key);
	for (uint32_t i = 0; i < c->boot.n_runtimes; i++)
		if (strcmp(c->boot.runtimes[i].name, BOOT_VM_HANDLER) == 0)
			return fault_set(fault, FAULT_INVALID_ARGUMENT,
					 "\"%s\" and \"runtime." BOOT_VM_HANDLER "\" exclude each other", key);
	if (c->boot.n_runtimes == BOOT_RUNTIMES_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "more than %d runtimes with \"" BOOT_VM_HANDLER "\"",
				 BOOT_RUNTIMES_MAX);
	strcpy(c->boot.runtimes[c->boot.n_runtimes++].name, BOOT_VM_HANDLER);
	vm->uid = vm->gid = c->uid_base + ROLE_COUNT;
	account_user("bulkhead-vm", &vm->uid, &vm->gid);
	return 0;
}

/* --- control groups --- */

/* As systemd itself says whether it is in charge here. */
#define SYSTEMD_RUNS "/run/systemd/system"

static int driver_set(uint32_t *field, const char *where, const char *value, struct fault *fault) {
	if (strcmp(value, "cgroupfs") == 0)
		*field = BOOT_CGROUPFS;
	else if (strcmp(value, "systemd") == 0)
		*field = BOOT_SYSTEMD;
	else if (strcmp(value, "auto") == 0)
		*field = access(SYSTEMD_RUNS, F_OK) == 0 ? BOOT_SYSTEMD : BOOT_CGROUPFS;
	else
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "%s: \"cgroup_driver\" takes cgroupfs, systemd or auto, not \"%s\"", where, value);
	return 0;
}

/* Each driver has a form of its own for the parent. */
static int parent_finish(struct config *c, struct fault *fault) {
	char *parent = c->boot.cgroup_parent;
	bool systemd = c->boot.cgroup_driver == BOOT_SYSTEMD;
	if (!parent[0])
		strcpy(parent, systemd ? "bulkhead.slice" : "/bulkhead");
	if (systemd == slice_valid(parent))
		return 0;
	return fault_set(fault, FAULT_INVALID_ARGUMENT,
			 "\"cgroup_parent\" is \"%s\", but the cgroup driver is %s: it takes %s", parent,
			 systemd ? "systemd" : "cgroupfs",
			 systemd ? "a slice such as bulkhead.slice" : "an absolute path such as /bulkhead");
}

/* --- programs: "runtime.NAME = PATH", "log_binary.NAME = PATH" --- */

#define RUNTIME_PREFIX "runtime."
#define LOG_BINARY_PREFIX "log_binary."
#define ENDPOINT_PREFIX "endpoint."

bool config_label_valid(const char *name) {
	size_t n = strlen(name);
	for (size_t i = 0; i < n; i++)
		if (!(name[i] >= 'a' && name[i] <= 'z') && !isdigit((unsigned char)name[i]) &&
		    !(name[i] == '-' && i > 0 && i + 1 < n))
			return false;
	return n > 0 && n < BOOT_RUNTIME_NAME_MAX;
}

static int program_set(struct boot_runtime *list, uint32_t *n, const char *what, const char *where, const char *name,
		       const char *path, struct fault *fault) {
	struct boot_runtime *r = NULL;
	/* "native" is what the daemon does by itself. */
	if (!config_label_valid(name) || strcmp(name, "native") == 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "%s: \"%s\" can't name a %s: at most %d small letters, digits and \"-\" within, "
				 "and not \"native\"",
				 where, name, what, BOOT_RUNTIME_NAME_MAX - 1);
	if (!config_path_clean(path, strlen(path)) || strlen(path) >= sizeof(r->path))
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "%s: %s \"%s\" takes the absolute path of its program, not \"%s\"", where, what, name,
				 path);
	for (uint32_t i = 0; i < *n; i++)
		if (strcmp(list[i].name, name) == 0)
			r = &list[i];
	if (!r && *n == BOOT_RUNTIMES_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: more than %d of \"%s\"", where, BOOT_RUNTIMES_MAX,
				 what);
	r = r ? r : &list[(*n)++];
	memcpy(r->name, name, strlen(name) + 1);
	memcpy(r->path, path, strlen(path) + 1);
	return 0;
}

int config_set(struct config *c, const char *where, const char *key, const char *value, struct fault *fault) {
	if (strncmp(key, RUNTIME_PREFIX, strlen(RUNTIME_PREFIX)) == 0)
		return program_set(c->boot.runtimes, &c->boot.n_runtimes, "runtime", where,
				   key + strlen(RUNTIME_PREFIX), value, fault);
	if (strncmp(key, LOG_BINARY_PREFIX, strlen(LOG_BINARY_PREFIX)) == 0)
		return program_set(c->boot.log_binaries, &c->boot.n_log_binaries, "log_binary", where,
				   key + strlen(LOG_BINARY_PREFIX), value, fault);
	if (strncmp(key, ENDPOINT_PREFIX, strlen(ENDPOINT_PREFIX)) == 0)
		return endpoint_set(c, where, key + strlen(ENDPOINT_PREFIX), value, fault);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const struct key *k = &keys[i];
		if (strcmp(k->name, key) != 0)
			continue;
		enum log_level level;
		switch (k->kind) {
		case DRIVER:
			return driver_set(number_of(c, k), where, value, fault);
		case CHOICE:
			return choice_set(k, number_of(c, k), where, value, fault);
		case NUMBER:
			return number_set(k, number_of(c, k), where, value, fault);
		case LEVEL:
			if (log_level_parse(value, &level) < 0)
				return fault_set(fault, FAULT_INVALID_ARGUMENT,
						 "%s: \"%s\" takes debug, info, warn or error, not \"%s\"", where, key,
						 value);
			*number_of(c, k) = level;
			return 0;
		default:
			return text_set(k, text_of(c, k), where, value, fault);
		}
	}
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: unknown key \"%s\"", where, key);
}

/* --- the file --- */

static char *trim(char *text) {
	while (isspace((unsigned char)*text))
		text++;
	size_t n = strlen(text);
	while (n > 0 && isspace((unsigned char)text[n - 1]))
		text[--n] = '\0';
	return text;
}

/* Splits "key = value" in place. */
static int line_set(struct config *c, const char *where, char *line, struct fault *fault) {
	char *equals = strchr(line, '=');
	if (!equals)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: expected \"key = value\", found \"%s\"", where,
				 line);
	*equals = '\0';
	return config_set(c, where, trim(line), trim(equals + 1), fault);
}

static int file_read(const struct config_source *source, char **ret_text, struct fault *fault) {
	CLEANUP_FD int fd = open(source->file, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && !source->file_required)
		return 0;
	if (fd < 0)
		return fault_errno(fault, errno, "open the configuration %s", source->file);
	size_t size;
	CLEANUP_FREE char *text = NULL;
	int r = fd_read_all(fd, FILE_MAX, &text, &size);
	if (r < 0)
		return fault_errno(fault, r, "read the configuration %s", source->file);
	if (strlen(text) != size)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s is not a text file: it has a NUL byte",
				 source->file);
	*ret_text = take_ptr(text);
	return 0;
}

static int file_apply(struct config *c, const char *file, char *text, struct fault *fault) {
	char where[512], *rest = text, *line;
	for (unsigned n = 1; (line = strsep(&rest, "\n")); n++) {
		/* A comment starts a line or follows a space: '#' may be part of a path. */
		for (char *p = strchr(line, '#'); p; p = strchr(p + 1, '#'))
			if (p == line || isspace((unsigned char)p[-1]))
				*p = '\0';
		line = trim(line);
		if (*line == '\0')
			continue;
		snprintf(where, sizeof(where), "%s:%u", file, n);
		int r = line_set(c, where, line, fault);
		if (r < 0)
			return r;
	}
	return 0;
}

int config_load(const struct config_source *source, struct config *ret_config, struct fault *fault) {
	struct config c = defaults;
	CLEANUP_FREE char *text = NULL;
	int r = file_read(source, &text, fault);
	if (r < 0)
		return r;
	if (text) {
		r = file_apply(&c, source->file, text, fault);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < source->n_options; i++) {
		CLEANUP_FREE char *option = strdup(source->options[i]);
		r = option ? line_set(&c, "--set", option, fault) : fault_errno(fault, ENOMEM, "--set");
		if (r < 0)
			return r;
	}
	r = parent_finish(&c, fault);
	if (r == 0)
		r = endpoints_finish(&c, fault);
	if (r == 0)
		r = vm_finish(&c, fault);
	if (r < 0)
		return r;
	*ret_config = c;
	return 0;
}

const char *config_reload(struct config *c, const struct config *from) {
	struct config new = *from;
	const char *fixed = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const struct key *k = &keys[i];
		if (k->kind == NUMBER || k->kind == LEVEL || k->kind == DRIVER || k->kind == CHOICE) {
			if (k->live)
				*number_of(c, k) = *number_of(&new, k);
			else if (*number_of(c, k) != *number_of(&new, k))
				fixed = k->name;
		} else if (strcmp(text_of(c, k), text_of(&new, k)) != 0) {
			fixed = k->name;
		}
	}
	/* A pod that runs has its runtime's path of its own; new names come with
	 * the next start. */
	if (new.boot.n_runtimes != c->boot.n_runtimes ||
	    memcmp(new.boot.runtimes, c->boot.runtimes, sizeof(new.boot.runtimes)) != 0)
		fixed = "runtime.*";
	if (new.boot.n_log_binaries != c->boot.n_log_binaries ||
	    memcmp(new.boot.log_binaries, c->boot.log_binaries, sizeof(new.boot.log_binaries)) != 0)
		fixed = "log_binary.*";
	if (!endpoints_equal(c, &new))
		fixed = "endpoint.*";
	return fixed;
}
