#include "workers/metadata/object/snapshot.h"

#include "base/log.h"
#include "base/sha256.h"
#include "workers/metadata/gc.h"
#include "workers/metadata/metadata.h"
#include "workers/metadata/object/bus.h"
#include "workers/metadata/sweep.h"

#include <stdio.h>
#include <string.h>

#define ACTIVE BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_ACTIVE
#define VIEW BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_VIEW
#define COMMITTED BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_COMMITTED

#define EACH_SNAPSHOT(n, m) list_for_each_safe (n, &(m)->objects.lists[BULKHEAD__OBJECT_KIND__OBJECT_SNAPSHOT])

static struct object *object_of(struct list *n) {
	return list_entry(n, struct object, node);
}

static const Bulkhead__SnapshotBody *body_of(struct list *n) {
	return object_of(n)->record->snapshot;
}

/* --- by their mounts -------------------------------------------------------- */

/* What follows prefix; NULL when text doesn't begin so. */
static const char *after(const char *text, const char *prefix) {
	size_t n = strlen(prefix);
	return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

/* NAME of "<state root>/<room>/NAME/<part>", which ends at end; 0 when it is
 * another path. */
static size_t name_in(const struct metadata *m, const char *room, const char *part, const char *path, const char *end,
		      const char **ret_name) {
	char prefix[BOOT_PATH_MAX + 32];
	snprintf(prefix, sizeof(prefix), "%s/%s/", m->config->state_root, room);
	const char *name = after(path, prefix);
	if (!name)
		return 0;
	size_t n = strcspn(name, "/");
	size_t rest = strlen(part) + 1;
	if (name + n + rest != end || name[n] != '/' || strncmp(name + n + 1, part, rest - 1) != 0)
		return 0;
	*ret_name = name;
	return n;
}

/* The snapshot worker calls a layer by as many of its digits as it takes. */
static bool is_layer(const struct metadata *m, const char *id, const char *path, const char *end) {
	const char *name;
	size_t n = name_in(m, SNAPSHOT_LAYERS, "fs", path, end, &name);
	return n >= 12 && strncmp(strchr(id, ':') + 1, name, n) == 0;
}

/* A list of lowerdir: the layers, topmost first. */
static bool are_layers(const struct metadata *m, const Bulkhead__SnapshotBody *b, const char *list) {
	for (size_t i = b->n_layers; i-- > 0;) {
		const char *end = strchrnul(list, ':');
		if (!is_layer(m, b->layers[i], list, end))
			return false;
		if (!*end)
			return i == 0;
		list = end + 1;
	}
	return false;
}

struct shown {
	const char *lower, *upper, *work;
};

/* -1: an option that Mounts doesn't give. */
static int options_read(const Grpc__Mount *mount, struct shown *ret) {
	static const char *const harmless[] = { "index=off", "redirect_dir=off", "redirect_dir=nofollow", "ro", "rw",
						"rbind" };
	*ret = (struct shown){ 0 };
	for (size_t i = 0; i < mount->n_options; i++) {
		const char *o = mount->options[i], *value;
		bool known = false;
		if ((value = after(o, "lowerdir=")))
			ret->lower = value;
		else if ((value = after(o, "upperdir=")))
			ret->upper = value;
		else if ((value = after(o, "workdir=")))
			ret->work = value;
		for (size_t k = 0; k < ARRAY_SIZE(harmless); k++)
			known = known || strcmp(o, harmless[k]) == 0;
		if (!value && !known)
			return -1;
	}
	return 0;
}

static bool is_writable(const struct metadata *m, const char *disk, const char *part, const char *path) {
	const char *name;
	size_t n = name_in(m, SNAPSHOT_ROOM, part, path, path + strlen(path), &name);
	return n && strlen(disk) == n && strncmp(disk, name, n) == 0;
}

static bool shows_overlay(const struct metadata *m, const Bulkhead__SnapshotBody *b, const struct shown *s) {
	if (!s->lower || !are_layers(m, b, s->lower))
		return false;
	if (b->kind == VIEW)
		return !s->upper && !s->work && b->n_layers > 1;
	return s->upper && s->work && is_writable(m, b->disk, "fs", s->upper) &&
	       is_writable(m, b->disk, "work", s->work);
}

/* Without overlayfs an active snapshot is a whole tree. */
static bool shows_bind(const struct metadata *m, const Bulkhead__SnapshotBody *b, const char *source) {
	char empty[BOOT_PATH_MAX + 32];
	bool copies = m->info && strcmp(m->info->driver, "copy") == 0;
	if (b->kind == ACTIVE)
		return (b->n_layers == 0 || copies) && is_writable(m, b->disk, "fs", source);
	if (b->n_layers == 1)
		return is_layer(m, b->layers[0], source, source + strlen(source));
	snprintf(empty, sizeof(empty), "%s/" SNAPSHOT_EMPTY, m->config->state_root);
	return b->n_layers == 0 && strcmp(source, empty) == 0;
}

static bool shows(const struct metadata *m, const Bulkhead__SnapshotBody *b, const Grpc__Mount *mount) {
	struct shown s;
	if (b->kind == COMMITTED || options_read(mount, &s) < 0)
		return false;
	if (strcmp(mount->type, "overlay") == 0)
		return shows_overlay(m, b, &s);
	return strcmp(mount->type, "bind") == 0 && !s.lower && !s.upper && !s.work && shows_bind(m, b, mount->source);
}

const struct object *snapshot_of_mounts(struct metadata *m, const char *namespace, Grpc__Mount *const *mounts,
					size_t n) {
	if (n != 1 || (*mounts[0]->destination && strcmp(mounts[0]->destination, "/") != 0))
		return NULL;
	EACH_SNAPSHOT(node, m)
	if (strcmp(object_of(node)->record->id->namespace_, namespace) == 0 && shows(m, body_of(node), mounts[0]))
		return object_of(node);
	return NULL;
}

/* --- life ------------------------------------------------------------------- */

bool snapshot_chain_id(char *const *layers, size_t n, const char *diff_id, char ret_id[LAYER_ID_SIZE]) {
	char text[2 * LAYER_ID_SIZE + 1];
	if (!digest_valid(diff_id) || (n && !digest_valid(layers[n - 1])))
		return false;
	if (n == 0) {
		snprintf(ret_id, LAYER_ID_SIZE, "%s", diff_id);
		return true;
	}
	int size = snprintf(text, sizeof(text), "%s %s", layers[n - 1], diff_id);
	sha256_digest(text, (size_t)size, ret_id);
	return true;
}

int snapshot_drop(struct metadata *m, struct object *x) {
	char disk[ID_SIZE + 12];
	bool active = x->record->snapshot->kind == ACTIVE;
	snprintf(disk, sizeof(disk), "%s", x->record->snapshot->disk);
	int r = object_drop(&m->objects, x);
	if (r < 0)
		return r;
	if (active)
		sweep_snapshot(m, disk);
	gc_later(m);
	return 0;
}

void snapshot_tell(struct metadata *m, const char *what, const char *key, const Bulkhead__Object *record) {
	Bulkhead__BusEvent e = BULKHEAD__BUS_EVENT__INIT;
	char topic[32];
	snprintf(topic, sizeof(topic), "/snapshot/%s", what);
	e.topic = topic;
	e.namespace_ = record->id->namespace_;
	e.id = (char *)(uintptr_t)key;
	e.object = (Bulkhead__Object *)(uintptr_t)record;
	bus_tell_committed(&m->bus, object_base(record), &e);
}

int snapshot_remove_object(struct metadata *m, struct object *x) {
	snapshot_tell(m, "remove", x->record->id->key, x->record);
	return snapshot_drop(m, x);
}

int snapshot_may_delete(struct metadata *m, const struct object *x, struct fault *fault) {
	const Bulkhead__ObjectKey *id = x->record->id;
	EACH_SNAPSHOT(n, m) {
		const Bulkhead__ObjectKey *other = object_of(n)->record->id;
		if (strcmp(other->namespace_, id->namespace_) == 0 && strcmp(body_of(n)->parent, id->key) == 0)
			return fault_set(fault, FAULT_FAILED_PRECONDITION,
					 "snapshot \"%.200s\" can't be removed: \"%.200s\" is made on it", id->key,
					 other->key);
	}
	return 0;
}

struct object *snapshot_becoming(const struct metadata *m, const char *namespace, const char *name) {
	EACH_SNAPSHOT(n, m)
	if (body_of(n)->seal && strcmp(body_of(n)->seal->name, name) == 0 &&
	    strcmp(object_of(n)->record->id->namespace_, namespace) == 0)
		return object_of(n);
	return NULL;
}

/* --- garbage ---------------------------------------------------------------- */

struct object *snapshot_by_disk(const struct metadata *m, const char *disk) {
	EACH_SNAPSHOT(n, m)
	if (body_of(n)->kind == ACTIVE && strcmp(body_of(n)->disk, disk) == 0)
		return object_of(n);
	return NULL;
}

bool snapshot_seals(const struct metadata *m, const char *layer) {
	EACH_SNAPSHOT(n, m)
	if (body_of(n)->seal && strcmp(body_of(n)->seal->disk, layer) == 0)
		return true;
	return false;
}

void snapshots_each_layer(struct metadata *m, void (*fn)(struct metadata *m, char *const *ids, size_t n)) {
	EACH_SNAPSHOT(n, m) {
		const Bulkhead__SnapshotBody *b = body_of(n);
		fn(m, b->layers, b->n_layers);
		if (b->kind == COMMITTED)
			fn(m, &b->disk, 1);
		if (b->seal)
			fn(m, &b->seal->disk, 1);
	}
}

static bool has(char *const *list, size_t n, const char *id) {
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], id) == 0)
			return true;
	return false;
}

static void drop(struct metadata *m, struct object *x, const char *why) {
	log_event(LOG_WARN, "snapshot forgotten", "key", x->record->id->key, "namespace", x->record->id->namespace_,
		  "reason", why, NULL);
	int r = object_drop(&m->objects, x);
	if (r < 0)
		log_event(LOG_WARN, "record not deleted", "error", strerrordesc_np(-r), NULL);
}

/* Of one that has become a layer already the record was late. */
static bool is_made(const struct metadata *m, const char *disk) {
	EACH_SNAPSHOT(n, m)
	if (body_of(n)->kind == COMMITTED && strcmp(body_of(n)->made_of, disk) == 0)
		return true;
	return false;
}

static void compare_active(struct metadata *m, struct object *x, const Bulkhead__SnapshotListReply *there) {
	const Bulkhead__SnapshotBody *b = x->record->snapshot;
	if (is_made(m, b->disk)) {
		if (snapshot_drop(m, x) < 0)
			log_event(LOG_WARN, "record not deleted", "key", x->record->id->key, NULL);
	} else if (b->seal) {
		snapshot_seal_resume(m, x);
	} else if (!has(there->snapshots, there->n_snapshots, b->disk)) {
		drop(m, x, "its folder is gone");
	}
}

void snapshots_compare(struct metadata *m, const Bulkhead__SnapshotListReply *there) {
	EACH_SNAPSHOT(n, m) {
		struct object *x = object_of(n);
		if (x->op)
			continue;
		if (body_of(n)->kind == ACTIVE)
			compare_active(m, x, there);
		else if (body_of(n)->kind == COMMITTED && !has(there->layers, there->n_layers, body_of(n)->disk))
			drop(m, x, "its layer is gone");
	}
}
