/* The gRPC front: methods with a handler of their own. A long request whose
 * handler takes its time, a long reply whose client does, several calls behind
 * one; the ends that such calls have; and who may make them. */
#include "tests/unit/grpc_lab.h"

#include "workers/api/cri_seed/seed.h"

#define CHUNK 16384
#define UNSENT_MAX (128 << 10)

/* What the handlers below have seen. */
static struct {
	struct reply *reply;
	unsigned opened, closed, messages, ends, parts;
	bool out_of_order, pushed, after_end;
	size_t taken, ahead_max, unsent_max;
	char name[64];
} seen;

/* --- sink: a stream of messages, each of which takes a while --- */

struct sink {
	struct grpc_call *call;
	struct loop_source *work;
};

static void *sink_open(struct grpc_call *c) {
	struct sink *s = calloc(1, sizeof(*s));
	s->call = c;
	seen.opened++;
	return s;
}

static void worked(void *ctx) {
	struct sink *s = ctx;
	loop_source_free_p(&s->work);
	grpc_ready(s->call);
}

static void sink_message(void *handler, const ProtobufCMessage *request) {
	const Runtime__ExecRequest *m = (const Runtime__ExecRequest *)request;
	struct sink *s = handler;
	uint32_t number = 0;
	if (m->stdin.len >= sizeof(number))
		memcpy(&number, m->stdin.data, sizeof(number));
	seen.out_of_order |= number != seen.messages;
	seen.after_end |= seen.ends > 0;
	seen.pushed |= s->work != NULL;
	seen.messages++;
	seen.taken += m->stdin.len;
	seen.ahead_max = MAX(seen.ahead_max, seen.reply->sent - seen.taken);
	if (loop_timer(grpc_call_server(s->call)->loop, clock_mono() + NS_PER_MS / 4, worked, s, &s->work) < 0)
		abort();
}

static void sink_end(void *handler) {
	struct sink *s = handler;
	Runtime__ExecResponse reply = RUNTIME__EXEC_RESPONSE__INIT;
	seen.ends++;
	seen.pushed |= s->work != NULL;
	grpc_reply(s->call, &reply.base);
}

static bool sink_busy(void *handler) {
	return ((struct sink *)handler)->work != NULL;
}

static void sink_closed(void *handler) {
	struct sink *s = handler;
	seen.closed++;
	loop_source_free(s->work);
	free(s);
}

static const struct grpc_handler sink = {
	.client_streams = true,
	.open = sink_open,
	.message = sink_message,
	.end = sink_end,
	.busy = sink_busy,
	.closed = sink_closed,
};

/* --- source: one message, two calls, many replies --- */

struct source {
	struct grpc_call *call;
	struct msg_call *ask;
	char *id;
	unsigned answers;
};

static void *source_open(struct grpc_call *c) {
	struct source *s = calloc(1, sizeof(*s));
	s->call = c;
	seen.opened++;
	snprintf(seen.name, sizeof(seen.name), "%s", grpc_header(c, "x-name") ? grpc_header(c, "x-name") : "none");
	return s;
}

static void pump(struct source *s) {
	static uint8_t data[CHUNK];
	Runtime__ExecResponse part = RUNTIME__EXEC_RESPONSE__INIT;
	part.has_stdout = true;
	part.stdout = (ProtobufCBinaryData){ .data = data, .len = sizeof(data) };
	while (seen.parts < 300 && grpc_unsent(s->call) < UNSENT_MAX) {
		seen.parts++;
		if (grpc_reply_part(s->call, &part.base) < 0)
			return;
		seen.unsent_max = MAX(seen.unsent_max, grpc_unsent(s->call));
	}
	if (seen.parts == 300)
		grpc_finish(s->call);
}

static void ask_again(struct source *s);

static void source_answered(void *ctx, const struct msg_answer *answer) {
	struct source *s = ctx;
	s->ask = NULL;
	s->answers++;
	if (answer->fault)
		grpc_fail(s->call, answer->fault);
	else if (s->answers < 2)
		ask_again(s);
	else
		pump(s);
}

static void ask_again(struct source *s) {
	Runtime__V1__ContainerStatusRequest q = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	q.container_id = s->id;
	s->ask = cri_container_status_send(grpc_call_server(s->call)->metadata, grpc_call_context(s->call), &q, NULL, 0,
					   source_answered, s);
}

static void source_message(void *handler, const ProtobufCMessage *request) {
	struct source *s = handler;
	seen.messages++;
	s->id = arena_strdup(grpc_call_arena(s->call),
			     ((const Runtime__V1__ContainerStatusRequest *)request)->container_id);
	ask_again(s);
}

static void source_room(void *handler) {
	struct source *s = handler;
	if (s->answers == 2)
		pump(s);
}

static void source_closed(void *handler) {
	struct source *s = handler;
	seen.closed++;
	msg_cancel(s->ask);
	free(s);
}

static const struct grpc_handler source = {
	.open = source_open,
	.message = source_message,
	.room = source_room,
	.closed = source_closed,
};

/* --- sour: fails with a fault of its own --- */

struct sour {
	struct grpc_call *call;
	struct fault fault;
};

static void *sour_open(struct grpc_call *c) {
	struct sour *s = calloc(1, sizeof(*s));
	s->call = c;
	return s;
}

static void sour_message(void *handler, const ProtobufCMessage *request) {
	struct sour *s = handler;
	fault_set(&s->fault, FAULT_INVALID_ARGUMENT, "%s",
		  ((const Runtime__V1__RemoveContainerRequest *)request)->container_id);
	grpc_fail(s->call, &s->fault);
}

static void sour_closed(void *handler) {
	struct sour *s = handler;
	seen.closed++;
	memset(s, 0, sizeof(*s)); /* as freed memory may be */
	free(s);
}

static const struct grpc_handler sour = { .open = sour_open, .message = sour_message, .closed = sour_closed };

/* --- the tables --- */

static const struct grpc_method sink_methods[] = { { .name = "Exec", .handler = &sink }, { 0 } };
static const struct grpc_method source_methods[] = {
	{ .name = "ContainerStatus", .handler = &source, .access = ACCESS_READ_ONLY },
	{ .name = "PodSandboxStatus", .handler = &source },
	{ .name = "RemoveContainer", .handler = &sour },
	{ 0 },
};
static const char *const headers[] = { "x-other", "x-name", NULL };

static const struct grpc_service lab_services[] = {
	{ .name = "runtime.RuntimeService", .api = &runtime__runtime_service__descriptor, .methods = sink_methods },
	{ .name = "runtime.v1.RuntimeService",
	  .api = &runtime__v1__runtime_service__descriptor,
	  .methods = source_methods,
	  .headers = headers },
	{ 0 },
};

#define SINK "/runtime.RuntimeService/Exec"
#define SOUR "/runtime.v1.RuntimeService/RemoveContainer"
#define SOURCE "/runtime.v1.RuntimeService/ContainerStatus"

static void begin(struct reply *r) {
	reply_reset(r);
	memset(&seen, 0, sizeof(seen));
	seen.reply = r;
}

/* --- the tests --- */

static struct buffer numbered(unsigned n) {
	static uint8_t data[CHUNK];
	struct buffer all = { 0 };
	for (uint32_t i = 0; i < n; i++) {
		Runtime__ExecRequest m = RUNTIME__EXEC_REQUEST__INIT;
		memcpy(data, &i, sizeof(i));
		m.container_id = (char *)"";
		m.has_stdin = true;
		m.stdin = (ProtobufCBinaryData){ .data = data, .len = sizeof(data) };
		struct buffer one CLEANUP_BUFFER = framed(&m.base);
		buffer_add(&all, one.data, one.size);
	}
	return all;
}

static void test_long_request(struct fixture *f, struct reply *r) {
	struct buffer body CLEANUP_BUFFER = numbered(300);
	begin(r);
	submit(f, r, SINK, &body, NULL, 0);
	run(f, r, 5000);
	tap_check(r->closed && strcmp(r->status, "0") == 0 && seen.messages == 300 && seen.ends == 1 &&
		      seen.closed == 1,
		  "a request of 300 messages: %u came, and the end", seen.messages);
	tap_check(!seen.out_of_order && !seen.pushed && !seen.after_end,
		  "in their order, none while the handler was busy, the end after them");
	tap_check(seen.ahead_max < (1 << 20) + 4 * CHUNK, "the client was never more than its window ahead (%zu)",
		  seen.ahead_max);
	tap_check(f->budget.used == 0, "nothing of it is held any more");
}

static void test_cut_request(struct fixture *f, struct reply *r) {
	struct buffer body CLEANUP_BUFFER = numbered(3);
	begin(r);
	body.size -= 5;
	submit(f, r, SINK, &body, NULL, 0);
	run(f, r, 500);
	tap_check(failed(r, FAULT_INVALID_ARGUMENT, "within a message") && seen.messages == 2 && seen.ends == 0 &&
		      seen.closed == 1,
		  "one that ends within a message fails once the others were taken");
	begin(r);
	memcpy(body.data, "\0\0\0\0\2\xff\xff", 7);
	body.size = 7;
	submit(f, r, SINK, &body, NULL, 0);
	run(f, r, 500);
	tap_check(failed(r, FAULT_INVALID_ARGUMENT, "valid runtime.ExecRequest") && seen.messages == 0 &&
		      seen.closed == 1,
		  "one that doesn't decode fails");
}

static void test_vanished(struct fixture *f, struct reply *r) {
	struct buffer body CLEANUP_BUFFER = numbered(100);
	begin(r);
	int32_t id = submit(f, r, SINK, &body, NULL, 0);
	run(f, r, 20);
	nghttp2_submit_rst_stream(f->client, 0, id, NGHTTP2_CANCEL);
	run(f, r, 20);
	tap_check(seen.messages > 0 && seen.messages < 100 && seen.closed == 1 && seen.ends == 0 && f->budget.used == 0,
		  "a client that goes in the middle ends it, and nothing is held");
}

static void test_long_reply(struct fixture *f, struct reply *r) {
	begin(r);
	unsigned asked = f->fake.asked;
	ask(f, r, SOURCE, status_request("web"), "x-name", "k8s.io");
	for (int i = 0; i < 20 && !r->closed; i++)
		run(f, r, 200);
	tap_check(r->closed && strcmp(r->status, "0") == 0 && f->fake.asked == asked + 2 && seen.messages == 1,
		  "one request, two calls");
	tap_check(seen.parts == 300 && r->body.size > (size_t)300 * CHUNK, "300 replies");
	tap_check(seen.unsent_max < UNSENT_MAX + 2 * CHUNK, "of which never more waits than the handler wants (%zu)",
		  seen.unsent_max);
	tap_check(strcmp(seen.name, "k8s.io") == 0, "a header field that the service reads is there");
	tap_check(seen.closed == 1, "it is closed once");
	begin(r);
	ask(f, r, SOURCE, status_request("missing"), "x-else", "k8s.io");
	tap_check(strcmp(seen.name, "none") == 0, "one that the client didn't send isn't");
	tap_check(failed(r, FAULT_NOT_FOUND, "missing") && seen.closed == 1, "a call that fails is its end");
}

static void test_source_ends(struct fixture *f, struct reply *r) {
	struct buffer two CLEANUP_BUFFER = status_request("a"), more CLEANUP_BUFFER = status_request("b");
	buffer_add(&two, more.data, more.size);
	begin(r);
	submit(f, r, SOURCE, &two, NULL, 0);
	run(f, r, 200);
	tap_check(failed(r, FAULT_UNIMPLEMENTED, "more than one message") && seen.messages == 0 && seen.closed == 1,
		  "a second message isn't for a handler of one");
	begin(r);
	unsigned cancelled = f->fake.cancelled;
	ask(f, r, SOURCE, status_request("slow"), "grpc-timeout", "50m");
	run(f, NULL, 5);
	tap_check(failed(r, FAULT_DEADLINE_EXCEEDED, "deadline") && seen.closed == 1 &&
		      f->fake.cancelled == cancelled + 1,
		  "its deadline ends it and what it has asked");
}

static void test_own_fault(struct fixture *f, struct reply *r) {
	begin(r);
	ask(f, r, SOUR, status_request("the milk is off"), NULL, NULL);
	tap_check(failed(r, FAULT_INVALID_ARGUMENT, "the milk is off") && seen.closed == 1,
		  "a handler's own fault is told, although the handler is gone: \"%s\"", r->message);
	begin(r);
	ask(f, r, SOUR, status_request(""), NULL, NULL);
	tap_check(failed(r, FAULT_INVALID_ARGUMENT, "RemoveContainer: INVALID_ARGUMENT, and no reason"),
		  "one without a sentence has one for the client: \"%s\"", r->message);
}

static void test_who(struct fixture *f, struct reply *r) {
	struct boot_endpoint look = fake_endpoint;
	look.access = ACCESS_READ_ONLY;
	f->grpc.endpoint = &look;
	begin(r);
	ask(f, r, "/runtime.v1.RuntimeService/PodSandboxStatus", status_request("web"), NULL, NULL);
	tap_check(failed(r, FAULT_PERMISSION_DENIED, "endpoint \"test\" is read-only: PodSandboxStatus isn't served") &&
		      seen.opened == 0,
		  "a handler that says nothing of access needs full access, and isn't even begun");
	begin(r);
	ask(f, r, SOURCE, status_request("missing"), NULL, NULL);
	tap_check(failed(r, FAULT_NOT_FOUND, "missing"), "one that reads is served where reading is allowed");
	look.uids[0] = 7;
	look.n_uids = 1;
	begin(r);
	ask(f, r, SOURCE, status_request("missing"), NULL, NULL);
	tap_check(failed(r, FAULT_PERMISSION_DENIED, "uid 0 may not use endpoint \"test\"") && seen.opened == 0,
		  "nobody is served but those who are named, not even root");
	ask(f, r, "/no.such.Service/Method", status_request("missing"), NULL, NULL);
	tap_check(failed(r, FAULT_PERMISSION_DENIED, "uid 0"), "nor told what there is");
	session_close(f);
	f->peer.uid = 7;
	session_open(f);
	begin(r);
	ask(f, r, SOURCE, status_request("missing"), NULL, NULL);
	tap_check(failed(r, FAULT_NOT_FOUND, "missing"), "who is named is served");
}

int main(void) {
	struct fixture f;
	struct reply r = { 0 };
	log_init("test", LOG_ERROR);
	open_all(&f);
	f.grpc.services = lab_services;
	test_long_request(&f, &r);
	test_cut_request(&f, &r);
	test_vanished(&f, &r);
	test_long_reply(&f, &r);
	test_source_ends(&f, &r);
	test_own_fault(&f, &r);
	test_who(&f, &r);
	reply_reset(&r);
	close_all(&f);
	return tap_done();
}
