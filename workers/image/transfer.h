/*
 * HTTP transfers on the worker's loop. libcurl is known in transfer*.c and url.c only.
 *
 * A transfer does one request and follows nothing: no redirects, no cookies,
 * no authentication of libcurl's own, no protocol but http and https. HTTP/1.1
 * throughout, so that each layer has a connection and a flow control of its
 * own. done comes exactly once, from the loop, unless transfer_cancel came
 * before; the transfer is gone when it returns.
 *
 * The multi handle with its connection cache is made by the first transfer and
 * dropped by transfers_trim, so that an idle worker holds none.
 */
#pragma once

#include "base/buffer.h"
#include "base/fault.h"
#include "loop/loop.h"
#include "url.h"

struct transfer;
struct transfers;

/* Why there is no complete answer. */
enum transfer_failure {
	TRANSFER_OK,
	TRANSFER_UNREACHABLE, /* no connection, no name, refused certificate */
	TRANSFER_STALLED,     /* no progress for too long */
	TRANSFER_CUT,	      /* ended early */
	TRANSFER_TOO_LARGE,   /* more than the caller accepts */
	TRANSFER_REFUSED,     /* the data callback said no */
};

/* What the answer's head says; texts are "" and numbers -1 when absent. */
struct transfer_head {
	int status;
	char content_type[256];
	char digest[128];	 /* Docker-Content-Digest */
	char authenticate[4096]; /* all WWW-Authenticate values, joined by ", " */
	char location[URL_MAX];
	int64_t content_length;
	int64_t range_start, range_total; /* Content-Range */
	int64_t retry_after_s;
};

struct transfer_response {
	struct transfer_head head; /* status 0: there was no answer at all */
	enum transfer_failure failure;
	char error[256];    /* why, in libcurl's words */
	struct buffer body; /* of an error, or of a success without data callback */
};

struct transfer_tls {
	const struct buffer *ca_pem; /* NULL or empty: the system's alone */
	const char *client_cert, *client_key;
	bool skip_verify;
};

enum transfer_flow { TRANSFER_GO_ON, TRANSFER_PAUSE, TRANSFER_ABORT };

/* What a PUT sends: a whole file. */
struct transfer_file {
	int fd; /* read by offset; stays open as long as the transfer */
	uint64_t size;
	void (*sent)(void *ctx, uint64_t offset); /* may be NULL; nothing may be ended from it */
	void *ctx;
};

struct transfer_request {
	const char *url; /* made or checked by url.h */
	bool head;
	bool post;			 /* of nothing */
	const struct transfer_file *put; /* copied; NULL: it is no PUT */
	const char *form;		 /* POST of application/x-www-form-urlencoded */
	const char *const *headers;	 /* lines, ends with NULL; may be NULL */
	uint64_t offset;		 /* Range: from here on */
	size_t body_max;		 /* of a body that is collected */
	struct transfer_tls tls;
	bool direct;		 /* never by a proxy of the environment */
	long connect_timeout_ms; /* 0: 30 s */
	long stall_timeout_s;	 /* without a byte; 0: none */
	long total_timeout_s;	 /* 0: none */
	/* Body of a 2xx answer; NULL collects it. With TRANSFER_PAUSE nothing was
	 * taken, and the same bytes come again after transfer_resume. */
	enum transfer_flow (*data)(void *ctx, const struct transfer_head *head, const uint8_t *data, size_t size);
	void (*done)(void *ctx, struct transfer_response *response);
	void *ctx;
};

int transfers_new(struct loop *loop, struct transfers **ret_transfers) NODISCARD;
void transfers_free(struct transfers *t);
/* Drops connections and caches as soon as no transfer runs. */
void transfers_trim(struct transfers *t);

int transfer_start(struct transfers *t, const struct transfer_request *request,
		   struct transfer **ret_transfer) NODISCARD;
void transfer_resume(struct transfer *x);
/* NULL does nothing. Neither data nor done come any more. */
void transfer_cancel(struct transfer *x);
