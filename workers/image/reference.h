/*
 * What a client calls an image, in its full form.
 *
 *   busybox                   docker.io/library/busybox:latest
 *   quay.example/a/b@sha256:… quay.example/a/b, by digest
 *   localhost:5000/x:1        localhost:5000/x:1
 *
 * The first component is a host when it has a dot, a colon or an upper-case
 * letter, or is "localhost". Pure; every byte of the input is checked, so that
 * host, path, tag and digest may be put into URLs and file names as they are.
 */
#pragma once

#include "base/fault.h"
#include "base/id.h"

#define REFERENCE_NAME_MAX 255 /* of host and path together */
#define REFERENCE_TAG_MAX 128
#define DIGEST_SIZE 72 /* "sha256:", 64 digits, NUL */

struct reference {
	char host[REFERENCE_NAME_MAX + 1]; /* "docker.io", "localhost:5000" */
	char path[REFERENCE_NAME_MAX + 1]; /* "library/busybox" */
	char tag[REFERENCE_TAG_MAX + 1];   /* empty when by digest */
	char digest[DIGEST_SIZE];	   /* empty when by tag */
};

int reference_parse(const char *text, struct reference *ret_reference, struct fault *fault);
