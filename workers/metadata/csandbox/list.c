/* csandbox_get, csandbox_wait, csandbox_update, and the ends of sandboxes. */
#include "workers/metadata/csandbox/csandbox.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/handlers.h"
#include "workers/metadata/ctask/ctask.h"
#include "workers/metadata/sweep.h"

#include <string.h>

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

Bulkhead__Csandbox *csandbox_shown(struct arena *a, const struct csandbox *s) {
	const Bulkhead__CsandboxRecord *r = s->record;
	Bulkhead__Csandbox *to = arena_alloc(a, sizeof(*to));
	Bulkhead__CsandboxKey *key = arena_alloc(a, sizeof(*key));
	if (!to || !key)
		return NULL;
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
	to->agent_socket = r->pod->agent_socket;
	if (r->started && csandbox_is_up(s)) {
		to->pid = (uint32_t)r->started->keeper_pid;
		to->netns_path = r->started->netns_path;
	}
	to->spec = r->spec;
	to->annotations = (void *)r->pod->annotations; /* maps have one layout */
	to->n_annotations = r->pod->n_annotations;
	return to;
}

/* Both rows have this reply. */
static void answer(struct msg_request *r, const struct csandbox *s) {
	Bulkhead__Csandbox *a = csandbox_shown(&r->arena, s);
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
		answer(r, s);
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
		answer(r, s);
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
		answer(r, s);
	}
}

void csandbox_lost(struct metadata *m, const char *pod_id) {
	struct csandbox *s = csandbox_find_pod(&m->csandboxes, pod_id);
	if (!s || s->op || !csandbox_is_up(s))
		return;
	csandbox_ended(m, s, CSANDBOX_UNKNOWN_EXIT);
	sweep_sandbox(m, pod_id);
}

/* --- updates ---------------------------------------------------------------- */

static bool typed_equal(const Bulkhead__Typed *a, const Bulkhead__Typed *b) {
	static const Bulkhead__Typed none = BULKHEAD__TYPED__INIT;
	a = a ? a : &none;
	b = b ? b : &none;
	return strcmp(a->type_url, b->type_url) == 0 && a->value.len == b->value.len &&
	       (a->value.len == 0 || memcmp(a->value.data, b->value.data, a->value.len) == 0);
}

static bool is_map_path(const char *path) {
	static const char *const maps[] = { "labels", "extensions" };
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		size_t n = strlen(maps[i]);
		if (strncmp(path, maps[i], n) == 0 && (path[n] == '\0' || path[n] == '.'))
			return true;
	}
	return false;
}

/* Nothing that runs depends on labels and extensions. What it is made of stays,
 * so that may only be told again. */
static bool may_become(const struct csandbox *s, const char *path, const Bulkhead__Object *o) {
	if (strcmp(path, "spec") == 0)
		return typed_equal(o->sandbox->spec, s->record->spec);
	if (strcmp(path, "runtime") == 0)
		return strcmp(csandbox_runtime(o), s->record->runtime) == 0;
	return is_map_path(path);
}

void csandbox_update(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	static const char *const all[] = { "spec", "runtime" };
	const Bulkhead__CsandboxUpdateRequest *q = (const Bulkhead__CsandboxUpdateRequest *)request;
	const char *const *paths = q->n_paths ? (const char *const *)q->paths : all;
	size_t n = q->n_paths ? q->n_paths : ARRAY_SIZE(all);
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	char text[CSANDBOX_TEXT_MAX];
	struct csandbox *s;
	struct fault fault;
	if (metadata_gate_read(m, r, request, csandbox_update))
		return;
	if (csandbox_of(m, q->key, &s, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if (!q->object || q->object->body_case != BULKHEAD__OBJECT__BODY_SANDBOX) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "%s: sandbox: it is missing, so there is nothing to update",
			  csandbox_text(q->key, text));
		return;
	}
	for (size_t i = 0; i < n; i++)
		if (!may_become(s, paths[i], q->object)) {
			msg_failf(r, FAULT_INVALID_ARGUMENT,
				  "%s: \"%.100s\" can't be changed while the sandbox is there",
				  csandbox_text(q->key, text), paths[i]);
			return;
		}
	csandbox_update_reply(r, &done, NULL, 0);
}
