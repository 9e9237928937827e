/*
 * How a registry's demand for authentication is met: Basic, or a token that
 * its token server gives for user and password, for an identity token, or for
 * nobody in particular.
 *
 * Credentials go to the host they belong to and to the one token server
 * (realm) that this host names; never over plain http unless the host itself
 * is configured so, and never anywhere a redirect leads.
 */
#pragma once

#include "challenge.h"
#include "hosts.h"
#include "internal/image.pb-c.h"
#include "reference.h"
#include "transfer.h"

struct credentials {
	char *username, *password;
	char *identity_token, *registry_token;
	char *server; /* host they are for; NULL: the one that the reference names */
};

/* Takes the fields of a docker configuration too: auth is base64 of "user:password". */
int credentials_init(struct credentials *c, const Bulkhead__Credentials *given, struct fault *fault);
void credentials_deinit(struct credentials *c);
bool credentials_empty(const struct credentials *c);
/* Whether they may be shown to this host of a pull of reference. */
bool credentials_fit(const struct credentials *c, const struct reference *reference, const struct host *host);

/* What was learnt about one host during a pull. */
struct auth {
	char *line;	 /* "Authorization: ...", NULL: none needed so far */
	int64_t expires; /* clock_mono; 0: never */
	char *realm;	 /* origin that has seen the credentials */
};

void auth_deinit(struct auth *a);
/* The header line to send now; NULL: none. */
const char *auth_line(const struct auth *a);

struct auth_request {
	struct transfers *transfers;
	struct auth *auth;
	const struct host *host;
	const struct credentials *credentials; /* NULL: anonymous */
	const char *repository;
	bool push; /* what is asked for when the challenge doesn't say */
	const struct challenge *challenge;
	/* fault NULL: auth->line is there. Never called from within auth_start. */
	void (*done)(void *ctx, const struct fault *fault);
	void *ctx;
};

struct auth_call;
/* 0: auth->line is there at once, done will not be called; 1: *ret_call is
 * under way; negative: it can't be met, fault says why. */
int auth_start(const struct auth_request *request, struct auth_call **ret_call, struct fault *fault);
void auth_cancel(struct auth_call *c);
