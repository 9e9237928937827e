/*
 * Calls between workers: requests with a reply, over a link.
 *
 * A link is the connection to one peer: a ring pair (workers) or a socket of
 * packets (keepers). It checks each message against its row in messages.def
 * (sender, receiver, size, number of descriptors) before anything is decoded;
 * a peer that breaks a rule is reported once through on_violation and the link
 * is dead. See PROTOCOL.md for the bytes.
 *
 * msg/typed.h has one typed sender, replier and handler per row; workers use
 * those and never the untyped functions at the end of this file.
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "loop/loop.h"
#include "msg/access.h"
#include "msg/roles.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

/* With any message, whatever its row says. */
#define MSG_FDS_MAX 64

/* What rides with a request through every process. */
struct msg_context {
	int64_t deadline;  /* clock_mono; 0: none */
	uint64_t trace[2]; /* W3C trace id, 0 when the client sent none */
	uint64_t request;  /* the request id in every log line, made by the API worker */
};

struct msg_row {
	const char *name;
	uint16_t number;
	uint8_t from, to;				   /* enum role */
	const ProtobufCMessageDescriptor *request, *reply; /* reply NULL: none is sent */
	size_t limit;
	uint8_t request_fds, reply_fds;
	bool resend, stream, more_fds, waits;
	enum link_access access; /* that a link needs to carry it */
};

/* NULL when there is no such row. */
const struct msg_row *msg_row_find(uint16_t number);
/* May a request come with so many descriptors? */
bool msg_row_fds(const struct msg_row *row, size_t n_fds);
/* All rows: for (r = msg_rows; r->name; r++) */
extern const struct msg_row msg_rows[];

struct link;

/* A message, or the packed bytes of one: who only hands it on needs no more. */
struct msg_body {
	const ProtobufCMessage *message; /* NULL: data and size */
	const uint8_t *data;
	size_t size;
};
/* Of its packed form, in bytes. */
size_t msg_body_size(const struct msg_body *b);
/* bytes has room for so many. */
void msg_body_pack(const struct msg_body *b, uint8_t *bytes);

/* The answer to a call. fault is NULL on success, and then reply is valid
 * during the callback only. To a call by msg_send_opaque it comes in packed
 * instead, as the peer sent it: nobody has looked at it. fds are the
 * callback's: take_fd what it keeps, the rest is closed after it. With a
 * STREAM row more says that further replies follow. */
struct msg_answer {
	const struct fault *fault;
	const ProtobufCMessage *reply;
	struct msg_body packed;
	int *fds;
	bool more;
};
typedef void (*msg_done_fn)(void *ctx, const struct msg_answer *answer);

/* A request as its handler sees it. It lives until it is answered, which must
 * happen exactly once (msg_fail or the row's reply function), now or later.
 * Its decoded payload and whatever is allocated from arena live as long. */
struct msg_request {
	struct link *link;
	const struct msg_row *row;
	struct msg_context context;
	/* An earlier process of ours may have done it, or a part: the caller never heard. */
	bool again;
	struct arena arena;
	/* Called once when the caller has given up (cancelled, deadline passed,
	 * link dead); the answer is still owed and goes nowhere. May be NULL. */
	void (*cancelled)(struct msg_request *r, void *ctx);
	void *cancelled_ctx;
	/* private to msg */
	uint64_t id;
	struct msg_request *next, **prev;
	bool abandoned;
	msg_done_fn own; /* instead of a link */
	void *own_ctx;
	/* What came with it, owned by the request: take_fd what you keep. */
	size_t n_fds;
	int fds[]; /* and -1 */
};

/* A request of one's own for a handler of one's own, which answers it like any:
 * done is called with the answer, perhaps before the handler returns. NULL: out
 * of memory. */
struct msg_request *msg_request_own(uint16_t number, const struct msg_context *context, msg_done_fn done, void *ctx);
/* Closes its descriptors before its answer does. */
void msg_close_fds(struct msg_request *r);

/* Ends the request with an error; code FAULT_NONE is a bug. */
void msg_fail(struct msg_request *r, const struct fault *fault);
void msg_failf(struct msg_request *r, enum fault_code code, const char *format, ...) PRINTF(3, 4);

/* An open call; NULL-able handle for msg_cancel. */
struct msg_call;
/* The callback will not be called any more; the peer is told. */
void msg_cancel(struct msg_call *c);

struct link_handler {
	uint16_t number;
	void (*handle)(void *worker, struct msg_request *r, const ProtobufCMessage *request);
};

struct link_options {
	struct loop *loop;
	enum role self, peer;
	/* Of a link between the API and the metadata worker, on both sides: what
	 * the endpoint may ask for, and its name for messages. */
	enum link_access access;
	const char *endpoint;
	const struct link_handler *handlers; /* ends with number 0; a row of ours
					      * without a handler answers UNIMPLEMENTED */
	void *worker;			     /* first argument of the handlers */
	/* The peer is gone (text says why). Open calls have failed with
	 * UNAVAILABLE, or wait for link_attach_* when their row says RESEND. */
	void (*on_down)(void *worker, struct link *l, bool violation, const char *text);
};

/* A link starts detached: calls of RESEND rows wait (until their deadline),
 * others fail with UNAVAILABLE. */
int link_new(const struct link_options *options, struct link **ret_link) NODISCARD;
/* Fails all open calls with UNAVAILABLE; open requests become abandoned. May be
 * called from any callback, those of this link included. */
void link_free(struct link *l);
/* What connects two ends: made by the supervisor, five descriptors. */
struct link_ends {
	int rx_ring, tx_ring;	/* memfds */
	int rx_event, tx_event; /* eventfds: rx_event wakes us, tx_event wakes the peer */
	int side;		/* SEQPACKET socket for descriptors */
};
/* Makes both ends of a new connection. */
int link_ends_new(struct link_ends *ret_a, struct link_ends *ret_b) NODISCARD;
void link_ends_close(struct link_ends *e);
/* Takes the descriptors, even on error. Attaching again replaces the old
 * connection: that is how a peer's successor arrives. */
int link_attach_ring(struct link *l, struct link_ends *ends) NODISCARD;
/* Takes a connected AF_UNIX SOCK_SEQPACKET socket. */
int link_attach_socket(struct link *l, int fd) NODISCARD;
/* The peer is known to be gone, from elsewhere: as after on_down, which isn't
 * called. */
void link_detach(struct link *l);
bool link_attached(const struct link *l);
void *link_worker(struct link *l);

/* --- untyped, for msg/typed.h, the fuzzers and the attack tests --- */

/* fds are duplicated by the kernel on the way; the caller keeps its own.
 * done == NULL: the reply isn't wanted (it is still awaited for logging).
 * Failures, those of sending included, always come through done, never from
 * within msg_send itself. context may be NULL. */
struct msg_call *msg_send(struct link *l, uint16_t number, const struct msg_context *context,
			  const ProtobufCMessage *request, const int *fds, size_t n_fds, msg_done_fn done, void *ctx);
/* The same, for who hands the answer on as it is. */
struct msg_call *msg_send_opaque(struct link *l, uint16_t number, const struct msg_context *context,
				 const ProtobufCMessage *request, msg_done_fn done, void *ctx);
/* Answers; with more the request stays open. fds as in msg_send. */
void msg_reply(struct msg_request *r, const ProtobufCMessage *reply, const int *fds, size_t n_fds, bool more);

/* protobuf-c's allocator over an arena: freeing is the arena's business. */
ProtobufCAllocator msg_arena_allocator(struct arena *a);
/* No NUL inside a string, valid UTF-8, nesting of at most 64. */
bool msg_wire_valid(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t size);
/* Decodes what is valid in that sense; NULL otherwise. The result lives in the arena. */
ProtobufCMessage *msg_decode(const ProtobufCMessageDescriptor *type, struct arena *a, const uint8_t *data, size_t size);
/* The size to which an arena for a message of so many bytes may grow: arrays of
 * empty messages would take more. */
static inline size_t msg_decoded_limit(size_t size) {
	const size_t least = 64u << 10, factor = 16, most = 128u << 20;
	return MIN(least + size * factor, most);
}
