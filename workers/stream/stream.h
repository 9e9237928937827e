/*
 * What the files of the stream worker share.
 *
 *   ticket.c      one-time URLs
 *   conn.c        a client's connection: request, upgrade, bytes, end
 *   carrier.c     its streams, by SPDY, WebSocket, or SPDY in WebSocket
 *   remote.c      sessions: a command, an attached container
 *   forward.c     sessions: ports of a pod
 *
 * Nothing of a connection is freed while its own code is on the stack:
 * conn_finish and conn_fail only mark it, the end of the loop's turn frees.
 */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "msg/typed.h"
#include "workers/skeleton/worker.h"
#include "workers/stream/base64.h"
#include "workers/stream/flow.h"
#include "workers/stream/mux.h"
#include "workers/stream/spdy.h"
#include "workers/stream/upgrade.h"

#define TICKETS_MAX 1024
#define CONNECTIONS_MAX 4096
/* Output that waits for a client before nothing more is read for it. */
#define OUTPUT_MAX 65536
/* Input that waits for a process before nothing more is read from its client. */
#define INPUT_MAX SPDY_WINDOW

struct streamer {
	struct worker *worker;
	struct loop *loop;
	struct link *metadata;
	char address[72]; /* "127.0.0.1:40123", "[::1]:40123"; "" until there is a listener */
	struct loop_source *accepting;
	struct map tickets;
	struct list ticket_order; /* oldest first */
	size_t n_tickets;
	struct loop_source *ticket_timer;
	struct list conns;
	size_t n_conns;
};

/* --- ticket.c --- */

struct ticket {
	struct list node;
	struct map_node by_token;
	char token[65];
	int64_t deadline;
	struct arena arena;
	const Bulkhead__StreamOpenRequest *what;
};

void on_stream_open(struct streamer *s, struct msg_request *r, const Bulkhead__StreamOpenRequest *m);
/* The ticket that a request's target names, which is used up by that; NULL. */
struct ticket *ticket_take(struct streamer *s, const char *target);
void ticket_free(struct ticket *t);

/* --- conn.c --- */

enum conn_state { CONN_HEAD, CONN_OPEN, CONN_FINISHING, CONN_DEAD };

struct session_class {
	struct mux_events mux;
	/* Output may go on. */
	void (*writable)(void *session);
	void (*free)(void *session);
};

struct conn {
	struct list node;
	struct streamer *server;
	int fd;
	enum conn_state state;
	struct loop_source *source, *again, *timer, *room_again, *burial;
	int64_t active; /* clock_mono of the latest byte */
	bool starved;	/* somebody was told that there is no room */
	unsigned n_crowded;
	struct buffer head, out;

	/* carrier.c */
	struct spdy *spdy;
	struct websocket *websocket;
	struct buffer tunnel; /* SPDY's bytes that no message has yet */
	bool tunnelled, base64;
	bool channel_known;
	uint8_t channel; /* of the message that arrives */
	struct base64 decoder;

	const struct session_class *class;
	void *session;
};

void conn_accepted(struct streamer *s, int fd);
/* Ends it when all that was sent has gone out. */
void conn_finish(struct conn *c);
/* Ends it at once. */
void conn_fail(struct conn *c, const char *why);
static inline bool conn_open(const struct conn *c) {
	return c->state == CONN_OPEN;
}
/* After each change of what waits in a flow: nothing is read from the client
 * while one is crowded. */
void conn_balance(struct conn *c, struct flow *f);
void conn_forget(struct conn *c, struct flow *f);
/* Tries to send what waits. */
void conn_flush(struct conn *c);

/* --- carrier.c --- */

int carrier_open(struct conn *c, const struct upgrade *u, size_t streams_max) NODISCARD;
void carrier_free(struct conn *c);
int carrier_feed(struct conn *c, const uint8_t *data, size_t size) NODISCARD;
/* Says goodbye. */
void carrier_close(struct conn *c);
/* Nothing of what is being fed matters any more. */
void carrier_stop(struct conn *c);
/* How many bytes may be sent on it now. */
size_t conn_room(struct conn *c, uint32_t id);
void conn_send(struct conn *c, uint32_t id, const void *data, size_t size, bool last);
void conn_consumed(struct conn *c, uint32_t id, size_t size);
void conn_reset(struct conn *c, uint32_t id);
/* No streams will be opened beyond those that are there. */
void conn_complete(struct conn *c);

/* --- remote.c, forward.c --- */

/* Take the ticket, on success only; set c->class and c->session. */
int remote_new(struct conn *c, struct ticket *t, const struct upgrade *u) NODISCARD;
int forward_new(struct conn *c, struct ticket *t, const struct upgrade *u) NODISCARD;
/* WebSocket has its streams from the beginning; with SPDY they come. Called
 * when the answer to the upgrade is on its way. */
void remote_begin(struct conn *c);
void forward_begin(struct conn *c);
#define REMOTE_STREAMS_MAX 5
#define FORWARD_STREAMS_MAX 512
