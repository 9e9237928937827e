/* The ttrpc front: frames in pieces, calls that are answered in any order, time-
 * outs, metadata, and whatever a client shouldn't send. Run from the top folder. */
#include "tests/unit/fake_metadata.h"
#include "tests/unit/tap.h"
#include "workers/api/services.h"

#include "base/clock.h"
#include "base/log.h"
#include "kata/health.pb-c.h"
#include "ttrpc/frame.h"
#include "ttrpc/ttrpc.pb-c.h"

#define RUNTIME "runtime.v1.RuntimeService"

struct fixture {
	struct loop *loop;
	struct fake fake;
	struct grpc_server grpc;
	struct budget budget;
	struct credentials peer;
	void *session;
	struct buffer in; /* what the server said and nobody has looked at */
	bool broken, line;
};

static void wants_output(void *ctx) {
}

static void session_begin(struct fixture *f) {
	const struct protocol_options options = {
		.owner = &f->grpc, .wants_output = wants_output, .budget = &f->budget, .peer = f->peer, .line = f->line
	};
	f->broken = false;
	if (protocol_ttrpc.open(&options, &f->session) < 0)
		abort();
}

static void session_end(struct fixture *f) {
	protocol_ttrpc.close(f->session);
	buffer_deinit(&f->in);
}

static void session_again(struct fixture *f) {
	session_end(f);
	session_begin(f);
}

static void open_all(struct fixture *f) {
	static const struct loop_options options = { .buffers = 8, .buffer_size = 4096 };
	*f = (struct fixture){ .budget = { .limit = (size_t)256 << 20 } };
	if (loop_new(&options, &f->loop) < 0 || loop_enable(f->loop, NULL, 0) < 0 || fake_init(&f->fake, f->loop) < 0)
		abort();
	f->grpc = (struct grpc_server){ .loop = f->loop,
					.metadata = f->fake.api,
					.endpoint = &fake_endpoint,
					.services = services,
					.next_request = 7 };
	session_begin(f);
}

static void close_all(struct fixture *f) {
	session_end(f);
	fake_deinit(&f->fake);
	for (int i = 0; i < 3; i++)
		loop_turn(f->loop, 0);
	loop_free(f->loop);
}

/* --- the client --- */

static void feed(struct fixture *f, const void *data, size_t size) {
	f->broken |= protocol_ttrpc.input(f->session, data, size) < 0;
}

static void send_frame(struct fixture *f, uint8_t type, uint8_t flags, uint32_t stream, const void *data, size_t size) {
	uint8_t header[TTRPC_HEADER];
	ttrpc_frame_write(
	    &(struct ttrpc_frame){ .size = (uint32_t)size, .stream = stream, .type = type, .flags = flags }, header);
	feed(f, header, sizeof(header));
	feed(f, data, size);
}

struct ask {
	const char *service, *method, *id; /* id: of the container that the payload asks for */
	int64_t timeout;
	const char *key, *value; /* metadata */
	uint8_t flags;
};

static struct buffer packed(const ProtobufCMessage *m) {
	struct buffer b = { 0 };
	b.size = protobuf_c_message_pack(m, buffer_reserve(&b, protobuf_c_message_get_packed_size(m)));
	return b;
}

static struct buffer request_pack(const struct ask *a) {
	Runtime__V1__ContainerStatusRequest status = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	Ttrpc__KeyValue pair = TTRPC__KEY_VALUE__INIT, *pairs[] = { &pair };
	Ttrpc__Request q = TTRPC__REQUEST__INIT;
	status.container_id = (char *)(uintptr_t)(a->id ? a->id : "");
	struct buffer payload CLEANUP_BUFFER = packed(&status.base);
	q.service = (char *)(uintptr_t)(a->service ? a->service : RUNTIME);
	q.method = (char *)(uintptr_t)(a->method ? a->method : "ContainerStatus");
	q.timeout_nano = a->timeout;
	q.payload = (ProtobufCBinaryData){ .data = payload.data, .len = payload.size };
	pair.key = (char *)(uintptr_t)a->key;
	pair.value = (char *)(uintptr_t)a->value;
	q.metadata = pairs;
	q.n_metadata = a->key ? 1 : 0;
	return packed(&q.base);
}

static void ask(struct fixture *f, uint32_t stream, struct ask a) {
	struct buffer data CLEANUP_BUFFER = request_pack(&a);
	send_frame(f, TTRPC_REQUEST, a.flags, stream, data.data, data.size);
}

struct answer {
	bool came;
	uint32_t stream, size;
	int32_t code;
	char message[512];
	struct buffer payload;
};

static void answer_read(struct answer *a, const uint8_t *data, size_t size) {
	Ttrpc__Response *r = ttrpc__response__unpack(NULL, size, data);
	a->came = r != NULL;
	a->code = r && r->status ? r->status->code : 0;
	snprintf(a->message, sizeof(a->message), "%s", r && r->status ? r->status->message : "");
	if (r)
		buffer_add(&a->payload, r->payload.data, r->payload.len);
	if (r)
		ttrpc__response__free_unpacked(r, NULL);
}

static void pull(struct fixture *f) {
	f->broken |= protocol_ttrpc.output(f->session, &f->in, f->in.size + 65536) < 0;
}

/* The next response, for which the loop turns a while; came is false without. */
static struct answer next(struct fixture *f) {
	struct answer a = { 0 };
	for (int i = 0; i < 300; i++) {
		pull(f);
		const struct ttrpc_frame frame = f->in.size < TTRPC_HEADER ? (struct ttrpc_frame){ 0 }
									   : ttrpc_frame_parse(f->in.data);
		if (f->in.size >= TTRPC_HEADER && f->in.size - TTRPC_HEADER >= frame.size) {
			a.stream = frame.stream;
			a.size = frame.size;
			if (frame.type == TTRPC_RESPONSE && frame.flags == 0)
				answer_read(&a, f->in.data + TTRPC_HEADER, frame.size);
			buffer_consume(&f->in, TTRPC_HEADER + frame.size);
			return a;
		}
		if (f->in.size == 0 || i % 8 == 7)
			loop_turn(f->loop, NS_PER_MS);
	}
	return a;
}

static bool silent(struct fixture *f) {
	for (int i = 0; i < 5; i++)
		loop_turn(f->loop, NS_PER_MS);
	pull(f);
	return f->in.size == 0 && !f->broken;
}

/* Whether the next response is that failure. */
static bool fails(struct fixture *f, uint32_t stream, enum fault_code code, const char *part) {
	struct answer a = next(f);
	bool as = a.came && a.stream == stream && a.code == (int32_t)code && strstr(a.message, part);
	if (!as)
		printf("# stream %u: code %d, \"%s\"\n", a.stream, a.code, a.message);
	buffer_deinit(&a.payload);
	return as;
}

static bool succeeds(struct fixture *f, uint32_t stream, const char *id) {
	struct answer a = next(f);
	Runtime__V1__ContainerStatusResponse *r =
	    runtime__v1__container_status_response__unpack(NULL, a.payload.size, a.payload.data);
	bool as = a.came && a.stream == stream && a.code == 0 && r && r->status && strcmp(r->status->id, id) == 0;
	if (r)
		runtime__v1__container_status_response__free_unpacked(r, NULL);
	buffer_deinit(&a.payload);
	return as;
}

/* --- calls --- */

static void test_health(struct fixture *f) {
	static const char *const methods[] = { "Check", "Version" };
	for (uint32_t i = 0; i < 2; i++)
		ask(f, 2 * i + 1, (struct ask){ .service = "grpc.Health", .method = methods[i] });
	struct answer a = next(f), b = next(f);
	Grpc__HealthCheckResponse *check = grpc__health_check_response__unpack(NULL, a.payload.size, a.payload.data);
	Grpc__VersionCheckResponse *version =
	    grpc__version_check_response__unpack(NULL, b.payload.size, b.payload.data);
	tap_check(a.stream == 1 && check && check->status == GRPC__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING,
		  "grpc.Health.Check: SERVING");
	tap_check(b.stream == 3 && version && strcmp(version->grpc_version, "0.0.1") == 0 && version->agent_version[0],
		  "grpc.Health.Version: the agent's API and ours");
	grpc__health_check_response__free_unpacked(check, NULL);
	grpc__version_check_response__free_unpacked(version, NULL);
	buffer_deinit(&a.payload);
	buffer_deinit(&b.payload);
}

static void test_calls(struct fixture *f) {
	ask(f, 5,
	    (struct ask){ .id = "web",
			  .key = "traceparent",
			  .value = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" });
	tap_check(succeeds(f, 5, "web"), "a row's call goes to the metadata worker and back");
	tap_check(f->fake.last.trace[0] == 0x0af7651916cd43dd, "its metadata ride with it");
	ask(f, 7, (struct ask){ .id = "missing" });
	tap_check(fails(f, 7, FAULT_NOT_FOUND, "container \"missing\": 100% gone, caf\xc3\xa9"),
		  "an error keeps its code and its sentence");
	ask(f, 9, (struct ask){ .id = "big" });
	struct answer a = next(f);
	tap_check(a.came && a.payload.size > 2u << 20 && f->budget.used == 0,
		  "a reply of 2 MiB, counted until it is sent");
	buffer_deinit(&a.payload);
	ask(f, 11, (struct ask){ .id = "web", .flags = TTRPC_REMOTE_CLOSED });
	tap_check(succeeds(f, 11, "web"), "a request that says that no data follows");
}

static void test_multiplex(struct fixture *f) {
	ask(f, 21, (struct ask){ .id = "slow" });
	ask(f, 23, (struct ask){ .id = "quick" });
	tap_check(succeeds(f, 23, "quick") && silent(f), "a call that waits holds up no other");
	Runtime__V1__ContainerStatusResponse reply = RUNTIME__V1__CONTAINER_STATUS_RESPONSE__INIT;
	Runtime__V1__ContainerStatus status = RUNTIME__V1__CONTAINER_STATUS__INIT;
	status.id = (char *)"late";
	reply.status = &status;
	cri_container_status_reply(f->fake.waiting, &reply, NULL, 0);
	f->fake.waiting = NULL;
	tap_check(succeeds(f, 21, "late"), "and is answered when it is its turn");
	ask(f, 25, (struct ask){ .id = "slow", .timeout = 20 * NS_PER_MS });
	tap_check(fails(f, 25, FAULT_DEADLINE_EXCEEDED, ""), "timeout_nano is its deadline");
	tap_check(silent(f) && f->fake.cancelled == 1, "which the metadata worker hears of");
	ask(f, 27, (struct ask){ .id = "web", .timeout = -1 });
	tap_check(fails(f, 27, FAULT_DEADLINE_EXCEEDED, "had passed"), "a deadline before it came");
	ask(f, 29, (struct ask){ .id = "web", .timeout = INT64_MAX });
	tap_check(succeeds(f, 29, "web"), "the longest time-out");
	ask(f, 31, (struct ask){ .id = "slow" });
	silent(f);
	session_again(f);
	tap_check(silent(f) && f->fake.cancelled == 2, "the end of the connection cancels what is open");
}

static void test_pieces(struct fixture *f) {
	struct ask a = { .id = "web" };
	struct buffer data CLEANUP_BUFFER = request_pack(&a), all CLEANUP_BUFFER = { 0 };
	for (uint32_t id = 1; id <= 5; id += 2) {
		uint8_t header[TTRPC_HEADER];
		ttrpc_frame_write(
		    &(struct ttrpc_frame){ .size = (uint32_t)data.size, .stream = id, .type = TTRPC_REQUEST }, header);
		buffer_add(&all, header, sizeof(header));
		buffer_add(&all, data.data, data.size);
	}
	for (size_t i = 0; i < all.size; i++)
		feed(f, all.data + i, 1);
	tap_check(succeeds(f, 1, "web") && succeeds(f, 3, "web") && succeeds(f, 5, "web"), "frames byte by byte");
	session_again(f);
	feed(f, all.data, all.size - 1);
	bool two = succeeds(f, 1, "web") && succeeds(f, 3, "web");
	tap_check(two && silent(f) && f->budget.used > 0, "a frame that is cut short waits for its rest");
	session_again(f);
	tap_check(f->budget.used == 0, "and costs nothing once its client is gone");
}

static void test_refusals(struct fixture *f) {
	ask(f, 1, (struct ask){ .service = "a.B" });
	tap_check(fails(f, 1, FAULT_UNIMPLEMENTED, "unknown service a.B"), "an unknown service");
	ask(f, 3, (struct ask){ .method = "Nonsense" });
	tap_check(fails(f, 3, FAULT_UNIMPLEMENTED, "unknown method Nonsense"), "an unknown method");
	ask(f, 5, (struct ask){ .service = "", .method = "" });
	tap_check(fails(f, 5, FAULT_UNIMPLEMENTED, ""), "neither a service nor a method");
	ask(f, 7, (struct ask){ .service = "bulkhead.v1.Admin", .method = "Pull" });
	tap_check(fails(f, 7, FAULT_UNIMPLEMENTED, "a stream isn't served over ttrpc") && f->fake.asked == 0,
		  "a row whose replies are a stream");
	ask(f, 9, (struct ask){ .service = "grpc.health.v1.Health", .method = "Watch" });
	tap_check(fails(f, 9, FAULT_UNIMPLEMENTED, "a stream of replies"), "a handler whose replies are");
	ask(f, 11, (struct ask){ .service = "containerd.services.content.v1.Content", .method = "Write" });
	tap_check(fails(f, 11, FAULT_UNIMPLEMENTED, "a stream isn't served"), "a request that is one");
	send_frame(f, TTRPC_REQUEST, 0, 13, "\xff\xff\xff", 3);
	tap_check(fails(f, 13, FAULT_INVALID_ARGUMENT, "isn't a valid ttrpc.Request"), "a request that isn't protobuf");
	send_frame(f, TTRPC_REQUEST, 0, 15, "", 0);
	tap_check(fails(f, 15, FAULT_UNIMPLEMENTED, ""), "an empty request");
	ask(f, 17, (struct ask){ .id = "\xff" });
	tap_check(fails(f, 17, FAULT_INVALID_ARGUMENT, "aren't a valid"), "a payload that isn't its method's message");
	ask(f, 19, (struct ask){ .id = "web" });
	tap_check(succeeds(f, 19, "web"), "and the connection lives");
}

/* --- hostile frames --- */

static void test_numbers(struct fixture *f) {
	session_again(f);
	ask(f, 0, (struct ask){ .id = "web" });
	tap_check(fails(f, 0, FAULT_INVALID_ARGUMENT, "are odd"), "stream 0");
	ask(f, 2, (struct ask){ .id = "web" });
	tap_check(fails(f, 2, FAULT_INVALID_ARGUMENT, "are odd"), "an even stream");
	ask(f, 9, (struct ask){ .id = "web" });
	tap_check(succeeds(f, 9, "web"), "numbers may be left out");
	ask(f, 9, (struct ask){ .id = "web" });
	tap_check(fails(f, 9, FAULT_INVALID_ARGUMENT, "above the last one, 9"), "a number again");
	ask(f, 7, (struct ask){ .id = "web" });
	tap_check(fails(f, 7, FAULT_INVALID_ARGUMENT, "above the last one, 9"), "a lower number");
	ask(f, UINT32_MAX, (struct ask){ .id = "web" });
	tap_check(succeeds(f, UINT32_MAX, "web"), "the highest number");
	session_again(f);
}

static void test_flags(struct fixture *f) {
	unsigned asked = f->fake.asked;
	ask(f, 1, (struct ask){ .id = "web", .flags = TTRPC_REMOTE_OPEN });
	tap_check(fails(f, 1, FAULT_UNIMPLEMENTED, "is a stream"), "a request that says that data follows");
	ask(f, 3, (struct ask){ .id = "web", .flags = TTRPC_NO_DATA });
	tap_check(fails(f, 3, FAULT_INVALID_ARGUMENT, "unknown flags 0x04"), "a request's flags that are data's");
	ask(f, 5, (struct ask){ .id = "web", .flags = 0x80 });
	tap_check(fails(f, 5, FAULT_INVALID_ARGUMENT, "unknown flags 0x80"), "unknown flags");
	tap_check(f->fake.asked == asked, "none of them asked anybody");
}

static void test_types(struct fixture *f) {
	send_frame(f, TTRPC_DATA, 0, 7, "x", 1);
	tap_check(fails(f, 7, FAULT_INVALID_ARGUMENT, "no call is open"), "data for a stream that isn't there");
	ask(f, 9, (struct ask){ .id = "slow" });
	send_frame(f, TTRPC_DATA, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, 9, "", 0);
	tap_check(silent(f) && f->fake.waiting, "the end of a request's data may come extra");
	unsigned cancelled = f->fake.cancelled;
	send_frame(f, TTRPC_DATA, 0, 9, "x", 1);
	tap_check(fails(f, 9, FAULT_INVALID_ARGUMENT, "takes none") && silent(f) && f->fake.cancelled == cancelled + 1,
		  "data for a call that takes none ends it");
	send_frame(f, TTRPC_RESPONSE, 0, 9, "xyz", 3);
	send_frame(f, 0, 0, 11, "xyz", 3);
	send_frame(f, 4, 0xff, 11, "xyz", 3);
	send_frame(f, 0xff, 0xff, 11, "", 0);
	tap_check(silent(f), "a client's responses and unknown types are passed over");
	ask(f, 11, (struct ask){ .id = "web" });
	tap_check(succeeds(f, 11, "web"), "and the connection lives");
}

static void test_sizes(struct fixture *f) {
	size_t size = TTRPC_DATA_MAX + 1;
	uint8_t *data = calloc(1, size);
	if (!data)
		abort();
	send_frame(f, TTRPC_REQUEST, 0, 21, data, size);
	tap_check(fails(f, 21, FAULT_RESOURCE_EXHAUSTED, "4194305 bytes") && f->budget.used == 0,
		  "a byte beyond 4 MiB: it is read and thrown away");
	send_frame(f, TTRPC_RESPONSE, 0, 21, data, size);
	tap_check(silent(f), "as is what nobody wants");
	send_frame(f, TTRPC_REQUEST, 0, 23, data, size - 1);
	tap_check(fails(f, 23, FAULT_INVALID_ARGUMENT, "isn't a valid"), "4 MiB are read");
	f->budget.limit = 1000;
	send_frame(f, TTRPC_REQUEST, 0, 25, data, 2000);
	tap_check(fails(f, 25, FAULT_RESOURCE_EXHAUSTED, "try again") && f->budget.used == 0,
		  "more than the process has room for");
	ask(f, 27, (struct ask){ .id = "big" });
	tap_check(fails(f, 27, FAULT_RESOURCE_EXHAUSTED, "too much is unread"), "and a reply that is");
	f->budget.limit = (size_t)256 << 20;
	free(data);
}

static void test_many(struct fixture *f) {
	session_again(f);
	for (uint32_t i = 0; i < 4096; i++)
		ask(f, 2 * i + 1, (struct ask){ .id = "slow" });
	ask(f, 8193, (struct ask){ .id = "web" });
	tap_check(fails(f, 8193, FAULT_RESOURCE_EXHAUSTED, "4096 calls are open"), "4096 calls at once, and no more");
	session_again(f);
	tap_check(silent(f) && f->budget.used == 0, "which end with their connection");
}

static void test_unread(struct fixture *f) {
	uint32_t id = 1;
	for (; id < 1u << 17 && !protocol_ttrpc.clogged(f->session); id += 2)
		ask(f, id, (struct ask){ .service = "a.B" });
	tap_check(protocol_ttrpc.clogged(f->session), "who reads nothing isn't read any more");
	struct answer a;
	uint32_t n = 0;
	while ((a = next(f)).came)
		n++;
	tap_check(n == id / 2 && !protocol_ttrpc.clogged(f->session), "but hears it all in the end");
}

static void test_connect(struct fixture *f) {
	static const char *const lines[] = { "CONNECT 1024\n", "connect 7\n" };
	static const char *const said[] = { "OK 1024\n", "OK 7\n" };
	static const char *const bad[] = { "CONNECT \nxxxxxxxx\n", "CONNECT 12 \n", "CONNECT -1\n",
					   "CONNECT 4294967296\n", "CONNECT 000000000000000000000000000000001\n" };
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		session_again(f);
		feed(f, lines[i], strlen(lines[i]));
		pull(f);
		bool ok = f->in.size == strlen(said[i]) && memcmp(f->in.data, said[i], f->in.size) == 0;
		f->in.size = 0;
		ask(f, 1, (struct ask){ .id = "web" });
		tap_check(ok && succeeds(f, 1, "web"), "hybrid vsock: %.*s", (int)strlen(lines[i]) - 1, lines[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		session_again(f);
		feed(f, bad[i], strlen(bad[i]));
		tap_check(f->broken, "hybrid vsock: no port in line %zu ends the connection", i);
	}
	session_again(f);
	ask(f, 1, (struct ask){ .id = "web" });
	bool served = succeeds(f, 1, "web");
	feed(f, lines[0], strlen(lines[0]));
	tap_check(served && silent(f), "hybrid vsock: later it is a frame that is too long");
	session_again(f);
}

static void test_policy(struct fixture *f) {
	static const struct boot_endpoint
	    metrics = { .name = "look", .services = GROUPS_SERVED, .access = ACCESS_METRICS },
	    own = { .name = "own", .services = GROUPS_SERVED, .access = ACCESS_FULL, .uids = { 5 }, .n_uids = 1 };
	f->grpc.endpoint = &metrics;
	ask(f, 1, (struct ask){ .id = "web" });
	tap_check(fails(f, 1, FAULT_PERMISSION_DENIED, "endpoint \"look\""), "what the endpoint doesn't give");
	f->grpc.endpoint = &own;
	ask(f, 3, (struct ask){ .id = "web" });
	tap_check(fails(f, 3, FAULT_PERMISSION_DENIED, "uid 0"), "whom it doesn't serve");
	f->grpc.endpoint = &fake_endpoint;
}

static void test_stop(struct fixture *f) {
	session_again(f);
	ask(f, 1, (struct ask){ .id = "slow" });
	silent(f);
	protocol_ttrpc.stop(f->session);
	tap_check(!protocol_ttrpc.over(f->session), "a call that is open outlives the order to stop");
	ask(f, 3, (struct ask){ .id = "web" });
	tap_check(fails(f, 3, FAULT_UNAVAILABLE, "stops"), "a new one doesn't begin");
	msg_failf(f->fake.waiting, FAULT_ABORTED, "so be it");
	f->fake.waiting = NULL;
	tap_check(fails(f, 1, FAULT_ABORTED, "so be it") && protocol_ttrpc.over(f->session),
		  "then the session is over");
}

/* A serial line, where nothing tells that one client went and another came. */
static void test_line(struct fixture *f) {
	unsigned cancelled = f->fake.cancelled;
	f->line = true;
	session_again(f);
	ask(f, 9, (struct ask){ .id = "web" });
	tap_check(succeeds(f, 9, "web"), "a line's client that began with another server is served");
	ask(f, 11, (struct ask){ .service = "line.x" });
	tap_check(fails(f, 11, FAULT_UNAVAILABLE, TTRPC_LINE_ANEW), "and told so when it asks");
	ask(f, 1, (struct ask){ .id = "web" });
	tap_check(succeeds(f, 1, "web"), "a line's first client");
	ask(f, 7, (struct ask){ .id = "slow" });
	silent(f);
	ask(f, 1, (struct ask){ .id = "web" });
	tap_check(succeeds(f, 1, "web"), "stream 1 again: another client is on the line");
	tap_check(f->fake.cancelled == cancelled + 1, "what the one before it had asked is cancelled");
	ask(f, 3, (struct ask){ .id = "web" });
	tap_check(succeeds(f, 3, "web"), "its streams count from there");
	ask(f, 5, (struct ask){ .service = "line.x" });
	tap_check(fails(f, 5, FAULT_UNIMPLEMENTED, "line.x"), "and it hears that it is still the same server");
	ask(f, 3, (struct ask){ .id = "web" });
	tap_check(fails(f, 3, FAULT_INVALID_ARGUMENT, "above the last one, 5"), "no other number comes twice");
	f->line = false;
	session_again(f);
}

int main(void) {
	struct fixture f;
	log_init("test", LOG_ERROR + 1);
	open_all(&f);
	test_health(&f);
	test_calls(&f);
	test_multiplex(&f);
	test_pieces(&f);
	f.fake.asked = 0;
	test_refusals(&f);
	test_numbers(&f);
	test_flags(&f);
	test_types(&f);
	test_sizes(&f);
	test_many(&f);
	test_unread(&f);
	test_connect(&f);
	test_policy(&f);
	test_line(&f);
	test_stop(&f);
	close_all(&f);
	return tap_done();
}
