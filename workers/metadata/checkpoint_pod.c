/*
 * CheckpointPod: the containers are frozen (cut_begin), each is saved and its
 * archive written while all stand still (saving.c), then all archives get their
 * names and the containers go on (cut_end). An archive is FOLDER/NAME.tar, NAME
 * the container's, as CheckpointContainer makes it; its record (made.h) says
 * which others belong to it.
 *
 * As with CheckpointContainer no record of the pod changes. The call that has
 * begun the cut is open until its end: should this process die, the containers go
 * on and the archives are forgotten.
 */
#include "workers/metadata/handlers.h"
#include "workers/metadata/saving.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/check.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

struct pod_checkpoint {
	struct metadata *m;
	struct msg_request *request; /* whose arena holds this, and the request's message */
	const Runtime__V1__CheckpointPodRequest *q;
	struct msg_context context;
	char *sandbox_id;
	struct saving **savings;
	char **names, **locations;
	size_t n, next;
	struct msg_call *cut, *end;
	struct store_waiter stored;
	uint64_t timeout_ns;
	bool failed;
	struct fault fault;
};

static void reply(struct pod_checkpoint *p) {
	Runtime__V1__CheckpointPodResponse a = RUNTIME__V1__CHECKPOINT_POD_RESPONSE__INIT;
	p->request->cancelled = NULL;
	msg_cancel(take_ptr(p->cut));
	if (!p->failed) {
		cri_checkpoint_pod_reply(p->request, &a, NULL, 0);
		return;
	}
	fault_prefix(&p->fault, 0, "checkpoint pod \"%.16s\"", p->sandbox_id);
	msg_fail(p->request, &p->fault);
}

static void made_stored(void *ctx, int result) {
	struct pod_checkpoint *p = ctx;
	if (result < 0)
		log_event(LOG_WARN, "a checkpoint can't be restored: its record isn't stored", "pod", p->sandbox_id,
			  "why", strerrordesc_np(-result), NULL);
	reply(p);
}

static void ended(void *ctx, const struct msg_answer *answer) {
	struct pod_checkpoint *p = ctx;
	p->end = NULL;
	saving_fault(answer->fault, &p->failed, &p->fault);
	int r = 0;
	for (size_t i = 0; !p->failed && r == 0 && i < p->n; i++)
		r = saving_remember(p->savings[i]);
	if (p->failed || r < 0) {
		made_stored(p, r);
		return;
	}
	p->stored.fn = made_stored;
	p->stored.ctx = p;
	store_wait(p->m->store, STORE_IMAGES, &p->stored);
}

static void end(struct pod_checkpoint *p) {
	Bulkhead__CutEndRequest q = BULKHEAD__CUT_END_REQUEST__INIT;
	q.sandbox_id = p->sandbox_id;
	q.keep = !p->failed;
	p->end = cut_end_send(p->m->task, &p->context, &q, NULL, 0, ended, p);
}

static void save_next(struct pod_checkpoint *p);

static void saved(void *ctx, const struct fault *fault) {
	struct pod_checkpoint *p = ctx;
	saving_fault(fault, &p->failed, &p->fault);
	if (p->failed)
		fault_prefix(&p->fault, 0, "container \"%s\"", p->names[p->next]);
	else
		p->next++;
	if (p->failed || p->next == p->n)
		end(p);
	else
		save_next(p);
}

static void save_next(struct pod_checkpoint *p) {
	saving_start(p->savings[p->next], p->locations[p->next], p->timeout_ns, true, saved, p);
}

/* First that all stand still, then, if nobody has asked for it, the cut's end. */
static void cut(void *ctx, const struct msg_answer *answer) {
	struct pod_checkpoint *p = ctx;
	if (answer->more) {
		save_next(p);
		return;
	}
	p->cut = NULL;
	if (p->end)
		return;
	for (size_t i = 0; i < p->n; i++)
		saving_cancel(p->savings[i]);
	if (answer->fault)
		p->fault = *answer->fault;
	else
		fault_set(&p->fault, FAULT_ABORTED, "it was given up");
	p->failed = true;
	reply(p);
}

static void cancelled(struct msg_request *r, void *ctx) {
	struct pod_checkpoint *p = ctx;
	if (p->stored.fn)
		store_unwait(&p->stored);
	for (size_t i = 0; i < p->n; i++)
		saving_cancel(p->savings[i]);
	msg_cancel(take_ptr(p->end));
	msg_cancel(take_ptr(p->cut));
	msg_failf(r, FAULT_CANCELLED, "the caller gave up");
}

/* --- the request --- */

static int check(struct metadata *m, const Runtime__V1__CheckpointPodRequest *q, struct sandbox **ret,
		 struct fault *fault) {
	int r = model_find_sandbox(&m->model, q->pod_sandbox_id, ret, fault);
	if (r == 0 && (*ret)->record->phase != BULKHEAD__SANDBOX_PHASE__SANDBOX_UP)
		r = fault_set(fault, FAULT_FAILED_PRECONDITION, "pod \"%s\" isn't running", (*ret)->record->id);
	if (r == 0)
		r = check_path("output_path", q->output_path, fault);
	if (r == 0 && q->n_options)
		r = fault_set(fault, FAULT_INVALID_ARGUMENT, "there is no option \"%.80s\": none is known here",
			      q->options[0]->key);
	if (r == 0 && q->n_container_ids == 0)
		r = fault_set(fault, FAULT_INVALID_ARGUMENT, "container_ids is empty: name those to be saved");
	return r;
}

/* Its archive has the container's name. */
static int archive_name(struct arena *a, const char *folder, const char *name, char **ret_path, struct fault *fault) {
	char path[PATH_MAX];
	if (!*name || *name == '.' || strchr(name, '/'))
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "no file can have the name of container \"%.80s\"",
				 name);
	if (snprintf(path, sizeof(path), "%s/%s.tar", folder, name) >= (int)sizeof(path))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the path of output_path is too long");
	*ret_path = arena_strdup(a, path);
	return *ret_path ? 0 : fault_errno(fault, ENOMEM, "name an archive");
}

static int add(struct pod_checkpoint *p, const struct sandbox *sandbox, const char *id, struct fault *fault) {
	struct container *c;
	int r = model_find_container(&p->m->model, id, &c, fault);
	if (r < 0)
		return r;
	if (strcmp(c->record->sandbox_id, sandbox->record->id) != 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "container \"%s\" isn't of this pod", c->record->id);
	if (c->record->phase != BULKHEAD__CONTAINER_PHASE__CONTAINER_UP)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "container \"%s\" isn't running", c->record->id);
	for (size_t i = 0; i < p->n; i++)
		if (strcmp(p->savings[i]->container_id, c->record->id) == 0)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "container \"%s\" is named twice",
					 c->record->id);
	r = saving_new(p->m, p->request, c, &p->savings[p->n], fault);
	if (r < 0)
		return r;
	struct saving *s = p->savings[p->n];
	p->names[p->n] = s->made.name;
	r = archive_name(&p->request->arena, p->q->output_path, s->made.name, &p->locations[p->n], fault);
	p->n++;
	return r;
}

static int add_all(struct pod_checkpoint *p, const struct sandbox *sandbox, struct fault *fault) {
	struct arena *a = &p->request->arena;
	size_t n = p->q->n_container_ids;
	p->sandbox_id = arena_strdup(a, sandbox->record->id);
	p->savings = arena_zalloc(a, n * sizeof(*p->savings));
	p->names = arena_zalloc(a, n * sizeof(*p->names));
	p->locations = arena_zalloc(a, n * sizeof(*p->locations));
	if (!p->sandbox_id || !p->savings || !p->names || !p->locations)
		return fault_errno(fault, ENOMEM, "keep the request");
	for (size_t i = 0; i < n; i++) {
		int r = add(p, sandbox, p->q->container_ids[i], fault);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < n; i++) {
		p->savings[i]->made.n_cut = n;
		p->savings[i]->made.cut = p->names;
	}
	return 0;
}

static void begin(struct pod_checkpoint *p) {
	Bulkhead__CutRequest q = BULKHEAD__CUT_REQUEST__INIT;
	int64_t left = p->context.deadline ? p->context.deadline - clock_mono() : 0;
	p->timeout_ns = left > 0 ? (uint64_t)left : CHECKPOINT_TIMEOUT_DEFAULT * (uint64_t)NS_PER_SEC;
	saving_limit(&p->context, p->timeout_ns);
	q.sandbox_id = p->sandbox_id;
	q.folder = p->q->output_path;
	q.n_container_ids = p->n;
	q.container_ids = p->q->container_ids;
	for (size_t i = 0; i < p->n; i++)
		q.container_ids[i] = p->savings[i]->container_id;
	q.timeout_ns = p->timeout_ns;
	p->request->cancelled = cancelled;
	p->request->cancelled_ctx = p;
	p->cut = cut_begin_send(p->m->task, &p->context, &q, NULL, 0, cut, p);
}

void cri_checkpoint_pod(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__CheckpointPodRequest *q = (const Runtime__V1__CheckpointPodRequest *)request;
	struct sandbox *sandbox;
	struct fault fault;
	if (metadata_gate(m, r, request, cri_checkpoint_pod))
		return;
	struct pod_checkpoint *p = arena_zalloc(&r->arena, sizeof(*p));
	int e = p ? check(m, q, &sandbox, &fault) : fault_errno(&fault, ENOMEM, "keep the request");
	if (e == 0) {
		p->m = m;
		p->request = r;
		p->q = q;
		p->context = r->context;
		e = add_all(p, sandbox, &fault);
	}
	if (e < 0) {
		fault_prefix(&fault, 0, "checkpoint pod");
		msg_fail(r, &fault);
	} else
		begin(p);
}
