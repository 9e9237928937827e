/*
 * A command that runs in a container, between exec.c (collects its output and
 * answers once) and exec_session.c (gives its streams away and tells its end).
 */
#pragma once

#include "workers/keeper/container.h"

struct exec;

struct output {
	struct exec *exec;
	int fd;
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
};

/* What the child is made with. */
struct exec_plan {
	const Grpc__Process *process;
	int stdio[3]; /* the child's ends, taken; -1: none */
	bool terminal;
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

/* --- exec_session.c, for those with a .session --- */

/* What the child has sent besides warnings and faults; takes fd. */
void session_terminal(struct exec *e, int fd);
/* The program runs, or its child is dying. */
void session_started(struct exec *e);
/* True when it lives on to be asked for its end. */
bool session_ended(struct exec *e, uint32_t code);
