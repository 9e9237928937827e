/* Objects in namespaces: their life, what is refused, and that they outlive the worker. */
#include "base/log.h"
#include "metadata_lab.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

static struct lab l;
static struct lab_call last;

#define KIND(name) BULKHEAD__OBJECT_KIND__OBJECT_##name

static const Bulkhead__ObjectKey *key(Bulkhead__ObjectKind kind, const char *namespace, const char *name) {
	static Bulkhead__ObjectKey k;
	bulkhead__object_key__init(&k);
	k.kind = kind;
	k.namespace_ = (char *)(uintptr_t) namespace;
	k.key = (char *)(uintptr_t)name;
	return &k;
}

static enum fault_code call(uint16_t number, const ProtobufCMessage *q) {
	lab_call_end(&last);
	lab_call(&l, number, q, &last);
	return last.fault.code;
}

static const Bulkhead__Object *get(Bulkhead__ObjectKind kind, const char *namespace, const char *name) {
	return call(MSG_object_get, &key(kind, namespace, name)->base) ? NULL : (const Bulkhead__Object *)last.reply;
}

static enum fault_code delete (Bulkhead__ObjectKind kind, const char *namespace, const char *name) {
	Bulkhead__ObjectDeleteRequest q = BULKHEAD__OBJECT_DELETE_REQUEST__INIT;
	q.id = (Bulkhead__ObjectKey *)(uintptr_t)key(kind, namespace, name);
	return call(MSG_object_delete, &q.base);
}

static size_t count(Bulkhead__ObjectKind kind, const char *namespace) {
	Bulkhead__ObjectListRequest q = BULKHEAD__OBJECT_LIST_REQUEST__INIT;
	q.kind = kind;
	q.namespace_ = (char *)(uintptr_t) namespace;
	return call(MSG_object_list, &q.base) ? 999 : ((const Bulkhead__ObjectList *)last.reply)->n_objects;
}

/* --- a container ------------------------------------------------------------ */

static Bulkhead__Object__LabelsEntry labels[2], *label_list[] = { &labels[0], &labels[1] };
static Bulkhead__Runtime runtime;
static Bulkhead__Typed spec;
static Bulkhead__ContainerBody body;
static Bulkhead__Object container;

static void container_fill(const char *namespace, const char *name) {
	bulkhead__object__labels_entry__init(&labels[0]);
	bulkhead__object__labels_entry__init(&labels[1]);
	labels[0].key = "app";
	labels[0].value = "shop";
	labels[1].key = "tier";
	labels[1].value = "web";
	bulkhead__runtime__init(&runtime);
	runtime.name = "io.containerd.runc.v2";
	bulkhead__typed__init(&spec);
	spec.type_url = "spec";
	spec.value = (ProtobufCBinaryData){ .data = (uint8_t *)"{}", .len = 2 };
	bulkhead__container_body__init(&body);
	body.image = "busybox";
	body.runtime = &runtime;
	body.spec = &spec;
	bulkhead__object__init(&container);
	container.id = (Bulkhead__ObjectKey *)(uintptr_t)key(KIND(CONTAINER), namespace, name);
	container.labels = label_list;
	container.n_labels = 2;
	container.body_case = BULKHEAD__OBJECT__BODY_CONTAINER;
	container.container = &body;
}

static enum fault_code create(const char *namespace, const char *name) {
	container_fill(namespace, name);
	return call(MSG_object_create, &container.base);
}

static enum fault_code update(const char *path) {
	Bulkhead__ObjectUpdateRequest q = BULKHEAD__OBJECT_UPDATE_REQUEST__INIT;
	char *paths[] = { (char *)(uintptr_t)path };
	q.object = &container;
	q.paths = paths;
	q.n_paths = path ? 1 : 0;
	return call(MSG_object_update, &q.base);
}

/* --- tests ------------------------------------------------------------------ */

static void test_life(void) {
	lab_init(&l);
	tap_check(!get(KIND(CONTAINER), "default", "web") && last.fault.code == FAULT_NOT_FOUND &&
		      strcmp(last.fault.text, "container \"web\" in namespace \"default\": not found") == 0,
		  "what isn't there is NOT_FOUND, in a sentence");
	tap_check(create("default", "web") == FAULT_NONE, "a container is made");
	tap_check(((const Bulkhead__Object *)last.reply)->created_at > 0, "the answer has its time");
	tap_check(get(KIND(NAMESPACE), "", "default") != NULL, "its namespace is there now");
	lab_turns(&l, 1);
	tap_check(create("other", "web") == FAULT_NONE && count(KIND(CONTAINER), "default") == 1 &&
		      count(KIND(CONTAINER), "other") == 1,
		  "the same id in another namespace is another container");
	lab_restart(&l);
	const Bulkhead__Object *o = get(KIND(CONTAINER), "default", "web");
	tap_check(o && o->n_labels == 2 && strcmp(o->container->image, "busybox") == 0 &&
		      o->container->spec->value.len == 2,
		  "it outlives the worker, whole");
	tap_check(delete (KIND(NAMESPACE), "", "default") == FAULT_FAILED_PRECONDITION &&
		      strstr(last.fault.text, "still has containers"),
		  "a namespace with something in it stays: %s", last.fault.text);
	tap_check(delete (KIND(CONTAINER), "default", "web") == FAULT_NONE && !get(KIND(CONTAINER), "default", "web"),
		  "it is deleted");
	tap_check(delete (KIND(CONTAINER), "default", "web") == FAULT_NOT_FOUND, "once");
	tap_check(delete (KIND(NAMESPACE), "", "default") == FAULT_NONE, "and then its namespace, too");
	lab_restart(&l);
	tap_check(count(KIND(CONTAINER), "default") == 0 && count(KIND(CONTAINER), "other") == 1 &&
		      count(KIND(NAMESPACE), "") == 2,
		  "what was deleted doesn't come back");
	lab_deinit(&l);
}

static void test_again(void) {
	lab_init(&l);
	create("default", "web");
	container_fill("default", "web");
	container.made_by = 4711; /* the client's word doesn't count */
	tap_check(call(MSG_object_create, &container.base) == FAULT_ALREADY_EXISTS &&
		      strstr(last.fault.text, "already exists"),
		  "the same id again is ALREADY_EXISTS");
	lab_deinit(&l);
}

static void test_update(void) {
	lab_init(&l);
	create("default", "web");
	int64_t before = ((const Bulkhead__Object *)last.reply)->updated_at;
	container_fill("default", "web");
	labels[0].value = "bank";
	labels[1].value = "db";
	body.image = "nginx";
	tap_check(update("labels.app") == FAULT_NONE, "one label is updated");
	const Bulkhead__Object *o = get(KIND(CONTAINER), "default", "web");
	const char *app = NULL, *tier = NULL;
	for (size_t i = 0; o && i < o->n_labels; i++)
		*(strcmp(o->labels[i]->key, "app") == 0 ? &app : &tier) = o->labels[i]->value;
	tap_check(app && tier && strcmp(app, "bank") == 0 && strcmp(tier, "web") == 0 &&
		      strcmp(o->container->image, "busybox") == 0 && o->updated_at > before,
		  "and nothing else is");
	container_fill("default", "web");
	container.n_labels = 1;
	tap_check(update("labels.tier") == FAULT_NONE && (o = get(KIND(CONTAINER), "default", "web")) &&
		      o->n_labels == 1,
		  "a label that the update hasn't got is taken away");
	body.image = "nginx";
	tap_check(update(NULL) == FAULT_NONE && (o = get(KIND(CONTAINER), "default", "web")) &&
		      strcmp(o->container->image, "nginx") == 0 && o->n_labels == 1,
		  "without a mask all that may change does");
	body.snapshot_key = "k";
	tap_check(update("snapshotkey") == FAULT_INVALID_ARGUMENT && strstr(last.fault.text, "needs a snapshotter"),
		  "an update is checked as a creation is: %s", last.fault.text);
	tap_check(update("runtime") == FAULT_INVALID_ARGUMENT && strstr(last.fault.text, "can't be updated"),
		  "the runtime can't be changed: %s", last.fault.text);
	tap_check(update("labels.") == FAULT_INVALID_ARGUMENT, "a path without its key is refused");
	lab_restart(&l);
	o = get(KIND(CONTAINER), "default", "web");
	tap_check(o && strcmp(o->container->image, "nginx") == 0, "an update outlives the worker");
	lab_deinit(&l);
}

static size_t n_labels(Bulkhead__ObjectKind kind, const char *namespace, const char *name) {
	const Bulkhead__Object *o = get(kind, namespace, name);
	return o ? o->n_labels : 999;
}

/* As containerd's boltutil.WriteLabels, whatever the kind, and its namespaces' SetLabel. */
static void test_label_without_value(void) {
	lab_init(&l);
	container_fill("default", "web");
	labels[1].value = "";
	tap_check(call(MSG_object_create, &container.base) == FAULT_NONE &&
		      ((const Bulkhead__Object *)last.reply)->n_labels == 1 &&
		      n_labels(KIND(CONTAINER), "default", "web") == 1,
		  "a label that is created without a value isn't there");
	container_fill("default", "web");
	tap_check(update("labels.tier") == FAULT_NONE && n_labels(KIND(CONTAINER), "default", "web") == 2,
		  "with a value it is");
	labels[0].value = "";
	labels[1].value = "db";
	tap_check(update("labels.app") == FAULT_NONE && ((const Bulkhead__Object *)last.reply)->n_labels == 1 &&
		      strcmp(((const Bulkhead__Object *)last.reply)->labels[0]->value, "web") == 0,
		  "set to none by its path it is away, and the other as it was");
	tap_check(update("labels") == FAULT_NONE && n_labels(KIND(CONTAINER), "default", "web") == 1,
		  "and in an update of all labels");
	lab_restart(&l);
	tap_check(n_labels(KIND(CONTAINER), "default", "web") == 1, "nor is it there after a restart");

	container_fill("", "shop");
	container.id = (Bulkhead__ObjectKey *)(uintptr_t)key(KIND(NAMESPACE), "", "shop");
	container.body_case = BULKHEAD__OBJECT__BODY__NOT_SET;
	tap_check(call(MSG_object_create, &container.base) == FAULT_NONE && n_labels(KIND(NAMESPACE), "", "shop") == 2,
		  "a namespace has two labels");
	labels[0].value = "";
	tap_check(update("labels.app") == FAULT_NONE && n_labels(KIND(NAMESPACE), "", "shop") == 1,
		  "of which one is taken away likewise");
	lab_deinit(&l);
}

static void test_refused(void) {
	char big[OBJECT_LABEL_MAX + 1];
	lab_init(&l);
	tap_check(create("default", "a b") == FAULT_INVALID_ARGUMENT, "an id with a blank: %s", last.fault.text);
	tap_check(create("", "web") == FAULT_INVALID_ARGUMENT, "no namespace: %s", last.fault.text);
	tap_check(create("../x", "web") == FAULT_INVALID_ARGUMENT, "a namespace that is none: %s", last.fault.text);
	container_fill("default", "web");
	runtime.name = "";
	tap_check(call(MSG_object_create, &container.base) == FAULT_INVALID_ARGUMENT, "no runtime: %s",
		  last.fault.text);
	container_fill("default", "web");
	body.spec = NULL;
	tap_check(call(MSG_object_create, &container.base) == FAULT_INVALID_ARGUMENT, "no spec: %s", last.fault.text);
	container_fill("default", "web");
	body.snapshot_key = "k";
	tap_check(call(MSG_object_create, &container.base) == FAULT_INVALID_ARGUMENT, "no snapshotter: %s",
		  last.fault.text);
	container_fill("default", "web");
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	labels[0].value = big;
	tap_check(call(MSG_object_create, &container.base) == FAULT_INVALID_ARGUMENT, "a label too long: %s",
		  last.fault.text);
	container_fill("default", "web");
	container.body_case = BULKHEAD__OBJECT__BODY__NOT_SET;
	tap_check(call(MSG_object_create, &container.base) == FAULT_INVALID_ARGUMENT, "no body: %s", last.fault.text);
	tap_check(count(KIND(NAMESPACE), "") == 1, "nothing was left behind but the namespace of the CRI");
	lab_deinit(&l);
}

static void test_lease(void) {
	Bulkhead__LeaseBody lease = BULKHEAD__LEASE_BODY__INIT;
	Bulkhead__Object o = BULKHEAD__OBJECT__INIT;
	Bulkhead__LeaseResource one = BULKHEAD__LEASE_RESOURCE__INIT;
	Bulkhead__LeaseChangeRequest q = BULKHEAD__LEASE_CHANGE_REQUEST__INIT;
	const Bulkhead__Object *now;
	lab_init(&l);
	o.id = (Bulkhead__ObjectKey *)(uintptr_t)key(KIND(LEASE), "default", "pull 1");
	o.body_case = BULKHEAD__OBJECT__BODY_LEASE;
	o.lease = &lease;
	tap_check(call(MSG_object_create, &o.base) == FAULT_NONE, "a lease is made");
	one.id = "sha256:1";
	one.type = "content";
	q.namespace_ = "default";
	q.lease = "pull 1";
	q.resource = &one;
	tap_check(call(MSG_lease_change, &q.base) == FAULT_NONE && call(MSG_lease_change, &q.base) == FAULT_NONE &&
		      (now = get(KIND(LEASE), "default", "pull 1")) && now->lease->n_resources == 1,
		  "a resource is added once, however often");
	lab_restart(&l);
	now = get(KIND(LEASE), "default", "pull 1");
	tap_check(now && now->lease->n_resources == 1 && strcmp(now->lease->resources[0]->id, "sha256:1") == 0,
		  "it is there after a restart");
	q.remove = true;
	tap_check(call(MSG_lease_change, &q.base) == FAULT_NONE && call(MSG_lease_change, &q.base) == FAULT_NONE &&
		      (now = get(KIND(LEASE), "default", "pull 1")) && now->lease->n_resources == 0,
		  "and taken away");
	one.type = "";
	tap_check(call(MSG_lease_change, &q.base) == FAULT_INVALID_ARGUMENT, "a resource has a type: %s",
		  last.fault.text);
	q.lease = "none";
	tap_check(call(MSG_lease_change, &q.base) == FAULT_NOT_FOUND, "a lease that isn't there: %s", last.fault.text);
	lab_deinit(&l);
}

int main(void) {
	log_init("test", getenv("V") ? LOG_DEBUG : LOG_ERROR + 1);
	test_life();
	test_again();
	test_update();
	test_label_without_value();
	test_refused();
	test_lease();
	lab_call_end(&last);
	return tap_done();
}
