/*
 * Tasks of containers that the CRI has made, in the namespace k8s.io: lent to
 * containerd's clients, who may look, send signals, pause and resume, and add
 * processes. The CRI alone makes, starts and removes them, so such a task is
 * there as long as its container runs; in memory from the first time that
 * somebody asks for it, in the store while it has processes that were added.
 * Whether it is paused is its keeper's to know.
 */
#include "workers/metadata/ctask/ctask.h"

#include "base/log.h"
#include "workers/metadata/lifecycle.h"
#include "workers/metadata/sweep.h"

#include <string.h>

const struct container *ctask_lender(struct metadata *m, const char *namespace, const char *container_id) {
	struct map_node *n = strcmp(namespace, NAMESPACE_CRI) == 0 ? map_find(&m->model.container_ids, container_id)
								   : NULL;
	return n ? container_of(n, struct container, by_id) : NULL;
}

bool ctask_lends(const struct container *c) {
	return c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP && c->record->task;
}

static struct ctask *lent_task(const struct metadata *m, const char *container_id) {
	struct ctask *t = ctask_find(&m->ctasks, NAMESPACE_CRI, container_id);
	return t && t->record->lent ? t : NULL;
}

bool ctask_lent_paused(const struct metadata *m, const struct container *c) {
	const struct ctask *t = lent_task(m, c->record->id);
	return t && t->record->status == CTASK(PAUSED);
}

void ctask_lent_record(const struct metadata *m, const struct container *c, Bulkhead__Stdio *stdio,
		       Bulkhead__CtaskRecord *ret_record) {
	*stdio = (Bulkhead__Stdio)BULKHEAD__STDIO__INIT;
	stdio->terminal = c->record->config->tty;
	*ret_record = (Bulkhead__CtaskRecord)BULKHEAD__CTASK_RECORD__INIT;
	ret_record->namespace_ = (char *)NAMESPACE_CRI;
	ret_record->container_id = c->record->id;
	ret_record->sandbox_id = c->record->sandbox_id;
	ret_record->status = ctask_lent_paused(m, c) ? CTASK(PAUSED) : CTASK(RUNNING);
	ret_record->stdio = stdio;
	ret_record->task = c->record->task;
	ret_record->lent = true;
}

struct ctask *ctask_lend(struct metadata *m, const Bulkhead__CtaskKey *key) {
	const struct container *c = ctask_lender(m, key->namespace_, key->container_id);
	struct ctask *t = c ? ctask_find(&m->ctasks, key->namespace_, key->container_id) : NULL;
	Bulkhead__CtaskRecord record;
	Bulkhead__Stdio stdio;
	if (!c || !ctask_lends(c) || t)
		return c && ctask_lends(c) ? t : NULL;
	ctask_lent_record(m, c, &stdio, &record);
	if (ctask_add(&m->ctasks, &record, &t) < 0)
		return NULL;
	t->made = true;
	return t;
}

int ctask_own(const struct ctask *t, struct fault *fault) {
	if (!t->record->lent)
		return 0;
	return fault_set(fault, FAULT_FAILED_PRECONDITION,
			 "task \"%s\" in namespace \"%s\" belongs to the CRI: change it there", t->record->container_id,
			 t->record->namespace_);
}

/* --- its life, told whether somebody has asked for it or not ----------------- */

static void tell(struct metadata *m, const char *topic, const struct container *c) {
	Bulkhead__BusEvent e = BULKHEAD__BUS_EVENT__INIT;
	const Bulkhead__TaskExit *exit = c->record->exit;
	e.topic = (char *)(uintptr_t)topic;
	e.namespace_ = (char *)NAMESPACE_CRI;
	e.id = c->record->id;
	e.pid = c->record->task ? (uint32_t)c->record->task->pid : 0;
	e.exit_status = exit ? exit->exit_code : 0;
	e.exited_at = exit ? exit->finished_at : 0;
	bus_tell(&m->bus, &e);
}

void ctask_lent_started(struct metadata *m, const struct container *c) {
	tell(m, "/tasks/create", c);
	tell(m, "/tasks/start", c);
}

bool ctask_lent_oomed(struct metadata *m, const struct container *c, uint32_t ooms) {
	Bulkhead__ContainerRecord *r = c->record;
	bool more = ooms > r->ooms;
	for (; r->ooms < ooms; r->ooms++)
		tell(m, "/tasks/oom", c);
	return more;
}

void ctask_lent_resumed(struct metadata *m, const char *container_id) {
	struct ctask *t = lent_task(m, container_id);
	if (t && t->record->status == CTASK(PAUSED))
		ctask_froze(m, t, false);
}

/* --- its end ---------------------------------------------------------------- */

void ctask_lent_settle(struct metadata *m, struct ctask *t) {
	if (!t->record->lent || t->op || t->record->status != CTASK(STOPPED))
		return;
	if (ctask_unsave(m, t) < 0)
		log_event(LOG_WARN, "a task's record wasn't deleted", "container", t->record->container_id, NULL);
	ctask_free(&m->ctasks, t);
}

static void all_ended(struct metadata *m, struct ctask *t, const Bulkhead__TaskExit *e) {
	for (size_t i = t->record->n_execs; i-- > 0;)
		if (t->record->execs[i]->status == CTASK(RUNNING))
			ctask_ended(m, t, t->record->execs[i], NULL);
	ctask_ended(m, t, NULL, e);
	ctask_lent_settle(m, t);
}

void ctask_lent_ended(struct metadata *m, const struct container *c) {
	struct ctask *t = lent_task(m, c->record->id);
	if (c->record->exit)
		ctask_lent_oomed(m, c, c->record->exit->ooms);
	tell(m, "/tasks/exit", c);
	if (t)
		all_ended(m, t, c->record->exit);
	tell(m, "/tasks/delete", c); /* as the CRI's own client of it would */
}

/* --- after an absence ------------------------------------------------------- */

void ctask_reconcile_lent(struct metadata *m, const Bulkhead__TaskInfo *info, const char *sandbox_id) {
	Bulkhead__CtaskKey key = BULKHEAD__CTASK_KEY__INIT;
	struct ctask *t = ctask_find(&m->ctasks, NAMESPACE_CRI, info->container_id);
	key.namespace_ = (char *)NAMESPACE_CRI;
	key.container_id = info->container_id;
	if (!t && info->frozen)
		t = ctask_lend(m, &key);
	if (t && t->record->lent && !t->op) {
		ctask_reconcile_execs(m, t, info);
		ctask_reconcile_frozen(t, info);
	}
	for (size_t i = 0; !t && i < info->n_execs; i++)
		sweep_process(m, sandbox_id, info->container_id, info->execs[i]->exec_id);
}
