#include "workers/api/containerd/containerd.h"

#include "base/clock.h"
#include "workers/api/containerd/oci_json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NAMESPACE_HEADER "containerd-namespace"
#define LEASE_HEADER "containerd-lease"

const char *const ctd_headers[] = { NAMESPACE_HEADER, LEASE_HEADER, NULL };

static char *header(const struct grpc_translation *t, const char *name) {
	const char *value = t->call ? grpc_header(t->call, name) : NULL;
	return (char *)(uintptr_t)(value ? value : "");
}

char *ctd_namespace(const struct grpc_translation *t) {
	const struct grpc_service *s = t->call ? grpc_call_service(t->call) : t->target->service;
	return s->group == GROUP_CONTAINERD_SEED ? (char *)"default" : header(t, NAMESPACE_HEADER);
}

char *ctd_lease(const struct grpc_translation *t) {
	return header(t, LEASE_HEADER);
}

/* --- to the internal form --------------------------------------------------- */

Bulkhead__ObjectKey *ctd_key(struct grpc_translation *t, Bulkhead__ObjectKind kind, const char *key) {
	Bulkhead__ObjectKey *k = ARENA_NEW(t->arena, Bulkhead__ObjectKey, BULKHEAD__OBJECT_KEY__INIT);
	if (!k)
		return NULL;
	k->kind = kind;
	if (kind != BULKHEAD__OBJECT_KIND__OBJECT_NAMESPACE)
		k->namespace_ = ctd_namespace(t);
	k->key = (char *)(uintptr_t)key;
	return k;
}

Bulkhead__Object *ctd_object(struct grpc_translation *t, Bulkhead__ObjectKind kind, const char *key) {
	Bulkhead__Object *o = ARENA_NEW(t->arena, Bulkhead__Object, BULKHEAD__OBJECT__INIT);
	if (!o || !(o->id = ctd_key(t, kind, key)))
		return NULL;
	o->held_by = ctd_lease(t);
	return o;
}

Bulkhead__Typed *ctd_typed(struct grpc_translation *t, const Google__Protobuf__Any *from) {
	Bulkhead__Typed *to = from ? ARENA_NEW(t->arena, Bulkhead__Typed, BULKHEAD__TYPED__INIT) : NULL;
	if (to) {
		to->type_url = from->type_url;
		to->value = from->value;
	}
	return to;
}

Bulkhead__Runtime *ctd_runtime(struct grpc_translation *t, char *name, const Google__Protobuf__Any *options) {
	Bulkhead__Runtime *r = ARENA_NEW(t->arena, Bulkhead__Runtime, BULKHEAD__RUNTIME__INIT);
	if (r) {
		r->name = name;
		r->options = ctd_typed(t, options);
	}
	return r;
}

Bulkhead__Descriptor *ctd_descriptor(struct grpc_translation *t, const Containerd__Types__Descriptor *from) {
	Bulkhead__Descriptor *to = from ? ARENA_NEW(t->arena, Bulkhead__Descriptor, BULKHEAD__DESCRIPTOR__INIT) : NULL;
	if (to) {
		to->media_type = from->media_type;
		to->digest = from->digest;
		to->size = from->size > 0 ? (uint64_t)from->size : 0;
		to->annotations = (void *)from->annotations;
		to->n_annotations = from->n_annotations;
	}
	return to;
}

Grpc__Mount **ctd_mounts(struct grpc_translation *t, Containerd__Types__Mount *const *from, size_t n) {
	Grpc__Mount **to = arena_alloc(t->arena, (n + 1) * sizeof(*to));
	for (size_t i = 0; to && i < n; i++) {
		if (!(to[i] = ARENA_NEW(t->arena, Grpc__Mount, GRPC__MOUNT__INIT)))
			return NULL;
		to[i]->type = from[i]->type;
		to[i]->source = from[i]->source;
		to[i]->destination = from[i]->target; /* below the root */
		to[i]->options = from[i]->options;
		to[i]->n_options = from[i]->n_options;
	}
	return to;
}

void ctd_filters_free(void *state) {
	filters_free(state);
}

int ctd_filters_keep(struct grpc_translation *t, char *const *filters, size_t n_filters, struct fault *fault) {
	struct filters *f;
	int r = filters_parse(t->kept, filters, n_filters, &f, fault);
	if (r < 0)
		return r;
	t->state = f;
	t->state_free = ctd_filters_free;
	return 0;
}

Bulkhead__CtaskCreateRequest *ctd_task_create(struct grpc_translation *t, Bulkhead__CtaskKey *key,
					      Bulkhead__Stdio *stdio) {
	Bulkhead__CtaskCreateRequest *q =
	    ARENA_NEW(t->arena, Bulkhead__CtaskCreateRequest, BULKHEAD__CTASK_CREATE_REQUEST__INIT);
	if (!q || !key || !stdio || !(t->state = arena_strdup(t->kept, key->container_id)))
		return NULL;
	q->key = key;
	q->stdio = stdio;
	return q;
}

int ctd_task_exec(struct grpc_translation *t, Bulkhead__CtaskKey *key, Bulkhead__Stdio *stdio,
		  const Google__Protobuf__Any *spec, ProtobufCMessage **ret_internal, struct fault *fault) {
	Bulkhead__CtaskExecRequest *q =
	    ARENA_NEW(t->arena, Bulkhead__CtaskExecRequest, BULKHEAD__CTASK_EXEC_REQUEST__INIT);
	if (!q || !key || !stdio)
		return grpc_no_memory(fault);
	q->key = key;
	q->stdio = stdio;
	*ret_internal = &q->base;
	if (!spec)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "execute in task \"%.76s\": the specification of the process is missing",
				 key->container_id);
	int r = oci_json_process(t->arena, spec->value.data, spec->value.len, &q->process, fault);
	if (r < 0)
		return fault_prefix(fault, r, "execute in task \"%.76s\"", key->container_id);
	q->process->terminal = stdio->terminal;
	return 0;
}

/* --- and back --------------------------------------------------------------- */

Google__Protobuf__Any *ctd_any(struct grpc_translation *t, const Bulkhead__Typed *from) {
	Google__Protobuf__Any *to = from ? ARENA_NEW(t->arena, Google__Protobuf__Any, GOOGLE__PROTOBUF__ANY__INIT)
					 : NULL;
	if (to) {
		to->type_url = from->type_url;
		to->value = from->value;
	}
	return to;
}

Google__Protobuf__Any *ctd_pack(struct grpc_translation *t, const ProtobufCMessage *m) {
	Google__Protobuf__Any *any = ARENA_NEW(t->arena, Google__Protobuf__Any, GOOGLE__PROTOBUF__ANY__INIT);
	size_t size = protobuf_c_message_get_packed_size(m);
	if (!any || !(any->value.data = arena_alloc(t->arena, size + 1)))
		return NULL;
	any->type_url = (char *)(uintptr_t)m->descriptor->name;
	any->value.len = protobuf_c_message_pack(m, any->value.data);
	return any;
}

Containerd__Types__Platform *ctd_platform(struct arena *a) {
	Containerd__Types__Platform *p = ARENA_NEW(a, Containerd__Types__Platform, CONTAINERD__TYPES__PLATFORM__INIT);
	if (p) {
		p->os = (char *)"linux";
		p->architecture = (char *)CTD_ARCHITECTURE;
	}
	return p;
}

Google__Protobuf__Timestamp *ctd_time(struct grpc_translation *t, int64_t ns) {
	Google__Protobuf__Timestamp *to =
	    ns ? ARENA_NEW(t->arena, Google__Protobuf__Timestamp, GOOGLE__PROTOBUF__TIMESTAMP__INIT) : NULL;
	if (to) {
		to->seconds = ns / NS_PER_SEC;
		to->nanos = (int32_t)(ns % NS_PER_SEC);
	}
	return to;
}

Containerd__Types__Descriptor *ctd_descriptor_back(struct grpc_translation *t, const Bulkhead__Descriptor *from) {
	Containerd__Types__Descriptor *to =
	    from ? ARENA_NEW(t->arena, Containerd__Types__Descriptor, CONTAINERD__TYPES__DESCRIPTOR__INIT) : NULL;
	if (to) {
		to->media_type = from->media_type;
		to->digest = from->digest;
		to->size = (int64_t)from->size;
		to->annotations = (void *)from->annotations;
		to->n_annotations = from->n_annotations;
	}
	return to;
}

Containerd__Types__Mount **ctd_mounts_back(struct grpc_translation *t, const ProtobufCMessage *internal,
					   size_t *ret_n) {
	const Bulkhead__MountList *from = (const Bulkhead__MountList *)internal;
	Containerd__Types__Mount **to = arena_alloc(t->arena, (from->n_mounts + 1) * sizeof(*to));
	for (size_t i = 0; to && i < from->n_mounts; i++) {
		if (!(to[i] = ARENA_NEW(t->arena, Containerd__Types__Mount, CONTAINERD__TYPES__MOUNT__INIT)))
			return NULL;
		to[i]->type = from->mounts[i]->type;
		to[i]->source = from->mounts[i]->source;
		to[i]->options = from->mounts[i]->options;
		to[i]->n_options = from->mounts[i]->n_options;
	}
	*ret_n = from->n_mounts;
	return to;
}
