/*
 * The life of every worker: prepare, confine, serve.
 *
 *   prepare  root still, nothing foreign read yet: load libraries, make
 *            folders, open what confine takes out of reach
 *   confine  the skeleton applies the row of the privilege table that came
 *            with the boot block; no way back
 *   serve    the loop is enabled; the worker makes its sources and is ready
 *
 * The skeleton owns the loop, the control socket and one link per peer.
 *
 * worker->state must be set before the first worker_link: by prepare, or at
 * the head of serve. Handlers and callbacks run in the loop, so never before
 * serve has returned; a negative errno from prepare or serve ends the worker,
 * and the supervisor tries again.
 */
#pragma once

#include "boot/boot.h"
#include "loop/loop.h"
#include "msg/msg.h"

#define WORKER_INSTANCES_MAX BOOT_ENDPOINTS_MAX

struct worker {
	struct loop *loop;
	const struct boot_block *boot;
	struct boot_config config; /* follows CONTROL_RELOAD */
	void *state;		   /* the worker's own */
	/* private to the skeleton */
	struct worker_private *private;
};

struct worker_class {
	enum role role;
	struct loop_options loop;
	const enum role *peers;		     /* ends with ROLE_SUPERVISOR */
	const struct link_handler *handlers; /* first argument: worker->state */
	int (*prepare)(struct worker *w);
	int (*serve)(struct worker *w);
	/* Any of these may be NULL. */
	void (*link_up)(struct worker *w, enum role peer, unsigned instance);
	void (*link_down)(struct worker *w, enum role peer, unsigned instance);
	void (*listener)(struct worker *w, unsigned index, int fd); /* fd is taken */
	void (*zygote)(struct worker *w, int fd);		    /* fd is taken */
	void (*reload)(struct worker *w);
	/* CONTROL_STOP: call worker_exit when done. NULL: exit at once. */
	void (*stop)(struct worker *w);
};

/* The body of a worker's main; returns its exit status. */
int worker_main(const struct worker_class *class, int argc, char **argv);
/* Never NULL; detached while the peer is away. */
struct link *worker_link(struct worker *w, enum role peer, unsigned instance);
/* The peer's pid on the host; 0 while it is away. */
pid_t worker_peer_pid(const struct worker *w, enum role peer, unsigned instance);
void worker_exit(struct worker *w, int status);
/* The whole daemon has done what it was there for: every worker gets
 * CONTROL_STOP. Only the metadata worker of an agent may say so. */
void worker_finish(struct worker *w);
/* The endpoint that an API worker is, or that the API worker of that instance
 * is to its peer; NULL for the others. */
const struct boot_endpoint *worker_endpoint(const struct worker *w, enum role role, unsigned instance);
