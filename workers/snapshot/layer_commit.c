/* layer_commit: an unpacked layer becomes permanent, in a child. */
#include "workers/snapshot/state.h"

#include "workers/snapshot/unpack/commit.h"

#include <stdio.h>

struct committing {
	struct snapshot_worker *worker;
	struct msg_request *request; /* whose arena holds this */
	struct layer *layer;
	struct child *child;
	char staged[LAYER_NAME_SIZE + 16];
	struct commit_job job;
};

/* After a failure the layer stays unpacked: the caller may try again. */
static void committed(void *ctx, const struct child_result *result) {
	struct committing *c = ctx;
	struct fault fault = result->fault;
	struct layer *l = c->layer;
	int r = fault.code == FAULT_NONE ? layer_root_read(c->worker, l) : 0;
	if (r < 0)
		fault_errno(&fault, r, "read the layer's root");
	l->state = fault.code == FAULT_NONE ? LAYER_COMMITTED : LAYER_UNPACKED;
	if (fault.code != FAULT_NONE) {
		fault_prefix(&fault, 0, "commit layer %s", l->chain);
		msg_fail(c->request, &fault);
		return;
	}
	Bulkhead__Empty reply = BULKHEAD__EMPTY__INIT;
	layer_commit_reply(c->request, &reply, NULL, 0);
}

static int committer_run(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	return commit_run(arg, fault);
}

static const char **names_of(struct msg_request *r, const struct layer **layers, size_t n) {
	const char **names = arena_alloc(&r->arena, (n + 1) * sizeof(*names));
	for (size_t i = 0; names && i < n; i++)
		names[i] = layers[i]->name;
	return names;
}

static void commit(struct snapshot_worker *s, struct msg_request *r, struct layer *l, const struct layer **parents,
		   size_t n_parents) {
	struct committing *c = arena_zalloc(&r->arena, sizeof(*c));
	const char **names = c ? names_of(r, parents, n_parents) : NULL;
	if (!names) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "commit layer %s: out of memory", l->chain);
		return;
	}
	*c = (struct committing){
		.worker = s,
		.request = r,
		.layer = l,
		.job = { .layers = s->rooms.layers,
			 .staged = c->staged,
			 .name = l->name,
			 .parents = names,
			 .n_parents = n_parents },
	};
	snprintf(c->staged, sizeof(c->staged), ROOM_STAGING "/%s", l->name);
	const struct child_options options = {
		.name = "commit",
		.keep = { s->rooms.layers },
		.n_keep = 1,
		.run = committer_run,
		.arg = &c->job,
		.done = committed,
		.ctx = c,
	};
	int e = child_start(s->loop, &options, &c->child);
	if (e < 0) {
		struct fault fault;
		fault_errno(&fault, e, "commit layer %s", l->chain);
		msg_fail(r, &fault);
		return;
	}
	l->state = LAYER_COMMITTING;
}

void on_layer_commit(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__LayerCommitRequest *m) {
	struct layer *l = layer_find(s, m->chain_id);
	const struct layer **parents;
	if (!l) {
		msg_failf(r, FAULT_NOT_FOUND, "commit layer \"%.80s\": it isn't here", m->chain_id);
	} else if (l->state == LAYER_UNPACKING) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "commit layer \"%.80s\": it isn't unpacked", m->chain_id);
	} else if (l->state == LAYER_COMMITTED) {
		Bulkhead__Empty reply = BULKHEAD__EMPTY__INIT;
		layer_commit_reply(r, &reply, NULL, 0);
	} else if (l->state == LAYER_COMMITTING) {
		msg_failf(r, FAULT_ABORTED, "commit layer %s: it is being committed already", l->chain);
	} else if (layers_resolve(s, r, m->parents, m->n_parents, &parents) == 0) {
		commit(s, r, l, parents, m->n_parents);
	}
}
