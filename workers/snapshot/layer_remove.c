/* layer_remove: answered when the disk is free. Once the layer is in the trash
 * there is none, so a pull may already be making it anew. */
#include "workers/snapshot/state.h"

#include "tree/remove.h"

#include <errno.h>

struct removing {
	struct reap_wait wait;
	struct msg_request *request; /* whose arena holds this */
};

static void done_reply(struct msg_request *r) {
	Bulkhead__Empty reply = BULKHEAD__EMPTY__INIT;
	layer_remove_reply(r, &reply, NULL, 0);
}

/* Where something of it couldn't be removed, the reaper has logged why; the
 * layer is gone all the same, and the next trash takes the rest. */
static void removed(struct reap_wait *w, const struct fault *fault) {
	done_reply(container_of(w, struct removing, wait)->request);
}

void on_layer_remove(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__Key *m) {
	struct layer *l = layer_find(s, m->id);
	if (!l) {
		done_reply(r);
		return;
	}
	if (l->state != LAYER_COMMITTED && l->state != LAYER_UNPACKED) {
		msg_failf(r, FAULT_ABORTED, "remove layer %s: it is being made", l->chain);
		return;
	}
	struct removing *op = arena_zalloc(&r->arena, sizeof(*op));
	if (!op) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "remove layer %s: out of memory", l->chain);
		return;
	}
	*op = (struct removing){ .wait.done = removed, .request = r };
	int room = l->state == LAYER_COMMITTED ? s->rooms.layers : s->rooms.layers_staging;
	int e = trash_put(s->rooms.layers_trash, room, l->name);
	/* The read-only copy that was made where there is no overlayfs. */
	if (e == 0 || e == -ENOENT)
		e = trash_put(s->rooms.snapshots_trash, s->rooms.snapshots_views, l->name);
	if (e < 0 && e != -ENOENT) {
		struct fault fault;
		fault_errno(&fault, e, "remove layer %s", l->chain);
		msg_fail(r, &fault);
		return;
	}
	layer_free(s, l);
	reaper_now(&s->reaper, &op->wait);
}
