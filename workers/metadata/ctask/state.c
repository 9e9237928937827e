/*
 * What may be asked of a process in which state: one table, of what is refused.
 * As the states of containerd's shim for runc have it (process/init_state.go and
 * exec_state.go), with codes: there all but a signal to nobody is UNKNOWN.
 */
#include "workers/metadata/ctask/ctask.h"

#define FINISHED \
	{ FAULT_NOT_FOUND, "the process has already finished" }
#define REFUSED(why) \
	{ FAULT_FAILED_PRECONDITION, why }

struct refusal {
	enum fault_code code; /* FAULT_NONE: it may */
	const char *why;
};

/* Of a task, which is its first process. */
static const struct refusal first[CTASK_ACTIONS][CTASK_STATUSES] = {
	[CTASK_MAY_START] = {
		[CTASK(RUNNING)] = REFUSED("cannot start a running process: it was started before"),
		[CTASK(PAUSED)] = REFUSED("cannot start a paused process: it was started before"),
		[CTASK(STOPPED)] = REFUSED("cannot start a stopped process: it was started before"),
	},
	[CTASK_MAY_PAUSE] = {
		[CTASK(CREATED)] = REFUSED("cannot pause a created container: it wasn't started yet"),
		[CTASK(PAUSED)] = REFUSED("cannot pause a paused container"),
		[CTASK(STOPPED)] = REFUSED("cannot pause a stopped container"),
	},
	[CTASK_MAY_RESUME] = {
		[CTASK(CREATED)] = REFUSED("cannot resume a created container: it wasn't started yet"),
		[CTASK(RUNNING)] = REFUSED("cannot resume a running container"),
		[CTASK(STOPPED)] = REFUSED("cannot resume a stopped container"),
	},
	[CTASK_MAY_FREEZE] = {
		[CTASK(CREATED)] = REFUSED("it wasn't started yet"),
		[CTASK(STOPPED)] = REFUSED("it has ended meanwhile"),
	},
	[CTASK_MAY_ADD] = {
		[CTASK(PAUSED)] = REFUSED("cannot exec in a paused container"),
		[CTASK(STOPPED)] = REFUSED("it isn't running: nothing can be executed"),
	},
	[CTASK_MAY_EXECUTE] = {
		[CTASK(CREATED)] = REFUSED("it isn't running yet: nothing can be executed"),
		[CTASK(PAUSED)] = REFUSED("cannot exec in a paused container"),
		[CTASK(STOPPED)] = REFUSED("it isn't running: nothing can be executed"),
	},
	[CTASK_MAY_UPDATE] = {
		[CTASK(STOPPED)] = REFUSED("cannot update a stopped container"),
	},
	[CTASK_MAY_CHECKPOINT] = {
		[CTASK(CREATED)] = REFUSED("cannot checkpoint a created container: it isn't running"),
		[CTASK(STOPPED)] = REFUSED("cannot checkpoint a stopped container: it isn't running"),
	},
	[CTASK_MAY_SIGNAL] = { [CTASK(STOPPED)] = FINISHED },
	[CTASK_MAY_REACH] = { [CTASK(STOPPED)] = FINISHED },
	[CTASK_MAY_DELETE] = {
		[CTASK(RUNNING)] = REFUSED("it must be stopped before it is deleted: it is running"),
		[CTASK(PAUSED)] = REFUSED("it must be stopped before it is deleted: it is paused"),
	},
};

/* Of a process that was added: what isn't here is asked of tasks alone. */
static const struct refusal added[CTASK_ACTIONS][CTASK_STATUSES] = {
	[CTASK_MAY_START] = {
		[CTASK(RUNNING)] = REFUSED("cannot start a running process: it was started before"),
		[CTASK(STOPPED)] = REFUSED("cannot start a stopped process: it was started before"),
	},
	[CTASK_MAY_SIGNAL] = {
		[CTASK(CREATED)] = REFUSED("it wasn't started yet"),
		[CTASK(STOPPED)] = FINISHED,
	},
	[CTASK_MAY_REACH] = {
		[CTASK(CREATED)] = REFUSED("it wasn't started yet"),
		[CTASK(STOPPED)] = FINISHED,
	},
	[CTASK_MAY_DELETE] = {
		[CTASK(RUNNING)] = REFUSED("it must be stopped before it is deleted: it is running"),
	},
};

int ctask_may(const struct ctask *t, const Bulkhead__CtaskExec *exec, enum ctask_action action,
	      const Bulkhead__CtaskKey *key, struct fault *fault) {
	char text[CTASK_TEXT_MAX];
	const struct refusal *r = exec ? &added[action][exec->status] : &first[action][t->record->status];
	return r->code == FAULT_NONE ? 0 : fault_set(fault, r->code, "%s: %s", ctask_text(key, text), r->why);
}
