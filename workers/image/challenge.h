/* What a registry demands: the WWW-Authenticate header, RFC 9110 section 11.
 * Pure; texts are bounded and hold no control characters. */
#pragma once

#include "base/macros.h"

#include <stdbool.h>

#define CHALLENGE_TEXT_MAX 1024

enum challenge_scheme { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER };

struct challenge {
	enum challenge_scheme scheme;
	char realm[CHALLENGE_TEXT_MAX];
	char service[CHALLENGE_TEXT_MAX];
	char scope[CHALLENGE_TEXT_MAX];
	char error[64];
};

/* Looks at one header value, which may hold several challenges, and keeps the
 * best: Bearer with a realm before Basic before what *c had. What can't be
 * parsed is passed over. */
void challenge_parse(const char *value, struct challenge *c);
