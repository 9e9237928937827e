/* Control groups: what the mount table says there is, paths, and the program
 * that decides on devices, asked by the kernel itself. */
#include "tests/unit/tap.h"
#include "workers/keeper/cgroup_private.h"
#include "workers/keeper/sys.h"

#include "base/fd.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

static void test_detect(void) {
	char v2[] = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
	char hybrid[] = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
			"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:3 - cgroup cgroup rw,cpu,cpuacct\n"
			"33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
			"34 31 0:31 / /other/memory rw - cgroup cgroup rw,memory\n"
			"35 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
			"36 31 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
	char v1[] = "32 31 0:29 / /cg/freezer rw - cgroup cgroup rw,freezer\n33 31 0:30 / /cg/pids rw - cgroup cgroup "
		    "rw,pids\n";
	char odd[] = "\n - \n1 2 3\n1 2 0:1 / /x rw - cgroup\n1 2 0:1 / /y rw - cgroup a rw,memory";
	struct cgroup_system s;
	cgroup_system_parse(v2, &s);
	tap_check(s.n == 1 && s.v2 == 0 && s.tracker == 0 && strcmp(s.hierarchies[0].mount, "/sys/fs/cgroup") == 0,
		  "version 2 alone");
	cgroup_system_parse(hybrid, &s);
	tap_check(s.n == 4 && s.v2 == 3 && s.tracker == 3, "both versions");
	tap_check(cgroup_find(&s, CGROUP_CPU) == 0 && cgroup_find(&s, CGROUP_CPUACCT) == 0 &&
		      strcmp(s.hierarchies[0].name, "cpu,cpuacct") == 0,
		  "two controllers in one hierarchy");
	tap_check(cgroup_find(&s, CGROUP_MEMORY) == 1 && cgroup_find(&s, CGROUP_PIDS) == -1, "one is there, one isn't");
	tap_check(strcmp(s.hierarchies[2].name, "name=systemd") == 0, "a hierarchy with a name");
	cgroup_system_parse(v1, &s);
	tap_check(s.n == 2 && s.v2 == -1 && s.tracker == 0, "version 1 alone: the freezer finds processes");
	cgroup_system_parse(odd, &s);
	tap_check(s.n == 1, "odd lines are passed over");
}

static void test_paths(void) {
	static const char *const good[] = { "/a", "/bulkhead/x/y", "/kubepods.slice/a-b_c:d", "/a/..b", "/a/.b" };
	static const char *const bad[] = { "",	  "/",	    "a",    "/a/",   "/a//b", "/a/../b",
					   "/..", "/a/./b", "/a b", "/a\nb", "/." };
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		tap_check(cgroup_path_valid(good[i]), "\"%s\" is a path", good[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		tap_check(!cgroup_path_valid(bad[i]), "no path: %zu", i);
	tap_check(cgroup_field("a 1\noom 2\noom_kill 3\n", "oom_kill") == 3 && cgroup_field("xoom 5\n", "oom") == 0,
		  "fields of files");
	tap_check(cgroup_pagesize_valid("2MB") && cgroup_pagesize_valid("1GB") && !cgroup_pagesize_valid("../x") &&
		      !cgroup_pagesize_valid("MB"),
		  "sizes of huge pages");
}

static void rule(Grpc__LinuxDeviceCgroup *d, bool allow, const char *type, int64_t major, int64_t minor,
		 const char *access) {
	grpc__linux_device_cgroup__init(d);
	d->allow = allow;
	d->type = (char *)type;
	d->major = major;
	d->minor = minor;
	d->access = (char *)access;
}

static void test_rules(void) {
	Grpc__LinuxResources r = GRPC__LINUX_RESOURCES__INIT;
	Grpc__LinuxDeviceCgroup d[3], *list[] = { &d[0], &d[1], &d[2] };
	struct device_rules rules;
	struct fault fault = { 0 };
	tap_check(device_rules_make(NULL, &rules, &fault) == 0 && rules.n > 5 && !rules.list[0].allow &&
		      rules.list[0].type == 'a',
		  "without a word all but the usual is denied");
	rule(&d[0], true, "c", 10, 200, "rw");
	rule(&d[1], true, "a", 0, 0, "rwm");
	r.devices = list;
	r.n_devices = 2;
	tap_check(device_rules_make(&r, &rules, &fault) == 0 && rules.n == 1 && rules.list[0].allow,
		  "a rule for all makes the earlier ones void");
	rule(&d[0], true, "x", 1, 1, "rw");
	tap_check(device_rules_make(&r, &rules, &fault) < 0, "%s", fault.text);
	rule(&d[0], true, "c", 1, 1, "rwx");
	tap_check(device_rules_make(&r, &rules, &fault) < 0, "%s", fault.text);
}

/* In a child in the group: the results of opening devices, one bit each. */
static int ask(int group) {
	static const struct {
		unsigned major, minor;
		int flags;
	} questions[] = {
		{ 1, 3, O_RDWR },      /* null: a default */
		{ 1, 11, O_RDONLY },   /* kmsg: not allowed */
		{ 1, 9, O_RDONLY },    /* urandom: a default */
		{ 10, 229, O_RDONLY }, /* fuse: read only */
		{ 10, 229, O_WRONLY },
	};
	struct clone_args args = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)group };
	int status = -1;
	pid_t pid = sys_clone3(&args);
	if (pid == 0) {
		int result = 0;
		for (size_t i = 0; i < ARRAY_SIZE(questions); i++) {
			char path[64];
			snprintf(path, sizeof(path), "/tmp/keeper-dev-%d-%zu", (int)getpid(), i);
			if (mknod(path, S_IFCHR | 0600, makedev(questions[i].major, questions[i].minor)) < 0)
				_exit(99);
			int fd = open(path, questions[i].flags | O_NONBLOCK);
			/* A device that isn't there isn't denied. */
			result |= (fd >= 0 || errno != EPERM) << i;
			unlink(path);
		}
		_exit(result);
	}
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

static void test_program(void) {
	Grpc__LinuxResources r = GRPC__LINUX_RESOURCES__INIT;
	Grpc__LinuxDeviceCgroup d, *list[] = { &d };
	struct device_rules rules;
	struct cgroup_system s;
	struct cgroup c = { .system = &s, .path = "/bulkhead-unit" };
	struct fault fault = { 0 };
	if (geteuid() != 0 || cgroup_system_detect(&s) < 0 || s.v2 < 0) {
		tap_skip("the program for devices", "needs root and cgroup v2");
		return;
	}
	char folder[256];
	snprintf(folder, sizeof(folder), "%s%s", s.hierarchies[s.v2].mount, c.path);
	mkdir(folder, 0755);
	c.made = 1U << s.v2;
	CLEANUP_FD int fd = cgroup_open_v2(&c);
	rule(&d, true, "c", 10, 229, "rm");
	r.devices = list;
	r.n_devices = 1;
	int e = device_rules_make(&r, &rules, &fault);
	if (e == 0)
		e = device_rules_v2(fd, &rules);
	tap_check(e == 0, "the kernel takes the program (%s)", e ? strerrordesc_np(-e) : "");
	int result = ask(fd);
	/* Where v1 has the controller too, its root allows everything. */
	tap_check(result == 0x0d, "devices are allowed and denied as the rules say (0x%x)", (unsigned)result);
	tap_check(!cgroup_populated(&c), "nobody is in the group");
	tap_check(cgroup_remove(&c) == 0 && access(folder, F_OK) < 0, "it is removed");
}

/* Whatever runs below a group is found and killed, at any depth. */
static void test_end(void) {
	struct cgroup_system s;
	struct cgroup c = { .system = &s, .path = "/bulkhead-unit-end" }, deep = c;
	if (geteuid() != 0 || cgroup_system_detect(&s) < 0 || s.v2 < 0) {
		tap_skip("the end of a group", "needs root and cgroup v2");
		return;
	}
	char path[512];
	int n = snprintf(path, sizeof(path), "%s%s", s.hierarchies[s.v2].mount, c.path);
	mkdir(path, 0755);
	for (int i = 0; i < 20; i++) {
		n += snprintf(path + n, sizeof(path) - (size_t)n, "/d%d", i);
		mkdir(path, 0755);
	}
	snprintf(deep.path, sizeof(deep.path), "%s", path + strlen(s.hierarchies[s.v2].mount));
	c.made = deep.made = 1U << s.v2;
	CLEANUP_FD int fd = cgroup_open_v2(&deep);
	struct clone_args args = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)fd };
	pid_t pid = sys_clone3(&args);
	if (pid == 0)
		for (;;)
			pause();
	tap_check(cgroup_holds(&deep, pid) && !cgroup_holds(&c, pid) && cgroup_populated(&c), "a process deep below");
	tap_check(cgroup_remove(&c) == -EBUSY, "keeps the group");
	int status = 0;
	cgroup_kill(&c);
	waitpid(pid, &status, 0);
	tap_check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "until it is killed");
	int r = -EBUSY;
	for (int i = 0; r == -EBUSY && i < 100; i++) {
		r = cgroup_remove(&c);
		usleep(1000);
	}
	tap_check(r == 0 && !cgroup_populated(&c), "then the whole tree goes");
	tap_check(cgroup_remove_path(&s, "/bulkhead-unit-end") == 0, "and going again is fine");
}

int main(void) {
	test_detect();
	test_paths();
	test_rules();
	test_program();
	test_end();
	return tap_done();
}
