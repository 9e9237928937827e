/* The ttrpc client: against the project's own server over a socket and over a
 * line, and against servers that say what they must not. */
#include "tests/unit/fake_metadata.h"
#include "tests/unit/tap.h"
#include "workers/api/server.h"
#include "workers/api/services.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "kata/agent.pb-c.h"
#include "kata/health.pb-c.h"
#include "ttrpc/client.h"
#include "ttrpc/frame.h"
#include "ttrpc/ttrpc.pb-c.h"

#include <fcntl.h>
#include <sys/un.h>

#define RUNTIME (&runtime__v1__runtime_service__descriptor)
#define HEALTH (&grpc__health__descriptor)

struct fixture {
	struct loop *loop;
	struct fake fake;
	struct grpc_server grpc;
	struct server *server;
	struct sockaddr_un address;

	struct ttrpc_client *client;
	int peer; /* the other end, when it is hostile; -1 */
	unsigned ready, ended;
	char reason[512];
};

static void on_ready(void *ctx) {
	struct fixture *f = ctx;
	f->ready++;
}

static void on_ended(void *ctx, const struct fault *fault) {
	struct fixture *f = ctx;
	f->ended++;
	snprintf(f->reason, sizeof(f->reason), "%s %s", fault_code_name(fault->code), fault->text);
}

static int listen_at(struct sockaddr_un *ret_address) {
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un any = { .sun_family = AF_UNIX };
	socklen_t size = sizeof(*ret_address);
	*ret_address = (struct sockaddr_un){ 0 };
	/* The kernel picks an abstract name. */
	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any.sun_family)) < 0 || listen(fd, 8) < 0 ||
	    getsockname(fd, (struct sockaddr *)ret_address, &size) < 0)
		abort();
	return fd;
}

static void open_all(struct fixture *f) {
	static const struct loop_options options = { .buffers = 16, .buffer_size = 4096 };
	*f = (struct fixture){ .peer = -1 };
	if (loop_new(&options, &f->loop) < 0 || loop_enable(f->loop, NULL, 0) < 0 || fake_init(&f->fake, f->loop) < 0)
		abort();
	f->grpc = (struct grpc_server){
		.loop = f->loop,
		.metadata = f->fake.api,
		.endpoint = &fake_endpoint,
		.services = services,
		.next_request = 1,
	};
	const struct server_options server = { .loop = f->loop, .protocol = &protocol_ttrpc, .owner = &f->grpc };
	if (server_new(&server, &f->server) < 0 || server_listen(f->server, listen_at(&f->address)) < 0)
		abort();
}

static void turns(struct fixture *f, int n) {
	for (int i = 0; i < n; i++)
		loop_turn(f->loop, NS_PER_MS);
}

static void client_end(struct fixture *f) {
	ttrpc_client_free(take_ptr(f->client));
	fd_close_p(&f->peer);
	f->ready = f->ended = 0;
	f->reason[0] = '\0';
	turns(f, 3);
}

static void close_all(struct fixture *f) {
	client_end(f);
	server_free(f->server);
	fake_deinit(&f->fake);
	turns(f, 3);
	loop_free(f->loop);
}

static void client_begin(struct fixture *f, int fd, bool line) {
	const struct ttrpc_client_options options = {
		.loop = f->loop, .line = line, .cancels = true, .ready = on_ready, .ended = on_ended, .ctx = f
	};
	client_end(f);
	if (ttrpc_client_new(&options, fd, &f->client) < 0)
		abort();
}

/* With our server. */
static void connected(struct fixture *f) {
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(f->address.sun_family) + 6;
	if (fd < 0 || connect(fd, (struct sockaddr *)&f->address, size) < 0)
		abort();
	client_begin(f, fd, false);
}

/* With whatever the test sends at f->peer. */
static void alone(struct fixture *f, bool line) {
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		abort();
	client_begin(f, ends[0], line);
	f->peer = ends[1];
}

/* --- calls --- */

struct result {
	struct fixture *f;
	unsigned times;
	enum fault_code code;
	char text[512];
	struct ttrpc_call *call;
	bool frees; /* the client, when it is told */
	struct result *cancels, *again;
};

static void status_begin(struct result *r, const char *id, int64_t timeout);

static void done(void *ctx, const ProtobufCMessage *reply, const struct fault *fault) {
	struct result *r = ctx;
	r->times++;
	r->call = NULL;
	r->code = fault ? fault->code : FAULT_NONE;
	snprintf(r->text, sizeof(r->text), "%s", fault ? fault->text : "");
	if (reply && reply->descriptor == &runtime__v1__container_status_response__descriptor)
		snprintf(r->text, sizeof(r->text), "%s",
			 ((const Runtime__V1__ContainerStatusResponse *)reply)->status->id);
	if (r->cancels)
		ttrpc_call_cancel(take_ptr(r->cancels->call));
	if (r->again)
		status_begin(r->again, "again", 0);
	if (r->frees)
		ttrpc_client_free(take_ptr(r->f->client));
}

static void begin(struct result *r, const ProtobufCServiceDescriptor *service, const char *method,
		  const ProtobufCMessage *request, int64_t timeout) {
	if (ttrpc_call(r->f->client, service, method, request, timeout, done, r, &r->call) < 0)
		abort();
}

static void status_begin(struct result *r, const char *id, int64_t timeout) {
	Runtime__V1__ContainerStatusRequest q = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	q.container_id = (char *)(uintptr_t)id;
	begin(r, RUNTIME, "ContainerStatus", &q.base, timeout);
}

static void check_begin(struct result *r) {
	const Grpc__CheckRequest q = GRPC__CHECK_REQUEST__INIT;
	begin(r, HEALTH, "Check", &q.base, 0);
}

/* Until done was called for each of n, or ten seconds long. */
static bool wait_all(struct fixture *f, const struct result *r, size_t n) {
	int64_t until = clock_mono() + 10 * NS_PER_SEC;
	for (size_t i = 0; i < n; i++)
		while (r[i].times == 0 && clock_mono() < until)
			loop_turn(f->loop, 10 * NS_PER_MS);
	for (size_t i = 0; i < n; i++)
		if (r[i].times != 1)
			return false;
	return true;
}

static bool is(const struct result *r, enum fault_code code, const char *part) {
	bool as = r->times == 1 && r->code == code && strstr(r->text, part);
	if (!as)
		printf("# %u times, code %d, \"%s\"\n", r->times, r->code, r->text);
	return as;
}

static bool status_is(struct fixture *f, const char *id, int64_t timeout, enum fault_code code, const char *part) {
	struct result r = { .f = f };
	status_begin(&r, id, timeout);
	return wait_all(f, &r, 1) && is(&r, code, part);
}

static void test_calls(struct fixture *f) {
	connected(f);
	struct result check = { .f = f };
	check_begin(&check);
	tap_check(check.times == 0 && wait_all(f, &check, 1) && is(&check, FAULT_NONE, ""), "a call and its reply");
	tap_check(status_is(f, "web", 0, FAULT_NONE, "web"), "what is asked and answered is whole");
	tap_check(status_is(f, "missing", 0, FAULT_NOT_FOUND, "container \"missing\": 100% gone, caf\xc3\xa9"),
		  "a failure keeps the server's code and sentence");
	tap_check(status_is(f, "big", 0, FAULT_NONE, "bbbb"), "a reply of 2 MiB");
	struct result r[50];
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		r[i] = (struct result){ .f = f };
		status_begin(&r[i], i % 2 ? "big" : "web", NS_PER_SEC * 60);
	}
	bool all = wait_all(f, r, ARRAY_SIZE(r));
	for (size_t i = 0; i < ARRAY_SIZE(r); i++)
		all &= r[i].code == FAULT_NONE || r[i].code == FAULT_RESOURCE_EXHAUSTED;
	tap_check(all, "fifty at once, each is answered once");
	tap_check(f->ended == 0 && f->ready == 0, "the connection lives, and was no line");
}

static void test_waiting(struct fixture *f) {
	struct result slow = { .f = f };
	status_begin(&slow, "slow", 0);
	tap_check(status_is(f, "web", 0, FAULT_NONE, "web") && slow.times == 0, "a call that waits holds up no other");
	Runtime__V1__ContainerStatusResponse reply = RUNTIME__V1__CONTAINER_STATUS_RESPONSE__INIT;
	Runtime__V1__ContainerStatus status = RUNTIME__V1__CONTAINER_STATUS__INIT;
	status.id = (char *)"late";
	reply.status = &status;
	cri_container_status_reply(take_ptr(f->fake.waiting), &reply, NULL, 0);
	tap_check(wait_all(f, &slow, 1) && is(&slow, FAULT_NONE, "late"), "and is answered when it is its turn");
}

static bool hears_of_cancel(struct fixture *f, unsigned before) {
	for (int i = 0; i < 1000 && f->fake.cancelled == before; i++)
		loop_turn(f->loop, 10 * NS_PER_MS);
	return f->fake.cancelled == before + 1;
}

static void test_time_outs(struct fixture *f) {
	unsigned cancelled = f->fake.cancelled;
	tap_check(status_is(f, "slow", 20 * NS_PER_MS, FAULT_DEADLINE_EXCEEDED, ""), "a time-out");
	tap_check(hears_of_cancel(f, cancelled), "which is the server's, too");
	tap_check(status_is(f, "web", -1, FAULT_DEADLINE_EXCEEDED, ""), "one that has passed before");
	tap_check(status_is(f, "web", INT64_MAX, FAULT_NONE, "web"), "the longest");
	struct result r = { .f = f };
	cancelled = f->fake.cancelled;
	status_begin(&r, "slow", 0);
	for (int i = 0; i < 1000 && !f->fake.waiting; i++)
		loop_turn(f->loop, 10 * NS_PER_MS);
	ttrpc_call_cancel(r.call);
	tap_check(hears_of_cancel(f, cancelled) && r.times == 0, "a call that its caller cancels: the server hears it");
	unsigned asked = f->fake.asked;
	status_begin(&r, "web", 0);
	ttrpc_call_cancel(r.call);
	tap_check(status_is(f, "web", 0, FAULT_NONE, "web") && f->fake.asked == asked + 1 && r.times == 0,
		  "one that is cancelled before it was sent never is");
	tap_check(f->ended == 0, "the connection lives");
}

static void test_refusals(struct fixture *f) {
	struct result r = { .f = f };
	Runtime__V1__ContainerStatusRequest q = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	begin(&r, RUNTIME, "Nonsense", &q.base, 0);
	tap_check(r.times == 0 && wait_all(f, &r, 1) && is(&r, FAULT_UNIMPLEMENTED, "RuntimeService/Nonsense: "),
		  "a method that the service hasn't got");
	char *big = malloc((5 << 20) + 1);
	memset(big, 'b', 5 << 20);
	big[5 << 20] = '\0';
	tap_check(status_is(f, big, 0, FAULT_RESOURCE_EXHAUSTED, "ttrpc's limit is 4194304"),
		  "a request that is too long isn't sent");
	big[3 << 20] = '\0';
	struct result many[8];
	unsigned refused = 0;
	for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
		many[i] = (struct result){ .f = f };
		status_begin(&many[i], big, 0);
	}
	bool all = wait_all(f, many, ARRAY_SIZE(many));
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		refused += many[i].code == FAULT_RESOURCE_EXHAUSTED && strstr(many[i].text, "wait to be sent");
	tap_check(all && refused == 3, "requests that wait to be sent have a bound");
	free(big);
	tap_check(status_is(f, "web", 0, FAULT_NONE, "web") && f->ended == 0, "the connection lives");
}

static void test_many(struct fixture *f) {
	enum { N = 4097 };
	struct result *r = calloc(N, sizeof(*r));
	connected(f);
	for (size_t i = 0; i < N; i++) {
		r[i].f = f;
		status_begin(&r[i], "slow", 0);
	}
	tap_check(wait_all(f, &r[N - 1], 1) && is(&r[N - 1], FAULT_RESOURCE_EXHAUSTED, "4096 calls are pending"),
		  "4096 calls at once, and no more");
	client_end(f);
	unsigned told = 0;
	for (size_t i = 0; i < N - 1; i++)
		told += r[i].times;
	tap_check(told == 0, "a client that is freed tells none of them");
	free(r);
}

/* --- the end of the connection --- */

static void test_end(struct fixture *f) {
	struct result r[4];
	alone(f, false);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		r[i] = (struct result){ .f = f };
		check_begin(&r[i]);
	}
	struct result again = { .f = f };
	r[1].cancels = &r[2];
	r[3].again = &again;
	turns(f, 2);
	shutdown(f->peer, SHUT_WR);
	tap_check(wait_all(f, r, 2) && is(&r[0], FAULT_UNAVAILABLE, "has closed the connection"),
		  "the server's end fails what is pending");
	tap_check(is(&r[3], FAULT_UNAVAILABLE, "Health/Check: ") && r[2].times == 0,
		  "but not what one that was told has cancelled");
	tap_check(wait_all(f, &again, 1) && is(&again, FAULT_UNAVAILABLE, "the connection has ended"),
		  "a call that comes later fails");
	tap_check(f->ended == 1 && strstr(f->reason, "UNAVAILABLE the ttrpc server has closed"),
		  "the end is told once");
	alone(f, false);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		r[i] = (struct result){ .f = f, .frees = i == 1 };
		check_begin(&r[i]);
	}
	turns(f, 2);
	shutdown(f->peer, SHUT_WR);
	tap_check(wait_all(f, r, 2) && r[2].times == 0 && r[3].times == 0 && f->ended == 0,
		  "who is told may free the client, and hears no more of it");
}

/* --- hostile servers --- */

static struct buffer packed(const ProtobufCMessage *m) {
	struct buffer b = { 0 };
	b.size = protobuf_c_message_pack(m, buffer_reserve(&b, protobuf_c_message_get_packed_size(m)));
	return b;
}

static void frame(struct buffer *b, uint32_t size, uint32_t stream, uint8_t type, uint8_t flags) {
	uint8_t header[TTRPC_HEADER];
	ttrpc_frame_write(&(struct ttrpc_frame){ .size = size, .stream = stream, .type = type, .flags = flags },
			  header);
	buffer_add(b, header, sizeof(header));
}

/* An answer with that code and text; of the kind of Health.Check with code 0. */
static void answer(struct buffer *b, uint32_t stream, int32_t code, const char *text) {
	Ttrpc__Response r = TTRPC__RESPONSE__INIT;
	Google__Rpc__Status s = GOOGLE__RPC__STATUS__INIT;
	s.code = code;
	s.message = (char *)(uintptr_t)text;
	r.status = &s;
	struct buffer data CLEANUP_BUFFER = packed(&r.base);
	frame(b, (uint32_t)data.size, stream, TTRPC_RESPONSE, 0);
	buffer_add(b, data.data, data.size);
}

static void say(struct fixture *f, struct buffer *b) {
	struct buffer all CLEANUP_BUFFER = buffer_take(b);
	if (fd_write_all(f->peer, all.data, all.size) < 0)
		abort();
}

static void expect_end(struct fixture *f, struct buffer *b, const char *reason) {
	struct result r = { .f = f };
	alone(f, false);
	check_begin(&r);
	turns(f, 2);
	say(f, b);
	bool told = wait_all(f, &r, 1) && is(&r, FAULT_UNAVAILABLE, reason);
	tap_check(told && f->ended == 1 && strstr(f->reason, reason), "it ends: %s", reason);
}

static void test_hostile(struct fixture *f) {
	struct buffer b = { 0 };
	answer(&b, 3, 0, "");
	expect_end(f, &b, "on stream 3, which was never opened");
	answer(&b, 2, 0, "");
	expect_end(f, &b, "on stream 2, which was never opened");
	answer(&b, 0, 0, "");
	expect_end(f, &b, "on stream 0, which was never opened");
	frame(&b, 0, 1, TTRPC_DATA, 0);
	expect_end(f, &b, "a frame of type 3");
	frame(&b, 0, 1, TTRPC_REQUEST, 0);
	expect_end(f, &b, "a frame of type 1");
	frame(&b, 0, 1, 0xff, 0);
	expect_end(f, &b, "a frame of type 255");
	frame(&b, 0, 1, TTRPC_RESPONSE, TTRPC_REMOTE_OPEN);
	expect_end(f, &b, "a response with flags 0x02");
	frame(&b, TTRPC_DATA_MAX + 1, 1, TTRPC_RESPONSE, 0);
	expect_end(f, &b, "a response of 4194305 bytes, the limit is 4194304");
	frame(&b, 3, 1, TTRPC_RESPONSE, 0);
	buffer_add(&b, "\xff\xff\xff", 3);
	expect_end(f, &b, "sent on stream 1 is no response");
}

static void test_truncated(struct fixture *f) {
	struct result r = { .f = f };
	struct buffer b = { 0 };
	alone(f, false);
	check_begin(&r);
	turns(f, 2);
	answer(&b, 1, FAULT_ABORTED, "so be it");
	b.size--;
	say(f, &b);
	turns(f, 3);
	shutdown(f->peer, SHUT_WR);
	tap_check(wait_all(f, &r, 1) && is(&r, FAULT_UNAVAILABLE, "closed the connection within a response"),
		  "it ends: in the middle of a response");
}

static void test_odd_answers(struct fixture *f) {
	struct result r[4];
	struct buffer b = { 0 };
	alone(f, false);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		r[i] = (struct result){ .f = f };
		check_begin(&r[i]);
	}
	turns(f, 2);
	answer(&b, 1, 77, "what is this");
	frame(&b, 0, 3, TTRPC_RESPONSE, TTRPC_REMOTE_CLOSED);
	frame(&b, 3, 5, TTRPC_RESPONSE, 0);
	buffer_add(&b, "\x12\x01\xff", 3);
	answer(&b, 1, 0, "");
	answer(&b, 7, -1, "nor is this");
	for (size_t i = 0; i < b.size; i++) {
		struct buffer one = { 0 };
		buffer_add(&one, b.data + i, 1);
		say(f, &one);
		turns(f, 1);
	}
	buffer_deinit(&b);
	tap_check(wait_all(f, r, 4) && is(&r[0], FAULT_UNKNOWN, "what is this") &&
		      is(&r[3], FAULT_UNKNOWN, "nor is this"),
		  "a code that gRPC hasn't got, byte by byte");
	tap_check(is(&r[1], FAULT_NONE, ""), "an empty response is a success");
	tap_check(is(&r[2], FAULT_INTERNAL, "Health/Check: the reply is no grpc.HealthCheckResponse"),
		  "a reply that isn't the method's message fails its call");
	tap_check(f->ended == 0, "a second answer is passed over, the connection lives");
}

/* --- lines --- */

/* What the client has sent and the test hasn't read; the name of the service of
 * its first request. */
static void asked_for(struct fixture *f, uint32_t *ret_stream, char *ret_service, size_t size) {
	uint8_t data[4096];
	ssize_t n = 0;
	for (int i = 0; i < 1000 && n < TTRPC_HEADER; i++) {
		loop_turn(f->loop, 10 * NS_PER_MS);
		n = recv(f->peer, data, sizeof(data), MSG_DONTWAIT);
	}
	if (n < TTRPC_HEADER)
		abort();
	const struct ttrpc_frame frame = ttrpc_frame_parse(data);
	Ttrpc__Request *q = ttrpc__request__unpack(NULL, frame.size, data + TTRPC_HEADER);
	*ret_stream = frame.stream;
	snprintf(ret_service, size, "%s", q ? q->service : "");
	if (q)
		ttrpc__request__free_unpacked(q, NULL);
}

static void test_line(struct fixture *f) {
	struct result r = { .f = f };
	struct buffer b = { 0 };
	char service[100], text[200];
	uint32_t stream;
	alone(f, true);
	check_begin(&r);
	asked_for(f, &stream, service, sizeof(service));
	tap_check(stream == 1 && strncmp(service, "line.", 5) == 0, "a line's client asks first where it is");
	buffer_add(&b, "the rest of a response\0\0", 24);
	answer(&b, 1, FAULT_UNIMPLEMENTED, "unknown service line.00000000");
	answer(&b, 7, 0, "");
	frame(&b, 900, 1, TTRPC_RESPONSE, 0);
	say(f, &b);
	turns(f, 3);
	tap_check(f->ready == 0 && r.times == 0 && f->ended == 0, "what is meant for the one before it is passed over");
	snprintf(text, sizeof(text), "unknown service %s here", service);
	answer(&b, 1, FAULT_UNIMPLEMENTED, text);
	uint8_t last = b.data[--b.size];
	say(f, &b);
	turns(f, 3);
	tap_check(f->ready == 0, "it waits for the whole answer");
	buffer_add(&b, &last, 1);
	answer(&b, 1, FAULT_UNIMPLEMENTED, text);
	say(f, &b);
	asked_for(f, &stream, service, sizeof(service));
	tap_check(f->ready == 1 && stream == 3 && strcmp(service, "grpc.Health") == 0, "then it begins, on stream 3");
	answer(&b, 3, 0, "");
	say(f, &b);
	tap_check(wait_all(f, &r, 1) && is(&r, FAULT_NONE, "") && f->ended == 0, "and is answered");
}

/* A server that dies without the line's end, and has a successor: ours. */
static void test_line_anew(struct fixture *f) {
	struct result again = { .f = f }, waits = { .f = f, .again = &again };
	struct buffer b = { 0 };
	char service[100];
	uint32_t stream;
	alone(f, true);
	check_begin(&waits);
	asked_for(f, &stream, service, sizeof(service));
	answer(&b, 1, FAULT_UNIMPLEMENTED, service);
	say(f, &b);
	asked_for(f, &stream, service, sizeof(service));
	tap_check(f->ready == 1 && stream == 3, "a line's server has a call, and dies");
	if (server_serve(f->server, fcntl(f->peer, F_DUPFD_CLOEXEC, 0), NULL, NULL) < 0)
		abort();
	tap_check(wait_all(f, &waits, 1) && is(&waits, FAULT_UNAVAILABLE, "begun anew"),
		  "the call doesn't wait for ever: its successor is noticed");
	tap_check(wait_all(f, &again, 1) && is(&again, FAULT_NONE, "again") && f->ended == 0 && f->ready == 1,
		  "one that is made meanwhile is the successor's");
	client_end(f);
	turns(f, 5);
}

/* Both ends stay open whoever is on the line. */
static void test_line_shared(struct fixture *f) {
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		abort();
	unsigned cancelled = f->fake.cancelled;
	struct result r = { .f = f };
	client_begin(f, fcntl(ends[0], F_DUPFD_CLOEXEC, 0), true);
	turns(f, 5);
	tap_check(f->ready == 0, "a line whose server isn't there yet");
	if (server_serve(f->server, ends[1], NULL, NULL) < 0)
		abort();
	tap_check(status_is(f, "web", 0, FAULT_NONE, "web") && f->ready == 1, "it is found when it comes");
	status_begin(&r, "slow", 0);
	for (int i = 0; i < 1000 && !f->fake.waiting; i++)
		loop_turn(f->loop, 10 * NS_PER_MS);
	ttrpc_client_free(take_ptr(f->client));
	client_begin(f, fcntl(ends[0], F_DUPFD_CLOEXEC, 0), true);
	tap_check(status_is(f, "next", 0, FAULT_NONE, "next") && f->ready == 1, "another client on the same line");
	tap_check(hears_of_cancel(f, cancelled), "what the one before it had asked is cancelled");
	tap_check(status_is(f, "big", 0, FAULT_NONE, "bbb") && f->ended == 0, "2 MiB over the line");
	client_end(f);
	fd_close(ends[0]);
	turns(f, 5);
}

int main(void) {
	struct fixture f;
	log_init("test", LOG_ERROR + 1);
	open_all(&f);
	test_calls(&f);
	test_waiting(&f);
	test_time_outs(&f);
	test_refusals(&f);
	test_many(&f);
	test_end(&f);
	test_hostile(&f);
	test_truncated(&f);
	test_odd_answers(&f);
	test_line(&f);
	test_line_anew(&f);
	test_line_shared(&f);
	close_all(&f);
	return tap_done();
}
