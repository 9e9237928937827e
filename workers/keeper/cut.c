#include "workers/keeper/cut.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "workers/keeper/checkpoint.h"
#include "workers/keeper/container.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

/* What criu gets to let the containers go. */
#define GRACE (10 * NS_PER_SEC)
#define TIMEOUT_MAX (24 * 3600 * NS_PER_SEC)
#define RECOVER_PAUSE (100 * NS_PER_MS)

struct cut {
	struct keeper *keeper;
	struct msg_request *open, *end; /* NULL: answered, or not asked */
	bool ending, keep;
	struct fault fault; /* why it has failed; FAULT_NONE: it hasn't */
	struct loop_source *timer;
	size_t n;
	char ids[][ID_SIZE];
};

static struct container *member(const struct cut *cut, size_t i) {
	return container_find(cut->keeper, cut->ids[i]);
}

static void thaw(struct cut *cut) {
	for (size_t i = 0; i < cut->n; i++) {
		struct container *c = member(cut, i);
		if (!c || !c->held)
			continue;
		int r = cgroup_freeze(&c->cgroup, false);
		if (r < 0)
			log_event(LOG_WARN, "a container stays frozen after a checkpoint", "container", c->id, "why",
				  strerrordesc_np(-r), NULL);
		c->held = false;
	}
}

/* --- its end --- */

static void answer(struct cut *cut) {
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	struct msg_request *open = take_ptr(cut->open), *end = take_ptr(cut->end);
	bool failed = cut->fault.code != FAULT_NONE;
	if (open)
		open->cancelled = NULL;
	if (end)
		end->cancelled = NULL;
	if (open && failed)
		msg_fail(open, &cut->fault);
	else if (open)
		keeper_cut_reply(open, &done, NULL, 0);
	if (end && failed)
		msg_fail(end, &cut->fault);
	else if (end)
		keeper_cut_end_reply(end, &done, NULL, 0);
}

static int name_all(struct cut *cut) {
	for (size_t i = 0; i < cut->n; i++) {
		if (checkpoint_name(member(cut, i)->checkpoint, &cut->fault) == 0)
			continue;
		while (i-- > 0)
			checkpoint_unname(member(cut, i)->checkpoint);
		return -1;
	}
	return 0;
}

static void over(struct cut *cut) {
	if (cut->keep && cut->fault.code == FAULT_NONE)
		name_all(cut);
	cut->keeper->cut = NULL;
	for (size_t i = 0; i < cut->n; i++) {
		struct container *c = member(cut, i);
		if (c)
			checkpoint_drop(c->checkpoint);
	}
	thaw(cut);
	answer(cut);
	loop_source_free(cut->timer);
	free(cut);
}

/* Has criu ended for all of them? What one has failed for, all have. */
static bool all_saved(struct cut *cut) {
	bool saved = true;
	for (size_t i = 0; i < cut->n; i++) {
		struct container *c = member(cut, i);
		if (c && c->checkpoint)
			saved &= checkpoint_saved(c->checkpoint, &cut->fault);
		else if (cut->keep && cut->fault.code == FAULT_NONE)
			fault_set(&cut->fault, FAULT_FAILED_PRECONDITION,
				  "container \"%.80s\" has ended, or wasn't saved", cut->ids[i]);
	}
	return saved;
}

void cut_step(struct keeper *k) {
	struct cut *cut = k->cut;
	if (cut && cut->ending && all_saved(cut))
		over(cut);
}

static void grace_over(void *ctx) {
	struct cut *cut = ctx;
	log_event(LOG_WARN, "criu doesn't end and is killed", "pod", cut->keeper->id, NULL);
	loop_source_free_p(&cut->timer);
	over(cut);
}

/* No archive will be kept. */
static void give_up(struct cut *cut) {
	cut->ending = true;
	cut->keep = false;
	for (size_t i = 0; i < cut->n; i++) {
		struct container *c = member(cut, i);
		if (c && c->checkpoint)
			checkpoint_stop(c->checkpoint);
	}
	loop_source_free_p(&cut->timer);
	if (loop_timer(cut->keeper->loop, clock_mono() + GRACE, grace_over, cut, &cut->timer) < 0)
		grace_over(cut);
	else
		cut_step(cut->keeper);
}

static void time_over(void *ctx) {
	struct cut *cut = ctx;
	fault_set(&cut->fault, FAULT_DEADLINE_EXCEEDED, "it has taken too long");
	give_up(cut);
}

static void open_cancelled(struct msg_request *r, void *ctx) {
	struct cut *cut = ctx;
	cut->open = NULL;
	msg_failf(r, FAULT_CANCELLED, "the caller gave up");
	if (!cut->ending)
		give_up(cut);
}

static void end_cancelled(struct msg_request *r, void *ctx) {
	struct cut *cut = ctx;
	cut->end = NULL;
	msg_failf(r, FAULT_CANCELLED, "the caller gave up");
	give_up(cut);
}

void on_keeper_cut_end(struct keeper *k, struct msg_request *r, const Bulkhead__CutEndRequest *m) {
	struct cut *cut = k->cut;
	if (!cut || cut->ending) {
		msg_failf(r, FAULT_ABORTED, "the pod's checkpoint has been given up");
		return;
	}
	cut->end = r;
	r->cancelled = end_cancelled;
	r->cancelled_ctx = cut;
	if (!m->keep) {
		give_up(cut);
		return;
	}
	cut->ending = cut->keep = true;
	cut_step(k);
}

/* --- its beginning --- */

static int folder_check(const char *path, struct fault *fault) {
	DIR *d = path[0] == '/' ? opendir(path) : NULL;
	if (!d)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "the folder \"%.256s\": %s", path,
				 path[0] == '/' ? strerrordesc_np(errno) : "no absolute path");
	bool empty = true;
	for (struct dirent *e; empty && (e = readdir(d));)
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
	closedir(d);
	return empty ? 0 : fault_set(fault, FAULT_FAILED_PRECONDITION, "the folder \"%.256s\" isn't empty", path);
}

static int hold(struct keeper *k, const char *id, struct fault *fault) {
	struct container *c = container_find(k, id);
	if (!c || c->state != CONTAINER_RUNNING)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "container \"%.80s\" isn't running", id);
	if (c->frozen)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "container \"%.80s\" is frozen", id);
	if (c->checkpoint || c->held)
		return fault_set(fault, FAULT_ABORTED, "another checkpoint of container \"%.80s\" is under way", id);
	int r = cgroup_freeze(&c->cgroup, true);
	if (r < 0)
		return fault_errno(fault, r, "freeze container \"%.80s\"", id);
	c->held = true;
	return 0;
}

static int cut_new(struct keeper *k, struct msg_request *r, const Bulkhead__CutRequest *m, struct cut **ret_cut,
		   struct fault *fault) {
	struct cut *cut = calloc(1, sizeof(*cut) + m->n_container_ids * sizeof(cut->ids[0]));
	if (!cut)
		return fault_errno(fault, ENOMEM, "checkpoint %zu containers", m->n_container_ids);
	cut->keeper = k;
	cut->open = r;
	cut->n = m->n_container_ids;
	for (size_t i = 0; i < cut->n; i++)
		snprintf(cut->ids[i], sizeof(cut->ids[i]), "%s", m->container_ids[i]);
	*ret_cut = cut;
	return 0;
}

static int hold_all(struct cut *cut, uint64_t timeout) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < cut->n; i++)
		r = hold(cut->keeper, cut->ids[i], &cut->fault);
	if (r < 0)
		return r;
	int64_t limit = clock_mono() + (int64_t)MIN(timeout, (uint64_t)TIMEOUT_MAX);
	r = loop_timer(cut->keeper->loop, limit, time_over, cut, &cut->timer);
	return r < 0 ? fault_errno(&cut->fault, r, "limit a checkpoint's time") : 0;
}

void on_keeper_cut(struct keeper *k, struct msg_request *r, const Bulkhead__CutRequest *m) {
	Bulkhead__Empty standing = BULKHEAD__EMPTY__INIT;
	struct fault fault;
	struct cut *cut = NULL;
	if (k->cut) {
		msg_failf(r, FAULT_ABORTED, "another checkpoint of the pod is under way");
		return;
	}
	if (folder_check(m->folder, &fault) < 0 || cut_new(k, r, m, &cut, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if (hold_all(cut, m->timeout_ns) < 0) {
		over(cut);
		return;
	}
	k->cut = cut;
	r->cancelled = open_cancelled;
	r->cancelled_ctx = cut;
	keeper_cut_reply_part(r, &standing);
}

/* --- after the keeper's death --- */

static void recover(void *ctx) {
	struct keeper *k = ctx;
	bool again = false;
	loop_source_free_p(&k->cut_timer);
	list_for_each (n, &k->containers) {
		struct container *c = list_entry(n, struct container, node);
		if (c->state != CONTAINER_RUNNING || c->frozen || c->checkpoint)
			continue;
		again |= checkpoint_held(&k->config, c->id);
		cgroup_freeze(&c->cgroup, false);
	}
	if (!again)
		checkpoint_sweep(&k->config);
	else if (loop_timer(k->loop, clock_mono() + RECOVER_PAUSE, recover, k, &k->cut_timer) < 0)
		log_text(LOG_WARN, "out of memory: what a checkpoint has frozen may stay so");
}

void cut_recover(struct keeper *k) {
	recover(k);
}
