/*
 * Tasks of containers that are objects: at most one per container, from its
 * creation to its deletion, and the processes that were added to it.
 *
 *   CREATED   the process is there and waits for the word to go
 *   RUNNING   PAUSED  STOPPED: its end is known and kept until the deletion
 *
 * Each lives in a pod of its own, made and removed with it, unless its container
 * names a sandbox: then in that one's pod, whose network, ipc and uts namespaces
 * it has whatever its specification says. The record is written once the process is there: a pod without a record is
 * stopped by the reconciliation, so a crash in between leaves nothing.
 *
 *   model.c      the tasks in memory and in the store
 *   exec.c       the processes that were added, in memory
 *   create.c     pod -> root -> process -> record
 *   restore.c    from a checkpoint, between the steps of create.c
 *   start.c      of the first process, of an added one, of one without a name
 *   checkpoint.c of all of them, into content
 *   delete.c     of both; with the first one goes the pod
 *   process.c    what is asked of a process and answered by the task worker
 *   list.c       get, list, wait
 *   oom.c        kills for want of memory
 *   waited.c     which ends an agent keeps
 *   metrics.c    figures
 *   lent.c       of the CRI's containers, in k8s.io
 *   reconcile.c  after an absence of the task worker, or of this one
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "base/list.h"
#include "base/map.h"
#include "internal/ctask.pb-c.h"
#include "workers/metadata/metadata.h"

struct ctask {
	struct list node; /* ctasks.all, oldest first */
	struct map_node by_name;
	struct map_node by_pod; /* unless it is lent */
	struct arena arena;
	Bulkhead__CtaskRecord *record;
	struct op *op;
	bool made;	   /* there is a record in the store; before that nobody sees it */
	struct list waits; /* struct ctask_wait */
	struct list told;  /* struct told of waited.c */
	size_t n_told;
	uint32_t ooms; /* that were heard of; the record has those that were told */
};

#define CTASK(status) BULKHEAD__CTASK_STATUS__CTASK_##status
#define CTASK_TEXT_MAX 256
#define CTASK_CHECKPOINT_TYPE "application/vnd.containerd.container.criu.checkpoint.criu.tar"

/* --- model.c --- */

/* A copy of the record. -EEXIST, -EINVAL, -ENOMEM. */
int ctask_add(struct ctasks *c, const Bulkhead__CtaskRecord *record, struct ctask **ret_task);
void ctask_free(struct ctasks *c, struct ctask *t);
struct ctask *ctask_find(const struct ctasks *c, const char *namespace, const char *container_id);
struct ctask *ctask_find_in_pod(const struct ctasks *c, const char *sandbox_id, const char *container_id);
/* Of a pod: any that has the status; NULL: none. And the containers of all, in the arena. */
struct ctask *ctask_with_status(const struct ctasks *c, const char *sandbox_id, Bulkhead__CtaskStatus status);
char **ctask_ids_in(const struct ctasks *c, const char *sandbox_id, struct arena *a, size_t *ret_n);
int ctask_save(struct metadata *m, const struct ctask *t) NODISCARD;
int ctask_unsave(struct metadata *m, const struct ctask *t) NODISCARD;
/* "task "web" in namespace "default"", or "process "x" of ...". */
const char *ctask_text(const Bulkhead__CtaskKey *key, char ret_text[CTASK_TEXT_MAX]);
/* Those that are made; NOT_FOUND with the sentence. */
int ctask_of(struct metadata *m, const Bulkhead__CtaskKey *key, struct ctask **ret_task, struct fault *fault) NODISCARD;
/* And, when the key names one, the added process; else NULL. */
int ctask_process_of(struct metadata *m, const Bulkhead__CtaskKey *key, struct ctask **ret_task,
		     Bulkhead__CtaskExec **ret_exec, struct fault *fault) NODISCARD;

/* --- state.c --- */

enum ctask_action {
	CTASK_MAY_START,
	CTASK_MAY_PAUSE,
	CTASK_MAY_RESUME,
	CTASK_MAY_FREEZE,  /* either, of what may be so already */
	CTASK_MAY_ADD,	   /* a process to it, which is started later */
	CTASK_MAY_EXECUTE, /* a process in it, now */
	CTASK_MAY_UPDATE,
	CTASK_MAY_CHECKPOINT,
	CTASK_MAY_SIGNAL,
	CTASK_MAY_REACH, /* its terminal, its input, its pids */
	CTASK_MAY_DELETE,
	CTASK_ACTIONS
};
#define CTASK_STATUSES (CTASK(PAUSED) + 1)
/* Of the task, or of the process exec that was added to it (NULL: the first). The
 * sentence names key. */
int ctask_may(const struct ctask *t, const Bulkhead__CtaskExec *exec, enum ctask_action action,
	      const Bulkhead__CtaskKey *key, struct fault *fault) NODISCARD;

/* --- exec.c --- */

Bulkhead__CtaskExec *ctask_exec_find(const struct ctask *t, const char *exec_id);
/* Into the record, CREATED, as the last one. */
int ctask_exec_add(struct ctask *t, const Bulkhead__CtaskExecRequest *q, bool unnamed) NODISCARD;
/* Out of the record; whoever takes it frees it. drop is both. */
void ctask_exec_take(struct ctask *t, const Bulkhead__CtaskExec *exec);
void ctask_exec_free(Bulkhead__CtaskExec *exec);
void ctask_exec_drop(struct ctask *t, Bulkhead__CtaskExec *exec);
/* The end of one, or of the first (exec NULL), in the record: a copy. NULL: out of memory. */
const Bulkhead__TaskExit *ctask_exit_set(struct ctask *t, Bulkhead__CtaskExec *exec, const Bulkhead__TaskExit *e);
/* Those of a record that was just copied into the task's arena. */
int ctask_execs_own(struct ctask *t) NODISCARD;
void ctask_execs_free(struct ctask *t);

/* --- list.c --- */

/* A process has ended: exec NULL for the first one. e NULL: nobody knows how
 * (255). Nothing happens when the end is known already. */
void ctask_ended(struct metadata *m, struct ctask *t, Bulkhead__CtaskExec *exec, const Bulkhead__TaskExit *e);
void ctask_exit_fill(const struct ctask *t, const Bulkhead__CtaskExec *exec, Bulkhead__CtaskKey *key,
		     Bulkhead__CtaskExit *ret_exit);
/* What ctask_exited and ctask_oomed kept back while an operation ran, of any of the processes. */
void ctask_ended_meanwhile(struct metadata *m, struct ctask *t);
/* One that nobody will delete goes. */
void ctask_exec_forget(struct metadata *m, struct ctask *t, Bulkhead__CtaskExec *exec);
/* Fails all that wait: the task is gone. */
void ctask_waits_end(struct ctask *t);

/* --- oom.c --- */

/* So often since its beginning; the same number again, or less, is nothing. */
void ctask_oomed(struct metadata *m, struct ctask *t, uint32_t ooms);

/* --- waited.c --- */

/* The end of an added process is told to whoever waited for it. */
void ctask_waited(struct metadata *m, struct ctask *t, const Bulkhead__CtaskExec *exec);
void ctask_waited_free(struct ctask *t);

/* --- process.c --- */

/* Another process: whether it may be one of the task's. */
int ctask_exec_check(const struct ctask *t, const Bulkhead__CtaskExecRequest *q, enum ctask_action action,
		     struct fault *fault) NODISCARD;
/* For an event about a task; the fields of the process's. */
void ctask_tell(struct metadata *m, const char *topic, const struct ctask *t, const Bulkhead__CtaskExec *exec);

/* Frozen or thawed: recorded and told. */
void ctask_froze(struct metadata *m, struct ctask *t, bool frozen);

/* --- lent.c --- */

/* The CRI's container of that name; NULL: none, or another namespace. */
const struct container *ctask_lender(struct metadata *m, const char *namespace, const char *container_id);
/* It runs, and so it has a task. */
bool ctask_lends(const struct container *c);
/* As long as c and stdio. */
void ctask_lent_record(const struct metadata *m, const struct container *c, Bulkhead__Stdio *stdio,
		       Bulkhead__CtaskRecord *ret_record);
/* A client has paused it; and: it goes on, by whoever's wish. */
bool ctask_lent_paused(const struct metadata *m, const struct container *c);
void ctask_lent_resumed(struct metadata *m, const char *container_id);
/* Its task, made when it isn't there yet; NULL: it has none, or out of memory. */
struct ctask *ctask_lend(struct metadata *m, const Bulkhead__CtaskKey *key);
/* FAILED_PRECONDITION when the task is the CRI's. */
int ctask_own(const struct ctask *t, struct fault *fault) NODISCARD;
/* The container has begun. */
void ctask_lent_started(struct metadata *m, const struct container *c);
/* Killed in so often since it began. True: some were told, which changes its record. */
bool ctask_lent_oomed(struct metadata *m, const struct container *c, uint32_t ooms);
/* The container has ended: so has everything in it, and nothing is left to delete. */
void ctask_lent_ended(struct metadata *m, const struct container *c);
/* Frees what has ended and no operation is at. */
void ctask_lent_settle(struct metadata *m, struct ctask *t);
/* What runs in a container of the CRI's beside its first process, and whether it is paused. */
void ctask_reconcile_lent(struct metadata *m, const Bulkhead__TaskInfo *info, const char *sandbox_id);

/* --- reconcile.c --- */

/* Of one that runs: PAUSED or RUNNING, as its keeper says. */
void ctask_reconcile_frozen(struct ctask *t, const Bulkhead__TaskInfo *info);
/* info NULL: nothing of the container is there. */
void ctask_reconcile_execs(struct metadata *m, struct ctask *t, const Bulkhead__TaskInfo *info);

/* True when the pod is a task's, or several tasks'. */
bool ctask_reconcile_pod(struct metadata *m, const Bulkhead__SandboxInfo *info);
/* Those whose pods aren't in the list have ended. */
void ctask_reconcile_absent(struct metadata *m, const Bulkhead__TaskListReply *l);
/* The pod is gone, and all in it. */
void ctask_pod_ended(struct metadata *m, const char *sandbox_id);
/* The row task_exited; false when the pod is no task's. */
bool ctask_exited(struct metadata *m, const Bulkhead__TaskExit *e);
