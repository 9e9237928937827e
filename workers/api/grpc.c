/*
 * A call's replies and its end.
 *
 * A call is finished exactly once, in grpc_call_finish, which also writes its
 * log line; what comes afterwards is ignored. Any fault finishes it, with its
 * code and sentence. A client that gives up or vanishes cancels the internal
 * call.
 */
#include "workers/api/grpc_private.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/* What a client of a stream of replies may leave unread. */
#define LAG_LATEST (64u << 10)
#define LAG_MAX (4u << 20)
/* What a handler may keep in its call's arena. */
#define CALL_ARENA_MAX (1u << 20)

const struct grpc_service *grpc_call_service(const struct grpc_call *c) {
	return c->target.service;
}

struct grpc_server *grpc_call_server(const struct grpc_call *c) {
	return c->server;
}

/* --- the end of a call --- */

static void log_line(const struct grpc_call *c, const char *path, const char *error) {
	bool changes = c->target.method && c->target.method->changes;
	enum log_level level = c->code != FAULT_NONE || changes ? LOG_INFO : LOG_DEBUG;
	if (!log_enabled(level))
		return;
	const struct credentials *peer = &c->peer;
	char request[20], ms[24], method[160], pid[12], uid[12], gid[12];
	snprintf(request, sizeof(request), "%" PRIx64, c->context.request);
	snprintf(ms, sizeof(ms), "%.3f", (double)(clock_mono() - c->begun) / (double)NS_PER_MS);
	snprintf(pid, sizeof(pid), "%d", (int)peer->pid);
	snprintf(uid, sizeof(uid), "%u", peer->uid);
	snprintf(gid, sizeof(gid), "%u", peer->gid);
	if (c->target.method)
		snprintf(method, sizeof(method), "/%s/%s", c->target.service->name, c->target.method->name);
	else
		snprintf(method, sizeof(method), "%s", path ? path : "");
	/* The pairs end at the first NULL. */
	log_event(level, "request", "req", request, "method", method, "code", fault_code_name(c->code), "ms", ms, "pid",
		  pid, "uid", uid, "gid", gid, error ? "error" : NULL, error, NULL);
}

/* No more work is done for the call; its reply may still be under way. */
static void let_go(struct grpc_call *c) {
	msg_cancel(take_ptr(c->call));
	c->carrier->release(c);
	handler_close(c);
	loop_source_free_p(&c->deadline);
}

/* What the client is told: it reads a sentence, even if whoever failed had none. */
static void told(const struct grpc_call *c, const char *path, const struct fault *fault, struct fault *ret_told) {
	*ret_told = *fault;
	if (!*fault->text)
		fault_set(ret_told, fault->code, "%s: %s, and no reason was given",
			  c->target.method ? c->target.method->name : path ?: "the call", fault_code_name(fault->code));
}

/* path: of a method that isn't known; fault NULL: success. */
void grpc_call_finish(struct grpc_call *c, const char *path, const struct fault *fault) {
	struct fault copy;
	if (c->finished)
		return;
	c->finished = true;
	c->code = fault ? fault->code : FAULT_NONE;
	/* A handler's own fault goes with the handler. */
	if (fault) {
		told(c, path, fault, &copy);
		fault = &copy;
	}
	let_go(c);
	log_line(c, path, fault ? fault->text : NULL);
	c->carrier->finish(c, fault);
}

void grpc_fail(struct grpc_call *c, const struct fault *fault) {
	grpc_call_finish(c, NULL, fault);
}

void grpc_failf(struct grpc_call *c, enum fault_code code, const char *format, ...) {
	char text[FAULT_TEXT_MAX];
	struct fault fault;
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	fault_set(&fault, code, "%s", text);
	grpc_call_finish(c, NULL, &fault);
}

void grpc_call_fail(struct grpc_call *c, struct fault *fault) {
	fault_prefix(fault, 0, "%s", c->target.method->name);
	grpc_call_finish(c, NULL, fault);
}

/* --- replies --- */

static int reply_send(struct grpc_call *c, const struct msg_body *reply, bool more) {
	struct fault fault;
	int r;
	if (c->finished)
		return -ECANCELED;
	if (more && c->target.method->latest && grpc_unsent(c) > LAG_LATEST)
		return 0;
	if (!c->target.method->list && grpc_unsent(c) > LAG_MAX)
		r = fault_set(&fault, FAULT_RESOURCE_EXHAUSTED, "the client leaves too many replies unread");
	else
		r = c->carrier->send(c, reply, more, &fault);
	if (r < 0)
		grpc_call_fail(c, &fault);
	else if (!more)
		grpc_call_finish(c, NULL, NULL);
	return r;
}

static int reply_part(struct grpc_call *c, const ProtobufCMessage *reply, bool more) {
	return reply_send(c, &(struct msg_body){ .message = reply }, more);
}

int grpc_reply(struct grpc_call *c, const ProtobufCMessage *reply) {
	return reply_part(c, reply, false);
}

int grpc_reply_part(struct grpc_call *c, const ProtobufCMessage *reply) {
	return reply_part(c, reply, true);
}

size_t grpc_unsent(const struct grpc_call *c) {
	return c->carrier->unsent(c);
}

const struct msg_context *grpc_call_context(const struct grpc_call *c) {
	return &c->context;
}

struct arena *grpc_call_arena(struct grpc_call *c) {
	return &c->arena;
}

const char *grpc_header(const struct grpc_call *c, const char *name) {
	const char *const *wanted = c->target.service->headers;
	for (size_t i = 0; wanted && wanted[i]; i++)
		if (strcmp(wanted[i], name) == 0)
			return c->headers[i];
	return NULL;
}

void grpc_trailer(struct grpc_call *c, const char *name, int value) {
	c->trailer = name;
	snprintf(c->trailer_text, sizeof(c->trailer_text), "%d", value);
}

void grpc_finish(struct grpc_call *c) {
	grpc_call_finish(c, NULL, NULL);
}

int grpc_translate_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
			 struct fault *fault) {
	const struct grpc_translator *translator = t->target->method->translator;
	const ProtobufCMessageDescriptor *type = t->target->types->output;
	ProtobufCMessage *reply = arena_alloc(t->arena, type->sizeof_message);
	if (!reply)
		return grpc_no_memory(fault);
	protobuf_c_message_init(type, reply);
	int r = translator->reply ? translator->reply(t, internal, &reply, fault) : 0;
	if (r == 0)
		*ret_reply = reply;
	return r;
}

/* What a translator leaves out of a stream is no reply, but may be its end. */
static void reply_translated(struct grpc_call *c, const ProtobufCMessage *internal, bool more) {
	struct arena arena;
	struct fault fault;
	struct grpc_translation *t = &c->translation;
	arena_init(&arena, 0);
	t->arena = &arena;
	do {
		ProtobufCMessage *reply;
		t->more = false;
		if (grpc_translate_reply(t, internal, &reply, &fault) < 0)
			grpc_call_fail(c, &fault);
		else if (reply)
			reply_part(c, reply, more || t->more);
		else if (!more && !t->more)
			grpc_call_finish(c, NULL, NULL);
	} while (t->more && !c->finished);
	arena_deinit(&arena);
}

static void row_failed(struct grpc_call *c, const struct fault *as) {
	const struct grpc_translator *translator = c->target.method->translator;
	struct fault fault = *as;
	if (translator && translator->failure)
		translator->failure(&fault);
	grpc_call_finish(c, NULL, &fault);
}

void grpc_call_answered(void *ctx, const struct msg_answer *answer) {
	struct grpc_call *c = ctx;
	if (!answer->more)
		c->call = NULL;
	if (answer->fault)
		row_failed(c, answer->fault);
	else if (c->target.method->translator)
		reply_translated(c, answer->reply, answer->more);
	else
		reply_send(c, &answer->packed, answer->more);
}

/* --- from its carrier --- */

void grpc_call_init(struct grpc_call *c, struct grpc_server *server, const struct grpc_carrier *carrier,
		    const struct credentials *peer) {
	c->server = server;
	c->carrier = carrier;
	c->peer = *peer;
	c->begun = clock_mono();
	c->context.request = server->next_request++;
	arena_init(&c->arena, CALL_ARENA_MAX);
}

void grpc_call_deinit(struct grpc_call *c) {
	if (!c->finished) {
		c->code = FAULT_CANCELLED;
		let_go(c);
		log_line(c, NULL, "the client gave up");
	}
	if (c->translation.state_free)
		c->translation.state_free(c->translation.state);
	arena_deinit(&c->arena);
}
