/*
 * The maker: a child of the keeper that prepares a bundle, runs the runtime and
 * hands over what this has made. It blocks where it must; nobody waits in its
 * loop. When it is killed, so is the runtime that it is executing.
 *
 *   container: files, root -> `create` -> STATUS_READY -> "go" -> `start` -> end
 *   command:   files -> `exec --detach` -> STATUS_PROCESS -> end
 *
 * Its mount namespace is its own and holds the container's root for as long as
 * `create` needs it. Mounts of the host stay shared with it, but for the one that
 * the pod's folder is on: what is attached there must not show up outside, so a
 * volume on that very mount can't be "Bidirectional".
 */
#include "workers/keeper/backend.h"
#include "workers/keeper/oci/oci.h"

#include "base/buffer.h"
#include "base/fd.h"
#include "base/json.h"
#include "workers/keeper/oom.h"
#include "workers/keeper/rootfs.h"
#include "workers/keeper/shm.h"
#include "workers/keeper/sys.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CONSOLE "console"

/* Of one birth. */
struct maker {
	const struct oci_birth *birth;
	int bundle;  /* the folder */
	int console; /* listening; -1: no terminal */
	char console_path[64];
	struct user_ids user;
};

static void birth_begin(const struct oci_birth *b) {
	int keep[6 + MSG_FDS_MAX] = { b->status, b->root, b->shm, b->stdio[0], b->stdio[1], b->stdio[2] };
	sigset_t none;
	for (size_t i = 0; i < b->n_volumes; i++)
		keep[6 + i] = b->volumes[i];
	become_close_others(keep, 6 + b->n_volumes);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	umask(0022);
	/* What it executes inherits it. */
	oom_score_become(b->process->oomscoreadj, b->status);
}

/* --- mounts --- */

/* The mount that path is on, up to its root. */
static int mount_cut_off(const char *path, struct fault *fault) {
	struct mount_attr a = { .propagation = MS_SLAVE };
	char at[PATH_MAX];
	struct statx st;
	snprintf(at, sizeof(at), "%s", path);
	for (;;) {
		if (syscall(SYS_statx, AT_FDCWD, at, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st) < 0)
			return fault_errno(fault, errno, "look for the mount of \"%s\"", at);
		char *slash = strrchr(at, '/');
		if (st.stx_attributes & STATX_ATTR_MOUNT_ROOT || !slash || !at[1])
			break;
		slash[slash == at ? 1 : 0] = '\0';
	}
	if (syscall(SYS_mount_setattr, AT_FDCWD, at, 0, &a, sizeof(a)) < 0)
		return fault_errno(fault, errno, "cut off the mount \"%s\"", at);
	return 0;
}

static int attach(const struct maker *m, int tree, const char *name, struct fault *fault) {
	if (syscall(SYS_move_mount, tree, "", m->bundle, name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return fault_errno(fault, errno, "attach \"%s\" in \"%s\"", name, m->birth->place->bundle);
	return 0;
}

/* A folder or an empty file, as the volume is one. */
static int volume_attach(const struct maker *m, const Grpc__Mount *mount, struct fault *fault) {
	const struct oci_birth *b = m->birth;
	char name[32];
	int tree, r = rootfs_volume(mount, b->volumes, b->n_volumes, &tree, fault);
	if (r < 0)
		return r;
	snprintf(name, sizeof(name), OCI_IMAGE_NAME, mount->source);
	r = rootfs_is_directory(tree) ? mkdirat(m->bundle, name, 0755) : mknodat(m->bundle, name, S_IFREG | 0600, 0);
	if (r < 0 && errno != EEXIST)
		return fault_errno(fault, errno, "make \"%s\" in \"%s\"", name, b->place->bundle);
	return attach(m, tree, name, fault);
}

static int volumes_attach(const struct maker *m, struct fault *fault) {
	const Grpc__Spec *spec = m->birth->spec;
	int r = 0;
	for (size_t i = 0; r == 0 && i < spec->n_mounts; i++)
		if (strcmp(spec->mounts[i]->type, "image") == 0)
			r = volume_attach(m, spec->mounts[i], fault);
	return r;
}

static bool wants_shm(const Grpc__Spec *spec) {
	for (size_t i = 0; i < spec->n_mounts; i++)
		if (strcmp(spec->mounts[i]->destination, "/dev/shm") == 0 &&
		    strcmp(spec->mounts[i]->source, "shm") == 0)
			return true;
	return false;
}

/* Clients' volumes whose folder is to be made are few and already checked. */
static int sources_make(const Grpc__Spec *spec, struct fault *fault) {
	for (size_t i = 0; i < spec->n_mounts; i++) {
		const Grpc__Mount *mount = spec->mounts[i];
		for (size_t k = 0; k < mount->n_options; k++) {
			if (strcmp(mount->options[k], "x-make-source") != 0 || access(mount->source, F_OK) == 0)
				continue;
			int r = make_folders(mount->source);
			if (r < 0)
				return fault_errno(fault, r, "mount \"%s\": source \"%s\"", mount->destination,
						   mount->source);
		}
	}
	return 0;
}

static int mounts_make(struct maker *m, struct fault *fault) {
	const struct oci_birth *b = m->birth;
	CLEANUP_FD int tree = -1;
	int r = mount_cut_off(b->place->bundle, fault);
	if (r == 0 && (mkdirat(m->bundle, "rootfs", 0755) < 0 || mkdirat(m->bundle, "shm", 0755) < 0) &&
	    errno != EEXIST)
		r = fault_errno(fault, errno, "make folders in \"%s\"", b->place->bundle);
	if (r == 0)
		r = attach(m, b->root, "rootfs", fault);
	if (r == 0 && wants_shm(b->spec)) {
		r = b->shm < 0 ? rootfs_clone("/dev/shm", false, &tree) : shm_clone(b->shm, &tree);
		r = r < 0 ? fault_errno(fault, r, "mount \"/dev/shm\" of the pod") : attach(m, tree, "shm", fault);
	}
	if (r == 0)
		r = volumes_attach(m, fault);
	return r < 0 ? r : sources_make(b->spec, fault);
}

/* --- files --- */

static int bundle_open(struct maker *m, struct fault *fault) {
	const char *path = m->birth->place->bundle;
	int r = make_folders(path);
	if (r == 0)
		r = make_folders(m->birth->place->state);
	if (r == 0 && (m->bundle = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		r = -errno;
	return r < 0 ? fault_errno(fault, r, "make the bundle \"%s\"", path) : 0;
}

static int file_write(const struct maker *m, const char *name, const struct buffer *text, struct fault *fault) {
	CLEANUP_FD int fd = openat(m->bundle, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : fd_write_all(fd, text->data, text->size);
	return r < 0 ? fault_errno(fault, r, "write \"%s\" of the bundle", name) : 0;
}

/* The process that the runtime has made, which is the keeper's child and isn't
 * reaped before the keeper knows of it. */
static int pid_read(const struct maker *m, const char *name, pid_t *ret_pid, int *ret_pidfd, struct fault *fault) {
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FD int fd = openat(m->bundle, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int r = fd < 0 ? -errno : fd_read_all(fd, 32, &text, NULL);
	if (r < 0)
		return fault_errno(fault, r, "read the runtime's pid file");
	long pid = strtol(text, NULL, 10);
	int pidfd = pid > 1 && pid <= INT32_MAX ? (int)syscall(SYS_pidfd_open, (pid_t)pid, 0) : -1;
	if (pidfd < 0)
		return fault_set(fault, FAULT_INTERNAL, "the process %ld that the runtime has made is not there", pid);
	*ret_pid = (pid_t)pid;
	*ret_pidfd = pidfd;
	return 0;
}

/* --- terminals --- */

/* The bundle's path may be too long for an address, and the runtime's folder
 * is another. */
static int console_listen(struct maker *m, struct fault *fault) {
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *name = m->birth->name ? m->birth->name : CONSOLE;
	snprintf(m->console_path, sizeof(m->console_path), "/proc/%d/fd/%d/%.20s.tty", (int)getpid(), m->bundle, name);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", m->console_path);
	m->console = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (m->console < 0 || bind(m->console, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(m->console, 1) < 0)
		return fault_errno(fault, errno, "listen for the terminal");
	return 0;
}

/* What the runtime has sent before it ended. */
static int console_take(struct maker *m, struct fault *fault) {
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char name[256];
	struct iovec iov = { name, sizeof(name) };
	struct msghdr h = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	int terminal;
	unlink(m->console_path);
	CLEANUP_FD int fd = accept4(m->console, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0 || recvmsg(fd, &h, MSG_CMSG_CLOEXEC) < 0)
		return fault_errno(fault, errno, "take the terminal");
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
		return fault_set(fault, FAULT_INTERNAL, "the runtime has sent no terminal");
	memcpy(&terminal, CMSG_DATA(c), sizeof(int));
	become_send_terminal(m->birth->status, terminal);
	close(terminal);
	return 0;
}

/* --- what it hands over --- */

static int hand_over(const struct maker *m, enum status_kind kind, const char *pid_file, struct fault *fault) {
	struct status s = { .kind = kind };
	CLEANUP_FD int pidfd = -1;
	int r = pid_read(m, pid_file, &s.pid, &pidfd, fault);
	if (r < 0)
		return r;
	s.user = m->user;
	/* Nobody there to take it: then nobody will ever end it. */
	if (!become_send(m->birth->status, &s, sizeof(s), pidfd))
		sys_pidfd_send_signal(pidfd, SIGKILL);
	return 0;
}

static void go_await(int status) {
	char go;
	ssize_t n;
	while ((n = recv(status, &go, 1, 0)) < 0 && errno == EINTR)
		;
	if (n != 1)
		_exit(PROCESS_FAILED);
}

/* --- a container --- */

static int config_write(struct maker *m, struct fault *fault) {
	const struct oci_birth *b = m->birth;
	CLEANUP_BUFFER struct buffer text = { 0 };
	struct oci_config c = {
		.spec = b->spec,
		.process = b->process,
		.user = &m->user,
		.place = b->place,
		.run_dir = b->container->keeper->run_dir,
		.cgroup = b->container->cgroup.path,
		.pid_namespace = b->pid_namespace,
		.status = b->status,
	};
	int r = oci_config_write(&c, &text, fault);
	return r < 0 ? r : file_write(m, "config.json", &text, fault);
}

static int create(struct maker *m, struct fault *fault) {
	const struct oci_birth *b = m->birth;
	char pid_file[PATH_MAX + 8];
	snprintf(pid_file, sizeof(pid_file), "%s/pid", b->place->bundle);
	const char *args[12] = { "create", "--bundle", b->place->bundle, "--pid-file", pid_file };
	size_t n = 5;
	int r = b->process->terminal ? console_listen(m, fault) : 0;
	if (r < 0)
		return r;
	if (b->process->terminal) {
		args[n++] = "--console-socket";
		args[n++] = m->console_path;
	}
	args[n++] = b->place->id;
	r = oci_run(b->place, "create.log", b->stdio, args, fault);
	return r == 0 && b->process->terminal ? console_take(m, fault) : r;
}

static int start(const struct maker *m, struct fault *fault) {
	static const int none[3] = { -1, -1, -1 };
	const char *args[] = { "start", m->birth->place->id, NULL };
	return oci_run(m->birth->place, "start.log", none, args, fault);
}

void oci_make_container(void *birth) {
	struct maker m = { .birth = birth, .bundle = -1, .console = -1 };
	const struct oci_birth *b = m.birth;
	struct fault fault = { 0 };
	birth_begin(b);
	int r = b->process->n_args && b->process->args[0][0]
		    ? 0
		    : fault_set(&fault, FAULT_INVALID_ARGUMENT, "no command is given");
	if (r == 0)
		r = container_sysctls(b->container, b->spec, &fault);
	if (r == 0)
		r = user_resolve(b->root, b->process->user, b->strict_groups, &m.user, &fault);
	/* Before the bundle is opened: what is attached there is for this one. */
	if (r == 0 && unshare(CLONE_NEWNS) < 0)
		r = fault_errno(&fault, errno, "make a mount namespace for the runtime");
	if (r == 0)
		r = bundle_open(&m, &fault);
	if (r == 0)
		r = mounts_make(&m, &fault);
	if (r == 0)
		r = config_write(&m, &fault);
	if (r == 0)
		r = create(&m, &fault);
	if (r == 0)
		r = hand_over(&m, STATUS_READY, "pid", &fault);
	if (r < 0)
		become_failed(b->status, &fault);
	/* The streams' other ends belong to the container now. */
	for (int i = 0; i < 3; i++)
		fd_close(b->stdio[i]);
	go_await(b->status);
	if (start(&m, &fault) < 0)
		become_failed(b->status, &fault);
	_exit(0);
}

/* --- a command in a container --- */

static int process_write(struct maker *m, const char *name, struct fault *fault) {
	const struct oci_birth *b = m->birth;
	struct json j = { .first = true };
	struct oci_config c = { .process = b->process, .user = b->user, .status = b->status };
	int r = oci_process_write(&c, NULL, &j, fault);
	if (r == 0 && j.text.failed)
		r = fault_errno(fault, ENOMEM, "write the command for the runtime");
	if (r == 0)
		r = file_write(m, name, &j.text, fault);
	buffer_deinit(&j.text);
	return r;
}

static int execute(struct maker *m, struct fault *fault) {
	const struct oci_birth *b = m->birth;
	char pid_file[PATH_MAX + 40], process[PATH_MAX + 40], log[40];
	snprintf(log, sizeof(log), "%.20s.log", b->name);
	snprintf(process, sizeof(process), "%s/%.20s.json", b->place->bundle, b->name);
	snprintf(pid_file, sizeof(pid_file), "%s/%.20s.pid", b->place->bundle, b->name);
	const char *args[12] = { "exec", "--detach", "--pid-file", pid_file, "--process", process };
	size_t n = 6;
	int r = process_write(m, process + strlen(b->place->bundle) + 1, fault);
	if (r == 0 && b->process->terminal)
		r = console_listen(m, fault);
	if (b->process->terminal) {
		args[n++] = "--console-socket";
		args[n++] = m->console_path;
	}
	args[n++] = b->place->id;
	if (r == 0)
		r = oci_run(b->place, log, b->stdio, args, fault);
	if (r == 0 && b->process->terminal)
		r = console_take(m, fault);
	if (r == 0)
		r = hand_over(m, STATUS_PROCESS, pid_file + strlen(b->place->bundle) + 1, fault);
	/* There may be many of them before the bundle goes. */
	unlink(process);
	unlink(pid_file);
	unlinkat(m->bundle, log, 0);
	return r;
}

void oci_make_exec(void *birth) {
	struct maker m = { .birth = birth, .bundle = -1, .console = -1 };
	struct fault fault = { 0 };
	birth_begin(m.birth);
	int r = bundle_open(&m, &fault);
	if (r == 0)
		r = execute(&m, &fault);
	if (r < 0)
		become_failed(m.birth->status, &fault);
	_exit(0);
}
