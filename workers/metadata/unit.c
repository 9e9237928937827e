#include "workers/metadata/unit.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/unit.h"
#include "workers/metadata/sweep.h"
#include "workers/metadata/unit_limits.h"

#include <errno.h>
#include <string.h>

#define UNIT_TIMEOUT_NS (60 * NS_PER_SEC)
#define SLICE_PATH_SIZE 1024

bool units_used(const struct metadata *m) {
	return m->config->cgroup_driver == BOOT_SYSTEMD;
}

bool units_ready(const struct metadata *m, const char **ret_why) {
	*ret_why = NULL;
	if (!units_used(m) || (link_attached(m->systemd) && m->units_ready))
		return true;
	*ret_why = m->units_why[0] && link_attached(m->systemd) ? m->units_why : "the systemd worker is being started";
	return false;
}

/* --- places ----------------------------------------------------------------- */

int unit_parent_check(const struct metadata *m, const char *parent, struct fault *fault) {
	bool slice = parent[0] != '/';
	if (!parent[0])
		return 0;
	if (slice != units_used(m))
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "the cgroup parent \"%.200s\" is %s, but the cgroup driver here is %s, which takes %s",
				 parent, slice ? "a slice's name" : "a path", slice ? "cgroupfs" : "systemd",
				 slice ? "a path such as /kubepods" : "a slice such as kubepods.slice");
	if (slice && !slice_valid(parent))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the cgroup parent \"%.200s\" can't name a slice",
				 parent);
	return 0;
}

static const char *parent_of(const struct sandbox *s) {
	const Runtime__V1__LinuxPodSandboxConfig *l = s->record->config->linux;
	return l ? l->cgroup_parent : "";
}

static bool owns_slice(const struct sandbox *s) {
	return !parent_of(s)[0];
}

static int slice_of(const struct metadata *m, const struct sandbox *s, char ret_slice[UNIT_NAME_SIZE]) {
	if (owns_slice(s))
		return slice_below(m->config->cgroup_parent, s->record->id, ret_slice);
	if (strlen(parent_of(s)) >= UNIT_NAME_SIZE)
		return -ENAMETOOLONG;
	strcpy(ret_slice, parent_of(s));
	return 0;
}

/* The path of a scope in the sandbox's slice, and that of the slice. */
static int place(const struct metadata *m, const struct sandbox *s, const char *id, struct arena *a, char **ret_slice,
		 char **ret_scope, struct fault *fault) {
	char slice[UNIT_NAME_SIZE], scope[UNIT_NAME_SIZE], path[SLICE_PATH_SIZE];
	int r = slice_of(m, s, slice);
	if (r == 0)
		r = slice_path(slice, path, sizeof(path));
	if (r == 0)
		r = scope_name(id, scope);
	if (r < 0)
		return fault_errno(fault, r, "place it below the slice \"%.200s\"", parent_of(s));
	*ret_slice = arena_printf(a, "%s", path);
	*ret_scope = arena_printf(a, "%s/%s", path, scope);
	return *ret_slice && *ret_scope ? 0 : fault_errno(fault, ENOMEM, "place it");
}

int unit_place_pod(const struct metadata *m, const struct sandbox *s, struct arena *a, Bulkhead__SandboxStartRequest *q,
		   struct fault *fault) {
	q->cgroup_own = units_used(m) && owns_slice(s);
	return units_used(m) ? place(m, s, s->record->id, a, &q->cgroup_parent, &q->cgroup_scope, fault) : 0;
}

int unit_place_container(const struct metadata *m, const struct container *c, struct arena *a, Grpc__Spec *spec,
			 struct fault *fault) {
	char *slice;
	return units_used(m) ? place(m, c->sandbox, c->record->id, a, &slice, &spec->linux->cgroupspath, fault) : 0;
}

/* --- making them ------------------------------------------------------------ */

/* Whatever answer does with ctx. */
static void start_send(struct metadata *m, const struct sandbox *s, const struct container *c, int32_t pid,
		       const struct msg_context *context, msg_done_fn done, void *ctx) {
	Bulkhead__UnitStartRequest q = BULKHEAD__UNIT_START_REQUEST__INIT;
	Bulkhead__UnitLimits limits;
	char slice[UNIT_NAME_SIZE] = "";
	struct arena a;
	arena_init(&a, 0);
	const Runtime__V1__LinuxContainerConfig *l = c ? c->record->config->linux : NULL;
	unit_limits(&a, l ? l->resources : NULL, &limits);
	if (slice_of(m, s, slice) < 0)
		slice[0] = '\0'; /* refused there, with a sentence */
	q.id = c ? c->record->id : s->record->id;
	q.pod = !c;
	q.slice = slice;
	q.own_slice = owns_slice(s);
	q.pid = pid;
	q.limits = &limits;
	unit_start_send(m->systemd, context, &q, NULL, 0, done, ctx);
	arena_deinit(&a);
}

static void step_done(void *ctx, const struct msg_answer *answer) {
	if (answer->fault)
		op_fail_below(ctx, answer->fault);
	else
		op_next(ctx);
}

/* In another control group than the keeper believes, limits and ends would be
 * another's. */
static void check_place(struct op *op, const struct msg_answer *answer, const struct sandbox *s, const char *id) {
	char *slice, *scope;
	struct arena a;
	arena_init(&a, 0);
	int r = place(op->m, s, id, &a, &slice, &scope, &op->fault);
	const char *where = unit_start_answer(answer)->cgroup_path;
	if (r == 0 && strcmp(where, scope) != 0)
		fault_set(&op->fault, FAULT_INTERNAL,
			  "systemd has made its scope at \"%s\" instead of \"%s\": the daemon must run in the same "
			  "control group namespace",
			  where, scope);
	arena_deinit(&a);
	if (op->fault.code == FAULT_NONE)
		op_next(op);
	else
		op_fail(op);
}

static void pod_done(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	const struct sandbox *s = container_of(op->slot, struct sandbox, op);
	if (answer->fault)
		op_fail_below(op, answer->fault);
	else
		check_place(op, answer, s, s->record->id);
}

void unit_step_pod(struct op *op, const struct sandbox *s) {
	if (!units_used(op->m)) {
		op_next(op);
		return;
	}
	struct msg_context context = op_context(op, UNIT_TIMEOUT_NS);
	start_send(op->m, s, NULL, s->record->started->keeper_pid, &context, pod_done, op);
}

static void container_done(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	const struct container *c = container_of(op->slot, struct container, op);
	if (answer->fault)
		op_fail_below(op, answer->fault);
	else
		check_place(op, answer, c->sandbox, c->record->id);
}

void unit_step_container(struct op *op, const struct container *c, int32_t pid) {
	if (!units_used(op->m)) {
		op_next(op);
		return;
	}
	struct msg_context context = op_context(op, UNIT_TIMEOUT_NS);
	start_send(op->m, c->sandbox, c, pid, &context, container_done, op);
}

/* --- limits ----------------------------------------------------------------- */

static void update_send(struct op *op, const char *id, const char *slice,
			const Runtime__V1__LinuxContainerResources *r) {
	Bulkhead__UnitUpdateRequest q = BULKHEAD__UNIT_UPDATE_REQUEST__INIT;
	Bulkhead__UnitLimits limits;
	struct arena a;
	arena_init(&a, 0);
	unit_limits(&a, r, &limits);
	q.id = (char *)(uintptr_t)id;
	q.slice = (char *)(uintptr_t)slice;
	q.limits = &limits;
	struct msg_context context = op_context(op, UNIT_TIMEOUT_NS);
	unit_update_send(op->m->systemd, &context, &q, NULL, 0, step_done, op);
	arena_deinit(&a);
}

void unit_step_update_container(struct op *op, const struct container *c,
				const Runtime__V1__LinuxContainerResources *limits) {
	if (units_used(op->m) && c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP)
		update_send(op, c->record->id, "", limits);
	else
		op_next(op);
}

/* A slice that the client named is the client's to limit. */
void unit_step_update_pod(struct op *op, const struct sandbox *s, const Runtime__V1__LinuxContainerResources *limits) {
	char slice[UNIT_NAME_SIZE];
	if (units_used(op->m) && owns_slice(s) && s->record->phase == BULKHEAD__SANDBOX_PHASE__SANDBOX_UP &&
	    slice_of(op->m, s, slice) == 0)
		update_send(op, "", slice, limits);
	else
		op_next(op);
}

/* --- the end ---------------------------------------------------------------- */

static void stop_send(struct metadata *m, const char *id, const char *slice, msg_done_fn done, void *ctx) {
	Bulkhead__UnitStopRequest q = BULKHEAD__UNIT_STOP_REQUEST__INIT;
	struct msg_context context = { .deadline = clock_mono() + UNIT_TIMEOUT_NS };
	q.id = (char *)(uintptr_t)id;
	q.slice = (char *)(uintptr_t)slice;
	unit_stop_send(m->systemd, &context, &q, NULL, 0, done, ctx);
}

void unit_stop_container_send(struct metadata *m, const char *id, msg_done_fn done, void *ctx) {
	stop_send(m, id, "", done, ctx);
}

/* Whether it had a slice of its own: the name says whose it would be. */
void unit_stop_pod_send(struct metadata *m, const char *id, msg_done_fn done, void *ctx) {
	char slice[UNIT_NAME_SIZE] = "";
	if (slice_below(m->config->cgroup_parent, id, slice) < 0)
		slice[0] = '\0';
	stop_send(m, id, slice, done, ctx);
}

/* --- comparing -------------------------------------------------------------- */

static void made_again(void *ctx, const struct msg_answer *answer) {
	if (answer->fault)
		log_event(LOG_WARN, "a pod or container has no unit of systemd's", "why", answer->fault->text, NULL);
}

static void make_again(struct metadata *m, const struct sandbox *s, const struct container *c, int32_t pid) {
	struct msg_context context = { .deadline = clock_mono() + UNIT_TIMEOUT_NS };
	start_send(m, s, c, pid, &context, made_again, NULL);
}

void unit_keeper_seen(struct metadata *m, struct sandbox *s, int32_t pid) {
	Bulkhead__SandboxStartReply *started = s->record->started;
	if (!started || started->keeper_pid == pid || pid <= 0)
		return;
	started->keeper_pid = pid;
	if (units_used(m) && s->record->phase == BULKHEAD__SANDBOX_PHASE__SANDBOX_UP)
		make_again(m, s, NULL, pid);
}

static bool listed(const Bulkhead__UnitListReply *l, const char *id) {
	for (size_t i = 0; i < l->n_ids; i++)
		if (strcmp(l->ids[i], id) == 0)
			return true;
	return false;
}

/* A scope without a record isn't looked at: it may be another daemon's. */
static void compare_container(struct metadata *m, const struct container *c, bool is_there) {
	bool up = c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP;
	if (c->op)
		return;
	if (up && !is_there && c->record->task)
		make_again(m, c->sandbox, c, c->record->task->pid);
	else if (!up && is_there)
		sweep_unit_container(m, c->record->id);
}

static void compare_sandbox(struct metadata *m, const struct sandbox *s, const Bulkhead__UnitListReply *l) {
	bool up = s->record->phase == BULKHEAD__SANDBOX_PHASE__SANDBOX_UP, is_there = listed(l, s->record->id);
	if (s->op)
		return;
	if (up && !is_there && s->record->started)
		make_again(m, s, NULL, s->record->started->keeper_pid);
	else if (!up && is_there)
		sweep_unit_pod(m, s->record->id);
	list_for_each (n, &s->containers) {
		const struct container *c = list_entry(n, struct container, in_sandbox);
		compare_container(m, c, listed(l, c->record->id));
	}
}

/* Slices below the configured one are made for pods of ours alone. */
static void compare_slices(struct metadata *m, const Bulkhead__UnitListReply *l) {
	for (size_t i = 0; i < l->n_pods; i++) {
		struct map_node *n = map_find(&m->model.sandbox_ids, l->pods[i]);
		const struct sandbox *s = n ? container_of(n, struct sandbox, by_id) : NULL;
		if (!s || (!s->op && s->record->phase == BULKHEAD__SANDBOX_PHASE__SANDBOX_DOWN))
			sweep_unit_pod(m, l->pods[i]);
	}
}

static void compare_done(void *ctx, const struct msg_answer *answer) {
	struct metadata *m = ctx;
	if (answer->fault) {
		log_event(LOG_WARN, "units not compared", "why", answer->fault->text, NULL);
		return;
	}
	list_for_each (n, &m->model.sandboxes)
		compare_sandbox(m, list_entry(n, struct sandbox, node), unit_list_answer(answer));
	compare_slices(m, unit_list_answer(answer));
}

void units_compare(struct metadata *m) {
	Bulkhead__UnitListRequest q = BULKHEAD__UNIT_LIST_REQUEST__INIT;
	struct msg_context context = { .deadline = clock_mono() + UNIT_TIMEOUT_NS };
	if (!units_used(m) || !m->reconciled || !m->units_ready)
		return;
	q.slice = (char *)(uintptr_t)m->config->cgroup_parent;
	unit_list_send(m->systemd, &context, &q, NULL, 0, compare_done, m);
}
