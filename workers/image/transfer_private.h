/* What transfer.c (one request), transfer_head.c (its answer's head) and
 * transfers.c (libcurl on the loop) share; nobody else includes it. */
#pragma once

#include "transfer.h"

#include "base/list.h"

#include <curl/curl.h>

struct transfers {
	struct loop *loop;
	CURLM *multi; /* NULL while idle */
	struct loop_source *timer;
	struct list running; /* struct transfer */
	struct list watches; /* struct watch */
	int inside;	     /* libcurl is on the stack */
	bool initialised, reaping, trim;
};

struct transfer {
	struct list node;
	struct transfers *transfers;
	struct transfer_request request;
	struct transfer_response response;
	CURL *easy;
	struct curl_slist *headers;
	struct transfer_file put;
	uint64_t sent;
	char error[CURL_ERROR_SIZE];
	size_t header_bytes;
	bool dead; /* cancelled; no callback may come */
};

/* transfer.c */
/* Tells its owner, who is not called when it is dead, and frees it. */
void transfer_finish(struct transfer *x, CURLcode code);
void transfer_free(struct transfer *x);

/* transfer_head.c */
void transfer_head_reset(struct transfer_head *h);
/* Remembers what somebody asks for later; a text that is too long is left out. */
void transfer_head_keep(struct transfer_head *h, const char *name, const char *value);

/* transfers.c */
/* Makes what all need, unless it is there. */
int transfers_begin(struct transfers *t);
