/*
 * Figures from other workers for one request: those of tasks (one call of the
 * task worker per pod) and the size of writable layers (one call of the
 * snapshot worker per container, at most every USAGE_FRESH_NS, because it
 * walks a folder). When the last of them is there, or has failed, the request
 * is answered.
 */
#pragma once

#include "workers/metadata/metadata.h"

struct gathering {
	struct metadata *m;
	struct msg_request *r;
	const ProtobufCMessage *request;
	void (*answer)(struct gathering *g); /* must answer r */
	struct arena arena;		     /* lives until then */
	unsigned open;
	struct map pods;    /* struct gathered, by the pod's id */
	struct fault fault; /* of the last call of the task worker that failed */
};

/* NULL: the request has been failed. */
struct gathering *gathering_new(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
				void (*answer)(struct gathering *g));
/* The beginner's own part is over: without open calls this answers at once. */
void gathering_close(struct gathering *g);

enum gather_what {
	GATHER_POD = 1,	    /* the pod's own group and network devices */
	GATHER_DETAIL = 2,  /* what metrics show */
	GATHER_FIGURES = 4, /* the kernel's own */
};
/* container_id NULL: all that run in the pod. Once a pod. */
void gather_tasks(struct gathering *g, const char *sandbox_id, char *container_id, unsigned what);
void gather_usage(struct gathering *g, const struct container *c);

/* NULL when there are none. */
const Bulkhead__TaskStatsReply *gathered_pod(const struct gathering *g, const char *sandbox_id);
const Bulkhead__TaskStats *gathered_task(const struct gathering *g, const char *sandbox_id, const char *container_id);
