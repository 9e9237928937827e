/* Calls that are sent again to a worker's successor, and what becomes of one that
 * ends each of them. A death is a new connection: what was open on the old one is lost. */
#include "base/clock.h"
#include "msg/typed.h"
#include "tap.h"

#include <string.h>
#include <sys/socket.h>

struct side {
	struct link *link;
	struct msg_request *held[32];
	size_t n_held;
	size_t n_again; /* of those held */
	int deadly;
};

struct result {
	int calls;
	enum fault_code code;
	char text[256];
};

static void turns(struct loop *l, int n) {
	for (int i = 0; i < n; i++)
		loop_turn(l, 2 * NS_PER_MS);
}

static void on_snapshot_usage(struct side *s, struct msg_request *r, const Bulkhead__Key *m) {
	if (strcmp(m->id, "now") == 0) {
		Bulkhead__SnapshotUsageReply reply = BULKHEAD__SNAPSHOT_USAGE_REPLY__INIT;
		snapshot_usage_reply(r, &reply, NULL, 0);
		return;
	}
	if (s->n_held == ARRAY_SIZE(s->held))
		abort();
	s->held[s->n_held++] = r;
	s->n_again += r->again;
	s->deadly += strcmp(m->id, "deadly") == 0;
}

static void on_exec_wait(struct side *s, struct msg_request *r, const Bulkhead__ExecWaitRequest *m) {
	if (s->n_held == ARRAY_SIZE(s->held))
		abort();
	s->held[s->n_held++] = r;
}

static void on_runtime_info(struct side *s, struct msg_request *r, const Bulkhead__Empty *m) {
	Bulkhead__RuntimeInfoReply reply = BULKHEAD__RUNTIME_INFO_REPLY__INIT;
	runtime_info_reply(r, &reply, NULL, 0);
}

HANDLER_DEFINE(struct side, snapshot_usage)
HANDLER_DEFINE(struct side, exec_wait)
HANDLER_DEFINE(struct side, runtime_info)

static const struct link_handler handlers[] = { HANDLER(snapshot_usage), { 0 } };
static const struct link_handler task_handlers[] = { HANDLER(exec_wait), HANDLER(runtime_info), { 0 } };

static void usage_done(void *ctx, const struct msg_answer *a) {
	struct result *r = ctx;
	r->calls++;
	r->code = a->fault ? a->fault->code : FAULT_NONE;
	snprintf(r->text, sizeof(r->text), "%s", a->fault ? a->fault->text : "");
}

static void ask(struct side *from, const char *id, struct result *r) {
	Bulkhead__Key key = BULKHEAD__KEY__INIT;
	key.id = (char *)id;
	snapshot_usage_send(from->link, NULL, &key, NULL, 0, usage_done, r);
}

static void connect_sides(struct side *a, struct side *b, bool by_ring) {
	struct link_ends x, y;
	int p[2];
	if (by_ring
		? link_ends_new(&x, &y) < 0 || link_attach_ring(a->link, &x) < 0 || link_attach_ring(b->link, &y) < 0
		: socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0 ||
		      link_attach_socket(a->link, p[0]) < 0 || link_attach_socket(b->link, p[1]) < 0)
		abort();
}

static void sides_of(struct loop *l, struct side *a, struct side *b, enum role role, const struct link_handler *h) {
	*a = *b = (struct side){ 0 };
	const struct link_options oa = { .loop = l, .self = ROLE_METADATA, .peer = role, .worker = a };
	const struct link_options ob = { .loop = l, .self = role, .peer = ROLE_METADATA, .worker = b, .handlers = h };
	if (link_new(&oa, &a->link) < 0 || link_new(&ob, &b->link) < 0)
		abort();
}

static void sides_new(struct loop *l, struct side *a, struct side *b) {
	sides_of(l, a, b, ROLE_SNAPSHOT, handlers);
}

static void sides_free(struct side *a, struct side *b) {
	link_free(a->link);
	link_free(b->link);
}

/* A message that ends each peer that gets it, and one that merely waits beside it. */
static void test_deadly(struct loop *l, bool by_ring) {
	struct side a, b;
	sides_new(l, &a, &b);
	connect_sides(&a, &b, by_ring);
	struct result patient = { 0 }, deadly = { 0 }, later = { 0 };
	ask(&a, "hold", &patient);
	ask(&a, "deadly", &deadly);
	int deaths = 0;
	int64_t end = clock_mono() + 20 * NS_PER_SEC;
	while (!deadly.calls && deaths < 10 && clock_mono() < end) {
		turns(l, 1);
		if (b.deadly > deaths) {
			connect_sides(&a, &b, by_ring);
			deaths = b.deadly;
		}
	}
	tap_check(deadly.calls == 1 && deaths == 3, "what ends its worker is sent %d times", deaths);
	tap_check(deadly.code == FAULT_INTERNAL &&
		      strcmp(deadly.text,
			     "snapshot_usage isn't sent again: the snapshot worker has ended 3 times while "
			     "it was at it") == 0,
		  "and fails: %s", deadly.text);
	ask(&a, "now", &later);
	while (!later.calls && clock_mono() < end)
		turns(l, 1);
	tap_check(later.calls == 1 && later.code == FAULT_NONE, "the next call is answered");
	while (b.n_held < 7 && clock_mono() < end)
		turns(l, 1);
	tap_check(patient.calls == 0, "a call that waited beside it goes on to wait");
	for (size_t i = 0; i < b.n_held; i++)
		msg_failf(b.held[i], FAULT_ABORTED, "held");
	while (!patient.calls && clock_mono() < end)
		turns(l, 1);
	tap_check(patient.calls == 1 && patient.code == FAULT_ABORTED, "and gets its answer: %s", patient.text);
	sides_free(&a, &b);
	turns(l, 2);
}

/* Suspects are tried one after the other; an answer makes room for the next. */
static void test_suspects(struct loop *l, bool by_ring) {
	struct side a, b;
	sides_new(l, &a, &b);
	connect_sides(&a, &b, by_ring);
	struct result r[4] = { 0 };
	for (size_t i = 0; i < ARRAY_SIZE(r); i++)
		ask(&a, "hold", &r[i]);
	for (int death = 0; death < 2; death++) {
		turns(l, 10);
		connect_sides(&a, &b, by_ring);
	}
	turns(l, 10);
	tap_check(b.n_held == 9, "two deaths, two times four calls, and one alone (%zu)", b.n_held);
	for (size_t i = 8; i < 12; i++) {
		int64_t end = clock_mono() + 10 * NS_PER_SEC;
		while (b.n_held <= i && clock_mono() < end)
			turns(l, 1);
		tap_check(b.n_held == i + 1, "then the next (%zu)", b.n_held);
		msg_failf(b.held[i], FAULT_ABORTED, "answered");
	}
	turns(l, 10);
	bool all = true;
	for (size_t i = 0; i < ARRAY_SIZE(r); i++)
		all &= r[i].calls == 1 && r[i].code == FAULT_ABORTED;
	tap_check(all, "all are answered");
	for (size_t i = 0; i < 8; i++)
		msg_failf(b.held[i], FAULT_ABORTED, "abandoned");
	sides_free(&a, &b);
	turns(l, 2);
}

/* So many peers end, each when it has answered a call that came after the one that waits, or
 * until that one fails; how many did. */
static size_t outlived(struct loop *l, struct side *a, struct side *b, bool by_ring, size_t deaths,
		       const struct result *patient, void (*another)(struct side *from, struct result *r)) {
	size_t death = 0;
	for (; death < deaths && !patient->calls; death++) {
		struct result other = { 0 };
		int64_t end = clock_mono() + 10 * NS_PER_SEC;
		while (b->n_held <= death && clock_mono() < end)
			turns(l, 1);
		another(a, &other);
		while (!other.calls && clock_mono() < end)
			turns(l, 1);
		connect_sides(a, b, by_ring);
		turns(l, 4);
	}
	return death;
}

static void ask_usage(struct side *from, struct result *r) {
	ask(from, "now", r);
}

/* The peer ends again and again, but not of the call that waits: it has answered others after it. */
static void test_waiting(struct loop *l, bool by_ring) {
	struct side a, b;
	sides_new(l, &a, &b);
	connect_sides(&a, &b, by_ring);
	struct result patient = { 0 };
	ask(&a, "hold", &patient);
	outlived(l, &a, &b, by_ring, 6, &patient, ask_usage);
	turns(l, 10);
	tap_check(patient.calls == 0 && b.n_held == 7, "what waits outlives six peers that went on after it (%zu)",
		  b.n_held);
	tap_check(b.n_again == 6, "who gets it then is told that it comes again (%zu)", b.n_again);
	for (size_t i = 0; i < b.n_held; i++)
		msg_failf(b.held[i], FAULT_ABORTED, "held");
	turns(l, 10);
	tap_check(patient.calls == 1 && patient.code == FAULT_ABORTED, "and gets its answer: %s", patient.text);
	sides_free(&a, &b);
	turns(l, 2);
}

static void ask_info(struct side *from, struct result *r) {
	Bulkhead__Empty empty = BULKHEAD__EMPTY__INIT;
	runtime_info_send(from->link, NULL, &empty, NULL, 0, usage_done, r);
}

/* One that ends its peers late, when they have long gone on: it isn't sent for ever either. */
static void test_late(struct loop *l, bool by_ring) {
	struct side a, b;
	sides_new(l, &a, &b);
	connect_sides(&a, &b, by_ring);
	struct result patient = { 0 };
	ask(&a, "hold", &patient);
	size_t deaths = outlived(l, &a, &b, by_ring, 20, &patient, ask_usage);
	tap_check(deaths == 8 && patient.code == FAULT_INTERNAL && strstr(patient.text, "has ended 8 times"),
		  "what ends its worker late is sent %zu times: %s", deaths, patient.text);
	for (size_t i = 0; i < b.n_held; i++)
		msg_failf(b.held[i], FAULT_ABORTED, "held");
	sides_free(&a, &b);
	turns(l, 2);
}

/* But what waits for something to happen may. */
static void test_waits_row(struct loop *l, bool by_ring) {
	struct side a, b;
	Bulkhead__ExecWaitRequest q = BULKHEAD__EXEC_WAIT_REQUEST__INIT;
	struct result patient = { 0 };
	sides_of(l, &a, &b, ROLE_TASK, task_handlers);
	connect_sides(&a, &b, by_ring);
	exec_wait_send(a.link, NULL, &q, NULL, 0, usage_done, &patient);
	size_t deaths = outlived(l, &a, &b, by_ring, 20, &patient, ask_info);
	tap_check(deaths == 20 && patient.calls == 0, "what waits for an end outlives %zu peers", deaths);
	for (size_t i = 0; i < b.n_held; i++)
		msg_failf(b.held[i], FAULT_ABORTED, "held");
	turns(l, 10);
	tap_check(patient.calls == 1 && patient.code == FAULT_ABORTED, "and gets its answer: %s", patient.text);
	sides_free(&a, &b);
	turns(l, 2);
}

int main(void) {
	struct loop *l;
	if (loop_new(NULL, &l) < 0 || loop_enable(l, NULL, 0) < 0)
		abort();
	for (int by_ring = 0; by_ring < 2; by_ring++) {
		test_deadly(l, by_ring);
		test_suspects(l, by_ring);
		test_waiting(l, by_ring);
		test_late(l, by_ring);
		test_waits_row(l, by_ring);
	}
	loop_free(l);
	return tap_done();
}
