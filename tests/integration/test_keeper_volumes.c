/*
 * Mounts that come as descriptors beside the root: what a container gets of them,
 * which are refused, and that the keeper keeps none.
 */
#include "tests/integration/keeper_lab.h"
#include "tests/unit/tap.h"

#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CONTAINER BULKHEAD__NAMESPACE_MODE__CONTAINER
#define OPTIONS "rprivate ro nosuid nodev"

struct mounted {
	const char *destination, *number;
};

/* A root, a folder and a file, all detached. */
static void descriptors_make(int fds[3]) {
	fds[0] = lab_root();
	fds[1] = lab_root();
	fds[2] = (int)syscall(SYS_open_tree, AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

/* The fault's code. */
static int create(struct lab_pod *p, const char *id, const char *script, const struct mounted *mounts, size_t n,
		  char text[1100]) {
	Bulkhead__ContainerCreateRequest m = BULKHEAD__CONTAINER_CREATE_REQUEST__INIT;
	Bulkhead__TaskCreateRequest t = BULKHEAD__TASK_CREATE_REQUEST__INIT;
	const char *args[] = { "/bin/sh", "-c", script, NULL };
	struct lab_answer a;
	int fds[3];
	Grpc__Spec *spec = lab_spec(args);
	for (size_t i = 0; i < n; i++)
		lab_spec_mount(spec, mounts[i].destination, "image", mounts[i].number, OPTIONS);
	t.sandbox_id = p->id;
	t.container_id = (char *)id;
	t.spec = spec;
	t.pid_mode = CONTAINER;
	t.start = true;
	m.task = &t;
	descriptors_make(fds);
	LAB_CALL(p, container_create, &m, fds, 3, &a);
	for (size_t i = 0; i < 3; i++)
		close(fds[i]);
	snprintf(text, 1100, "%s", a.text);
	int code = a.code;
	lab_answer_deinit(&a);
	lab_spec_free(spec);
	return code;
}

static bool has_ended(void *pod) {
	return ((struct lab_pod *)pod)->n_exits > 0;
}

static unsigned open_in(pid_t pid) {
	char path[64];
	unsigned n = 0;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *d = opendir(path);
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

struct open_count {
	struct lab_pod *pod;
	unsigned before;
};

static bool open_as_before(void *ctx) {
	const struct open_count *c = ctx;
	return open_in(c->pod->keeper) == c->before;
}

/* What it closes by timer and when a child is gone counts too. */
static bool open_again(struct lab_pod *p, unsigned before) {
	struct open_count c = { .pod = p, .before = before };
	return lab_wait(p->lab, open_as_before, &c, 5);
}

static void test_given(struct lab_pod *p) {
	static const struct mounted mounts[] = { { "/file", "2" }, { "/made/here", "1" } };
	char text[1100];
	unsigned before = open_in(p->keeper);
	int code = create(p, "given",
			  "test -s /file || exit 2; test -x /made/here/bin/busybox || exit 3; "
			  "touch /made/here/x && exit 4; echo x >>/file && exit 5; "
			  "grep -q ' /made/here ro,nosuid,nodev' /proc/self/mountinfo || exit 6; "
			  "grep -q ' /file ro,nosuid,nodev' /proc/self/mountinfo || exit 7; exit 42",
			  mounts, 2, text);
	tap_check(code == 0, "a folder and a file come as descriptors: %s", text);
	tap_check(lab_wait(p->lab, has_ended, p, 10) && p->exits[0].code == 42, "and are mounted where they belong: %u",
		  p->exits[0].code);
	tap_check(lab_key(p, (lab_send_fn)container_delete_send, "given") == 0, "the container is deleted");
	tap_check(open_again(p, before), "the keeper has no descriptor of it left");
}

static void test_refused(struct lab_pod *p) {
	static const char *const numbers[] = { "0", "3", "", "1x", "-1", "18446744073709551617", "/" };
	unsigned before = open_in(p->keeper);
	char text[1100];
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct mounted mount = { "/vol", numbers[i] };
		int code = create(p, "refused", "exit 0", &mount, 1, text);
		tap_check(code == FAULT_INVALID_ARGUMENT && strstr(text, "mount \"/vol\""), "no descriptor \"%s\": %s",
			  numbers[i], text);
	}
	tap_check(open_again(p, before), "the keeper keeps nothing of what it refuses");
}

int main(void) {
	struct lab *l = lab_new();
	struct lab_pod *p = l ? lab_pod_new(l) : NULL;
	if (!p || !lab_pod_setup(p, "volumes")) {
		tap_skip("mounts as descriptors", "needs root and a built keeper");
		return tap_done();
	}
	test_given(p);
	test_refused(p);
	tap_check(lab_pod_teardown(p) && lab_pod_free(p), "the pod ends and leaves nothing");
	lab_free(l);
	return tap_done();
}
