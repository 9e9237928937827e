#include "workers/metadata/layer_job.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "workers/metadata/gc.h"
#include "workers/metadata/pull.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct layer_job *layer_job_find(struct metadata *m, const char *chain_id) {
	struct map_node *n = map_find(&m->layer_jobs, chain_id);
	return n ? container_of(n, struct layer_job, node) : NULL;
}

static void removed(void *ctx, const struct msg_answer *answer) {
	/* What is left of it has no record: the next start removes it. */
	if (answer->fault && answer->fault->code != FAULT_NOT_FOUND)
		log_event(LOG_WARN, "unfinished layer not removed", "error", answer->fault->text, NULL);
}

/* The job is over: the layer is in the model, or the fault says why not. */
static void job_end(struct layer_job *j) {
	struct metadata *m = j->m;
	bool failed = j->fault.code != FAULT_NONE;
	map_remove(&m->layer_jobs, &j->node);
	if (failed && !j->blob_only) {
		Bulkhead__Key q = BULKHEAD__KEY__INIT;
		q.id = j->chain_id;
		layer_remove_send(m->snapshot, NULL, &q, NULL, 0, removed, NULL);
	}
	if (j->pull)
		pull_job_ended(j->pull, j, failed ? &j->fault : NULL);
	for (struct list *n; (n = list_pop(&j->waiters));) {
		struct layer_waiter *w = list_entry(n, struct layer_waiter, node);
		w->fn(w->ctx, failed ? &j->fault : NULL);
	}
	free(j);
}

/* Both answers are in. */
static void job_advance(struct layer_job *j) {
	if (j->open > 0)
		return;
	if (j->fault.code == FAULT_NONE && !j->pull)
		fault_set(&j->fault, FAULT_ABORTED, "the pull that fetched layer %s failed", j->chain_id);
	if (j->fault.code != FAULT_NONE || j->blob_only)
		job_end(j);
	else
		pull_advance(j->pull);
}

static void fetch_done(void *ctx, const struct msg_answer *answer) {
	struct layer_job *j = ctx;
	j->fetch = NULL;
	j->open--;
	j->fetched = !answer->fault;
	/* A fetch that lost its reader has nothing to tell: the reader has. */
	if (answer->fault && (answer->fault->code != FAULT_ABORTED || j->fault.code == FAULT_NONE))
		j->fault = *answer->fault;
	job_advance(j);
}

static void unpack_done(void *ctx, const struct msg_answer *answer) {
	struct layer_job *j = ctx;
	j->open--;
	if (!answer->fault) {
		const Bulkhead__LayerUnpackReply *u = layer_unpack_answer(answer);
		j->unpacked = true;
		j->size = u->size;
		j->inodes = u->inodes;
	} else if (j->fault.code == FAULT_NONE || j->fault.code == FAULT_ABORTED)
		j->fault = *answer->fault;
	job_advance(j);
}

static void unpack_begin(struct layer_job *j, const struct msg_context *c, char *media_type, const int *pipe) {
	Bulkhead__LayerUnpackRequest u = BULKHEAD__LAYER_UNPACK_REQUEST__INIT;
	u.chain_id = j->chain_id;
	u.diff_id = j->diff_id;
	u.media_type = media_type;
	layer_unpack_send(j->m->snapshot, c, &u, pipe, 1, unpack_done, j);
}

int layer_job_start(struct pull *p, uint64_t pull_id, const char *chain_id, const char *diff_id,
		    const Bulkhead__Descriptor *blob, struct layer_job **ret_job, struct fault *fault) {
	struct metadata *m = pull_metadata(p);
	struct layer_job *j = calloc(1, sizeof(*j));
	if (!j)
		return fault_errno(fault, ENOMEM, "start to fetch it");
	int pipe[2];
	if (pipe2(pipe, O_CLOEXEC) < 0) {
		free(j);
		return fault_errno(fault, errno, "make a pipe");
	}
	CLEANUP_FD int read_end = pipe[0];
	CLEANUP_FD int write_end = pipe[1];
	j->m = m;
	j->pull = p;
	j->blob_only = model_find_layer(&m->model, chain_id) != NULL;
	j->open = j->blob_only ? 1 : 2;
	list_init(&j->waiters);
	snprintf(j->chain_id, sizeof(j->chain_id), "%s", chain_id);
	snprintf(j->diff_id, sizeof(j->diff_id), "%s", diff_id);
	int r = map_insert(&m->layer_jobs, &j->node, j->chain_id);
	if (r < 0) {
		free(j);
		return fault_errno(fault, r, "start to fetch it");
	}
	struct msg_context c = pull_context(p);
	if (!j->blob_only)
		unpack_begin(j, &c, blob->media_type, &read_end);
	Bulkhead__LayerFetchRequest f = BULKHEAD__LAYER_FETCH_REQUEST__INIT;
	f.pull_id = pull_id;
	f.blob_only = j->blob_only;
	f.blob = (Bulkhead__Descriptor *)(uintptr_t)blob;
	j->fetch = layer_fetch_send(m->image, &c, &f, &write_end, 1, fetch_done, j);
	*ret_job = j;
	return 0;
}

bool layer_job_ready(const struct layer_job *j) {
	return j->fetched && j->unpacked && !j->committing && j->fault.code == FAULT_NONE;
}

/* What a snapshot worker has unpacked its successor throws away: it's to be
 * fetched again, as when the worker had gone earlier. */
static void commit_failed(struct layer_job *j, const struct fault *fault) {
	j->fault = *fault;
	if (fault->code == FAULT_NOT_FOUND)
		fault_set(&j->fault, FAULT_UNAVAILABLE,
			  "the snapshot worker was replaced before layer %s was committed", j->chain_id);
}

static void commit_done(void *ctx, const struct msg_answer *answer) {
	struct layer_job *j = ctx;
	Bulkhead__LayerRecord record = BULKHEAD__LAYER_RECORD__INIT;
	if (answer->fault)
		commit_failed(j, answer->fault);
	else if (!model_find_layer(&j->m->model, j->chain_id)) {
		record.chain_id = j->chain_id;
		record.diff_id = j->diff_id;
		record.size = j->size;
		record.inodes = j->inodes;
		struct layer *l = model_add_layer(&j->m->model, &record);
		if (l)
			l->lease_until = clock_mono() + GC_LEASE_NS;
		else
			fault_errno(&j->fault, errno, "keep the record of layer %s", j->chain_id);
	}
	job_end(j);
}

void layer_job_commit(struct layer_job *j, char **parents, size_t n_parents) {
	Bulkhead__LayerCommitRequest q = BULKHEAD__LAYER_COMMIT_REQUEST__INIT;
	j->committing = true;
	q.chain_id = j->chain_id;
	q.n_parents = n_parents;
	q.parents = parents;
	layer_commit_send(j->m->snapshot, NULL, &q, NULL, 0, commit_done, j);
}

void layer_job_abandon(struct layer_job *j) {
	j->pull = NULL;
	if (j->committing)
		return;
	if (j->fetch) {
		/* The pipe closes with it, and so the unpacking ends. */
		msg_cancel(take_ptr(j->fetch));
		j->open--;
		if (j->fault.code == FAULT_NONE)
			fault_set(&j->fault, FAULT_ABORTED, "the pull that fetched layer %s failed", j->chain_id);
	}
	job_advance(j);
}
