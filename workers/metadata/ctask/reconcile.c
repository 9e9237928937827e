/* The kernel's truth about tasks; the rules are those of workers/metadata/reconcile.h. */
#include "workers/metadata/ctask/ctask.h"

#include "workers/metadata/lifecycle.h"
#include "workers/metadata/reconcile.h"

#include <string.h>

static void reconcile_first(struct metadata *m, struct ctask *t, const Bulkhead__TaskInfo *info) {
	if (!info || info->state == BULKHEAD__TASK_STATE__TASK_EXITED)
		ctask_ended(m, t, NULL, info ? info->exit : NULL);
	else if (info->state == BULKHEAD__TASK_STATE__TASK_RUNNING && t->record->status == CTASK(CREATED))
		t->record->status = CTASK(RUNNING); /* its start's answer was lost */
}

bool ctask_reconcile_pod(struct metadata *m, const Bulkhead__SandboxInfo *info) {
	struct ctask *t = ctask_find_pod(&m->ctasks, info->id);
	if (!t)
		return false;
	if (!t->op && t->made && !info->unreachable)
		reconcile_first(m, t, task_list_task(info, t->record->container_id));
	return true;
}

void ctask_reconcile_absent(struct metadata *m, const Bulkhead__TaskListReply *l) {
	list_for_each_safe (n, &m->ctasks.all) {
		struct ctask *t = list_entry(n, struct ctask, node);
		if (t->op || !t->made || t->record->task->created_at >= m->reconcile_asked ||
		    task_list_sandbox(l, t->record->sandbox_id))
			continue;
		for (size_t i = 0; i < t->record->n_execs; i++)
			if (t->record->execs[i]->status == CTASK(RUNNING))
				ctask_ended(m, t, t->record->execs[i], NULL);
		ctask_ended(m, t, NULL, NULL);
	}
}

bool ctask_exited(struct metadata *m, const Bulkhead__TaskExit *e) {
	struct ctask *t = ctask_find_pod(&m->ctasks, e->sandbox_id);
	if (!t)
		return false;
	Bulkhead__CtaskExec *exec = *e->exec_id ? ctask_exec_find(t, e->exec_id) : NULL;
	if (*e->exec_id && !exec)
		return true;
	/* Nobody hears of an end before the beginning: the operation tells it. */
	if (t->op)
		*(exec ? &exec->exit : &t->record->exit) = message_copy(&t->arena, &e->base);
	else
		ctask_ended(m, t, exec, e);
	return true;
}
