/*
 * The processes that were added to a task, in memory. Each has an arena of its
 * own, which goes with it: a task doesn't grow with what came and went.
 */
#include "workers/metadata/ctask/ctask.h"

#include <errno.h>
#include <string.h>

struct added {
	Bulkhead__CtaskExec exec; /* the record's list points here; what it points to is in the arena */
	struct arena arena;
};

static struct added *added_of(Bulkhead__CtaskExec *exec) {
	return container_of(exec, struct added, exec);
}

void ctask_exec_free(Bulkhead__CtaskExec *exec) {
	struct added *x = exec ? added_of(exec) : NULL;
	if (!x)
		return;
	arena_deinit(&x->arena);
	free(x);
}

static Bulkhead__CtaskExec *added_new(const Bulkhead__CtaskExec *from) {
	struct added *x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	arena_init(&x->arena, 0);
	const Bulkhead__CtaskExec *copy = message_copy(&x->arena, &from->base);
	if (copy) {
		x->exec = *copy;
		return &x->exec;
	}
	ctask_exec_free(&x->exec);
	return NULL;
}

static int append(Bulkhead__CtaskRecord *r, const Bulkhead__CtaskExec *from) {
	Bulkhead__CtaskExec **all = realloc(r->execs, (r->n_execs + 1) * sizeof(*all));
	if (!all)
		return -ENOMEM;
	r->execs = all;
	if (!(all[r->n_execs] = added_new(from)))
		return -ENOMEM;
	r->n_execs++;
	return 0;
}

int ctask_execs_own(struct ctask *t) {
	Bulkhead__CtaskRecord *r = t->record;
	Bulkhead__CtaskExec *const *loaded = r->execs;
	size_t n = r->n_execs;
	int e = 0;
	r->execs = NULL;
	r->n_execs = 0;
	for (size_t i = 0; e == 0 && i < n; i++)
		e = append(r, loaded[i]);
	return e;
}

void ctask_execs_free(struct ctask *t) {
	Bulkhead__CtaskRecord *r = t->record;
	for (size_t i = 0; i < r->n_execs; i++)
		ctask_exec_free(r->execs[i]);
	free(r->execs);
	r->execs = NULL;
	r->n_execs = 0;
}

Bulkhead__CtaskExec *ctask_exec_find(const struct ctask *t, const char *exec_id) {
	for (size_t i = 0; i < t->record->n_execs; i++)
		if (strcmp(t->record->execs[i]->id, exec_id) == 0)
			return t->record->execs[i];
	return NULL;
}

int ctask_exec_add(struct ctask *t, const Bulkhead__CtaskExecRequest *q, bool unnamed) {
	Bulkhead__CtaskExec exec = BULKHEAD__CTASK_EXEC__INIT;
	exec.id = q->key->exec_id;
	exec.status = CTASK(CREATED);
	exec.stdio = q->stdio;
	exec.process = q->process;
	exec.unnamed = unnamed;
	return append(t->record, &exec);
}

void ctask_exec_take(struct ctask *t, const Bulkhead__CtaskExec *exec) {
	Bulkhead__CtaskRecord *r = t->record;
	size_t n = 0;
	for (size_t i = 0; i < r->n_execs; i++)
		if (r->execs[i] != exec)
			r->execs[n++] = r->execs[i];
	r->n_execs = n;
}

void ctask_exec_drop(struct ctask *t, Bulkhead__CtaskExec *exec) {
	ctask_exec_take(t, exec);
	ctask_exec_free(exec);
}

const Bulkhead__TaskExit *ctask_exit_set(struct ctask *t, Bulkhead__CtaskExec *exec, const Bulkhead__TaskExit *e) {
	Bulkhead__TaskExit *copy = message_copy(exec ? &added_of(exec)->arena : &t->arena, &e->base);
	if (copy)
		*(exec ? &exec->exit : &t->record->exit) = copy;
	return copy;
}
