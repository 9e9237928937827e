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

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	S(Info) *i = ARENA_NEW(t->arena, S(Info), S_INIT(INFO));
	if (!i)
		return NULL;
	i->digest = o->id->key;
	i->size = (int64_t)o->content->size;
	i->committed_at = ctd_time(t, o->created_at);
	return i;
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

static int status_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			struct fault *fault) {
	const Bulkhead__IngestList *l = (const Bulkhead__IngestList *)internal;
	S(StatusResponse) *a = (S(StatusResponse) *)*reply;
	if (!(a->statuses = arena_alloc(t->arena, (l->n_ingests + 1) * sizeof(*a->statuses))))
		return grpc_no_memory(fault);
	for (size_t i = 0; i < l->n_ingests; i++) {
		if (!filters_match(t->state, status_field, l->ingests[i]))
			continue;
		if (!(a->statuses[a->n_statuses++] = make_status(t, l->ingests[i])))
			return grpc_no_memory(fault);
	}
	return 0;
}

static const struct ctd_objects blobs = { .kind = KIND, .key = "digest", .make = make },
				ingesting = { .kind = BULKHEAD__OBJECT_KIND__OBJECT_INGEST, .key = "ref" };
static const struct grpc_translator on_status = { status, status_reply }, on_abort = { .request = ctd_key_request };

const struct grpc_method ctd_seed_content_methods[] = {
	{ .name = "Info", CTD_OBJECT_GET(blobs) },
	{ .name = "List", CTD_OBJECT_STREAM(blobs) },
	{ .name = "Delete", CTD_OBJECT_DELETE(blobs) },
	{
	    .name = "Read",
	    .handler = &ctd_content_read,
	    .input = &containerd__services__content__v1__read_content_request__descriptor,
	    .access = ACCESS_READ_ONLY,
	},
	{ .name = "Status", .number = MSG_ingest_list, .translator = &on_status },
	{
	    .name = "Write",
	    .handler = &ctd_content_write,
	    .input = &containerd__services__content__v1__write_content_request__descriptor,
	    .changes = true,
	},
	{ .name = "Abort", .number = MSG_ingest_abort, .translator = &on_abort, .about = &ingesting, .changes = true },
	{ 0 },
};
