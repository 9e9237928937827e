/*
 * Image references as people write them, and the one full form of each:
 *
 *   busybox                 docker.io/library/busybox:latest
 *   host:5000/a/b           host:5000/a/b:latest
 *   host/a:1@sha256:...     host/a@sha256:... (a digest says more than a tag)
 */
#pragma once

#include "base/fault.h"

#include <stdbool.h>

#define REFERENCE_MAX 512

struct reference {
	char repository[REFERENCE_MAX]; /* "host/path" */
	char tag[129];			/* empty with a digest */
	char digest[72];		/* "sha256:..." or empty */
};

int reference_parse(const char *text, struct reference *ret_ref, struct fault *fault) NODISCARD;
/* "repository:tag" or "repository@digest". */
void reference_format(const struct reference *ref, char *ret_text, size_t size);
