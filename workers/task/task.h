/*
 * What the files of the task worker share: the worker, its table of pod
 * sandboxes, and the faces of its rooms. seccomp/ and cni/ have headers of
 * their own.
 */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "msg/typed.h"
#include "workers/skeleton/worker.h"

struct cni;
struct seccomp_cache;

/* What the kernel and the supervisor grant at all; learnt before confinement. */
struct task_host {
	const char *cgroup_version; /* "v1", "v2" or "hybrid"; "" when there are none */
	uint64_t capabilities;	    /* of the daemon, hence at most of a container */
};

/* An OCI runtime of the configuration, and what it says of itself. */
struct task_handler {
	char name[BOOT_RUNTIME_NAME_MAX];
	struct msg_call *asking;
	bool known, recursive_read_only, user_namespaces;
};

/* ahead.c: a keeper that has no pod yet. */
struct ahead {
	bool enabled;
	int fd;			   /* our end of its socket; -1: none */
	struct msg_call *forking;  /* until it is there */
	struct loop_source *watch; /* of its end; NULL: it isn't there */
	struct loop_source *timer; /* until one is made, or until it goes */
};

struct task_worker {
	struct worker *worker;
	struct loop *loop;
	struct link *metadata; /* borrowed from the skeleton; NULL in unit tests */
	struct link *zygote;
	char *pods_path; /* <run_root>/pods */
	int pods;	 /* the same, open */
	struct map sandboxes;
	struct list dead; /* sandboxes that wait for the end of this turn */
	struct loop_source *burial, *warming;
	struct loop_source *retry; /* timer: orphans that got no keeper yet */
	int64_t retry_pause;	   /* grows while nothing helps */
	struct ahead ahead;
	struct seccomp_cache *seccomp;
	struct cni *cni;
	struct task_host host;
	struct task_handler handlers[BOOT_RUNTIMES_MAX];
	size_t n_handlers;
};

enum sandbox_state {
	SANDBOX_STARTING,
	SANDBOX_RUNNING,
	SANDBOX_ORPHANED, /* on disk, but its keeper doesn't answer (yet) */
	SANDBOX_STOPPING,
	SANDBOX_BROKEN, /* lost, or only half taken down; nothing but sandbox_stop helps */
	SANDBOX_GONE,	/* out of the table, waits for its burial */
};

/* A pod sandbox: one folder below pods/, one keeper, one link to it. */
struct sandbox {
	struct task_worker *worker;
	struct map_node node; /* by id */
	char *id;
	enum sandbox_state state;
	struct link *link; /* never NULL; detached while there is no keeper */
	pid_t keeper_pid;  /* as the keeper says; for logs only */

	/* SANDBOX_STARTING, and SANDBOX_STOPPING when that failed. */
	struct msg_request *starter;
	const Bulkhead__SandboxStartRequest *start;
	struct fault *start_fault; /* in the starter's arena */
	unsigned open_steps;	   /* of fork (if it needs one), set-up, vault */
	bool keeperless;	   /* for certain no keeper has done anything for it */

	struct list stops;		      /* struct stop_waiter */
	Bulkhead__SandboxStartReply *started; /* packed and unpacked; NULL: unknown */
	int vault;			      /* keeper_vault's answer: the keeper's descriptors, for a successor */
	struct msg_call *vaulting;	      /* the open call for it */
	struct msg_call *asking;	      /* the open keeper_state of a revival */
	bool adopting;			      /* a successor's answer is awaited */
	struct link *cradle;		      /* to a successor that is still adopting; NULL: none */
	struct msg_call *teardown;	      /* the open call */
	unsigned attempts;		      /* keepers tried for the step at hand */
	struct list dead_node;		      /* in worker->dead */
};

/* --- sandbox.c: the table --- */

int sandbox_new(struct task_worker *w, const char *id, enum sandbox_state state, struct sandbox **ret_sandbox);
/* Out of the table at once, freed at the end of the loop's turn: callbacks of
 * its link may be on the stack. */
void sandbox_free(struct sandbox *s);
struct sandbox *sandbox_find(struct task_worker *w, const char *id);
/* A new link; the calls that wait in the old one fail with UNAVAILABLE. */
int sandbox_link_renew(struct sandbox *s);
void sandbox_table_deinit(struct task_worker *w);
/* A copy that outlives the message. */
void sandbox_remember(struct sandbox *s, const Bulkhead__SandboxStartReply *started);

/* --- rundir.c: the folders below pods/ --- */

int rundir_make(struct task_worker *w, const char *id, struct fault *fault);
/* No such folder is success. */
int rundir_remove(struct task_worker *w, const char *id, struct fault *fault);
bool rundir_exists(struct task_worker *w, const char *id);
/* A connected socket of the keeper that listens there; -ECONNREFUSED or
 * -ENOENT when there is none. Never blocks. */
int rundir_connect(struct task_worker *w, const char *id, int *ret_fd);
/* fn for each folder whose name is an id. */
int rundir_scan(struct task_worker *w, void (*fn)(struct task_worker *w, const char *id));

/* --- keeper.c: the link to a pod's keeper --- */

extern const struct link_handler keeper_handlers[];
/* Of a keeper to be: our end and its own. */
int keeper_socket(int *ret_ours, int *ret_theirs);
/* Asks the zygote for a keeper and attaches l to it at once: what is sent next
 * waits in its socket. done is called with s. */
int keeper_spawn(struct sandbox *s, struct link *l, const struct msg_context *context, msg_done_fn done,
		 struct fault *fault);
/* Asks the keeper for the descriptors that a successor would need; a start
 * waits for the answer (sandbox_step_done). */
void keeper_ask_vault(struct sandbox *s);
void keeper_down(void *sandbox, struct link *l, bool violation, const char *text);
/* Forgets the question for its state and a successor that hasn't adopted yet. */
void keeper_stop_reviving(struct sandbox *s);
/* Finds the keeper of an orphaned sandbox again, or a successor for it. */
void keeper_revive(struct sandbox *s);
/* The zygote is back: whoever still waits for a keeper tries again. */
void keeper_revive_all(struct task_worker *w);

/* --- handlers.c --- */

extern const struct link_handler task_handlers[];

/* --- on_<row>: start.c, stop.c, create.c, container.c, update.c, process.c,
 *     stream.c, list.c, info.c --- */

#define TO_TASK(name) HANDLER_DECLARE(struct task_worker, name)
#include "msg/receivers.def"

/* One of a start's steps has ended, well or with s->start_fault set. */
void sandbox_step_done(struct sandbox *s);
/* Undoes a start that failed; answers its request. */
void sandbox_undo(struct sandbox *s);
/* Takes the sandbox down for whoever waits in s->stops. */
void sandbox_teardown(struct sandbox *s);

/* features.c: asks the zygote, anew for all of the configuration; with those that
 * have answered so far. */
void features_ask_all(struct task_worker *w);
void features_of(const char *output, size_t size, struct task_handler *ret_handler);
void host_learn(struct task_host *ret_host);

/* The sandbox that a container call is for; answers the request when there is
 * none. wait: the call may wait for the keeper's return. */
struct sandbox *container_sandbox(struct task_worker *w, struct msg_request *r, const char *sandbox,
				  const char *container, bool wait);
/* The keeper's own limits end first; this only keeps a call from staying open
 * for ever when a keeper hangs. */
#define KEEPER_LIMIT (120 * NS_PER_SEC)

/* The request's context with a deadline of at most limit_ns from now. */
struct msg_context context_within(const struct msg_context *context, int64_t limit_ns);
