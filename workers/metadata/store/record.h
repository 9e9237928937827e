/*
 * The bytes of one stored record: a header that tells a whole record from a
 * damaged one, then a packed protobuf message. The checksum covers header, key
 * and payload, so a record that sits under another key's name doesn't pass,
 * and a salvage can recognise records in the raw bytes of a broken file.
 */
#pragma once

#include "base/buffer.h"

#include <protobuf-c/protobuf-c.h>

/* Stored; numbers are never reused. */
enum record_type {
	RECORD_SANDBOX = 1,
	RECORD_CONTAINER = 2,
	RECORD_IMAGE = 3,
	RECORD_LAYER = 4,
	RECORD_EVENT = 5,
	RECORD_OBJECT = 6,
	RECORD_CTASK = 7,
	RECORD_CSANDBOX = 8,
	RECORD_CHECKPOINT = 9,
};

/* Larger than any label set that fits a CRI request of ordinary use, small
 * enough to keep transactions cheap. */
#define RECORD_MAX (1024 * 1024)
#define RECORD_KEY_MAX 256

struct record {
	const char *key;
	enum record_type type;
	uint64_t sequence; /* grows with each write; the higher one is the later */
	const uint8_t *data;
	size_t size;
};

/* Appends header and packed message; -EFBIG above RECORD_MAX, -ENOMEM. */
int record_pack(const char *key, enum record_type type, uint64_t sequence, const ProtobufCMessage *m,
		struct buffer *ret_bytes) NODISCARD;
/* Looks at bytes without copying. On damage -EBADMSG and *ret_reason, one
 * sentence, says what is wrong. */
int record_check(const char *key, const uint8_t *bytes, size_t size, struct record *ret_record,
		 const char **ret_reason) NODISCARD;
