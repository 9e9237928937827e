#include "workers/api/frame.h"

/* Memory for a message grows as it arrives, from at most this. */
#define FIRST_RESERVE 65536

void frame_deinit(struct frame *f) {
	buffer_deinit(&f->body);
}

static int prefix_check(struct frame *f, struct fault *fault) {
	f->size = (size_t)f->prefix[1] << 24 | (size_t)f->prefix[2] << 16 | (size_t)f->prefix[3] << 8 | f->prefix[4];
	if (f->prefix[0] == 1)
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "the request is compressed; send it with grpc-encoding identity");
	if (f->prefix[0] != 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the message prefix has unknown flags 0x%02x",
				 f->prefix[0]);
	if (f->size > f->limit)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "the request has %zu bytes, the limit is %zu",
				 f->size, f->limit);
	buffer_reserve(&f->body, MIN(f->size, FIRST_RESERVE));
	return 0;
}

int frame_feed(struct frame *f, const uint8_t *data, size_t n, struct fault *fault) {
	if (n == 0)
		return 0;
	if (f->n_prefix < FRAME_PREFIX) {
		size_t k = MIN(n, FRAME_PREFIX - f->n_prefix);
		memcpy(f->prefix + f->n_prefix, data, k);
		f->n_prefix += k;
		data += k;
		n -= k;
		if (f->n_prefix < FRAME_PREFIX)
			return 0;
		int r = prefix_check(f, fault);
		if (r < 0)
			return r;
	}
	if (n > f->size - f->body.size)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "more than one message came for a unary call");
	buffer_add(&f->body, data, n);
	if (f->body.failed)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "no memory for a request of %zu bytes", f->size);
	return 0;
}

int frame_feed_one(struct frame *f, const uint8_t *data, size_t n, size_t *ret_taken, struct fault *fault) {
	size_t take = MIN(n, FRAME_PREFIX - f->n_prefix);
	*ret_taken = take;
	if (take > 0) {
		int r = frame_feed(f, data, take, fault);
		if (r < 0)
			return r;
	}
	if (f->n_prefix < FRAME_PREFIX)
		return 0;
	size_t rest = MIN(n - take, f->size - f->body.size);
	*ret_taken += rest;
	return frame_feed(f, data + take, rest, fault);
}

bool frame_complete(const struct frame *f) {
	return f->n_prefix == FRAME_PREFIX && f->body.size == f->size;
}

void frame_next(struct frame *f) {
	buffer_deinit(&f->body);
	f->n_prefix = 0;
	f->size = 0;
}

int frame_finish(const struct frame *f, struct fault *fault) {
	if (f->n_prefix == 0)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "no message came for a unary call");
	if (f->n_prefix < FRAME_PREFIX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "the request ended within its prefix, after %zu of %d bytes", f->n_prefix,
				 FRAME_PREFIX);
	if (f->body.size < f->size)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the request ended after %zu of %zu bytes",
				 f->body.size, f->size);
	return 0;
}

void frame_prefix(uint8_t ret_prefix[FRAME_PREFIX], size_t size) {
	ret_prefix[0] = 0;
	ret_prefix[1] = (uint8_t)(size >> 24);
	ret_prefix[2] = (uint8_t)(size >> 16);
	ret_prefix[3] = (uint8_t)(size >> 8);
	ret_prefix[4] = (uint8_t)size;
}
