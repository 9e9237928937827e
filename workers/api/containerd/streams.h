/*
 * containerd.services.streaming.v1.Streaming: streams that a client opens under
 * a name of its own, for a transfer that it then asks for by another call. They
 * live in the process that has the client, so both calls come over the same
 * endpoint.
 */
#pragma once

#include "workers/api/containerd/containerd.h"

struct ctd_stream;

/* What comes on it. Either may end the stream's use by ctd_stream_leave. */
struct ctd_stream_user {
	void (*message)(void *ctx, const Google__Protobuf__Any *m); /* may be NULL */
	void (*room)(void *ctx);				    /* the window has opened; may be NULL */
	void (*gone)(void *ctx);				    /* the client has ended it; its last call */
};

extern const struct grpc_handler ctd_streaming_stream;
extern const struct grpc_method ctd_streaming_methods[];

/* The stream of that name in the namespace of the call, which uses it from now
 * on; NULL: there is none, or it is in use. */
struct ctd_stream *ctd_stream_use(struct grpc_call *call, const char *name, const struct ctd_stream_user *user,
				  void *ctx);
/* Nothing is heard of it any more, and the client is told that it is over. NULL
 * does nothing. */
void ctd_stream_leave(struct ctd_stream *s);
/* m in an Any. A negative errno: the stream is gone, and so is its user. */
int ctd_stream_send(struct ctd_stream *s, const ProtobufCMessage *m);
/* Bytes that the client hasn't taken yet. */
size_t ctd_stream_unsent(const struct ctd_stream *s);

/* Bytes of Data that the client wants now, by its WindowUpdates; those that are
 * sent are used up. */
size_t ctd_stream_window(const struct ctd_stream *s);
void ctd_stream_window_use(struct ctd_stream *s, size_t n);

/* --- Any --- */

/* Is it a message of that full name? */
bool ctd_any_is(const Google__Protobuf__Any *any, const ProtobufCMessageDescriptor *type);
/* Its message, in the arena; NULL when it is of another type or malformed. */
void *ctd_any_open(const Google__Protobuf__Any *any, const ProtobufCMessageDescriptor *type, struct arena *a);
