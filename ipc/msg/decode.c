/*
 * Strict decoding of protobuf that a peer has sent. protobuf-c itself accepts
 * strings with a NUL inside (and cuts them: a path check would see another
 * path than the kernel), invalid UTF-8, and nesting without end. All three are
 * refused by a walk over the bytes before protobuf-c sees them.
 */
#include "base/utf8.h"
#include "msg/msg.h"

#include <string.h>

#define DEPTH_MAX 64

static void *alloc_in_arena(void *arena, size_t size) {
	return arena_alloc(arena, size);
}

static void free_nothing(void *arena, void *p) {
}

ProtobufCAllocator msg_arena_allocator(struct arena *a) {
	return (ProtobufCAllocator){ .alloc = alloc_in_arena, .free = free_nothing, .allocator_data = a };
}

struct level {
	const ProtobufCMessageDescriptor *type;
	const uint8_t *end;
};

static bool varint(const uint8_t **p, const uint8_t *end, uint64_t *ret_value) {
	uint64_t v = 0;
	for (unsigned shift = 0; shift < 70 && *p < end; shift += 7) {
		uint8_t byte = *(*p)++;
		v |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
		if (!(byte & 0x80)) {
			*ret_value = v;
			return true;
		}
	}
	return false;
}

/* One length-delimited field: checks a string, enters a message, skips the rest. */
static bool delimited(struct level *stack, unsigned *depth, const uint8_t **p, uint64_t tag) {
	const struct level *here = &stack[*depth];
	uint64_t size;
	if (!varint(p, here->end, &size) || size > (uint64_t)(here->end - *p))
		return false;
	const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(here->type, (unsigned)tag);
	if (field && field->type == PROTOBUF_C_TYPE_MESSAGE) {
		if (*depth + 1 == DEPTH_MAX)
			return false;
		stack[++*depth] = (struct level){ .type = field->descriptor, .end = *p + size };
		return true;
	}
	if (field && field->type == PROTOBUF_C_TYPE_STRING && !utf8_valid(*p, size))
		return false;
	*p += size;
	return true;
}

bool msg_wire_valid(const ProtobufCMessageDescriptor *type, const uint8_t *p, size_t size) {
	struct level stack[DEPTH_MAX] = { { .type = type, .end = p + size } };
	unsigned depth = 0;
	for (;;) {
		while (p == stack[depth].end) {
			if (depth == 0)
				return true;
			depth--;
		}
		uint64_t key, ignored;
		const uint8_t *end = stack[depth].end;
		if (!varint(&p, end, &key) || key >> 3 == 0 || key >> 3 > 0x1fffffff)
			return false;
		switch (key & 7) {
		case 0:
			if (!varint(&p, end, &ignored))
				return false;
			break;
		case 1:
		case 5: {
			size_t width = (key & 7) == 1 ? 8 : 4;
			if ((size_t)(end - p) < width)
				return false;
			p += width;
			break;
		}
		case 2:
			if (!delimited(stack, &depth, &p, key >> 3))
				return false;
			break;
		default:
			return false;
		}
	}
}

ProtobufCMessage *msg_decode(const ProtobufCMessageDescriptor *type, struct arena *a, const uint8_t *data,
			     size_t size) {
	/* An empty message is valid, and may have no bytes to point to. */
	if (size > 0 && !msg_wire_valid(type, data, size))
		return NULL;
	ProtobufCAllocator allocator = msg_arena_allocator(a);
	return protobuf_c_message_unpack(type, &allocator, size, data);
}

size_t msg_body_size(const struct msg_body *b) {
	return b->message ? protobuf_c_message_get_packed_size(b->message) : b->size;
}

void msg_body_pack(const struct msg_body *b, uint8_t *bytes) {
	if (b->message)
		protobuf_c_message_pack(b->message, bytes);
	else if (b->size)
		memcpy(bytes, b->data, b->size);
}
