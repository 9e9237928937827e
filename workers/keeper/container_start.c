/*
 * The requests container_create and container_start: what may be made, what is
 * kept of it, and who waits. A backend makes the process (container_native.c,
 * oci/, restore.c); container_watch.c says how that went on.
 */
#include "workers/keeper/backend.h"
#include "workers/keeper/container.h"

#include "base/id.h"
#include "workers/keeper/cgroup_update.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* --- checks --- */

/* A namespace to join is the pod's or none: we live in those. */
static bool namespace_ours(const char *path, const char *own) {
	struct stat a, b;
	return own && stat(path, &a) == 0 && stat(own, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int namespace_check(const Grpc__LinuxNamespace *n, struct fault *fault) {
	static const struct {
		const char *type, *own;
	} known[] = {
		{ "network", "/proc/self/ns/net" },
		{ "ipc", "/proc/self/ns/ipc" },
		{ "uts", "/proc/self/ns/uts" },
		{ "pid", NULL },
		{ "mount", NULL },
		{ "cgroup", NULL },
	};
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(n->type, known[i].type) == 0 && (!n->path[0] || namespace_ours(n->path, known[i].own)))
			return 0;
	return fault_set(fault, FAULT_UNIMPLEMENTED, "a namespace of type \"%s\"%s%s is not supported", n->type,
			 n->path[0] ? " at " : "", n->path);
}

static bool has_hooks(const Grpc__Hooks *h) {
	return h && (h->n_prestart || h->n_createruntime || h->n_createcontainer || h->n_startcontainer ||
		     h->n_poststart || h->n_poststop);
}

static int create_check(const struct keeper *k, const Bulkhead__TaskCreateRequest *t, bool bare, struct fault *fault) {
	if (!t || !t->spec || !t->spec->process)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the container has no process to run");
	if (!k->pod.up || k->pod.ending)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "pod sandbox \"%s\" is not running", k->id);
	if (!id_valid(t->container_id))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.80s\" is no id of a container", t->container_id);
	if (bare && (k->pod.runtime || k->pod.vm))
		return fault_set(
		    fault, FAULT_UNIMPLEMENTED,
		    "neither an OCI runtime nor a virtual machine can run container \"%s\", which brings its own root",
		    t->container_id);
	if (container_find(k, t->container_id))
		return fault_set(fault, FAULT_ALREADY_EXISTS, "container \"%s\" exists already", t->container_id);
	const Grpc__Linux *l = t->spec->linux;
	if (l && (l->n_uidmappings || l->n_gidmappings))
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "a user namespace of the container alone is not supported");
	for (size_t i = 0; l && i < l->n_namespaces; i++) {
		int r = namespace_check(l->namespaces[i], fault);
		if (r < 0)
			return r;
	}
	if (has_hooks(t->spec->hooks))
		return fault_set(fault, FAULT_UNIMPLEMENTED, "hooks of the runtime specification are not supported");
	return 0;
}

/* --- handlers --- */

static int remember(struct container *c, const Bulkhead__ContainerCreateRequest *m) {
	const Grpc__Process *p = m->task->spec->process;
	size_t size = grpc__process__get_packed_size(p);
	uint8_t *room = buffer_reserve(&c->process, size);
	if (!room)
		return -ENOMEM;
	grpc__process__pack(p, room);
	c->process.size = size;
	buffer_add(&c->seccomp, m->seccomp_program.data, m->seccomp_program.len);
	c->seccomp_flags = m->seccomp_flags;
	c->log_path = strdup(m->task->log_path);
	c->pid_mode = m->task->pid_mode;
	c->terminal = p->terminal;
	c->takes_stdin = m->task->stdin;
	c->stdin_once = m->task->stdin_once;
	c->stop_signal = m->task->stop_signal;
	c->start_at_once = m->task->start;
	return c->seccomp.failed || !c->log_path ? -ENOMEM : 0;
}

static void pending_cancelled(struct msg_request *r, void *ctx) {
	struct container *c = ctx;
	struct fault fault;
	/* A start that has been told to go can't be taken back. */
	if (c->state == CONTAINER_CREATING) {
		fault_set(&fault, FAULT_CANCELLED, "the caller gave up");
		container_abort(c, &fault);
	}
}

static void pending_set(struct container *c, struct msg_request *r) {
	c->pending = r;
	r->cancelled = pending_cancelled;
	r->cancelled_ctx = c;
}

/* The container whose pid namespace it was to join may be why. */
static void target_fault(const struct keeper *k, const Bulkhead__TaskCreateRequest *t, struct fault *fault) {
	const struct container *target = container_find(k, t->target_container_id);
	if (t->pid_mode == BULKHEAD__NAMESPACE_MODE__TARGET && target)
		container_fault(target, 0, fault);
}

void on_container_create(struct keeper *k, struct msg_request *r, const Bulkhead__ContainerCreateRequest *m) {
	struct fault fault = { 0 };
	struct container *c = NULL;
	if (create_check(k, m->task, r->n_fds == 0, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	int e = container_new(k, m->task->container_id, &c);
	if (e == 0)
		e = remember(c, m);
	if (e < 0)
		fault_errno(&fault, e, "create container \"%s\"", m->task->container_id);
	if (e == 0)
		e = log_new(k->loop, m->task->stdio ? "" : m->task->log_path, k->config.log_line_max, -1, &c->log,
			    &fault);
	if (e == 0 && m->task->stdio)
		e = stdio_new(k, c->id, m->task->stdio, NULL, &c->stdio, &fault);
	if (e == 0)
		e = m->task->restore ? restore_create(c, r, m, &fault) : backend_of(k)->create(c, r, m, &fault);
	if (e < 0) {
		target_fault(k, m->task, &fault);
		container_free(c);
		msg_fail(r, &fault);
		return;
	}
	msg_close_fds(r);
	pending_set(c, r);
	e = container_watch(c);
	if (e < 0) {
		fault_errno(&fault, e, "watch container \"%s\"", c->id);
		container_abort(c, &fault);
	}
}

void on_container_start(struct keeper *k, struct msg_request *r, const Bulkhead__TaskKey *m) {
	struct container *c = container_of_request(k, r, m->container_id);
	if (!c)
		return;
	/* Asked again after an answer that got lost. */
	if (c->state == CONTAINER_RUNNING || (c->state == CONTAINER_EXITED && c->started_at)) {
		container_created_reply(r, c);
		return;
	}
	if (c->state != CONTAINER_CREATED || c->pending) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "container \"%.80s\" %s", c->id,
			  c->state == CONTAINER_EXITED ? "has ended before it was started" : "is being started");
		return;
	}
	struct fault fault;
	if (k->pod.cgroup_scope[0] && cgroup_bring(&c->cgroup, c->pid, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	hold_begin(c);
	pending_set(c, r);
	container_go(c);
}
