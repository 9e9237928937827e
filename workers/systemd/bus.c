/*
 * The connection to systemd: its own socket, which it keeps for root, so that
 * no bus daemon needs to run.
 *
 * Happy path: bus_open -> the greeting -> ready, the open calls begin.
 * Failure: it is tried again after 0.1 s, 0.2 s ... 5 s, for as long as it
 * takes; so it is when systemd executes itself anew.
 */
#include "systemd.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define ADDRESS "unix:path=/run/systemd/private"
#define FIRST_PAUSE (100 * NS_PER_MS)
#define LONGEST_PAUSE (5 * NS_PER_SEC)
#define GREETING_LIMIT (5 * NS_PER_SEC)
#define NEVER UINT64_MAX

static void bus_open(struct units *u);

static void open_due(void *ctx) {
	struct units *u = ctx;
	loop_source_free_p(&u->bus_timer);
	bus_open(u);
}

static void bus_lost(struct units *u, int error) {
	bool was_ready = u->ready;
	snprintf(u->reason, sizeof(u->reason), "systemd isn't reachable at /run/systemd/private: %s",
		 strerrordesc_np(-error));
	loop_source_free_p(&u->bus_source);
	loop_source_free_p(&u->bus_timer);
	calls_halt(u);
	u->ready = false;
	u->bus = sd_bus_close_unref(u->bus);
	if (was_ready || u->pause == 0) {
		log_event(LOG_WARN, "no connection to systemd", "why", u->reason, NULL);
		units_tell(u);
	}
	u->pause = was_ready || u->pause == 0 ? FIRST_PAUSE : MIN(u->pause * 2, LONGEST_PAUSE);
	if (loop_timer(u->loop, clock_mono() + u->pause, open_due, u, &u->bus_timer) < 0)
		loop_stop(u->loop, -ENOMEM);
}

static void bus_entered(struct units *u) {
	loop_source_free_p(&u->bus_timer);
	u->ready = true;
	u->pause = FIRST_PAUSE;
	log_text(LOG_INFO, "connected to systemd");
	units_tell(u);
	calls_begin(u);
}

static void bus_ready(void *ctx, uint32_t events) {
	struct units *u = ctx;
	int r;
	while ((r = sd_bus_process(u->bus, NULL)) > 0)
		;
	if (r == 0 && !u->ready && (r = sd_bus_is_ready(u->bus)) > 0)
		bus_entered(u);
	if (r < 0)
		bus_lost(u, r);
}

static void greeting_late(void *ctx) {
	bus_lost(ctx, -ETIMEDOUT);
}

static int job_removed(sd_bus_message *m, void *ctx, sd_bus_error *error) {
	const char *job, *unit, *result;
	uint32_t id;
	if (sd_bus_message_read(m, "uoss", &id, &job, &unit, &result) >= 0)
		calls_job_removed(ctx, job, result);
	return 0;
}

static int connection_make(struct units *u) {
	int r = sd_bus_new(&u->bus);
	if (r >= 0)
		r = sd_bus_set_address(u->bus, ADDRESS);
	if (r >= 0)
		r = sd_bus_set_method_call_timeout(u->bus, NEVER);
	if (r >= 0)
		r = sd_bus_match_signal(u->bus, NULL, NULL, SYSTEMD_PATH, SYSTEMD_MANAGER, "JobRemoved", job_removed,
					u);
	return r < 0 ? r : sd_bus_start(u->bus);
}

static void bus_open(struct units *u) {
	int r = connection_make(u);
	if (r >= 0)
		r = loop_poll(u->loop, sd_bus_get_fd(u->bus), POLLIN | POLLOUT, bus_ready, u, &u->bus_source);
	if (r >= 0)
		r = loop_timer(u->loop, clock_mono() + GREETING_LIMIT, greeting_late, u, &u->bus_timer);
	if (r < 0)
		bus_lost(u, r);
	else
		bus_ready(u, POLLIN);
}

void bus_begin(struct units *u) {
	bus_open(u);
}

sd_bus_message *bus_message(struct units *u, const char *method) {
	sd_bus_message *m = NULL;
	if (sd_bus_message_new_method_call(u->bus, &m, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, method) < 0)
		return NULL;
	return m;
}
