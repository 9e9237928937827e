/*
 * Kills for want of memory. A keeper counts them; what was told of them is in the
 * records, so each is told once however often the number comes: by the row
 * task_oom, with a list of what runs, or with a container's end.
 */
#include "workers/metadata/ctask/ctask.h"

#include "base/log.h"
#include "workers/metadata/csandbox/csandbox.h"
#include "workers/metadata/handlers.h"
#include "workers/metadata/lifecycle.h"

void ctask_oomed(struct metadata *m, struct ctask *t, uint32_t ooms) {
	Bulkhead__CtaskRecord *r = t->record;
	t->ooms = MAX(t->ooms, ooms);
	/* Nobody hears of it before the beginning: then it is the operation that calls. */
	if (t->op || !t->made || t->ooms <= r->ooms)
		return;
	uint32_t times = t->ooms - r->ooms;
	r->ooms = t->ooms;
	for (uint32_t i = 0; i < times; i++)
		ctask_tell(m, "/tasks/oom", t, NULL);
	csandbox_oom_add(m, r->sandbox_id, r->container_id, times);
	if (ctask_save(m, t) < 0)
		log_event(LOG_WARN, "a task's record is old", "container", r->container_id, NULL);
}

void task_oom(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__TaskOom *o = (const Bulkhead__TaskOom *)request;
	struct ctask *t = ctask_find_in_pod(&m->ctasks, o->sandbox_id, o->container_id);
	struct map_node *n = t ? NULL : map_find(&m->model.container_ids, o->container_id);
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	if (t)
		ctask_oomed(m, t, o->ooms);
	else if (n)
		container_oomed(m, container_of(n, struct container, by_id), o->ooms);
	task_oom_reply(r, &done, NULL, 0);
}
