/*
 * Sandboxes that containerd's clients run: the run time of a sandbox object,
 * from its creation to its shutdown. Containers that name one run in its pod.
 *
 *   CREATED   what it will be is known, nothing runs
 *   READY     PAUSED  STOPPED: its end is known and kept until the shutdown
 *
 * The record of a start is written once the pod is there: a pod that no record
 * names is stopped by the reconciliation, so a crash in between leaves nothing.
 * Each start has a pod id of its own.
 *
 *   model.c      the sandboxes in memory and in the store
 *   backend.c    what a runtime's name makes of one: backend_*.c
 *   start.c      create; start, which creates, too, for the API's first form
 *   stop.c       stop, and shutdown
 *   freeze.c     pause and resume: of all tasks in it
 *   list.c       get, wait, update, and the ends
 *   oom.c        kills for want of memory, for who asks
 *   metrics.c    figures: the sum of its tasks'
 *   reconcile.c  after an absence of the task worker, or of this one
 *   view.c       the CRI's pods in its namespace
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "base/list.h"
#include "base/map.h"
#include "internal/csandbox.pb-c.h"
#include "workers/metadata/metadata.h"

/* See oom.c. */
struct csandbox_ooms {
	struct metadata *m;	     /* once there is anything to do */
	struct list askers, answers; /* struct csandbox_asker */
	struct store_waiter commit;
	bool commits;
	struct loop_source *timer;
};

struct csandbox {
	struct list node; /* csandboxes.all, oldest first */
	struct map_node by_name;
	struct arena arena;
	Bulkhead__CsandboxRecord *record;
	struct op *op;
	bool made;	   /* there is a record in the store; before that nobody sees it */
	int64_t up_at;	   /* clock_real of its start by us; 0: by an earlier process */
	struct list waits; /* struct csandbox_wait */
	struct csandbox_ooms ooms;
};

#define CSANDBOX(state) BULKHEAD__CSANDBOX_STATE__CSANDBOX_##state
#define CSANDBOX_TEXT_MAX 256
#define CSANDBOX_UNKNOWN_EXIT 255 /* nobody has asked for its end */

/* --- model.c --- */

/* A copy of the record. -EEXIST, -EINVAL, -ENOMEM. */
int csandbox_add(struct csandboxes *c, const Bulkhead__CsandboxRecord *record, struct csandbox **ret_sandbox);
void csandbox_free(struct csandboxes *c, struct csandbox *s);
struct csandbox *csandbox_find(const struct csandboxes *c, const char *namespace, const char *id);
struct csandbox *csandbox_find_pod(const struct csandboxes *c, const char *pod_id);
/* Whether a pod is there for it, as far as the record says. */
bool csandbox_is_up(const struct csandbox *s);
int csandbox_save(struct metadata *m, const struct csandbox *s) NODISCARD;
int csandbox_unsave(struct metadata *m, const struct csandbox *s) NODISCARD;
/* "sandbox "web" in namespace "default"". */
const char *csandbox_text(const Bulkhead__CsandboxKey *key, char ret_text[CSANDBOX_TEXT_MAX]);
/* Whether the key is whole and names a sandboxer that there is. */
int csandbox_key_check(const Bulkhead__CsandboxKey *key, struct fault *fault) NODISCARD;
/* Those that are made; NOT_FOUND with the sentence. */
int csandbox_of(struct metadata *m, const Bulkhead__CsandboxKey *key, struct csandbox **ret_sandbox,
		struct fault *fault) NODISCARD;

/* --- backend.c --- */

/* The name in the object; empty: whoever is the default. */
const char *csandbox_runtime(const Bulkhead__Object *o);
/* Whether anything is run by a runtime of that name here. */
bool csandbox_runtime_known(const struct metadata *m, const char *runtime);
/* Whether a runtime of that name runs containers here, in s or, when that is
 * NULL, in no sandbox; INVALID_ARGUMENT. */
int csandbox_runtime_check(const struct metadata *m, const char *runtime, const struct csandbox *s,
			   struct fault *fault) NODISCARD;
/* What the pod of an object is started with, in the arena; the id is missing.
 * INVALID_ARGUMENT: nobody here knows that runtime, or can grant that wish. */
int csandbox_pod(const struct metadata *m, struct arena *a, const Bulkhead__Object *o, const Bulkhead__CsandboxWish *w,
		 Bulkhead__SandboxStartRequest *ret_pod, struct fault *fault) NODISCARD;

/* A backend's: whatever is its own of the pod. Its sentence begins with the name
 * of the field that it can't do. */
typedef int csandbox_fill_fn(struct arena *a, const Bulkhead__Object *o, const Bulkhead__CsandboxWish *w,
			     Bulkhead__SandboxStartRequest *pod, struct fault *fault);
csandbox_fill_fn namespaces_fill, vm_fill;
/* In the arena: the pod's id and the socket where its agent will be, of a pod
 * that vm_fill has filled. INVALID_ARGUMENT when a socket can't be there. */
int vm_lend_agent(const struct metadata *m, struct arena *a, Bulkhead__SandboxStartRequest *pod,
		  struct fault *fault) NODISCARD;

/* --- list.c --- */

/* In the arena; what it points to is the record's. */
Bulkhead__Csandbox *csandbox_shown(struct arena *a, const struct csandbox *s);
/* Nothing of it runs any more; nothing happens when that is known already. */
void csandbox_ended(struct metadata *m, struct csandbox *s, uint32_t exit_status);
/* The virtual machine of a pod has ended; nothing happens when the pod is no
 * sandbox's, or is being started or stopped. */
void csandbox_lost(struct metadata *m, const char *pod_id);
/* Fails all that wait: it is gone. */
void csandbox_waits_end(struct csandbox *s);
void csandbox_tell(struct metadata *m, const char *topic, const struct csandbox *s);

/* --- oom.c --- */

/* In a container of the pod, so often; told to those who ask, unless it keeps none. */
void csandbox_oom_add(struct metadata *m, const char *pod_id, const char *container_id, uint32_t times);
/* Those of a record that was just copied into the sandbox's arena. */
int csandbox_ooms_own(struct csandbox *s) NODISCARD;
/* Fails all that ask: it is gone. */
void csandbox_ooms_free(struct csandbox *s);

/* --- view.c --- */

extern const struct object_view sandbox_view;

/* --- reconcile.c --- */

/* True when the pod is a sandbox's. */
bool csandbox_reconcile_pod(struct metadata *m, const Bulkhead__SandboxInfo *info);
/* Those whose pods aren't in the list have ended. */
void csandbox_reconcile_absent(struct metadata *m, const Bulkhead__TaskListReply *l);
/* The row sandbox_kept. */
void csandbox_kept(struct metadata *m, const Bulkhead__SandboxKept *k);
