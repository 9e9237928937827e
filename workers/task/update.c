/* task_update: goes to the keeper, which has the control groups. */
#include "task.h"

#include "base/clock.h"

#define UPDATE_LIMIT (30 * NS_PER_SEC)

static void update_done(void *ctx, const struct msg_answer *a) {
	if (a->fault)
		msg_fail(ctx, a->fault);
	else
		task_update_reply(ctx, container_update_answer(a), NULL, 0);
}

void on_task_update(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskUpdateRequest *m) {
	const char *name = m->container_id[0] ? m->container_id : "*";
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, name, true);
	if (!s)
		return;
	struct msg_context context = context_within(&r->context, UPDATE_LIMIT);
	container_update_send(s->link, &context, m, NULL, 0, update_done, r);
}
