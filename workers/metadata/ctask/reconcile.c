/* The kernel's truth about tasks; the rules are those of workers/metadata/reconcile.h. */
#include "workers/metadata/ctask/ctask.h"

#include "workers/metadata/lifecycle.h"
#include "workers/metadata/reconcile.h"
#include "workers/metadata/sweep.h"

#include <string.h>

void ctask_reconcile_frozen(struct ctask *t, const Bulkhead__TaskInfo *info) {
	/* An answer may have been lost; but an end that was told since the question was asked stays. */
	if (info->state == BULKHEAD__TASK_STATE__TASK_RUNNING && t->record->status != CTASK(STOPPED))
		t->record->status = info->frozen ? CTASK(PAUSED) : CTASK(RUNNING);
}

static void reconcile_first(struct metadata *m, struct ctask *t, const Bulkhead__TaskInfo *info) {
	if (!info || info->state == BULKHEAD__TASK_STATE__TASK_EXITED)
		ctask_ended(m, t, NULL, info ? info->exit : NULL);
	else
		ctask_reconcile_frozen(t, info);
}

static const Bulkhead__ExecInfo *exec_info(const Bulkhead__TaskInfo *info, const char *exec_id) {
	for (size_t i = 0; i < info->n_execs; i++)
		if (strcmp(info->execs[i]->exec_id, exec_id) == 0)
			return info->execs[i];
	return NULL;
}

static void reconcile_exec(struct metadata *m, struct ctask *t, Bulkhead__CtaskExec *exec,
			   const Bulkhead__ExecInfo *info) {
	if (exec->status == CTASK(CREATED) && exec->unnamed) {
		/* Nobody knows its pid: it is ended as one without a record. */
		ctask_exec_drop(t, exec);
		return;
	}
	if (exec->status == CTASK(CREATED) && info && info->pid) {
		/* Its start's answer was lost. */
		exec->pid = (uint32_t)info->pid;
		exec->status = CTASK(RUNNING);
	}
	if (exec->status == CTASK(RUNNING) && (!info || info->exit))
		ctask_ended(m, t, exec, info ? info->exit : NULL);
}

/* From the last one: what has no name leaves the list with its end. */
void ctask_reconcile_execs(struct metadata *m, struct ctask *t, const Bulkhead__TaskInfo *info) {
	for (size_t i = t->record->n_execs; i-- > 0;) {
		Bulkhead__CtaskExec *exec = t->record->execs[i];
		reconcile_exec(m, t, exec, info ? exec_info(info, exec->id) : NULL);
	}
	for (size_t i = 0; info && i < info->n_execs; i++)
		if (!ctask_exec_find(t, info->execs[i]->exec_id))
			sweep_process(m, t->record->sandbox_id, t->record->container_id, info->execs[i]->exec_id);
}

static void reconcile_task(struct metadata *m, struct ctask *t, const Bulkhead__SandboxInfo *pod) {
	if (t->op || !t->made || pod->unreachable)
		return;
	const Bulkhead__TaskInfo *first = task_list_task(pod, t->record->container_id);
	/* What was begun after the question was asked isn't in its answer. */
	if (!first && t->record->task->created_at >= m->reconcile_asked)
		return;
	if (first)
		ctask_oomed(m, t, first->ooms);
	ctask_reconcile_execs(m, t, first);
	reconcile_first(m, t, first);
}

bool ctask_reconcile_pod(struct metadata *m, const Bulkhead__SandboxInfo *info) {
	bool found = false;
	list_for_each_safe (n, &m->ctasks.all) {
		struct ctask *t = list_entry(n, struct ctask, node);
		if (strcmp(t->record->sandbox_id, info->id) != 0)
			continue;
		found = true;
		reconcile_task(m, t, info);
	}
	return found;
}

void ctask_pod_ended(struct metadata *m, const char *sandbox_id) {
	list_for_each_safe (n, &m->ctasks.all) {
		struct ctask *t = list_entry(n, struct ctask, node);
		if (t->op || !t->made || strcmp(t->record->sandbox_id, sandbox_id) != 0)
			continue;
		ctask_reconcile_execs(m, t, NULL);
		ctask_ended(m, t, NULL, NULL);
	}
}

/* Its container ended, or went, before its record did. */
static bool is_orphan(struct metadata *m, const struct ctask *t) {
	const struct container *c = t->record->lent ? ctask_lender(m, t->record->namespace_, t->record->container_id)
						    : NULL;
	return t->record->lent && (!c || !ctask_lends(c));
}

void ctask_reconcile_absent(struct metadata *m, const Bulkhead__TaskListReply *l) {
	list_for_each_safe (n, &m->ctasks.all) {
		struct ctask *t = list_entry(n, struct ctask, node);
		if (t->op || !t->made || t->record->task->created_at >= m->reconcile_asked ||
		    (task_list_sandbox(l, t->record->sandbox_id) && !is_orphan(m, t)))
			continue;
		ctask_reconcile_execs(m, t, NULL);
		ctask_ended(m, t, NULL, NULL);
		ctask_lent_settle(m, t);
	}
}

bool ctask_exited(struct metadata *m, const Bulkhead__TaskExit *e) {
	struct ctask *t = ctask_find_in_pod(&m->ctasks, e->sandbox_id, e->container_id);
	/* In a pod of the CRI's only processes that were added are a task's. */
	if (!t && *e->exec_id)
		t = ctask_find(&m->ctasks, NAMESPACE_CRI, e->container_id);
	if (!t)
		return *e->exec_id;
	Bulkhead__CtaskExec *exec = *e->exec_id ? ctask_exec_find(t, e->exec_id) : NULL;
	if (*e->exec_id ? !exec : !exit_is_of(e, t->record->task))
		return true;
	/* Nobody hears of an end before the beginning: the operation tells it. */
	if (t->op)
		ctask_exit_set(t, exec, e);
	else
		ctask_ended(m, t, exec, e);
	return true;
}
