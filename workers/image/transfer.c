/*
 * One request by libcurl, from its options to its end.
 */
#include "transfer_private.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#define ERROR_BODY_MAX 8192
#define HEADERS_MAX (64 * 1024)
#define RECEIVE_SIZE (128L * 1024)
#define CONNECT_TIMEOUT_MS 30000L

/* --- the answer's head ----------------------------------------------------- */

/* Ends the transfer from within a callback; TRANSFER_OK: what came is enough. */
static size_t refuse(struct transfer *x, enum transfer_failure failure, const char *why) {
	x->response.failure = failure;
	snprintf(x->response.error, sizeof(x->response.error), "%s", why);
	return 0;
}

static size_t refuse_size(struct transfer *x, size_t max, const char *of_what) {
	char text[64];
	snprintf(text, sizeof(text), "more than %zu bytes%s", max, of_what);
	return refuse(x, TRANSFER_TOO_LARGE, text);
}

static size_t header_callback(char *data, size_t one, size_t n, void *ctx) {
	struct transfer *x = ctx;
	struct transfer_head *h = &x->response.head;
	char line[URL_MAX + 64];
	x->header_bytes += n;
	if (x->dead || x->header_bytes > HEADERS_MAX)
		return refuse_size(x, HEADERS_MAX, " of headers");
	if (n > 5 && strncasecmp(data, "HTTP/", 5) == 0) {
		transfer_head_reset(h); /* the final answer is the last */
		return n;
	}
	if (n >= sizeof(line))
		return n;
	memcpy(line, data, n);
	line[n] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	char *value = strchr(line, ':');
	if (!value)
		return n;
	*value++ = '\0';
	value += strspn(value, " \t");
	for (size_t end = strlen(value); end > 0 && strchr(" \t", value[end - 1]); end--)
		value[end - 1] = '\0';
	transfer_head_keep(h, line, value);
	return n;
}

/* --- the body -------------------------------------------------------------- */

static size_t collect(struct transfer *x, const char *data, size_t n, bool success) {
	struct buffer *body = &x->response.body;
	size_t max = success ? x->request.body_max : ERROR_BODY_MAX;
	if (n <= max - body->size) {
		buffer_add(body, data, n);
		return body->failed ? refuse(x, TRANSFER_TOO_LARGE, "out of memory") : n;
	}
	/* The begin of an error page is enough, and its end isn't waited for. */
	return success ? refuse_size(x, max, "") : refuse(x, TRANSFER_OK, "");
}

static size_t body_callback(char *data, size_t one, size_t n, void *ctx) {
	struct transfer *x = ctx;
	long status = 0;
	if (x->dead)
		return 0;
	curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
	x->response.head.status = (int)status;
	bool success = status >= 200 && status < 300;
	if (!success || !x->request.data)
		return collect(x, data, n, success);
	switch (x->request.data(x->request.ctx, &x->response.head, (const uint8_t *)data, n)) {
	case TRANSFER_PAUSE:
		return CURL_WRITEFUNC_PAUSE;
	case TRANSFER_ABORT:
		return refuse(x, TRANSFER_REFUSED, "refused");
	default:
		return n;
	}
}

/* --- what is sent ---------------------------------------------------------- */

static size_t read_callback(char *data, size_t one, size_t n, void *ctx) {
	struct transfer *x = ctx;
	uint64_t left = x->put.size - x->sent;
	ssize_t got = pread(x->put.fd, data, (size_t)MIN((uint64_t)n, left), (off_t)x->sent);
	if (x->dead || got < 0 || (got == 0 && left > 0))
		return CURL_READFUNC_ABORT;
	x->sent += (uint64_t)got;
	if (x->put.sent)
		x->put.sent(x->put.ctx, x->sent);
	return (size_t)got;
}

/* A connection that was kept turned out to be gone: from the beginning again. */
static int seek_callback(void *ctx, curl_off_t offset, int origin) {
	struct transfer *x = ctx;
	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > x->put.size)
		return CURL_SEEKFUNC_FAIL;
	x->sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

static void set_put(struct transfer *x) {
	x->put = *x->request.put;
	curl_easy_setopt(x->easy, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(x->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)x->put.size);
	curl_easy_setopt(x->easy, CURLOPT_READFUNCTION, read_callback);
	curl_easy_setopt(x->easy, CURLOPT_READDATA, x);
	curl_easy_setopt(x->easy, CURLOPT_SEEKFUNCTION, seek_callback);
	curl_easy_setopt(x->easy, CURLOPT_SEEKDATA, x);
}

/* --- the end --------------------------------------------------------------- */

static enum transfer_failure failure_of(CURLcode code, bool answered) {
	switch (code) {
	case CURLE_OK:
		return TRANSFER_OK;
	case CURLE_OPERATION_TIMEDOUT:
		return answered ? TRANSFER_STALLED : TRANSFER_UNREACHABLE;
	case CURLE_FILESIZE_EXCEEDED:
		return TRANSFER_TOO_LARGE;
	default:
		return answered ? TRANSFER_CUT : TRANSFER_UNREACHABLE;
	}
}

void transfer_free(struct transfer *x) {
	list_unlink(&x->node);
	if (x->easy) {
		curl_multi_remove_handle(x->transfers->multi, x->easy);
		curl_easy_cleanup(x->easy);
	}
	curl_slist_free_all(x->headers);
	buffer_deinit(&x->response.body);
	free(x);
}

void transfer_finish(struct transfer *x, CURLcode code) {
	struct transfer_response *r = &x->response;
	long status = 0;
	curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
	/* "100 Continue" is no answer yet. */
	if (status < 200)
		status = 0;
	r->head.status = (int)status;
	bool ours = code == CURLE_WRITE_ERROR;
	if (!ours)
		r->failure = failure_of(code, status != 0);
	if (r->failure == TRANSFER_TOO_LARGE && !ours)
		refuse_size(x, x->request.body_max, "");
	else if (r->failure != TRANSFER_OK && !ours)
		snprintf(r->error, sizeof(r->error), "%s", x->error[0] ? x->error : curl_easy_strerror(code));
	if (!x->dead)
		x->request.done(x->request.ctx, r);
	transfer_free(x);
}

void transfer_cancel(struct transfer *x) {
	if (!x)
		return;
	x->dead = true;
	/* While reaping, x may be the one whose done is on the stack. */
	if (!x->transfers->inside && !x->transfers->reaping)
		transfer_free(x);
}

void transfer_resume(struct transfer *x) {
	struct transfers *t = x->transfers;
	if (x->dead || t->inside)
		return;
	t->inside++;
	curl_easy_pause(x->easy, CURLPAUSE_CONT);
	t->inside--;
}

/* --- the begin ------------------------------------------------------------- */

static void set_tls(CURL *e, const struct transfer_tls *tls) {
	curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (tls->skip_verify) {
		curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (tls->ca_pem && tls->ca_pem->size > 0) {
		/* The system's authorities stay known by their folder. */
		struct curl_blob blob = { .data = tls->ca_pem->data,
					  .len = tls->ca_pem->size,
					  .flags = CURL_BLOB_COPY };
		curl_easy_setopt(e, CURLOPT_CAINFO_BLOB, &blob);
	}
	if (tls->client_cert) {
		curl_easy_setopt(e, CURLOPT_SSLCERT, tls->client_cert);
		curl_easy_setopt(e, CURLOPT_SSLKEY, tls->client_key ? tls->client_key : tls->client_cert);
	}
}

static void set_limits(CURL *e, const struct transfer_request *r) {
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	/* A name that is still being resolved must not hold up a cancellation. */
	curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	if (r->direct)
		curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS,
			 r->connect_timeout_ms ? r->connect_timeout_ms : CONNECT_TIMEOUT_MS);
	curl_easy_setopt(e, CURLOPT_TIMEOUT, r->total_timeout_s);
	if (r->stall_timeout_s > 0) {
		curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
		curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, r->stall_timeout_s);
	}
	if (r->data)
		curl_easy_setopt(e, CURLOPT_BUFFERSIZE, RECEIVE_SIZE);
	else if (!r->head)
		curl_easy_setopt(e, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)MAX(r->body_max, (size_t)ERROR_BODY_MAX));
}

static int set_headers(struct transfer *x) {
	struct curl_slist *list = NULL;
	for (const char *const *h = x->request.headers; h && *h; h++) {
		list = curl_slist_append(x->headers, *h);
		if (!list)
			return -ENOMEM;
		x->headers = list;
	}
	curl_easy_setopt(x->easy, CURLOPT_HTTPHEADER, x->headers);
	curl_easy_setopt(x->easy, CURLOPT_USERAGENT, "bulkhead");
	if (x->request.offset > 0) {
		char range[32];
		snprintf(range, sizeof(range), "%llu-", (unsigned long long)x->request.offset);
		curl_easy_setopt(x->easy, CURLOPT_RANGE, range);
	}
	return 0;
}

static int set_up(struct transfer *x) {
	const struct transfer_request *r = &x->request;
	CURL *e = x->easy;
	CURLcode code = CURLE_OK;
	curl_easy_setopt(e, CURLOPT_URL, r->url);
	curl_easy_setopt(e, CURLOPT_PRIVATE, x);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, x->error);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, header_callback);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, x);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, body_callback);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, x);
	if (r->head)
		curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
	else if (r->put)
		set_put(x);
	else if (r->form || r->post)
		code = curl_easy_setopt(e, CURLOPT_COPYPOSTFIELDS, r->form ? r->form : "");
	if (code != CURLE_OK)
		return -ENOMEM;
	set_limits(e, r);
	set_tls(e, &r->tls);
	return set_headers(x);
}

int transfer_start(struct transfers *t, const struct transfer_request *request, struct transfer **ret_transfer) {
	int r = transfers_begin(t);
	struct transfer *x = r < 0 ? NULL : calloc(1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	list_init(&x->node);
	x->transfers = t;
	x->request = *request;
	transfer_head_reset(&x->response.head);
	x->easy = curl_easy_init();
	r = x->easy ? set_up(x) : -ENOMEM;
	if (r == 0 && curl_multi_add_handle(t->multi, x->easy) != CURLM_OK)
		r = -ENOMEM;
	/* What the request pointed to was copied by libcurl. */
	x->request.headers = NULL;
	x->request.url = x->request.form = NULL;
	x->request.put = NULL;
	if (r < 0) {
		transfer_free(x);
		return r;
	}
	list_append(&t->running, &x->node);
	*ret_transfer = x;
	return 0;
}
