/*
 * snapshot_mounts: what a client that is root mounts itself. Paths of the host,
 * which this worker doesn't see: they are below the state root's own name.
 */
#include "workers/snapshot/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct mounts {
	const struct snapshot_worker *s;
	struct msg_request *r;
	const struct snapshot *snapshot;   /* NULL: a view */
	const struct layer *const *layers; /* top first */
	size_t n;
	Grpc__Mount mount;
	char *options[8];
};

static char *path(const struct mounts *m, const char *room, const char *name, const char *part) {
	return arena_printf(&m->r->arena, "%s/%s/%s/%s", m->s->state_root, room, name, part);
}

static char *upper(const struct mounts *m, const char *part) {
	return path(m, m->snapshot->beside_layers ? "layers/" ROOM_WRITABLE : "snapshots", m->snapshot->key, part);
}

static int option(struct mounts *m, const char *name, char *value) {
	char *o = value ? arena_printf(&m->r->arena, "%s%s", name, value) : NULL;
	if (!o)
		return -ENOMEM;
	m->options[m->mount.n_options++] = o;
	return 0;
}

static int bound(struct mounts *m, char *source, bool writable) {
	m->mount.type = "bind";
	m->mount.source = source;
	int r = source ? option(m, writable ? "rw" : "ro", "") : -ENOMEM;
	return r == 0 ? option(m, "rbind", "") : r;
}

static char *lowers(const struct mounts *m) {
	char *list = "";
	for (size_t i = 0; list && i < m->n; i++) {
		char *one = path(m, "layers", m->layers[i]->name, "fs");
		list = one ? arena_printf(&m->r->arena, "%s%s%s", list, i ? ":" : "", one) : NULL;
	}
	return list;
}

/* With the options that our own mounts have (see overlay.c). */
static int stacked(struct mounts *m) {
	m->mount.type = m->mount.source = "overlay";
	int r = option(m, "index=off", "");
	if (r == 0)
		r = option(m, "redirect_dir=", m->s->overlay.nofollow ? "nofollow" : "off");
	if (r == 0 && m->snapshot)
		r = option(m, "workdir=", upper(m, "work"));
	if (r == 0 && m->snapshot)
		r = option(m, "upperdir=", upper(m, "fs"));
	return r == 0 ? option(m, "lowerdir=", lowers(m)) : r;
}

static int fill(struct mounts *m) {
	bool whole = m->n == 0 || !m->s->overlay.usable;
	if (m->snapshot && whole)
		return bound(m, upper(m, "fs"), true);
	if (!m->snapshot && m->n == 0)
		return bound(m, path(m, "layers", ".empty", "1"), false);
	if (!m->snapshot && m->n == 1)
		return bound(m, path(m, "layers", m->layers[0]->name, "fs"), false);
	return m->s->overlay.usable ? stacked(m) : -EOPNOTSUPP;
}

static void reply(struct mounts *m) {
	Bulkhead__MountList list = BULKHEAD__MOUNT_LIST__INIT;
	Grpc__Mount *one = &m->mount;
	m->mount.options = m->options;
	list.mounts = &one;
	list.n_mounts = 1;
	snapshot_mounts_reply(m->r, &list, NULL, 0);
}

void on_snapshot_mounts(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__SnapshotMountRequest *q) {
	struct mounts m = { .s = s, .r = r, .n = q->n_parents, .mount = GRPC__MOUNT__INIT };
	const struct layer **layers;
	char work[128];
	if (*q->key) {
		m.snapshot = snapshot_find(s, q->key);
		if (!m.snapshot || m.snapshot->copying) {
			msg_failf(r, FAULT_NOT_FOUND, "mounts of snapshot \"%.80s\": there is none of that name",
				  q->key);
			return;
		}
		snprintf(work, sizeof(work), "%s/%s/work", snapshot_room_name(m.snapshot), m.snapshot->key);
		overlay_mark_remove(work);
	}
	if (layers_resolve(s, r, q->parents, q->n_parents, &layers) < 0)
		return;
	m.layers = layers;
	int e = fill(&m);
	if (e == 0)
		reply(&m);
	else if (e == -EOPNOTSUPP)
		msg_failf(r, FAULT_UNIMPLEMENTED, "a view of %zu layers needs overlayfs, which this machine hasn't",
			  m.n);
	else
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "mounts of a snapshot: out of memory");
}
