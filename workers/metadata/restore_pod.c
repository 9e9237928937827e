/*
 * RestorePod: RunPodSandbox, then CreateContainer for each archive of the
 * checkpoint, as requests of our own; StartContainer is the client's, later. An
 * archive is FOLDER/NAME.tar, NAME the container's, and its record (made.h) says
 * which others belong to it.
 *
 * Until all are there the pod's record says so. The same request that comes again,
 * after a crash, takes up what is there. On an error the pod goes.
 */
#include "workers/metadata/handlers.h"

#include "base/log.h"
#include "workers/metadata/check.h"
#include "workers/metadata/container.h"
#include "workers/metadata/lifecycle.h"
#include "workers/metadata/made.h"
#include "workers/metadata/sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct pod_restore {
	struct metadata *m;
	struct msg_request *request; /* whose arena holds this, and the request's message */
	const Runtime__V1__RestorePodRequest *q;
	char *sandbox_id; /* NULL: there is none yet */
	Runtime__V1__RestorePodResponse reply;
	struct store_waiter stored;
	bool cancelled;
	struct fault fault;
};

/* --- its end --- */

static void done(struct pod_restore *p) {
	struct msg_request *r = p->request;
	r->cancelled = NULL;
	if (p->fault.code == FAULT_NONE) {
		cri_restore_pod_reply(r, &p->reply, NULL, 0);
		return;
	}
	fault_prefix(&p->fault, 0, "restore pod \"%s\"", p->q->config->metadata->name);
	msg_fail(r, &p->fault);
}

static void removed(void *ctx, const struct msg_answer *answer) {
	struct pod_restore *p = ctx;
	if (answer->fault)
		log_event(LOG_WARN, "a pod whose restore failed is left", "pod", p->sandbox_id, "why",
			  answer->fault->text, NULL);
	done(p);
}

static void fail(struct pod_restore *p) {
	Runtime__V1__RemovePodSandboxRequest q = RUNTIME__V1__REMOVE_POD_SANDBOX_REQUEST__INIT;
	struct msg_request *own =
	    p->sandbox_id ? msg_request_own(MSG_cri_remove_pod_sandbox, &p->request->context, removed, p) : NULL;
	if (!own) {
		done(p);
		return;
	}
	q.pod_sandbox_id = p->sandbox_id;
	cri_remove_pod_sandbox(p->m, own, &q.base);
}

static void fail_with(struct pod_restore *p, const struct fault *fault) {
	p->fault = *fault;
	fail(p);
}

/* What is under way ends first; then all of it goes. */
static void cancelled(struct msg_request *r, void *ctx) {
	struct pod_restore *p = ctx;
	p->cancelled = true;
}

static bool given_up(struct pod_restore *p) {
	if (p->cancelled)
		fault_set(&p->fault, FAULT_CANCELLED, "the caller gave up");
	return p->cancelled;
}

/* --- all are there --- */

static void finished(void *ctx, int result) {
	struct pod_restore *p = ctx;
	if (result < 0)
		fault_errno(&p->fault, result, "record it");
	if (result < 0)
		fail(p);
	else
		done(p);
}

static void finish(struct pod_restore *p) {
	struct sandbox *s;
	if (model_find_sandbox(&p->m->model, p->sandbox_id, &s, &p->fault) < 0) {
		fail(p);
		return;
	}
	s->record->restoring = false;
	int r = sandbox_save(p->m, s);
	if (r < 0) {
		finished(p, r);
		return;
	}
	p->stored.fn = finished;
	p->stored.ctx = p;
	store_wait(p->m->store, STORE_PODS, &p->stored);
}

/* --- a container --- */

static bool is_in(const Runtime__V1__RestorePodRequest *q, const char *name) {
	for (size_t i = 0; i < q->n_container_configs; i++)
		if (strcmp(q->container_configs[i]->metadata->name, name) == 0)
			return true;
	return false;
}

/* Is what was restored what was asked for, in the company that it was saved in? */
static int check_made(struct pod_restore *p, const struct container *c, const Runtime__V1__ContainerConfig *wanted) {
	const Bulkhead__ContainerRestore *restore = c->record->restore;
	const struct made *made = restore ? made_find(p->m, restore->layer) : NULL;
	struct image *image = model_find_image(&p->m->model, wanted->image ? wanted->image->image : "");
	const char *name = wanted->metadata->name;
	if (!made || made->record->n_cut == 0)
		return fault_set(&p->fault, FAULT_FAILED_PRECONDITION,
				 "the archive of container \"%s\" isn't of a pod's checkpoint", name);
	if (strcmp(made->record->name, name) != 0)
		return fault_set(&p->fault, FAULT_FAILED_PRECONDITION,
				 "the archive of container \"%s\" is that of container \"%s\"", name,
				 made->record->name);
	if (!image || strcmp(image->record->id, made->record->image_id) != 0)
		return fault_set(&p->fault, FAULT_FAILED_PRECONDITION,
				 "container \"%s\" was made from image %s, not from \"%.256s\"", name,
				 made->record->image_id, wanted->image ? wanted->image->image : "");
	for (size_t i = 0; i < made->record->n_cut; i++)
		if (!is_in(p->q, made->record->cut[i]))
			return fault_set(&p->fault, FAULT_INVALID_ARGUMENT,
					 "container \"%s\" is in the checkpoint and not among container_configs",
					 made->record->cut[i]);
	if (made->record->n_cut != p->q->n_container_configs)
		return fault_set(&p->fault, FAULT_INVALID_ARGUMENT,
				 "the checkpoint has %zu containers, container_configs has %zu", made->record->n_cut,
				 p->q->n_container_configs);
	return 0;
}

static int restored_add(struct pod_restore *p, const char *name, const char *id) {
	Runtime__V1__RestoredContainer *x = arena_alloc(&p->request->arena, sizeof(*x));
	if (!x)
		return fault_errno(&p->fault, ENOMEM, "answer");
	*x = (Runtime__V1__RestoredContainer)RUNTIME__V1__RESTORED_CONTAINER__INIT;
	x->name = (char *)(uintptr_t)name;
	x->container_id = arena_strdup(&p->request->arena, id);
	p->reply.restored_containers[p->reply.n_restored_containers++] = x;
	return x->container_id ? 0 : fault_errno(&p->fault, ENOMEM, "answer");
}

static void create_next(struct pod_restore *p);

static void created(void *ctx, const struct msg_answer *answer) {
	struct pod_restore *p = ctx;
	const Runtime__V1__ContainerConfig *wanted = p->q->container_configs[p->reply.n_restored_containers];
	struct container *c;
	if (answer->fault) {
		fail_with(p, answer->fault);
		return;
	}
	const char *id = cri_create_container_answer(answer)->container_id;
	if (given_up(p) || model_find_container(&p->m->model, id, &c, &p->fault) < 0 || check_made(p, c, wanted) < 0 ||
	    restored_add(p, wanted->metadata->name, id) < 0)
		fail(p);
	else if (p->reply.n_restored_containers < p->q->n_container_configs)
		create_next(p);
	else
		finish(p);
}

/* The image that it is made from is the archive. */
static int create_request(struct pod_restore *p, struct arena *a, Runtime__V1__CreateContainerRequest *q) {
	const Runtime__V1__ContainerConfig *wanted = p->q->container_configs[p->reply.n_restored_containers];
	const char *name = wanted->metadata->name;
	size_t size = strlen(p->q->checkpoint_path) + strlen(name) + sizeof("/.tar");
	Runtime__V1__ContainerConfig *config = message_copy(a, &wanted->base);
	Runtime__V1__ImageSpec *image = arena_alloc(a, sizeof(*image));
	char *path = arena_alloc(a, size);
	if (!config || !image || !path)
		return fault_errno(&p->fault, ENOMEM, "restore container \"%s\"", name);
	snprintf(path, size, "%s/%s.tar", p->q->checkpoint_path, name);
	*image = (Runtime__V1__ImageSpec)RUNTIME__V1__IMAGE_SPEC__INIT;
	image->image = path;
	if (config->image && !*config->image->user_specified_image)
		image->user_specified_image = config->image->image;
	config->image = image;
	q->pod_sandbox_id = p->sandbox_id;
	q->config = config;
	q->sandbox_config = p->q->config;
	return 0;
}

static void create_next(struct pod_restore *p) {
	struct msg_request *own = msg_request_own(MSG_cri_create_container, &p->request->context, created, p);
	Runtime__V1__CreateContainerRequest *q = own ? arena_alloc(&own->arena, sizeof(*q)) : NULL;
	if (!q) {
		fault_errno(&p->fault, ENOMEM, "create a container");
		fail(p);
		return;
	}
	*q = (Runtime__V1__CreateContainerRequest)RUNTIME__V1__CREATE_CONTAINER_REQUEST__INIT;
	if (create_request(p, &own->arena, q) < 0) {
		struct fault fault = p->fault;
		msg_fail(own, &fault);
		return;
	}
	cri_create_container(p->m, own, &q->base);
}

/* --- the pod --- */

static void ran(void *ctx, const struct msg_answer *answer) {
	struct pod_restore *p = ctx;
	if (answer->fault) {
		fail_with(p, answer->fault);
		return;
	}
	p->sandbox_id = arena_strdup(&p->request->arena, cri_run_pod_sandbox_answer(answer)->pod_sandbox_id);
	p->reply.pod_sandbox_id = p->sandbox_id;
	if (!p->sandbox_id)
		fault_errno(&p->fault, ENOMEM, "answer");
	if (!p->sandbox_id || given_up(p))
		fail(p);
	else
		create_next(p);
}

static void run(struct pod_restore *p) {
	struct msg_request *own = msg_request_own(MSG_cri_run_pod_sandbox, &p->request->context, ran, p);
	Runtime__V1__RunPodSandboxRequest *q = own ? arena_alloc(&own->arena, sizeof(*q)) : NULL;
	if (!q) {
		fault_errno(&p->fault, ENOMEM, "run a pod");
		fail(p);
		return;
	}
	*q = (Runtime__V1__RunPodSandboxRequest)RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT;
	q->config = p->q->config;
	q->runtime_handler = p->q->runtime_handler;
	sandbox_run(p->m, own, q, p->q->checkpoint_path);
}

/* --- the request --- */

static int check_configs(const Runtime__V1__RestorePodRequest *q, struct fault *fault) {
	if (q->n_container_configs == 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "container_configs is empty");
	for (size_t i = 0; i < q->n_container_configs; i++) {
		const Runtime__V1__ContainerMetadata *metadata = q->container_configs[i]->metadata;
		if (!metadata || !*metadata->name || strchr(metadata->name, '/'))
			return fault_set(fault, FAULT_INVALID_ARGUMENT,
					 "container_configs[%zu] has no name, or a bad one", i);
		for (size_t k = 0; k < i; k++)
			if (strcmp(q->container_configs[k]->metadata->name, metadata->name) == 0)
				return fault_set(fault, FAULT_INVALID_ARGUMENT, "container_configs has \"%.80s\" twice",
						 metadata->name);
	}
	return 0;
}

static int check(const Runtime__V1__RestorePodRequest *q, struct fault *fault) {
	int r = check_sandbox_config(q->config, fault);
	if (r == 0)
		r = check_path("checkpoint_path", q->checkpoint_path, fault);
	if (r == 0 && q->n_options)
		r = fault_set(fault, FAULT_INVALID_ARGUMENT, "there is no option \"%.80s\": none is known here",
			      q->options[0]->key);
	return r < 0 ? r : check_configs(q, fault);
}

/* A pod of that name is there, and isn't being restored: only the same restore,
 * which was answered already, perhaps to nobody, is answered again. */
static void again(struct pod_restore *p, struct sandbox *s) {
	const Runtime__V1__RestorePodRequest *q = p->q;
	bool same = strcmp(s->record->restored_from, q->checkpoint_path) == 0;
	for (size_t i = 0; same && i < q->n_container_configs; i++) {
		const Runtime__V1__ContainerMetadata *metadata = q->container_configs[i]->metadata;
		struct container *c = model_container_by_name(&p->m->model, s->record->id, metadata);
		same = c && restored_add(p, metadata->name, c->record->id) == 0;
	}
	p->reply.pod_sandbox_id = s->record->id;
	if (!same)
		fault_set(&p->fault, FAULT_ALREADY_EXISTS, "attempt %u of it is there (%s): remove it first",
			  q->config->metadata->attempt, s->record->id);
	done(p);
}

void cri_restore_pod(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__RestorePodRequest *q = (const Runtime__V1__RestorePodRequest *)request;
	struct fault fault;
	if (metadata_gate(m, r, request, cri_restore_pod))
		return;
	if (check(q, &fault) < 0) {
		fault_prefix(&fault, 0, "restore pod");
		msg_fail(r, &fault);
		return;
	}
	struct sandbox *s = model_sandbox_by_name(&m->model, q->config->metadata);
	if (s && s->op) {
		op_requeue(s->op, r, request, cri_restore_pod);
		return;
	}
	struct pod_restore *p = arena_zalloc(&r->arena, sizeof(*p));
	Runtime__V1__RestoredContainer **all = arena_alloc(&r->arena, q->n_container_configs * sizeof(*all));
	if (!p || !all) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "restore pod: out of memory");
		return;
	}
	p->m = m;
	p->request = r;
	p->q = q;
	p->reply = (Runtime__V1__RestorePodResponse)RUNTIME__V1__RESTORE_POD_RESPONSE__INIT;
	p->reply.restored_containers = all;
	if (s && !s->record->restoring) {
		again(p, s);
		return;
	}
	r->cancelled = cancelled;
	r->cancelled_ctx = p;
	run(p);
}
