/*
 * The end of a unit, new limits for it, and which there are.
 *
 * A scope ends by itself with its last process; unit_stop makes sure of it, and
 * ends a slice that was made for one pod. What systemd doesn't know is gone.
 */
#include "systemd.h"

#include <errno.h>
#include <string.h>

#define SCOPES "bulkhead-*.scope"
#define NO_SUCH_UNIT SYSTEMD_NAME ".NoSuchUnit"

/* --- unit_stop --- */

static const struct stop_step {
	const char *method;
	bool slice;
	bool job;
} stop_steps[] = {
	{ .method = "StopUnit", .job = true },
	{ .method = "ResetFailedUnit" },
	{ .method = "StopUnit", .slice = true, .job = true },
	{ .method = "ResetFailedUnit", .slice = true },
};

static void stop(struct call *c);

static void stop_next(struct call *c) {
	c->step++;
	stop(c);
}

static void stop_job_done(struct call *c, const char *result) {
	stop_next(c);
}

static int stopped(sd_bus_message *answer, void *ctx, sd_bus_error *error) {
	struct call *c = ctx;
	const sd_bus_error *e = sd_bus_message_get_error(answer);
	if (e && stop_steps[c->step].job && !sd_bus_error_has_name(e, NO_SUCH_UNIT))
		call_refused(c, "stop", e);
	else if (!e && stop_steps[c->step].job)
		call_await(c, answer, stop_job_done);
	else
		stop_next(c);
	return 0;
}

static void stop(struct call *c) {
	const Bulkhead__UnitStopRequest *q = (const Bulkhead__UnitStopRequest *)c->message;
	if (c->step == ARRAY_SIZE(stop_steps) || (stop_steps[c->step].slice && !q->slice[0])) {
		Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
		unit_stop_reply(c->request, &done, NULL, 0);
		call_end(c);
		return;
	}
	const struct stop_step *s = &stop_steps[c->step];
	CLEANUP_MESSAGE sd_bus_message *m = bus_message(c->units, s->method);
	int r = m ? sd_bus_message_append(m, "s", s->slice ? q->slice : c->unit) : 0;
	if (m && r >= 0 && s->job)
		r = sd_bus_message_append(m, "s", "replace");
	call_send(c, m, r, stopped);
}

void on_unit_stop(struct units *u, struct msg_request *r, const Bulkhead__UnitStopRequest *m) {
	char unit[UNIT_NAME_SIZE];
	if (scope_name(m->id, unit) < 0 || (m->slice[0] && !slice_valid(m->slice)))
		msg_failf(r, FAULT_INVALID_ARGUMENT, "\"%.80s\" and \"%.200s\" can't name units", m->id, m->slice);
	else
		call_begin(u, r, &m->base, unit, stop);
}

/* --- unit_update --- */

static int updated(sd_bus_message *answer, void *ctx, sd_bus_error *error) {
	struct call *c = ctx;
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	if (sd_bus_message_is_method_error(answer, NULL)) {
		call_refused(c, "set limits of", sd_bus_message_get_error(answer));
		return 0;
	}
	unit_update_reply(c->request, &done, NULL, 0);
	call_end(c);
	return 0;
}

static void update(struct call *c) {
	const Bulkhead__UnitUpdateRequest *q = (const Bulkhead__UnitUpdateRequest *)c->message;
	CLEANUP_MESSAGE sd_bus_message *m = bus_message(c->units, "SetUnitProperties");
	int r = m ? sd_bus_message_append(m, "sb", c->unit, 1) : 0;
	if (m && r >= 0)
		r = sd_bus_message_open_container(m, 'a', "(sv)");
	if (m && r >= 0)
		r = limits_append(m, q->limits, c->units->v2);
	if (m && r >= 0)
		r = sd_bus_message_close_container(m);
	call_send(c, m, r, updated);
}

void on_unit_update(struct units *u, struct msg_request *r, const Bulkhead__UnitUpdateRequest *m) {
	char unit[UNIT_NAME_SIZE];
	if (m->slice[0] ? !slice_valid(m->slice) : scope_name(m->id, unit) < 0)
		msg_failf(r, FAULT_INVALID_ARGUMENT, "\"%.80s\" and \"%.200s\" can't name units", m->id, m->slice);
	else
		call_begin(u, r, &m->base, m->slice[0] ? m->slice : unit, update);
}

/* --- unit_list --- */

/* An id at the end of a list, in the request's arena. */
static int list_add(struct arena *a, char ***list, size_t *n, const char *id) {
	/* Room doubles whenever the number is a power of two. */
	if ((*n & (*n - 1)) == 0) {
		char **more = arena_alloc(a, (*n ? *n * 2 : 1) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		if (*n)
			memcpy(more, *list, *n * sizeof(*more));
		*list = more;
	}
	(*list)[*n] = arena_strdup(a, id);
	return (*list)[(*n)++] ? 0 : -ENOMEM;
}

static int list_read(struct call *c, sd_bus_message *answer, Bulkhead__UnitListReply *reply) {
	const Bulkhead__UnitListRequest *q = (const Bulkhead__UnitListRequest *)c->message;
	struct arena *a = &c->request->arena;
	const char *unit, *state;
	char id[UNIT_NAME_SIZE];
	int r = sd_bus_message_enter_container(answer, 'a', "(ssssssouso)");
	while (r >= 0 && (r = sd_bus_message_read(answer, "(ssssssouso)", &unit, NULL, NULL, &state, NULL, NULL, NULL,
						  NULL, NULL, NULL)) > 0) {
		if (strcmp(state, "active") != 0)
			continue;
		if (scope_id(unit, id))
			r = list_add(a, &reply->ids, &reply->n_ids, id);
		else if (slice_id(q->slice, unit, id))
			r = list_add(a, &reply->pods, &reply->n_pods, id);
	}
	return r;
}

static int listed(sd_bus_message *answer, void *ctx, sd_bus_error *error) {
	struct call *c = ctx;
	Bulkhead__UnitListReply reply = BULKHEAD__UNIT_LIST_REPLY__INIT;
	if (sd_bus_message_is_method_error(answer, NULL)) {
		call_refused(c, "list", sd_bus_message_get_error(answer));
		return 0;
	}
	int r = list_read(c, answer, &reply);
	if (r < 0) {
		call_fail(c, FAULT_INTERNAL, "read systemd's list of units: %s", strerrordesc_np(-r));
		return 0;
	}
	unit_list_reply(c->request, &reply, NULL, 0);
	call_end(c);
	return 0;
}

static void list(struct call *c) {
	CLEANUP_MESSAGE sd_bus_message *m = bus_message(c->units, "ListUnitsByPatterns");
	int r = m ? sd_bus_message_append(m, "asas", 0, 2, SCOPES, c->unit) : 0;
	call_send(c, m, r, listed);
}

void on_unit_list(struct units *u, struct msg_request *r, const Bulkhead__UnitListRequest *m) {
	char slices[UNIT_NAME_SIZE];
	if (slice_pattern(m->slice, slices) < 0)
		msg_failf(r, FAULT_INVALID_ARGUMENT, "\"%.200s\" is no slice", m->slice);
	else
		call_begin(u, r, &m->base, slices, list);
}
