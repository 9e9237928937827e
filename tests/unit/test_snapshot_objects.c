/* Snapshots as objects: what becomes of folders and layers, also when a worker is gone between two steps. */
#include "base/log.h"
#include "metadata_lab.h"
#include "tap.h"
#include "workers/metadata/gc.h"
#include "workers/metadata/object/snapshot.h"

#include <stdlib.h>
#include <string.h>

static struct lab l;
static struct lab_call last;

#define NS "default"
#define DIFF "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define BLOB "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define SNAPSHOT BULKHEAD__OBJECT_KIND__OBJECT_SNAPSHOT
#define ACTIVE BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_ACTIVE
#define VIEW BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_VIEW
#define COMMITTED BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_COMMITTED

static enum fault_code call(uint16_t number, const ProtobufCMessage *q) {
	lab_call_end(&last);
	lab_call(&l, number, q, &last);
	return last.fault.code;
}

static Bulkhead__ObjectKey *key(const char *name) {
	static Bulkhead__ObjectKey k;
	k = object_key_of(SNAPSHOT, NS, name);
	return &k;
}

static Bulkhead__SnapshotMakeRequest make_request(const char *name, Bulkhead__SnapshotKind kind, const char *parent) {
	Bulkhead__SnapshotMakeRequest q = BULKHEAD__SNAPSHOT_MAKE_REQUEST__INIT;
	q.id = key(name);
	q.kind = kind;
	q.parent = (char *)(uintptr_t)parent;
	return q;
}

static enum fault_code make(const char *name, Bulkhead__SnapshotKind kind, const char *parent) {
	const Bulkhead__SnapshotMakeRequest q = make_request(name, kind, parent);
	return call(MSG_snapshot_make, &q.base);
}

static enum fault_code make_for(const char *name, const char *parent, const char *target) {
	Bulkhead__SnapshotMakeRequest q = make_request(name, ACTIVE, parent);
	Bulkhead__SnapshotMakeRequest__LabelsEntry label = BULKHEAD__SNAPSHOT_MAKE_REQUEST__LABELS_ENTRY__INIT;
	Bulkhead__SnapshotMakeRequest__LabelsEntry *list = &label;
	label.key = (char *)"containerd.io/snapshot.ref";
	label.value = (char *)(uintptr_t)target;
	q.labels = &list;
	q.n_labels = 1;
	return call(MSG_snapshot_make, &q.base);
}

static Bulkhead__SnapshotSealRequest seal_request(const char *name, const char *to) {
	Bulkhead__SnapshotSealRequest q = BULKHEAD__SNAPSHOT_SEAL_REQUEST__INIT;
	q.id = key(name);
	q.name = (char *)(uintptr_t)to;
	return q;
}

static enum fault_code seal(const char *name, const char *to) {
	const Bulkhead__SnapshotSealRequest q = seal_request(name, to);
	return call(MSG_snapshot_seal, &q.base);
}

static enum fault_code drop(const char *name) {
	Bulkhead__ObjectDeleteRequest q = BULKHEAD__OBJECT_DELETE_REQUEST__INIT;
	q.id = key(name);
	enum fault_code code = call(MSG_object_delete, &q.base);
	lab_turns(&l, 5);
	return code;
}

static const Bulkhead__SnapshotBody *body(const char *name) {
	const struct object *x = object_find(&l.m.objects, SNAPSHOT, NS, name);
	return x ? x->record->snapshot : NULL;
}

/* The blob as content of the namespace, then applied onto name. */
static enum fault_code apply(const char *name, const char *diff_id) {
	Bulkhead__DiffApplyRequest q = BULKHEAD__DIFF_APPLY_REQUEST__INIT;
	Bulkhead__Descriptor blob = BULKHEAD__DESCRIPTOR__INIT;
	Bulkhead__ObjectKey id = object_key_of(BULKHEAD__OBJECT_KIND__OBJECT_CONTENT, NS, BLOB);
	Bulkhead__ContentBody content = BULKHEAD__CONTENT_BODY__INIT;
	Bulkhead__Object o = BULKHEAD__OBJECT__INIT;
	Grpc__Mount mount = GRPC__MOUNT__INIT, *mounts = &mount;
	char source[256];
	struct object *x;
	o.id = &id;
	o.body_case = BULKHEAD__OBJECT__BODY_CONTENT;
	o.content = &content;
	if (!object_find(&l.m.objects, id.kind, NS, BLOB) && object_add(&l.m.objects, &o, &x) < 0)
		abort();
	snprintf(source, sizeof(source), "%s/layers/.writable/%s/fs", l.config.state_root, body(name)->disk);
	mount.type = (char *)"bind";
	mount.source = source;
	blob.digest = (char *)BLOB;
	blob.media_type = (char *)"application/vnd.oci.image.layer.v1.tar";
	l.diff_id = diff_id;
	q.namespace_ = (char *)NS;
	q.diff = &blob;
	q.mounts = &mounts;
	q.n_mounts = 1;
	return call(MSG_diff_apply, &q.base);
}

static void end(void) {
	lab_call_end(&last);
	lab_deinit(&l);
}

/* --- tests ------------------------------------------------------------------ */

static void test_life(void) {
	lab_init(&l);
	tap_check(make("a", ACTIVE, "") == FAULT_NONE && l.snapshots.n == 1, "an active one has a folder");
	tap_check(last.reply && ((const Bulkhead__MountList *)last.reply)->n_mounts == 1, "and mounts");
	tap_check(make("a", ACTIVE, "") == FAULT_ALREADY_EXISTS, "its key is taken: %s", last.fault.text);
	tap_check(make("b", ACTIVE, "none") == FAULT_NOT_FOUND && !body("b"), "no parent, no snapshot: %s",
		  last.fault.text);
	tap_check(make("b", ACTIVE, "a") == FAULT_INVALID_ARGUMENT, "a parent is committed: %s", last.fault.text);
	tap_check(seal("a", "A") == FAULT_NONE && !body("a") && body("A") && l.snapshots.n == 0 && l.layers.n == 1,
		  "committed, the folder is a layer");
	tap_check(strncmp(body("A")->disk, "commit:", 7) == 0, "of an id that is no chain id: %s", body("A")->disk);
	tap_check(make("v", VIEW, "A") == FAULT_NONE && l.snapshots.n == 0, "a view has no folder");
	tap_check(seal("v", "V") == FAULT_FAILED_PRECONDITION, "and isn't committed: %s", last.fault.text);
	tap_check(drop("A") == FAULT_FAILED_PRECONDITION, "what others are made on stays: %s", last.fault.text);
	lab_restart(&l);
	lab_turns(&l, 10);
	tap_check(body("A") && body("v") && l.layers.n == 1, "all of it outlives the worker");
	tap_check(drop("v") == FAULT_NONE && drop("A") == FAULT_NONE, "they go, topmost first");
	gc_layers(&l.m, NULL, NULL);
	lab_turns(&l, 10);
	tap_check(l.layers.n == 0 && l.m.model.layer_ids.n_nodes == 0, "and the layer with them");
	end();
}

static void test_chain(void) {
	char first[LAYER_ID_SIZE], second[LAYER_ID_SIZE];
	char *below[] = { (char *)DIFF };
	lab_init(&l);
	tap_check(snapshot_chain_id(NULL, 0, DIFF, first) && strcmp(first, DIFF) == 0,
		  "of one layer it is the diff id");
	tap_check(snapshot_chain_id(below, 1, DIFF, second) && strcmp(first, second) != 0, "of two it is another");
	below[0] = (char *)"commit:1111111111111111111111111111111111111111111111111111111111111111";
	tap_check(!snapshot_chain_id(below, 1, DIFF, second), "on what has none there is none");
	make("a", ACTIVE, "");
	l.changed_at = 1000;
	tap_check(apply("a", DIFF) == FAULT_NONE && seal("a", "A") == FAULT_NONE && strcmp(body("A")->disk, DIFF) == 0,
		  "what was applied and not touched has its chain id");
	make("b", ACTIVE, "");
	apply("b", DIFF);
	l.journal[0] = '\0';
	tap_check(seal("b", "B") == FAULT_NONE && strcmp(body("B")->disk, DIFF) == 0 && l.layers.n == 1 &&
		      !strstr(l.journal, "snapshot_commit"),
		  "the same again shares the layer");
	lab_turns(&l, 5);
	tap_check(l.snapshots.n == 0, "and its folder goes");
	make("c", ACTIVE, "");
	apply("c", DIFF);
	l.changed_at = 1001;
	tap_check(seal("c", "C") == FAULT_NONE && strcmp(body("C")->disk, DIFF) != 0 && l.layers.n == 2,
		  "what was touched since is its own");
	tap_check(make_for("d", "", DIFF) == FAULT_ALREADY_EXISTS && !body("d") && body(DIFF) &&
		      body(DIFF)->kind == COMMITTED,
		  "a layer that is here is a snapshot at once: %s", last.fault.text);
	tap_check(make_for("e", "C", DIFF) == FAULT_ALREADY_EXISTS, "that name is taken now: %s", last.fault.text);
	tap_check(drop(DIFF) == FAULT_NONE && make_for("e", "C", DIFF) == FAULT_NONE, "not on another parent");
	end();
}

static void test_failures(void) {
	lab_init(&l);
	l.row[MSG_snapshot_prepare].fail = 1;
	l.row[MSG_snapshot_prepare].code = FAULT_RESOURCE_EXHAUSTED;
	tap_check(make("a", ACTIVE, "") == FAULT_RESOURCE_EXHAUSTED && !body("a"), "no folder, no snapshot: %s",
		  last.fault.text);
	tap_check(make("a", ACTIVE, "") == FAULT_NONE, "the next try succeeds");
	l.row[MSG_snapshot_commit].fail = 1;
	l.row[MSG_snapshot_commit].code = FAULT_RESOURCE_EXHAUSTED;
	tap_check(seal("a", "A") == FAULT_RESOURCE_EXHAUSTED && body("a") && !body("a")->seal && !body("A"),
		  "a commit that fails leaves it active: %s", last.fault.text);
	tap_check(seal("a", "A") == FAULT_NONE && body("A"), "the next try succeeds");
	make("b", ACTIVE, "A");
	tap_check(seal("b", "A") == FAULT_ALREADY_EXISTS && body("b"), "the name is taken: %s", last.fault.text);
	tap_check(seal("none", "B") == FAULT_NOT_FOUND, "there is no such: %s", last.fault.text);
	end();
}

/* The metadata worker dies while a row is under way. */
static void begin_held(uint16_t held, uint16_t number, const ProtobufCMessage *q, struct lab_call *c) {
	l.row[held].hold = true;
	lab_send(&l, number, q, c);
	lab_turns(&l, 10);
	l.row[held].hold = false;
}

static void test_crash(void) {
	struct lab_call c = { 0 };
	lab_init(&l);
	const Bulkhead__SnapshotMakeRequest q = make_request("a", ACTIVE, "");
	begin_held(MSG_snapshot_prepare, MSG_snapshot_make, &q.base, &c);
	tap_check(!c.done && body("a") && l.snapshots.n == 0, "a folder is under way");
	lab_restart(&l);
	lab_turns(&l, 10);
	lab_wait(&l, &c);
	tap_check((c.fault.code == FAULT_NONE) == (body("a") != NULL) && l.snapshots.n == (body("a") != NULL),
		  "after a restart there is both or neither");
	lab_call_end(&c);
	if (!body("a"))
		make("a", ACTIVE, "");
	c = (struct lab_call){ 0 };
	const Bulkhead__SnapshotSealRequest s = seal_request("a", "A");
	begin_held(MSG_snapshot_commit, MSG_snapshot_seal, &s.base, &c);
	tap_check(!c.done && body("a") && body("a")->seal, "a commit is under way, and recorded");
	lab_restart(&l);
	lab_turns(&l, 20);
	tap_check(!body("a") && body("A") && body("A")->kind == COMMITTED && l.layers.n == 1 && l.snapshots.n == 0,
		  "after a restart it is done");
	lab_wait(&l, &c);
	lab_call_end(&c);
	make("b", ACTIVE, "A");
	char disk[80];
	snprintf(disk, sizeof(disk), "%s", body("b")->disk);
	l.snapshots.n = 0; /* the disk has lost it */
	lab_restart(&l);
	lab_turns(&l, 10);
	tap_check(!body("b") && body("A"), "an object whose folder is gone goes, too");
	l.layers.n = 0;
	lab_restart(&l);
	lab_turns(&l, 10);
	tap_check(!body("A"), "so does one whose layer is gone");
	end();
}

int main(void) {
	log_init("test", getenv("V") ? LOG_DEBUG : LOG_ERROR + 1);
	test_life();
	test_chain();
	test_failures();
	test_crash();
	return tap_done();
}
