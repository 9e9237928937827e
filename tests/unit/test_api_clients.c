/*
 * The API front on a real socket, asked by clients that this project didn't
 * write: gRPC's own C core through Python, and h2load. A child process serves,
 * with a fake metadata worker behind it.
 *
 * test_api_clients serve PATH only serves, for experiments.
 * Run from the top folder.
 */
#include "tests/unit/fake_metadata.h"
#include "tests/unit/tap.h"
#include "workers/api/server.h"
#include "workers/api/services.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/un.h>
#include <sys/wait.h>

/* --- the serving child --- */

struct front {
	struct loop *loop;
	struct fake fake;
	struct grpc_server grpc;
	struct server *server;
};

static void stopped(void *ctx) {
	struct front *f = ctx;
	loop_stop(f->loop, 0);
}

static void terminated(void *ctx, uint32_t events) {
	struct front *f = ctx;
	server_stop(f->server, 2 * NS_PER_SEC, stopped, f);
}

static int listen_at(const char *path) {
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 64) < 0)
		return -1;
	return fd;
}

static int serve(int listener) {
	static const struct loop_options loop_options = { .entries = 256, .buffers = 32 };
	struct front f = { 0 };
	struct loop_source *signals;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (loop_new(&loop_options, &f.loop) < 0 || loop_enable(f.loop, NULL, 0) < 0 || fake_init(&f.fake, f.loop) < 0)
		return 2;
	f.grpc = (struct grpc_server){ .loop = f.loop,
				       .metadata = f.fake.api,
				       .endpoint = &fake_endpoint,
				       .services = services,
				       .next_request = 1 };
	const struct server_options options = { .loop = f.loop, .protocol = &protocol_grpc, .owner = &f.grpc };
	if (server_new(&options, &f.server) < 0 || server_listen(f.server, listener) < 0 ||
	    loop_poll(f.loop, fd, POLLIN, terminated, &f, &signals) < 0)
		return 2;
	int r = loop_run(f.loop);
	server_free(f.server);
	fake_deinit(&f.fake);
	loop_source_free(signals);
	loop_turn(f.loop, 0);
	loop_turn(f.loop, 0);
	loop_free(f.loop);
	fd_close(fd);
	return r < 0 ? 1 : 0;
}

/* --- the clients --- */

static int command(char *const argv[], bool quiet) {
	pid_t pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);
		if (quiet && (dup2(null, 1) < 0 || dup2(null, 2) < 0))
			_exit(127);
		alarm(60);
		execv(argv[0], argv);
		_exit(127);
	}
	int status = -1;
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* The script speaks TAP itself; what matters here is how it ends. */
static void test_python(const char *socket) {
	char *const probe[] = { "/usr/bin/python3", "-c", "import grpc, grpc_tools", NULL };
	char *const run[] = { "/usr/bin/python3", "tests/clients/grpc_front.py", (char *)socket, "proto", NULL };
	if (command(probe, true) != 0) {
		tap_skip("gRPC's C core", "python3-grpcio and python3-grpc-tools aren't installed");
		return;
	}
	tap_check(command(run, false) == 0, "gRPC's C core as client");
}

static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";

static int connect_to(const char *path) {
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		return fd;
	fd_close(fd);
	return -1;
}

static int count_fds(pid_t pid) {
	char dir[64];
	snprintf(dir, sizeof(dir), "/proc/%d/fd", pid);
	int n = 0;
	DIR *d = opendir(dir);
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static void test_connections(const char *path, pid_t server) {
	int before = count_fds(server), after = 0;
	bool ok = before > 0;
	for (int i = 0; i < 2000 && ok; i++) {
		int fd = connect_to(path);
		ok = fd >= 0 && (i % 2 == 0 || send(fd, hello, sizeof(hello) - 1, MSG_NOSIGNAL) > 0);
		fd_close(fd);
	}
	for (int i = 0; i < 100 && (after = count_fds(server)) > before; i++)
		usleep(20000);
	tap_check(ok && after <= before, "2000 connections that end at once leave no descriptor behind (%d, then %d)",
		  before, after);
}

/* The child may have 128 descriptors. The listener must survive that. */
static void test_out_of_descriptors(const char *path) {
	int fds[160];
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = i < 150 ? connect_to(path) : -1;
	usleep(100000);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fd_close(fds[i]);
	int fd CLEANUP_FD = connect_to(path);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint8_t head[9] = { 0 };
	bool ok = fd >= 0 && send(fd, hello, sizeof(hello) - 1, MSG_NOSIGNAL) > 0 && poll(&p, 1, 5000) == 1 &&
		  recv(fd, head, sizeof(head), MSG_WAITALL) == 9;
	tap_check(ok && head[3] == 4, "after running out of descriptors new connections are served");
}

/* Frame by frame, until the client's ping comes back. */
static bool ping_returns(int fd, const uint8_t ping[8]) {
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint8_t head[9], body[256];
	while (poll(&p, 1, 2000) == 1 && recv(fd, head, sizeof(head), MSG_WAITALL) == sizeof(head)) {
		ssize_t size = head[1] << 8 | head[2];
		if (size > (ssize_t)sizeof(body) || recv(fd, body, (size_t)size, MSG_WAITALL) != size)
			return false;
		if (head[3] == 6)
			return head[4] == 1 && size == 8 && memcmp(body, ping, 8) == 0;
	}
	return false;
}

/* Answers of pings wait for company, but not for ever. */
static void test_ping_alone(const char *path) {
	static const uint8_t ping[17] = "\0\0\10\6\0\0\0\0\0all-alon";
	int fd CLEANUP_FD = connect_to(path);
	bool ok = fd >= 0 && send(fd, hello, sizeof(hello) - 1, MSG_NOSIGNAL) > 0;
	for (int i = 0; ok && i < 3; i++)
		ok = send(fd, ping, sizeof(ping), MSG_NOSIGNAL) > 0 && ping_returns(fd, ping + 9);
	tap_check(ok, "a ping is answered when nothing else is");
}

int main(int argc, char **argv) {
	log_init("api", LOG_WARN);
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		return serve(listen_at(argv[2]));
	char dir[] = "/tmp/bulkhead-test-XXXXXX", path[64];
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/s", dir);
	int listener = listen_at(path), status = -1;
	pid_t server = fork();
	if (server == 0) {
		const struct rlimit few = { 128, 128 };
		log_set_level(LOG_ERROR + 1);
		setrlimit(RLIMIT_NOFILE, &few);
		_exit(serve(listener));
	}
	close(listener);
	test_python(path);
	test_connections(path, server);
	test_out_of_descriptors(path);
	test_ping_alone(path);
	kill(server, SIGTERM);
	waitpid(server, &status, 0);
	tap_check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the server stops when told to");
	unlink(path);
	rmdir(dir);
	return tap_done();
}
