/*
 * containerd.services.content.v1.Content: what is asked once. Read and Write,
 * which are streams of bytes, are content_read.c and content_write.c.
 */
#include "workers/api/containerd/content.h"

#define KIND BULKHEAD__OBJECT_KIND__OBJECT_CONTENT
#define LIST_PART 100 /* blobs in one reply of List */

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	C(Info) *i = o->body_case == BULKHEAD__OBJECT__BODY_CONTENT ? ARENA_NEW(t->arena, C(Info), C_INIT(INFO)) : NULL;
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

CTD_REPLY_ONE(info_reply, C(InfoResponse), C_INIT(INFO_RESPONSE), info, make)
CTD_REPLY_ONE(update_reply, C(UpdateResponse), C_INIT(UPDATE_RESPONSE), info, make)

static int info(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return ctd_get(t, KIND, ((const C(InfoRequest) *)request)->digest, ret_internal, fault);
}

static int update(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const C(UpdateRequest) *q = (const C(UpdateRequest) *)request;
	Bulkhead__Object *o = ctd_object(t, KIND, q->info ? q->info->digest : "");
	if (!o || !(o->content = ARENA_NEW(t->arena, Bulkhead__ContentBody, BULKHEAD__CONTENT_BODY__INIT)))
		return grpc_no_memory(fault);
	o->body_case = BULKHEAD__OBJECT__BODY_CONTENT;
	if (q->info) {
		o->labels = (void *)q->info->labels;
		o->n_labels = q->info->n_labels;
	}
	return ctd_update(t, o, q->update_mask, ret_internal, fault);
}

static int list(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const C(ListContentRequest) *q = (const C(ListContentRequest) *)request;
	return ctd_list(t, KIND, q->filters, q->n_filters, ret_internal, fault);
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		      struct fault *fault) {
	C(ListContentResponse) *a = ARENA_NEW(t->arena, C(ListContentResponse), C_INIT(LIST_CONTENT_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	int r = ctd_part(t, internal, make, LIST_PART, (void ***)&a->info, &a->n_info, fault);
	*ret_reply = r == 0 && a->n_info ? &a->base : NULL;
	return r;
}

static int drop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return ctd_delete(t, KIND, ((const C(DeleteContentRequest) *)request)->digest, false, "", ret_internal, fault);
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

static int status_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
			struct fault *fault) {
	const Bulkhead__IngestList *l = (const Bulkhead__IngestList *)internal;
	C(StatusResponse) *a = ARENA_NEW(t->arena, C(StatusResponse), C_INIT(STATUS_RESPONSE));
	if (l->n_ingests == 0)
		return fault_set(fault, FAULT_NOT_FOUND, "the write is over");
	if (!a || !(a->status = make_status(t, l->ingests[0])))
		return grpc_no_memory(fault);
	*ret_reply = &a->base;
	return 0;
}

static int list_statuses(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			 struct fault *fault) {
	const C(ListStatusesRequest) *q = (const C(ListStatusesRequest) *)request;
	struct filters *f;
	int r = filters_parse(t->kept, q->filters, q->n_filters, &f, fault);
	if (r < 0)
		return r;
	t->state = f;
	t->state_free = ctd_filters_free;
	return ingests(t, "", ret_internal, fault);
}

static const char *status_field(const void *object, const char *const *path, size_t n_path) {
	const Bulkhead__IngestStatus *s = object;
	return n_path == 1 && strcmp(path[0], "ref") == 0 ? s->ref : NULL;
}

static int list_statuses_reply(struct grpc_translation *t, const ProtobufCMessage *internal,
			       ProtobufCMessage **ret_reply, struct fault *fault) {
	const Bulkhead__IngestList *l = (const Bulkhead__IngestList *)internal;
	C(ListStatusesResponse) *a = ARENA_NEW(t->arena, C(ListStatusesResponse), C_INIT(LIST_STATUSES_RESPONSE));
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
	return ctd_get(t, BULKHEAD__OBJECT_KIND__OBJECT_INGEST, ((const C(AbortRequest) *)request)->ref, ret_internal,
		       fault);
}

/* --- the table -------------------------------------------------------------- */

static const struct grpc_translator on_info = { info, info_reply }, on_update = { update, update_reply },
				    on_list = { list, list_reply }, on_delete = { drop, ctd_empty },
				    on_status = { status, status_reply },
				    on_list_statuses = { list_statuses, list_statuses_reply },
				    on_abort = { give_up, ctd_empty };

const struct grpc_method ctd_content_methods[] = {
	{ .name = "Info", .number = MSG_object_get, .translator = &on_info },
	{ .name = "Update", .number = MSG_object_update, .translator = &on_update, .changes = true },
	{ .name = "List", .number = MSG_object_list, .translator = &on_list, .list = true },
	{ .name = "Delete", .number = MSG_object_delete, .translator = &on_delete, .changes = true },
	{ .name = "Read", .handler = &ctd_content_read },
	{ .name = "Status", .number = MSG_ingest_list, .translator = &on_status },
	{ .name = "ListStatuses", .number = MSG_ingest_list, .translator = &on_list_statuses },
	{ .name = "Write", .handler = &ctd_content_write, .changes = true },
	{ .name = "Abort", .number = MSG_ingest_abort, .translator = &on_abort, .changes = true },
	{ 0 },
};
