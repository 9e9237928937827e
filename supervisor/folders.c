/*
 * Folders that hold something belong to one role and nobody else may enter
 * them (0700). Those above hold nothing but folders and may be crossed (0711).
 */
#include "supervisor/folders.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "supervisor/account.h"
#include "supervisor/privileges.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum base { STATE_ROOT, RUN_ROOT, CNI_CACHE };

static const struct folder {
	enum base base;
	const char *path;
	enum role owner; /* ROLE_SUPERVISOR: root */
	mode_t mode;
	bool all; /* all that is in it belongs to the owner, too */
} folders[] = {
	{ .base = STATE_ROOT, .path = "", .owner = ROLE_SUPERVISOR, .mode = 0711 },
	{ .base = STATE_ROOT, .path = "/metadata", .owner = ROLE_METADATA, .mode = 0700, .all = true },
	{ .base = STATE_ROOT, .path = "/content", .owner = ROLE_IMAGE, .mode = 0700, .all = true },
	{ .base = STATE_ROOT, .path = "/layers", .owner = ROLE_SNAPSHOT, .mode = 0700 },
	{ .base = STATE_ROOT, .path = "/snapshots", .owner = ROLE_SNAPSHOT, .mode = 0700 },
	{ .base = RUN_ROOT, .path = "", .owner = ROLE_SUPERVISOR, .mode = 0711 },
	{ .base = RUN_ROOT, .path = "/pods", .owner = ROLE_TASK, .mode = 0700 },
	{ .base = RUN_ROOT, .path = "/guest", .owner = ROLE_GUEST, .mode = 0700 },
	/* Other programs of the host keep their networks' state there too. */
	{ .base = CNI_CACHE, .path = "", .owner = ROLE_SUPERVISOR, .mode = 0755 },
};

/* mkdir -p; the folders in between are everybody's business: 0755. */
static int make_parents(const char *path) {
	char part[BOOT_PATH_MAX];
	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

/* No worker runs yet, so nothing changes under our feet. */
static int give_entry(int dir, const char *name, uid_t uid, gid_t gid);

static int give_content(int fd, uid_t uid, gid_t gid) {
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = own < 0 ? NULL : fdopendir(own);
	if (!d) {
		int r = -errno;
		fd_close(own);
		return r;
	}
	int r = 0;
	for (struct dirent *e; r == 0 && (e = readdir(d));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = give_entry(fd, e->d_name, uid, gid);
	closedir(d);
	return r;
}

static int give_entry(int dir, const char *name, uid_t uid, gid_t gid) {
	if (fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	CLEANUP_FD int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOTDIR || errno == ELOOP ? 0 : -errno;
	return give_content(fd, uid, gid);
}

static int folder_make(const struct folder *f, const char *path, uid_t uid, gid_t gid) {
	int r = make_parents(path);
	if (r < 0)
		return r;
	if (mkdir(path, f->mode) < 0 && errno != EEXIST)
		return -errno;
	CLEANUP_FD int fd = open(path, O_DIRECTORY | O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if ((st.st_mode & 07777) != f->mode && fchmod(fd, f->mode) < 0)
		return -errno;
	if (st.st_uid == uid && st.st_gid == gid)
		return 0;
	/* The users of the roles have changed. The folder comes last: as long as
	 * it isn't done, the next start does it again. */
	r = f->all ? give_content(fd, uid, gid) : 0;
	return r == 0 && fchown(fd, uid, gid) < 0 ? -errno : r;
}

/* A worker sees a folder for its whole life or never. So those that others
 * fill later (registries, networks, plugins) had better be there at start. A
 * read-only /etc is no reason to stay away. */
static void make_for_others(const struct config *c) {
	char plugins[BOOT_PATH_MAX];
	snprintf(plugins, sizeof(plugins), "%.*s", (int)strcspn(c->boot.cni_bin_dirs, ":"), c->boot.cni_bin_dirs);
	const char *const paths[] = { c->boot.certs_dir, c->boot.cni_conf_dir, plugins };
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (paths[i][0] == '/' && make_parents(paths[i]) == 0 && mkdir(paths[i], 0755) < 0 && errno != EEXIST)
			log_text(LOG_WARN, "make the folder %s: %s; it won't be seen when it comes later", paths[i],
				 strerrordesc_np(errno));
}

int folders_make(const struct config *c, struct fault *fault) {
	const char *const bases[] = {
		[STATE_ROOT] = c->boot.state_root,
		[RUN_ROOT] = c->boot.run_root,
		[CNI_CACHE] = c->boot.cni_cache_dir,
	};
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		const struct folder *f = &folders[i];
		char path[BOOT_PATH_MAX + 16];
		uid_t uid;
		gid_t gid;
		if (!privileges_wanted(f->owner, c))
			continue;
		snprintf(path, sizeof(path), "%s%s", bases[f->base], f->path);
		privileges_owner(f->owner, c, &uid, &gid);
		int r = folder_make(f, path, uid, gid);
		if (r < 0)
			return fault_errno(fault, r, "make the folder %s", path);
	}
	make_for_others(c);
	return 0;
}

/* --- the lock --- */

static int lock_open(const struct config *c, const char *name, char *path, size_t size, struct fault *fault) {
	snprintf(path, size, "%s/%s", c->boot.run_root, name);
	int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? fault_errno(fault, errno, "open the lock %s", path) : fd;
}

int folders_lock(const struct config *c, int *ret_lock, int *ret_workers, struct fault *fault) {
	char path[BOOT_PATH_MAX + 16];
	int r = folder_make(&(struct folder){ .mode = 0711 }, c->boot.run_root, 0, 0);
	if (r < 0)
		return fault_errno(fault, r, "make the folder %s", c->boot.run_root);
	CLEANUP_FD int lock = lock_open(c, "lock", path, sizeof(path), fault);
	if (lock < 0)
		return lock;
	if (flock(lock, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? fault_set(fault, FAULT_FAILED_PRECONDITION,
							"another bulkheadd runs on %s: stop it, or set run_root and "
							"state_root to folders of its own",
							c->boot.run_root)
					    : fault_errno(fault, errno, "lock %s", path);
	CLEANUP_FD int workers = lock_open(c, "workers.lock", path, sizeof(path), fault);
	if (workers < 0)
		return workers;
	/* They were killed together with their supervisor; one that still writes
	 * to a slow disk takes its time to die. */
	int64_t deadline = clock_mono() + 10 * NS_PER_SEC;
	while (flock(workers, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return fault_errno(fault, errno, "lock %s", path);
		if (clock_mono() > deadline)
			return fault_set(fault, FAULT_FAILED_PRECONDITION,
					 "workers of an earlier bulkheadd on %s don't end: they hold %s",
					 c->boot.run_root, path);
		nanosleep(&(struct timespec){ .tv_nsec = NS_PER_MS }, NULL);
	}
	*ret_lock = take_fd(&lock);
	*ret_workers = take_fd(&workers);
	return 0;
}

/* --- listening sockets --- */

static bool below(const char *path, const char *folder) {
	size_t n = strlen(folder);
	return strncmp(path, folder, n) == 0 && path[n] == '/';
}

/* Whether somebody listens there. The listener of a process that was killed
 * lives on until the kernel has taken its io_uring apart: hence the patience. */
static bool in_use(const struct sockaddr_un *address) {
	for (int i = 0; i < 500; i++) {
		CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 && errno != EAGAIN)
			return false;
		nanosleep(&(struct timespec){ .tv_nsec = 2 * NS_PER_MS }, NULL);
	}
	return true;
}

/* Makes way for a new socket: removes one on which nobody listens. Below
 * run_root nobody can: its lock is ours. */
static int stale_remove(const struct config *c, const struct sockaddr_un *address, struct fault *fault) {
	const char *path = address->sun_path;
	struct stat st;
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : fault_errno(fault, errno, "look at %s", path);
	if (!S_ISSOCK(st.st_mode))
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "%s exists and is not a socket", path);
	if (!below(path, c->boot.run_root) && in_use(address))
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "another process listens on %s", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return fault_errno(fault, errno, "remove the old socket %s", path);
	return 0;
}

static int listener_owner(const struct config *c, unsigned n, uid_t *ret_uid, gid_t *ret_gid, struct fault *fault) {
	const struct listener_config *l = &c->listeners[n];
	const char *name = c->boot.endpoints[n].name;
	if (!account_uid(l->owner, ret_uid))
		return fault_set(fault, FAULT_NOT_FOUND, "endpoint.%s.owner: there is no user \"%s\" in /etc/passwd",
				 name, l->owner);
	if (!account_gid(l->group, ret_gid))
		return fault_set(fault, FAULT_NOT_FOUND, "endpoint.%s.group: there is no group \"%s\" in /etc/group",
				 name, l->group);
	return 0;
}

int listener_open(const struct config *c, unsigned n, int *ret_fd, struct fault *fault) {
	const char *path = c->boot.endpoints[n].socket;
	uid_t uid;
	gid_t gid;
	uint32_t cid, port;
	if (endpoint_vsock(path, &cid, &port) == 0)
		return vsock_listener_open(cid, port, ret_fd, fault);
	if (endpoint_serial(path))
		return serial_listener_open(endpoint_serial(path), ret_fd, fault);
	int r = listener_owner(c, n, &uid, &gid, fault);
	if (r < 0)
		return r;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	r = make_parents(path);
	if (r < 0)
		return fault_errno(fault, r, "make the folder of %s", path);
	r = stale_remove(c, &address, fault);
	if (r < 0)
		return r;
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fault_errno(fault, errno, "make a socket");
	/* Nobody gets in between bind and chmod. */
	mode_t before = umask(0777);
	r = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(before);
	if (r < 0)
		return fault_errno(fault, r, "bind %s", path);
	if (lchown(path, uid, gid) < 0 || chmod(path, c->listeners[n].mode) < 0)
		return fault_errno(fault, errno, "set owner and mode of %s", path);
	if (listen(fd, 4096) < 0)
		return fault_errno(fault, errno, "listen on %s", path);
	*ret_fd = take_fd(&fd);
	return 0;
}
