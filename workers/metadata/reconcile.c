#include "workers/metadata/reconcile.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/csandbox/csandbox.h"
#include "workers/metadata/ctask/ctask.h"
#include "workers/metadata/lifecycle.h"
#include "workers/metadata/sweep.h"
#include "workers/metadata/unit.h"

#include <string.h>

#define LATER_NS (3 * NS_PER_SEC)

#define UP BULKHEAD__SANDBOX_PHASE__SANDBOX_UP
#define STARTING BULKHEAD__SANDBOX_PHASE__SANDBOX_STARTING
#define CONTAINER_UP BULKHEAD__CONTAINER_PHASE__CONTAINER_UP
#define CONTAINER_MADE BULKHEAD__CONTAINER_PHASE__CONTAINER_MADE

/* --- containers ------------------------------------------------------------- */

void task_info_reply(const Bulkhead__TaskInfo *t, Bulkhead__TaskCreateReply *ret_reply) {
	*ret_reply = (Bulkhead__TaskCreateReply)BULKHEAD__TASK_CREATE_REPLY__INIT;
	ret_reply->pid = t->pid;
	ret_reply->created_at = t->created_at;
	ret_reply->started_at = t->started_at;
	ret_reply->user = t->user;
	ret_reply->n_warnings = t->n_warnings;
	ret_reply->warnings = t->warnings;
}

static int take_over(struct metadata *m, struct container *c, const Bulkhead__TaskInfo *t) {
	Bulkhead__TaskCreateReply a;
	task_info_reply(t, &a);
	log_event(LOG_INFO, "container taken over", "container", c->record->id, NULL);
	return container_started(m, c, &a);
}

static void reconcile_task(struct metadata *m, struct sandbox *s, const Bulkhead__TaskInfo *t) {
	struct map_node *n = map_find(&m->model.container_ids, t->container_id);
	struct container *c = n ? container_of(n, struct container, by_id) : NULL;
	if (c && c->op)
		return;
	if (!c || c->sandbox != s) {
		log_event(LOG_WARN, "process without a record is deleted", "container", t->container_id, NULL);
		sweep_task(m, s->record->id, t->container_id);
		return;
	}
	if (c->record->phase == CONTAINER_MADE && t->state == BULKHEAD__TASK_STATE__TASK_CREATED) {
		/* A start that nobody finished: the next one makes it anew. */
		sweep_task(m, s->record->id, t->container_id);
		return;
	}
	if (c->record->phase == CONTAINER_MADE && take_over(m, c, t) < 0)
		return;
	container_oomed(m, c, t->ooms);
	ctask_reconcile_lent(m, t, s->record->id);
	if (c->record->phase == CONTAINER_UP && t->state == BULKHEAD__TASK_STATE__TASK_EXITED &&
	    (!t->exit || exit_is_of(t->exit, c->record->task)))
		container_ended(m, c, t->exit);
}

const Bulkhead__TaskInfo *task_list_task(const Bulkhead__SandboxInfo *s, const char *id) {
	for (size_t i = 0; i < s->n_tasks; i++)
		if (strcmp(s->tasks[i]->container_id, id) == 0)
			return s->tasks[i];
	return NULL;
}

const Bulkhead__SandboxInfo *task_list_sandbox(const Bulkhead__TaskListReply *l, const char *id) {
	for (size_t i = 0; i < l->n_sandboxes; i++)
		if (strcmp(l->sandboxes[i]->id, id) == 0)
			return l->sandboxes[i];
	return NULL;
}

/* What was begun after the question was asked isn't in its answer. */
static bool is_newer(const struct metadata *m, const struct container *c) {
	return c->record->task && c->record->task->created_at >= m->reconcile_asked;
}

static void reconcile_containers(struct metadata *m, struct sandbox *s, const Bulkhead__SandboxInfo *info) {
	for (size_t i = 0; i < info->n_tasks; i++)
		reconcile_task(m, s, info->tasks[i]);
	list_for_each_safe (n, &s->containers) {
		struct container *c = list_entry(n, struct container, in_sandbox);
		if (!c->op && c->record->phase == CONTAINER_UP && !is_newer(m, c) &&
		    !task_list_task(info, c->record->id))
			container_ended(m, c, NULL);
	}
}

/* --- later ------------------------------------------------------------------ */

static void on_later(void *ctx) {
	struct metadata *m = ctx;
	loop_source_free(m->reconcile_timer);
	m->reconcile_timer = NULL;
	reconcile_begin(m);
}

static void reconcile_later(struct metadata *m) {
	if (m->reconcile_timer)
		return;
	if (loop_timer(m->loop, clock_mono() + LATER_NS, on_later, m, &m->reconcile_timer) < 0)
		m->reconcile_timer = NULL;
}

/* --- pod sandboxes ---------------------------------------------------------- */

/* The intent of a start that came to nothing. */
static void forget_start(struct metadata *m, struct sandbox *s) {
	char key[KEY_SIZE];
	sandbox_key(s->record->id, key);
	log_event(LOG_INFO, "unfinished start undone", "sandbox", s->record->id, NULL);
	if (store_delete(m->store, STORE_PODS, key) < 0)
		log_event(LOG_WARN, "record not deleted", "sandbox", s->record->id, NULL);
	sweep_sandbox(m, s->record->id);
	model_free_sandbox(&m->model, s);
}

static void reconcile_sandbox(struct metadata *m, const Bulkhead__SandboxInfo *info) {
	struct map_node *n = map_find(&m->model.sandbox_ids, info->id);
	struct sandbox *s = n ? container_of(n, struct sandbox, by_id) : NULL;
	if (!s && (csandbox_reconcile_pod(m, info) || ctask_reconcile_pod(m, info)))
		return;
	if (!s) {
		log_event(LOG_WARN, "pod without a record is stopped", "sandbox", info->id, NULL);
		sweep_sandbox(m, info->id);
		return;
	}
	if (s->op)
		return;
	if (s->record->phase == UP && info->unreachable) {
		reconcile_later(m);
		return;
	}
	if (s->record->phase == STARTING && (!info->started || !info->network_ready)) {
		forget_start(m, s);
		return;
	}
	if (s->record->phase == STARTING) {
		s->record->started = message_copy(&s->arena, &info->started->base);
		sandbox_run_resume(m, s);
	} else if (s->record->phase != UP || !info->network_ready) {
		sandbox_stop_begin(m, s, NULL);
	} else if (info->started) {
		unit_keeper_seen(m, s, info->started->keeper_pid);
	}
	reconcile_containers(m, s, info);
}

static void reconcile_absent(struct metadata *m, const Bulkhead__TaskListReply *l) {
	list_for_each_safe (n, &m->model.sandboxes) {
		struct sandbox *s = list_entry(n, struct sandbox, node);
		if (s->op || s->up_at >= m->reconcile_asked || task_list_sandbox(l, s->record->id))
			continue;
		if (s->record->phase == STARTING)
			forget_start(m, s);
		else
			sandbox_went_down(m, s);
	}
}

static void listed_done(void *ctx, const struct msg_answer *answer) {
	struct metadata *m = ctx;
	m->reconcile_calls--;
	if (answer->fault) {
		log_event(LOG_ERROR, "running pods not compared", "error", answer->fault->text, NULL);
		if (m->reconcile_calls == 0)
			reconcile_later(m);
	} else if (m->reconcile_calls == 0) {
		/* An older answer than the latest question says nothing. */
		const Bulkhead__TaskListReply *l = task_list_answer(answer);
		for (size_t i = 0; i < l->n_sandboxes; i++)
			reconcile_sandbox(m, l->sandboxes[i]);
		reconcile_absent(m, l);
		csandbox_reconcile_absent(m, l);
		ctask_reconcile_absent(m, l);
		metadata_open_gate(m);
	}
}

void reconcile_begin(struct metadata *m) {
	Bulkhead__Empty q = BULKHEAD__EMPTY__INIT;
	m->reconcile_calls++;
	m->reconcile_asked = clock_real();
	task_list_send(m->task, NULL, &q, NULL, 0, listed_done, m);
}
