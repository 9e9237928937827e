#include "workers/keeper/checkpoint.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "workers/keeper/container.h"
#include "workers/keeper/criu.h"
#include "workers/keeper/cut.h"
#include "workers/keeper/stdio.h"
#include "workers/keeper/sys.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define TIMEOUT_MAX (24 * 3600 * NS_PER_SEC)
/* What criu gets to let the container go when the time is over. */
#define GRACE (10 * NS_PER_SEC)

struct checkpoint {
	struct container *container;
	char *location; /* empty: the archive gets no name, and isn't made here */
	int parent;	/* the folder that it comes to */
	int archive, folder, gate;
	pid_t pid; /* of criu, and its session's */
	int pidfd; /* -1: it has ended */
	struct loop_source *exit_source, *timer;
	bool freezer;	/* the container is frozen, for its client, and criu thaws it while it holds it */
	bool cut;	/* cut.c asks for its end, and nobody else */
	bool abandoned; /* nobody will ask for its end */
	struct msg_request *end;
	bool keep;
	struct fault fault; /* why it failed; FAULT_NONE: it didn't */
};

/* --- its end --- */

static void checkpoint_free(struct checkpoint *c) {
	loop_source_free(c->exit_source);
	loop_source_free(c->timer);
	if (c->folder >= 0)
		checkpoint_folder_remove(&c->container->keeper->config, c->container->id, c->folder);
	fd_close(c->parent);
	fd_close(c->archive);
	fd_close(c->folder);
	fd_close(c->gate);
	fd_close(c->pidfd);
	c->container->checkpoint = NULL;
	free(c->location);
	free(c);
}

static const char *file_name(const struct checkpoint *c) {
	return strrchr(c->location, '/') + 1;
}

int checkpoint_name(const struct checkpoint *c, struct fault *fault) {
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", c->archive);
	if (linkat(AT_FDCWD, path, c->parent, file_name(c), AT_SYMLINK_FOLLOW) < 0)
		return fault_errno(fault, errno, "make \"%s\"", c->location);
	CLEANUP_FD int parent = openat(c->parent, ".", FOLDER_FLAGS);
	if (parent < 0 || fsync(parent) < 0)
		log_event(LOG_WARN, "a checkpoint's name may not survive a crash of the machine", "path", c->location,
			  "why", strerrordesc_np(errno), NULL);
	return 0;
}

void checkpoint_unname(const struct checkpoint *c) {
	unlinkat(c->parent, file_name(c), 0);
}

bool checkpoint_saved(const struct checkpoint *c, struct fault *fault) {
	if (c->fault.code != FAULT_NONE)
		*fault = c->fault;
	return c->pidfd < 0;
}

/* criu has ended; whoever asked is answered. */
static void checkpoint_over(struct checkpoint *c) {
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	struct msg_request *r = c->end;
	struct fault fault = c->fault;
	if (!r && !c->abandoned)
		return;
	if (r && fault.code == FAULT_NONE && c->keep && c->location[0])
		checkpoint_name(c, &fault);
	checkpoint_free(c);
	if (!r)
		return;
	r->cancelled = NULL;
	if (fault.code != FAULT_NONE)
		msg_fail(r, &fault);
	else
		keeper_checkpoint_end_reply(r, &done, NULL, 0);
}

static void grace_over(void *ctx) {
	struct checkpoint *c = ctx;
	loop_source_free_p(&c->timer);
	c->abandoned = true;
	if (c->pidfd < 0) {
		checkpoint_over(c);
		return;
	}
	log_event(LOG_WARN, "criu doesn't end and is killed", "container", c->container->id, NULL);
	sys_pidfd_send_signal(c->pidfd, SIGKILL);
}

/* Without the gate criu fails where it is, and lets the container go on. */
void checkpoint_stop(const struct checkpoint *c) {
	if (c->gate >= 0)
		shutdown(c->gate, SHUT_RDWR);
}

/* It will not be kept; criu has GRACE to end by itself, and whoever hasn't asked
 * for the end yet to do so. */
static void give_up(struct checkpoint *c) {
	checkpoint_stop(c);
	loop_source_free_p(&c->timer);
	if (loop_timer(c->container->keeper->loop, clock_mono() + GRACE, grace_over, c, &c->timer) < 0)
		grace_over(c);
}

/* Nobody waits any longer. */
static void abandon(struct checkpoint *c) {
	c->end = NULL;
	c->abandoned = true;
	if (c->pidfd < 0)
		checkpoint_over(c);
	else
		give_up(c);
}

static void time_over(void *ctx) {
	struct checkpoint *c = ctx;
	struct msg_request *r = c->end;
	fault_set(&c->fault, FAULT_DEADLINE_EXCEEDED, "it has taken too long");
	if (!r) {
		give_up(c);
		return;
	}
	r->cancelled = NULL;
	msg_fail(r, &c->fault);
	abandon(c);
}

/* What the freezer was told meanwhile, or what a criu that was killed has left,
 * isn't what the container's client wants it to be. */
static void freezer_set(const struct checkpoint *c) {
	const struct container *container = c->container;
	int r = c->freezer ? cgroup_freeze(&container->cgroup, container->frozen) : 0;
	if (r < 0)
		log_event(LOG_WARN, "a container isn't frozen as it was", "container", container->id, "why",
			  strerrordesc_np(-r), NULL);
}

/* False while it runs. A criu that was killed may leave children behind, which
 * have its end of the gate and may be stopped; until it is reaped nobody else gets
 * their group's number. */
static bool criu_reap(struct checkpoint *c, int flags, siginfo_t *ret_end) {
	siginfo_t end = { 0 };
	while (waitid(P_PIDFD, (id_t)c->pidfd, &end, WEXITED | WNOWAIT | flags) < 0 && errno == EINTR)
		;
	if (flags & WNOHANG && end.si_pid == 0)
		return false;
	kill(-c->pid, SIGKILL);
	waitid(P_PIDFD, (id_t)c->pidfd, &end, WEXITED);
	loop_source_free_p(&c->exit_source);
	fd_replace(&c->pidfd, -1);
	*ret_end = end;
	return true;
}

static void criu_ended(void *ctx, uint32_t events) {
	struct checkpoint *c = ctx;
	siginfo_t end;
	if (!criu_reap(c, WNOHANG, &end))
		return;
	freezer_set(c);
	if (end.si_code == CLD_EXITED && end.si_status == 0)
		(void)!send(c->gate, &(char){ BULKHEAD__GATE_WORD__GATE_ENDED }, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	else if (c->fault.code == FAULT_NONE)
		criu_failure(c->folder, &end, &c->fault);
	if (c->fault.code != FAULT_NONE)
		checkpoint_stop(c);
	fd_replace(&c->gate, -1);
	if (c->cut)
		cut_step(c->container->keeper);
	else if (c->fault.code != FAULT_NONE && !c->end && !c->abandoned)
		give_up(c);
	else
		checkpoint_over(c);
}

void checkpoint_drop(struct checkpoint *c) {
	if (!c)
		return;
	struct keeper *k = c->container->keeper;
	bool cut = c->cut;
	if (c->pidfd >= 0) {
		sys_pidfd_send_signal(c->pidfd, SIGKILL);
		criu_reap(c, 0, &(siginfo_t){ 0 });
	}
	checkpoint_stop(c);
	c->abandoned = true;
	if (c->fault.code == FAULT_NONE)
		fault_set(&c->fault, FAULT_FAILED_PRECONDITION, "the container has ended");
	checkpoint_over(c);
	if (cut)
		cut_step(k);
}

/* --- its beginning --- */

static int check(const struct container *c, const Bulkhead__CheckpointRequest *m, struct fault *fault) {
	const struct keeper *k = c->keeper;
	if (c->state != CONTAINER_RUNNING)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "container \"%s\" isn't running", c->id);
	if (c->checkpoint || m->cut != c->held)
		return fault_set(fault, FAULT_ABORTED, "another checkpoint of container \"%s\" is under way", c->id);
	if (k->pod.runtime || k->pod.vm)
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "only containers of the native runtime handler can be checkpointed");
	if (k->pod.userns.fd >= 0)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "containers with a user namespace can't be checkpointed");
	if (container_shares_pids(c))
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "containers that share process ids with others can't be checkpointed");
	if (c->terminal)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "containers with a terminal can't be checkpointed");
	if (m->location[0] && (m->location[0] != '/' || !strrchr(m->location, '/')[1]))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is no absolute path of a file", m->location);
	return criu_check(k->config.criu, fault);
}

static int archive_make(struct checkpoint *c, struct fault *fault) {
	if (!c->location[0]) {
		/* The answer has a descriptor all the same. */
		c->archive = open("/dev/null", O_RDWR | O_CLOEXEC);
		return c->archive < 0 ? fault_errno(fault, errno, "open /dev/null") : 0;
	}
	CLEANUP_FREE char *parent = strdup(c->location);
	if (!parent)
		return fault_errno(fault, ENOMEM, "make \"%s\"", c->location);
	strrchr(parent, '/')[1] = '\0';
	c->parent = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* A client must not read NOT_FOUND as the container's. */
	if (c->parent < 0)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "the folder \"%s\": %s", parent,
				 strerrordesc_np(errno));
	if (faccessat(c->parent, file_name(c), F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return fault_set(fault, FAULT_ALREADY_EXISTS, "\"%s\" is there already", c->location);
	c->archive = openat(c->parent, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (c->archive < 0)
		return fault_errno(fault, errno, "make a file in \"%s\"", parent);
	return 0;
}

static int criu_start(struct checkpoint *c, uint64_t timeout, int gate, struct fault *fault) {
	const struct container *container = c->container;
	const struct keeper *k = container->keeper;
	char folder[PATH_MAX], freezer[PATH_MAX];
	struct criu_dump dump = { .program = k->config.criu,
				  .folder = folder,
				  .pid = container->pid,
				  .shm = k->pod.shm,
				  .gate = gate,
				  .held = c->folder,
				  .timeout_ns = timeout };
	struct spawn s = { .pid_namespace_of = -1, .body = criu_dump, .ctx = &dump };
	snprintf(folder, sizeof(folder), "%s/%s", k->config.checkpoints, container->id);
	c->freezer = container->frozen;
	if ((c->cut || c->freezer) && cgroup_freezer_path(&container->cgroup, freezer, sizeof(freezer)) == 0)
		dump.freezer = freezer;
	int r = process_spawn(&s, &c->pid, &c->pidfd, fault);
	if (r < 0)
		return r;
	r = loop_poll(k->loop, c->pidfd, POLLIN, criu_ended, c, &c->exit_source);
	if (r == 0 && !c->cut)
		r = loop_timer(k->loop, clock_mono() + (int64_t)timeout, time_over, c, &c->timer);
	return r < 0 ? fault_errno(fault, r, "wait for criu") : 0;
}

/* Without a log there is nothing to read in its place. */
static int log_open(const struct container *c) {
	int fd = c->log_path[0] ? open(c->log_path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
	return fd >= 0 ? fd : open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* The script and the keeper have one end of the gate, the writer the other. */
static int begin(struct checkpoint *c, const Bulkhead__CheckpointRequest *m, int *ret_gate, struct fault *fault) {
	uint64_t timeout = MIN(m->timeout_ns, (uint64_t)TIMEOUT_MAX);
	int ends[2];
	c->location = strdup(m->location);
	if (!c->location)
		return fault_errno(fault, ENOMEM, "checkpoint");
	int r = archive_make(c, fault);
	if (r == 0)
		r = checkpoint_folder(&c->container->keeper->config, c->container->id, CRIU_IMAGES, &c->folder, fault);
	if (r == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		r = fault_errno(fault, errno, "make a gate");
	if (r < 0)
		return r;
	c->gate = ends[0];
	*ret_gate = ends[1];
	return criu_start(c, timeout, c->gate, fault);
}

/* Both ends of a pipe have its number, so these are the container's, too. */
static uint64_t pipe_number(int fd) {
	struct stat st;
	return fd >= 0 && fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) ? st.st_ino : 0;
}

static int input_of(const struct container *c) {
	int fds[STDIO_FDS];
	if (!c->stdio)
		return c->stdin_fd;
	stdio_fds(c->stdio, fds);
	return fds[STDIO_TO];
}

static void pipes_tell(const struct container *c, Bulkhead__CheckpointPipes *pipes) {
	pipes->stdin = pipe_number(input_of(c));
	pipes->stdout = pipe_number(log_fd(c->log, LOG_STDOUT));
	pipes->stderr = pipe_number(log_fd(c->log, LOG_STDERR));
}

void on_keeper_checkpoint(struct keeper *k, struct msg_request *r, const Bulkhead__CheckpointRequest *m) {
	Bulkhead__CheckpointPipes done = BULKHEAD__CHECKPOINT_PIPES__INIT;
	struct fault fault = { 0 };
	CLEANUP_FD int gate = -1;
	struct container *container = container_of_request(k, r, m->container_id);
	if (!container)
		return;
	if (check(container, m, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	struct checkpoint *c = calloc(1, sizeof(*c));
	if (!c) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	*c = (struct checkpoint){ .container = container,
				  .parent = -1,
				  .archive = -1,
				  .folder = -1,
				  .gate = -1,
				  .pidfd = -1,
				  .cut = m->cut };
	container->checkpoint = c;
	CLEANUP_FD int log = log_open(container);
	if (begin(c, m, &gate, &fault) < 0) {
		checkpoint_drop(c);
		msg_fail(r, &fault);
		return;
	}
	pipes_tell(container, &done);
	keeper_checkpoint_reply(r, &done, (const int[]){ c->archive, c->folder, gate, log }, 4);
}

static void end_cancelled(struct msg_request *r, void *ctx) {
	abandon(ctx);
	msg_failf(r, FAULT_CANCELLED, "the caller gave up");
}

void on_keeper_checkpoint_end(struct keeper *k, struct msg_request *r, const Bulkhead__CheckpointEndRequest *m) {
	struct container *container = container_of_request(k, r, m->container_id);
	struct checkpoint *c = container ? container->checkpoint : NULL;
	if (!container)
		return;
	if (!c || c->cut || c->abandoned || c->end) {
		msg_failf(r, FAULT_ABORTED, "its checkpoint has been given up");
		return;
	}
	if (c->fault.code == FAULT_DEADLINE_EXCEEDED) {
		msg_fail(r, &c->fault);
		abandon(c);
		return;
	}
	c->end = r;
	c->keep = m->keep;
	r->cancelled = end_cancelled;
	r->cancelled_ctx = c;
	if (!m->keep)
		checkpoint_stop(c);
	if (c->pidfd < 0)
		checkpoint_over(c);
}
