#include "tests/integration/keeper_lab.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "boot/block.h"
#include "boot/control.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

/* --- the zygote --- */

static int block_make(const struct lab *l) {
	static struct boot_block b;
	b.role = ROLE_KEEPER;
	snprintf(b.config.run_root, sizeof(b.config.run_root), "%s", l->dir);
	snprintf(b.config.cgroup_parent, sizeof(b.config.cgroup_parent), "%s", l->cgroup);
	b.config.log_line_max = 16384;
	b.config.log_level = 1;
	b.config.n_log_binaries = 2;
	strcpy(b.config.log_binaries[0].name, "logger");
	snprintf(b.config.log_binaries[0].path, sizeof(b.config.log_binaries[0].path), "%s/logger", l->dir);
	strcpy(b.config.log_binaries[1].name, "missing");
	strcpy(b.config.log_binaries[1].path, "/nothing/there");
	b.privileges.capabilities = BOOT_CAPABILITIES_ALL;
	struct rlimit keep = { .rlim_cur = RLIM_INFINITY, .rlim_max = BOOT_LIMIT_KEEP };
	b.privileges.nofile = b.privileges.memlock = b.privileges.core = b.privileges.nproc = keep;
	return boot_block_write(&b);
}

static int zygote_start(struct lab *l, const char *program) {
	int control[2], block = block_make(l);
	if (block < 0 || control_pair(control) < 0)
		return -1;
	l->zygote_pid = fork();
	if (l->zygote_pid == 0) {
		int b = fcntl(block, F_DUPFD, 10), c = fcntl(control[1], F_DUPFD, 10);
		dup2(b, BOOT_FD_BLOCK);
		dup2(c, BOOT_FD_CONTROL);
		close(b);
		close(c);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl(program, program, (char *)NULL);
		perror(program);
		_exit(1);
	}
	close(block);
	close(control[1]);
	l->control = control[0];
	return l->zygote_pid < 0 ? -1 : 0;
}

static int zygote_link(struct lab *l) {
	int pair[2];
	struct control c = { .type = CONTROL_ZYGOTE };
	struct link_options options = { .loop = l->loop, .self = ROLE_TASK, .peer = ROLE_KEEPER };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -1;
	if (control_send(l->control, &c, &pair[1], 1) < 0 || link_new(&options, &l->zygote) < 0)
		return -1;
	close(pair[1]);
	return link_attach_socket(l->zygote, pair[0]);
}

struct lab *lab_new(void) {
	const char *build = getenv("BULKHEAD_BUILD");
	static const struct loop_options options = { .entries = 32 };
	char program[256];
	struct lab *l = calloc(1, sizeof(*l));
	snprintf(program, sizeof(program), "%s/bulkhead-keeper", build ? build : "build/plain");
	snprintf(l->dir, sizeof(l->dir), "/tmp/keeper-lab-%d", (int)getpid());
	snprintf(l->cgroup, sizeof(l->cgroup), "/bulkhead-lab-%d", (int)getpid());
	/* What a killed zygote leaves falls to us, and not to the machine's init. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (geteuid() != 0 || access(program, X_OK) < 0 || mkdir(l->dir, 0711) < 0 ||
	    loop_new(&options, &l->loop) < 0 || loop_enable(l->loop, NULL, 0) < 0 || zygote_start(l, program) < 0 ||
	    zygote_link(l) < 0) {
		printf("# no zygote of keepers: %s\n", strerror(errno));
		free(l);
		return NULL;
	}
	return l;
}

void lab_free(struct lab *l) {
	struct control c = { .type = CONTROL_STOP };
	if (control_send(l->control, &c, NULL, 0) < 0)
		kill(l->zygote_pid, SIGKILL);
	waitpid(l->zygote_pid, NULL, 0);
	link_free(l->zygote);
	close(l->control);
	lab_pause(l, 0.02);
	loop_free(l->loop);
	rmdir(l->dir);
	free(l);
}

bool lab_wait(struct lab *l, bool (*done)(void *ctx), void *ctx, double seconds) {
	int64_t end = clock_mono() + (int64_t)(seconds * 1e9);
	while (!done(ctx) && clock_mono() < end)
		loop_turn(l->loop, 10 * NS_PER_MS);
	return done(ctx);
}

static bool never(void *ctx) {
	return false;
}

void lab_pause(struct lab *l, double seconds) {
	lab_wait(l, never, NULL, seconds);
}

/* --- calls --- */

static void call_done(void *ctx, const struct msg_answer *m) {
	struct lab_answer *a = ctx;
	a->done = true;
	if (m->fault) {
		a->code = m->fault->code;
		snprintf(a->text, sizeof(a->text), "%s", m->fault->text);
		return;
	}
	size_t size = protobuf_c_message_get_packed_size(m->reply);
	uint8_t *packed = malloc(size + 1);
	protobuf_c_message_pack(m->reply, packed);
	a->reply = protobuf_c_message_unpack(m->reply->descriptor, NULL, size, packed);
	free(packed);
	if (m->fds && m->fds[0] > 0)
		a->fd = take_fd(&m->fds[0]);
}

static bool answered(void *ctx) {
	return ((struct lab_answer *)ctx)->done;
}

void lab_call_start(struct link *link, lab_send_fn send, const void *m, const int *fds, size_t n_fds, double seconds,
		    struct lab_answer *a) {
	struct msg_context context = { .deadline = clock_mono() + (int64_t)(seconds * 1e9) };
	*a = (struct lab_answer){ .fd = -1 };
	send(link, &context, m, fds, n_fds, call_done, a);
}

void lab_call(struct lab *l, struct link *link, lab_send_fn send, const void *m, const int *fds, size_t n_fds,
	      double seconds, struct lab_answer *ret) {
	lab_call_start(link, send, m, fds, n_fds, seconds, ret);
	lab_wait(l, answered, ret, seconds + 5);
}

void lab_answer_deinit(struct lab_answer *a) {
	if (a->reply)
		protobuf_c_message_free_unpacked(a->reply, NULL);
	fd_close(a->fd);
	*a = (struct lab_answer){ .fd = -1 };
}

/* --- pods --- */

static void on_process_exited(struct lab_pod *p, struct msg_request *r, const Bulkhead__TaskExit *m) {
	Bulkhead__Empty none = BULKHEAD__EMPTY__INIT;
	if (p->n_exits == LAB_EXITS_MAX)
		p->n_exits = 0;
	struct lab_exit *e = &p->exits[p->n_exits++];
	snprintf(e->container, sizeof(e->container), "%s", m->container_id);
	snprintf(e->exec, sizeof(e->exec), "%s", m->exec_id);
	e->code = m->exit_code;
	e->oom = m->ooms > 0;
	process_exited_reply(r, &none, NULL, 0);
}

HANDLER_DEFINE(struct lab_pod, process_exited)

static const struct link_handler handlers[] = { HANDLER(process_exited), { 0 } };

bool lab_pod_take_vault(struct lab_pod *p) {
	Bulkhead__Empty m = BULKHEAD__EMPTY__INIT;
	struct lab_answer a;
	LAB_CALL(p, keeper_vault, &m, NULL, 0, &a);
	fd_replace(&p->vault, take_fd(&a.fd));
	lab_answer_deinit(&a);
	return p->vault >= 0;
}

static bool is_down(void *pod) {
	return ((struct lab_pod *)pod)->down;
}

bool lab_pod_kill(struct lab_pod *p) {
	kill(p->keeper, SIGKILL);
	return lab_wait(p->lab, is_down, p, 5);
}

static void pod_down(void *worker, struct link *l, bool violation, const char *text) {
	((struct lab_pod *)worker)->down = true;
}

struct lab_pod *lab_pod_new(struct lab *l) {
	struct lab_pod *p = calloc(1, sizeof(*p));
	struct link_options options = { .loop = l->loop,
					.self = ROLE_TASK,
					.peer = ROLE_KEEPER,
					.handlers = handlers,
					.worker = p,
					.on_down = pod_down };
	Bulkhead__KeeperForkRequest m = BULKHEAD__KEEPER_FORK_REQUEST__INIT;
	struct lab_answer a;
	int pair[2];
	p->lab = l;
	p->vault = -1;
	id_random(p->id);
	snprintf(p->run_dir, sizeof(p->run_dir), "%s/%s", l->dir, p->id);
	mkdir(p->run_dir, 0700);
	m.sandbox_id = p->id;
	m.run_dir = p->run_dir;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0 ||
	    link_new(&options, &p->link) < 0 || link_attach_socket(p->link, pair[0]) < 0)
		abort();
	lab_call(l, l->zygote, (lab_send_fn)keeper_fork_send, &m, &pair[1], 1, 5, &a);
	close(pair[1]);
	if (a.code || !a.reply) {
		printf("# keeper_fork: %s\n", a.text);
		abort();
	}
	p->keeper = ((Bulkhead__KeeperForkReply *)a.reply)->pid;
	lab_answer_deinit(&a);
	return p;
}

int lab_pod_connect(struct lab_pod *p) {
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/keeper.sock", p->run_dir);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -errno;
	}
	p->down = false;
	return link_attach_socket(p->link, fd);
}

bool lab_pod_adopt(struct lab_pod *p, struct lab_answer *a) {
	struct lab *l = p->lab;
	Bulkhead__KeeperForkRequest f = BULKHEAD__KEEPER_FORK_REQUEST__INIT;
	Bulkhead__KeeperAdoptRequest m = BULKHEAD__KEEPER_ADOPT_REQUEST__INIT;
	int pair[2];
	f.sandbox_id = m.sandbox_id = p->id;
	f.run_dir = m.run_dir = p->run_dir;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0 ||
	    link_attach_socket(p->link, pair[0]) < 0)
		return false;
	p->down = false;
	lab_call(l, l->zygote, (lab_send_fn)keeper_fork_send, &f, &pair[1], 1, 5, a);
	close(pair[1]);
	if (!a->reply)
		return false;
	p->keeper = ((Bulkhead__KeeperForkReply *)a->reply)->pid;
	lab_answer_deinit(a);
	LAB_CALL(p, keeper_adopt, &m, &p->vault, 1, a);
	if (a->code)
		printf("# adopt: %s\n", a->text);
	return a->code == 0 && a->reply;
}

bool lab_pod_setup(struct lab_pod *p, const char *hostname) {
	Bulkhead__PodSetupRequest m = BULKHEAD__POD_SETUP_REQUEST__INIT;
	Bulkhead__SandboxStartRequest s = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	struct lab_answer a;
	s.id = p->id;
	s.hostname = (char *)hostname;
	m.sandbox = &s;
	m.run_dir = p->run_dir;
	LAB_CALL(p, pod_setup, &m, NULL, 0, &a);
	if (a.code)
		printf("# pod_setup: %s\n", a.text);
	int code = a.code;
	lab_answer_deinit(&a);
	return code == 0;
}

pid_t lab_run(struct lab_pod *p, const char *id, const char *script, Bulkhead__NamespaceMode pid, bool start) {
	const char *args[] = { "/bin/sh", "-c", script, NULL };
	Bulkhead__ContainerCreateRequest m = BULKHEAD__CONTAINER_CREATE_REQUEST__INIT;
	Bulkhead__TaskCreateRequest t = BULKHEAD__TASK_CREATE_REQUEST__INIT;
	Grpc__Spec *spec = lab_spec(args);
	struct lab_answer a;
	char log[256];
	snprintf(log, sizeof(log), "%s/logs/%s.log", p->lab->dir, id);
	t.container_id = (char *)id;
	t.spec = spec;
	t.log_path = log;
	t.pid_mode = pid;
	t.start = start;
	m.task = &t;
	int root = lab_root();
	LAB_CALL(p, container_create, &m, &root, 1, &a);
	close(root);
	if (a.code)
		printf("# create %s: %s\n", id, a.text);
	pid_t result = a.reply ? ((Bulkhead__ContainerCreateReply *)a.reply)->created->pid : -1;
	lab_answer_deinit(&a);
	lab_spec_free(spec);
	return result;
}

int lab_key(struct lab_pod *p, lab_send_fn send, const char *id) {
	Bulkhead__TaskKey m = BULKHEAD__TASK_KEY__INIT;
	struct lab_answer a;
	m.container_id = (char *)id;
	lab_call(p->lab, p->link, send, &m, NULL, 0, 20, &a);
	int code = a.code;
	if (code)
		printf("# %s: %s\n", id, a.text);
	lab_answer_deinit(&a);
	return code;
}

bool lab_pod_teardown(struct lab_pod *p) {
	Bulkhead__SandboxStopRequest m = BULKHEAD__SANDBOX_STOP_REQUEST__INIT;
	struct lab_answer a;
	m.id = p->id;
	LAB_CALL(p, pod_teardown, &m, NULL, 0, &a);
	if (a.code)
		printf("# teardown: %s\n", a.text);
	int code = a.code;
	lab_answer_deinit(&a);
	return code == 0;
}

bool lab_pod_free(struct lab_pod *p) {
	bool empty = rmdir(p->run_dir) == 0;
	link_free(p->link);
	fd_close(p->vault);
	free(p);
	return empty;
}

/* --- roots and specifications --- */

static void file_put(int root, const char *path, const char *text, mode_t mode) {
	int fd = openat(root, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
	if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
		perror(path);
	fd_close(fd);
}

static void busybox_put(int root) {
	struct stat st;
	int from = open("/bin/busybox", O_RDONLY), to = openat(root, "bin/busybox", O_WRONLY | O_CREAT, 0755);
	if (from < 0 || to < 0 || fstat(from, &st) < 0 || sendfile(to, from, NULL, (size_t)st.st_size) != st.st_size)
		perror("busybox");
	fd_close(from);
	fd_close(to);
	static const char *const applets[] = { "sh",  "cat",	"echo", "sleep",    "true",  "false",	 "id",
					       "ls",  "mount",	"ps",	"kill",	    "touch", "hostname", "head",
					       "yes", "setsid", "dd",	"readlink", "env",   "pwd",	 "stat",
					       "df",  "usleep", "tr",	"wc",	    "grep" };
	for (size_t i = 0; i < ARRAY_SIZE(applets); i++) {
		char path[64];
		snprintf(path, sizeof(path), "bin/%s", applets[i]);
		if (symlinkat("busybox", root, path) < 0)
			perror(path);
	}
}

void lab_root_fill(int root) {
	static const char *const folders[] = { "bin", "etc", "tmp", "proc", "dev", "sys", "home", "data" };
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		mkdirat(root, folders[i], 0755);
	busybox_put(root);
}

int lab_root(void) {
	int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	int root = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	close(fs);
	fchmod(root, 0755);
	lab_root_fill(root);
	file_put(root, "etc/passwd",
		 "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\nbig:x:4294967296:0::/:/bin/sh\n",
		 0644);
	file_put(root, "etc/group", "root:x:0:\nweb:x:1001:\nextra:x:2000:nobody,web\nother:x:2001:nobody\n", 0644);
	file_put(root, "bin/plain", "no program\n", 0644);
	/* Links that lead out of the root unless they are kept inside. */
	if (fchmodat(root, "tmp", 01777, 0) < 0 || symlinkat("/../../../../tmp/escape", root, "trap") < 0 ||
	    symlinkat("../run/gone/resolv.conf", root, "etc/dangling") < 0)
		perror("root");
	return root;
}

void lab_strings(size_t *n, char ***list, const char *words) {
	char *copy = strdup(words), *save = NULL;
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		*list = realloc(*list, (*n + 1) * sizeof(**list));
		(*list)[(*n)++] = strdup(w);
	}
	free(copy);
}

void lab_spec_mount(Grpc__Spec *s, const char *destination, const char *type, const char *source, const char *options) {
	Grpc__Mount *m = malloc(sizeof(*m));
	grpc__mount__init(m);
	m->destination = strdup(destination);
	m->type = strdup(type);
	m->source = strdup(source);
	lab_strings(&m->n_options, &m->options, options);
	s->mounts = realloc(s->mounts, (s->n_mounts + 1) * sizeof(*s->mounts));
	s->mounts[s->n_mounts++] = m;
}

static void namespace_add(Grpc__Linux *l, const char *type) {
	Grpc__LinuxNamespace *n = malloc(sizeof(*n));
	grpc__linux_namespace__init(n);
	n->type = strdup(type);
	l->namespaces = realloc(l->namespaces, (l->n_namespaces + 1) * sizeof(*l->namespaces));
	l->namespaces[l->n_namespaces++] = n;
}

static void process_fill(Grpc__Process *p, const char *const *args) {
	static const char some[] = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_KILL CAP_SETGID CAP_SETUID CAP_NET_BIND_SERVICE";
	for (; *args; args++) {
		p->args = realloc(p->args, (p->n_args + 1) * sizeof(*p->args));
		p->args[p->n_args++] = strdup(*args);
	}
	p->cwd = strdup("/");
	lab_strings(&p->n_env, &p->env, "PATH=/bin COLOR=green");
	p->user = malloc(sizeof(*p->user));
	grpc__user__init(p->user);
	p->capabilities = malloc(sizeof(*p->capabilities));
	grpc__linux_capabilities__init(p->capabilities);
	lab_strings(&p->capabilities->n_bounding, &p->capabilities->bounding, some);
	lab_strings(&p->capabilities->n_effective, &p->capabilities->effective, some);
	lab_strings(&p->capabilities->n_permitted, &p->capabilities->permitted, some);
}

Grpc__Spec *lab_spec(const char *const *args) {
	Grpc__Spec *s = malloc(sizeof(*s));
	grpc__spec__init(s);
	s->process = malloc(sizeof(*s->process));
	grpc__process__init(s->process);
	process_fill(s->process, args);
	s->linux = malloc(sizeof(*s->linux));
	grpc__linux__init(s->linux);
	s->root = malloc(sizeof(*s->root));
	grpc__root__init(s->root);
	lab_spec_mount(s, "/proc", "proc", "proc", "nosuid noexec nodev");
	lab_spec_mount(s, "/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k");
	lab_spec_mount(s, "/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5");
	lab_spec_mount(s, "/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev");
	lab_spec_mount(s, "/sys", "sysfs", "sysfs", "nosuid noexec nodev ro");
	lab_spec_mount(s, "/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro");
	namespace_add(s->linux, "pid");
	namespace_add(s->linux, "mount");
	lab_strings(&s->linux->n_maskedpaths, &s->linux->maskedpaths,
		    "/proc/kcore /proc/keys /proc/timer_list /proc/scsi /sys/firmware /proc/nothere");
	lab_strings(&s->linux->n_readonlypaths, &s->linux->readonlypaths, "/proc/bus /proc/fs /proc/irq /proc/sys");
	return s;
}

void lab_spec_free(Grpc__Spec *s) {
	grpc__spec__free_unpacked(s, NULL);
}

/* --- the kernel's view --- */

const char *lab_file(const char *format, ...) {
	static char text[65536];
	char path[512];
	va_list ap;
	va_start(ap, format);
	vsnprintf(path, sizeof(path), format, ap);
	va_end(ap);
	int fd = open(path, O_RDONLY);
	size_t used = 0;
	ssize_t n;
	while (fd >= 0 && used < sizeof(text) - 1 && (n = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = '\0';
	fd_close(fd);
	return text;
}

const char *lab_status(pid_t pid, const char *key) {
	static char value[128];
	char wanted[64];
	snprintf(wanted, sizeof(wanted), "\n%s:\t", key);
	const char *at = strstr(lab_file("/proc/%d/status", (int)pid), wanted);
	snprintf(value, sizeof(value), "%s", at ? at + strlen(wanted) : "");
	value[strcspn(value, "\n")] = '\0';
	return value;
}

bool lab_exists(const char *format, ...) {
	char path[512];
	va_list ap;
	va_start(ap, format);
	vsnprintf(path, sizeof(path), format, ap);
	va_end(ap);
	return access(path, F_OK) == 0;
}

static const char *wanted_part;
static unsigned found;

static int visit(const char *path, const struct stat *st, int type, struct FTW *ftw) {
	if (type == FTW_D && strstr(path, wanted_part)) {
		found++;
		printf("# cgroup %s\n", path);
	}
	return 0;
}

unsigned lab_cgroups(const char *part) {
	wanted_part = part;
	found = 0;
	nftw("/sys/fs/cgroup", visit, 16, FTW_PHYS);
	return found;
}
