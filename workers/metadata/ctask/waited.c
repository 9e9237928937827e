/*
 * The ends of processes that were added to an agent's containers. Its host
 * deletes none of them, and may ask again for what it was told; so the last
 * TOLD_MAX that it was told are kept per container, in the order in which each
 * was told first. One that nobody has asked for stays until its container goes.
 * What a worker before this one has told counts as untold.
 */
#include "workers/metadata/ctask/ctask.h"

#include <string.h>

#define TOLD_MAX 64

struct told {
	struct list node;
	char exec_id[];
};

static bool is_told(const struct ctask *t, const char *exec_id) {
	list_for_each (n, &t->told)
		if (strcmp(list_entry(n, struct told, node)->exec_id, exec_id) == 0)
			return true;
	return false;
}

static void oldest_forget(struct metadata *m, struct ctask *t) {
	struct told *oldest CLEANUP_FREE = list_entry(list_pop(&t->told), struct told, node);
	Bulkhead__CtaskExec *exec = ctask_exec_find(t, oldest->exec_id);
	t->n_told--;
	if (exec && exec->status == CTASK(STOPPED))
		ctask_exec_forget(m, t, exec);
}

/* A task of containerd's is of a container that is an object. */
static bool is_agents(struct metadata *m, const struct ctask *t) {
	const Bulkhead__CtaskRecord *r = t->record;
	return !r->lent &&
	       !object_find(&m->objects, BULKHEAD__OBJECT_KIND__OBJECT_CONTAINER, r->namespace_, r->container_id);
}

void ctask_waited(struct metadata *m, struct ctask *t, const Bulkhead__CtaskExec *exec) {
	if (!exec || exec->unnamed || !is_agents(m, t) || is_told(t, exec->id))
		return;
	size_t size = strlen(exec->id) + 1;
	struct told *told = malloc(sizeof(*told) + size);
	if (!told)
		return; /* it stays */
	memcpy(told->exec_id, exec->id, size);
	list_append(&t->told, &told->node);
	t->n_told++;
	/* Not beside an operation, which may be about one of them. */
	while (t->n_told > TOLD_MAX && !t->op)
		oldest_forget(m, t);
}

void ctask_waited_free(struct ctask *t) {
	for (struct list *n; (n = list_pop(&t->told));)
		free(list_entry(n, struct told, node));
}
