/*
 * The head of an HTTP/1.1 request that wants to become something else. No
 * bodies, no pipelining, no continuation lines: what isn't plain is refused.
 */
#pragma once

#include "base/macros.h"

#include <stdbool.h>
#include <sys/types.h>

#define HTTP_HEAD_MAX 16384
#define HTTP_HEADERS_MAX 64

struct http_header {
	const char *name, *value;
};

/* Points into the head that it was read from. */
struct http_request {
	const char *method, *target;
	struct http_header headers[HTTP_HEADERS_MAX];
	size_t n_headers;
};

/* The size of the head that data begins with; 0: its end isn't there yet;
 * -EMSGSIZE: it is too long. */
ssize_t http_head_size(const void *data, size_t size);
/* Reads a whole head in place (it is cut into strings). -EBADMSG: it is none;
 * -EOPNOTSUPP: a body follows. */
int http_parse(char *head, size_t size, struct http_request *ret_request) NODISCARD;
/* The header's only value; NULL when there is none, or several. */
const char *http_header(const struct http_request *r, const char *name);
/* Whether the header's lists have the word, in any case. */
bool http_header_has(const struct http_request *r, const char *name, const char *word);
/* Walks over the words of all headers of that name; set request and name. */
struct http_words {
	const struct http_request *request;
	const char *name, *rest;
	size_t next;
};
/* False at the end; the word is in any case and not NUL-terminated. */
bool http_word(struct http_words *w, const char **ret_word, size_t *ret_size);
