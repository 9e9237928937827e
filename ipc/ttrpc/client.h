/*
 * ttrpc, client side: one connection, any number of unary calls on it at once,
 * some of them for hours. Asynchronous on the loop, which must have receive
 * buffers.
 *
 *   client.c       the connection: frames in, frames out, its end
 *   client_call.c  a call: its request, its time-out, its reply
 *   client_line.c  how a client finds its place on a serial line
 *
 * Calls fail with the server's code and sentence, or with one of ours:
 *
 *   DEADLINE_EXCEEDED    its time-out has passed; the server knows it too
 *   RESOURCE_EXHAUSTED   the request is too long, or too much is pending
 *   UNIMPLEMENTED        the service has no such method
 *   INTERNAL             the reply isn't the method's message
 *   UNAVAILABLE          the connection has ended; the sentence says why
 *
 * A server that sends what it must not (a response to a stream that was never
 * opened, a frame of another type, more than 4 MiB, what isn't a response) ends
 * the connection. A response that comes too late is passed over.
 *
 * A line is a serial line, or the host's socket of a virtual machine's serial
 * port: nothing tells its server that a client went and another came, and
 * what it had to say to the last one may still be on its way. So a new client
 * asks on stream 1, by which a server of ours knows it to be new, for what only
 * the answer to it can contain, and passes over whatever comes before that
 * answer. It asks again until then: a server that isn't there yet is waited for.
 * Nor does anything tell a client that its server was replaced: so it asks now and
 * then whether it is the same, while calls wait. When it isn't, they fail as
 * UNAVAILABLE, and the client finds its place with the new one; calls that are made
 * meanwhile wait for that.
 */
#pragma once

#include "base/fault.h"
#include "loop/loop.h"

#include <protobuf-c/protobuf-c.h>

struct ttrpc_client;
struct ttrpc_call;

struct ttrpc_client_options {
	struct loop *loop;
	bool line;
	/* The server is bulkhead's, where data that comes for a call ends it: so
	 * is one cancelled. Others can't be told, and some fail on it. */
	bool cancels;
	/* A line's server has answered; once. NULL: nobody wants to know. */
	void (*ready)(void *ctx);
	/* The connection is over, and all that was pending has failed; once, and
	 * never from within a function of the client's. It may free the client. */
	void (*ended)(void *ctx, const struct fault *fault);
	void *ctx;
};

/* On a connected stream socket, or any other file that is read and written; fd
 * is taken, even on error. */
int ttrpc_client_new(const struct ttrpc_client_options *options, int fd, struct ttrpc_client **ret_client) NODISCARD;
/* Ends the connection. Pending calls go without a word. */
void ttrpc_client_free(struct ttrpc_client *c);
#define CLEANUP_TTRPC_CLIENT CLEANUP(ttrpc_client_free_p)
static inline void ttrpc_client_free_p(struct ttrpc_client **c) {
	ttrpc_client_free(*c);
}

/* Exactly one of reply and fault is there, valid during the call only. It may
 * make and cancel calls, and free the client. */
typedef void (*ttrpc_done_fn)(void *ctx, const ProtobufCMessage *reply, const struct fault *fault);

/* Calls a method of the service; request is that method's, and isn't needed any
 * more afterwards. timeout_ns: from now on, 0 for none; the server gets it, too.
 * Each failure but -ENOMEM comes through done, never from within ttrpc_call
 * itself. *ret_call is good until done is called or the client freed; ret_call
 * may be NULL. */
int ttrpc_call(struct ttrpc_client *c, const ProtobufCServiceDescriptor *service, const char *method,
	       const ProtobufCMessage *request, int64_t timeout_ns, ttrpc_done_fn done, void *ctx,
	       struct ttrpc_call **ret_call) NODISCARD;
/* Nobody wants the reply any more: done isn't called. The server hears of it if
 * it can (cancels above). NULL does nothing. */
void ttrpc_call_cancel(struct ttrpc_call *call);
