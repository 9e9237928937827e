#include "workers/api/containerd/streams.h"

#include "base/list.h"
#include "containerd/streaming.pb-c.h"
#include "containerd/transfer_types.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

#include <string.h>

#define WINDOW_TYPE containerd__types__transfer__window_update__descriptor
#define WINDOW_MAX (1 << 20)
#define INIT_TYPE containerd__services__streaming__v1__stream_init__descriptor

struct ctd_stream {
	struct list node; /* all, once it has a name */
	struct grpc_call *call;
	const char *name; /* in the call's arena; NULL: the first message hasn't come */
	const struct ctd_stream_user *user;
	void *ctx;
	size_t window;
};

/* Of this process. */
static struct list all = LIST_INIT(all);

/* --- Any -------------------------------------------------------------------- */

bool ctd_any_is(const Google__Protobuf__Any *any, const ProtobufCMessageDescriptor *type) {
	const char *slash = any ? strrchr(any->type_url, '/') : NULL;
	return any && strcmp(slash ? slash + 1 : any->type_url, type->name) == 0;
}

void *ctd_any_open(const Google__Protobuf__Any *any, const ProtobufCMessageDescriptor *type, struct arena *a) {
	return ctd_any_is(any, type) ? msg_decode(type, a, any->value.data, any->value.len) : NULL;
}

/* --- for who uses it -------------------------------------------------------- */

static char *namespace_of(const struct grpc_call *call) {
	const struct grpc_translation t = { .call = call };
	return ctd_namespace(&t);
}

static struct ctd_stream *find(const struct grpc_call *call, const char *name) {
	list_for_each (n, &all) {
		struct ctd_stream *s = list_entry(n, struct ctd_stream, node);
		if (strcmp(s->name, name) == 0 && strcmp(namespace_of(s->call), namespace_of(call)) == 0)
			return s;
	}
	return NULL;
}

struct ctd_stream *ctd_stream_use(struct grpc_call *call, const char *name, const struct ctd_stream_user *user,
				  void *ctx) {
	struct ctd_stream *s = find(call, name);
	if (!s || s->user)
		return NULL;
	s->user = user;
	s->ctx = ctx;
	return s;
}

void ctd_stream_leave(struct ctd_stream *s) {
	if (!s)
		return;
	s->user = NULL;
	grpc_finish(s->call);
}

int ctd_stream_send(struct ctd_stream *s, const ProtobufCMessage *m) {
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	CLEANUP_BUFFER struct buffer packed = { 0 };
	size_t size = protobuf_c_message_get_packed_size(m);
	if (!buffer_reserve(&packed, size + 1))
		return -ENOMEM;
	any.type_url = (char *)(uintptr_t)m->descriptor->name;
	any.value.len = protobuf_c_message_pack(m, packed.data);
	any.value.data = packed.data;
	return grpc_reply_part(s->call, &any.base);
}

size_t ctd_stream_unsent(const struct ctd_stream *s) {
	return grpc_unsent(s->call);
}

size_t ctd_stream_window(const struct ctd_stream *s) {
	return s->window;
}

void ctd_stream_window_use(struct ctd_stream *s, size_t n) {
	s->window -= MIN(n, s->window);
}

/* --- the client's side ------------------------------------------------------ */

static void *stream_open(struct grpc_call *c) {
	struct ctd_stream *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->call = c;
	list_init(&s->node);
	return s;
}

static void stream_closed(void *handler) {
	struct ctd_stream *s = handler;
	const struct ctd_stream_user *user = s->user;
	list_unlink(&s->node);
	s->user = NULL;
	if (user)
		user->gone(s->ctx);
	free(s);
}

/* It has a name: the client may go on. */
static void name(struct ctd_stream *s, const Google__Protobuf__Any *m) {
	Google__Protobuf__Empty ready = GOOGLE__PROTOBUF__EMPTY__INIT;
	struct arena *a = grpc_call_arena(s->call);
	const Containerd__Services__Streaming__V1__StreamInit *init = ctd_any_open(m, &INIT_TYPE, a);
	if (!init || !*init->id) {
		grpc_failf(s->call, FAULT_INVALID_ARGUMENT, "Stream: the first message is no StreamInit with an id");
		return;
	}
	if (find(s->call, init->id)) {
		grpc_failf(s->call, FAULT_ALREADY_EXISTS, "Stream: \"%.100s\" is open already", init->id);
		return;
	}
	s->name = init->id;
	list_append(&all, &s->node);
	ctd_stream_send(s, &ready.base);
}

/* May come before anybody uses it. */
static void open_window(struct ctd_stream *s, const Google__Protobuf__Any *m) {
	struct arena a;
	arena_init(&a, 0);
	const Containerd__Types__Transfer__WindowUpdate *u = ctd_any_open(m, &WINDOW_TYPE, &a);
	if (u && u->update > 0 && s->window <= WINDOW_MAX)
		s->window += (size_t)u->update;
	arena_deinit(&a);
	if (s->user && s->user->room)
		s->user->room(s->ctx);
}

/* What else comes while nobody uses it answers to nothing that was asked. */
static void stream_message(void *handler, const ProtobufCMessage *request) {
	struct ctd_stream *s = handler;
	if (!s->name)
		name(s, (const Google__Protobuf__Any *)request);
	else if (ctd_any_is((const Google__Protobuf__Any *)request, &WINDOW_TYPE))
		open_window(s, (const Google__Protobuf__Any *)request);
	else if (s->user && s->user->message)
		s->user->message(s->ctx, (const Google__Protobuf__Any *)request);
}

static void stream_end(void *handler) {
	struct ctd_stream *s = handler;
	grpc_finish(s->call);
}

const struct grpc_handler ctd_streaming_stream = {
	.client_streams = true,
	.open = stream_open,
	.message = stream_message,
	.end = stream_end,
	.closed = stream_closed,
};

const struct grpc_method ctd_streaming_methods[] = {
	{ .name = "Stream", .handler = &ctd_streaming_stream },
	{ 0 },
};
