/*
 * Objects in namespaces: what containerd's clients keep with the daemon
 * (containers, images, content, snapshots, leases, sandboxes, and the
 * namespaces themselves), in memory and in the store. One form for all kinds;
 * what a kind has of its own is its row in kinds.c.
 *
 * What the CRI has made is not here: the namespace "k8s.io" shows it through
 * views, so nothing exists twice.
 *
 * Invariants: a key is unique among its kind and namespace; an object's
 * namespace exists as long as it does; the record in memory is the one in the
 * store, or on its way there.
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "base/list.h"
#include "base/map.h"
#include "internal/object.pb-c.h"
#include "internal/record.pb-c.h"
#include "workers/metadata/store/store.h"

#define OBJECT_KINDS 9
#define NAMESPACE_CRI "k8s.io"

struct link;
struct metadata;
struct msg_request;
struct bus;
struct op;

struct object {
	struct list node; /* objects.lists[kind], oldest first */
	struct map_node by_name;
	struct arena arena;
	Bulkhead__Object *record;
	struct op *op;		 /* the one that changes it now */
	bool marked;		 /* during a collection */
	const struct link *link; /* of a lease that is tied: whose end is its end */
};

struct objects {
	struct store *store;
	struct bus *bus; /* what is added, replaced and dropped is told there */
	struct list lists[OBJECT_KINDS];
	struct map names;
};

/* What is special about a kind. */
struct object_kind {
	const char *name;  /* "container" */
	const char *many;  /* "containers" */
	const char *topic; /* of its events: "/containers"; NULL: it has none */
	Bulkhead__Object__BodyCase body;
	bool key_is_id; /* of id_valid's grammar; else any text of at most OBJECT_KEY_MAX bytes */
	bool key_is_digest;
	bool outlives_boot;   /* in the store that is synced before the answer */
	const char *resource; /* its type among a lease's resources; NULL: no lease holds it */
	/* Beside key and labels. May be NULL. */
	int (*check)(const Bulkhead__Object *o, struct fault *fault);
	/* Takes what path names (never labels) from one record into the other by
	 * pointer; arena is for what must be built. 0, -ENOENT when the path names
	 * nothing that may change, -ENOMEM. NULL: nothing but labels changes. */
	int (*take)(Bulkhead__Object *to, const Bulkhead__Object *from, const char *path, struct arena *a);
	/* All paths of an update that names none; ends with NULL. */
	const char *const *paths;
	/* Refuses to let it go. May be NULL. */
	int (*may_delete)(struct metadata *m, const struct object *o, struct fault *fault);
};
#define OBJECT_KEY_MAX 1024
#define OBJECT_LABEL_MAX 4096 /* key and value together, as containerd has it */

/* NULL for a number that is none. */
const struct object_kind *object_kind(Bulkhead__ObjectKind kind);

void objects_init(struct objects *o);
void objects_deinit(struct objects *o);
/* A record of an earlier process: -EBADMSG when it is none, -EEXIST, -ENOMEM. */
int objects_load(struct objects *o, const Bulkhead__Object *record);

/* NULL: there is none. */
struct object *object_find(const struct objects *o, Bulkhead__ObjectKind kind, const char *namespace, const char *key);
/* The namespace is made when it is missing; the lease that the record names
 * holds it from now on. -EEXIST, -ENOLCK (there is no such lease), -EFBIG,
 * -ENOMEM: nothing has changed. */
int object_add(struct objects *o, const Bulkhead__Object *record, struct object **ret_object) NODISCARD;
/* It is there from now on. */
int object_namespace(struct objects *o, const char *namespace) NODISCARD;
/* record may point into the one that it replaces; its id is the object's. */
int object_replace(struct objects *o, struct object *x, const Bulkhead__Object *record) NODISCARD;
/* The object is freed. */
int object_drop(struct objects *o, struct object *x) NODISCARD;
/* The lease holds it from now on, if it is something to hold. "": no lease;
 * -ENOLCK: there is none of that name. */
int object_hold(struct objects *o, const char *lease, const Bulkhead__ObjectKey *id) NODISCARD;
/* No lease holds it any more. */
void object_release(struct objects *o, const Bulkhead__ObjectKey *id);
/* The link has ended: so do the leases that are tied to it, and what they held
 * goes soon. NULL: those of an earlier process, whose makers' calls have failed. */
void leases_end(struct metadata *m, const struct link *l);
/* Where waiters for a change of it wait. */
enum store_base object_base(const Bulkhead__Object *record);

/* The label's value; NULL when there is none. */
const char *object_label(const Bulkhead__Object *o, const char *key);
/* A copy as it is kept: to give a label no value is to take it away, in a
 * creation as in an update, as containerd has it. NULL: out of memory. */
Bulkhead__Object *object_kept(struct arena *a, const Bulkhead__Object *record);

/* --- checks, in kinds.c --- */

/* Everything that holds for any object: id, labels, body. */
int object_check(const Bulkhead__Object *o, struct fault *fault) NODISCARD;
int object_key_check(const Bulkhead__ObjectKey *id, struct fault *fault) NODISCARD;
/* "container "web" in namespace "default"", for sentences. */
#define OBJECT_TEXT_MAX 256
const char *object_text(const Bulkhead__ObjectKey *id, char ret_text[OBJECT_TEXT_MAX]);
/* old with what paths (all when there are none) say of new; in the arena, but
 * for what still points into either. */
int object_merge(const Bulkhead__Object *old, const Bulkhead__Object *new, char *const *paths, size_t n_paths,
		 struct arena *a, Bulkhead__Object **ret_merged, struct fault *fault) NODISCARD;

/* --- snapshot.c (see snapshot.h) --- */

/* The snapshot object that mounts are of, as Snapshots gave them out; NULL:
 * they are the client's own. */
const struct object *snapshot_of_mounts(struct metadata *m, const char *namespace, Grpc__Mount *const *mounts,
					size_t n);

/* --- for what isn't a row of requests.c, which has them --- */

/* What is shown under that id, a view perhaps, in the arena; NULL: nothing. */
const Bulkhead__Object *object_look(struct metadata *m, struct arena *a, const Bulkhead__ObjectKey *id);
/* Answers once the changes in base are committed: with a copy of reply, or
 * empty when that is NULL. */
void object_answer(struct metadata *m, struct msg_request *r, enum store_base base, const ProtobufCMessage *reply);
void object_fail_missing(struct msg_request *r, const Bulkhead__ObjectKey *id);
/* A change couldn't be made: what object_add and its kin return. */
void object_fail_store(struct msg_request *r, const Bulkhead__ObjectKey *id, int e);
static inline Bulkhead__ObjectKey object_key_of(Bulkhead__ObjectKind kind, const char *namespace, const char *key) {
	Bulkhead__ObjectKey id = BULKHEAD__OBJECT_KEY__INIT;
	id.kind = kind;
	id.namespace_ = (char *)(uintptr_t) namespace;
	id.key = (char *)(uintptr_t)key;
	return id;
}

/* --- views, in views.c --- */

/* Objects of NAMESPACE_CRI that stand for what the CRI has made. Built in the
 * arena; NULL when there is none or out of memory. */
struct object_view {
	Bulkhead__Object *(*get)(struct metadata *m, struct arena *a, const char *key);
	/* An array of n in the arena. */
	size_t (*list)(struct metadata *m, struct arena *a, Bulkhead__Object ***ret_list);
};
/* A blob of the image as content, with the labels that containerd would give it;
 * in the arena, and pointing into the record. */
Bulkhead__Object *view_content(struct arena *a, const Bulkhead__ImageRecord *r, const char *namespace,
			       const Bulkhead__Descriptor *d);
/* The image that shows under the key; NULL: none. */
struct image *view_image_named(struct metadata *m, const char *key);
extern const struct object_view container_view;
/* What became of a container, or a pod, told to those who follow events: after
 * the change was put in STORE_PODS, once that is committed. */
enum container_news { CONTAINER_NEWS_MADE, CONTAINER_NEWS_CHANGED, CONTAINER_NEWS_GONE };
struct container;
struct sandbox;
void container_view_tell(struct metadata *m, enum container_news news, const struct container *c);
void sandbox_view_tell(struct metadata *m, enum container_news news, const struct sandbox *s);
/* For those who make them: an object without labels and body, NULL when out of
 * memory; room for labels, and each of them, of which one is missing then. */
Bulkhead__Object *object_view_new(struct arena *a, Bulkhead__ObjectKind kind, const char *namespace, const char *key,
				  int64_t at);
void object_labels_begin(struct arena *a, Bulkhead__Object *o, size_t room);
void object_label_add(struct arena *a, Bulkhead__Object *o, const char *key, const char *value);
/* NULL: the kind has none. */
const struct object_view *object_view(Bulkhead__ObjectKind kind);
