#include "guest.h"

#include "base/id.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- the end of one --- */

static int upper_remove(const struct place *at) {
	char name[NAME_MAX + 8];
	struct place beside = { .folder = at->folder, .name = name };
	snprintf(name, sizeof(name), "%s.upper", at->name);
	int r = tree_remove(&beside);
	snprintf(name, sizeof(name), "%s.work", at->name);
	return r < 0 ? r : tree_remove(&beside);
}

/* Nobody needs it: nothing of it stays but a folder that isn't empty. */
static int release(const struct holding *h, const struct place *at, const char *mount_point, struct fault *fault) {
	int r = mounting_end(at);
	if (r < 0)
		return fault_errno(fault, r, "unmount \"%s\"", mount_point);
	if (holding_marked(h, HOLDING_TREE))
		r = tree_remove(at);
	else
		unlinkat(at->folder, at->name, AT_REMOVEDIR);
	if (r == 0 && holding_marked(h, HOLDING_UPPER))
		r = upper_remove(at);
	if (r < 0)
		return fault_errno(fault, r, "remove \"%s\"", mount_point);
	holding_remove(h);
	return 0;
}

struct detaching {
	const char *owner;
	bool all_shared;
	struct fault *fault; /* of the first that couldn't be detached */
	int result;
};

static int detach(struct work *w, const struct detaching *d, const char *mount_point, struct fault *fault) {
	CLEANUP_HOLDING struct holding h = HOLDING_NONE;
	CLEANUP_PLACE struct place at = PLACE_NONE;
	int r = holding_open(w, mount_point, false, &h);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = holding_drop(&h, d->owner);
	if (r == 0 && d->all_shared)
		r = holding_unmark(&h, HOLDING_SHARED);
	if (r == 0)
		r = holding_count(&h);
	if (r < 0)
		return fault_errno(fault, r, "who needs \"%s\"", mount_point);
	if (r > 0)
		return 0;
	/* What it was mounted in may have gone before it, and with it all. */
	if (place_find(w, mount_point, false, &at, fault) < 0) {
		holding_remove(&h);
		return 0;
	}
	return release(&h, &at, mount_point, fault);
}

/* One that can't be detached keeps none of the others. */
static int detach_next(struct work *w, const char *mount_point, void *ctx) {
	struct detaching *d = ctx;
	struct fault fault;
	int r = detach(w, d, mount_point, &fault);
	if (r < 0 && d->result == 0) {
		d->result = r;
		*d->fault = fault;
	}
	return 0;
}

int guest_detach_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Bulkhead__GuestDetachRequest *q = (const Bulkhead__GuestDetachRequest *)request;
	struct detaching d = { .owner = q->owner, .all_shared = q->all_shared, .fault = fault };
	if (*q->owner && !id_valid(q->owner))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.80s\" is no id", q->owner);
	log_forget(w, q->owner);
	int r = holdings_each(w, detach_next, &d);
	return r < 0 ? fault_errno(fault, r, "read what is attached") : d.result;
}

/* --- the beginning --- */

/* A mark alone proves nothing: the mount may have been another boot's. */
static bool attached(const struct holding *h, const struct place *at) {
	return holding_marked(h, HOLDING_READY) && (holding_marked(h, HOLDING_TREE) || mounting_is(at));
}

static int attach_new(struct work *w, const struct holding *h, const struct place *at, const Grpc__Storage *s,
		      struct fault *fault) {
	const char *mark = driver_mark(s);
	int r = mounting_end(at); /* half of what a killed process began */
	if (r < 0)
		return fault_errno(fault, r, "unmount what was left");
	r = mark ? holding_mark(h, mark) : 0;
	if (r == 0) {
		r = driver_attach(w, s, at, fault);
		if (r < 0)
			return r;
		r = holding_mark(h, HOLDING_READY);
	}
	if (r == 0 && s->shared)
		r = holding_mark(h, HOLDING_SHARED);
	return r < 0 ? fault_errno(fault, r, "write down what is attached") : 0;
}

static int attach(struct work *w, const char *owner, const Grpc__Storage *s, bool *ret_new, struct fault *fault) {
	CLEANUP_HOLDING struct holding h = HOLDING_NONE;
	CLEANUP_PLACE struct place at = PLACE_NONE;
	int r = place_find(w, s->mount_point, true, &at, fault);
	if (r < 0)
		return r;
	r = holding_open(w, s->mount_point, true, &h);
	bool had = r == 0 && holding_has(&h, owner);
	if (r == 0)
		r = holding_add(&h, owner);
	if (r < 0)
		return fault_errno(fault, r, "write down what is attached");
	*ret_new = !had;
	if (attached(&h, &at))
		return 0;
	r = attach_new(w, &h, &at, s, fault);
	if (r < 0) {
		struct fault other;
		holding_drop(&h, owner);
		*ret_new = false;
		if (holding_count(&h) == 0 && release(&h, &at, s->mount_point, &other) < 0)
			log_event(LOG_WARN, "a storage isn't undone", "error", other.text, NULL);
	}
	return r;
}

static void undo(struct work *w, const char *owner, Grpc__Storage *const *storages, const bool *new, size_t n) {
	const struct detaching d = { .owner = owner };
	struct fault fault;
	while (n-- > 0)
		if (new[n] && detach(w, &d, storages[n]->mount_point, &fault) < 0)
			log_event(LOG_WARN, "a storage isn't undone", "error", fault.text, NULL);
}

/* Kata's hosts end the folder of a share with a slash. */
static void slash_drop(char *mount_point) {
	size_t n = strlen(mount_point);
	if (n > 1 && mount_point[n - 1] == '/')
		mount_point[n - 1] = '\0';
}

static int attach_all(struct work *w, const Bulkhead__GuestAttachRequest *q, bool *new, struct fault *fault) {
	for (size_t i = 0; i < q->n_storages; i++) {
		const Grpc__Storage *s = q->storages[i];
		slash_drop(s->mount_point);
		int r = attach(w, q->owner, s, &new[i], fault);
		if (r < 0) {
			undo(w, q->owner, q->storages, new, i);
			return fault_prefix(fault, r, "\"%s\" (%s) at \"%s\"", s->source, s->driver, s->mount_point);
		}
	}
	return 0;
}

const char *attach_owner(const ProtobufCMessage *request) {
	return ((const Bulkhead__GuestAttachRequest *)request)->owner;
}
const char *detach_owner(const ProtobufCMessage *request) {
	return ((const Bulkhead__GuestDetachRequest *)request)->owner;
}
const char *setup_owner(const ProtobufCMessage *request) {
	return "";
}

int guest_attach_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Bulkhead__GuestAttachRequest *q = (const Bulkhead__GuestAttachRequest *)request;
	if (!id_valid(q->owner))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.80s\" is no id", q->owner);
	Bulkhead__GuestAttachReply *reply =
	    ARENA_NEW(&w->arena, Bulkhead__GuestAttachReply, BULKHEAD__GUEST_ATTACH_REPLY__INIT);
	bool *new = arena_zalloc(&w->arena, q->n_storages + 1);
	char **points = arena_zalloc(&w->arena, (q->n_storages + 1) * sizeof(*points));
	if (!reply || !new || !points)
		return no_memory(fault);
	int r = attach_all(w, q, new, fault);
	if (r < 0)
		return r;
	r = *q->termination_log ? log_note(w, q->owner, q->termination_log) : 0;
	if (r < 0) {
		undo(w, q->owner, q->storages, new, q->n_storages);
		return fault_errno(fault, r, "note where its last words will be");
	}
	for (size_t i = 0; i < q->n_storages; i++)
		points[i] = q->storages[i]->mount_point;
	reply->mount_points = points;
	reply->n_mount_points = q->n_storages;
	w->reply = &reply->base;
	return 0;
}
