/*
 * A command that runs in a container, between exec.c (waits for it and answers
 * once, with what exec_output.c has collected), exec_session.c (gives its streams
 * away and tells its end) and exec_named.c (a process of containerd's API, with
 * streams that lead somewhere).
 */
#pragma once

#include "workers/keeper/container.h"

struct exec;

/* writer: a write end that is never written to. With it the pipe hangs up by our
 * hand alone: the command's end is told by its pidfd, and at each close of the
 * command's own ends another wake-up would come before it. */
struct output {
	struct exec *exec;
	int fd, writer;
	struct loop_source *ready, *again;
	struct buffer data;
};

struct exec {
	struct list node;
	struct container *container;
	struct msg_request *request; /* NULL: the caller has given up, or none waits yet */
	pid_t pid;
	int pidfd, status;
	struct loop_source *exit_source, *status_source, *timer;
	struct output outputs[2];
	struct cgroup group;
	bool timed_out, failed;
	bool making; /* pid is that of who runs the runtime for it */
	uint64_t timeout_ns;
	struct fault fault;

	/* exec_session.c */
	char *session;	/* its name; NULL: not one of those */
	int streams[3]; /* our ends, until they are given away */
	bool given;	/* they are, so the command runs */
	bool unwanted;	/* nobody will ask for its end */
	bool over;	/* has ended, with .code */
	uint32_t code;

	/* exec_named.c */
	char *name;	 /* NULL: not one of those */
	unsigned number; /* of its control group */
	struct log *log;
	struct stdio *stdio;
	bool terminal;
	bool over_early; /* it has ended, and who made it still has something to say */
	bool adopted;	 /* not our child: its exit code is the kernel's to tell */
	unsigned exit_tries;
	int64_t started_at, finished_at;
};

/* What the child is made with. */
struct exec_plan {
	const Grpc__Process *process;
	int stdio[3]; /* the child's ends, taken; -1: none */
	bool terminal;
	const Bulkhead__Stdio *size; /* of the terminal; NULL: unknown */
	bool own_user;		     /* the process's own, not the container's */
	bool wait;		     /* for process_go, once it is prepared */
};

struct exec *exec_new(struct container *c);
void exec_free(struct exec *e);
/* Kills the command and all that it has started. */
void exec_kill(struct exec *e);
/* Status, exit and, unless 0, a time limit. */
int exec_watch(struct exec *e, uint64_t timeout_ns);
/* The container's own process with another command, in the arena. */
int exec_process(const struct container *c, struct arena *a, char **args, size_t n_args, bool terminal,
		 Grpc__Process **ret_process, struct fault *fault);

/* --- exec_output.c --- */

void outputs_init(struct exec *e);
/* Makes the pipes; the child's ends are stdio's 1 and 2, and the caller's. */
int outputs_make(struct exec *e, int stdio[3], struct fault *fault);
/* Takes what there is now. */
void outputs_drain(struct exec *e);
void outputs_deinit(struct exec *e);

/* --- exec_session.c, for those with a .session --- */

/* What the child has sent besides warnings and faults; takes fd. */
void session_terminal(struct exec *e, int fd);
/* The program runs, or its child is dying. */
void session_started(struct exec *e);
/* True when it lives on to be asked for its end. */
bool session_ended(struct exec *e, uint32_t code);

/* --- exec_named.c, for those with a .name --- */

struct exec *named_find(const struct container *c, const char *name);
void named_terminal(struct exec *e, int fd);
/* Prepared: from here on a successor knows of it. */
void named_ready(struct exec *e);
void named_started(struct exec *e);
/* True when it lives on, to be deleted. */
bool named_ended(struct exec *e, uint32_t code);
void named_exit(const struct exec *e, Bulkhead__TaskExit *ret_exit);
/* What the vault has of it is under this id. */
void named_vault_id(const struct container *c, unsigned number, char *ret_id, size_t size);
void named_vault(const struct exec *e);
/* Whether the vault has it; and it has it no more. */
bool named_kept(const struct exec *e);
void named_forget(const struct exec *e);
