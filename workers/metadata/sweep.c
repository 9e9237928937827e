#include "workers/metadata/sweep.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/gc.h"
#include "workers/metadata/metadata.h"
#include "workers/metadata/unit.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define DELAY_MAX_S 60

struct sweep {
	struct list node;  /* metadata.sweeps */
	struct list after; /* struct op_after: until something runs no more, or won't go */
	struct metadata *m;
	const struct sweep_step *step;
	char id[ID_SIZE + 12], sandbox_id[ID_SIZE + 12], exec_id[ID_SIZE + 12];
	struct container *container; /* freed at the end */
	unsigned delay_s;
	struct loop_source *timer;
};

/* One after the other, to the row without a name. */
struct sweep_step {
	const char *name;
	void (*send)(struct sweep *s, msg_done_fn done);
	bool unit;
	bool runs; /* what it removes may be running */
};

static void send_sandbox(struct sweep *s, msg_done_fn done) {
	Bulkhead__SandboxStopRequest q = BULKHEAD__SANDBOX_STOP_REQUEST__INIT;
	q.id = s->id;
	sandbox_stop_send(s->m->task, NULL, &q, NULL, 0, done, s);
}

static void send_task(struct sweep *s, msg_done_fn done) {
	Bulkhead__TaskKey q = BULKHEAD__TASK_KEY__INIT;
	q.sandbox_id = s->sandbox_id;
	q.container_id = s->id;
	task_delete_send(s->m->task, NULL, &q, NULL, 0, done, s);
}

static Bulkhead__ProcessKey process_key(struct sweep *s) {
	Bulkhead__ProcessKey k = BULKHEAD__PROCESS_KEY__INIT;
	k.sandbox_id = s->sandbox_id;
	k.container_id = s->id;
	k.exec_id = s->exec_id;
	return k;
}

static void send_process_kill(struct sweep *s, msg_done_fn done) {
	Bulkhead__ProcessKillRequest q = BULKHEAD__PROCESS_KILL_REQUEST__INIT;
	Bulkhead__ProcessKey k = process_key(s);
	q.process = &k;
	q.signal = SIGKILL;
	process_kill_send(s->m->task, NULL, &q, NULL, 0, done, s);
}

static void send_process_delete(struct sweep *s, msg_done_fn done) {
	Bulkhead__ProcessKey k = process_key(s);
	process_delete_send(s->m->task, NULL, &k, NULL, 0, done, s);
}

static void send_snapshot(struct sweep *s, msg_done_fn done) {
	Bulkhead__Key q = BULKHEAD__KEY__INIT;
	q.id = s->id;
	snapshot_remove_send(s->m->snapshot, NULL, &q, NULL, 0, done, s);
}

static void send_unit_pod(struct sweep *s, msg_done_fn done) {
	unit_stop_pod_send(s->m, s->id, done, s);
}

static void send_unit_container(struct sweep *s, msg_done_fn done) {
	unit_stop_container_send(s->m, s->id, done, s);
}

/* Units are there with the systemd driver alone. */
static const struct sweep_step sandbox_steps[] = {
	{ .name = "stop pod sandbox", .send = send_sandbox, .runs = true },
	{ .name = "end its units", .send = send_unit_pod, .unit = true },
	{ .name = NULL },
};
static const struct sweep_step task_steps[] = {
	{ .name = "delete task", .send = send_task, .runs = true },
	{ .name = "end its unit", .send = send_unit_container, .unit = true },
	{ .name = NULL },
};
static const struct sweep_step process_steps[] = {
	{ .name = "kill process", .send = send_process_kill },
	{ .name = "delete process", .send = send_process_delete },
	{ .name = NULL },
};
static const struct sweep_step container_steps[] = {
	{ .name = "delete task", .send = send_task },
	{ .name = "end its unit", .send = send_unit_container, .unit = true },
	{ .name = "remove snapshot", .send = send_snapshot },
	{ .name = NULL },
};
#define UNIT_STEPS (&sandbox_steps[1])
#define CONTAINER_UNIT_STEPS (&task_steps[1])
#define WITHOUT_TASK (&container_steps[1])
#define SNAPSHOT_STEPS (&container_steps[2])

static void sweep_done(void *ctx, const struct msg_answer *answer);

static void sweep_free(struct sweep *s) {
	list_unlink(&s->node);
	free(s);
}

/* Whoever waits looks again, and may wait for another one. */
static void sweep_release(struct sweep *s) {
	for (struct list *n; (n = list_pop(&s->after));) {
		struct op_after *a = list_entry(n, struct op_after, node);
		a->fn(a->ctx);
	}
}

static void sweep_run(void *ctx) {
	struct sweep *s = ctx;
	loop_source_free(s->timer);
	s->timer = NULL;
	while (s->step->unit && !units_used(s->m))
		s->step++;
	if (s->step->name) {
		s->step->send(s, sweep_done);
		return;
	}
	if (s->container) {
		model_free_container(&s->m->model, s->container);
		gc_later(s->m);
	}
	sweep_free(s);
}

static void sweep_done(void *ctx, const struct msg_answer *answer) {
	struct sweep *s = ctx;
	if (!answer->fault || answer->fault->code == FAULT_NOT_FOUND) {
		s->step++;
		s->delay_s = 0;
		sweep_release(s);
		sweep_run(s);
		return;
	}
	s->delay_s = s->delay_s ? MIN(s->delay_s * 2, DELAY_MAX_S) : 1;
	log_event(LOG_WARN, "clean-up will be tried again", "step", s->step->name, "object", s->id, "error",
		  answer->fault->text, NULL);
	if (loop_timer(s->m->loop, clock_mono() + s->delay_s * NS_PER_SEC, sweep_run, s, &s->timer) < 0)
		sweep_free(s); /* out of memory: the next start finds it */
}

static void sweep(struct metadata *m, const struct sweep_step *steps, const char *id, const char *sandbox_id,
		  const char *exec_id, struct container *c) {
	struct sweep *s = calloc(1, sizeof(*s));
	if (!s) {
		log_event(LOG_ERROR, "no memory to clean up now", "object", id, NULL);
		return;
	}
	s->m = m;
	s->step = steps;
	list_init(&s->after);
	list_append(&m->sweeps, &s->node);
	s->container = c;
	snprintf(s->id, sizeof(s->id), "%s", id);
	snprintf(s->sandbox_id, sizeof(s->sandbox_id), "%s", sandbox_id ? sandbox_id : "");
	snprintf(s->exec_id, sizeof(s->exec_id), "%s", exec_id ? exec_id : "");
	sweep_run(s);
}

void sweep_process(struct metadata *m, const char *sandbox_id, const char *container_id, const char *exec_id) {
	sweep(m, process_steps, container_id, sandbox_id, exec_id, NULL);
}

void sweep_sandbox(struct metadata *m, const char *id) {
	sweep(m, sandbox_steps, id, NULL, NULL, NULL);
}

void sweep_unit_pod(struct metadata *m, const char *id) {
	if (units_used(m))
		sweep(m, UNIT_STEPS, id, NULL, NULL, NULL);
}

void sweep_unit_container(struct metadata *m, const char *id) {
	if (units_used(m))
		sweep(m, CONTAINER_UNIT_STEPS, id, NULL, NULL, NULL);
}

void sweep_task(struct metadata *m, const char *sandbox_id, const char *container_id) {
	sweep(m, task_steps, container_id, sandbox_id, NULL, NULL);
}

void sweep_snapshot(struct metadata *m, const char *key) {
	sweep(m, SNAPSHOT_STEPS, key, NULL, NULL, NULL);
}

void sweep_container(struct metadata *m, struct container *c, const char *task_sandbox_id) {
	sweep(m, task_sandbox_id ? container_steps : WITHOUT_TASK, c->record->id, task_sandbox_id, NULL, c);
}

bool sweep_gate(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
		void (*handle)(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request)) {
	list_for_each (n, &m->sweeps) {
		struct sweep *s = list_entry(n, struct sweep, node);
		struct op_after *after;
		if (!s->step->runs || s->delay_s)
			continue;
		if ((after = op_after_request(m, r, request, handle)))
			list_append(&s->after, &after->node);
		return true;
	}
	return false;
}
