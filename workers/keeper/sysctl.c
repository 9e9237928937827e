#include "workers/keeper/sysctl.h"

#include "base/fd.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

static const struct {
	const char *prefix;
	bool whole; /* the prefix is the whole name */
	size_t scope;
} table[] = {
	{ "net/", false, offsetof(struct sysctl_scope, net) },
	{ "fs/mqueue/", false, offsetof(struct sysctl_scope, ipc) },
	{ "kernel/shmall", true, offsetof(struct sysctl_scope, ipc) },
	{ "kernel/shmmax", true, offsetof(struct sysctl_scope, ipc) },
	{ "kernel/shmmni", true, offsetof(struct sysctl_scope, ipc) },
	{ "kernel/shm_rmid_forced", true, offsetof(struct sysctl_scope, ipc) },
	{ "kernel/msgmax", true, offsetof(struct sysctl_scope, ipc) },
	{ "kernel/msgmnb", true, offsetof(struct sysctl_scope, ipc) },
	{ "kernel/msgmni", true, offsetof(struct sysctl_scope, ipc) },
	{ "kernel/sem", true, offsetof(struct sysctl_scope, ipc) },
	{ "kernel/domainname", true, offsetof(struct sysctl_scope, uts) },
};

/* "net.ipv4.tcp_syncookies" or, for names with dots in them,
 * "net/ipv4/conf/eth0.100/forwarding". */
static bool path_of(const char *key, char ret_path[NAME_MAX]) {
	size_t n = strlen(key);
	bool slashes = strchr(key, '/') != NULL;
	if (n == 0 || n >= NAME_MAX)
		return false;
	for (size_t i = 0; i <= n; i++) {
		char c = key[i];
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			     (c && strchr("_-./:@", c)) || i == n;
		if (!plain)
			return false;
		ret_path[i] = c == '.' && !slashes ? '/' : c;
	}
	return !strstr(ret_path, "..") && !strstr(ret_path, "//") && !strstr(ret_path, "/./") && ret_path[0] != '/';
}

static int path_check(const struct sysctl_scope *scope, const char *path, const char *key, struct fault *fault) {
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (table[i].whole ? strcmp(path, table[i].prefix) != 0
				   : strncmp(path, table[i].prefix, strlen(table[i].prefix)) != 0)
			continue;
		if (*(const bool *)((const char *)scope + table[i].scope))
			return 0;
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "sysctl \"%s\" would change the host: the pod uses the host's namespace", key);
	}
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "sysctl \"%s\" does not belong to a namespace of the pod", key);
}

int sysctl_write(const struct sysctl_scope *scope, const char *key, const char *value, struct fault *fault) {
	char path[NAME_MAX], full[NAME_MAX + 16];
	if (!path_of(key, path))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is not a name of a sysctl", key);
	int r = path_check(scope, path, key, fault);
	if (r < 0)
		return r;
	snprintf(full, sizeof(full), "/proc/sys/%s", path);
	CLEANUP_FD int fd = open(full, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	struct statfs fs;
	if (fd < 0)
		return fault_errno(fault, errno, "sysctl \"%s\"", key);
	if (fstatfs(fd, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC)
		return fault_set(fault, FAULT_INTERNAL, "sysctl \"%s\": /proc/sys is not the kernel's", key);
	r = fd_write_all(fd, value, strlen(value));
	return r < 0 ? fault_errno(fault, r, "sysctl \"%s\" = \"%s\"", key, value) : 0;
}
