/*
 * Making a container: what the host's files say about it first (CDI devices,
 * its seccomp profile), then the keeper's call with everything ready to use.
 *
 * Owns: nothing; the steps live in the request's arena.
 * Failure: whatever can't be read or understood refuses the container.
 */
#include "cdi.h"
#include "task.h"

#include "base/clock.h"
#include "base/fd.h"
#include "seccomp/seccomp.h"

struct creation {
	struct task_worker *worker;
	struct msg_request *request;
	const Bulkhead__TaskCreateRequest *task;
	const Grpc__Spec *spec; /* with the edits of its CDI devices */
};

static void refuse(struct creation *n, struct fault *fault) {
	fault_prefix(fault, 0, "container \"%.80s\"", n->task->container_id);
	msg_fail(n->request, fault);
}

static void create_done(void *ctx, const struct msg_answer *a) {
	if (a->fault)
		msg_fail(ctx, a->fault);
	else if (!container_create_answer(a)->created)
		msg_failf(ctx, FAULT_INTERNAL, "the keeper's answer says nothing of the container");
	else
		/* Of either row. */
		msg_reply(ctx, &container_create_answer(a)->created->base, NULL, 0, false);
}

/* --- before: the pod's user namespace, which its root needs --- */

static void userns_done(void *ctx, const struct msg_answer *a) {
	if (a->fault)
		msg_fail(ctx, a->fault);
	else
		task_userns_reply(ctx, keeper_userns_answer(a), a->fds, 1);
}

void on_task_userns(struct task_worker *w, struct msg_request *r, const Bulkhead__Key *m) {
	struct sandbox *s = container_sandbox(w, r, m->id, "*", true);
	if (!s)
		return;
	struct msg_context context = context_within(&r->context, KEEPER_LIMIT);
	Bulkhead__Empty q = BULKHEAD__EMPTY__INIT;
	keeper_userns_send(s->link, &context, &q, NULL, 0, userns_done, r);
}

/* --- the container --- */

/* An OCI runtime makes its own program: it gets the profile. */
static int expand_seccomp(struct creation *n, const void *text, size_t size, struct fault *fault) {
	struct arena *a = &n->request->arena;
	Grpc__Spec *spec = arena_alloc(a, sizeof(*spec));
	Grpc__Linux *l = arena_alloc(a, sizeof(*l));
	if (!spec || !l)
		return fault_errno(fault, ENOMEM, "expand the seccomp profile");
	*spec = *n->spec;
	*l = spec->linux ? *spec->linux : (Grpc__Linux)GRPC__LINUX__INIT;
	spec->linux = l;
	n->spec = spec;
	return seccomp_message_for(spec, text, size, a, &l->seccomp, fault);
}

/* profile: what is in the seccomp profile's file, if it is in one. */
static void create(struct creation *n, struct sandbox *s, const Bulkhead__HostFile *profile) {
	struct msg_request *r = n->request;
	struct fault fault = { 0 };
	const struct seccomp_program *program = NULL;
	const void *text = profile ? profile->data.data : NULL;
	size_t size = profile ? profile->data.len : 0;
	int e = n->task->runtime[0] ? expand_seccomp(n, text, size, &fault)
				    : seccomp_program_for(n->worker->seccomp, n->spec, text, size, &program, &fault);
	if (e < 0) {
		refuse(n, &fault);
		return;
	}
	Bulkhead__ContainerCreateRequest c = BULKHEAD__CONTAINER_CREATE_REQUEST__INIT;
	Bulkhead__TaskCreateRequest task = *n->task;
	task.spec = (Grpc__Spec *)n->spec;
	c.task = &task;
	if (program) {
		c.seccomp_program.data = (uint8_t *)program->filter;
		c.seccomp_program.len = program->length * sizeof(*program->filter);
		c.seccomp_flags = program->flags;
	}
	struct msg_context context = context_within(&r->context, KEEPER_LIMIT);
	if (r->n_fds > 0)
		container_create_send(s->link, &context, &c, r->fds, r->n_fds, create_done, r);
	else
		container_create_bare_send(s->link, &context, &c, NULL, 0, create_done, r);
	/* Our copies would keep them mounted after the container's end. */
	msg_close_fds(r);
}

static void profile_done(void *ctx, const struct msg_answer *a) {
	struct creation *n = ctx;
	if (a->fault) {
		struct fault fault = *a->fault;
		fault_prefix(&fault, 0, "seccomp profile");
		refuse(n, &fault);
		return;
	}
	const Bulkhead__KeeperReadReply *reply = keeper_read_answer(a);
	struct sandbox *s = container_sandbox(n->worker, n->request, n->task->sandbox_id, n->task->container_id, false);
	if (s)
		create(n, s, reply->n_files ? reply->files[0] : NULL);
}

static void read_profile(struct creation *n, struct sandbox *s) {
	struct fault fault = { 0 };
	char path[PATH_MAX];
	int e = seccomp_profile_path(n->worker->seccomp, n->spec, path, &fault);
	if (e < 0) {
		refuse(n, &fault);
	} else if (e > 0) {
		Bulkhead__KeeperReadRequest q = BULKHEAD__KEEPER_READ_REQUEST__INIT;
		struct msg_context context = context_within(&n->request->context, KEEPER_LIMIT);
		q.file = path;
		keeper_read_send(s->link, &context, &q, NULL, 0, profile_done, n);
	} else {
		create(n, s, NULL);
	}
}

static void cdi_done(void *ctx, const struct msg_answer *a) {
	struct creation *n = ctx;
	struct fault fault = { 0 };
	if (a->fault) {
		fault = *a->fault;
		refuse(n, &fault);
		return;
	}
	const Bulkhead__KeeperReadReply *reply = keeper_read_answer(a);
	if (cdi_apply(&n->request->arena, n->task->spec, reply->files, reply->n_files, &n->spec, &fault) < 0) {
		refuse(n, &fault);
		return;
	}
	struct sandbox *s = container_sandbox(n->worker, n->request, n->task->sandbox_id, n->task->container_id, false);
	if (s)
		read_profile(n, s);
}

/* With the root's descriptor, or without any for one that brings its own. */
void on_task_create(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskCreateRequest *m) {
	struct creation *n = arena_alloc(&r->arena, sizeof(*n));
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, false);
	if (!s)
		return;
	if (!n) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "container \"%.80s\": out of memory", m->container_id);
		return;
	}
	*n = (struct creation){ .worker = w, .request = r, .task = m, .spec = m->spec };
	if (!cdi_wanted(m->spec)) {
		read_profile(n, s);
		return;
	}
	Bulkhead__KeeperReadRequest q = BULKHEAD__KEEPER_READ_REQUEST__INIT;
	struct msg_context context = context_within(&r->context, KEEPER_LIMIT);
	q.folders = cdi_folders;
	q.n_folders = CDI_FOLDERS;
	q.suffix = (char *)CDI_SUFFIX;
	keeper_read_send(s->link, &context, &q, NULL, 0, cdi_done, n);
}
