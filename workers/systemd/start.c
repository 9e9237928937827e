/*
 * unit_start: a transient scope with a process in it.
 *
 * Happy path: StartTransientUnit -> its job is done -> where it is.
 * A scope of the name is there already when the request came twice, or when the
 * pod's keeper is another: then the process moves into it. It may also be on its
 * way out, and is made anew once it is gone.
 *
 * The controllers are delegated, so that systemd leaves alone what keepers make
 * below. That of devices isn't: on cgroup v1 systemd would write its own rules,
 * which allow everything, over those of the keeper.
 */
#include "systemd.h"

#include <stdio.h>
#include <string.h>

#define UNIT_EXISTS SYSTEMD_NAME ".UnitExists"
/* What is still there of a container that didn't end by itself. */
#define STOP_TIMEOUT_US UINT64_C(10000000)

enum start_step { START_WITH_SLICE, START_ALONE, START_JOIN };

static const Bulkhead__UnitStartRequest *asked(const struct call *c) {
	return (const Bulkhead__UnitStartRequest *)c->message;
}

static int append_identity(sd_bus_message *m, const Bulkhead__UnitStartRequest *q) {
	char description[64 + UNIT_NAME_SIZE];
	snprintf(description, sizeof(description), "bulkhead %s %.128s", q->pod ? "pod sandbox" : "container", q->id);
	int r = sd_bus_message_append(m, "(sv)(sv)(sv)(sv)", "Description", "s", description, "Slice", "s", q->slice,
				      "PIDs", "au", 1, (uint32_t)q->pid, "DefaultDependencies", "b", 0);
	return r < 0 ? r
		     : sd_bus_message_append(m, "(sv)(sv)", "CollectMode", "s", "inactive-or-failed", "TimeoutStopUSec",
					     "t", STOP_TIMEOUT_US);
}

static int append_groups(sd_bus_message *m) {
	int r = sd_bus_message_append(m, "(sv)", "DelegateControllers", "as", 7, "cpu", "cpuacct", "cpuset", "io",
				      "blkio", "memory", "pids");
	return r < 0 ? r
		     : sd_bus_message_append(m, "(sv)(sv)(sv)", "CPUAccounting", "b", 1, "MemoryAccounting", "b", 1,
					     "TasksAccounting", "b", 1);
}

static int append_properties(sd_bus_message *m, const struct call *c) {
	const Bulkhead__UnitStartRequest *q = asked(c);
	int r = sd_bus_message_open_container(m, 'a', "(sv)");
	if (r >= 0)
		r = append_identity(m, q);
	if (r >= 0)
		r = append_groups(m);
	if (r >= 0)
		r = limits_append(m, q->limits, c->units->v2);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

/* The slice is made transient, too, so that nothing of it outlives it. */
static int append_slice(sd_bus_message *m, const struct call *c) {
	if (c->step != START_WITH_SLICE)
		return sd_bus_message_append(m, "a(sa(sv))", 0);
	return sd_bus_message_append(m, "a(sa(sv))", 1, asked(c)->slice, 1, "Description", "s", "bulkhead pod");
}

/* --- where it is --- */

static int located(sd_bus_message *answer, void *ctx, sd_bus_error *error) {
	struct call *c = ctx;
	const char *path;
	if (sd_bus_message_is_method_error(answer, NULL)) {
		call_refused(c, "find", sd_bus_message_get_error(answer));
	} else if (sd_bus_message_read(answer, "v", "s", &path) < 0) {
		call_fail(c, FAULT_INTERNAL, "systemd doesn't say where unit \"%s\" is", c->unit);
	} else if (!*path) {
		/* Its process has ended already, and it with it. */
		call_fail(c, FAULT_FAILED_PRECONDITION, "unit \"%s\" has ended before it was used", c->unit);
	} else {
		Bulkhead__UnitStartReply reply = BULKHEAD__UNIT_START_REPLY__INIT;
		reply.cgroup_path = (char *)path;
		unit_start_reply(c->request, &reply, NULL, 0);
		call_end(c);
	}
	return 0;
}

static void locate(struct call *c) {
	CLEANUP_FREE char *path = NULL;
	CLEANUP_MESSAGE sd_bus_message *m = NULL;
	int r = sd_bus_path_encode(SYSTEMD_PATH "/unit", c->unit, &path);
	if (r >= 0)
		r = sd_bus_message_new_method_call(c->units->bus, &m, SYSTEMD_NAME, path,
						   "org.freedesktop.DBus.Properties", "Get");
	if (r >= 0)
		r = sd_bus_message_append(m, "ss", SYSTEMD_NAME ".Scope", "ControlGroup");
	call_send(c, m, r, located);
}

/* --- making it --- */

static void job_done(struct call *c, const char *result) {
	if (strcmp(result, "done") == 0)
		locate(c);
	else
		call_fail(c, FAULT_INTERNAL, "start unit \"%s\": systemd's job ends with \"%s\"", c->unit, result);
}

static int joined(sd_bus_message *answer, void *ctx, sd_bus_error *error) {
	struct call *c = ctx;
	const sd_bus_error *e = sd_bus_message_get_error(answer);
	if (!e) {
		locate(c);
	} else if (sd_bus_error_has_name(e, SD_BUS_ERROR_UNIX_PROCESS_ID_UNKNOWN)) {
		call_refused(c, "join", e);
	} else {
		c->step = START_ALONE;
		call_again(c);
	}
	return 0;
}

static void join(struct call *c) {
	CLEANUP_MESSAGE sd_bus_message *m = bus_message(c->units, "AttachProcessesToUnit");
	int r = m ? sd_bus_message_append(m, "ssau", c->unit, "", 1, (uint32_t)asked(c)->pid) : 0;
	call_send(c, m, r, joined);
}

static void start(struct call *c);

static int started(sd_bus_message *answer, void *ctx, sd_bus_error *error) {
	struct call *c = ctx;
	const sd_bus_error *e = sd_bus_message_get_error(answer);
	if (!e) {
		call_await(c, answer, job_done);
	} else if (sd_bus_error_has_name(e, UNIT_EXISTS)) {
		c->step++;
		start(c);
	} else {
		call_refused(c, "start", e);
	}
	return 0;
}

static void start(struct call *c) {
	if (c->step == START_WITH_SLICE && !asked(c)->own_slice)
		c->step = START_ALONE;
	if (c->step == START_JOIN) {
		join(c);
		return;
	}
	CLEANUP_MESSAGE sd_bus_message *m = bus_message(c->units, "StartTransientUnit");
	int r = m ? sd_bus_message_append(m, "ss", c->unit, "fail") : 0;
	if (m && r >= 0)
		r = append_properties(m, c);
	if (m && r >= 0)
		r = append_slice(m, c);
	call_send(c, m, r, started);
}

/* --- the handler --- */

void on_unit_start(struct units *u, struct msg_request *r, const Bulkhead__UnitStartRequest *m) {
	char unit[UNIT_NAME_SIZE];
	if (scope_name(m->id, unit) < 0)
		msg_failf(r, FAULT_INVALID_ARGUMENT, "\"%.80s\" can't name a scope", m->id);
	else if (!slice_valid(m->slice))
		msg_failf(r, FAULT_INVALID_ARGUMENT, "\"%.200s\" is no slice", m->slice);
	else if (m->pid <= 0)
		msg_failf(r, FAULT_INVALID_ARGUMENT, "%d is no process", m->pid);
	else
		call_begin(u, r, &m->base, unit, start);
}
