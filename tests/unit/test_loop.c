/* The event loop against real pipes, sockets and files. */
#include "base/clock.h"
#include "base/fd.h"
#include "loop/loop.h"
#include "tap.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <sys/wait.h>

#define MUST(call)               \
	do {                     \
		if ((call) < 0)  \
			abort(); \
	} while (0)

struct seen {
	struct buffer data;
	int calls, result;
	ssize_t last;
	uint32_t events;
	struct loop_source **free_in_callback;
};

static void on_data(void *ctx, const uint8_t *data, ssize_t n) {
	struct seen *s = ctx;
	s->calls++;
	s->last = n;
	if (n > 0)
		buffer_add(&s->data, data, (size_t)n);
	if (s->free_in_callback)
		loop_source_free_p(s->free_in_callback);
}
static void on_ready(void *ctx, uint32_t events) {
	struct seen *s = ctx;
	s->calls++;
	s->events = events;
}
static void on_done(void *ctx, int result) {
	struct seen *s = ctx;
	s->calls++;
	s->result = result;
}
static void on_timer(void *ctx) {
	((struct seen *)ctx)->calls++;
}

static void turns(struct loop *l, int n) {
	for (int i = 0; i < n; i++)
		loop_turn(l, 5 * NS_PER_MS);
}

static void test_poll(struct loop *l) {
	int fd = eventfd(0, EFD_NONBLOCK);
	struct seen s = { 0 };
	struct loop_source *p;
	tap_check(loop_poll(l, fd, POLLIN, on_ready, &s, &p) == 0, "poll starts");
	turns(l, 1);
	tap_check(s.calls == 0, "nothing before it is ready");
	uint64_t one = 1;
	for (int i = 1; i <= 3; i++) {
		fd_write_all(fd, &one, sizeof(one));
		turns(l, 2);
		tap_check(s.calls == i && (s.events & POLLIN), "wake-up %d", i);
	}
	loop_source_free(p);
	fd_write_all(fd, &one, sizeof(one));
	turns(l, 2);
	tap_check(s.calls == 3, "no call after it is freed");
	close(fd);
}

static void test_stream(struct loop *l) {
	int pair[2];
	socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
	struct seen in = { 0 }, out = { 0 };
	struct loop_source *r, *w;
	tap_check(loop_recv(l, pair[1], on_data, &in, &r) == 0, "recv starts");
	struct buffer b = { 0 };
	for (int i = 0; i < 300000; i++)
		buffer_add(&b, &(char){ (char)i }, 1);
	tap_check(loop_send(l, pair[0], &b, on_done, &out, &w) == 0, "send starts");
	tap_check(b.data == NULL, "send takes the buffer");
	for (int i = 0; i < 400 && in.data.size < 300000; i++)
		turns(l, 1);
	bool equal = in.data.size == 300000;
	for (size_t i = 0; equal && i < in.data.size; i++)
		equal = in.data.data[i] == (uint8_t)i;
	tap_check(equal, "300000 bytes arrive in order (%zu)", in.data.size);
	tap_check(out.calls == 1 && out.result == 0, "send ends once");
	loop_source_free(w);

	loop_pause(r);
	turns(l, 2);
	fd_write_all(pair[0], "x", 1);
	int before = in.calls;
	turns(l, 2);
	tap_check(in.calls == before, "paused: nothing comes");
	loop_resume(r);
	turns(l, 2);
	tap_check(in.calls == before + 1 && in.data.data[300000] == 'x', "resumed: it comes");
	close(pair[0]);
	turns(l, 2);
	tap_check(in.last == 0, "end of file");
	loop_source_free(r);
	close(pair[1]);
	buffer_deinit(&in.data);
}

static void test_pipe(struct loop *l) {
	int p[2];
	struct seen in = { 0 };
	struct loop_source *r;
	tap_check(pipe2(p, O_CLOEXEC) == 0 && loop_read(l, p[0], on_data, &in, &r) == 0, "read from a pipe starts");
	fd_write_all(p[1], "hello", 5);
	turns(l, 2);
	tap_check(in.data.size == 5 && memcmp(in.data.data, "hello", 5) == 0, "bytes from a pipe");
	in.free_in_callback = &r;
	fd_write_all(p[1], "again", 5);
	turns(l, 2);
	fd_write_all(p[1], "never", 5);
	turns(l, 2);
	tap_check(in.data.size == 10 && r == NULL, "a callback may free its own source");
	close(p[0]);
	close(p[1]);
	buffer_deinit(&in.data);
}

static void test_file(struct loop *l) {
	int fd = memfd_create("x", 0);
	struct seen s = { 0 };
	struct loop_source *w;
	struct buffer b = { 0 };
	buffer_add(&b, "abc", 3);
	tap_check(loop_write(l, fd, 2, &b, on_done, &s, &w) == 0, "write starts");
	turns(l, 2);
	char got[5] = { 0 };
	tap_check(s.result == 0 && pread(fd, got, 5, 0) == 5 && memcmp(got, "\0\0abc", 5) == 0, "write at an offset");
	loop_source_free(w);
	tap_check(loop_fsync(l, fd, true, on_done, &s, &w) == 0, "fsync starts");
	turns(l, 3);
	tap_check(s.calls == 2 && s.result == 0, "fsync ends");
	loop_source_free(w);
	close(fd);
}

static void test_timers(struct loop *l) {
	struct seen s[50] = { 0 };
	struct loop_source *t[50];
	int64_t now = clock_mono();
	for (int i = 0; i < 50; i++)
		MUST(loop_timer(l, now + ((i * 37) % 50) * NS_PER_MS / 2, on_timer, &s[i], &t[i]));
	for (int i = 0; i < 50; i += 2)
		loop_source_free_p(&t[i]);
	while (clock_mono() < now + 30 * NS_PER_MS)
		turns(l, 1);
	int odd = 0, even = 0;
	for (int i = 0; i < 50; i++)
		*(i % 2 ? &odd : &even) += s[i].calls;
	tap_check(odd == 25 && even == 0, "timers fire once, freed ones never (%d, %d)", odd, even);
	for (int i = 1; i < 50; i += 2)
		loop_source_free(t[i]);
	struct seen d = { 0 };
	struct loop_source *defer;
	MUST(loop_defer(l, on_timer, &d, &defer));
	turns(l, 1);
	tap_check(d.calls == 1, "a deferred call runs in the next turn");
	loop_source_free(defer);
}

static void test_restricted(void) {
	struct loop *l;
	const uint8_t nop_only[] = { 0, 254 }; /* which no kernel knows */
	tap_check(loop_new(NULL, &l) == 0 && loop_enable(l, nop_only, 2) == 0,
		  "a restricted loop, where the kernel doesn't know one of the opcodes");
	int fd = eventfd(1, EFD_NONBLOCK);
	struct seen s = { 0 };
	struct loop_source *p;
	MUST(loop_poll(l, fd, POLLIN, on_ready, &s, &p));
	turns(l, 2);
	tap_check(s.calls == 1 && (s.events & POLLERR), "refuses an opcode that isn't listed");
	loop_source_free(p);
	loop_turn(l, 0);
	loop_free(l);
	close(fd);
}

/* Whether nothing is left at a range of the parent's /proc/self/maps. */
static bool vacant(const char *line) {
	unsigned long from, to;
	if (sscanf(line, "%lx-%lx", &from, &to) != 2)
		return false;
	const char *at = mmap((void *)from, to - from, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (at != (const char *)from)
		return false;
	for (unsigned long i = 0; i < to - from; i++)
		if (at[i])
			return false;
	return true;
}

static void test_forked(void) {
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned rings = 0, left = 0;
	while (f && fgets(line, sizeof(line), f)) {
		int status = 1;
		if (!strstr(line, "io_uring"))
			continue;
		pid_t pid = fork();
		if (pid == 0)
			_exit(vacant(line) ? 0 : 1);
		waitpid(pid, &status, 0);
		rings++;
		left += status != 0;
	}
	if (f)
		fclose(f);
	tap_check(rings > 0 && left == 0, "a child has nothing of the ring: %u of %u", left, rings);
}

int main(void) {
	struct loop *l;
	struct loop_options options = { .buffers = 8, .buffer_size = 4096 };
	tap_check(loop_new(&options, &l) == 0, "loop");
	tap_check(loop_enable(l, NULL, 0) == 0, "enabled");
	test_poll(l);
	test_stream(l);
	test_pipe(l);
	test_file(l);
	test_timers(l);
	test_forked();
	loop_free(l);
	test_restricted();
	return tap_done();
}
