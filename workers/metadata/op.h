/*
 * Operations of several steps: a table of named steps {run, undo}, driven
 * through answers of other workers and commits of the store.
 *
 * An operation belongs to one object, and an object has at most one. It
 * outlives who asked for it: a client that goes away changes nothing. The same
 * request again joins it and gets the same answer; another request for the
 * object waits until it has ended and then looks at the object afresh.
 *
 * Crash: what a step leaves behind is found again at start, because a record
 * that says STARTING is the intent of a pod sandbox, and whatever else has no
 * record is garbage (see reconcile.h).
 */
#pragma once

#include "base/list.h"
#include "msg/msg.h"
#include "workers/metadata/store/store.h"

struct metadata;
struct op;

struct op_step {
	const char *name;
	/* Ends, now or later, with op_next, op_again or op_fail. */
	void (*run)(struct op *op);
	/* Takes back what run did, also when it did half of it; at once: what
	 * takes time is handed to sweep.h. NULL: nothing to take back. */
	void (*undo)(struct op *op);
};

struct op_class {
	const char *name;	     /* "run pod sandbox", as errors begin */
	const struct op_step *steps; /* ends with name NULL */
	/* Replies to one request after success. */
	void (*answer)(struct op *op, struct msg_request *r);
	/* Last of all: frees the operation. */
	void (*free)(struct op *op);
};

/* Embedded in the operation's own struct. */
struct op {
	const struct op_class *class;
	struct metadata *m;
	struct list node; /* metadata.ops */
	int64_t begun;	  /* clock_mono */
	struct op **slot; /* where the object points to it */
	size_t step;
	unsigned attempts;
	bool driving, ready;
	struct fault fault;
	struct msg_context context; /* of the first request, without its deadline */
	char object[80];	    /* id or name, for errors and logs */
	struct list joiners, after;
	struct store_waiter commit;
	struct loop_source *timer;
};

/* Sets *slot; nothing runs before op_start. r (may be NULL) gives the context. */
void op_init(struct op *op, const struct op_class *class, struct metadata *m, struct op **slot, const char *object,
	     const struct msg_request *r);
void op_start(struct op *op);

void op_next(struct op *op);
/* Fails with op->fault (filled by the caller), undoing backwards. */
void op_fail(struct op *op);
/* As op_fail with a copy of fault. */
void op_fail_with(struct op *op, const struct fault *fault);
/* The same for what another worker misses: its NOT_FOUND isn't about the object
 * itself, which a client would believe to be gone. */
void op_fail_below(struct op *op, const struct fault *fault);
/* A record couldn't be stored: -EFBIG, -ENOSPC, ... */
void op_fail_store(struct op *op, int r);
/* Runs step number n again after delay_ns. */
void op_again(struct op *op, size_t n, int64_t delay_ns);
/* op_next when everything put in base is committed, op_fail when it can't be. */
void op_commit(struct op *op, enum store_base base);

/* r is answered when the operation is. */
void op_join(struct op *op, struct msg_request *r);

/* Runs fn once the operation is gone. The struct is the caller's until then. */
struct op_after {
	struct list node;
	void (*fn)(void *ctx);
	void *ctx;
};
void op_wait(struct op *op, struct op_after *after);
/* One that handles the request again. NULL: out of memory, the request has been failed. */
struct op_after *op_after_request(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
				  void (*handle)(struct metadata *m, struct msg_request *r,
						 const ProtobufCMessage *request)) NODISCARD;
/* Handles the request again once the operation is gone. */
void op_requeue(struct op *op, struct msg_request *r, const ProtobufCMessage *request,
		void (*handle)(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request));

/* The process ends: frees all operations, telling only who waits for them. */
void ops_abandon(struct metadata *m);

/* The context for a call to another worker: own deadline, the request's trace. */
struct msg_context op_context(const struct op *op, int64_t timeout_ns);
