/*
 * A pipe that trails a file: bytes go in as far as the file has them, by
 * splice, so that they pass through no memory of ours. The file is the only
 * buffer; a slow reader holds up nobody but itself.
 */
#pragma once

#include "base/fault.h"
#include "loop/loop.h"

struct feed;

struct feed_options {
	struct loop *loop;
	int file;      /* duplicated */
	int pipe;      /* taken, even on error */
	uint64_t size; /* of the whole */
	/* All of it is in the pipe (fault NULL), or the reader is gone. Called
	 * once, from the loop or from feed_to. */
	void (*done)(void *ctx, const struct fault *fault);
	void *ctx;
};

int feed_new(const struct feed_options *options, struct feed **ret_feed, struct fault *fault);
/* Closes the pipe. */
void feed_free(struct feed *f);
/* The file is good up to here. The feed may be gone when it returns. */
void feed_to(struct feed *f, uint64_t end);
