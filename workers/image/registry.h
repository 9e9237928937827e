/*
 * One question to the registry of a pull: the same request to each host in
 * turn until one answers it. Mirrors first, then the registry itself.
 *
 *   2xx         done
 *   3xx         followed, at most 10 times, never from https to http; another
 *               host than asked gets no credentials and none of our headers
 *   401         answered once per host (auth.h)
 *   anything else, or no answer: the next host
 *
 * When all have been asked and one of them (429, 503) has said when to ask again
 * (Retry-After), the round begins anew then: the waits of one query are bounded
 * together.
 *
 * The fault names each host that was tried and what it said.
 */
#pragma once

#include "session.h"
#include "transfer.h"

struct query;

struct query_request {
	struct session *session;
	enum host_capability need;
	const char *what;   /* "manifests" or "blobs" */
	const char *name;   /* tag or digest */
	const char *accept; /* NULL: anything */
	bool head, post;
	const struct transfer_file *put; /* outlives the query */
	const char *content_type;	 /* of what is sent */
	/* Of one host alone: the others aren't asked. */
	bool one_host;
	size_t host;
	const char *url; /* of that host: instead of what and name */
	uint64_t offset;
	size_t body_max;
	/* As in struct transfer_request. */
	enum transfer_flow (*data)(void *ctx, const struct transfer_head *head, const uint8_t *data, size_t size);
	/* The query is gone when done returns; never called from query_start.
	 * With a fault, again says that trying later may help. */
	void (*done)(void *ctx, struct transfer_response *response, const struct fault *fault, bool again);
	void *ctx;
};

int query_start(const struct query_request *request, struct query **ret_query, struct fault *fault);
void query_resume(struct query *q);
void query_cancel(struct query *q);
