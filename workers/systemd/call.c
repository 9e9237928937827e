/*
 * What every request to systemd has in common.
 *
 * A call waits for its answer, and then, perhaps, for the job that the answer
 * names: systemd says by a signal how that ended. Whatever it is, the call ends
 * when its patience does: a short one while there is no connection, so that a
 * client hears why.
 */
#include "systemd.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <errno.h>
#include <string.h>

#define PATIENCE (30 * NS_PER_SEC)
#define PATIENCE_ALONE (5 * NS_PER_SEC)
#define PAUSE (20 * NS_PER_MS)

void call_end(struct call *c) {
	list_unlink(&c->node);
	sd_bus_slot_unref(c->slot);
	loop_source_free(c->timer);
	loop_source_free(c->pause);
	free(c);
}

void call_fail(struct call *c, enum fault_code code, const char *format, ...) {
	struct fault fault;
	char text[FAULT_TEXT_MAX];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	fault_set(&fault, code, "%s", text);
	msg_fail(c->request, &fault);
	call_end(c);
}

void call_refused(struct call *c, const char *what, const sd_bus_error *e) {
	bool argument = sd_bus_error_has_name(e, SD_BUS_ERROR_INVALID_ARGS);
	bool gone = sd_bus_error_has_name(e, SD_BUS_ERROR_UNIX_PROCESS_ID_UNKNOWN);
	call_fail(c,
		  argument ? FAULT_INVALID_ARGUMENT
		  : gone   ? FAULT_FAILED_PRECONDITION
			   : FAULT_INTERNAL,
		  "%s %s: systemd says: %s", what, c->unit, e->message ? e->message : e->name);
}

static void late(void *ctx) {
	struct call *c = ctx;
	if (c->units->ready)
		call_fail(c, FAULT_DEADLINE_EXCEEDED, "systemd doesn't finish what was asked for unit \"%s\"", c->unit);
	else
		call_fail(c, FAULT_UNAVAILABLE, "%s", c->units->reason);
}

static void wait_at_most(struct call *c, int64_t patience) {
	loop_source_free_p(&c->timer);
	if (loop_timer(c->units->loop, clock_mono() + patience, late, c, &c->timer) < 0)
		loop_stop(c->units->loop, -ENOMEM);
}

void call_begin(struct units *u, struct msg_request *r, const ProtobufCMessage *message, const char *unit,
		void (*begin)(struct call *c)) {
	struct call *c = calloc(1, sizeof(*c));
	if (!c) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", r->row->name);
		return;
	}
	c->units = u;
	c->request = r;
	c->message = message;
	snprintf(c->unit, sizeof(c->unit), "%s", unit);
	c->begin = begin;
	list_append(&u->calls, &c->node);
	wait_at_most(c, u->ready ? PATIENCE : PATIENCE_ALONE);
	if (u->ready)
		begin(c);
}

static void forget(struct call *c) {
	c->slot = sd_bus_slot_unref(c->slot);
	c->job[0] = '\0';
	loop_source_free_p(&c->pause);
}

void calls_halt(struct units *u) {
	list_for_each (n, &u->calls) {
		struct call *c = list_entry(n, struct call, node);
		forget(c);
		wait_at_most(c, PATIENCE_ALONE);
	}
}

void calls_begin(struct units *u) {
	list_for_each_safe (n, &u->calls) {
		struct call *c = list_entry(n, struct call, node);
		wait_at_most(c, PATIENCE);
		c->step = 0;
		c->begin(c);
	}
}

void call_send(struct call *c, sd_bus_message *m, int r, sd_bus_message_handler_t answer) {
	c->slot = sd_bus_slot_unref(c->slot);
	if (m && r >= 0)
		r = sd_bus_call_async(c->units->bus, &c->slot, m, answer, c, 0);
	if (!m || r < 0)
		call_fail(c, FAULT_INTERNAL, "ask systemd for unit \"%s\": %s", c->unit,
			  strerrordesc_np(m ? -r : ENOMEM));
}

void call_await(struct call *c, sd_bus_message *answer, void (*done)(struct call *c, const char *result)) {
	const char *job;
	if (sd_bus_message_read(answer, "o", &job) < 0 || strlen(job) >= sizeof(c->job)) {
		call_fail(c, FAULT_INTERNAL, "systemd's answer about unit \"%s\" names no job", c->unit);
		return;
	}
	strcpy(c->job, job);
	c->job_done = done;
}

void calls_job_removed(struct units *u, const char *job, const char *result) {
	list_for_each_safe (n, &u->calls) {
		struct call *c = list_entry(n, struct call, node);
		if (strcmp(c->job, job) != 0)
			continue;
		c->job[0] = '\0';
		c->job_done(c, result);
	}
}

static void again(void *ctx) {
	struct call *c = ctx;
	loop_source_free_p(&c->pause);
	c->begin(c);
}

void call_again(struct call *c) {
	forget(c);
	if (loop_timer(c->units->loop, clock_mono() + PAUSE, again, c, &c->pause) < 0)
		loop_stop(c->units->loop, -ENOMEM);
}
