/*
 * What a message costs: round trips of a ring pair between two idle processes
 * beside bare eventfd round trips, and a busy ring's wake-ups per message.
 * Prints figures, judges nothing.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "msg/typed.h"
#include "ring/ring.h"

#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define ROUNDS 20000
#define BUSY 2000000

static int64_t cpu_of(int who) {
	struct rusage u;
	getrusage(who, &u);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * NS_PER_SEC + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

static int by_value(const void *a, const void *b) {
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

static void report(const char *what, int64_t *times, int n, int64_t cpu) {
	qsort(times, (size_t)n, sizeof(times[0]), by_value);
	printf("  %-34s min %7.1f us   median %7.1f us   CPU of both %7.1f us\n", what, (double)times[0] / 1e3,
	       (double)times[n / 2] / 1e3, (double)cpu / n / 1e3);
}

static void wait_readable(int fd) {
	uint64_t n;
	struct pollfd p = { fd, POLLIN, 0 };
	while (poll(&p, 1, -1) != 1 || read(fd, &n, sizeof(n)) != sizeof(n))
		;
}

static void eventfd_round_trips(void) {
	static int64_t times[ROUNDS];
	uint64_t one = 1;
	int there = eventfd(0, 0), back = eventfd(0, 0);
	pid_t child = fork();
	if (child == 0) {
		for (int i = 0; i < ROUNDS; i++) {
			wait_readable(there);
			fd_write_all(back, &one, sizeof(one));
		}
		_exit(0);
	}
	int64_t cpu = cpu_of(RUSAGE_SELF);
	for (int i = 0; i < ROUNDS; i++) {
		int64_t begin = clock_mono();
		fd_write_all(there, &one, sizeof(one));
		wait_readable(back);
		times[i] = clock_mono() - begin;
	}
	cpu = cpu_of(RUSAGE_SELF) - cpu;
	waitpid(child, NULL, 0);
	report("eventfd, poll and read", times, ROUNDS, cpu + cpu_of(RUSAGE_CHILDREN));
	close(there);
	close(back);
}

/* --- a call over a link --- */

static void on_snapshot_usage(void *worker, struct msg_request *r, const Bulkhead__Key *m) {
	Bulkhead__SnapshotUsageReply reply = BULKHEAD__SNAPSHOT_USAGE_REPLY__INIT;
	reply.size = 1;
	snapshot_usage_reply(r, &reply, NULL, 0);
}
HANDLER_DEFINE(void, snapshot_usage)
static const struct link_handler handlers[] = { HANDLER(snapshot_usage), { 0 } };

static void answered(void *ctx, const struct msg_answer *a) {
	++*(int *)ctx;
}

static struct link *link_to(struct loop *l, enum role self, enum role peer, struct link_ends *ends) {
	struct link_options o = { .loop = l, .self = self, .peer = peer, .handlers = handlers };
	struct link *link;
	if (link_new(&o, &link) < 0 || link_attach_ring(link, ends) < 0)
		abort();
	return link;
}

static void link_round_trips(void) {
	static int64_t times[ROUNDS];
	struct link_ends a, b;
	struct loop *l;
	if (link_ends_new(&a, &b) < 0)
		abort();
	int64_t children = cpu_of(RUSAGE_CHILDREN);
	pid_t child = fork();
	if (loop_new(NULL, &l) < 0 || loop_enable(l, NULL, 0) < 0)
		abort();
	if (child == 0) {
		link_to(l, ROLE_SNAPSHOT, ROLE_METADATA, &b);
		loop_run(l);
		_exit(0);
	}
	struct link *link = link_to(l, ROLE_METADATA, ROLE_SNAPSHOT, &a);
	Bulkhead__Key key = BULKHEAD__KEY__INIT;
	key.id = (char *)"4f1c";
	int done = 0;
	int64_t cpu = cpu_of(RUSAGE_SELF);
	for (int i = 0; i < ROUNDS; i++) {
		int64_t begin = clock_mono();
		snapshot_usage_send(link, NULL, &key, NULL, 0, answered, &done);
		while (done == i)
			loop_turn(l, -1);
		times[i] = clock_mono() - begin;
	}
	cpu = cpu_of(RUSAGE_SELF) - cpu;
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	report("a call over a link, protobuf and all", times, ROUNDS, cpu + cpu_of(RUSAGE_CHILDREN) - children);
	link_free(link);
	loop_free(l);
	link_ends_close(&b);
}

/* --- the bare ring --- */

struct end {
	struct ring ring;
	int wake_me, wake_peer;
};

static void ends_new(struct end *a, struct end *b) {
	int rw[2], ro[2];
	if (ring_memory_new(&rw[0], &ro[0]) < 0 || ring_memory_new(&rw[1], &ro[1]) < 0)
		abort();
	if (ring_init(&a->ring, rw[0], ro[1]) < 0 || ring_init(&b->ring, rw[1], ro[0]) < 0)
		abort();
	a->wake_me = b->wake_peer = eventfd(0, 0);
	b->wake_me = a->wake_peer = eventfd(0, 0);
	for (int i = 0; i < 2; i++) {
		close(rw[i]);
		close(ro[i]);
	}
}

static unsigned long wakes;

static int push(struct end *e, const void *data, size_t size) {
	uint64_t one = 1;
	int r = ring_push(&e->ring, data, size, NULL, 0);
	if (r == 1) {
		wakes++;
		fd_write_all(e->wake_peer, &one, sizeof(one));
	}
	return r;
}

static void pop(struct end *e, struct buffer *record) {
	uint64_t one = 1;
	while (ring_pop(&e->ring, record) != 1) {
		if (ring_peer_waits(&e->ring))
			fd_write_all(e->wake_peer, &one, sizeof(one));
		if (ring_sleep(&e->ring))
			wait_readable(e->wake_me);
	}
}

static void ring_round_trips(void) {
	static int64_t times[ROUNDS];
	struct end a, b;
	struct buffer record = { 0 };
	char message[64] = { 0 };
	ends_new(&a, &b);
	int64_t children = cpu_of(RUSAGE_CHILDREN);
	pid_t child = fork();
	if (child == 0) {
		for (int i = 0; i < ROUNDS; i++) {
			pop(&b, &record);
			push(&b, record.data, record.size);
		}
		_exit(0);
	}
	int64_t cpu = cpu_of(RUSAGE_SELF);
	for (int i = 0; i < ROUNDS; i++) {
		int64_t begin = clock_mono();
		push(&a, message, sizeof(message));
		pop(&a, &record);
		times[i] = clock_mono() - begin;
	}
	cpu = cpu_of(RUSAGE_SELF) - cpu;
	waitpid(child, NULL, 0);
	report("ring pair, 64 bytes", times, ROUNDS, cpu + cpu_of(RUSAGE_CHILDREN) - children);
	buffer_deinit(&record);
}

static void ring_busy(void) {
	struct end a, b;
	struct buffer record = { 0 };
	char message[256] = { 0 };
	ends_new(&a, &b);
	pid_t child = fork();
	if (child == 0) {
		for (int i = 0; i < BUSY; i++)
			pop(&b, &record);
		_exit(0);
	}
	wakes = 0;
	unsigned long waits = 0;
	int64_t begin = clock_mono();
	for (int i = 0; i < BUSY;) {
		int r = push(&a, message, sizeof(message));
		if (r == -EAGAIN) {
			waits++;
			wait_readable(a.wake_me);
		} else {
			i++;
		}
	}
	waitpid(child, NULL, 0);
	double seconds = (double)(clock_mono() - begin) / NS_PER_SEC;
	printf(
	    "  busy ring, 256 bytes: %.1f M messages/s; system calls per 1000 messages: %.2f to wake, %.2f to wait\n",
	    BUSY / seconds / 1e6, (double)wakes * 1000 / BUSY, (double)waits * 1000 / BUSY);
}

int main(void) {
	printf("round trips between two processes (%d each)\n", ROUNDS);
	fflush(stdout);
	eventfd_round_trips();
	ring_round_trips();
	link_round_trips();
	fflush(stdout);
	ring_busy();
	return 0;
}
