/* What the metadata worker may ask of this one: from message to function. */
#include "task.h"

/* With a root of its own; otherwise the same. */
void on_task_create_bare(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskCreateRequest *m) {
	on_task_create(w, r, m);
}

#define TO_TASK(name) HANDLER_DEFINE(struct task_worker, name)
#include "msg/receivers.def"

const struct link_handler task_handlers[] = {
#define TO_TASK(name) HANDLER(name),
#include "msg/receivers.def"
	{ 0 },
};
