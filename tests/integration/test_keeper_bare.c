/*
 * Bare pods: namespaces as a specification says, roots that the client brings.
 */
#include "tests/integration/bare_lab.h"
#include "tests/unit/tap.h"

#include "base/clock.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONTAINER BULKHEAD__NAMESPACE_MODE__CONTAINER
#define NODE BULKHEAD__NAMESPACE_MODE__NODE

/* The output of a script in a container with that root, run to its end. */
static const char *output_of(struct lab_pod *p, struct bare *b) {
	static char result[8192];
	struct lab_answer a;
	char *out = fifo_new(p->lab, "out");
	int fd = open(out, O_RDONLY | O_NONBLOCK);
	b->id = "one";
	b->stdio.stdout = out;
	b->stdio.stderr = out;
	pid_t pid = bare_run(p, b, &a);
	if (pid < 0)
		snprintf(result, sizeof(result), "%d %s", a.code, a.text);
	else
		snprintf(result, sizeof(result), "%s", fifo_read(p->lab, fd, NULL, 10));
	lab_answer_deinit(&a);
	if (pid > 0)
		bare_delete(p, b->id);
	close(fd);
	unlink(out);
	free(out);
	return result;
}

static char *link_of(pid_t pid, const char *type) {
	static char text[3][64];
	static unsigned turn;
	char path[64];
	char *to = text[turn++ % 3];
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)(pid ? pid : getpid()), type);
	ssize_t n = readlink(path, to, sizeof(text[0]) - 1);
	to[n < 0 ? 0 : n] = '\0';
	return to;
}

static bool same(pid_t a, pid_t b, const char *type) {
	return strcmp(link_of(a, type), link_of(b, type)) == 0;
}

/* --- namespaces --- */

static void test_own(struct lab *l) {
	struct lab_pod *p = lab_pod_new(l);
	struct lab_answer a;
	struct bare b = BARE_INIT;
	tap_check(bare_setup(p, NULL, &a), "a bare pod: %s", a.text);
	lab_answer_deinit(&a);
	tap_check(!same(p->keeper, 0, "net") && !same(p->keeper, 0, "uts") && !same(p->keeper, 0, "ipc"),
		  "it has namespaces of its own");
	b.root = bare_root(l);
	b.script = "cat /proc/net/dev; ls /etc; mount; echo pid $$";
	const char *text = output_of(p, &b);
	tap_check(strstr(text, "lo:") && !strstr(text, "eth0") && strstr(text, "pid 1\n"),
		  "with its loopback and nothing else: %s", text);
	tap_check(!strstr(text, "resolv.conf") && !strstr(text, "hosts") && !strstr(text, " /dev/shm "),
		  "nothing is mounted that the specification doesn't say");
	tap_check(lab_pod_teardown(p) && lab_pod_free(p), "it is taken down, its folder is empty");
}

static void test_host(struct lab *l) {
	struct lab_pod *p = lab_pod_new(l);
	Bulkhead__SandboxStartRequest s = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	struct lab_answer a;
	struct bare b = BARE_INIT;
	s.network = NODE;
	s.hostname = (char *)"bare-host";
	tap_check(bare_setup(p, &s, &a), "a pod with the host's network: %s", a.text);
	lab_answer_deinit(&a);
	tap_check(same(p->keeper, 0, "net") && !same(p->keeper, 0, "uts") && !same(p->keeper, 0, "ipc"),
		  "has names and IPC of its own");
	b.root = bare_root(l);
	b.pid = NODE;
	b.script = "hostname; echo pid $$";
	const char *text = output_of(p, &b);
	tap_check(strncmp(text, "bare-host\n", 10) == 0 && !strstr(text, "pid 1\n"),
		  "and the host's pid namespace, when asked for: %s", text);
	lab_pod_teardown(p);
	lab_pod_free(p);
	p = lab_pod_new(l);
	Bulkhead__SandboxStartRequest all = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	all.network = all.ipc = all.uts = NODE;
	tap_check(bare_setup(p, &all, &a), "a pod with all of the host's: %s", a.text);
	lab_answer_deinit(&a);
	tap_check(same(p->keeper, 0, "net") && same(p->keeper, 0, "uts") && same(p->keeper, 0, "ipc"), "is in those");
	tap_check(lab_pod_teardown(p) && lab_pod_free(p), "it goes without touching them");
}

static Grpc__LinuxNamespace *namespace_of(const char *type, char *path) {
	static Grpc__LinuxNamespace n;
	n = (Grpc__LinuxNamespace)GRPC__LINUX_NAMESPACE__INIT;
	n.type = (char *)type;
	n.path = path;
	return &n;
}

static bool join_fails(struct lab *l, const char *type, const char *path, int code, const char *why) {
	struct lab_pod *p = lab_pod_new(l);
	Bulkhead__SandboxStartRequest s = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	Grpc__LinuxNamespace *n = namespace_of(type, (char *)path);
	struct lab_answer a;
	s.join = &n;
	s.n_join = 1;
	bool fails = !bare_setup(p, &s, &a) && a.code == code && strstr(a.text, why);
	if (!fails)
		printf("# join: %d %s\n", a.code, a.text);
	lab_answer_deinit(&a);
	lab_pod_teardown(p);
	lab_pod_free(p);
	return fails;
}

static void test_join(struct lab *l) {
	int ready[2];
	char path[64], c;
	struct lab_answer a;
	if (pipe(ready) < 0)
		abort();
	pid_t other = fork();
	if (other == 0) {
		if (unshare(CLONE_NEWNET) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	tap_check(read(ready[0], &c, 1) == 1, "somebody has a network namespace");
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)other);
	struct lab_pod *p = lab_pod_new(l);
	Bulkhead__SandboxStartRequest s = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	Grpc__LinuxNamespace *n = namespace_of("network", path);
	s.join = &n;
	s.n_join = 1;
	tap_check(bare_setup(p, &s, &a) && same(p->keeper, other, "net") && !same(p->keeper, 0, "uts"),
		  "a pod joins it by its path: %s", a.text);
	lab_answer_deinit(&a);
	tap_check(lab_pod_teardown(p) && lab_pod_free(p), "and leaves it");
	tap_check(join_fails(l, "uts", path, FAULT_INVALID_ARGUMENT, "is not a uts namespace"),
		  "a namespace of another type is refused");
	tap_check(join_fails(l, "network", "/etc/passwd", FAULT_INVALID_ARGUMENT, "\"/etc/passwd\" is not a namespace"),
		  "so is a file");
	tap_check(join_fails(l, "network", "/nothing/there", FAULT_NOT_FOUND, "\"/nothing/there\""),
		  "so is what isn't there");
	tap_check(join_fails(l, "user", path, FAULT_UNIMPLEMENTED, "\"user\""), "so is a kind that can't be joined");
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	close(ready[0]);
	close(ready[1]);
}

/* --- roots --- */

static Grpc__Mount mount_of(const char *type, const char *source, const char *options) {
	Grpc__Mount m = GRPC__MOUNT__INIT;
	m.type = (char *)type;
	m.source = (char *)source;
	lab_strings(&m.n_options, &m.options, options);
	return m;
}

static void mount_done(Grpc__Mount *m) {
	for (size_t i = 0; i < m->n_options; i++)
		free(m->options[i]);
	free(m->options);
}

static char *path_of(struct lab *l, const char *name) {
	char *path;
	if (asprintf(&path, "%s/%s", l->dir, name) < 0)
		abort();
	return path;
}

/* One with a name too long for fsconfig, and one without. */
static void test_overlay(struct lab *l, struct lab_pod *p, size_t padding) {
	char options[2048], long_name[260];
	memset(long_name, 'l', padding);
	long_name[padding] = '\0';
	char *scratch = path_of(l, "scratch");
	snprintf(options, sizeof(options), "mkdir -p %s/upper%s %s/work", scratch, long_name, scratch);
	tap_check(system(options) == 0, "folders of an overlay");
	snprintf(options, sizeof(options), "index=off workdir=%s/work upperdir=%s/upper%s lowerdir=%s", scratch,
		 scratch, long_name, bare_root(l));
	Grpc__Mount m = mount_of("overlay", "overlay", options);
	struct bare b = BARE_INIT;
	b.rootfs[0] = &m;
	b.n_rootfs = 1;
	b.script = "echo new >/made; cat /made; mount | head -n 1";
	const char *text = output_of(p, &b);
	tap_check(strncmp(text, "new\noverlay on / type overlay", 29) == 0, "an overlay of the client's: %s", text);
	tap_check(strcmp(lab_file("%s/upper%s/made", scratch, long_name), "new\n") == 0 &&
		      !lab_exists("%s/made", bare_root(l)),
		  "what is written lands in its upper folder");
	tap_check(!strstr(lab_file("/proc/self/mountinfo"), scratch), "the host's mount table knows nothing of it");
	snprintf(options, sizeof(options), "rm -rf %s", scratch);
	tap_check(system(options) == 0, "its folders are removed");
	free(scratch);
	mount_done(&m);
}

static void test_roots(struct lab *l, struct lab_pod *p) {
	Grpc__Mount bind = mount_of("bind", bare_root(l), "rbind ro");
	Grpc__Mount lower = mount_of("tmpfs", "tmpfs", "size=1m");
	Grpc__Mount below = mount_of("tmpfs", "tmpfs", "size=1m ro");
	below.destination = (char *)"/data";
	struct bare b = BARE_INIT;
	b.rootfs[0] = &lower;
	b.rootfs[1] = &bind;
	b.rootfs[2] = &below;
	b.n_rootfs = 3;
	b.script = "touch /x /data/x; ls -d /bin";
	const char *text = output_of(p, &b);
	tap_check(strstr(text, "/x: Read-only") && strstr(text, "/data/x: Read-only") && strstr(text, "/bin\n"),
		  "the last mount on top is the root, others are below: %s", text);
	b.n_rootfs = 0;
	text = output_of(p, &b);
	tap_check(strstr(text, "3 the container has neither mounts"), "a container without a root: %s", text);
	b.rootfs[0] = &below;
	b.n_rootfs = 1;
	text = output_of(p, &b);
	tap_check(strstr(text, "3 none of the container's mounts is its root"), "nor one among its mounts: %s", text);
	Grpc__Mount gone = mount_of("bind", "/nothing/there", "rbind");
	b.rootfs[0] = &gone;
	text = output_of(p, &b);
	tap_check(strstr(text, "5 ") && strstr(text, "mount bind \"/nothing/there\" as the container's root"),
		  "a root that isn't there is named: %s", text);
	Grpc__Mount odd = mount_of("nosuchfs", "dev", "");
	b.rootfs[0] = &odd;
	text = output_of(p, &b);
	tap_check(strstr(text, "mount nosuchfs \"dev\" as the container's root"),
		  "so is one that the kernel doesn't know: %s", text);
	Grpc__Mount loop = mount_of("ext4", "/tmp/image", "loop");
	b.rootfs[0] = &loop;
	text = output_of(p, &b);
	tap_check(strstr(text, "12 ") && strstr(text, "loop devices"), "loop devices are refused: %s", text);
	for (Grpc__Mount **m = (Grpc__Mount *[]){ &bind, &lower, &below, &gone, &odd, &loop, NULL }; *m; m++)
		mount_done(*m);
}

static void readonly(Grpc__Spec *s) {
	s->root->readonly = true;
}

static void test_rest(struct lab *l, struct lab_pod *p) {
	struct bare b = BARE_INIT;
	b.root = bare_root(l);
	b.tweak = readonly;
	b.script = "touch /x; cat /proc/self/cgroup";
	b.cgroup = "/bulkhead-lab-given/one";
	const char *text = output_of(p, &b);
	tap_check(strstr(text, "/x: Read-only") && strstr(text, "/bulkhead-lab-given/one\n"),
		  "a path for its root, read-only, and one for its control group: %s", text);
	tap_check(lab_cgroups("bulkhead-lab-given/one") == 0, "which goes with it");
	b.cgroup = "bulkhead-lab.slice:lab:one";
	text = output_of(p, &b);
	tap_check(strstr(text, ":/bulkhead.slice/bulkhead-lab.slice/lab-one.scope\n"),
		  "one in systemd's form is where systemd would have it: %s", text);
	b.cgroup = "not a slice:lab:one";
	text = output_of(p, &b);
	tap_check(strstr(text, "3 \"not a slice\" of the cgroup"), "in a slice that can be one: %s", text);
	b.cgroup = "/../../escape";
	text = output_of(p, &b);
	tap_check(strstr(text, "3 \"/../../escape\" is not a path of a cgroup"), "but doesn't lead out: %s", text);
	b.tweak = NULL;
	struct bare other = BARE_INIT;
	struct lab_answer a;
	other.id = "other";
	other.root = b.root;
	other.cgroup = "/bulkhead-lab-given/busy";
	other.script = "sleep 1000";
	pid_t pid = bare_run(p, &other, &a);
	lab_answer_deinit(&a);
	b.cgroup = other.cgroup;
	text = output_of(p, &b);
	tap_check(pid > 0 && strstr(text, "9 ") && strstr(text, "isn't empty"), "nor to a group that is in use: %s",
		  text);
	tap_check(kill(pid, 0) == 0, "whose processes live on");
	bare_delete(p, "other");
}

/* One after the other, as ctr's runs are; what the best of them takes is told. */
static void test_runs(struct lab *l) {
	struct bare b = BARE_INIT;
	struct lab_answer a;
	int64_t best = INT64_MAX;
	unsigned done = 0;
	b.id = "fast";
	b.root = bare_root(l);
	b.script = "exit 3";
	for (int i = 0; i < 10; i++) {
		struct lab_pod *p = lab_pod_new(l);
		int64_t begin = clock_mono();
		bare_setup(p, NULL, &a);
		lab_answer_deinit(&a);
		bare_run(p, &b, &a);
		lab_answer_deinit(&a);
		while (p->n_exits == 0 && clock_mono() - begin < 10 * NS_PER_SEC)
			loop_turn(l->loop, 100 * NS_PER_MS);
		bool good = bare_delete(p, "fast") == 3 && lab_pod_teardown(p);
		int64_t took = clock_mono() - begin;
		best = good && took < best ? took : best;
		done += good;
		lab_pod_free(p);
	}
	printf("# a bare pod and its container, from set-up to nothing: %.2f ms\n", (double)best / 1e6);
	tap_check(done == 10, "ten times a pod, its container and nothing: %u", done);
}

int main(void) {
	struct lab *l = lab_new();
	struct lab_answer a;
	if (!l) {
		tap_skip("bare pods", "needs root and a built keeper");
		return tap_done();
	}
	test_own(l);
	test_host(l);
	test_join(l);
	struct lab_pod *p = lab_pod_new(l);
	tap_check(bare_setup(p, NULL, &a), "a pod for roots");
	lab_answer_deinit(&a);
	test_overlay(l, p, 0);
	test_overlay(l, p, 250);
	test_roots(l, p);
	test_rest(l, p);
	tap_check(lab_pod_teardown(p) && lab_pod_free(p), "it goes");
	test_runs(l);
	bare_root_remove(l);
	if (system("for d in bulkhead-lab-given bulkhead.slice/bulkhead-lab.slice bulkhead.slice; do "
		   "rmdir /sys/fs/cgroup/*/$d /sys/fs/cgroup/$d 2>/dev/null; done") < 0)
		perror("rmdir");
	tap_check(lab_cgroups("bulkhead-lab-given") == 0, "no control group is left");
	lab_free(l);
	return tap_done();
}
