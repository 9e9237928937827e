#include "workers/snapshot/decode/decode.h"

#include "base/fd.h"
#include "workers/snapshot/decode/internal.h"

#include <string.h>

#define IN_SIZE (256 * 1024)
#define OUT_SIZE (256 * 1024)

struct decoder {
	struct stream stream;
	int fd;
	struct decode_limits limits;
	struct digest *digest;
	const struct decode_format *format; /* NULL: plain, or not known yet */
	const char *name;
	void *state;
	bool eof, finished;
	const uint8_t *in; /* read and not used yet */
	size_t in_left;
	uint64_t in_total, out_total;
	uint8_t in_buffer[IN_SIZE], out_buffer[OUT_SIZE];
};

static int read_input(struct decoder *d, struct fault *fault) {
	for (;;) {
		ssize_t n = read(d->fd, d->in_buffer, sizeof(d->in_buffer));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fault_errno(fault, errno, "read the layer's bytes");
		d->eof = n == 0;
		d->in = d->in_buffer;
		d->in_left = (size_t)n;
		d->in_total += (size_t)n;
		return 0;
	}
}

/* Names what it can't read, when it can. */
static int refuse_format(const uint8_t *in, size_t n, struct fault *fault) {
	static const struct {
		const char *name, *magic;
	} others[] = { { "xz", "\xfd"
			       "7zXZ" },
		       { "bzip2", "BZh" },
		       { "lz4", "\x04\x22\x4d\x18" } };
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (n >= strlen(others[i].magic) && memcmp(in, others[i].magic, strlen(others[i].magic)) == 0)
			return fault_set(fault, FAULT_UNIMPLEMENTED,
					 "the layer is compressed by %s; gzip, zstd and plain tar are read",
					 others[i].name);
	return 0;
}

/* The first bytes are looked at in place; a pipe may deliver them one by one. */
static int detect_format(struct decoder *d, struct fault *fault) {
	static const uint8_t zstd_magic[] = { 0x28, 0xb5, 0x2f, 0xfd };
	size_t have = 0;
	while (have < 6 && !d->eof) {
		ssize_t n = read(d->fd, d->in_buffer + have, sizeof(d->in_buffer) - have);
		if (n < 0 && errno != EINTR)
			return fault_errno(fault, errno, "read the layer's bytes");
		d->eof = n == 0;
		have += n > 0 ? (size_t)n : 0;
	}
	d->in = d->in_buffer;
	d->in_left = d->in_total = have;
	if (have == 0)
		return fault_set(fault, FAULT_DATA_LOSS, "no byte of the layer arrived");
	/* zstd: a frame, or a skippable one in front */
	bool skippable = have >= 4 && (d->in[0] & 0xf0) == 0x50 && memcmp(d->in + 1, "\x2a\x4d\x18", 3) == 0;
	if (have >= 2 && d->in[0] == 0x1f && d->in[1] == 0x8b)
		d->format = &decode_gzip;
	else if (skippable || (have >= 4 && memcmp(d->in, zstd_magic, 4) == 0))
		d->format = &decode_zstd;
	d->name = d->format ? d->format->name : "plain";
	if (!d->format)
		return refuse_format(d->in, have, fault);
	d->state = d->format->new ();
	return d->state ? 0 : fault_errno(fault, ENOMEM, "decode the layer");
}

static int check_limits(const struct decoder *d, struct fault *fault) {
	const struct decode_limits *l = &d->limits;
	if (l->size && d->out_total > l->size)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED,
				 "the layer is larger than %llu bytes when uncompressed", (unsigned long long)l->size);
	if (l->ratio && d->out_total > l->ratio_from && d->out_total / l->ratio > d->in_total)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED,
				 "the layer grows to more than %llu times its size: a decompression bomb",
				 (unsigned long long)l->ratio);
	return 0;
}

/* Fills the output buffer as far as the input allows; 0 at the end. */
static ssize_t decode_some(struct decoder *d, const uint8_t **ret_data, struct fault *fault) {
	struct decode_step s = { .out = d->out_buffer, .out_left = OUT_SIZE };
	while (s.out_left > 0 && !d->finished) {
		if (d->in_left == 0 && !d->eof) {
			int r = read_input(d, fault);
			if (r < 0)
				return r;
		}
		size_t in_before = s.in_left = d->in_left, out_before = s.out_left;
		s.in = d->in;
		int r = d->format->step(d->state, &s, fault);
		if (r < 0)
			return r;
		d->in = s.in;
		d->in_left = s.in_left;
		d->finished = s.finished;
		bool idle = s.in_left == in_before && s.out_left == out_before;
		if (idle && (d->eof || d->in_left) && !d->finished) {
			if (d->in_left || !d->format->complete(d->state))
				return fault_set(fault, FAULT_DATA_LOSS, "the layer's %s data ends too early", d->name);
			d->finished = true;
		}
	}
	*ret_data = d->out_buffer;
	return (ssize_t)(OUT_SIZE - s.out_left);
}

static ssize_t plain_some(struct decoder *d, const uint8_t **ret_data, struct fault *fault) {
	if (d->in_left == 0 && !d->eof) {
		int r = read_input(d, fault);
		if (r < 0)
			return r;
	}
	*ret_data = d->in;
	size_t n = d->in_left;
	d->in_left = 0;
	return (ssize_t)n;
}

static ssize_t decoder_next(struct stream *stream, const uint8_t **ret_data, struct fault *fault) {
	struct decoder *d = container_of(stream, struct decoder, stream);
	if (!d->name) {
		int r = detect_format(d, fault);
		if (r < 0)
			return r;
	}
	ssize_t n = d->format ? decode_some(d, ret_data, fault) : plain_some(d, ret_data, fault);
	if (n <= 0)
		return n;
	d->out_total += (uint64_t)n;
	int r = check_limits(d, fault);
	if (r == 0 && digest_add(d->digest, *ret_data, (size_t)n) < 0)
		r = fault_set(fault, FAULT_INTERNAL, "the digest can't be computed");
	return r < 0 ? r : n;
}

int decoder_new(int fd, const struct decode_limits *limits, struct decoder **ret_decoder) {
	struct decoder *d = malloc(sizeof(*d));
	if (!d)
		return -ENOMEM;
	memset(d, 0, offsetof(struct decoder, in_buffer));
	d->stream.next = decoder_next;
	d->fd = fd;
	d->limits = *limits;
	d->digest = digest_new();
	if (!d->digest) {
		free(d);
		return -ENOMEM;
	}
	*ret_decoder = d;
	return 0;
}

void decoder_free(struct decoder *d) {
	if (!d)
		return;
	if (d->state)
		d->format->free(d->state);
	digest_free(d->digest);
	free(d);
}

struct stream *decoder_stream(struct decoder *d) {
	return &d->stream;
}

const char *decoder_format(const struct decoder *d) {
	return d->name;
}

uint64_t decoder_size(const struct decoder *d) {
	return d->out_total;
}

int decoder_finish(struct decoder *d, char ret_digest[72], struct fault *fault) {
	const uint8_t *data;
	ssize_t n;
	while ((n = decoder_next(&d->stream, &data, fault)) > 0)
		continue;
	if (n < 0)
		return (int)n;
	/* The writer may still have something to say after the data's end; who
	 * closes early makes it fail. */
	while (!d->eof) {
		int r = read_input(d, fault);
		if (r < 0)
			return r;
	}
	int r = digest_end(d->digest, ret_digest);
	return r < 0 ? fault_set(fault, FAULT_INTERNAL, "the digest can't be computed") : 0;
}
