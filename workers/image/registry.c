/*
 * A query is at one host at a time. Each outcome of a transfer is one of:
 * finish, follow, authenticate, next host.
 */
#include "registry.h"

#include "base/clock.h"
#include "json.h"
#include "worker.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Of all that a query waits because it was asked to. */
#define WAIT_MAX_S 60
#define REDIRECTS_MAX 10
#define SMALL_TIMEOUT_S 120 /* for a manifest or a config as a whole */

struct query {
	struct query_request request;
	struct session *session;
	size_t host;
	bool tried[HOSTS_MAX];
	char *url;
	unsigned redirects;
	bool foreign; /* a redirect led away from the host */
	bool answered_challenge;
	struct transfer *transfer;
	struct auth_call *auth;
	struct loop_source *deferred;
	bool again;
	int64_t wait_s;		   /* the shortest that a host of this round asks for; -1: none does */
	int64_t waited_s;	   /* in earlier rounds */
	struct fault fault;	   /* of the host that was tried last */
	char said[FAULT_TEXT_MAX]; /* of all hosts */
};

static void send_to_host(struct query *q);
static void next_round(void *ctx);

static struct host *host_of(struct query *q) {
	return &q->session->hosts.list[q->host];
}

static void query_free(struct query *q) {
	loop_source_free(q->deferred);
	transfer_cancel(q->transfer);
	auth_cancel(q->auth);
	session_unref(q->session);
	free(q->url);
	free(q);
}

void query_cancel(struct query *q) {
	if (q)
		query_free(q);
}

void query_resume(struct query *q) {
	if (q->transfer)
		transfer_resume(q->transfer);
}

static void finish(struct query *q, struct transfer_response *response, const struct fault *fault) {
	struct query_request r = q->request;
	bool again = q->again;
	struct fault copy = fault ? *fault : (struct fault){ 0 };
	query_free(q);
	r.done(r.ctx, response, fault ? &copy : NULL, again);
}

/* --- the next host --------------------------------------------------------- */

/* Hosts that were away are asked again only when nobody else is left. */
static bool pick_host(struct query *q, bool away) {
	const struct hosts *h = &q->session->hosts;
	for (size_t i = 0; i < h->n; i++)
		if (!q->tried[i] && (!q->request.one_host || i == q->request.host) &&
		    (h->list[i].capabilities & q->request.need) && q->session->away[i] == away) {
			q->host = i;
			q->tried[i] = true;
			return true;
		}
	return false;
}

/* A round may not be begun at once, or a host that says 0 would be flooded. */
static bool wait_asked(struct query *q) {
	int64_t wait = MAX(q->wait_s, 1);
	if (q->wait_s < 0 || wait > WAIT_MAX_S - q->waited_s)
		return false;
	q->waited_s += wait;
	return loop_timer(q->session->worker->loop, clock_mono() + wait * NS_PER_SEC, next_round, q, &q->deferred) == 0;
}

static void try_next(struct query *q) {
	if (pick_host(q, false) || pick_host(q, true)) {
		q->redirects = 0;
		q->foreign = q->answered_challenge = false;
		free(q->url);
		q->url = NULL;
		send_to_host(q);
		return;
	}
	if (wait_asked(q))
		return;
	if (!q->said[0])
		fault_set(&q->fault, FAULT_FAILED_PRECONDITION, "no host of hosts.toml may be asked for this");
	else
		snprintf(q->fault.text, sizeof(q->fault.text), "%s", q->said);
	finish(q, NULL, &q->fault);
}

static void next_round(void *ctx) {
	struct query *q = ctx;
	loop_source_free_p(&q->deferred);
	memset(q->tried, 0, sizeof(q->tried));
	q->said[0] = '\0';
	q->wait_s = -1;
	q->again = false;
	try_next(q);
}

/* Notes what a host said; q->fault holds it. */
static void host_failed(struct query *q) {
	char text[FAULT_TEXT_MAX];
	snprintf(text, sizeof(text), "%s", q->said);
	snprintf(q->said, sizeof(q->said), "%.500s%s%s: %.400s", text, text[0] ? "; " : "", host_of(q)->label,
		 q->fault.text);
	try_next(q);
}

/* --- authentication -------------------------------------------------------- */

static void auth_done(void *ctx, const struct fault *fault) {
	struct query *q = ctx;
	q->auth = NULL;
	if (!fault) {
		send_to_host(q);
		return;
	}
	q->fault = *fault;
	q->again = q->again || fault->code == FAULT_UNAVAILABLE;
	host_failed(q);
}

static void authenticate(struct query *q, const struct transfer_head *head) {
	struct session *s = q->session;
	struct challenge challenge = { 0 };
	challenge_parse(head->authenticate, &challenge);
	bool fit = credentials_fit(&s->credentials, &s->reference, host_of(q));
	if (q->foreign || q->answered_challenge) {
		fault_set(&q->fault, FAULT_UNAUTHENTICATED, "%s",
			  q->foreign ? "a redirect leads to a host that wants authentication, which it doesn't get"
			  : fit	     ? "it refused the credentials (401)"
				     : "it refuses anonymous access (401), and there are no credentials for it");
		host_failed(q);
		return;
	}
	q->answered_challenge = true;
	int r = auth_start(
	    &(struct auth_request){
		.transfers = s->worker->transfers,
		.auth = &s->auth[q->host],
		.host = host_of(q),
		.credentials = fit ? &s->credentials : NULL,
		.repository = s->reference.path,
		.push = q->request.need == HOST_PUSH,
		.challenge = &challenge,
		.done = auth_done,
		.ctx = q,
	    },
	    &q->auth, &q->fault);
	if (r == 0)
		send_to_host(q);
	else if (r < 0)
		host_failed(q);
}

/* --- redirects ------------------------------------------------------------- */

static int redirect_target(struct query *q, const struct transfer_head *head, char **ret_url) {
	CLEANUP_FREE char *url = NULL;
	if (++q->redirects > REDIRECTS_MAX)
		return fault_set(&q->fault, FAULT_UNAVAILABLE, "it redirects more than %d times", REDIRECTS_MAX);
	if (!head->location[0] || url_join(q->url, head->location, &url) < 0)
		return fault_set(&q->fault, FAULT_UNAVAILABLE, "it redirects (%d) to no http or https URL",
				 head->status);
	if (strncmp(q->url, "https:", 6) == 0 && strncmp(url, "https:", 6) != 0)
		return fault_set(&q->fault, FAULT_UNAVAILABLE,
				 "it redirects from https to plain http, which is never followed");
	*ret_url = take_ptr(url);
	return 0;
}

static void follow(struct query *q, const struct transfer_head *head) {
	CLEANUP_FREE char *url = NULL;
	CLEANUP_FREE char *target = NULL;
	CLEANUP_FREE char *home = NULL;
	int r = redirect_target(q, head, &url);
	if (r == 0)
		r = url_origin(url, &target);
	if (r == 0)
		r = url_origin(host_of(q)->base, &home);
	if (r < 0) {
		host_failed(q);
		return;
	}
	/* Once away, always away: the way back isn't the host's own doing. */
	q->foreign = q->foreign || strcmp(target, home) != 0;
	free(q->url);
	q->url = take_ptr(url);
	send_to_host(q);
}

/* --- answers --------------------------------------------------------------- */

/* {"errors":[{"code":"MANIFEST_UNKNOWN","message":"..."}]} */
static void registry_words(const struct transfer_response *response, char *out, size_t size) {
	struct fault ignored;
	struct json *doc = NULL;
	out[0] = '\0';
	if (json_parse(response->body.data, response->body.size, &doc, &ignored) < 0)
		return;
	const struct json *e = json_at(json_get(doc, "errors"), 0);
	const char *code = json_text(e, "code"), *message = json_text(e, "message");
	if (code[0] || message[0])
		snprintf(out, size, " (%.60s%s%.200s)", code, code[0] && message[0] ? ": " : "", message);
	json_free(doc);
}

static enum fault_code code_of_status(int status) {
	switch (status) {
	case 403:
		return FAULT_PERMISSION_DENIED;
	case 404:
	case 410:
		return FAULT_NOT_FOUND;
	case 416:
		return FAULT_OUT_OF_RANGE;
	case 429:
		return FAULT_RESOURCE_EXHAUSTED;
	default:
		return status >= 500 ? FAULT_UNAVAILABLE : FAULT_UNKNOWN;
	}
}

/* One that wants more patience than there is doesn't shorten that of others. */
static void wait_note(struct query *q, int64_t wait_s) {
	if (wait_s >= 0 && (q->wait_s < 0 || wait_s < q->wait_s))
		q->wait_s = wait_s;
}

static void refused(struct query *q, const struct transfer_response *response) {
	char words[300];
	int status = response->head.status;
	registry_words(response, words, sizeof(words));
	const char *meaning = status == 404   ? "not found"
			      : status == 403 ? "access denied"
			      : status == 429 ? "too many requests"
					      : "";
	fault_set(&q->fault, code_of_status(status), "%s%s%d%s%s", meaning, meaning[0] ? " (" : "it answered ", status,
		  meaning[0] ? ")" : "", words);
	q->again = q->again || status == 429 || status >= 500;
	if (status == 429 || status == 503)
		wait_note(q, response->head.retry_after_s);
	host_failed(q);
}

static void no_answer(struct query *q, const struct transfer_response *response) {
	fault_set(&q->fault, FAULT_UNAVAILABLE, "%s", response->error);
	q->again = true;
	q->session->away[q->host] = !q->foreign;
	host_failed(q);
}

/* A body that broke off. Of a collected one nothing was used, so the next host
 * may have it whole; of a stream part was: its receiver goes on from there. */
static void broke_off(struct query *q, struct transfer_response *response) {
	if (!q->request.data && response->failure != TRANSFER_TOO_LARGE) {
		no_answer(q, response);
		return;
	}
	static const enum fault_code codes[] = {
		[TRANSFER_STALLED] = FAULT_DEADLINE_EXCEEDED,
		[TRANSFER_CUT] = FAULT_UNAVAILABLE,
		[TRANSFER_TOO_LARGE] = FAULT_RESOURCE_EXHAUSTED,
		[TRANSFER_REFUSED] = FAULT_ABORTED,
	};
	struct fault fault;
	q->again = response->failure == TRANSFER_CUT;
	if (response->failure == TRANSFER_STALLED)
		fault_set(&fault, FAULT_DEADLINE_EXCEEDED, "%s: no progress for too long (%s)", host_of(q)->label,
			  response->error);
	else if (response->failure == TRANSFER_TOO_LARGE)
		fault_set(&fault, FAULT_RESOURCE_EXHAUSTED, "%s: its answer is too large (%s)", host_of(q)->label,
			  response->error);
	else
		fault_set(&fault, codes[response->failure], "%s: %s", host_of(q)->label, response->error);
	finish(q, response, &fault);
}

static void answered(void *ctx, struct transfer_response *response) {
	struct query *q = ctx;
	const struct transfer_head *head = &response->head;
	q->transfer = NULL;
	if (head->status == 0)
		no_answer(q, response);
	else if (head->status == 401)
		authenticate(q, head);
	else if (head->status >= 300 && head->status < 400)
		follow(q, head);
	else if (head->status < 200 || head->status >= 400)
		refused(q, response);
	else if (response->failure == TRANSFER_OK)
		finish(q, response, NULL);
	else
		broke_off(q, response);
}

/* --- requests -------------------------------------------------------------- */

static int make_url(struct query *q) {
	const struct session *s = q->session;
	if (q->url)
		return 0;
	if (q->request.url) {
		q->url = strdup(q->request.url);
		return q->url ? 0 : -ENOMEM;
	}
	if (asprintf(&q->url, "%s/%s/%s/%s", host_of(q)->base, s->reference.path, q->request.what, q->request.name) <
	    0) {
		q->url = NULL;
		return -ENOMEM;
	}
	/* Tells a mirror of many registries which of them is meant. */
	return host_of(q)->mirror ? url_add(&q->url, "ns", s->reference.host) : 0;
}

static enum transfer_flow pass_data(void *ctx, const struct transfer_head *head, const uint8_t *data, size_t size) {
	struct query *q = ctx;
	return q->request.data(q->request.ctx, head, data, size);
}

static void send_to_host(struct query *q) {
	const struct host *h = host_of(q);
	const char *headers[HOST_HEADERS_MAX + 4];
	CLEANUP_FREE char *accept = NULL;
	CLEANUP_FREE char *type = NULL;
	size_t n = 0;
	int r = make_url(q);
	if (r == 0 && q->request.accept && asprintf(&accept, "Accept: %s", q->request.accept) < 0)
		r = -ENOMEM;
	if (accept)
		headers[n++] = accept;
	if (r == 0 && q->request.content_type && asprintf(&type, "Content-Type: %s", q->request.content_type) < 0)
		r = -ENOMEM;
	if (type)
		headers[n++] = type;
	const char *line = auth_line(&q->session->auth[q->host]);
	if (!q->foreign && line)
		headers[n++] = line;
	for (size_t i = 0; !q->foreign && i < h->n_headers; i++)
		headers[n++] = h->headers[i];
	headers[n] = NULL;
	struct transfer_request request = {
		.url = q->url,
		.head = q->request.head,
		.post = q->request.post,
		.put = q->request.put,
		.headers = headers,
		.offset = q->request.offset,
		.body_max = q->request.body_max,
		.tls = { &h->ca_pem, q->foreign ? NULL : h->client_cert, q->foreign ? NULL : h->client_key,
			 !q->foreign && h->skip_verify },
		.direct = !q->foreign && host_is_loopback(h->label),
		.connect_timeout_ms = h->dial_timeout_ms,
		.stall_timeout_s = (long)q->session->worker->config->pull_progress_timeout_s,
		.total_timeout_s = q->request.data || q->request.put ? 0 : SMALL_TIMEOUT_S,
		.data = q->request.data ? pass_data : NULL,
		.done = answered,
		.ctx = q,
	};
	if (r == 0)
		r = transfer_start(q->session->worker->transfers, &request, &q->transfer);
	if (r < 0) {
		fault_errno(&q->fault, r, "send the request");
		host_failed(q);
	}
}

static void begin(void *ctx) {
	struct query *q = ctx;
	loop_source_free_p(&q->deferred);
	try_next(q);
}

int query_start(const struct query_request *request, struct query **ret_query, struct fault *fault) {
	struct query *q = calloc(1, sizeof(*q));
	if (!q)
		return fault_errno(fault, ENOMEM, "ask the registry");
	q->request = *request;
	q->wait_s = -1;
	q->session = session_ref(request->session);
	int r = loop_defer(request->session->worker->loop, begin, q, &q->deferred);
	if (r < 0) {
		query_free(q);
		return fault_errno(fault, r, "ask the registry");
	}
	*ret_query = q;
	return 0;
}
