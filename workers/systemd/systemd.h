/*
 * The systemd worker: makes units of systemd's for pods and containers, and
 * changes and ends them. It is what a cgroup driver of that name needs, and
 * runs with it alone.
 *
 *   main.c    the worker; what the metadata worker is told unasked
 *   bus.c     the connection to systemd, which comes back when systemd does
 *   call.c    what every request has: its place in the list, its patience, its end
 *   start.c   unit_start
 *   stop.c    unit_stop, unit_update, unit_list
 *   limits.c  numbers as properties
 *
 * Invariant: each request may be begun again at any moment. When the connection
 * breaks, all that are open are, as soon as there is another.
 */
#pragma once

#include "base/list.h"
#include "base/unit.h"
#include "msg/typed.h"
#include "workers/skeleton/worker.h"

#include <systemd/sd-bus.h>

#define SYSTEMD_NAME "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER SYSTEMD_NAME ".Manager"
#define JOB_PATH_SIZE 96

struct units {
	struct loop *loop;
	struct link *metadata;
	bool v2; /* whether systemd has the controllers of cgroup v2 */

	sd_bus *bus; /* NULL: none, or none yet */
	bool ready;  /* it has let us in */
	struct loop_source *bus_source, *bus_timer;
	int64_t pause;	  /* before the next attempt */
	char reason[160]; /* why there is none */
	struct list calls;
};

struct call {
	struct list node; /* in units->calls */
	struct units *units;
	struct msg_request *request;
	const ProtobufCMessage *message; /* the request's own */
	void (*begin)(struct call *c);
	void (*job_done)(struct call *c, const char *result); /* of the job that is waited for */
	sd_bus_slot *slot;
	char job[JOB_PATH_SIZE]; /* empty: none */
	char unit[UNIT_NAME_SIZE];
	unsigned step;
	struct loop_source *timer, *pause;
};

/* --- bus.c --- */

void bus_begin(struct units *u);
/* A message to systemd's manager; NULL when out of memory. */
sd_bus_message *bus_message(struct units *u, const char *method);
#define CLEANUP_MESSAGE CLEANUP(message_unref)
static inline void message_unref(sd_bus_message **m) {
	sd_bus_message_unref(*m);
}

/* --- call.c --- */

/* Begins at once, or when there is a connection. */
void call_begin(struct units *u, struct msg_request *r, const ProtobufCMessage *message, const char *unit,
		void (*begin)(struct call *c));
/* All that are open, on a new connection; and when one broke. */
void calls_begin(struct units *u);
void calls_halt(struct units *u);
/* Sends m (NULL or r < 0: it couldn't be made); answer is called with c. */
void call_send(struct call *c, sd_bus_message *m, int r, sd_bus_message_handler_t answer);
/* Waits for the job that an answer names. */
void call_await(struct call *c, sd_bus_message *answer, void (*done)(struct call *c, const char *result));
/* Begins again a moment later. */
void call_again(struct call *c);
/* Both end it; the reply was sent before. */
void call_end(struct call *c);
void call_fail(struct call *c, enum fault_code code, const char *format, ...) PRINTF(3, 4);
/* What systemd says; an error of it as the sentence. */
void call_refused(struct call *c, const char *what, const sd_bus_error *e);
void calls_job_removed(struct units *u, const char *job, const char *result);

/* --- start.c, stop.c: handlers --- */

#define TO_SYSTEMD(name) HANDLER_DECLARE(struct units, name)
#include "msg/receivers.def"

/* --- limits.c --- */

/* Appends the limits that are said as properties (sv); l may be NULL. */
int limits_append(sd_bus_message *m, const Bulkhead__UnitLimits *l, bool v2);

/* --- main.c --- */

/* The connection has come or gone. */
void units_tell(struct units *u);
