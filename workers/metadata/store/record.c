/* The header is in the host's byte order: a database doesn't move between
 * machines, and a foreign order fails the magic. */
#include "workers/metadata/store/record.h"

#include <errno.h>
#include <string.h>

#define RECORD_MAGIC 0x31526862 /* "bhR1" */
#define RECORD_VERSION 1

struct header {
	uint32_t magic;
	uint16_t version, type;
	uint32_t size, reserved;
	uint64_t sequence, checksum;
};
_Static_assert(sizeof(struct header) == 32, "stored");

/* FNV-1a, 64 bits. */
static uint64_t hash_add(uint64_t h, const void *data, size_t n) {
	for (const uint8_t *p = data, *end = p + n; p < end; p++)
		h = (h ^ *p) * UINT64_C(0x100000001b3);
	return h;
}

static uint64_t checksum(const struct header *h, const char *key, const uint8_t *payload) {
	uint64_t sum = hash_add(UINT64_C(0xcbf29ce484222325), h, offsetof(struct header, checksum));
	sum = hash_add(sum, key, strlen(key) + 1);
	return hash_add(sum, payload, h->size);
}

int record_pack(const char *key, enum record_type type, uint64_t sequence, const ProtobufCMessage *m,
		struct buffer *ret_bytes) {
	size_t size = protobuf_c_message_get_packed_size(m);
	if (size > RECORD_MAX || strlen(key) > RECORD_KEY_MAX)
		return -EFBIG;
	uint8_t *to = buffer_reserve(ret_bytes, sizeof(struct header) + size);
	if (!to)
		return -ENOMEM;
	protobuf_c_message_pack(m, to + sizeof(struct header));
	struct header h = {
		.magic = RECORD_MAGIC,
		.version = RECORD_VERSION,
		.type = (uint16_t)type,
		.size = (uint32_t)size,
		.sequence = sequence,
	};
	h.checksum = checksum(&h, key, to + sizeof(h));
	memcpy(to, &h, sizeof(h));
	ret_bytes->size += sizeof(h) + size;
	return 0;
}

int record_check(const char *key, const uint8_t *bytes, size_t size, struct record *ret_record,
		 const char **ret_reason) {
	struct header h = { 0 };
	const char *reason = NULL;
	if (size < sizeof(h))
		reason = "the record is shorter than its header";
	else
		memcpy(&h, bytes, sizeof(h));
	if (!reason && h.magic != RECORD_MAGIC)
		reason = "the record doesn't begin as one";
	if (!reason && h.size != size - sizeof(h))
		reason = "the record's length isn't the one it was stored with";
	if (!reason && h.checksum != checksum(&h, key, bytes + sizeof(h)))
		reason = "the record's checksum doesn't fit its content";
	if (!reason && h.version != RECORD_VERSION)
		reason = "the record was written by a newer version";
	if (reason) {
		*ret_reason = reason;
		return -EBADMSG;
	}
	*ret_record = (struct record){
		.key = key,
		.type = h.type,
		.sequence = h.sequence,
		.data = bytes + sizeof(h),
		.size = h.size,
	};
	return 0;
}
