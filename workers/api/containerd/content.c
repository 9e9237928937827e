/*
 * containerd.services.content.v1.Content: what is asked once. Read and Write,
 * which are streams of bytes, are content_read.c and content_write.c.
 */
#include "workers/api/containerd/content.h"
#include "workers/api/containerd/objects.h"

#define KIND BULKHEAD__OBJECT_KIND__OBJECT_CONTENT

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	C(Info) *i = ARENA_NEW(t->arena, C(Info), C_INIT(INFO));
	if (!i)
		return NULL;
	i->digest = o->id->key;
	i->size = (int64_t)o->content->size;
	i->labels = (void *)o->labels;
	i->n_labels = o->n_labels;
	i->created_at = ctd_time(t, o->created_at);
	i->updated_at = ctd_time(t, o->updated_at);
	return i;
}

static Bulkhead__Object *object(struct grpc_translation *t, const void *from) {
	const C(Info) *i = from;
	Bulkhead__Object *o = ctd_object(t, KIND, i ? i->digest : "");
	if (!o || !(o->content = ARENA_NEW(t->arena, Bulkhead__ContentBody, BULKHEAD__CONTENT_BODY__INIT)))
		return NULL;
	o->body_case = BULKHEAD__OBJECT__BODY_CONTENT;
	if (i) {
		o->labels = (void *)i->labels;
		o->n_labels = i->n_labels;
	}
	return o;
}

/* --- ingests ---------------------------------------------------------------- */

static C(Status) * make_status(struct grpc_translation *t, const Bulkhead__IngestStatus *from) {
	C(Status) *s = ARENA_NEW(t->arena, C(Status), C_INIT(STATUS));
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

static int ingests(struct grpc_translation *t, const char *ref, ProtobufCMessage **ret_internal, struct fault *fault) {
	Bulkhead__IngestListRequest *q =
	    ARENA_NEW(t->arena, Bulkhead__IngestListRequest, BULKHEAD__INGEST_LIST_REQUEST__INIT);
	if (!q)
		return grpc_no_memory(fault);
	q->namespace_ = ctd_namespace(t);
	q->ref = (char *)(uintptr_t)ref;
	*ret_internal = &q->base;
	return 0;
}

static int status(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const char *ref = ((const C(StatusRequest) *)request)->ref;
	if (!*ref)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the request names no reference of a write");
	return ingests(t, ref, ret_internal, fault);
}

static int status_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			struct fault *fault) {
	const Bulkhead__IngestList *l = (const Bulkhead__IngestList *)internal;
	C(StatusResponse) *a = (C(StatusResponse) *)*reply;
	if (l->n_ingests == 0)
		return fault_set(fault, FAULT_NOT_FOUND, "the write is over");
	if (!(a->status = make_status(t, l->ingests[0])))
		return grpc_no_memory(fault);
	return 0;
}

static int list_statuses(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			 struct fault *fault) {
	const C(ListStatusesRequest) *q = (const C(ListStatusesRequest) *)request;
	int r = ctd_filters_keep(t, q->filters, q->n_filters, fault);
	return r < 0 ? r : ingests(t, "", ret_internal, fault);
}

static const char *status_field(const void *object, const char *const *path, size_t n_path) {
	const Bulkhead__IngestStatus *s = object;
	return n_path == 1 && strcmp(path[0], "ref") == 0 ? s->ref : NULL;
}

static int list_statuses_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			       struct fault *fault) {
	const Bulkhead__IngestList *l = (const Bulkhead__IngestList *)internal;
	C(ListStatusesResponse) *a = (C(ListStatusesResponse) *)*reply;
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

/* --- the table -------------------------------------------------------------- */

static const struct ctd_objects blobs = { .kind = KIND, .key = "digest", .make = make, .object = object },
				ingesting = { .kind = BULKHEAD__OBJECT_KIND__OBJECT_INGEST, .key = "ref" };
static const struct grpc_translator on_status = { status, status_reply },
				    on_list_statuses = { list_statuses, list_statuses_reply },
				    on_abort = { .request = ctd_key_request };

const struct grpc_method ctd_content_methods[] = {
	{ .name = "Info", CTD_OBJECT_GET(blobs) },
	{ .name = "Update", CTD_OBJECT_UPDATE(blobs) },
	{ .name = "List", CTD_OBJECT_STREAM(blobs) },
	{ .name = "Delete", CTD_OBJECT_DELETE(blobs) },
	{ .name = "Read", .handler = &ctd_content_read, .access = ACCESS_READ_ONLY },
	{ .name = "Status", .number = MSG_ingest_list, .translator = &on_status },
	{ .name = "ListStatuses", .number = MSG_ingest_list, .translator = &on_list_statuses },
	{ .name = "Write", .handler = &ctd_content_write, .changes = true },
	{ .name = "Abort", .number = MSG_ingest_abort, .translator = &on_abort, .about = &ingesting, .changes = true },
	{ 0 },
};
