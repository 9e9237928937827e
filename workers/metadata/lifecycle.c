#include "workers/metadata/lifecycle.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/ctask/ctask.h"
#include "workers/metadata/sweep.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define EXIT_UNKNOWN 255
#define EXIT_START_FAILED 128

bool sandbox_visible(const struct sandbox *s) {
	return s->record->phase != BULKHEAD__SANDBOX_PHASE__SANDBOX_STARTING;
}

bool container_visible(const struct container *c) {
	return c->record->created_at != 0;
}

void attempt_taken(struct msg_request *r, const char *doing, const char *name, uint32_t attempt, const char *id) {
	msg_failf(
	    r, FAULT_ALREADY_EXISTS,
	    "%s \"%s\": attempt %u of it is there with another configuration (%s): remove it first, or use another "
	    "attempt",
	    doing, name, attempt, id);
}

void sandbox_key(const char *id, char ret_key[KEY_SIZE]) {
	snprintf(ret_key, KEY_SIZE, "s/%s", id);
}

void container_key(const char *id, char ret_key[KEY_SIZE]) {
	snprintf(ret_key, KEY_SIZE, "c/%s", id);
}

int sandbox_save(struct metadata *m, struct sandbox *s) {
	char key[KEY_SIZE];
	sandbox_key(s->record->id, key);
	return store_put(m->store, STORE_PODS, key, RECORD_SANDBOX, &s->record->base);
}

int container_save(struct metadata *m, struct container *c) {
	char key[KEY_SIZE];
	container_key(c->record->id, key);
	return store_put(m->store, STORE_PODS, key, RECORD_CONTAINER, &c->record->base);
}

void container_save_logged(struct metadata *m, struct container *c) {
	int r = container_save(m, c);
	if (r < 0)
		log_event(LOG_ERROR, "container's record not stored", "container", c->record->id, "error",
			  strerrordesc_np(-r), NULL);
}

/* --- ends ------------------------------------------------------------------- */

static void set_text(struct container *c, char **field, const char *text) {
	char *copy = arena_strdup(&c->arena, text);
	if (copy)
		*field = copy;
}

static void end(struct metadata *m, struct container *c, const Bulkhead__TaskExit *e) {
	if (!c->record->exit)
		c->record->exit = message_copy(&c->arena, &e->base);
	if (c->record->exit && c->record->exit->finished_at == 0)
		c->record->exit->finished_at = clock_real();
	c->record->phase = BULKHEAD__CONTAINER_PHASE__CONTAINER_ENDED;
	container_save_logged(m, c);
	ctask_lent_ended(m, c);
	sweep_unit_container(m, c->record->id);
	if (e->ooms > 0)
		events_add(&m->events, EVENT_OOM, c->record->sandbox_id, c->record->id);
	events_add(&m->events, EVENT_STOPPED, c->record->sandbox_id, c->record->id);
}

void container_ended(struct metadata *m, struct container *c, const Bulkhead__TaskExit *e) {
	Bulkhead__TaskExit unknown = BULKHEAD__TASK_EXIT__INIT;
	if (c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_ENDED)
		return;
	if (!e) {
		unknown.sandbox_id = c->record->sandbox_id;
		unknown.container_id = c->record->id;
		unknown.exit_code = EXIT_UNKNOWN;
		set_text(c, &c->record->reason, "Unknown");
		e = &unknown;
	}
	end(m, c, e);
}

void container_oomed(struct metadata *m, struct container *c, uint32_t ooms) {
	c->ooms = MAX(c->ooms, ooms);
	if (c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP && ctask_lent_oomed(m, c, ooms))
		container_save_logged(m, c);
}

void container_start_failed(struct metadata *m, struct container *c, const char *message) {
	Bulkhead__TaskExit e = BULKHEAD__TASK_EXIT__INIT;
	if (c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_ENDED)
		return;
	e.sandbox_id = c->record->sandbox_id;
	e.container_id = c->record->id;
	e.exit_code = EXIT_START_FAILED;
	set_text(c, &c->record->reason, "StartError");
	set_text(c, &c->record->message, message);
	end(m, c, &e);
}

bool exit_is_of(const Bulkhead__TaskExit *e, const Bulkhead__TaskCreateReply *t) {
	return !t || e->pid == 0 || t->pid == 0 || e->pid == t->pid;
}

int container_started(struct metadata *m, struct container *c, const Bulkhead__TaskCreateReply *t) {
	Bulkhead__TaskCreateReply *copy = message_copy(&c->arena, &t->base);
	if (!copy)
		return -ENOMEM;
	if (copy->started_at == 0)
		copy->started_at = clock_real();
	c->record->task = copy;
	/* Its end may have come before the answer that it began; that of an
	 * earlier try to start it is no end of this one. */
	if (c->record->exit && !exit_is_of(c->record->exit, copy))
		c->record->exit = NULL;
	bool over = c->record->exit != NULL;
	c->record->phase = over ? BULKHEAD__CONTAINER_PHASE__CONTAINER_ENDED : BULKHEAD__CONTAINER_PHASE__CONTAINER_UP;
	events_add(&m->events, EVENT_STARTED, c->record->sandbox_id, c->record->id);
	ctask_lent_started(m, c);
	ctask_lent_oomed(m, c, c->ooms);
	if (over)
		ctask_lent_ended(m, c);
	if (over)
		events_add(&m->events, EVENT_STOPPED, c->record->sandbox_id, c->record->id);
	return container_save(m, c);
}

void sandbox_went_down(struct metadata *m, struct sandbox *s) {
	s->network_down = true;
	list_for_each_safe (n, &s->containers) {
		struct container *c = list_entry(n, struct container, in_sandbox);
		if (c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP)
			container_ended(m, c, NULL);
	}
	if (s->record->phase == BULKHEAD__SANDBOX_PHASE__SANDBOX_DOWN)
		return;
	s->record->phase = BULKHEAD__SANDBOX_PHASE__SANDBOX_DOWN;
	sweep_unit_pod(m, s->record->id);
	int r = sandbox_save(m, s);
	if (r < 0)
		log_event(LOG_ERROR, "pod sandbox's record not stored", "sandbox", s->record->id, "error",
			  strerrordesc_np(-r), NULL);
	events_add(&m->events, EVENT_STOPPED, s->record->id, NULL);
}

/* --- removal ---------------------------------------------------------------- */

void container_forget(struct metadata *m, struct container *c) {
	struct sandbox *s = c->sandbox;
	bool task = c->record->phase != BULKHEAD__CONTAINER_PHASE__CONTAINER_MADE &&
		    s->record->phase == BULKHEAD__SANDBOX_PHASE__SANDBOX_UP;
	model_drop_container(&m->model, c);
	sweep_container(m, c, task ? c->record->sandbox_id : NULL);
}

void sandbox_forget(struct metadata *m, struct sandbox *s) {
	list_for_each_safe (n, &s->containers)
		container_forget(m, list_entry(n, struct container, in_sandbox));
	model_free_sandbox(&m->model, s);
}
