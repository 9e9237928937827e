/*
 * Each row of the privilege table, applied to a process of its own, and then
 * the things that a process of that role must not be able to do. The kernel
 * is the judge: an attack returns its errno, or the process is killed.
 *
 * Needs root. Rows are applied to copies of this program below a private
 * folder; nothing of the host is touched.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "msg/typed.h"
#include "supervisor/privileges.h"
#include "tap.h"
#include "workers/skeleton/confine.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define KILLED 1000 /* instead of an errno */

static char base[] = "/tmp/bulkhead-confine-XXXXXX";
static struct config config;

/* --- attacks: 0 when it worked, else errno --- */

#define RESULT(call) ((call) < 0 ? errno : 0)

static pid_t victim; /* a root process outside */

static int read_shadow(void) {
	return RESULT(open("/etc/shadow", O_RDONLY));
}
static int read_passwd(void) {
	return RESULT(open("/etc/passwd", O_RDONLY));
}
static int read_supervisor_memory(void) {
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)victim);
	return RESULT(open(path, O_RDONLY));
}
static int create_in_root(void) {
	return RESULT(open("/intruder", O_CREAT | O_WRONLY, 0600));
}
static int bind_mount(void) {
	return RESULT(mount("/", "/", NULL, MS_BIND, NULL));
}
static int new_mount(void) {
	return RESULT(syscall(SYS_fsopen, "tmpfs", 0));
}
static int user_namespace(void) {
	return RESULT(unshare(CLONE_NEWUSER));
}
static int join_namespace(void) {
	return RESULT(syscall(SYS_setns, 0, 0));
}
static int inet_socket(void) {
	return RESULT(socket(AF_INET, SOCK_STREAM, 0));
}
static int unix_socket(void) {
	return RESULT(socket(AF_UNIX, SOCK_STREAM, 0));
}
static int packet_socket(void) {
	return RESULT(socket(AF_PACKET, SOCK_RAW, 0));
}
static int netlink_socket(void) {
	return RESULT(socket(AF_NETLINK, SOCK_RAW, 0));
}
static int signal_victim(void) {
	return RESULT(kill(victim, SIGUSR1));
}
static int signal_all(void) {
	return RESULT(kill(-1, 0));
}
static int thread_signal(void) {
	return RESULT(syscall(SYS_tgkill, victim, victim, SIGUSR1));
}
static int trace(void) {
	return RESULT(ptrace(PTRACE_ATTACH, victim, NULL, NULL));
}
static int steal_descriptor(void) {
	return RESULT(syscall(SYS_pidfd_getfd, 0, 0, 0));
}
static int load_module(void) {
	return RESULT(syscall(SYS_init_module, NULL, 0, ""));
}
static int load_kernel(void) {
	return RESULT(syscall(SYS_kexec_load, 0, 0, NULL, 0));
}
static int load_bpf(void) {
	return RESULT(syscall(SYS_bpf, 0, NULL, 0));
}
static int open_by_handle(void) {
	return RESULT(syscall(SYS_open_by_handle_at, 0, NULL, 0));
}
static int execute(void) {
	char *const none[] = { NULL };
	return RESULT(execve("/bin/true", none, none));
}
static int spawn_child(void) {
	pid_t pid = (pid_t)syscall(SYS_fork);
	if (pid == 0)
		_exit(0);
	return RESULT(pid);
}
static int become_root(void) {
	return RESULT(syscall(SYS_setresuid, 0, 0, 0));
}
static int executable_memory(void) {
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? errno : 0;
}
static int make_executable(void) {
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return RESULT(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}
static int raise_limit(void) {
	struct rlimit l = { 1 << 20, 1 << 20 };
	return RESULT(setrlimit(RLIMIT_NPROC, &l));
}
static int second_uring(void) {
	struct io_uring_params p = { 0 };
	return RESULT(syscall(SYS_io_uring_setup, 4, &p));
}
static int register_uring(void) {
	return RESULT(syscall(SYS_io_uring_register, 0, 0, NULL, 0));
}
static int device_node(void) {
	return RESULT(mknod("/memory", S_IFCHR | 0600, (1 << 8) | 1));
}
static int set_hostname(void) {
	return RESULT(sethostname("x", 1));
}
static int dump_core(void) {
	return RESULT(prctl(PR_SET_DUMPABLE, 1));
}
static int sees_network(void) {
	/* Only loopback, and that is down: nothing answers on it. */
	return access("/sys/class/net", F_OK) < 0 ? errno : 0;
}
static int write_host_config(void) {
	return RESULT(open("/etc/resolv.conf", O_WRONLY));
}
static int write_other_state(void) {
	char path[128];
	snprintf(path, sizeof(path), "%s/state/other/secret", base);
	return RESULT(open(path, O_RDONLY));
}

static int type_into_terminal(void) {
	return RESULT(ioctl(0, TIOCSTI, "x"));
}

/* Which roles, as bits. */
#define R(role) (1u << ROLE_##role)
#define ALL (R(API) | R(METADATA) | R(IMAGE) | R(SNAPSHOT) | R(TASK) | R(STREAM) | R(SYSTEMD))

static const struct {
	const char *name;
	int (*run)(void);
	unsigned roles;
	int errors[3]; /* any of these */
} attacks[] = {
	{ "open /etc/shadow", read_shadow, ALL, { EPERM, ENOENT } },
	{ "open /etc/passwd", read_passwd, ALL, { EPERM, ENOENT } },
	{ "open the memory of another process", read_supervisor_memory, ALL, { EPERM, ENOENT } },
	{ "create a file in its root", create_in_root, ALL, { EPERM, EROFS } },
	{ "open another worker's state", write_other_state, ALL, { EPERM, ENOENT } },
	{ "bind-mount", bind_mount, ALL & ~R(SNAPSHOT), { EPERM } },
	{ "make a file system", new_mount, ALL & ~R(SNAPSHOT), { EPERM } },
	{ "make a user namespace", user_namespace, ALL | R(GUEST), { EPERM } },
	{ "join a namespace", join_namespace, ALL | R(GUEST), { EPERM } },
	{ "make an IPv4 socket", inet_socket, ALL & ~R(IMAGE), { EPERM } },
	{ "make a local socket", unix_socket, ALL & ~R(TASK) & ~R(SYSTEMD), { EPERM } },
	{ "make a packet socket", packet_socket, ALL | R(GUEST), { EPERM } },
	{ "make a netlink socket", netlink_socket, ALL, { EPERM } },
	{ "signal a root process", signal_victim, ALL, { EPERM } },
	{ "signal everybody", signal_all, ALL, { EPERM } },
	{ "signal a thread", thread_signal, ALL, { EPERM } },
	{ "trace a process", trace, ALL | R(GUEST), { KILLED } },
	{ "steal a descriptor", steal_descriptor, ALL | R(GUEST), { KILLED } },
	{ "load a kernel module", load_module, ALL, { KILLED } },
	{ "load a kernel", load_kernel, ALL | R(GUEST), { KILLED } },
	{ "load a BPF program", load_bpf, ALL | R(GUEST), { KILLED } },
	{ "open by handle", open_by_handle, ALL | R(GUEST), { KILLED } },
	{ "execute a program", execute, ALL, { EPERM } },
	{ "fork", spawn_child, ALL & ~R(SNAPSHOT), { EPERM } },
	{ "become root", become_root, ALL, { EPERM } },
	{ "map executable memory", executable_memory, ALL, { EPERM } },
	{ "make memory executable", make_executable, ALL, { EPERM } },
	{ "type into a terminal", type_into_terminal, ALL, { EPERM } },
	{ "raise a limit", raise_limit, ALL, { EPERM } },
	{ "make an io_uring", second_uring, ALL, { EPERM } },
	{ "register with io_uring", register_uring, ALL, { EPERM } },
	{ "make a device node", device_node, ALL, { EPERM, EROFS } },
	{ "set the host's name", set_hostname, ALL, { EPERM } },
	{ "become dumpable", dump_core, ALL, { EPERM } },
	{ "look at network devices", sees_network, ALL, { EPERM, ENOENT } },
	{ "write the host's resolv.conf", write_host_config, ALL, { EPERM, EACCES, ENOENT } },
};

/* --- applying a row --- */

static struct loop *own_loop; /* of the confined process */

static int confined(enum role role, int (*run)(void)) {
	static struct boot_privileges p;
	struct fault fault;
	struct loop *loop;
	if (privileges_compile(role, &config, &p, &fault) < 0 || confine_surroundings(&p, &fault) < 0) {
		fprintf(stderr, "# %s: %s\n", role_name(role), fault.text);
		_exit(255);
	}
	if (loop_new(NULL, &loop) < 0 || confine_calls(&p, loop, &fault) < 0) {
		fprintf(stderr, "# %s: %s\n", role_name(role), fault.text);
		_exit(254);
	}
	own_loop = loop;
	_exit(run());
}

/* What became of it: its errno, KILLED, or -1 when it could not be confined. */
static int attack(enum role role, int (*run)(void)) {
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		confined(role, run);
	int status;
	if (waitpid(pid, &status, 0) < 0)
		return -1;
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? KILLED : -2;
	return WEXITSTATUS(status) >= 254 ? -1 : WEXITSTATUS(status);
}

static void test_attacks(enum role role) {
	for (size_t i = 0; i < ARRAY_SIZE(attacks); i++) {
		if (!(attacks[i].roles & (1u << role)))
			continue;
		int got = attack(role, attacks[i].run);
		bool denied = false;
		for (size_t e = 0; e < 3; e++)
			denied |= attacks[i].errors[e] != 0 && attacks[i].errors[e] == got;
		tap_check(denied, "%s can't %s: %s", role_name(role), attacks[i].name,
			  got == KILLED ? "killed"
			  : got < 0	? "not tried"
			  : got		? strerrordesc_np(got)
					: "it can");
	}
}

/* --- what a row grants --- */

static int write_own(const char *folder) {
	char path[128];
	snprintf(path, sizeof(path), "%s/%s/probe", base, folder);
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
	int r = fd < 0 ? errno : write(fd, "x", 1) == 1 ? 0 : EIO;
	unlink(path);
	return r;
}
static int write_metadata(void) {
	return write_own("state/metadata");
}
static int write_content(void) {
	return write_own("state/content");
}
static int write_layers(void) {
	return write_own("state/layers");
}
static int write_pods(void) {
	return write_own("run/pods");
}
static int read_resolv_conf(void) {
	return RESULT(open("/etc/resolv.conf", O_RDONLY));
}
static int write_layers_owner(void) {
	char path[128];
	snprintf(path, sizeof(path), "%s/state/layers/owned", base);
	int r = RESULT(mkdir(path, 0755));
	if (r == 0)
		r = RESULT(chown(path, 1000, 1000));
	rmdir(path);
	return r;
}

/* Of something that is no terminal: it may ask, and hears that. */
static int resize_terminal(void) {
	struct winsize w = { 0 };
	int r = RESULT(ioctl(0, TIOCSWINSZ, &w));
	return r == ENOTTY ? 0 : r;
}

/* A file system without flags says so. */
static int folder_flags(void) {
	char path[128];
	int flags = 0;
	snprintf(path, sizeof(path), "%s/state/layers", base);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int r = RESULT(ioctl(fd, FS_IOC_GETFLAGS, &flags));
	if (r == 0)
		r = RESULT(ioctl(fd, FS_IOC_SETFLAGS, &flags));
	close(fd);
	return r == ENOTTY || r == EOPNOTSUPP ? 0 : r;
}

static const struct {
	enum role role;
	const char *name;
	int (*run)(void);
} grants[] = {
	{ ROLE_METADATA, "write its databases", write_metadata },
	{ ROLE_IMAGE, "write content", write_content },
	{ ROLE_IMAGE, "make an IPv4 socket", inet_socket },
	{ ROLE_IMAGE, "read resolv.conf", read_resolv_conf },
	{ ROLE_SNAPSHOT, "write layers", write_layers },
	{ ROLE_SNAPSHOT, "give files away", write_layers_owner },
	{ ROLE_SNAPSHOT, "set a folder's flags", folder_flags },
	{ ROLE_SNAPSHOT, "make a file system", new_mount },
	{ ROLE_SNAPSHOT, "have children", spawn_child },
	{ ROLE_TASK, "write the pods' folder", write_pods },
	{ ROLE_TASK, "make a local socket", unix_socket },
	{ ROLE_SYSTEMD, "make a local socket", unix_socket },
	{ ROLE_GUEST, "make a file system", new_mount },
	{ ROLE_GUEST, "make a netlink socket", netlink_socket },
	{ ROLE_GUEST, "have children", spawn_child },
	{ ROLE_GUEST, "execute a program", execute },
	{ ROLE_STREAM, "set a terminal's size", resize_terminal },
};

/* --- a read-only endpoint's API worker in somebody else's hands --- */

static struct link_ends api_ends;

static void answer_came(void *ctx, const struct msg_answer *a) {
	*(enum fault_code *)ctx = a->fault ? a->fault->code : FAULT_NONE;
}

/* It sends what it likes: its own end of the link asks it nothing. */
static int start_container(void) {
	const struct link_options options = {
		.loop = own_loop, .self = ROLE_API, .peer = ROLE_METADATA, .access = ACCESS_FULL
	};
	struct link *link;
	enum fault_code code = FAULT_UNKNOWN;
	Runtime__V1__StartContainerRequest q = RUNTIME__V1__START_CONTAINER_REQUEST__INIT;
	if (link_new(&options, &link) < 0 || link_attach_ring(link, &api_ends) < 0)
		return EIO;
	cri_start_container_send(link, NULL, &q, NULL, 0, answer_came, &code);
	for (int i = 0; i < 20 && code == FAULT_UNKNOWN; i++)
		loop_turn(own_loop, 10 * NS_PER_MS);
	return code == FAULT_NONE ? 0 : EPERM;
}

struct judge {
	int started, violations;
};

static void on_cri_start_container(struct judge *j, struct msg_request *r,
				   const Runtime__V1__StartContainerRequest *m) {
	Runtime__V1__StartContainerResponse reply = RUNTIME__V1__START_CONTAINER_RESPONSE__INIT;
	j->started++;
	cri_start_container_reply(r, &reply, NULL, 0);
}
HANDLER_DEFINE(struct judge, cri_start_container)

static void judged(void *worker, struct link *l, bool violation, const char *text) {
	((struct judge *)worker)->violations += violation;
}

static struct judge judge_of(enum link_access access) {
	static const struct link_handler handlers[] = { HANDLER(cri_start_container), { 0 } };
	struct judge j = { 0 };
	struct link_ends ends;
	struct loop *loop;
	struct link *link;
	struct link_options options = { .self = ROLE_METADATA,
					.peer = ROLE_API,
					.access = access,
					.endpoint = "look",
					.handlers = handlers,
					.worker = &j,
					.on_down = judged };
	if (link_ends_new(&ends, &api_ends) < 0)
		abort();
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		confined(ROLE_API, start_container);
	link_ends_close(&api_ends);
	if (loop_new(NULL, &loop) < 0 || loop_enable(loop, NULL, 0) < 0)
		abort();
	options.loop = loop;
	if (link_new(&options, &link) < 0 || link_attach_ring(link, &ends) < 0)
		abort();
	for (int i = 0; i < 200 && j.started + j.violations == 0; i++)
		loop_turn(loop, 10 * NS_PER_MS);
	loop_turn(loop, 10 * NS_PER_MS);
	waitpid(pid, NULL, 0);
	link_free(link);
	/* What was freed just now still has its last word. */
	loop_turn(loop, 0);
	loop_free(loop);
	return j;
}

static void test_taken_over(void) {
	struct judge j = judge_of(ACCESS_READ_ONLY);
	tap_check(j.started == 0 && j.violations == 1,
		  "a read-only API worker that was taken over can't start a container, and is found out");
	j = judge_of(ACCESS_METRICS);
	tap_check(j.started == 0 && j.violations == 1, "nor can one for metrics");
	j = judge_of(ACCESS_FULL);
	tap_check(j.started == 1 && j.violations == 0, "one with full access starts it: the attack is a real one");
}

/* --- io_uring's own restriction: the same ring, an opcode that isn't in the row --- */

static int forbidden_opcode(void) {
	static struct boot_privileges p;
	struct fault fault;
	if (privileges_resolve(ROLE_API, &config, &p, &fault) < 0)
		return -1;
	bool fsync = false;
	for (uint32_t i = 0; i < p.n_opcodes; i++)
		fsync |= p.opcodes[i] == IORING_OP_FSYNC || p.opcodes[i] == IORING_OP_OPENAT ||
			 p.opcodes[i] == IORING_OP_CONNECT;
	return fsync;
}

static void synced(void *ctx, int result) {
	*(int *)ctx = result;
}

/* The loop itself offers fsync; on the api worker's ring the kernel refuses it. */
static int fsync_on_api_ring(void) {
	static struct boot_privileges p;
	struct fault fault;
	struct loop *loop;
	struct loop_source *source;
	int result = 1;
	if (privileges_resolve(ROLE_API, &config, &p, &fault) < 0 || loop_new(NULL, &loop) < 0 ||
	    loop_enable(loop, p.opcodes, p.n_opcodes) < 0)
		return -1;
	int fd = memfd_create("probe", 0);
	if (loop_fsync(loop, fd, false, synced, &result, &source) < 0)
		return -1;
	for (int i = 0; i < 10 && result == 1; i++)
		loop_turn(loop, 10 * NS_PER_MS);
	loop_source_free(source);
	loop_free(loop);
	close(fd);
	return -result;
}

/* --- */

static void folder(const char *name, enum role owner) {
	char path[128];
	uid_t uid;
	gid_t gid;
	snprintf(path, sizeof(path), "%s/%s", base, name);
	privileges_owner(owner, &config, &uid, &gid);
	if (mkdir(path, 0700) < 0 || chown(path, uid, gid) < 0)
		perror(path);
}

static void set_up(void) {
	struct fault fault;
	char state[64], run[64];
	snprintf(state, sizeof(state), "state_root=%s/state", base);
	snprintf(run, sizeof(run), "run_root=%s/run", base);
	const char *options[] = { state, run };
	struct config_source source = { .file = "/nonexistent", .options = options, .n_options = 2 };
	if (config_load(&source, &config, &fault) < 0)
		fprintf(stderr, "# %s\n", fault.text);
	folder("state", ROLE_SUPERVISOR);
	folder("run", ROLE_SUPERVISOR);
	folder("state/metadata", ROLE_METADATA);
	folder("state/content", ROLE_IMAGE);
	folder("state/layers", ROLE_SNAPSHOT);
	folder("state/snapshots", ROLE_SNAPSHOT);
	folder("state/other", ROLE_SUPERVISOR);
	folder("run/pods", ROLE_TASK);
	char path[128];
	snprintf(path, sizeof(path), "%s/state/other/secret", base);
	close(open(path, O_CREAT | O_WRONLY, 0644));
	victim = fork();
	if (victim == 0)
		for (;;)
			pause();
}

static void tear_down(void) {
	static const char *const names[] = {
		"state/other/secret", "state/metadata", "state/content", "state/layers", "state/snapshots",
		"state/other",	      "run/pods",	"run",		 "state",	 ""
	};
	int status;
	tap_check(waitpid(victim, &status, WNOHANG) == 0, "the victim lives");
	kill(victim, SIGKILL);
	waitpid(victim, &status, 0);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[128];
		snprintf(path, sizeof(path), "%s/%s", base, names[i]);
		if (remove(path) < 0)
			perror(path);
	}
}

int main(void) {
	if (geteuid() != 0) {
		tap_skip("confinement", "needs root");
		return tap_done();
	}
	if (!mkdtemp(base))
		return 1;
	set_up();
	for (enum role role = ROLE_API; role < ROLE_KEEPER; role++)
		test_attacks(role);
	for (size_t i = 0; i < ARRAY_SIZE(grants); i++) {
		int got = attack(grants[i].role, grants[i].run);
		tap_check(got == 0, "%s can %s: %s", role_name(grants[i].role), grants[i].name,
			  got < 0 ? "not tried" : strerrordesc_np(got));
	}
	test_taken_over();
	tap_check(forbidden_opcode() == 0, "the api worker's ring has no opcode that opens or connects");
	tap_check(fsync_on_api_ring() == EACCES, "an opcode that isn't in the row is refused by the ring");
	tear_down();
	return tap_done();
}
