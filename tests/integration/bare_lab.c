#include "tests/integration/bare_lab.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

const char *bare_root(struct lab *l) {
	static char path[128];
	snprintf(path, sizeof(path), "%s/root", l->dir);
	if (mkdir(path, 0755) == 0) {
		int root = open(path, O_PATH | O_DIRECTORY);
		lab_root_fill(root);
		close(root);
	}
	return path;
}

void bare_root_remove(struct lab *l) {
	char command[200];
	snprintf(command, sizeof(command), "rm -rf %s/root %s/logs", l->dir, l->dir);
	if (system(command) != 0)
		perror(command);
}

bool bare_setup(struct lab_pod *p, Bulkhead__SandboxStartRequest *s, struct lab_answer *a) {
	Bulkhead__PodSetupRequest m = BULKHEAD__POD_SETUP_REQUEST__INIT;
	Bulkhead__SandboxStartRequest plain = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	m.sandbox = s ? s : &plain;
	m.sandbox->id = p->id;
	m.sandbox->bare = true;
	m.run_dir = p->run_dir;
	LAB_CALL(p, pod_setup, &m, NULL, 0, a);
	return a->code == 0;
}

pid_t bare_run(struct lab_pod *p, const struct bare *b, struct lab_answer *a) {
	const char *args[] = { "/bin/sh", "-c", b->script, NULL };
	Bulkhead__ContainerCreateRequest m = BULKHEAD__CONTAINER_CREATE_REQUEST__INIT;
	Bulkhead__TaskCreateRequest t = BULKHEAD__TASK_CREATE_REQUEST__INIT;
	Grpc__Spec *spec = lab_spec(args);
	if (b->root)
		spec->root->path = strdup(b->root);
	if (b->cgroup)
		spec->linux->cgroupspath = strdup(b->cgroup);
	spec->process->terminal = b->terminal;
	if (b->tweak)
		b->tweak(spec);
	t.container_id = (char *)b->id;
	t.spec = spec;
	t.pid_mode = b->pid;
	t.start = !b->held;
	t.stdio = (Bulkhead__Stdio *)&b->stdio;
	t.rootfs = (Grpc__Mount **)b->rootfs;
	t.n_rootfs = b->n_rootfs;
	m.task = &t;
	LAB_CALL(p, container_create_bare, &m, NULL, 0, a);
	lab_spec_free(spec);
	return a->reply ? ((Bulkhead__ContainerCreateReply *)a->reply)->created->pid : -1;
}

int bare_delete(struct lab_pod *p, const char *id) {
	Bulkhead__TaskKey m = BULKHEAD__TASK_KEY__INIT;
	struct lab_answer a;
	m.container_id = (char *)id;
	LAB_CALL(p, container_delete, &m, NULL, 0, &a);
	int code = a.reply ? (int)((Bulkhead__TaskExit *)a.reply)->exit_code : -1;
	lab_answer_deinit(&a);
	return code;
}

char *fifo_new(struct lab *l, const char *name) {
	char *path;
	if (asprintf(&path, "%s/%s", l->dir, name) < 0)
		abort();
	unlink(path);
	if (mkfifo(path, 0600) < 0)
		perror(path);
	return path;
}

static char text[1 << 20];
static size_t used;
static bool ended;

const char *fifo_read(struct lab *l, int fd, const char *until, double seconds) {
	int64_t end = clock_mono() + (int64_t)(seconds * 1e9);
	used = 0;
	ended = false;
	text[0] = '\0';
	while (clock_mono() < end && !ended && !(until && strstr(text, until))) {
		ssize_t n = read(fd, text + used, sizeof(text) - 1 - used);
		if (n > 0)
			used += (size_t)n;
		text[used] = '\0';
		ended = n == 0;
		if (n < 0)
			loop_turn(l->loop, 5 * NS_PER_MS);
	}
	return text;
}

bool fifo_ended(void) {
	return ended;
}
