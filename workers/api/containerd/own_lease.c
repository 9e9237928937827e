#include "workers/api/containerd/own_lease.h"

#include <stdio.h>

static Bulkhead__ObjectKey key_of(struct ctd_own_lease *l, struct grpc_call *call) {
	const struct grpc_translation t = { .call = call };
	Bulkhead__ObjectKey id = BULKHEAD__OBJECT_KEY__INIT;
	id.kind = BULKHEAD__OBJECT_KIND__OBJECT_LEASE;
	id.namespace_ = ctd_namespace(&t);
	id.key = l->id;
	return id;
}

struct msg_call *ctd_own_lease_make(struct ctd_own_lease *l, struct grpc_call *call, const char *what, msg_done_fn done,
				    void *ctx) {
	Bulkhead__Object o = BULKHEAD__OBJECT__INIT;
	Bulkhead__LeaseBody body = BULKHEAD__LEASE_BODY__INIT;
	char random[ID_SIZE];
	id_random(random);
	snprintf(l->id, sizeof(l->id), "%.8s-%s", what, random);
	Bulkhead__ObjectKey id = key_of(l, call);
	body.tied = true;
	o.id = &id;
	o.body_case = BULKHEAD__OBJECT__BODY_LEASE;
	o.lease = &body;
	return object_create_send(grpc_call_server(call)->metadata, grpc_call_context(call), &o, NULL, 0, done, ctx);
}

struct msg_call *ctd_own_lease_drop(struct ctd_own_lease *l, struct grpc_call *call, msg_done_fn done, void *ctx) {
	Bulkhead__ObjectDeleteRequest q = BULKHEAD__OBJECT_DELETE_REQUEST__INIT;
	Bulkhead__ObjectKey id = key_of(l, call);
	q.id = &id;
	q.wait = done != NULL;
	l->made = false;
	/* The call may be over, and its context with it. */
	return object_delete_send(grpc_call_server(call)->metadata, done ? grpc_call_context(call) : NULL, &q, NULL, 0,
				  done, ctx);
}
