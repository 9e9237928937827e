/*
 * What an agent's host asks of its sandbox: in which container was something killed
 * for want of memory? Each time is an answer to one who asks, in the order in which
 * they ask; containers take turns. Times that nobody was told are in the record.
 *
 *   waiting -> given to an asker -> committed, answered -> settled, and gone
 *
 * So no death loses one: an asker that comes again by its name, because this worker
 * has died, has the same answer; one whose client has gone settles it as untold, and
 * what isn't settled in SETTLE_LIMIT had an asker that has died. Then another one
 * has it.
 */
#include "workers/metadata/csandbox/csandbox.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/handlers.h"

#include <errno.h>
#include <string.h>

#define SETTLE_LIMIT (5 * NS_PER_SEC)
#define CONTAINERS_MAX 1024 /* where nobody ever asks */

struct oom {
	Bulkhead__CsandboxOom message; /* the record's list points here */
	int64_t since;		       /* clock_mono when it was given, or was found so */
	char asker[ID_SIZE];
	char container_id[];
};

/* A request that waits: for something to happen, or for the commit. */
struct csandbox_asker {
	struct list node;
	struct msg_request *r;
	const char *name;
	const char *container_id; /* the answer; NULL: it settles */
};

/* --- the record's list ------------------------------------------------------ */

static struct oom *oom_at(const struct csandbox *s, size_t i) {
	return container_of(s->record->ooms[i], struct oom, message);
}

static int append(Bulkhead__CsandboxRecord *r, const char *container_id, uint32_t times, const char *asker) {
	size_t size = strlen(container_id) + 1;
	struct oom *o = calloc(1, sizeof(*o) + size);
	Bulkhead__CsandboxOom **all = o ? realloc(r->ooms, (r->n_ooms + 1) * sizeof(*all)) : NULL;
	if (!all) {
		free(o);
		return -ENOMEM;
	}
	r->ooms = all;
	o->message = (Bulkhead__CsandboxOom)BULKHEAD__CSANDBOX_OOM__INIT;
	o->message.container_id = memcpy(o->container_id, container_id, size);
	o->message.times = times;
	o->message.asker = o->asker;
	strncat(o->asker, asker, sizeof(o->asker) - 1);
	o->since = clock_mono();
	all[r->n_ooms++] = &o->message;
	return 0;
}

static void take_out(Bulkhead__CsandboxRecord *r, size_t i) {
	r->n_ooms--;
	memmove(&r->ooms[i], &r->ooms[i + 1], (r->n_ooms - i) * sizeof(*r->ooms));
}

static void drop(struct csandbox *s, size_t i) {
	struct oom *o = oom_at(s, i);
	take_out(s->record, i);
	free(o);
}

int csandbox_ooms_own(struct csandbox *s) {
	Bulkhead__CsandboxRecord *r = s->record;
	Bulkhead__CsandboxOom *const *loaded = r->ooms;
	size_t n = r->n_ooms;
	int e = 0;
	r->ooms = NULL;
	r->n_ooms = 0;
	for (size_t i = 0; e == 0 && i < n; i++)
		e = append(r, loaded[i]->container_id, loaded[i]->times, loaded[i]->asker);
	return e;
}

/* Given to that asker; to nobody yet when it is "". r->n_ooms: none. */
static size_t find(const struct csandbox *s, const char *asker, const char *container_id) {
	const Bulkhead__CsandboxRecord *r = s->record;
	size_t i = 0;
	while (i < r->n_ooms && (strcmp(r->ooms[i]->asker, asker) != 0 ||
				 (container_id && strcmp(r->ooms[i]->container_id, container_id) != 0)))
		i++;
	return i;
}

static void save(struct csandbox *s) {
	/* Of what has ended the record may be gone already. */
	if (csandbox_is_up(s) && csandbox_save(s->ooms.m, s) < 0)
		log_event(LOG_WARN, "a sandbox's record is old", "sandbox", s->record->id, NULL);
}

/* --- answers ---------------------------------------------------------------- */

static void committed(void *ctx, int result) {
	struct csandbox *s = ctx;
	s->ooms.commits = false;
	for (struct list *n; (n = list_pop(&s->ooms.answers));) {
		struct csandbox_asker *a = list_entry(n, struct csandbox_asker, node);
		Bulkhead__CsandboxOomReply told = BULKHEAD__CSANDBOX_OOM_REPLY__INIT;
		Bulkhead__Empty settled = BULKHEAD__EMPTY__INIT;
		a->r->cancelled = NULL;
		told.container_id = (char *)(uintptr_t)a->container_id;
		if (a->container_id)
			csandbox_oom_reply(a->r, &told, NULL, 0);
		else
			csandbox_oom_settle_reply(a->r, &settled, NULL, 0);
	}
}

/* Waits for this change too, not only for those before it. */
static void answer(struct csandbox *s, struct csandbox_asker *a) {
	struct csandbox_ooms *q = &s->ooms;
	list_append(&q->answers, &a->node);
	if (q->commits)
		store_unwait(&q->commit);
	q->commit = (struct store_waiter){ .fn = committed, .ctx = s };
	list_init(&q->commit.node);
	q->commits = true;
	store_wait(q->m->store, STORE_PODS, &q->commit);
}

static void no_memory(struct csandbox_asker *a) {
	a->r->cancelled = NULL;
	msg_failf(a->r, FAULT_RESOURCE_EXHAUSTED, "no memory to tell of a kill");
}

/* --- giving ----------------------------------------------------------------- */

static void give(struct csandbox *s);

static void overdue(void *ctx) {
	struct csandbox *s = ctx;
	Bulkhead__CsandboxRecord *r = s->record;
	int64_t now = clock_mono();
	bool changed = false;
	loop_source_free_p(&s->ooms.timer);
	for (size_t i = 0; i < r->n_ooms; i++) {
		struct oom *o = oom_at(s, i);
		if (!*o->asker || now - o->since < SETTLE_LIMIT)
			continue;
		*o->asker = '\0';
		changed = true;
	}
	if (changed)
		save(s);
	give(s);
}

/* While something is given to somebody who may have died. */
static void watch(struct csandbox *s) {
	const Bulkhead__CsandboxRecord *r = s->record;
	int64_t due = INT64_MAX;
	for (size_t i = 0; i < r->n_ooms; i++)
		if (*oom_at(s, i)->asker)
			due = MIN(due, oom_at(s, i)->since + SETTLE_LIMIT);
	if (due < INT64_MAX && !s->ooms.timer && loop_timer(s->ooms.m->loop, due, overdue, s, &s->ooms.timer) < 0)
		s->ooms.timer = NULL; /* the next one who asks tries again */
}

/* One time of the first that waits, which then goes behind the others. */
static int give_one(struct csandbox *s, size_t i, struct csandbox_asker *a) {
	Bulkhead__CsandboxRecord *r = s->record;
	struct oom *o = oom_at(s, i);
	a->container_id = arena_strdup(&a->r->arena, o->container_id);
	int e = a->container_id ? append(r, o->container_id, 1, a->name) : -ENOMEM;
	if (e < 0)
		return e;
	take_out(r, i);
	if (--o->message.times > 0)
		r->ooms[r->n_ooms++] = &o->message;
	else
		free(o);
	return 0;
}

static void give(struct csandbox *s) {
	struct list given;
	size_t i;
	list_init(&given);
	while (!list_empty(&s->ooms.askers) && (i = find(s, "", NULL)) < s->record->n_ooms) {
		struct csandbox_asker *a = list_entry(list_pop(&s->ooms.askers), struct csandbox_asker, node);
		if (give_one(s, i, a) < 0) {
			no_memory(a);
			continue;
		}
		list_append(&given, &a->node);
	}
	if (!list_empty(&given))
		save(s);
	for (struct list *n; (n = list_pop(&given));)
		answer(s, list_entry(n, struct csandbox_asker, node));
	watch(s);
}

void csandbox_oom_add(struct metadata *m, const char *pod_id, const char *container_id, uint32_t times) {
	struct csandbox *s = csandbox_find_pod(&m->csandboxes, pod_id);
	if (!s || !s->record->keeps_ooms || !csandbox_is_up(s))
		return;
	Bulkhead__CsandboxRecord *r = s->record;
	size_t i = find(s, "", container_id);
	s->ooms.m = m;
	if (i < r->n_ooms)
		r->ooms[i]->times += times;
	else if (append(r, container_id, times, "") < 0)
		log_event(LOG_ERROR, "out of memory: a kill isn't told", "container", container_id, NULL);
	if (r->n_ooms > CONTAINERS_MAX && (i = find(s, "", NULL)) < r->n_ooms)
		drop(s, i);
	save(s);
	give(s);
}

/* --- requests --------------------------------------------------------------- */

static void gave_up(struct msg_request *r, void *ctx) {
	struct csandbox_asker *a = ctx;
	list_unlink(&a->node);
	msg_failf(r, FAULT_CANCELLED, "the caller gave up");
}

/* The sandbox and a new asker; NULL: the request has been failed. */
static struct csandbox_asker *asker_of(struct metadata *m, struct msg_request *r, const Bulkhead__CsandboxKey *key,
				       const char *name, struct csandbox **ret_sandbox) {
	struct csandbox_asker *a = arena_zalloc(&r->arena, sizeof(*a));
	char text[CSANDBOX_TEXT_MAX];
	struct csandbox *s;
	struct fault fault;
	int e = a ? csandbox_of(m, key, &s, &fault) : fault_errno(&fault, ENOMEM, "wait");
	if (e == 0 && (!s->record->keeps_ooms || !*name || strlen(name) >= ID_SIZE))
		e = fault_set(&fault, FAULT_FAILED_PRECONDITION, "%s: kills aren't kept for \"%.40s\"",
			      csandbox_text(key, text), name);
	if (e < 0) {
		msg_fail(r, &fault);
		return NULL;
	}
	*a = (struct csandbox_asker){ .r = r, .name = name };
	list_init(&a->node);
	r->cancelled = gave_up;
	r->cancelled_ctx = a;
	s->ooms.m = m;
	*ret_sandbox = s;
	return a;
}

void csandbox_oom(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CsandboxOomRequest *q = (const Bulkhead__CsandboxOomRequest *)request;
	struct csandbox *s;
	if (metadata_gate(m, r, request, csandbox_oom))
		return;
	struct csandbox_asker *a = asker_of(m, r, q->key, q->asker, &s);
	if (!a)
		return;
	size_t i = find(s, a->name, NULL);
	if (i < s->record->n_ooms) {
		/* What a worker before this one has given it. */
		oom_at(s, i)->since = clock_mono();
		a->container_id = arena_strdup(&r->arena, oom_at(s, i)->container_id);
		if (a->container_id)
			answer(s, a);
		else
			no_memory(a);
		return;
	}
	list_append(&s->ooms.askers, &a->node);
	give(s);
}

void csandbox_oom_settle(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CsandboxOomSettleRequest *q = (const Bulkhead__CsandboxOomSettleRequest *)request;
	struct csandbox *s;
	if (metadata_gate(m, r, request, csandbox_oom_settle))
		return;
	struct csandbox_asker *a = asker_of(m, r, q->key, q->asker, &s);
	if (!a)
		return;
	size_t i = find(s, a->name, NULL);
	if (i < s->record->n_ooms && q->told)
		drop(s, i);
	else if (i < s->record->n_ooms)
		*oom_at(s, i)->asker = '\0';
	save(s);
	answer(s, a);
	give(s);
}

/* --- the end ---------------------------------------------------------------- */

static void fail_all(struct csandbox *s, struct list *askers) {
	for (struct list *n; (n = list_pop(askers));) {
		struct msg_request *r = list_entry(n, struct csandbox_asker, node)->r;
		r->cancelled = NULL;
		/* The code that Kata's agent has for it. */
		msg_failf(r, FAULT_INTERNAL, "sandbox \"%s\": it was destroyed", s->record->id);
	}
}

void csandbox_ooms_free(struct csandbox *s) {
	if (s->ooms.commits)
		store_unwait(&s->ooms.commit);
	loop_source_free_p(&s->ooms.timer);
	fail_all(s, &s->ooms.askers);
	fail_all(s, &s->ooms.answers);
	while (s->record->n_ooms > 0)
		drop(s, s->record->n_ooms - 1);
	free(s->record->ooms);
	s->record->ooms = NULL;
}
