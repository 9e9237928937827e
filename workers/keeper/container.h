/*
 * One container of the pod. Its states:
 *
 *   CREATING  the child prepares itself; the create request waits
 *   CREATED   it waits for the word to go
 *   STARTING  told to go, not known to have executed; the start request waits
 *   RUNNING   until its pidfd says otherwise
 *   EXITED    its exit is known and kept until container_delete
 *
 * A create that fails leaves nothing; a start that fails leaves an EXITED
 * container with exit code 128.
 */
#pragma once

#include "workers/keeper/keeper.h"
#include "workers/keeper/log.h"
#include "workers/keeper/process.h"
#include "workers/keeper/stdio.h"

enum container_state {
	CONTAINER_CREATING,
	CONTAINER_CREATED,
	CONTAINER_STARTING,
	CONTAINER_RUNNING,
	CONTAINER_EXITED,
};

/* See oom_watch.c. */
struct oom_watch {
	int fd; /* what the kernel wakes; -1: none */
	uint32_t events;
	struct loop_source *source, *timer;
	unsigned looks; /* since it was woken */
	uint64_t guest; /* kills in a virtual machine */
	uint64_t kills; /* as the kernel counts, that were seen */
	uint32_t times; /* how often some were */
};

struct container {
	struct list node; /* in keeper->containers */
	struct keeper *keeper;
	char *id;
	enum container_state state;
	pid_t pid;
	int pidfd;
	struct loop_source *exit_source;
	bool adopted; /* not our child: its exit code is the kernel's to tell */
	unsigned exit_tries;
	struct loop_source *exit_timer;

	/* until it has executed */
	int status;
	struct loop_source *status_source;
	struct msg_request *pending; /* create or start */
	bool start_at_once;
	struct fault *failed; /* why it is being killed before it ran */

	struct log *log;
	struct stdio *stdio; /* where its streams lead; NULL: to the log and to whoever attaches */
	char *log_path;
	int stdin_fd; /* our end; -1 */
	bool takes_stdin, stdin_once;
	bool terminal;
	bool frozen; /* by a client */
	bool held;   /* by a cut, as long as that lasts */
	struct cgroup cgroup;
	bool restored, restores; /* and: a maker is at work, see restore.c */
	int maker;		 /* pidfd of who has handed the process over; -1 */
	struct loop_source *maker_source;
	pid_t holder; /* see hold.c; 0: none */
	Bulkhead__NamespaceMode pid_mode;
	uint32_t stop_signal;
	struct buffer process; /* packed grpc.Process */
	struct buffer seccomp;
	uint32_t seccomp_flags;
	struct user_ids *user; /* from malloc; NULL until ready */
	char **warnings;
	size_t n_warnings;

	int64_t created_at, started_at, finished_at;
	uint32_t exit_code;
	struct oom_watch oom;

	struct list waits; /* struct wait: stop and delete requests */
	struct list execs; /* struct exec */
	struct list attachments;
	unsigned n_execs; /* so far, for their groups' names */
	struct checkpoint *checkpoint;
};

/* --- container.c --- */

struct container *container_find(const struct keeper *k, const char *id);
int container_new(struct keeper *k, const char *id, struct container **ret_container);
/* Ends its sources, closes its descriptors; its process must be gone. */
void container_free(struct container *c);
/* Once, however often it's said. */
void container_warn(void *container, const char *text);
/* What was warned of with that beginning isn't so any more. */
void container_unwarn(struct container *c, const char *beginning);
/* Fails the request and returns NULL when there is no such container. */
struct container *container_of_request(struct keeper *k, struct msg_request *r, const char *id);
/* FAILED_PRECONDITION when no command can be begun in it: it doesn't run, or is
 * paused, where one would wait until it is resumed. */
int container_enterable(const struct container *c, struct fault *fault) NODISCARD;
/* Its first process has ended or is about to, whether the keeper has heard of
 * it or not: nothing can enter it any more. */
bool container_leaving(const struct container *c);
/* What fails for a container that ends meanwhile fails because of that, however
 * the kernel has put it. Returns r. */
int container_fault(const struct container *c, int r, struct fault *fault);
/* May others live on when its first process has ended? */
bool container_shares_pids(const struct container *c);
void container_exit(const struct container *c, Bulkhead__TaskExit *ret_exit);
/* Warnings as of now, those of the log included; from the arena. */
void container_created_reply(struct msg_request *r, struct container *c);
void container_vault(struct container *c);

/* --- container_watch.c --- */

/* The word to go. */
void container_go(struct container *c);
/* Why it is being killed; the first reason is the one that is told. */
void container_abort(struct container *c, const struct fault *fault);
/* Handles what the child has said so far; the process may have ended. */
void container_status_drain(struct container *c);
int container_watch(struct container *c);

/* --- oom_watch.c --- */

/* It runs: kills for want of memory are told from now on. */
void oom_watch_begin(struct container *c);
/* There may be more of them. */
void oom_watch_look(struct container *c);
/* Before its control group goes; all that was is counted. */
void oom_watch_end(struct container *c);

/* --- hold.c --- */

void hold_begin(struct container *c);
/* What its control group tells has been read. */
void hold_end(struct container *c);

/* --- container_end.c --- */

void container_signal(struct container *c, int sig);
/* To all of its processes. */
void container_signal_all(struct container *c, int sig);
/* Its first process is gone; code as the CRI counts (128 + signal). */
void container_ended(struct container *c, uint32_t code);
/* An open exec has ended or was given up. */
void container_kill_now(struct container *c);
/* A v1 freezer keeps what was killed from ending. */
void container_thaw_to_die(struct container *c);

/* --- attach.c --- */

/* It has ended: attached clients get what is left, then the end. */
void attach_end_all(struct container *c);

/* --- exec.c --- */

void exec_free_all(struct container *c);
bool exec_any(const struct container *c);
