/*
 * containerd.v1.Content. The streams, Read and Write, are today's on the wire
 * and so today's here. Status answers with all that match, by a regular
 * expression.
 */
#include "workers/api/containerd_seed/ctd_seed.h"

#include "containerd_seed/content.pb-c.h"
#include "workers/api/containerd/content.h"

#undef C_INIT
#define S(name) Containerd__Seed__##name
#define S_INIT(name) CONTAINERD__SEED__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_CONTENT
#define LIST_PART 100 /* blobs in one message */

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	S(Info) *i = o->body_case == BULKHEAD__OBJECT__BODY_CONTENT ? ARENA_NEW(t->arena, S(Info), S_INIT(INFO)) : NULL;
	if (!i)
		return NULL;
	i->digest = o->id->key;
	i->size = (int64_t)o->content->size;
	i->committed_at = ctd_time(t, o->created_at);
	return i;
}

CTD_REPLY_ONE(info_reply, S(InfoResponse), S_INIT(INFO_RESPONSE), info, make)

static int info(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return ctd_get(t, KIND, ((const S(InfoRequest) *)request)->digest, ret_internal, fault);
}

static int list(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return ctd_list(t, KIND, NULL, 0, ret_internal, fault);
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		      struct fault *fault) {
	S(ListContentResponse) *a = ARENA_NEW(t->arena, S(ListContentResponse), S_INIT(LIST_CONTENT_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	int r = ctd_part(t, internal, make, LIST_PART, (void ***)&a->info, &a->n_info, fault);
	*ret_reply = r == 0 && a->n_info ? &a->base : NULL;
	return r;
}

static int drop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return ctd_delete(t, KIND, ((const S(DeleteContentRequest) *)request)->digest, false, "", ret_internal, fault);
}

/* --- ingests ---------------------------------------------------------------- */

/* As a filter of today's: ref~="...". NULL: out of memory. */
static char *filter_of(struct grpc_translation *t, const char *regexp) {
	char *filter = arena_alloc(t->arena, 2 * strlen(regexp) + sizeof("ref~=\"\""));
	if (!filter)
		return NULL;
	char *to = stpcpy(filter, "ref~=\"");
	for (const char *p = regexp; *p; p++) {
		if (*p == '"' || *p == '\\')
			*to++ = '\\';
		*to++ = *p;
	}
	strcpy(to, "\"");
	return filter;
}

static int status(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const S(StatusRequest) *q = (const S(StatusRequest) *)request;
	Bulkhead__IngestListRequest *i =
	    ARENA_NEW(t->arena, Bulkhead__IngestListRequest, BULKHEAD__INGEST_LIST_REQUEST__INIT);
	char *filter = filter_of(t, q->regexp);
	if (!i || !filter)
		return grpc_no_memory(fault);
	i->namespace_ = ctd_namespace(t);
	*ret_internal = &i->base;
	return ctd_filters_keep(t, &filter, *q->regexp ? 1 : 0, fault);
}

static S(Status) * make_status(struct grpc_translation *t, const Bulkhead__IngestStatus *from) {
	S(Status) *s = ARENA_NEW(t->arena, S(Status), S_INIT(STATUS));
	if (!s)
		return NULL;
	s->ref = from->ref;
	s->started_at = ctd_time(t, from->started_at);
	s->updated_at = ctd_time(t, from->updated_at);
	s->offset = (int64_t)from->offset;
	s->total = (int64_t)from->total;
	s->expected = from->expected;
	return s;
}

static const char *status_field(const void *object, const char *const *path, size_t n_path) {
	return ((const Bulkhead__IngestStatus *)object)->ref;
}

static int status_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
			struct fault *fault) {
	const Bulkhead__IngestList *l = (const Bulkhead__IngestList *)internal;
	S(StatusResponse) *a = ARENA_NEW(t->arena, S(StatusResponse), S_INIT(STATUS_RESPONSE));
	if (!a || !(a->statuses = arena_alloc(t->arena, (l->n_ingests + 1) * sizeof(*a->statuses))))
		return grpc_no_memory(fault);
	for (size_t i = 0; i < l->n_ingests; i++) {
		if (!filters_match(t->state, status_field, l->ingests[i]))
			continue;
		if (!(a->statuses[a->n_statuses++] = make_status(t, l->ingests[i])))
			return grpc_no_memory(fault);
	}
	*ret_reply = &a->base;
	return 0;
}

static int give_up(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		   struct fault *fault) {
	return ctd_get(t, BULKHEAD__OBJECT_KIND__OBJECT_INGEST, ((const S(AbortRequest) *)request)->ref, ret_internal,
		       fault);
}

static const struct grpc_translator on_info = { info, info_reply }, on_list = { list, list_reply },
				    on_delete = { drop, ctd_empty }, on_status = { status, status_reply },
				    on_abort = { give_up, ctd_empty };

const struct grpc_method ctd_seed_content_methods[] = {
	{ .name = "Info", .number = MSG_object_get, .translator = &on_info },
	{ .name = "List", .number = MSG_object_list, .translator = &on_list, .list = true },
	{ .name = "Delete", .number = MSG_object_delete, .translator = &on_delete, .changes = true },
	{
	    .name = "Read",
	    .handler = &ctd_content_read,
	    .input = &containerd__services__content__v1__read_content_request__descriptor,
	},
	{ .name = "Status", .number = MSG_ingest_list, .translator = &on_status },
	{
	    .name = "Write",
	    .handler = &ctd_content_write,
	    .input = &containerd__services__content__v1__write_content_request__descriptor,
	    .changes = true,
	},
	{ .name = "Abort", .number = MSG_ingest_abort, .translator = &on_abort, .changes = true },
	{ 0 },
};
