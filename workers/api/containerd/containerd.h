/*
 * containerd's API of today: translators between its services and the internal
 * rows, one file a service, and nothing else.
 *
 * Every call but those of Version, Introspection and Namespaces names its
 * namespace in the field containerd-namespace; the metadata worker refuses an
 * empty one. A call that names a lease in containerd-lease makes what that lease
 * holds. Maps have one layout in all messages and are taken over as they
 * are.
 */
#pragma once

#include "workers/api/containerd/filter.h"
#include "workers/api/grpc.h"
#include "workers/api/task_request.h"

#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/field_mask.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "containerd/types.pb-c.h"
#include "msg/typed.h"

#include <errno.h>

extern const struct grpc_method ctd_containers_methods[], ctd_namespaces_methods[], ctd_leases_methods[],
    ctd_snapshots_methods[], ctd_diff_methods[], ctd_images_methods[], ctd_tasks_methods[], ctd_events_methods[],
    ctd_introspection_methods[], ctd_version_methods[], ctd_content_methods[], ctd_transfer_methods[],
    ctd_streaming_methods[], ctd_sandbox_store_methods[], ctd_sandbox_controller_methods[];

/* The header fields that the calls read. */
extern const char *const ctd_headers[];

/* --- between the files of this folder (common.c) --- */

#if defined(__x86_64__)
#define CTD_ARCHITECTURE "amd64"
#elif defined(__aarch64__)
#define CTD_ARCHITECTURE "arm64"
#else
#define CTD_ARCHITECTURE "unknown"
#endif

/* This machine's; NULL when out of memory. */
Containerd__Types__Platform *ctd_platform(struct arena *a);

/* The namespace of the call; empty when it names none. Of a dialect that has
 * no namespaces: "default". */
char *ctd_namespace(const struct grpc_translation *t);

/* The lease that holds what the call makes; empty when it names none. */
char *ctd_lease(const struct grpc_translation *t);
/* For translations whose state is their filters. */
void ctd_filters_free(void *state);

/* Request parts; NULL when out of memory. */
Bulkhead__ObjectKey *ctd_key(struct grpc_translation *t, Bulkhead__ObjectKind kind, const char *key);
Bulkhead__Object *ctd_object(struct grpc_translation *t, Bulkhead__ObjectKind kind, const char *key);
/* NULL where there was nothing, or when out of memory. */
Bulkhead__Typed *ctd_typed(struct grpc_translation *t, const Google__Protobuf__Any *from);
Bulkhead__Descriptor *ctd_descriptor(struct grpc_translation *t, const Containerd__Types__Descriptor *from);

Grpc__Mount **ctd_mounts(struct grpc_translation *t, Containerd__Types__Mount *const *from, size_t n);

Bulkhead__Runtime *ctd_runtime(struct grpc_translation *t, char *name, const Google__Protobuf__Any *options);

/* Of a task, as both ages of the API make it; what is NULL was out of memory. The
 * container's id is kept in t->state: the reply has it. NULL when out of memory. */
Bulkhead__CtaskCreateRequest *ctd_task_create(struct grpc_translation *t, Bulkhead__CtaskKey *key,
					      Bulkhead__Stdio *stdio);
int ctd_task_exec(struct grpc_translation *t, Bulkhead__CtaskKey *key, Bulkhead__Stdio *stdio,
		  const Google__Protobuf__Any *spec, ProtobufCMessage **ret_internal, struct fault *fault);

/* A container's specification, as it is and parsed. -1: out of memory. */
int ctd_spec(struct grpc_translation *t, const Google__Protobuf__Any *any, Bulkhead__ContainerBody *b);

/* For the replies: t->state. */
int ctd_filters_keep(struct grpc_translation *t, char *const *filters, size_t n_filters, struct fault *fault);

/* Reply parts; NULL where there was nothing, or when out of memory. */
Google__Protobuf__Any *ctd_any(struct grpc_translation *t, const Bulkhead__Typed *from);
/* Of the message's own name. */
Google__Protobuf__Any *ctd_pack(struct grpc_translation *t, const ProtobufCMessage *m);
Google__Protobuf__Timestamp *ctd_time(struct grpc_translation *t, int64_t ns);
Containerd__Types__Descriptor *ctd_descriptor_back(struct grpc_translation *t, const Bulkhead__Descriptor *from);
/* Of a Bulkhead__MountList. */
Containerd__Types__Mount **ctd_mounts_back(struct grpc_translation *t, const ProtobufCMessage *internal, size_t *ret_n);
/* A reply that is a descriptor in a field, made by back. */
#define CTD_REPLY_DESCRIPTOR(function, type, field, back)                                                           \
	static int function(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply, \
			    struct fault *fault) {                                                                  \
		type *a = (type *)*reply;                                                                           \
		a->field = back(t, (const Bulkhead__Descriptor *)internal);                                         \
		return a->field ? 0 : grpc_no_memory(fault);                                                        \
	}

/* What packs a layer of that type, into the namespace of the call and held by
 * its lease; NULL and a fault when there is no such type, or no memory. */
Bulkhead__DiffMakeRequest *ctd_diff_make(struct grpc_translation *t, const char *media_type, struct fault *fault);
