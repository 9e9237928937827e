/* csandbox_get, csandbox_wait, csandbox_metrics, and the ends of sandboxes. */
#include "workers/metadata/csandbox/csandbox.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/cri.h"
#include "workers/metadata/ctask/ctask.h"

struct csandbox_wait {
	struct list node;
	struct msg_request *r;
};

void csandbox_tell(struct metadata *m, const char *topic, const struct csandbox *s) {
	Bulkhead__BusEvent e = BULKHEAD__BUS_EVENT__INIT;
	e.topic = (char *)(uintptr_t)topic;
	e.namespace_ = s->record->namespace_;
	e.id = s->record->id;
	e.exit_status = s->record->exit_status;
	e.exited_at = s->record->exited_at;
	bus_tell(&m->bus, &e);
}

/* --- what is told ----------------------------------------------------------- */

Bulkhead__Csandbox *csandbox_shown(struct metadata *m, struct arena *a, const struct csandbox *s) {
	const Bulkhead__CsandboxRecord *r = s->record;
	Bulkhead__Csandbox *to = arena_alloc(a, sizeof(*to));
	Bulkhead__CsandboxKey *key = arena_alloc(a, sizeof(*key));
	if (!to || !key)
		return NULL;
	const struct object *o = object_find(&m->objects, BULKHEAD__OBJECT_KIND__OBJECT_SANDBOX, r->namespace_, r->id);
	*to = (Bulkhead__Csandbox)BULKHEAD__CSANDBOX__INIT;
	*key = (Bulkhead__CsandboxKey)BULKHEAD__CSANDBOX_KEY__INIT;
	key->namespace_ = r->namespace_;
	key->id = r->id;
	to->key = key;
	to->state = r->state;
	to->drafted = r->drafted;
	to->created_at = r->created_at;
	to->exited_at = r->exited_at;
	to->exit_status = r->exit_status;
	to->pod_id = r->pod->id;
	if (r->started && csandbox_is_up(s)) {
		to->pid = (uint32_t)r->started->keeper_pid;
		to->netns_path = r->started->netns_path;
	}
	if (o)
		to->spec = o->record->sandbox->spec;
	return to;
}

/* Both rows have this reply. */
static void answer(struct metadata *m, struct msg_request *r, const struct csandbox *s) {
	Bulkhead__Csandbox *a = csandbox_shown(m, &r->arena, s);
	if (a)
		msg_reply(r, &a->base, NULL, 0, false);
	else
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "sandbox \"%s\": out of memory", s->record->id);
}

void csandbox_get(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	struct csandbox *s;
	struct fault fault;
	if (metadata_gate_read(m, r, request, csandbox_get))
		return;
	if (csandbox_of(m, (const Bulkhead__CsandboxKey *)request, &s, &fault) < 0)
		msg_fail(r, &fault);
	else
		answer(m, r, s);
}

/* --- waiting ---------------------------------------------------------------- */

static void gave_up(struct msg_request *r, void *ctx) {
	struct csandbox_wait *w = ctx;
	list_unlink(&w->node);
	msg_failf(r, FAULT_CANCELLED, "the caller gave up");
}

void csandbox_wait(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	struct csandbox *s;
	struct fault fault;
	if (metadata_gate_read(m, r, request, csandbox_wait))
		return;
	if (csandbox_of(m, (const Bulkhead__CsandboxKey *)request, &s, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if (s->record->state == CSANDBOX(STOPPED)) {
		answer(m, r, s);
		return;
	}
	struct csandbox_wait *w = arena_zalloc(&r->arena, sizeof(*w));
	if (!w) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "wait: out of memory");
		return;
	}
	w->r = r;
	r->cancelled = gave_up;
	r->cancelled_ctx = w;
	list_append(&s->waits, &w->node);
}

void csandbox_waits_end(struct csandbox *s) {
	for (struct list *n; (n = list_pop(&s->waits));) {
		struct msg_request *r = list_entry(n, struct csandbox_wait, node)->r;
		r->cancelled = NULL;
		msg_failf(r, FAULT_NOT_FOUND, "sandbox \"%s\": it was shut down", s->record->id);
	}
}

void csandbox_ended(struct metadata *m, struct csandbox *s, uint32_t exit_status) {
	if (s->record->state == CSANDBOX(STOPPED))
		return;
	s->record->state = CSANDBOX(STOPPED);
	s->record->exit_status = exit_status;
	s->record->exited_at = clock_real();
	ctask_pod_ended(m, s->record->pod->id);
	if (csandbox_save(m, s) < 0)
		log_event(LOG_WARN, "the end of a sandbox isn't recorded", "sandbox", s->record->id, NULL);
	csandbox_tell(m, "/sandboxes/exit", s);
	for (struct list *n; (n = list_pop(&s->waits));) {
		struct msg_request *r = list_entry(n, struct csandbox_wait, node)->r;
		r->cancelled = NULL;
		answer(m, r, s);
	}
}

/* --- figures ---------------------------------------------------------------- */

#define STATS_TIMEOUT_NS (10 * NS_PER_SEC)

/* A pod has no group of its own: what its containers use is what it uses. */
static void stats_known(void *ctx, const struct msg_answer *answer) {
	struct msg_request *r = ctx;
	Bulkhead__TaskStats sum = BULKHEAD__TASK_STATS__INIT;
	if (answer->fault) {
		msg_fail(r, answer->fault);
		return;
	}
	const Bulkhead__TaskStatsReply *a = task_stats_answer(answer);
	sum.timestamp = clock_real();
	for (size_t i = 0; i < a->n_stats; i++) {
		sum.cpu_usage_ns += a->stats[i]->cpu_usage_ns;
		sum.memory_usage_bytes += a->stats[i]->memory_usage_bytes;
		sum.memory_rss_bytes += a->stats[i]->memory_rss_bytes;
		sum.pids += a->stats[i]->pids;
	}
	csandbox_metrics_reply(r, &sum, NULL, 0);
}

void csandbox_metrics(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CsandboxKey *key = (const Bulkhead__CsandboxKey *)request;
	Bulkhead__TaskStatsRequest q = BULKHEAD__TASK_STATS_REQUEST__INIT;
	char text[CSANDBOX_TEXT_MAX];
	struct csandbox *s;
	struct fault fault;
	if (metadata_gate_read(m, r, request, csandbox_metrics))
		return;
	if (csandbox_of(m, key, &s, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if (!csandbox_is_up(s)) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "%s isn't running", csandbox_text(key, text));
		return;
	}
	struct msg_context context = r->context;
	int64_t latest = clock_mono() + STATS_TIMEOUT_NS;
	if (!context.deadline || context.deadline > latest)
		context.deadline = latest;
	q.sandbox_id = s->record->pod->id;
	task_stats_send(m->task, &context, &q, NULL, 0, stats_known, r);
}
