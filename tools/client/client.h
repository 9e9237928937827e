/*
 * A gRPC client over a unix socket, for tools: one call at a time per
 * connection, blocking. A program with N clients opens N connections. nghttp2
 * is known in client.c only.
 */
#pragma once

#include "base/fault.h"

#include <protobuf-c/protobuf-c.h>

struct client;

/* path may have "unix://" in front. */
int client_open(const char *path, struct client **ret_client, struct fault *fault);
void client_close(struct client *c);
static inline void client_close_p(struct client **c) {
	client_close(*c);
}
#define CLEANUP_CLIENT CLEANUP(client_close_p)

/* Each message of the answer, which fn frees (protobuf_c_message_free_unpacked)
 * or keeps. A non-zero return cancels the call. */
typedef int (*client_message_fn)(void *ctx, ProtobufCMessage *message);

/* method is the full path, "/runtime.v1.RuntimeService/Version". timeout_ns 0
 * is none. Unary and server-streaming calls alike; the server's status and
 * sentence come back as the fault. */
int client_stream(struct client *c, const char *method, const ProtobufCMessage *request,
		  const ProtobufCMessageDescriptor *reply_type, int64_t timeout_ns, client_message_fn fn, void *ctx,
		  struct fault *fault);
/* A unary call; *ret_reply is freed by protobuf_c_message_free_unpacked. */
int client_call(struct client *c, const char *method, const ProtobufCMessage *request,
		const ProtobufCMessageDescriptor *reply_type, int64_t timeout_ns, ProtobufCMessage **ret_reply,
		struct fault *fault);
