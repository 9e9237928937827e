/* The row ingest_list: what is being written, with what the image worker has of it. */
#include "workers/metadata/object/ingest.h"

#include "workers/metadata/handlers.h"
#include "workers/metadata/object/object.h"

#include <string.h>

#define INGEST BULKHEAD__OBJECT_KIND__OBJECT_INGEST

static bool listed(const Bulkhead__IngestListRequest *q, const Bulkhead__ObjectKey *id) {
	return strcmp(id->namespace_, q->namespace_) == 0 && (!*q->ref || strcmp(id->key, q->ref) == 0);
}

static const Bulkhead__WriteState *state_of(const Bulkhead__WriteList *l, const char *id) {
	for (size_t i = 0; i < l->n_writes; i++)
		if (strcmp(l->writes[i]->id, id) == 0)
			return l->writes[i];
	return NULL;
}

struct listing {
	struct metadata *m;
	struct msg_request *r;
	const Bulkhead__IngestListRequest *q;
};

static void list_done(void *ctx, const struct msg_answer *answer) {
	struct listing *l = ctx;
	Bulkhead__IngestList a = BULKHEAD__INGEST_LIST__INIT;
	struct arena *arena = &l->r->arena;
	struct write_id id;
	if (answer->fault) {
		msg_fail(l->r, answer->fault);
		return;
	}
	a.ingests = arena_alloc(arena, (l->m->objects.names.n_nodes + 1) * sizeof(*a.ingests));
	list_for_each (n, &l->m->objects.lists[INGEST]) {
		const Bulkhead__Object *o = list_entry(n, struct object, node)->record;
		Bulkhead__IngestStatus *s = listed(l->q, o->id) ? arena_alloc(arena, sizeof(*s)) : NULL;
		if (!s || !a.ingests)
			continue;
		bulkhead__ingest_status__init(s);
		ingest_status(o, state_of(write_list_answer(answer), ingest_write_id(o->id, &id)), s);
		a.ingests[a.n_ingests++] = s;
	}
	ingest_list_reply(l->r, &a, NULL, 0);
}

void ingest_list(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__IngestListRequest *q = (const Bulkhead__IngestListRequest *)request;
	Bulkhead__KeyList ids = BULKHEAD__KEY_LIST__INIT;
	struct listing *l = arena_alloc(&r->arena, sizeof(*l));
	ids.ids = arena_alloc(&r->arena, (m->objects.names.n_nodes + 1) * sizeof(*ids.ids));
	list_for_each (n, &m->objects.lists[INGEST]) {
		const Bulkhead__ObjectKey *key = list_entry(n, struct object, node)->record->id;
		struct write_id *id = listed(q, key) ? arena_alloc(&r->arena, sizeof(*id)) : NULL;
		if (id && ids.ids)
			ids.ids[ids.n_ids++] = ingest_write_id(key, id);
	}
	Bulkhead__ObjectKey one = object_key_of(INGEST, q->namespace_, q->ref);
	if (!l || !ids.ids) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "list ingests: out of memory");
	} else if (*q->ref && ids.n_ids == 0) {
		object_fail_missing(r, &one);
	} else {
		*l = (struct listing){ .m = m, .r = r, .q = q };
		write_list_send(m->image, &r->context, &ids, NULL, 0, list_done, l);
	}
}
