/*
 * The supervisor at work. Single-threaded, one loop; it talks to its workers
 * in fixed-size control messages and to nobody else.
 *
 *   main.c     options, start-up, readiness
 *   signals.c  reload, the end
 *   watch.c    the life of one worker: start, ready, liveness, death, again
 *   links.c    who is connected with whom
 */
#pragma once

#include "loop/loop.h"
#include "supervisor/config.h"

#define SLOTS_MAX (ROLE_COUNT + BOOT_ENDPOINTS_MAX)
#define SLOT_NAME_MAX (16 + BOOT_ENDPOINT_NAME_MAX)

/* A place that one worker after the other fills. */
struct slot {
	struct supervisor *supervisor;
	enum role role;
	unsigned instance;	  /* of an API worker: its endpoint's place */
	char name[SLOT_NAME_MAX]; /* "metadata", "api/cri" */
	pid_t pid;		  /* 0: none runs */
	int pidfd, control;
	struct loop_source *exit_source, *control_source, *restart_timer;
	bool ready;	 /* this one */
	bool was_ready;	 /* this one or one before it */
	bool accused;	 /* this one has reported a violation */
	int64_t started; /* clock_mono */
	bool asked;	 /* a ping is open since .asked_at */
	int64_t asked_at;
	uint32_t restarts, quick_deaths;
};

struct supervisor {
	struct loop *loop;
	struct config config;
	struct config_source source;
	const char *libexec;
	int lock, workers_lock;
	struct slot slots[SLOTS_MAX];
	size_t n_slots;
	int listeners[BOOT_ENDPOINTS_MAX]; /* by endpoint */
	size_t n_listeners;		   /* that are open */
	int stream_listener;
	int signals;
	struct loop_source *signal_source, *watchdog_timer, *ping_timer, *stop_timer, *rest_timer;
	bool all_begun; /* those that don't face clients too */
	bool announced; /* READY=1 was sent */
	bool stopping;
	enum role stop_role; /* whose workers are finishing */
};

/* --- watch.c --- */

void slot_start(struct slot *t);
/* Sends or, when it can't take it, ends the worker. */
void slot_tell(struct slot *t, const struct control *c, const int *fds, size_t n_fds);
void slot_kill(struct slot *t, const char *why);
/* Looks at every worker now and again, from now on with the present
 * configuration. */
int watch_start(struct supervisor *s) NODISCARD;

/* --- links.c --- */

/* Connects a new worker with everybody that it has to do with and that runs. */
void links_make(struct slot *t);
/* Tells the others that it is gone. */
void links_end(struct slot *t);

/* --- signals.c --- */

int signals_open(struct supervisor *s) NODISCARD;
/* The workers finish, then the loop stops with 0; containers run on. */
void supervisor_finish(struct supervisor *s);

/* --- what watch.c reports, to main.c and signals.c --- */

void supervisor_ready(struct supervisor *s, struct slot *t);
void supervisor_gone(struct supervisor *s, struct slot *t);
