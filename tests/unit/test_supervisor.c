/*
 * bulkheadd with workers that do nothing but answer: start, links, liveness,
 * restarts, reload, the lock, its own death and its end. What is true is read
 * from the kernel: children, their status, sockets.
 *
 * Needs root and bulkheadd beside this program's folder.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "fake_workers.h"
#include "tap.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#define SECONDS(n) ((n)*NS_PER_SEC)

static char base[] = "/tmp/bulkhead-sup-XXXXXX";
static char daemon_path[256], self_path[256];
static int manager = -1; /* the service manager's socket */

static const char *below(const char *name) {
	static char paths[4][128];
	static unsigned turn;
	char *path = paths[turn++ % 4];
	snprintf(path, sizeof(paths[0]), "%s/%s", base, name);
	return path;
}

/* --- the daemon --- */

static pid_t daemon_start(void) {
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	setenv("NOTIFY_SOCKET", below("notify.sock"), 1);
	int log = open(below("log"), O_CREAT | O_APPEND | O_WRONLY, 0600);
	dup2(log, 2);
	execl(daemon_path, "bulkheadd", "-c", below("conf"), "--libexec", below("libexec"), NULL);
	_exit(127);
}

static void configure(const char *more) {
	char text[1024];
	int n = snprintf(text, sizeof(text),
			 "state_root = %s/state\nrun_root = %s/run\ncerts_dir = %s/certs\ncni_cache_dir = %s/cni\n"
			 "cni_conf_dir = %s/net.d\ncni_bin_dirs = %s/plugins\n%s",
			 base, base, base, base, base, base, more);
	CLEANUP_FD int fd = open(below("conf"), O_CREAT | O_TRUNC | O_WRONLY, 0600);
	if (fd_write_all(fd, text, (size_t)n) < 0)
		perror("conf");
}

/* Waits for a datagram to the service manager that contains text. */
static bool manager_hears(const char *text, int64_t timeout) {
	int64_t deadline = clock_mono() + timeout;
	while (clock_mono() < deadline) {
		struct pollfd p = { .fd = manager, .events = POLLIN };
		char data[512];
		if (poll(&p, 1, 50) <= 0)
			continue;
		ssize_t n = recv(manager, data, sizeof(data) - 1, MSG_DONTWAIT);
		data[MAX(n, 0)] = '\0';
		if (strstr(data, text))
			return true;
	}
	return false;
}

/* --- a client --- */

static const char *endpoint = "run/bulkhead.sock";

static int client_connect(void) {
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/%s", base, endpoint);
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval patience = { .tv_sec = 3 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : take_fd(&fd);
}

static bool ask_once(char *text, size_t size) {
	text[0] = '\0';
	CLEANUP_FD int fd = client_connect();
	if (fd < 0 || send(fd, "?", 1, MSG_NOSIGNAL) != 1)
		return false;
	ssize_t n = recv(fd, text, size - 1, MSG_WAITALL);
	text[MAX(n, 0)] = '\0';
	return n > 0;
}

/* Asks until the answer contains want. */
static bool ask(const char *want) {
	char text[256];
	int64_t deadline = clock_mono() + SECONDS(10);
	do {
		if (ask_once(text, sizeof(text)) && strstr(text, want))
			return true;
		poll(NULL, 0, 20);
	} while (clock_mono() < deadline);
	printf("#   wanted \"%s\", the last answer was \"%s\"\n", want, text);
	return false;
}

/* --- the kernel's truth --- */

/* Of API workers that of the endpoint "cri", which every daemon has. */
static bool is_named(const char *cmdline, size_t size, const char *name) {
	const char *of = cmdline + strlen(cmdline) + 1;
	return strcmp(cmdline, name) == 0 &&
	       (strcmp(name, "bulkhead-api") != 0 || of >= cmdline + size || strcmp(of, "cri") == 0);
}

static pid_t child_of(pid_t parent, const char *name) {
	char path[64], cmdline[64];
	CLEANUP_FREE char *children = NULL;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)parent, (int)parent);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fd_read_all(fd, 65536, &children, NULL) < 0)
		return 0;
	for (char *p = strtok(children, " "); p; p = strtok(NULL, " ")) {
		snprintf(path, sizeof(path), "/proc/%s/cmdline", p);
		CLEANUP_FD int c = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = c < 0 ? 0 : read(c, cmdline, sizeof(cmdline) - 1);
		cmdline[MAX(n, 0)] = '\0';
		if (is_named(cmdline, (size_t)MAX(n, 0), name))
			return (pid_t)atoi(p);
	}
	return 0;
}

static bool status_has(pid_t pid, const char *line) {
	char path[64];
	CLEANUP_FREE char *status = NULL;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && fd_read_all(fd, 65536, &status, NULL) == 0 && strstr(status, line);
}

static bool gone(pid_t pid) {
	int64_t deadline = clock_mono() + SECONDS(5);
	while (clock_mono() < deadline) {
		if (pid <= 1 || kill(pid, 0) < 0 || status_has(pid, "State:\tZ"))
			return true;
		poll(NULL, 0, 5);
	}
	return false;
}

/* A child of that name that isn't `old`. */
static pid_t replaced(pid_t daemon, const char *name, pid_t old, int64_t timeout) {
	int64_t deadline = clock_mono() + timeout;
	while (clock_mono() < deadline) {
		pid_t pid = child_of(daemon, name);
		if (pid > 0 && pid != old)
			return pid;
		poll(NULL, 0, 10);
	}
	return 0;
}

/* 0, a child that isn't there, would be everybody. */
static void pid_kill(pid_t pid, int signal) {
	if (pid > 1)
		kill(pid, signal);
}

/* Ends a process that should still run; whether it did. */
static bool end_alive(pid_t pid) {
	return pid > 1 && kill(pid, SIGKILL) == 0;
}

/* --- tests --- */

static const char *const names[] = {
	"bulkhead-api",	 "bulkhead-metadata", "bulkhead-image",	 "bulkhead-snapshot",
	"bulkhead-task", "bulkhead-stream",   "bulkhead-keeper",
};

static pid_t test_start(void) {
	configure("");
	pid_t d = daemon_start();
	tap_check(manager_hears("READY=1", SECONDS(10)), "the service manager hears that it is ready");
	tap_check(ask("ok"), "a question goes through all workers and back");
	tap_check(ask("zygotes=1"), "the task worker and the zygote have a socket");
	struct stat st;
	tap_check(stat(below("run/bulkhead.sock"), &st) == 0 && (st.st_mode & 07777) == 0660 && st.st_uid == 0,
		  "the socket is root's, 0660");
	tap_check(stat(below("state/metadata"), &st) == 0 && (st.st_mode & 07777) == 0700 && st.st_uid != 0,
		  "the metadata worker's folder is its own, 0700");
	tap_check(stat(below("run"), &st) == 0 && (st.st_mode & 07777) == 0711 && st.st_uid == 0,
		  "the folder above is root's, 0711");
	return d;
}

static void test_confined(pid_t d) {
	for (size_t i = 0; i < 6; i++) {
		pid_t pid = child_of(d, names[i]);
		tap_check(status_has(pid, "Seccomp:\t2") && status_has(pid, "NoNewPrivs:\t1") &&
			      !status_has(pid, "Uid:\t0"),
			  "%s has a filter, no new privileges and a uid of its own", names[i]);
	}
	tap_check(status_has(child_of(d, names[0]), "CapPrm:\t0000000000000000") &&
		      status_has(child_of(d, names[0]), "CapBnd:\t0000000000000000"),
		  "the api worker has no capability, nor can it get one");
	tap_check(status_has(child_of(d, names[6]), "Seccomp:\t0"), "the zygote has no filter that containers inherit");
}

static void test_second(void) {
	pid_t second = daemon_start();
	int status = -1;
	waitpid(second, &status, 0);
	tap_check(WIFEXITED(status) && WEXITSTATUS(status) == 1, "a second one on the same folders doesn't start");
	tap_check(ask("ok"), "the first one doesn't mind");
}

static void test_deaths(pid_t d) {
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		pid_t old = child_of(d, names[i]), orphan = child_of(old, names[i]);
		pid_kill(old, SIGKILL);
		tap_check(replaced(d, names[i], old, SECONDS(5)) && ask("ok"), "%s is replaced when it dies", names[i]);
		pid_kill(orphan, SIGKILL);
	}
	tap_check(ask("zygotes=2"), "the zygote's successor has a socket to the task worker's");
}

static void test_hang(pid_t d) {
	pid_t old = child_of(d, names[2]);
	pid_kill(old, SIGSTOP);
	tap_check(replaced(d, names[2], old, SECONDS(40)) && ask("ok"), "a worker that hangs is replaced");
}

static void test_violation(pid_t d) {
	pid_t metadata = child_of(d, names[1]), api = child_of(d, names[0]);
	CLEANUP_FD int first = client_connect();
	tap_check(send(first, "!", 1, 0) == 1 && replaced(d, names[1], metadata, SECONDS(5)),
		  "a worker that is accused is replaced");
	tap_check(child_of(d, names[0]) == api && ask("ok"), "the one that accused it is not");
	metadata = child_of(d, names[1]);
	CLEANUP_FD int second = client_connect();
	tap_check(send(second, "!", 1, 0) == 1 && replaced(d, names[0], api, SECONDS(5)),
		  "the second time the accuser is replaced");
	tap_check(child_of(d, names[1]) == metadata && ask("ok"), "and not the accused");
}

static void test_hostile(pid_t d) {
	static const char *const words[] = { "g", "x" };
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		pid_t api = child_of(d, names[0]);
		CLEANUP_FD int fd = client_connect();
		tap_check(send(fd, words[i], 1, 0) == 1 && replaced(d, names[0], api, SECONDS(5)) && ask("ok"),
			  "a worker that sends %s to its supervisor is replaced",
			  i == 0 ? "garbage" : "what it may not say");
	}
}

static void test_reload(pid_t d) {
	configure("log_line_max = 4321\nworker_timeout_s = 1\n");
	kill(d, SIGHUP);
	tap_check(manager_hears("RELOADING=1", SECONDS(5)), "the service manager hears of a reload");
	tap_check(ask("line_max=4321"), "workers have the new configuration");
	configure("no_such_key = 1\n");
	kill(d, SIGHUP);
	tap_check(manager_hears("READY=1", SECONDS(5)) && ask("line_max=4321"), "a wrong one changes nothing");
	configure("worker_timeout_s = 1\n");
}

static void pids_of(pid_t d, pid_t pids[7]) {
	for (size_t i = 0; i < 7; i++)
		pids[i] = child_of(d, names[i]);
}

static pid_t test_killed(pid_t d) {
	pid_t pids[7], keeper = child_of(child_of(d, names[6]), names[6]);
	pids_of(d, pids);
	tap_check(keeper > 0, "the zygote has a child");
	kill(d, SIGKILL);
	waitpid(d, NULL, 0);
	pid_t next = daemon_start();
	bool all = true;
	for (size_t i = 0; i < 7; i++)
		all &= gone(pids[i]);
	tap_check(all, "workers die with a killed supervisor");
	tap_check(ask("ok"), "a new one, started at once, serves");
	tap_check(end_alive(keeper), "the zygote's child lives on");
	return next;
}

static void test_stop(pid_t d) {
	pid_t pids[7], keeper = child_of(child_of(d, names[6]), names[6]);
	pids_of(d, pids);
	manager_hears("READY=1", SECONDS(10));
	kill(d, SIGTERM);
	int status = -1;
	waitpid(d, &status, 0);
	tap_check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "SIGTERM ends it with status 0");
	tap_check(manager_hears("STOPPING=1", SECONDS(1)), "the service manager has heard of it");
	tap_check(access(below("run/bulkhead.sock"), F_OK) < 0, "its socket is gone");
	bool all = true;
	for (size_t i = 0; i < 7; i++)
		all &= gone(pids[i]);
	tap_check(all, "no worker is left");
	tap_check(end_alive(keeper), "the zygote's child lives on");
}

/* Two endpoints, each with a worker of its own. */
static void test_endpoints(void) {
	char second[400];
	snprintf(second, sizeof(second), "endpoint.second.socket = %s/second.sock\nendpoint.second.services = cri\n",
		 base);
	configure(second);
	pid_t d = daemon_start();
	tap_check(ask("ok"), "the first of two endpoints answers");
	endpoint = "second.sock";
	tap_check(ask("ok"), "and the second");
	pid_t first = child_of(d, names[0]);
	pid_kill(first, SIGKILL);
	tap_check(replaced(d, names[0], first, SECONDS(5)) && ask("ok"), "it answers when the other's worker dies");
	endpoint = "run/bulkhead.sock";
	tap_check(ask("ok"), "as does the other one then");
	pid_t keeper = child_of(child_of(d, names[6]), names[6]);
	kill(d, SIGTERM);
	waitpid(d, NULL, 0);
	tap_check(access(below("second.sock"), F_OK) < 0, "both sockets are gone at the end");
	end_alive(keeper);
}

/* The worker of a read-only endpoint in somebody else's hands: what it does is
 * the end of itself only, as often as it is done. */
static void test_taken_over(void) {
	static const char *const names_of[] = { "accuses another", "asks for what its endpoint may not do" };
	static const char words[] = "!s";
	char look[400];
	snprintf(
	    look, sizeof(look),
	    "endpoint.look.socket = %s/look.sock\nendpoint.look.services = cri\nendpoint.look.access = read-only\n",
	    base);
	configure(look);
	pid_t d = daemon_start();
	endpoint = "look.sock";
	tap_check(ask("ok"), "a read-only endpoint answers");
	pid_t metadata = child_of(d, names[1]), cri = child_of(d, names[0]);
	for (int i = 0; i < 6; i++) {
		char restarted[32];
		CLEANUP_FD int fd = client_connect();
		snprintf(restarted, sizeof(restarted), "api-restarts=%d", i + 1);
		tap_check(send(fd, &words[i % 2], 1, 0) == 1 && ask(restarted), "its worker is replaced when it %s",
			  names_of[i % 2]);
	}
	tap_check(child_of(d, names[1]) == metadata && child_of(d, names[0]) == cri, "and nobody else");
	endpoint = "run/bulkhead.sock";
	pid_t keeper = child_of(child_of(d, names[6]), names[6]);
	kill(d, SIGTERM);
	waitpid(d, NULL, 0);
	end_alive(keeper);
}

/* --- */

static void set_up(void) {
	ssize_t n = readlink("/proc/self/exe", self_path, sizeof(self_path) - 1);
	self_path[MAX(n, 0)] = '\0';
	snprintf(daemon_path, sizeof(daemon_path), "%.*s/../bulkheadd", (int)(strrchr(self_path, '/') - self_path),
		 self_path);
	mkdir(below("libexec"), 0755);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[160];
		snprintf(path, sizeof(path), "%s/libexec/%s", base, names[i]);
		if (symlink(self_path, path) < 0)
			perror(path);
	}
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/notify.sock", base);
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(manager, (struct sockaddr *)&a, sizeof(a)) < 0)
		perror(a.sun_path);
}

static void tear_down(void) {
	static const char *const rest[] = {
		"state/metadata",
		"state/content",
		"state/layers",
		"state/snapshots",
		"state",
		"run/pods",
		"run/lock",
		"run/workers.lock",
		"run",
		"cni",
		"certs",
		"net.d",
		"plugins",
		"conf",
		"log",
		"notify.sock",
		"libexec",
		"",
	};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[160];
		snprintf(path, sizeof(path), "%s/libexec/%s", base, names[i]);
		unlink(path);
	}
	for (size_t i = 0; i < ARRAY_SIZE(rest); i++)
		if (remove(below(rest[i])) < 0)
			printf("#   left behind: %s: %s\n", rest[i], strerrordesc_np(errno));
}

int main(int argc, char **argv) {
	fake_worker_run(argc, argv);
	if (geteuid() != 0) {
		tap_skip("supervisor", "needs root");
		return tap_done();
	}
	if (!mkdtemp(base))
		return 1;
	set_up();
	pid_t d = test_start();
	test_confined(d);
	test_second();
	test_deaths(d);
	test_violation(d);
	test_hostile(d);
	test_reload(d);
	test_hang(d);
	d = test_killed(d);
	test_stop(d);
	test_endpoints();
	test_taken_over();
	if (tap_failures) {
		int log = open(below("log"), O_RDONLY | O_CLOEXEC);
		char data[6000];
		lseek(log, MAX(lseek(log, 0, SEEK_END) - (off_t)sizeof(data), 0), SEEK_SET);
		ssize_t n = read(log, data, sizeof(data));
		printf("# the end of the daemon's log:\n%.*s\n", (int)MAX(n, 0), data);
	}
	tear_down();
	return tap_done();
}
