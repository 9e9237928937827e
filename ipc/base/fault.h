/*
 * How a request fails: a code that the client's machine understands and one
 * sentence that the client reads. The codes are gRPC's own numbers, so no
 * dialect has to translate them twice.
 *
 * A function that can fail in a way that a user should read about takes a
 * struct fault as its last argument, fills it where the failure happens, and
 * returns the negative errno; callers put what they were doing in front with
 * fault_prefix and return the same number:
 *
 *     if (mount_attach(fd, path) < 0)
 *             return fault_errno(fault, errno, "mount \"%s\"", path);
 *     ...
 *     r = container_mounts(c, fault);
 *     if (r < 0)
 *             return fault_prefix(fault, r, "create container \"%s\"", c->name);
 *
 * gives: create container "web": mount "/data": No such file or directory
 */
#pragma once

#include "base/macros.h"

enum fault_code {
	FAULT_NONE = 0,
	FAULT_CANCELLED = 1,
	FAULT_UNKNOWN = 2,
	FAULT_INVALID_ARGUMENT = 3,
	FAULT_DEADLINE_EXCEEDED = 4,
	FAULT_NOT_FOUND = 5,
	FAULT_ALREADY_EXISTS = 6,
	FAULT_PERMISSION_DENIED = 7,
	FAULT_RESOURCE_EXHAUSTED = 8,
	FAULT_FAILED_PRECONDITION = 9,
	FAULT_ABORTED = 10,
	FAULT_OUT_OF_RANGE = 11,
	FAULT_UNIMPLEMENTED = 12,
	FAULT_INTERNAL = 13,
	FAULT_UNAVAILABLE = 14,
	FAULT_DATA_LOSS = 15,
	FAULT_UNAUTHENTICATED = 16,
};

#define FAULT_TEXT_MAX 1024

struct fault {
	enum fault_code code;
	char text[FAULT_TEXT_MAX]; /* cut with "..." when longer; always valid UTF-8 */
};

/* Sets code and sentence; returns a negative errno that fits the code. */
int fault_set(struct fault *f, enum fault_code code, const char *format, ...) PRINTF(3, 4);
/* "<sentence>: <strerror>"; err is positive or negative. The code follows from
 * it (ENOENT: NOT_FOUND, ENOSPC: RESOURCE_EXHAUSTED, ...). Returns -|err|. */
int fault_errno(struct fault *f, int err, const char *format, ...) PRINTF(3, 4);
/* Puts "<sentence>: " in front and returns r. */
int fault_prefix(struct fault *f, int r, const char *format, ...) PRINTF(3, 4);

/* The field's name of a code: "NOT_FOUND". */
const char *fault_code_name(enum fault_code code);
