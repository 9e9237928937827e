/* The kernel's truth about sandboxes; the rules are those of workers/metadata/reconcile.h. */
#include "workers/metadata/csandbox/csandbox.h"

#include "base/log.h"
#include "workers/metadata/ctask/ctask.h"
#include "workers/metadata/reconcile.h"
#include "workers/metadata/sweep.h"

static void keeper_seen(struct metadata *m, struct csandbox *s, int32_t pid) {
	if (!s->record->started || s->record->started->keeper_pid == pid)
		return;
	s->record->started->keeper_pid = pid;
	if (csandbox_save(m, s) < 0)
		log_event(LOG_WARN, "a sandbox's record is old", "sandbox", s->record->id, NULL);
}

void csandbox_kept(struct metadata *m, const Bulkhead__SandboxKept *k) {
	struct csandbox *s = csandbox_find_pod(&m->csandboxes, k->sandbox_id);
	if (s && csandbox_is_up(s))
		keeper_seen(m, s, k->keeper_pid);
}

bool csandbox_reconcile_pod(struct metadata *m, const Bulkhead__SandboxInfo *info) {
	struct csandbox *s = csandbox_find_pod(&m->csandboxes, info->id);
	if (!s)
		return false;
	if (s->op || info->unreachable)
		return true;
	if (!csandbox_is_up(s)) {
		sweep_sandbox(m, info->id);
		return true;
	}
	if (info->started)
		keeper_seen(m, s, info->started->keeper_pid);
	for (size_t i = 0; i < info->n_tasks; i++)
		if (!ctask_find_in_pod(&m->ctasks, info->id, info->tasks[i]->container_id)) {
			log_event(LOG_WARN, "process without a record is deleted", "container",
				  info->tasks[i]->container_id, NULL);
			sweep_task(m, info->id, info->tasks[i]->container_id);
		}
	ctask_reconcile_pod(m, info);
	return true;
}

void csandbox_reconcile_absent(struct metadata *m, const Bulkhead__TaskListReply *l) {
	list_for_each_safe (n, &m->csandboxes.all) {
		struct csandbox *s = list_entry(n, struct csandbox, node);
		if (!s->op && csandbox_is_up(s) && s->up_at < m->reconcile_asked &&
		    !task_list_sandbox(l, s->record->pod->id))
			csandbox_ended(m, s, CSANDBOX_UNKNOWN_EXIT);
	}
}
