/*
 * gRPC's length-prefixed messages: one byte of flags (1: compressed), four
 * bytes of length, the message. A unary request is exactly one of them, cut
 * into pieces anywhere. The length is judged as soon as it is there, before
 * any of the message is kept.
 */
#pragma once

#include "base/buffer.h"
#include "base/fault.h"

#include <stdbool.h>

#define FRAME_PREFIX 5

struct frame {
	uint8_t prefix[FRAME_PREFIX];
	size_t n_prefix;
	size_t size, limit; /* of the message; size once the prefix is complete */
	struct buffer body;
};

void frame_deinit(struct frame *f);
/* 0, or what is wrong with the request. */
int frame_feed(struct frame *f, const uint8_t *data, size_t n, struct fault *fault);
/* For a stream of messages: takes at most what belongs to the one that is being
 * received; how much is in *ret_taken. */
int frame_feed_one(struct frame *f, const uint8_t *data, size_t n, size_t *ret_taken, struct fault *fault);
bool frame_complete(const struct frame *f);
/* The next message may come. */
void frame_next(struct frame *f);
/* At the end of the request: whether exactly one message came. */
int frame_finish(const struct frame *f, struct fault *fault);

void frame_prefix(uint8_t ret_prefix[FRAME_PREFIX], size_t size);
