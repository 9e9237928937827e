/*
 * containerd.services.transfer.v1.Transfer: one call that moves an image from
 * one place to another, with streams (streams.h) beside it for what the client
 * sees and says meanwhile.
 *
 *   OCIRegistry -> ImageStore  pulled by the daemon itself, as for the CRI, for
 *                              each platform (pulls.h)
 *   ImageStore -> OCIRegistry  and back (push.h)
 *   ImageStore -> ImageStore   another name
 *   ImageStore -> ImageExportStream  an archive (export.h)
 *   ImageImportStream -> ImageStore  the images of an archive (import.h)
 */
#include "workers/api/containerd/export.h"
#include "workers/api/containerd/import.h"
#include "workers/api/containerd/pulls.h"
#include "workers/api/containerd/push.h"

#include "containerd/transfer.pb-c.h"
#include "containerd/transfer_types.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

#include <stdio.h>
#include <string.h>

#define T(name) Containerd__Types__Transfer__##name
#define T_INIT(name) CONTAINERD__TYPES__TRANSFER__##name##__INIT
#define PROGRESS_MAX (256 * 1024) /* unread by the client: it misses some */

struct transfer {
	struct grpc_call *call;
	struct msg_call *asked;
	struct ctd_stream *progress, *auth; /* NULL: none, or gone */
	/* In the call's arena. */
	const T(OCIRegistry) * registry; /* on either side */
	const T(ImageStore) * from, *to;
	const T(ImageExportStream) * archive;
	const T(ImageImportStream) * stream;
	struct ctd_export *export;
	struct ctd_import *import;
	struct ctd_pulls *pulls;
	struct ctd_push *push;
	/* Once it is known who the client is to the registry; NULL: nobody. */
	void (*go)(struct transfer *x, Bulkhead__Credentials *credentials);
};

static void *transfer_open(struct grpc_call *c) {
	struct transfer *x = calloc(1, sizeof(*x));
	if (x)
		x->call = c;
	return x;
}

static void transfer_closed(void *handler) {
	struct transfer *x = handler;
	msg_cancel(x->asked);
	ctd_export_free(x->export);
	ctd_import_free(x->import);
	ctd_pulls_free(x->pulls);
	ctd_push_free(x->push);
	ctd_stream_leave(x->progress);
	ctd_stream_leave(x->auth);
	free(x);
}

static struct link *metadata_of(const struct transfer *x) {
	return grpc_call_server(x->call)->metadata;
}

static char *namespace_of(const struct transfer *x) {
	const struct grpc_translation t = { .call = x->call };
	return ctd_namespace(&t);
}

static void finish(struct transfer *x) {
	Google__Protobuf__Empty done = GOOGLE__PROTOBUF__EMPTY__INIT;
	grpc_reply(x->call, &done.base);
}

/* --- progress --------------------------------------------------------------- */

static void progress_gone(void *ctx) {
	((struct transfer *)ctx)->progress = NULL;
}

static const struct ctd_stream_user progress_user = { .gone = progress_gone };

static void tell(struct transfer *x, const char *event, const char *name, uint64_t done, uint64_t total) {
	T(Progress) p = T_INIT(PROGRESS);
	char *parents[] = { x->registry ? x->registry->reference : (char *)"" };
	if (!x->progress || ctd_stream_unsent(x->progress) > PROGRESS_MAX)
		return;
	p.event = (char *)(uintptr_t)event;
	p.name = (char *)(uintptr_t)name;
	p.progress = (int64_t)done;
	p.total = (int64_t)total;
	if (x->registry && strcmp(name, x->registry->reference) != 0) {
		p.n_parents = 1;
		p.parents = parents;
	}
	ctd_stream_send(x->progress, &p.base);
}

static void tell_layers(struct transfer *x, const Bulkhead__V1__PullEvent *e) {
	char name[128];
	for (size_t i = 0; i < e->n_layers; i++) {
		const Bulkhead__V1__PullEvent__Layer *l = e->layers[i];
		snprintf(name, sizeof(name), "layer-%s", l->digest);
		tell(x,
		     l->unpacked     ? "complete"
		     : l->offset > 0 ? "downloading"
				     : "waiting",
		     name, l->offset, l->total);
	}
}

/* --- from a registry -------------------------------------------------------- */

static void pull_told(void *ctx, const Bulkhead__V1__PullEvent *e) {
	tell_layers(ctx, e);
}

static void pulled(void *ctx, const struct fault *fault) {
	struct transfer *x = ctx;
	if (fault) {
		grpc_fail(x->call, fault);
		return;
	}
	tell(x, "saved", x->to->name, 0, 0);
	tell(x, "Completed pull from OCI Registry", x->registry->reference, 0, 0);
	finish(x);
}

/* What the daemon doesn't do for a client is refused, not left out. */
static int store_check(const T(ImageStore) * to, struct fault *fault) {
	for (size_t i = 0; i < to->n_unpacks; i++)
		if (*to->unpacks[i]->snapshotter && strcmp(to->unpacks[i]->snapshotter, "overlayfs") != 0)
			return fault_set(fault, FAULT_NOT_FOUND, "Transfer: there is no snapshotter \"%.64s\"",
					 to->unpacks[i]->snapshotter);
	return 0;
}

static int registry_check(const struct transfer *x, struct fault *fault) {
	const T(RegistryResolver) *r = x->registry->resolver;
	if (r && *r->host_dir)
		return fault_set(
		    fault, FAULT_INVALID_ARGUMENT,
		    "Transfer: how registries are reached is the daemon's certs_dir to say, not \"%.200s\"",
		    r->host_dir);
	if (r && r->n_headers > 0)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "Transfer: header fields for the registry aren't taken");
	return x->to ? store_check(x->to, fault) : 0;
}

static void pull(struct transfer *x, Bulkhead__Credentials *credentials) {
	static const struct ctd_pulls_user user = { .told = pull_told, .done = pulled };
	struct grpc_translation t = { .call = x->call, .arena = grpc_call_arena(x->call) };
	const T(RegistryResolver) *resolver = x->registry->resolver;
	Bulkhead__ImagePullRequest *q =
	    ARENA_NEW(t.arena, Bulkhead__ImagePullRequest, BULKHEAD__IMAGE_PULL_REQUEST__INIT);
	Bulkhead__Object *image = ctd_object(&t, BULKHEAD__OBJECT_KIND__OBJECT_IMAGE, x->to->name);
	Bulkhead__Credentials *c = arena_alloc(t.arena, sizeof(*c));
	if (q && image && c) {
		image->labels = (void *)x->to->labels;
		image->n_labels = x->to->n_labels;
		image->held_by = ctd_lease(&t);
		q->image = image;
		q->reference = x->registry->reference;
		q->credentials = credentials ? memcpy(c, credentials, sizeof(*c)) : NULL;
		q->plain_http = resolver && strcmp(resolver->default_scheme, "http") == 0;
		tell(x, "Resolving from OCI Registry", x->registry->reference, 0, 0);
		const struct ctd_pulls_order order = { .request = q, .to = x->to };
		x->pulls = ctd_pulls_begin(x->call, &order, &user, x);
	}
	if (!x->pulls)
		grpc_failf(x->call, FAULT_RESOURCE_EXHAUSTED, "Transfer: out of memory");
}

/* --- to a registry ----------------------------------------------------------- */

static void push_told(void *ctx, const char *event, const char *name, uint64_t offset, uint64_t total) {
	tell(ctx, event, name, offset, total);
}

static void pushed(void *ctx, const struct fault *fault) {
	struct transfer *x = ctx;
	if (fault) {
		grpc_fail(x->call, fault);
		return;
	}
	tell(x, "pushed content", x->registry->reference, 0, 0);
	tell(x, "Completed push to OCI Registry", x->registry->reference, 0, 0);
	finish(x);
}

static void push(struct transfer *x, Bulkhead__Credentials *credentials) {
	static const struct ctd_push_user user = { .told = push_told, .done = pushed };
	tell(x, "Pushing to OCI Registry", x->registry->reference, 0, 0);
	x->push = ctd_push_begin(x->call, x->from, x->registry, credentials, &user, x);
	if (!x->push)
		grpc_failf(x->call, FAULT_RESOURCE_EXHAUSTED, "Transfer: out of memory");
}

/* --- who the client is to the registry ---------------------------------------- */

static bool going(const struct transfer *x) {
	return x->pulls || x->push;
}

static void auth_gone(void *ctx) {
	struct transfer *x = ctx;
	x->auth = NULL;
	if (!going(x))
		x->go(x, NULL);
}

static void auth_message(void *ctx, const Google__Protobuf__Any *m) {
	struct transfer *x = ctx;
	const T(AuthResponse) *a =
	    ctd_any_open(m, &containerd__types__transfer__auth_response__descriptor, grpc_call_arena(x->call));
	Bulkhead__Credentials c = BULKHEAD__CREDENTIALS__INIT;
	if (going(x))
		return;
	if (a && a->authtype == CONTAINERD__TYPES__TRANSFER__AUTH_TYPE__CREDENTIALS) {
		c.username = a->username;
		c.password = a->secret;
	} else if (a && a->authtype == CONTAINERD__TYPES__TRANSFER__AUTH_TYPE__REFRESH) {
		c.identity_token = a->secret;
	} else if (a && a->authtype == CONTAINERD__TYPES__TRANSFER__AUTH_TYPE__HEADER) {
		grpc_failf(x->call, FAULT_UNIMPLEMENTED,
			   "Transfer: a whole Authorization header isn't taken: give a name and a secret");
		return;
	}
	x->go(x, &c);
}

static const struct ctd_stream_user auth_user = { .message = auth_message, .gone = auth_gone };

/* It is asked before the registry is: that costs nothing, and the transfer is one
 * operation then. */
static void registry_begin(struct transfer *x, void (*go)(struct transfer *x, Bulkhead__Credentials *credentials)) {
	const T(RegistryResolver) *resolver = x->registry->resolver;
	T(AuthRequest) q = T_INIT(AUTH_REQUEST);
	struct fault fault;
	if (registry_check(x, &fault) < 0) {
		grpc_fail(x->call, &fault);
		return;
	}
	x->go = go;
	if (resolver && *resolver->auth_stream)
		x->auth = ctd_stream_use(x->call, resolver->auth_stream, &auth_user, x);
	if (!x->auth) {
		go(x, NULL);
		return;
	}
	q.reference = x->registry->reference;
	q.host = strndup(q.reference, strcspn(q.reference, "/"));
	if (q.host)
		ctd_stream_send(x->auth, &q.base);
	else
		grpc_failf(x->call, FAULT_RESOURCE_EXHAUSTED, "Transfer: out of memory");
	free(q.host);
}

/* --- another name ----------------------------------------------------------- */

static void tagged(void *ctx, const struct msg_answer *answer) {
	struct transfer *x = ctx;
	x->asked = NULL;
	if (answer->fault)
		grpc_fail(x->call, answer->fault);
	else
		finish(x);
}

static void tag_found(void *ctx, const struct msg_answer *answer) {
	struct transfer *x = ctx;
	const struct grpc_translation t = { .call = x->call };
	Bulkhead__ObjectUpdateRequest q = BULKHEAD__OBJECT_UPDATE_REQUEST__INIT;
	struct arena *a = grpc_call_arena(x->call);
	Bulkhead__Object *object = NULL;
	x->asked = NULL;
	if (answer->fault) {
		grpc_fail(x->call, answer->fault);
		return;
	}
	const Bulkhead__Object *from = object_get_answer(answer);
	CLEANUP_BUFFER struct buffer packed = { 0 };
	size_t size = protobuf_c_message_get_packed_size(&from->base);
	if (buffer_reserve(&packed, size + 1)) {
		protobuf_c_message_pack(&from->base, packed.data);
		object = (Bulkhead__Object *)msg_decode(&bulkhead__object__descriptor, a, packed.data, size);
	}
	if (!object || !object->id) {
		grpc_failf(x->call, FAULT_RESOURCE_EXHAUSTED, "Transfer: out of memory");
		return;
	}
	object->id->key = x->to->name;
	object->labels = (void *)x->to->labels;
	object->n_labels = x->to->n_labels;
	object->held_by = ctd_lease(&t);
	q.object = object;
	q.make = true;
	x->asked = object_update_send(metadata_of(x), grpc_call_context(x->call), &q, NULL, 0, tagged, x);
}

static void tag_begin(struct transfer *x) {
	Bulkhead__ObjectKey id = BULKHEAD__OBJECT_KEY__INIT;
	id.kind = BULKHEAD__OBJECT_KIND__OBJECT_IMAGE;
	id.namespace_ = namespace_of(x);
	id.key = x->from->name;
	x->asked = object_get_send(metadata_of(x), grpc_call_context(x->call), &id, NULL, 0, tag_found, x);
}

/* --- into an archive -------------------------------------------------------- */

static void exported(void *ctx, const struct fault *fault) {
	struct transfer *x = ctx;
	ctd_export_free(take_ptr(x->export));
	if (fault) {
		grpc_fail(x->call, fault);
		return;
	}
	tell(x, "Completed export", "", 0, 0);
	finish(x);
}

static void export_begin(struct transfer *x) {
	struct fault fault;
	tell(x, "Exporting", "", 0, 0);
	x->export = ctd_export_begin(x->call, x->from, x->archive, exported, x, &fault);
	if (!x->export)
		grpc_fail(x->call, &fault);
}

/* --- out of an archive ------------------------------------------------------ */

static void import_told(void *ctx, const char *event, const char *name) {
	tell(ctx, event, name, 0, 0);
}

static void imported(void *ctx, const struct fault *fault) {
	struct transfer *x = ctx;
	if (fault)
		grpc_fail(x->call, fault);
	else
		finish(x);
}

static void import_begin(struct transfer *x) {
	static const struct ctd_import_user user = { .told = import_told, .done = imported };
	struct fault fault;
	if (x->stream->force_compress)
		fault_set(&fault, FAULT_UNIMPLEMENTED, "import: layers stay as they are, and aren't compressed");
	else if (store_check(x->to, &fault) == 0)
		x->import = ctd_import_begin(x->call, x->stream, x->to, &user, x, &fault);
	if (!x->import)
		grpc_fail(x->call, &fault);
}

/* --- what goes where -------------------------------------------------------- */

static void transfer_message(void *handler, const ProtobufCMessage *request) {
	const Containerd__Services__Transfer__V1__TransferRequest *q =
	    (const Containerd__Services__Transfer__V1__TransferRequest *)request;
	struct transfer *x = handler;
	struct arena *a = grpc_call_arena(x->call);
	x->registry = ctd_any_open(q->source, &containerd__types__transfer__ociregistry__descriptor, a);
	if (!x->registry)
		x->registry = ctd_any_open(q->destination, &containerd__types__transfer__ociregistry__descriptor, a);
	x->from = ctd_any_open(q->source, &containerd__types__transfer__image_store__descriptor, a);
	x->archive = ctd_any_open(q->destination, &containerd__types__transfer__image_export_stream__descriptor, a);
	x->stream = ctd_any_open(q->source, &containerd__types__transfer__image_import_stream__descriptor, a);
	x->to = ctd_any_open(q->destination, &containerd__types__transfer__image_store__descriptor, a);
	if (q->options && *q->options->progress_stream)
		x->progress = ctd_stream_use(x->call, q->options->progress_stream, &progress_user, x);
	if (x->registry && x->to)
		registry_begin(x, pull);
	else if (x->from && x->registry)
		registry_begin(x, push);
	else if (x->from && x->to)
		tag_begin(x);
	else if (x->from && x->archive)
		export_begin(x);
	else if (x->stream && x->to)
		import_begin(x);
	else
		grpc_failf(x->call, FAULT_UNIMPLEMENTED, "Transfer: there is no way from \"%.100s\" to \"%.100s\"",
			   q->source ? q->source->type_url : "", q->destination ? q->destination->type_url : "");
}

static const struct grpc_handler transfer = {
	.open = transfer_open,
	.message = transfer_message,
	.closed = transfer_closed,
};

const struct grpc_method ctd_transfer_methods[] = {
	{ .name = "Transfer", .handler = &transfer, .changes = true },
	{ 0 },
};
