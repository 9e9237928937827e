/*
 * csandbox_create: what the sandbox will be, recorded; nothing runs.
 * csandbox_start: pod -> record. Of one that nobody has created it makes it
 * first, as the API's first form has it; then the record comes with the pod.
 */
#include "workers/metadata/csandbox/csandbox.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/guest.h"
#include "workers/metadata/handlers.h"
#include "workers/metadata/lifecycle.h"
#include "workers/metadata/sweep.h"

#include <errno.h>
#include <string.h>

struct start_op {
	struct op op;
	struct csandbox *s;
	Bulkhead__CsandboxState before;
	bool creates;			     /* only: no pod is started */
	const Bulkhead__GuestSandbox *guest; /* NULL: it is no agent's */
};

static struct start_op *start_of(struct op *op) {
	return container_of(op, struct start_op, op);
}

/* --- the pod ---------------------------------------------------------------- */

static void pod_started(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	struct csandbox *s = start_of(op)->s;
	if (answer->fault) {
		op_fail_below(op, answer->fault);
		return;
	}
	s->record->started = message_copy(&s->arena, &sandbox_start_answer(answer)->base);
	s->record->state = CSANDBOX(READY);
	s->up_at = clock_real();
	if (s->record->started) {
		op_next(op);
		return;
	}
	fault_errno(&op->fault, ENOMEM, "start");
	op_fail(op);
}

static void pod_start(struct op *op) {
	struct csandbox *s = start_of(op)->s;
	struct msg_context context = op_context(op, SANDBOX_START_TIMEOUT_NS);
	sandbox_start_send(op->m->task, &context, s->record->pod, NULL, 0, pod_started, op);
}

static void pod_undo(struct op *op) {
	struct csandbox *s = start_of(op)->s;
	sweep_sandbox(op->m, s->record->pod->id);
	s->record->started = NULL;
	s->record->state = start_of(op)->before;
}

/* --- the record ------------------------------------------------------------- */

static void start_record(struct op *op) {
	struct csandbox *s = start_of(op)->s;
	int r = csandbox_save(op->m, s);
	if (r < 0) {
		op_fail_store(op, r);
		return;
	}
	s->made = true;
	op_commit(op, STORE_PODS);
}

/* One that was there before stays, as it was. */
static void start_unrecord(struct op *op) {
	struct start_op *o = start_of(op);
	bool stays = !o->creates && !o->s->record->drafted;
	if (stays || !o->s->made)
		return;
	o->s->made = false;
	if (csandbox_unsave(op->m, o->s) < 0)
		log_event(LOG_WARN, "record not deleted", "sandbox", o->s->record->id, NULL);
}

static const struct op_step create_steps[] = {
	{ .name = "record", .run = start_record, .undo = start_unrecord },
	{ .name = NULL },
};

static void guest_prepare(struct op *op) {
	struct start_op *o = start_of(op);
	guest_begin(op, o->s->record->id, o->guest);
}

static void guest_undo(struct op *op) {
	if (start_of(op)->guest)
		guest_end(op->m);
}

static const struct op_step start_steps[] = {
	{ .name = "set up the guest", .run = guest_prepare, .undo = guest_undo },
	{ .name = "start its pod", .run = pod_start, .undo = pod_undo },
	{ .name = "record", .run = start_record, .undo = start_unrecord },
	{ .name = NULL },
};

/* Both rows have this reply. */
static void start_answer(struct op *op, struct msg_request *r) {
	Bulkhead__Csandbox *a = csandbox_shown(&r->arena, start_of(op)->s);
	if (a)
		msg_reply(r, &a->base, NULL, 0, false);
	else
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", op->class->name);
}

static void start_free(struct op *op) {
	struct start_op *o = start_of(op);
	bool good = op->fault.code == FAULT_NONE;
	if (good && (o->creates || o->s->record->drafted))
		csandbox_tell(op->m, "/sandboxes/create", o->s);
	if (good && !o->creates)
		csandbox_tell(op->m, "/sandboxes/start", o->s);
	if (!o->s->made)
		csandbox_free(&op->m->csandboxes, o->s);
	free(o);
}

static const struct op_class create_class = {
	.name = "create sandbox",
	.steps = create_steps,
	.answer = start_answer,
	.free = start_free,
};

static const struct op_class start_class = {
	.name = "start sandbox",
	.steps = start_steps,
	.answer = start_answer,
	.free = start_free,
};

static int start_begin(struct metadata *m, struct msg_request *r, const struct op_class *class, struct csandbox *s,
		       const Bulkhead__GuestSandbox *guest, struct fault *fault) {
	const Bulkhead__GuestSandbox *copy = guest ? message_copy(&s->arena, &guest->base) : NULL;
	struct start_op *o = guest && !copy ? NULL : calloc(1, sizeof(*o));
	if (!o)
		return fault_errno(fault, ENOMEM, "%s", class->name);
	o->guest = copy;
	op_init(&o->op, class, m, &s->op, s->record->id, r);
	o->s = s;
	o->before = s->record->state;
	o->creates = class == &create_class;
	op_join(&o->op, r);
	op_start(&o->op);
	return 0;
}

/* --- the requests ----------------------------------------------------------- */

static const Bulkhead__CsandboxWish nothing_more = BULKHEAD__CSANDBOX_WISH__INIT;

/* The one that comes with the request, else the store's. */
static int object_of(struct metadata *m, const Bulkhead__CsandboxKey *key, const Bulkhead__CsandboxWish *w,
		     const Bulkhead__Object **ret_object, struct fault *fault) {
	char text[CSANDBOX_TEXT_MAX];
	if (w->object) {
		*ret_object = w->object;
		if (strcmp(w->object->id ? w->object->id->key : "", key->id) != 0)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: sandbox.sandbox_id is another one",
					 csandbox_text(key, text));
		return object_check(w->object, fault);
	}
	const struct object *o =
	    object_find(&m->objects, BULKHEAD__OBJECT_KIND__OBJECT_SANDBOX, key->namespace_, key->id);
	if (!o)
		return fault_set(fault, FAULT_NOT_FOUND, "%s: not found in the store", csandbox_text(key, text));
	*ret_object = o->record;
	return 0;
}

/* In memory only. */
static int make(struct metadata *m, const Bulkhead__CsandboxKey *key, const Bulkhead__CsandboxWish *w, bool drafted,
		struct arena *a, struct csandbox **ret_sandbox, struct fault *fault) {
	Bulkhead__CsandboxRecord record = BULKHEAD__CSANDBOX_RECORD__INIT;
	Bulkhead__SandboxStartRequest pod;
	char text[CSANDBOX_TEXT_MAX];
	const Bulkhead__Object *o = NULL;
	if (!w)
		w = &nothing_more;
	int r = object_of(m, key, w, &o, fault);
	if (r == 0)
		r = csandbox_pod(m, a, o, w, &pod, fault);
	if (r == 0 && w->agent)
		r = vm_lend_agent(m, a, &pod, fault);
	if (r < 0)
		return r;
	record.namespace_ = key->namespace_;
	record.id = key->id;
	record.state = CSANDBOX(CREATED);
	record.drafted = drafted;
	record.keeps_ooms = w->keeps_ooms;
	record.created_at = clock_real();
	record.pod = &pod;
	record.spec = o->sandbox->spec;
	record.runtime = (char *)(uintptr_t)csandbox_runtime(o);
	r = csandbox_add(&m->csandboxes, &record, ret_sandbox);
	return r < 0 ? fault_errno(fault, r, "make %s", csandbox_text(key, text)) : 0;
}

void csandbox_create(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CsandboxCreateRequest *q = (const Bulkhead__CsandboxCreateRequest *)request;
	char text[CSANDBOX_TEXT_MAX];
	struct csandbox *s;
	struct fault fault;
	if (metadata_gate(m, r, request, csandbox_create))
		return;
	int e = csandbox_key_check(q->key, &fault);
	if (e == 0 && csandbox_find(&m->csandboxes, q->key->namespace_, q->key->id))
		e = fault_set(&fault, FAULT_ALREADY_EXISTS, "%s: already exists", csandbox_text(q->key, text));
	if (e == 0)
		e = make(m, q->key, q->wish, false, &r->arena, &s, &fault);
	if (e == 0 && (e = start_begin(m, r, &create_class, s, NULL, &fault)) < 0)
		csandbox_free(&m->csandboxes, s);
	if (e < 0)
		msg_fail(r, &fault);
}

static int start_check(const struct csandbox *s, const Bulkhead__CsandboxStartRequest *q, struct fault *fault) {
	const Bulkhead__CsandboxKey *key = q->key;
	char text[CSANDBOX_TEXT_MAX];
	if (s->record->state == CSANDBOX(STOPPED))
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "%s has ended: shut it down before it is made anew",
				 csandbox_text(key, text));
	if (s->record->state != CSANDBOX(CREATED))
		return fault_set(fault, s->record->drafted ? FAULT_ALREADY_EXISTS : FAULT_FAILED_PRECONDITION,
				 "%s: it was started before", csandbox_text(key, text));
	if (q->wish && (q->wish->n_rootfs || q->wish->options))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: %s: it was created already, without",
				 csandbox_text(key, text), q->wish->n_rootfs ? "rootfs" : "options");
	return 0;
}

/* Each start's pod has an id of its own, so that none is mistaken for another,
 * but one whose socket was told already. */
static int name_pod(struct csandbox *s, struct fault *fault) {
	char id[ID_SIZE];
	if (*s->record->pod->agent_socket)
		return 0;
	id_random(id);
	char *copy = arena_strdup(&s->arena, id);
	if (!copy)
		return fault_errno(fault, ENOMEM, "start sandbox \"%s\"", s->record->id);
	s->record->pod->id = copy;
	return 0;
}

void csandbox_start(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CsandboxStartRequest *q = (const Bulkhead__CsandboxStartRequest *)request;
	const Bulkhead__CsandboxKey *key = q->key;
	struct fault fault;
	if (metadata_gate(m, r, request, csandbox_start))
		return;
	int e = csandbox_key_check(key, &fault);
	struct csandbox *s = e == 0 ? csandbox_find(&m->csandboxes, key->namespace_, key->id) : NULL;
	if (s && s->op) {
		op_requeue(s->op, r, request, csandbox_start);
		return;
	}
	bool drafted = e == 0 && !s;
	if (drafted)
		e = make(m, key, q->wish, true, &r->arena, &s, &fault);
	else if (e == 0)
		e = start_check(s, q, &fault);
	if (e == 0 &&
	    ((e = name_pod(s, &fault)) < 0 || (e = start_begin(m, r, &start_class, s, q->guest, &fault)) < 0) &&
	    drafted)
		csandbox_free(&m->csandboxes, s);
	if (e < 0)
		msg_fail(r, &fault);
}
