/*
 * A sandbox's beginning and end in the guest: what an earlier one left goes,
 * kernel modules come, names are resolved as the host says.
 *
 * The folder is wiped with all mounts below it taken away first, whoever made
 * them: what is mounted there, a folder of the host's perhaps, must not be.
 */
#include "tool.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define RESOLV "sandbox/resolv.conf"
#define ARGUMENTS_MAX 32

/* --- the wipe --- */

/* The last of the mounts below path, which no other is on; false: there is none. */
static bool last_mount(const char *path, char *ret_mount, size_t size) {
	char line[PATH_MAX + 512], where[PATH_MAX];
	size_t n = strlen(path);
	bool found = false;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %*s %*s %*s %4095s", where) == 1 && strncmp(where, path, n) == 0 &&
		    where[n] == '/') {
			snprintf(ret_mount, size, "%s", where);
			found = true;
		}
	if (f)
		fclose(f);
	return found;
}

/* A name with a space has it as "\040" here: then there is no way to go on. */
static int unmount_below(const char *path, struct fault *fault) {
	char where[PATH_MAX];
	while (last_mount(path, where, sizeof(where)))
		if (umount2(where, UMOUNT_NOFOLLOW | MNT_DETACH) < 0)
			return fault_errno(fault, errno, "unmount \"%s\"", where);
	return 0;
}

static int wipe(const char *path, struct fault *fault) {
	CLEANUP_FD int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = top < 0 ? NULL : fdopendir(dup(top));
	int r = d ? 0 : -errno;
	for (struct dirent *e; r == 0 && d && (e = readdir(d));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = tree_remove(&(struct place){ .folder = top, .name = e->d_name });
	if (d)
		closedir(d);
	return r < 0 ? fault_errno(fault, r, "empty %s", path) : 0;
}

/* Somebody else's file may be mounted there. */
static void names_reset(const struct work *w) {
	char path[BOOT_PATH_MAX + sizeof(RESOLV) + 1];
	struct stat ours, there;
	snprintf(path, sizeof(path), "%s/" RESOLV, w->config->agent_run_root);
	if (stat(path, &ours) == 0 && stat(w->config->agent_resolv_conf, &there) == 0 && ours.st_dev == there.st_dev &&
	    ours.st_ino == there.st_ino)
		umount2(w->config->agent_resolv_conf, UMOUNT_NOFOLLOW | MNT_DETACH);
}

int guest_clear_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	Bulkhead__GuestDetachRequest everybody = BULKHEAD__GUEST_DETACH_REQUEST__INIT;
	everybody.all_shared = true;
	const char *root = w->config->agent_run_root;
	names_reset(w);
	int r = guest_detach_run(w, &everybody.base, fault);
	if (r == 0)
		r = unmount_below(root, fault);
	return r == 0 ? wipe(root, fault) : r;
}

/* --- modules --- */

static int module_load(struct work *w, const Grpc__KernelModule *m, struct fault *fault) {
	const char *argv[ARGUMENTS_MAX + 4] = { "modprobe", "-v", m->name };
	ProtobufCBinaryData output;
	if (m->n_parameters > ARGUMENTS_MAX || !*m->name || *m->name == '-')
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "kernel module \"%s\": no name of one, or too much said", m->name);
	for (size_t i = 0; i < m->n_parameters; i++) {
		argv[3 + i] = m->parameters[i];
		if (*m->parameters[i] == '-')
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "kernel module \"%s\": \"%s\" is no parameter",
					 m->name, m->parameters[i]);
	}
	int r = tool_run(w, argv, NULL, 0, &output, fault);
	return r < 0 ? fault_prefix(fault, r, "kernel module \"%s\"", m->name) : 0;
}

/* --- names --- */

static int resolv_write(const struct place *p, char *const *lines, size_t n) {
	CLEANUP_FD int fd = openat(p->folder, p->name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	int r = fd < 0 ? -errno : 0;
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = fd_write_all(fd, lines[i], strlen(lines[i]));
		if (r == 0)
			r = fd_write_all(fd, "\n", 1);
	}
	return r;
}

/* The guest resolves names as its containers do. */
static int names_set(const struct work *w, char *const *lines, size_t n, struct fault *fault) {
	char path[BOOT_PATH_MAX + sizeof(RESOLV) + 1];
	CLEANUP_PLACE struct place p = PLACE_NONE;
	const char *target = w->config->agent_resolv_conf;
	snprintf(path, sizeof(path), "%s/" RESOLV, w->config->agent_run_root);
	int r = place_find(w, path, true, &p, fault);
	if (r < 0)
		return r;
	r = resolv_write(&p, lines, n);
	if (r == 0 && access(target, F_OK) == 0 && mount(path, target, NULL, MS_BIND, NULL) < 0)
		r = -errno;
	return r < 0 ? fault_errno(fault, r, "set %s", target) : 0;
}

int guest_setup_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Bulkhead__GuestSetupRequest *q = (const Bulkhead__GuestSetupRequest *)request;
	int r = guest_clear_run(w, request, fault);
	for (size_t i = 0; r == 0 && i < q->n_kernel_modules; i++)
		r = module_load(w, q->kernel_modules[i], fault);
	return r == 0 && q->n_dns > 0 ? names_set(w, q->dns, q->n_dns, fault) : r;
}
