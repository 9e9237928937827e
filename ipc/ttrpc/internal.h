/* What the files of the ttrpc client share; nobody else includes it. */
#pragma once

#include "base/list.h"
#include "ttrpc/client.h"
#include "ttrpc/frame.h"
#include "ttrpc/ttrpc.pb-c.h"

/* A serial line on which the client's own place isn't known at first. */
struct ttrpc_line {
	bool lost; /* the answer that tells it hasn't come */
	char sign[80];
	struct buffer seen; /* of what came: what the answer may begin in */
	struct loop_source *again;
	int64_t pause; /* until it is asked again */
	struct loop_source *watch;
};

struct ttrpc_client {
	struct ttrpc_client_options options;
	int fd;
	bool file;	 /* read and written, not received and sent */
	bool over;	 /* nothing comes or goes any more */
	bool busy, gone; /* gone: freed while busy, by whom we called */
	struct loop_source *input, *output, *flush;
	bool sending;
	struct buffer out;
	struct ttrpc_line line;

	/* unsent: have no stream yet; refused: failed before they were begun; lost:
	 * were sent to a server that is gone. */
	struct list unsent, sent, refused, lost;
	size_t n_pending, held; /* held: bytes of unsent ones */
	uint64_t next;		/* stream */

	/* The frame that is arriving. */
	uint8_t header[TTRPC_HEADER];
	size_t n_header;
	struct ttrpc_frame frame;
	struct buffer body;
};

/* client.c. Only from the loop: all that is pending fails, ended is called. */
void ttrpc_client_end(struct ttrpc_client *c, const char *format, ...) PRINTF(2, 3);
/* A turn of the loop's in which the client may be freed begins and ends. */
void ttrpc_client_enter(struct ttrpc_client *c);
void ttrpc_client_leave(struct ttrpc_client *c);
/* Sends what there is to send at the end of the loop's turn. */
int ttrpc_client_flush(struct ttrpc_client *c) NODISCARD;
/* Appends a request's frame to out, which has failed when there is no memory. */
void ttrpc_client_request(struct ttrpc_client *c, uint32_t stream, const ProtobufCMessage *request);
/* Tells the server, if there is memory for it, that nobody wants a reply. */
void ttrpc_client_cancel(struct ttrpc_client *c, uint32_t stream);

/* client_call.c. Gives the first unsent call a stream and puts its request into
 * out; false when there is none. */
bool ttrpc_call_next(struct ttrpc_client *c);
/* What came on a stream; false when it is no response. */
bool ttrpc_call_response(struct ttrpc_client *c, uint32_t stream, const uint8_t *data, size_t size);
void ttrpc_calls_fail(struct ttrpc_client *c, const struct fault *fault);
/* Of those that were sent; calls that are made meanwhile aren't among them. */
void ttrpc_calls_lose(struct ttrpc_client *c, const struct fault *fault);
void ttrpc_calls_free(struct ttrpc_client *c);

/* client_line.c */
int ttrpc_line_begin(struct ttrpc_client *c) NODISCARD;
/* Looks for the answer; how many of the bytes belong to it or come before. */
size_t ttrpc_line_input(struct ttrpc_client *c, const uint8_t *data, size_t size);
/* Once its place is found: sees to it that it stays so. */
int ttrpc_line_watch(struct ttrpc_client *c) NODISCARD;
/* What a server that knows nothing of the client's calls says. */
bool ttrpc_line_anew(const struct ttrpc_client *c, const Google__Rpc__Status *status);
/* Everything begins anew. */
void ttrpc_line_lost(struct ttrpc_client *c, const Google__Rpc__Status *status);
void ttrpc_line_deinit(struct ttrpc_line *l);
