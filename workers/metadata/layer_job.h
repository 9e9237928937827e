/*
 * One layer on its way from a registry into the snapshot worker's hands: the
 * image worker fetches the blob and copies it into a pipe whose other end the
 * snapshot worker unpacks. Both have to succeed, then the layer waits until
 * those below it are there, and is committed.
 *
 * Jobs are known by chain id: a second pull that needs the same layer waits
 * for the job of the first. A job belongs to the pull that began it; when that
 * pull fails, its fetch is cancelled and the job ends on its own.
 */
#pragma once

#include "workers/metadata/metadata.h"

struct pull;

struct layer_job {
	struct map_node node; /* metadata.layer_jobs */
	struct metadata *m;
	struct pull *pull; /* NULL: it failed */
	char chain_id[72], diff_id[72];
	struct msg_call *fetch;
	bool fetched, unpacked, committing;
	bool blob_only; /* the layer is there, its blob isn't */
	unsigned open;	/* answers that are still to come */
	uint64_t size, inodes;
	struct fault fault;  /* of whichever failed for a reason of its own */
	struct list waiters; /* struct layer_waiter */
};

struct layer_waiter {
	struct list node;
	/* fault NULL: the layer is in the model now. */
	void (*fn)(void *ctx, const struct fault *fault);
	void *ctx;
};

struct layer_job *layer_job_find(struct metadata *m, const char *chain_id);
int layer_job_start(struct pull *p, uint64_t pull_id, const char *chain_id, const char *diff_id,
		    const Bulkhead__Descriptor *blob, struct layer_job **ret_job, struct fault *fault) NODISCARD;
/* Ready for its place: fetched, unpacked, not yet sent. */
bool layer_job_ready(const struct layer_job *j);
/* parents: the layers below, all committed. */
void layer_job_commit(struct layer_job *j, char **parents, size_t n_parents);
/* The pull doesn't want it any more; the job frees itself, now or later. */
void layer_job_abandon(struct layer_job *j);
