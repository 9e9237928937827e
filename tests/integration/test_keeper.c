/*
 * Keepers on a real kernel: pods with the host's network, containers from a
 * root that is busybox on a tmpfs. What the keeper claims is compared with what
 * /proc, the mount table and the control groups say, and at the end nothing may
 * be left of it.
 */
#include "tests/integration/keeper_lab.h"
#include "tests/unit/tap.h"

#include "base/clock.h"
#include "base/fd.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define CONTAINER BULKHEAD__NAMESPACE_MODE__CONTAINER
#define POD BULKHEAD__NAMESPACE_MODE__POD
#define NODE BULKHEAD__NAMESPACE_MODE__NODE

static bool setup(struct lab_pod *p, Bulkhead__NamespaceMode network, Bulkhead__NamespaceMode pid) {
	Bulkhead__PodSetupRequest m = BULKHEAD__POD_SETUP_REQUEST__INIT;
	Bulkhead__SandboxStartRequest s = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	Bulkhead__SandboxStartRequest__SysctlsEntry shm = BULKHEAD__SANDBOX_START_REQUEST__SYSCTLS_ENTRY__INIT;
	Bulkhead__SandboxStartRequest__SysctlsEntry *sysctls[] = { &shm };
	char *servers[] = { (char *)"192.0.2.53" }, *searches[] = { (char *)"example.org", (char *)"example.net" };
	struct lab_answer a;
	shm.key = (char *)"kernel.shmmni";
	shm.value = (char *)"1234";
	s.id = p->id;
	s.hostname = (char *)"webhost";
	s.network = network;
	s.pid = pid;
	s.sysctls = sysctls;
	s.n_sysctls = 1;
	s.dns_servers = servers;
	s.n_dns_servers = 1;
	s.dns_searches = searches;
	s.n_dns_searches = 2;
	m.sandbox = &s;
	m.run_dir = p->run_dir;
	LAB_CALL(p, pod_setup, &m, NULL, 0, &a);
	if (a.code)
		printf("# pod_setup: %s\n", a.text);
	bool good = a.code == 0 && a.reply;
	lab_answer_deinit(&a);
	return good;
}

/* A container as one call; the answer is the caller's. */
static void create(struct lab_pod *p, const char *id, Grpc__Spec *spec, Bulkhead__NamespaceMode pid, bool start,
		   struct lab_answer *a) {
	Bulkhead__ContainerCreateRequest m = BULKHEAD__CONTAINER_CREATE_REQUEST__INIT;
	Bulkhead__TaskCreateRequest t = BULKHEAD__TASK_CREATE_REQUEST__INIT;
	char log[256];
	snprintf(log, sizeof(log), "%s/logs/%s.log", p->lab->dir, id);
	t.sandbox_id = p->id;
	t.container_id = (char *)id;
	t.spec = spec;
	t.log_path = log;
	t.pid_mode = pid;
	t.start = start;
	m.task = &t;
	int root = lab_root();
	LAB_CALL(p, container_create, &m, &root, 1, a);
	close(root);
	if (a->code)
		printf("# create %s: %s\n", id, a->text);
}

static Bulkhead__TaskCreateReply *created(const struct lab_answer *a) {
	return a->reply ? ((Bulkhead__ContainerCreateReply *)a->reply)->created : NULL;
}

/* Shell command, default specification. */
static pid_t run(struct lab_pod *p, const char *id, const char *script, Bulkhead__NamespaceMode pid) {
	const char *args[] = { "/bin/sh", "-c", script, NULL };
	Grpc__Spec *spec = lab_spec(args);
	struct lab_answer a;
	create(p, id, spec, pid, true, &a);
	pid_t result = created(&a) ? created(&a)->pid : -1;
	lab_spec_free(spec);
	lab_answer_deinit(&a);
	return result;
}

struct exit_wait {
	struct lab_pod *pod;
	const char *id;
};

static struct lab_exit *exit_find(struct lab_pod *p, const char *id) {
	for (unsigned i = 0; i < p->n_exits; i++)
		if (strcmp(p->exits[i].container, id) == 0)
			return &p->exits[i];
	return NULL;
}

static bool exit_seen(void *ctx) {
	struct exit_wait *w = ctx;
	return exit_find(w->pod, w->id) != NULL;
}

/* The end is told first. */
static bool groups_gone(void *part) {
	return lab_cgroups(part) == 0;
}

/* -1 when none came. */
static int exit_code(struct lab_pod *p, const char *id) {
	struct exit_wait w = { p, id };
	return lab_wait(p->lab, exit_seen, &w, 10) ? (int)exit_find(p, id)->code : -1;
}

static int delete (struct lab_pod *p, const char *id) {
	Bulkhead__TaskKey m = BULKHEAD__TASK_KEY__INIT;
	struct lab_answer a;
	m.sandbox_id = p->id;
	m.container_id = (char *)id;
	LAB_CALL(p, container_delete, &m, NULL, 0, &a);
	int code = a.code;
	lab_answer_deinit(&a);
	return code;
}

static void execute(struct lab_pod *p, const char *id, const char *script, double timeout, struct lab_answer *a) {
	Bulkhead__KeeperExecRequest m = BULKHEAD__KEEPER_EXEC_REQUEST__INIT;
	Bulkhead__ExecSyncRequest e = BULKHEAD__EXEC_SYNC_REQUEST__INIT;
	char *args[] = { (char *)"/bin/sh", (char *)"-c", (char *)script };
	e.container_id = (char *)id;
	e.args = args;
	e.n_args = 3;
	e.timeout_ns = (uint64_t)(timeout * 1e9);
	m.exec = &e;
	LAB_CALL(p, keeper_exec, &m, NULL, 0, a);
}

/* What a command prints in the container. */
static const char *out(struct lab_pod *p, const char *id, const char *script) {
	static char text[4096];
	struct lab_answer a;
	execute(p, id, script, 10, &a);
	Bulkhead__ExecSyncReply *e = (Bulkhead__ExecSyncReply *)a.reply;
	snprintf(text, sizeof(text), "%.*s%s", e ? (int)e->stdout_data.len : 0, e ? (char *)e->stdout_data.data : "",
		 a.text);
	if (e && e->stderr_data.len)
		printf("# stderr: %.*s\n", (int)e->stderr_data.len, (char *)e->stderr_data.data);
	lab_answer_deinit(&a);
	text[strcspn(text, "\n")] = '\0';
	return text;
}

static const char *log_text_of(struct lab_pod *p, const char *id) {
	return lab_file("%s/logs/%s.log", p->lab->dir, id);
}

static bool teardown(struct lab_pod *p) {
	Bulkhead__SandboxStopRequest m = BULKHEAD__SANDBOX_STOP_REQUEST__INIT;
	struct lab_answer a;
	m.id = p->id;
	LAB_CALL(p, pod_teardown, &m, NULL, 0, &a);
	if (a.code)
		printf("# teardown: %s\n", a.text);
	bool good = a.code == 0 && a.done;
	lab_answer_deinit(&a);
	return good;
}

static bool gone(void *ctx) {
	return kill(*(pid_t *)ctx, 0) < 0;
}

static char ns_link[64];
static const char *ns(pid_t pid, const char *type) {
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, type);
	ssize_t n = readlink(path, ns_link, sizeof(ns_link) - 1);
	ns_link[n > 0 ? n : 0] = '\0';
	return ns_link;
}

static bool same_ns(pid_t a, pid_t b, const char *type) {
	char first[64];
	snprintf(first, sizeof(first), "%s", ns(a, type));
	return first[0] && strcmp(first, ns(b, type)) == 0;
}

/* It says that it is ready a moment before it waits. */
static bool falls_asleep(pid_t pid) {
	for (int i = 0; i < 500; i++) {
		if (strstr(lab_status(pid, "State"), "sleeping"))
			return true;
		usleep(10000);
	}
	return false;
}

/* --- the life of a container --- */

static void test_life(struct lab_pod *p) {
	const char *args[] = { "/bin/sh", "-c", "echo hello; echo oops >&2; printf part; exit 7", NULL };
	Grpc__Spec *spec = lab_spec(args);
	Bulkhead__TaskKey key = BULKHEAD__TASK_KEY__INIT;
	struct lab_answer a;
	create(p, "life", spec, CONTAINER, false, &a);
	tap_check(created(&a) && created(&a)->pid > 0 && created(&a)->started_at == 0, "a container is created");
	pid_t pid = created(&a) ? created(&a)->pid : -1;
	lab_answer_deinit(&a);
	tap_check(strcmp(lab_file("/proc/%d/comm", (int)pid), "bulkhead-keeper\n") == 0, "it has not executed yet");
	tap_check(falls_asleep(pid), "it waits");
	key.sandbox_id = p->id;
	key.container_id = (char *)"life";
	LAB_CALL(p, container_start, &key, NULL, 0, &a);
	tap_check(a.code == 0 && created(&a) && created(&a)->started_at > 0, "it is started");
	lab_answer_deinit(&a);
	tap_check(exit_code(p, "life") == 7, "its exit code arrives");
	const char *log = log_text_of(p, "life");
	tap_check(strstr(log, " stdout F hello\n") && strstr(log, " stderr F oops\n") &&
		      strstr(log, " stdout F part\n"),
		  "its log is there when the exit is");
	tap_check(lab_wait(p->lab, groups_gone, (char[]){ "/life" }, 2), "its control groups go with it");
	LAB_CALL(p, container_start, &key, NULL, 0, &a);
	tap_check(a.code == 0, "a start that is said again is answered");
	lab_answer_deinit(&a);
	tap_check(delete (p, "life") == 0, "it is deleted");
	tap_check(delete (p, "life") == FAULT_NOT_FOUND, "and is not there any more");
	lab_spec_free(spec);
}

static void test_failures(struct lab_pod *p) {
	const char *missing[] = { "/nosuch", NULL }, *plain[] = { "/bin/plain", NULL }, *search[] = { "nosuch", NULL };
	const char *const *all[] = { missing, plain, search };
	static const char *const texts[] = { "exec \"/nosuch\": No such file or directory",
					     "exec \"/bin/plain\": Permission denied",
					     "exec \"nosuch\": No such file or directory" };
	for (int i = 0; i < 3; i++) {
		struct lab_answer a;
		Grpc__Spec *spec = lab_spec(all[i]);
		char id[16];
		snprintf(id, sizeof(id), "fail%d", i);
		create(p, id, spec, CONTAINER, true, &a);
		tap_check(a.code == FAULT_INVALID_ARGUMENT && strcmp(a.text, texts[i]) == 0, "%s", texts[i]);
		lab_answer_deinit(&a);
		tap_check(exit_code(p, id) == 128, "such a container has ended with 128");
		delete (p, id);
		lab_spec_free(spec);
	}
	const char *args[] = { "/bin/true", NULL };
	struct lab_answer a;
	Grpc__Spec *spec = lab_spec(args);
	lab_spec_mount(spec, "/data", "bind", "/nonexistent/source", "rbind");
	create(p, "nosource", spec, CONTAINER, true, &a);
	tap_check(a.code && strstr(a.text, "mount \"/data\": source \"/nonexistent/source\": No such file"),
		  "a missing mount source is named");
	lab_answer_deinit(&a);
	tap_check(delete (p, "nosource") == FAULT_NOT_FOUND, "a failed creation leaves no container");
	tap_check(lab_cgroups("nosource") == 0, "and no control group");
	lab_spec_free(spec);
	spec = lab_spec(args);
	lab_spec_mount(spec, "/proc/self", "bind", "/tmp", "rbind");
	create(p, "overproc", spec, CONTAINER, true, &a);
	tap_check(a.code == FAULT_INVALID_ARGUMENT, "nothing is mounted over /proc");
	lab_answer_deinit(&a);
	lab_spec_free(spec);
}

/* A hook that were passed over in silence would leave out what somebody asked for. Rows go by the fields' numbers. */
static void test_hooks(struct lab_pod *p) {
	const char *args[] = { "/bin/true", NULL };
	Grpc__Hook hook = GRPC__HOOK__INIT, *list[] = { &hook };
	hook.path = "/bin/true";
	for (int i = 0; i < 6; i++) {
		Grpc__Hooks hooks = GRPC__HOOKS__INIT;
		const struct {
			size_t *n;
			Grpc__Hook ***list;
		} kinds[] = {
			{ &hooks.n_prestart, &hooks.prestart },
			{ &hooks.n_poststart, &hooks.poststart },
			{ &hooks.n_poststop, &hooks.poststop },
			{ &hooks.n_createruntime, &hooks.createruntime },
			{ &hooks.n_createcontainer, &hooks.createcontainer },
			{ &hooks.n_startcontainer, &hooks.startcontainer },
		};
		*kinds[i].n = 1;
		*kinds[i].list = list;
		struct lab_answer a;
		Grpc__Spec *spec = lab_spec(args);
		spec->hooks = &hooks;
		create(p, "hooked", spec, CONTAINER, true, &a);
		tap_check(a.code == FAULT_UNIMPLEMENTED && strstr(a.text, "hooks"), "%s hooks are refused",
			  grpc__hooks__descriptor.fields[i].name);
		lab_answer_deinit(&a);
		spec->hooks = NULL;
		lab_spec_free(spec);
	}
}

/* --- what it looks like inside --- */

static void test_isolation(struct lab_pod *p) {
	const char *args[] = { "/bin/sleep", "1000", NULL };
	Grpc__Spec *spec = lab_spec(args);
	struct lab_answer a;
	spec->process->nonewprivileges = true;
	spec->process->oomscoreadj = 321;
	free(spec->process->user->username == protobuf_c_empty_string ? NULL : spec->process->user->username);
	spec->process->user->username = strdup("web");
	spec->process->user->n_additionalgids = 1;
	spec->process->user->additionalgids = malloc(sizeof(uint32_t));
	spec->process->user->additionalgids[0] = 3000;
	spec->root->readonly = true;
	lab_spec_mount(spec, "/deep/er/mount", "bind", p->lab->dir, "rbind ro");
	lab_spec_mount(spec, "/trap/inside", "tmpfs", "tmpfs", "size=1m");
	lab_spec_mount(spec, "/etc/dangling", "bind", "/etc/hostname", "bind ro");
	create(p, "iso", spec, CONTAINER, true, &a);
	pid_t pid = created(&a) ? created(&a)->pid : -1;
	tap_check(pid > 0 && created(&a)->user && created(&a)->user->uid == 1000 && created(&a)->user->gid == 1001 &&
		      created(&a)->user->n_additionalgids == 3,
		  "the user is resolved in the image");
	lab_answer_deinit(&a);
	tap_check(strncmp(lab_status(pid, "Uid"), "1000\t1000\t1000\t1000", 19) == 0, "it runs as that user");
	tap_check(strncmp(lab_status(pid, "Groups"), "1001 2000 3000", 14) == 0, "with its groups: %s",
		  lab_status(pid, "Groups"));
	tap_check(strcmp(lab_status(pid, "CapEff"), "0000000000000000") == 0, "without effective capabilities");
	tap_check(strcmp(lab_status(pid, "CapBnd"), "00000000000004e3") == 0,
		  "the bounding set is the specification's: %s", lab_status(pid, "CapBnd"));
	tap_check(strcmp(lab_status(pid, "CapInh"), "0000000000000000") == 0, "nothing is inheritable");
	tap_check(strcmp(lab_status(pid, "NoNewPrivs"), "1") == 0, "no_new_privs is set");
	tap_check(strcmp(lab_file("/proc/%d/oom_score_adj", (int)pid), "321\n") == 0, "the oom score is set");
	tap_check(same_ns(pid, p->keeper, "ipc") && same_ns(pid, p->keeper, "uts") && same_ns(pid, p->keeper, "net"),
		  "it is in the pod's namespaces");
	tap_check(!same_ns(pid, getpid(), "ipc") && !same_ns(pid, getpid(), "uts") && !same_ns(pid, p->keeper, "pid") &&
		      !same_ns(pid, p->keeper, "mnt"),
		  "and in its own for pids and mounts");
	char fds[64];
	snprintf(fds, sizeof(fds), "/proc/%d/fd/3", (int)pid);
	tap_check(access(fds, F_OK) < 0, "no descriptor beyond stderr is open in it");
	const char *mounts = lab_file("/proc/%d/mountinfo", (int)pid);
	tap_check(strstr(mounts, " /etc/hosts ") && strstr(mounts, " /etc/resolv.conf ") &&
		      strstr(mounts, " /etc/hostname ") && strstr(mounts, " /dev/shm "),
		  "the pod's files are mounted");
	tap_check(strstr(mounts, " /proc/kcore ") || strstr(mounts, " /proc/timer_list "), "paths are masked");
	tap_check(strstr(mounts, " /proc/sys ro,") != NULL, "paths are read-only");
	tap_check(strstr(mounts, "ext4") == NULL || strstr(mounts, " /deep/er/mount ro,") != NULL,
		  "a bind mount is read-only");
	tap_check(strstr(mounts, " /tmp/escape/inside ") != NULL && access("/tmp/escape", F_OK) < 0,
		  "a link that leads out leads to the container's own root");
	tap_check(strstr(mounts, " /run/gone/resolv.conf ") != NULL, "a dangling link is followed inside");
	tap_check(lab_exists("/proc/%d/root/dev/null", (int)pid), "there is a /dev");
	lab_spec_free(spec);
	tap_check(strcmp(out(p, "iso", "touch /x 2>/dev/null || echo denied"), "denied") == 0, "the root is read-only");
	tap_check(strcmp(out(p, "iso", "hostname"), "webhost") == 0, "the host name is the pod's");
	tap_check(strcmp(out(p, "iso", "cat /proc/sys/kernel/shmmni"), "1234") == 0, "sysctls are set");
	tap_check(strcmp(lab_file("/proc/sys/kernel/shmmni"), "1234\n") != 0, "and not on the host");
	tap_check(strcmp(out(p, "iso", "cat /etc/resolv.conf | tr '\\n' ,"),
			 "search example.org example.net,nameserver 192.0.2.53,") == 0,
		  "DNS is configured");
	tap_check(strcmp(out(p, "iso", "echo $HOME $COLOR; pwd"), "/home/web green") == 0,
		  "the environment is complete");
	tap_check(strcmp(out(p, "iso", "id -u; id -G"), "1000") == 0, "an exec runs as the container's user");
	delete (p, "iso");
}

static void test_privileged(struct lab_pod *p) {
	const char *args[] = { "/bin/sleep", "1000", NULL };
	Grpc__Spec *spec = lab_spec(args);
	Grpc__LinuxCapabilities *c = spec->process->capabilities;
	struct lab_answer a;
	for (size_t i = 0; i < c->n_bounding; i++)
		free(c->bounding[i]);
	c->n_bounding = 0;
	lab_strings(&c->n_bounding, &c->bounding, "CAP_SYS_ADMIN CAP_SYS_RESOURCE CAP_CHOWN");
	Grpc__POSIXRlimit *l = malloc(sizeof(*l));
	grpc__posixrlimit__init(l);
	l->type = strdup("RLIMIT_NOFILE");
	l->soft = 512;
	l->hard = 1U << 30;
	spec->process->n_rlimits = 1;
	spec->process->rlimits = malloc(sizeof(l));
	spec->process->rlimits[0] = l;
	spec->process->oomscoreadj = -999;
	create(p, "big", spec, CONTAINER, true, &a);
	Bulkhead__TaskCreateReply *r = created(&a);
	bool complete = strcmp(lab_status(getpid(), "CapPrm"), "000001ffffffffff") == 0;
	tap_check(r && (complete || r->n_warnings >= 2), "what can't be granted is a warning");
	for (size_t i = 0; r && i < r->n_warnings; i++)
		printf("# warning: %s\n", r->warnings[i]);
	tap_check(r && strstr(lab_file("/proc/%d/limits", (int)r->pid), "Max open files            512"),
		  "what can be granted is granted");
	lab_answer_deinit(&a);
	lab_spec_free(spec);
	delete (p, "big");
}

static void test_seccomp(struct lab_pod *p) {
	/* mkdir and mkdirat: EPERM; all else is allowed */
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 83, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 258, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const char *args[] = { "/bin/sleep", "1000", NULL };
	for (int nnp = 0; nnp < 2; nnp++) {
		Grpc__Spec *spec = lab_spec(args);
		Bulkhead__ContainerCreateRequest m = BULKHEAD__CONTAINER_CREATE_REQUEST__INIT;
		Bulkhead__TaskCreateRequest t = BULKHEAD__TASK_CREATE_REQUEST__INIT;
		struct lab_answer a;
		char id[16];
		snprintf(id, sizeof(id), "sec%d", nnp);
		spec->process->nonewprivileges = nnp;
		spec->process->user->uid = nnp ? 0 : 1000;
		t.container_id = id;
		t.spec = spec;
		t.pid_mode = CONTAINER;
		t.start = true;
		m.task = &t;
		m.seccomp_program.data = (uint8_t *)filter;
		m.seccomp_program.len = sizeof(filter);
		int root = lab_root();
		LAB_CALL(p, container_create, &m, &root, 1, &a);
		close(root);
		pid_t pid = created(&a) ? created(&a)->pid : -1;
		if (a.code)
			printf("# %s\n", a.text);
		tap_check(strcmp(lab_status(pid, "Seccomp"), "2") == 0 &&
			      strcmp(lab_status(pid, "NoNewPrivs"), nnp ? "1" : "0") == 0,
			  "the seccomp filter is loaded %s no_new_privs", nnp ? "with" : "without");
		tap_check(strcmp(lab_status(pid, "CapEff"), nnp ? "00000000000004e3" : "0000000000000000") == 0,
			  "and no capability stays from loading it");
		tap_check(strcmp(out(p, id, "mkdir /tmp/x 2>/dev/null || echo denied"), "denied") == 0,
			  "an exec has the filter too");
		lab_answer_deinit(&a);
		lab_spec_free(spec);
		delete (p, id);
	}
}

/* --- limits --- */

static void test_cgroups(struct lab_pod *p) {
	const char *args[] = { "/bin/sleep", "1000", NULL };
	Grpc__Spec *spec = lab_spec(args);
	Grpc__LinuxResources r = GRPC__LINUX_RESOURCES__INIT;
	Grpc__LinuxMemory memory = GRPC__LINUX_MEMORY__INIT;
	Grpc__LinuxPids pids = GRPC__LINUX_PIDS__INIT;
	Grpc__LinuxCPU cpu = GRPC__LINUX_CPU__INIT;
	struct lab_answer a;
	memory.limit = 32 * 1024 * 1024;
	pids.limit = 64;
	cpu.shares = 512;
	cpu.quota = 50000;
	cpu.period = 100000;
	r.memory = &memory;
	r.pids = &pids;
	r.cpu = &cpu;
	spec->linux->resources = &r;
	create(p, "limits", spec, CONTAINER, true, &a);
	pid_t pid = created(&a) ? created(&a)->pid : -1;
	char path[200];
	snprintf(path, sizeof(path), "%s", created(&a) ? created(&a)->cgroup_path : "");
	lab_answer_deinit(&a);
	const char *groups = lab_file("/proc/%d/cgroup", (int)pid);
	tap_check(strstr(groups, path) != NULL && path[0], "it is in its control group");
	bool v1 = lab_exists("/sys/fs/cgroup/memory");
	if (v1) {
		tap_check(strcmp(lab_file("/sys/fs/cgroup/memory%s/memory.limit_in_bytes", path), "33554432\n") == 0,
			  "the memory limit is set");
		tap_check(strcmp(lab_file("/sys/fs/cgroup/pids%s/pids.max", path), "64\n") == 0,
			  "the pids limit is set");
		tap_check(strcmp(lab_file("/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us", path), "50000\n") == 0,
			  "the CPU quota is set");
		tap_check(strstr(lab_file("/sys/fs/cgroup/devices%s/devices.list", path), "c 1:3 rwm") != NULL &&
			      !strstr(lab_file("/sys/fs/cgroup/devices%s/devices.list", path), "a *:*"),
			  "devices are limited");
		tap_check(atoi(lab_file("/sys/fs/cgroup/memory%s/tasks", path)) == pid,
			  "the process is in the memory group");
	} else {
		tap_check(strcmp(lab_file("/sys/fs/cgroup%s/memory.max", path), "33554432\n") == 0,
			  "the memory limit is set");
		tap_check(strcmp(lab_file("/sys/fs/cgroup%s/pids.max", path), "64\n") == 0, "the pids limit is set");
	}
	Bulkhead__TaskStatsRequest m = BULKHEAD__TASK_STATS_REQUEST__INIT;
	LAB_CALL(p, keeper_stats, &m, NULL, 0, &a);
	Bulkhead__TaskStatsReply *s = (Bulkhead__TaskStatsReply *)a.reply;
	Bulkhead__TaskStats *t = s && s->n_stats ? s->stats[0] : NULL;
	tap_check(t && t->cpu_usage_ns > 0 && t->memory_usage_bytes > 0 && t->pids == 1 &&
		      t->memory_limit_bytes == 32 * 1024 * 1024,
		  "statistics say what it uses");
	lab_answer_deinit(&a);
	spec->linux->resources = NULL;
	lab_spec_free(spec);
	struct lab_answer e;
	execute(p, "limits", "dd if=/dev/zero of=/dev/shm/x bs=1M count=60; echo after", 20, &e);
	lab_answer_deinit(&e);
	delete (p, "limits");
	tap_check(lab_cgroups("/limits") == 0, "the group is removed");

	const char *hog[] = {
		"/bin/sh", "-c",
		"yes | tr '\\n' x | head -c 200000000 > /dev/shm/y; exec dd if=/dev/zero of=/dev/null bs=100M count=1",
		NULL
	};
	spec = lab_spec(hog);
	spec->linux->resources = &r;
	create(p, "hog", spec, CONTAINER, true, &a);
	int code = exit_code(p, "hog");
	struct lab_exit *x = exit_find(p, "hog");
	tap_check(code > 0 && x && x->oom, "a container that takes too much memory is said to be killed for it (%d)",
		  code);
	lab_answer_deinit(&a);
	spec->linux->resources = NULL;
	lab_spec_free(spec);
	delete (p, "hog");
}

/* --- signals --- */

static void stop(struct lab_pod *p, const char *id, double grace, struct lab_answer *a) {
	Bulkhead__TaskStopRequest m = BULKHEAD__TASK_STOP_REQUEST__INIT;
	m.container_id = (char *)id;
	m.grace_ns = (uint64_t)(grace * 1e9);
	LAB_CALL(p, container_stop, &m, NULL, 0, a);
}

static void test_stop(struct lab_pod *p) {
	struct lab_answer a;
	run(p, "polite", "trap 'exit 5' TERM; while :; do usleep 20000; done", CONTAINER);
	lab_pause(p->lab, 0.2);
	stop(p, "polite", 5, &a);
	tap_check(a.reply && ((Bulkhead__TaskExit *)a.reply)->exit_code == 5,
		  "a container that listens stops by itself");
	lab_answer_deinit(&a);
	stop(p, "polite", 5, &a);
	tap_check(a.reply && ((Bulkhead__TaskExit *)a.reply)->exit_code == 5, "stopping it again says the same");
	lab_answer_deinit(&a);
	run(p, "deaf", "trap '' TERM; while :; do usleep 20000; done", CONTAINER);
	lab_pause(p->lab, 0.2);
	int64_t begin = clock_mono();
	stop(p, "deaf", 0.3, &a);
	int64_t took = clock_mono() - begin;
	tap_check(a.reply && ((Bulkhead__TaskExit *)a.reply)->exit_code == 137 && took >= NS_PER_SEC * 3 / 10,
		  "one that doesn't is killed when the grace period is over");
	lab_answer_deinit(&a);
	Bulkhead__TaskKillRequest k = BULKHEAD__TASK_KILL_REQUEST__INIT;
	run(p, "shot", "trap 'exit 3' USR1; while :; do usleep 20000; done", CONTAINER);
	lab_pause(p->lab, 0.2);
	k.container_id = (char *)"shot";
	k.signal = SIGUSR1;
	LAB_CALL(p, container_kill, &k, NULL, 0, &a);
	tap_check(a.code == 0 && exit_code(p, "shot") == 3, "a signal arrives");
	lab_answer_deinit(&a);
	LAB_CALL(p, container_kill, &k, NULL, 0, &a);
	tap_check(a.code == FAULT_NOT_FOUND, "a container that has ended takes none");
	lab_answer_deinit(&a);
	delete (p, "polite");
	delete (p, "deaf");
	delete (p, "shot");
	pid_t pid = run(p, "running", "sleep 1000", CONTAINER);
	tap_check(delete (p, "running") == 0 && kill(pid, 0) < 0, "deleting a running container ends it");
}

/* --- exec --- */

static void test_exec(struct lab_pod *p) {
	struct lab_answer a;
	pid_t pid = run(p, "host", "sleep 1000", CONTAINER);
	execute(p, "host", "echo out; echo err >&2; exit 9", 5, &a);
	Bulkhead__ExecSyncReply *e = (Bulkhead__ExecSyncReply *)a.reply;
	tap_check(e && e->exit_code == 9 && e->stdout_data.len == 4 && e->stderr_data.len == 4 &&
		      memcmp(e->stdout_data.data, "out\n", 4) == 0 && memcmp(e->stderr_data.data, "err\n", 4) == 0,
		  "a command's output and exit code come back");
	lab_answer_deinit(&a);
	tap_check(strcmp(out(p, "host", "readlink /proc/self/ns/pid"), ns(pid, "pid")) == 0,
		  "it is in the container's pid namespace");
	tap_check(strcmp(out(p, "host", "cat /proc/self/status | head -1; ls /proc/self/fd | wc -l"), "Name:\tcat") ==
		      0,
		  "it sees itself");
	int64_t begin = clock_mono();
	execute(p, "host", "(setsid sh -c 'sleep 777 & sleep 778' &) ; sleep 779", 0.4, &a);
	tap_check(a.code == FAULT_DEADLINE_EXCEEDED && clock_mono() - begin < 3 * NS_PER_SEC, "a time-out is one: %s",
		  a.text);
	lab_answer_deinit(&a);
	lab_pause(p->lab, 0.1);
	tap_check(strcmp(out(p, "host", "ps | grep -c 'sleep 77[789]' | tr -d 0"), "1") == 0 ||
		      strstr(out(p, "host", "ps -o args"), "sleep 77") == NULL,
		  "and kills all that was started");
	begin = clock_mono();
	execute(p, "host", "sleep 300 & echo quick", 5, &a);
	e = (Bulkhead__ExecSyncReply *)a.reply;
	tap_check(e && e->exit_code == 0 && e->stdout_data.len == 6 && clock_mono() - begin < 2 * NS_PER_SEC,
		  "what holds the output open isn't waited for");
	lab_answer_deinit(&a);
	execute(p, "host", "dd if=/dev/zero bs=1M count=20 2>/dev/null", 20, &a);
	e = (Bulkhead__ExecSyncReply *)a.reply;
	tap_check(e && e->exit_code == 0 && e->stdout_data.len == 16 * 1024 * 1024, "output is cut at 16 MiB");
	lab_answer_deinit(&a);
	Bulkhead__KeeperExecRequest m = BULKHEAD__KEEPER_EXEC_REQUEST__INIT;
	Bulkhead__ExecSyncRequest r = BULKHEAD__EXEC_SYNC_REQUEST__INIT;
	char *args[] = { (char *)"/nosuch" };
	r.container_id = (char *)"host";
	r.args = args;
	r.n_args = 1;
	m.exec = &r;
	LAB_CALL(p, keeper_exec, &m, NULL, 0, &a);
	tap_check(a.code == FAULT_INVALID_ARGUMENT &&
		      strcmp(a.text, "exec \"/nosuch\": No such file or directory") == 0,
		  "a command that isn't there is named");
	lab_answer_deinit(&a);
	delete (p, "host");
	tap_check(lab_cgroups("/host/") == 0 && lab_cgroups("/host") == 0, "no group of an exec is left");
	execute(p, "host", "true", 5, &a);
	tap_check(a.code == FAULT_NOT_FOUND, "there is no exec in what isn't there");
	lab_answer_deinit(&a);
}

/* --- logs --- */

static void test_logs(struct lab_pod *p) {
	run(p, "lines",
	    "head -c 40000 /dev/zero | tr '\\0' x; echo; i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done",
	    CONTAINER);
	tap_check(exit_code(p, "lines") == 0, "a container writes much");
	FILE *f;
	char path[256], line[20000];
	unsigned lines = 0, partial = 0, full = 0, next = 0;
	bool ordered = true, sized = true;
	snprintf(path, sizeof(path), "%s/logs/lines.log", p->lab->dir);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		char *rest = strstr(line, " stdout ");
		unsigned number;
		lines++;
		partial += rest && rest[8] == 'P';
		full += rest && rest[8] == 'F';
		if (rest && rest[8] == 'P')
			sized &= strlen(rest + 10) == 16385;
		if (rest && sscanf(rest, " stdout F line %u", &number) == 1)
			ordered &= number == next++;
	}
	if (f)
		fclose(f);
	tap_check(partial == 2 && sized, "a long line is cut into pieces of 16384 (%u)", partial);
	tap_check(next == 3000 && ordered && full == 3001 && lines == 3003,
		  "every line is there once and in order (%u)", next);
	struct stat st;
	tap_check(stat(path, &st) == 0 && (st.st_mode & 0777) == 0640, "the log's mode is 0640");
	delete (p, "lines");

	Bulkhead__TaskKey key = BULKHEAD__TASK_KEY__INIT;
	struct lab_answer a;
	char old[300];
	run(p, "rotate", "while :; do echo tick; usleep 20000; done", CONTAINER);
	lab_pause(p->lab, 0.2);
	snprintf(path, sizeof(path), "%s/logs/rotate.log", p->lab->dir);
	snprintf(old, sizeof(old), "%s.1", path);
	rename(path, old);
	key.container_id = (char *)"rotate";
	LAB_CALL(p, container_reopen_log, &key, NULL, 0, &a);
	tap_check(a.code == 0, "the log is opened again");
	lab_answer_deinit(&a);
	lab_pause(p->lab, 0.2);
	tap_check(strstr(lab_file("%s", path), "tick") != NULL, "the new file is written");
	unlink(path);
	tap_check(symlink("/tmp/keeper-lab-target", path) == 0, "a link in its place");
	LAB_CALL(p, container_reopen_log, &key, NULL, 0, &a);
	tap_check(a.code != 0 && access("/tmp/keeper-lab-target", F_OK) < 0, "is not followed: %s", a.text);
	lab_answer_deinit(&a);
	unlink(path);
	unlink(old);
	delete (p, "rotate");
}

/* --- pid namespaces, terminals --- */

static void test_shared(struct lab_pod *p) {
	pid_t a = run(p, "one", "sleep 1000", POD), b = run(p, "two", "(setsid sleep 555 &); sleep 1000", POD);
	tap_check(a > 0 && b > 0 && same_ns(a, b, "pid") && !same_ns(a, p->keeper, "pid"),
		  "containers share the pod's pid namespace");
	tap_check(strstr(out(p, "one", "ps -o args"), "PID") == NULL &&
		      strstr(out(p, "one", "cat /proc/1/comm"), "bulkhead-init"),
		  "with an init of ours: %s", out(p, "one", "cat /proc/1/comm"));
	lab_pause(p->lab, 0.2);
	struct lab_answer s;
	stop(p, "two", 0, &s);
	lab_answer_deinit(&s);
	lab_pause(p->lab, 0.2);
	tap_check(strcmp(out(p, "one", "ps -o args | grep '[s]leep 555' || echo none"), "none") == 0,
		  "what a container has left behind is ended with it");
	delete (p, "two");
	delete (p, "one");
	pid_t node = run(p, "node", "sleep 1000", NODE);
	tap_check(same_ns(node, getpid(), "pid"), "or the host's pid namespace");
	delete (p, "node");
	tap_check(kill(node, 0) < 0, "which it doesn't outlive");
}

static void test_terminal(struct lab_pod *p) {
	const char *args[] = { "/bin/sh", "-c", "[ -t 1 ] && echo terminal; stat -c %t:%T /dev/console", NULL };
	Grpc__Spec *spec = lab_spec(args);
	struct lab_answer a;
	spec->process->terminal = true;
	create(p, "tty", spec, CONTAINER, true, &a);
	tap_check(a.code == 0 && exit_code(p, "tty") == 0, "a container with a terminal runs");
	tap_check(strstr(log_text_of(p, "tty"), "stdout F terminal\r\n") != NULL,
		  "and its log is what the terminal showed");
	printf("# %s", log_text_of(p, "tty"));
	lab_answer_deinit(&a);
	lab_spec_free(spec);
	delete (p, "tty");
}

static void test_devices(struct lab_pod *p) {
	const char *args[] = { "/bin/sleep", "1000", NULL };
	Grpc__Spec *spec = lab_spec(args);
	struct lab_answer a;
	Grpc__LinuxDevice *d = malloc(sizeof(*d));
	grpc__linux_device__init(d);
	d->path = strdup("/dev/sub/tun");
	d->type = strdup("c");
	d->major = 10;
	d->minor = 200;
	d->filemode = 0600;
	spec->linux->n_devices = 1;
	spec->linux->devices = malloc(sizeof(d));
	spec->linux->devices[0] = d;
	create(p, "dev", spec, CONTAINER, true, &a);
	pid_t pid = created(&a) ? created(&a)->pid : -1;
	struct stat st;
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/root/dev/sub/tun", (int)pid);
	tap_check(stat(path, &st) == 0 && st.st_rdev == makedev(10, 200) && (st.st_mode & 0777) == 0600,
		  "a device of the specification is made");
	tap_check(strcmp(out(p, "dev", "cat /dev/sub/tun 2>&1 | grep -c 'not permitted'"), "1") == 0,
		  "but not allowed without a rule");
	tap_check(strcmp(out(p, "dev", "echo x > /dev/null && head -c 3 /dev/zero | wc -c"), "3") == 0,
		  "the usual devices are");
	lab_answer_deinit(&a);
	lab_spec_free(spec);
	delete (p, "dev");
}

/* --- the keeper itself --- */

static void test_links(struct lab_pod *p) {
	run(p, "stays", "sleep 1000", CONTAINER);
	struct stat st;
	char path[256];
	snprintf(path, sizeof(path), "%s/keeper.sock", p->run_dir);
	tap_check(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "the keeper listens for its owner only");
	tap_check(lab_pod_connect(p) == 0, "a task worker can come back");
	Bulkhead__Empty m = BULKHEAD__EMPTY__INIT;
	struct lab_answer a;
	LAB_CALL(p, keeper_state, &m, NULL, 0, &a);
	Bulkhead__KeeperStateReply *s = (Bulkhead__KeeperStateReply *)a.reply;
	tap_check(s && s->info && s->info->n_tasks == 1 && strcmp(s->info->tasks[0]->container_id, "stays") == 0 &&
		      s->info->tasks[0]->state == BULKHEAD__TASK_STATE__TASK_RUNNING,
		  "and is told what there is");
	lab_answer_deinit(&a);
	delete (p, "stays");
}

/* Without the program itself, which all keepers share. */
static long own_kib(pid_t pid) {
	const char *anonymous = strstr(lab_file("/proc/%d/smaps_rollup", (int)pid), "Pss_Anon:");
	return anonymous ? strtol(anonymous + 9, NULL, 10) : -1;
}

static void test_memory(struct lab_pod *p) {
	run(p, "mem", "sleep 1000", CONTAINER);
	long kib = own_kib(p->keeper);
	printf("# a keeper's own memory: %ld KiB\n", kib);
	tap_check(kib > 0 && (kib <= 300 || strstr(lab_file("/proc/%d/maps", (int)p->keeper), "asan")),
		  "a keeper is small");
	delete (p, "mem");
}

static void test_end(struct lab_pod *p) {
	pid_t a = run(p, "last", "sleep 1000", CONTAINER), b = run(p, "lost", "(setsid sleep 999 &) ; sleep 1000", POD);
	tap_check(a > 0 && b > 0, "two containers run");
	tap_check(teardown(p), "the pod is taken down");
	tap_check(kill(a, 0) < 0 && kill(b, 0) < 0, "its containers are gone");
	tap_check(exit_code(p, "last") == 137, "and their ends were told");
	tap_check(!lab_exists("%s/keeper.sock", p->run_dir) && !lab_exists("%s/hosts", p->run_dir) &&
		      !lab_exists("%s/state.0", p->run_dir),
		  "its files are gone");
	link_free(p->link);
	p->link = NULL;
	tap_check(lab_wait(p->lab, gone, &p->keeper, 5), "the keeper is gone");
	tap_check(lab_cgroups(p->id) == 0, "no control group is left");
}

static size_t host_mounts(void) {
	size_t n = 0;
	for (const char *c = lab_file("/proc/self/mountinfo"); *c; c++)
		n += *c == '\n';
	return n;
}

int main(void) {
	size_t mounts = host_mounts();
	struct lab *l = lab_new();
	if (!l) {
		tap_skip("keepers", "needs root and a built keeper");
		return tap_done();
	}
	struct lab_pod *p = lab_pod_new(l);
	tap_check(setup(p, NODE, CONTAINER), "a pod is set up");
	tap_check(strstr(lab_file("/proc/%d/cmdline", (int)p->keeper), "bulkhead-keeper") != NULL, "the title is set");
	tap_check(host_mounts() == mounts, "the host's mount table doesn't change");
	test_life(p);
	test_failures(p);
	test_hooks(p);
	test_isolation(p);
	test_privileged(p);
	test_seccomp(p);
	test_cgroups(p);
	test_stop(p);
	test_exec(p);
	test_logs(p);
	test_shared(p);
	test_terminal(p);
	test_devices(p);
	test_links(p);
	test_memory(p);
	test_end(p);
	tap_check(lab_pod_free(p), "its folder is empty");
	p = lab_pod_new(l);
	tap_check(setup(p, POD, CONTAINER), "a pod with a network namespace is set up");
	run(p, "net", "sleep 1000", CONTAINER);
	tap_check(!same_ns(p->keeper, getpid(), "net"), "it has one");
	tap_check(strstr(out(p, "net", "cat /proc/net/dev | grep -c lo:"), "1") != NULL, "with a loopback device");
	tap_check(teardown(p), "and is taken down");
	tap_check(lab_pod_free(p), "its folder is empty");
	char command[100];
	snprintf(command, sizeof(command), "rm -rf %s/logs", l->dir);
	tap_check(system(command) == 0, "logs are removed");
	char cgroup[64];
	snprintf(cgroup, sizeof(cgroup), "%s", l->cgroup);
	lab_free(l);
	tap_check(lab_cgroups(cgroup) == 0, "the parent group went with the zygote");
	tap_check(host_mounts() == mounts, "no mount is left");
	return tap_done();
}
