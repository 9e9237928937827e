/*
 * A child that writes a checkpoint's archive from and to a request's descriptors;
 * the answer is the archive's digest. A caller that gives up ends it.
 */
#pragma once

#include "base/sha256.h"
#include "loop/child.h"
#include "msg/msg.h"

#define ARCHIVE_CHILD_FDS 4

/* In the request's arena, as a part of what run sees. */
struct archive_child {
	struct msg_request *request;
	struct child *child;
	int fds[ARCHIVE_CHILD_FDS]; /* as they came with the request */
};

/* The child keeps the request's descriptors, which are closed here, and another
 * one. run gives its values by archive_child_result. Negative: an errno, and the
 * request is as it was. */
int archive_child_start(struct archive_child *x, struct loop *loop, struct msg_request *r, const char *name,
			int another, int (*run)(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault),
			void *arg);
void archive_child_result(uint64_t ret_values[CHILD_VALUES], const char digest[DIGEST_SIZE], uint64_t size);
