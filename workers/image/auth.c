/*
 * A demand (challenge) becomes a header line: Basic at once, Bearer after a
 * request to the realm. The token server is asked once per demand and not
 * followed anywhere; what it gives is kept for the pull until it expires.
 */
#include "auth.h"

#include "base/clock.h"
#include "json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define TOKEN_REPLY_MAX (256 * 1024)
#define TOKEN_MAX (64 * 1024)
#define TOKEN_TIMEOUT_S 60
#define TOKEN_LIFE_S 60 /* when the server doesn't say */
#define CLIENT_ID "bulkhead"

struct auth_call {
	struct auth_request request;
	struct transfer *transfer;
	char *realm; /* origin */
};

/* --- base64 ---------------------------------------------------------------- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void base64_add(struct buffer *out, const char *text) {
	size_t n = strlen(text);
	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = 0;
		for (size_t k = 0; k < 3; k++)
			v = v << 8 | (i + k < n ? (uint8_t)text[i + k] : 0);
		char four[4];
		for (size_t k = 0; k < 4; k++)
			four[k] = i + k > n ? '=' : digits[v >> (18 - 6 * k) & 63];
		buffer_add(out, four, 4);
	}
}

/* NULL when it is no base64, or holds a NUL before its end. */
static char *base64_text(const char *text) {
	CLEANUP_BUFFER struct buffer out = { 0 };
	uint32_t v = 0;
	int bits = 0;
	for (; *text && *text != '='; text++) {
		const char *d = strchr(digits, *text);
		if (!d)
			return NULL;
		v = v << 6 | (uint32_t)(d - digits);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			buffer_add(&out, &(char){ (char)(v >> bits) }, 1);
		}
	}
	while (out.size > 0 && out.data[out.size - 1] == '\0')
		out.size--;
	return memchr(out.data ? (char *)out.data : "", '\0', out.size) ? NULL : buffer_take_text(&out);
}

/* --- credentials ----------------------------------------------------------- */

/* Header lines are made of these. */
static bool printable(const char *text) {
	for (; *text; text++)
		if ((unsigned char)*text <= 0x20 || *text == 0x7f)
			return false;
	return true;
}

static int copy(char **ret, const char *text) {
	if (!text || !text[0])
		return 0;
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

/* "https://host:port/v1/" names the same as "host:port". */
static int copy_host(char **ret, const char *text) {
	const char *scheme = text ? strstr(text, "://") : NULL;
	if (scheme)
		text = scheme + 3;
	if (!text || !text[0])
		return 0;
	*ret = strndup(text, strcspn(text, "/"));
	return *ret ? 0 : -ENOMEM;
}

static int split_auth(struct credentials *c, const char *auth, struct fault *fault) {
	CLEANUP_FREE char *text = base64_text(auth);
	char *colon = text ? strchr(text, ':') : NULL;
	if (!colon)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "the credentials' auth field isn't base64 of \"user:password\"");
	*colon = '\0';
	if (copy(&c->username, text) < 0 || copy(&c->password, colon + 1) < 0)
		return fault_errno(fault, ENOMEM, "credentials");
	return 0;
}

int credentials_init(struct credentials *c, const Bulkhead__Credentials *given, struct fault *fault) {
	*c = (struct credentials){ 0 };
	if (!given)
		return 0;
	int r = 0;
	if (copy(&c->username, given->username) < 0 || copy(&c->password, given->password) < 0 ||
	    copy(&c->identity_token, given->identity_token) < 0 ||
	    copy(&c->registry_token, given->registry_token) < 0 || copy_host(&c->server, given->server_address) < 0)
		r = fault_errno(fault, ENOMEM, "credentials");
	if (r == 0 && !c->username && !c->identity_token && !c->registry_token && given->auth[0])
		r = split_auth(c, given->auth, fault);
	if (r == 0 && c->registry_token && !printable(c->registry_token))
		r = fault_set(fault, FAULT_INVALID_ARGUMENT, "the registry token holds characters that no token has");
	if (r < 0)
		credentials_deinit(c);
	return r;
}

void credentials_deinit(struct credentials *c) {
	char *secrets[] = { c->password, c->identity_token, c->registry_token };
	for (size_t i = 0; i < ARRAY_SIZE(secrets); i++)
		if (secrets[i])
			explicit_bzero(secrets[i], strlen(secrets[i]));
	free(c->username);
	free(c->password);
	free(c->identity_token);
	free(c->registry_token);
	free(c->server);
	*c = (struct credentials){ 0 };
}

bool credentials_empty(const struct credentials *c) {
	return !c->username && !c->identity_token && !c->registry_token;
}

static bool same_registry(const char *a, const char *b) {
	static const char *const hub[] = { "docker.io", "index.docker.io", "registry-1.docker.io" };
	bool a_hub = false, b_hub = false;
	for (size_t i = 0; i < ARRAY_SIZE(hub); i++) {
		a_hub |= strcasecmp(a, hub[i]) == 0;
		b_hub |= strcasecmp(b, hub[i]) == 0;
	}
	return (a_hub && b_hub) || strcasecmp(a, b) == 0;
}

bool credentials_fit(const struct credentials *c, const struct reference *reference, const struct host *host) {
	if (credentials_empty(c))
		return false;
	if (!c->server)
		return !host->mirror;
	return same_registry(c->server, host->mirror ? host->label : reference->host);
}

/* --- what was learnt ------------------------------------------------------- */

static void forget_line(struct auth *a) {
	if (a->line)
		explicit_bzero(a->line, strlen(a->line));
	free(a->line);
	a->line = NULL;
	a->expires = 0;
}

void auth_deinit(struct auth *a) {
	forget_line(a);
	free(a->realm);
	*a = (struct auth){ 0 };
}

const char *auth_line(const struct auth *a) {
	return a->line && (!a->expires || clock_mono() < a->expires) ? a->line : NULL;
}

static int set_line(struct auth *a, const char *scheme, const char *token, int64_t expires, struct fault *fault) {
	forget_line(a);
	if (asprintf(&a->line, "Authorization: %s %s", scheme, token) < 0) {
		a->line = NULL;
		return fault_errno(fault, ENOMEM, "authenticate");
	}
	a->expires = expires;
	return 0;
}

/* user:password in base64. */
static char *basic_token(const struct credentials *c) {
	CLEANUP_BUFFER struct buffer pair = { 0 }, out = { 0 };
	buffer_addf(&pair, "%s:%s", c->username, c->password ? c->password : "");
	CLEANUP_FREE char *text = buffer_take_text(&pair);
	if (!text)
		return NULL;
	base64_add(&out, text);
	explicit_bzero(text, strlen(text));
	return buffer_take_text(&out);
}

static int answer_basic(const struct auth_request *q, struct fault *fault) {
	if (!q->credentials || !q->credentials->username)
		return fault_set(fault, FAULT_UNAUTHENTICATED, "it wants a user name and a password");
	CLEANUP_FREE char *token = basic_token(q->credentials);
	return token ? set_line(q->auth, "Basic", token, 0, fault) : fault_errno(fault, ENOMEM, "authenticate");
}

/* --- the token server ------------------------------------------------------ */

static void call_free(struct auth_call *c) {
	free(c->realm);
	free(c);
}

void auth_cancel(struct auth_call *c) {
	if (!c)
		return;
	transfer_cancel(c->transfer);
	call_free(c);
}

static int take_token(struct auth_call *c, const struct transfer_response *response, struct fault *fault) {
	CLEANUP_JSON struct json *doc = NULL;
	int status = response->head.status;
	if (status == 401 || status == 403)
		return fault_set(fault, FAULT_UNAUTHENTICATED, "its token server %s refused %s (%d)", c->realm,
				 c->request.credentials ? "the credentials" : "anonymous access", status);
	if (status != 0 && (status < 200 || status > 299))
		return fault_set(fault, status >= 500 || status == 429 ? FAULT_UNAVAILABLE : FAULT_UNKNOWN,
				 "its token server %s answered %d", c->realm, status);
	if (response->failure != TRANSFER_OK)
		return fault_set(fault, FAULT_UNAVAILABLE, "its token server %s: %s", c->realm, response->error);
	int r = json_parse(response->body.data, response->body.size, &doc, fault);
	if (r < 0)
		return fault_prefix(fault, r, "the answer of its token server %s", c->realm);
	const char *token = json_text(doc, "token");
	if (!token[0])
		token = json_text(doc, "access_token");
	if (!token[0] || strlen(token) > TOKEN_MAX || !printable(token))
		return fault_set(fault, FAULT_UNAUTHENTICATED, "its token server %s gave no usable token", c->realm);
	int64_t life = 0;
	if (!json_integer(json_get(doc, "expires_in"), &life) || life <= 0)
		life = TOKEN_LIFE_S;
	life = MIN(life, INT64_C(86400));
	/* Leave a tenth for the way. */
	return set_line(c->request.auth, "Bearer", token, clock_mono() + life * NS_PER_SEC / 10 * 9, fault);
}

static void token_done(void *ctx, struct transfer_response *response) {
	struct auth_call *c = ctx;
	struct auth_request q = c->request;
	struct fault fault;
	int r = take_token(c, response, &fault);
	if (response->body.data)
		explicit_bzero(response->body.data, response->body.size);
	call_free(c);
	q.done(q.ctx, r < 0 ? &fault : NULL);
}

/* The realm must be as safe as the host, and one only may see the credentials. */
static int check_realm(const struct auth_request *q, const char *url, char **ret_origin, struct fault *fault) {
	CLEANUP_FREE char *origin = NULL;
	if (url_origin(url, &origin) < 0)
		return fault_set(fault, FAULT_UNAUTHENTICATED, "its token server \"%.200s\" is no http or https URL",
				 url);
	if (strncmp(origin, "http:", 5) == 0 && strncmp(q->host->base, "https:", 6) == 0)
		return fault_set(fault, FAULT_UNAUTHENTICATED,
				 "it names a token server without encryption (%s), which is never asked", origin);
	if (q->credentials) {
		if (q->auth->realm && strcmp(q->auth->realm, origin) != 0)
			return fault_set(
			    fault, FAULT_UNAUTHENTICATED,
			    "it names a second token server (%s after %s); the credentials went to the first only",
			    origin, q->auth->realm);
		if (!q->auth->realm && !(q->auth->realm = strdup(origin)))
			return fault_errno(fault, ENOMEM, "authenticate");
	}
	*ret_origin = take_ptr(origin);
	return 0;
}

/* The certificate settings are the host's; what gives something away or lets
 * the guard down stays with the host itself. */
static struct transfer_tls realm_tls(const struct host *host, const char *origin) {
	CLEANUP_FREE char *own = NULL;
	struct transfer_tls tls = { .ca_pem = &host->ca_pem };
	if (url_origin(host->base, &own) == 0 && strcmp(own, origin) == 0) {
		tls.client_cert = host->client_cert;
		tls.client_key = host->client_key;
		tls.skip_verify = host->skip_verify;
	}
	return tls;
}

/* The query of a GET, or the form of a POST with an identity token. */
static int token_parameters(const struct auth_request *q, char **url, struct buffer *form) {
	const struct challenge *ch = q->challenge;
	CLEANUP_FREE char *scope = NULL;
	if (asprintf(&scope, "repository:%s:%s", q->repository, q->push ? "pull,push" : "pull") < 0) {
		scope = NULL;
		return -ENOMEM;
	}
	const char *asked = ch->scope[0] ? ch->scope : scope;
	if (q->credentials && q->credentials->identity_token) {
		form_add(form, "grant_type", "refresh_token");
		form_add(form, "service", ch->service);
		form_add(form, "client_id", CLIENT_ID);
		form_add(form, "scope", asked);
		form_add(form, "refresh_token", q->credentials->identity_token);
		buffer_add(form, "", 1);
		return form->failed ? -ENOMEM : 0;
	}
	int r = ch->service[0] ? url_add(url, "service", ch->service) : 0;
	return r < 0 ? r : url_add(url, "scope", asked);
}

static int ask_realm(struct auth_call *c, const char *realm, struct fault *fault) {
	struct auth_request *q = &c->request;
	CLEANUP_FREE char *url = NULL;
	CLEANUP_FREE char *basic = NULL;
	CLEANUP_FREE char *line = NULL;
	CLEANUP_BUFFER struct buffer form = { 0 };
	int r = url_join(realm, NULL, &url);
	if (r == 0)
		r = token_parameters(q, &url, &form);
	if (r < 0)
		return fault_errno(fault, r, "its token server \"%.200s\"", realm);
	if (!form.size && q->credentials && q->credentials->username) {
		basic = basic_token(q->credentials);
		if (!basic || asprintf(&line, "Authorization: Basic %s", basic) < 0)
			return fault_errno(fault, ENOMEM, "authenticate");
	}
	r = transfer_start(q->transfers,
			   &(struct transfer_request){
			       .url = url,
			       .form = form.size ? (char *)form.data : NULL,
			       .headers = (const char *const[]){ "Accept: application/json", line, NULL },
			       .body_max = TOKEN_REPLY_MAX,
			       .tls = realm_tls(q->host, c->realm),
			       .total_timeout_s = TOKEN_TIMEOUT_S,
			       .connect_timeout_ms = q->host->dial_timeout_ms,
			       .done = token_done,
			       .ctx = c,
			   },
			   &c->transfer);
	return r < 0 ? fault_errno(fault, r, "its token server %s", c->realm) : 0;
}

static int answer_bearer(const struct auth_request *q, struct auth_call **ret_call, struct fault *fault) {
	const struct credentials *own = q->credentials;
	if (own && own->registry_token)
		return set_line(q->auth, "Bearer", own->registry_token, 0, fault);
	struct auth_call *c = calloc(1, sizeof(*c));
	if (!c)
		return fault_errno(fault, ENOMEM, "authenticate");
	c->request = *q;
	int r = check_realm(q, q->challenge->realm, &c->realm, fault);
	if (r == 0)
		r = ask_realm(c, q->challenge->realm, fault);
	c->request.challenge = NULL; /* the caller's, for the call only */
	if (r < 0) {
		call_free(c);
		return r;
	}
	*ret_call = c;
	return 1;
}

int auth_start(const struct auth_request *request, struct auth_call **ret_call, struct fault *fault) {
	switch (request->challenge->scheme) {
	case CHALLENGE_BASIC:
		return answer_basic(request, fault);
	case CHALLENGE_BEARER:
		return answer_bearer(request, ret_call, fault);
	default:
		return fault_set(fault, FAULT_UNAUTHENTICATED,
				 "it answers 401 without a way that is known (Basic, Bearer)");
	}
}
