/* Which snapshot a client's mounts are: those that Mounts gave, and no others. */
#include "base/log.h"
#include "metadata_lab.h"
#include "tap.h"
#include "workers/metadata/object/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct lab l;

#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define DISK "f00f"

static char *layers[] = { "sha256:" HEX_A, "commit:" HEX_B };

static void add(const char *key, Bulkhead__SnapshotKind kind, const char *disk, size_t n_layers) {
	Bulkhead__ObjectKey id = BULKHEAD__OBJECT_KEY__INIT;
	Bulkhead__Object o = BULKHEAD__OBJECT__INIT;
	Bulkhead__SnapshotBody body = BULKHEAD__SNAPSHOT_BODY__INIT;
	struct object *x;
	id.kind = BULKHEAD__OBJECT_KIND__OBJECT_SNAPSHOT;
	id.namespace_ = "default";
	id.key = (char *)(uintptr_t)key;
	body.kind = kind;
	body.disk = (char *)(uintptr_t)disk;
	body.layers = layers;
	body.n_layers = n_layers;
	o.id = &id;
	o.body_case = BULKHEAD__OBJECT__BODY_SNAPSHOT;
	o.snapshot = &body;
	if (object_add(&l.m.objects, &o, &x) < 0)
		abort();
}

/* "%" stands for the state root. */
static char *expand(const char *text) {
	static char buffers[8][512];
	static unsigned next;
	char *out = buffers[next++ % 8];
	size_t n = 0;
	for (; *text; text++)
		n += (size_t)(*text == '%' ? snprintf(out + n, 512 - n, "%s", l.config.state_root)
					   : snprintf(out + n, 512 - n, "%c", *text));
	return out;
}

static const char *found(const char *namespace, const char *type, const char *source, const char *o1, const char *o2,
			 const char *o3) {
	char *options[] = { expand(o1), expand(o2), expand(o3) };
	Grpc__Mount mount = GRPC__MOUNT__INIT, *list[] = { &mount };
	mount.type = (char *)(uintptr_t)type;
	mount.source = expand(source);
	mount.options = options;
	mount.n_options = 3;
	const struct object *x = snapshot_of_mounts(&l.m, namespace, list, 1);
	return x ? x->record->id->key : "";
}

#define UPPER "upperdir=%/layers/.writable/" DISK "/fs"
#define WORK "workdir=%/layers/.writable/" DISK "/work"
#define LOWER "lowerdir=%/layers/bbbbbbbbbbbb/fs:%/layers/aaaaaaaaaaaaa/fs"

static void test_overlay(void) {
	tap_check(strcmp(found("default", "overlay", "overlay", UPPER, WORK, LOWER), "active") == 0,
		  "an overlay is its active snapshot");
	tap_check(strcmp(found("default", "overlay", "overlay", LOWER, "ro", "index=off"), "view") == 0,
		  "without an upper folder it is the view");
	tap_check(!*found("other", "overlay", "overlay", UPPER, WORK, LOWER), "not in another namespace");
	tap_check(!*found("default", "overlay", "overlay", UPPER, WORK, "lowerdir=%/layers/bbbbbbbbbbbb/fs"),
		  "not with a layer less");
	tap_check(!*found("default", "overlay", "overlay", UPPER, WORK, LOWER ":%/layers/aaaaaaaaaaaa/fs"),
		  "not with a layer more");
	tap_check(!*found("default", "overlay", "overlay", UPPER, WORK,
			  "lowerdir=%/layers/aaaaaaaaaaaa/fs:%/layers/bbbbbbbbbbbb/fs"),
		  "not in another order");
	tap_check(!*found("default", "overlay", "overlay", UPPER, WORK,
			  "lowerdir=%/layers/bbbbbbbbbbbb/fs/etc:%/layers/aaaaaaaaaaaa/fs"),
		  "not with a part of a layer");
	tap_check(!*found("default", "overlay", "overlay", "upperdir=/tmp/x", WORK, LOWER),
		  "not with another upper folder");
	tap_check(!*found("default", "overlay", "overlay", UPPER, "workdir=/tmp/x", LOWER),
		  "not with another work folder");
	tap_check(!*found("default", "overlay", "overlay", UPPER, LOWER, "metacopy=on"), "not without a work folder");
	tap_check(!*found("default", "tmpfs", "overlay", UPPER, WORK, LOWER), "not as another file system");
}

static void test_bind(void) {
	tap_check(strcmp(found("default", "bind", "%/layers/.writable/base/fs", "rw", "rbind", "rbind"), "base") == 0,
		  "a bind of a folder without layers is its snapshot");
	tap_check(!*found("default", "bind", "%/layers/.writable/" DISK "/fs", "rw", "rbind", "rbind"),
		  "not when there are layers below it");
	tap_check(!*found("default", "bind", "%/layers/.writable/base/fs/etc", "rw", "rbind", "rbind"),
		  "not a part of it");
	tap_check(strcmp(found("default", "bind", "%/layers/aaaaaaaaaaaa/fs", "ro", "rbind", "rbind"), "one") == 0,
		  "a bind of one layer is its view");
	tap_check(!*found("default", "bind", "%/layers/aaaa/fs", "ro", "rbind", "rbind"), "not by too few digits");
	tap_check(strcmp(found("default", "bind", "%/layers/.empty/1", "ro", "rbind", "rbind"), "nothing") == 0,
		  "the empty folder is the view of nothing");
	tap_check(!*found("default", "bind", "/etc", "ro", "rbind", "rbind"), "any other folder is none");
}

int main(void) {
	log_init("test", getenv("V") ? LOG_DEBUG : LOG_ERROR + 1);
	lab_init(&l);
	add("active", BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_ACTIVE, DISK, 2);
	add("view", BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_VIEW, "", 2);
	add("base", BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_ACTIVE, "base", 0);
	add("one", BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_VIEW, "", 1);
	add("nothing", BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_VIEW, "", 0);
	test_overlay();
	test_bind();
	lab_deinit(&l);
	return tap_done();
}
