/* What the files of ipc/msg share; nobody else includes it. */
#pragma once

#include "base/list.h"
#include "msg/msg.h"
#include "ring/ring.h"

enum frame_kind { FRAME_REQUEST = 1, FRAME_REPLY, FRAME_ERROR, FRAME_CANCEL };
enum frame_flag {
	FRAME_MORE = 1,	 /* further replies follow */
	FRAME_BY_FD = 2, /* the payload is in a memfd: the first descriptor */
	FRAME_AGAIN = 4, /* a request that a peer had which is gone */
};

/* In front of every payload, in a ring record as in a packet. */
struct frame {
	uint32_t size; /* of the payload, wherever it is */
	uint16_t number;
	uint8_t kind, flags;
	uint32_t n_fds; /* riding with it, a payload's memfd included */
	uint32_t code;	/* FRAME_ERROR: enum fault_code; the payload is the text */
	uint64_t id;
	int64_t deadline;
	uint64_t trace[2];
	uint64_t request;
	uint64_t fd_seq; /* of the packet on the side socket that has the descriptors */
};

#define FRAME_INLINE_MAX (16 * 1024)
#define FRAME_FDS_MAX (MSG_FDS_MAX + 1)
#define OPEN_REQUESTS_MAX 8192
#define CALL_SLOTS 256

/* A frame that waits for room, with descriptors of its own. */
struct outgoing {
	struct list node;
	struct frame frame;
	struct buffer payload;
	int fds[FRAME_FDS_MAX];
	bool fds_sent; /* they are already on the side socket */
};

struct msg_call {
	struct msg_call *next, **prev; /* in its slot of link->calls */
	struct list order;	       /* oldest first, for sending again */
	struct link *link;
	const struct msg_row *row;
	struct msg_context context;
	uint64_t id;
	msg_done_fn done;
	void *ctx;
	struct buffer payload; /* kept while it may have to be sent (again) */
	struct loop_source *timer;
	bool opaque; /* its answer isn't decoded */
	bool sent;
	int64_t sent_at;     /* clock_mono, to the peer that is there now */
	unsigned deaths;     /* of peers that had it: see resend.c */
	unsigned all_deaths; /* without the patience that deaths has */
	bool again;	     /* a peer had it that is gone */
	struct fault *fault; /* it has failed and its callback is due */
};

struct link {
	struct link_options options;
	bool attached;
	/* ring transport */
	bool by_ring;
	struct ring ring;
	struct link_ends ends;
	struct buffer record;
	uint64_t fd_seq_tx, fd_seq_rx;
	/* socket transport */
	int socket;
	struct loop_source *wake; /* rx_event, or the socket */
	struct loop_source *drain_again;
	struct list backlog; /* struct outgoing */
	struct loop_source *flush_timer;
	bool draining, gone;
	/* calls and requests */
	uint64_t next_id;
	struct msg_call *calls[CALL_SLOTS];
	struct list order;
	struct msg_request *requests;
	size_t n_requests;
	struct list failed; /* calls whose failure is due, by their order */
	struct loop_source *fail_later;
	int64_t answered;	/* when the latest of the calls was sent that this peer has answered */
	struct msg_call *trial; /* the suspect that is with the peer: see resend.c */
	struct loop_source *trial_timer;
	unsigned generation; /* counts transports; a drain stops when it changes */
};

/* transport.c */
/* Queues or sends; fds are duplicated as needed. */
int transport_send(struct link *l, const struct frame *f, const void *payload, const int *fds, size_t n_fds);
void transport_close(struct link *l);
/* link.c: the transport calls these. payload is valid during the call; fds are
 * link_receive's. */
void link_receive(struct link *l, const struct frame *f, const uint8_t *payload, int *fds, size_t n_fds);
void link_lost(struct link *l, bool violation, const char *format, ...) PRINTF(3, 4);
void link_collect(struct link *l);
/* For messages. */
const char *link_endpoint(const struct link *l);
/* transport.c: makes a transport of ends or socket and starts to listen. */
int transport_start(struct link *l);
/* call.c */
void call_answered(struct link *l, const struct frame *f, const uint8_t *payload, int *fds, size_t n_fds);
void calls_free(struct link *l);
void link_call_fail(struct msg_call *c, enum fault_code code, const char *format, ...) PRINTF(3, 4);
int link_call_send(struct msg_call *c, const int *fds, size_t n_fds);
/* The peer is gone, though its end hasn't been seen here yet: a call that may
 * be repeated waits for the successor. */
bool link_call_waits(const struct msg_call *c, int error);
/* resend.c */
/* The peer that had the calls is gone. */
void calls_lost(struct link *l);
/* Sends what waits for a peer. */
void calls_send(struct link *l);
/* c is with the peer no longer. */
void trial_ended(struct msg_call *c);
/* request.c */
void request_arrived(struct link *l, const struct msg_row *row, const struct frame *f, const uint8_t *payload, int *fds,
		     size_t n_fds);
void request_cancelled(struct link *l, uint64_t id);
void requests_abandon(struct link *l, bool link_dies);
