/*
 * Translators between a dialect's messages and the internal rows. The first
 * byte chooses a method that has one, the second the direction, the rest is the
 * message.
 *
 * Invariants beyond the sanitisers': a translation has the type of the other
 * side and packs to what decodes again; a refusal has a sentence.
 */
#include "tests/fuzz/fuzz.h"
#include "workers/api/services.h"

#include <stdlib.h>
#include <string.h>

#define METHODS_MAX 64
#define ARENA_MAX (64u << 20)

static void require(bool condition) {
	if (!condition)
		abort();
}

/* The n-th method with a translator, modulo how many there are. */
static const struct grpc_method *choose(unsigned n, const struct grpc_service **ret_service,
					const ProtobufCMethodDescriptor **ret_types) {
	static const struct grpc_method *methods[METHODS_MAX];
	static const struct grpc_service *owners[METHODS_MAX];
	static unsigned count;
	for (const struct grpc_service *s = services; count == 0 && s->name; s++)
		for (const struct grpc_method *m = s->methods; m->name; m++)
			if (m->translator && count < METHODS_MAX) {
				owners[count] = s;
				methods[count++] = m;
			}
	n %= count;
	*ret_service = owners[n];
	*ret_types = protobuf_c_service_descriptor_get_method_by_name(owners[n]->api, methods[n]->name);
	return methods[n];
}

static void check(const ProtobufCMessage *m, const ProtobufCMessageDescriptor *type, struct arena *arena) {
	require(m->descriptor == type);
	size_t size = protobuf_c_message_get_packed_size(m);
	uint8_t *packed = arena_alloc(arena, size + 1);
	if (!packed)
		return;
	require(protobuf_c_message_pack(m, packed) == size);
	struct arena again;
	arena_init(&again, ARENA_MAX);
	require(msg_decode(type, &again, packed, size) != NULL);
	arena_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	const struct grpc_service *service;
	const ProtobufCMethodDescriptor *types;
	if (size < 2)
		return 0;
	const struct grpc_method *m = choose(data[0], &service, &types);
	const struct msg_row *row = msg_row_find(m->number);
	bool reply = data[1] & 1;
	struct arena arena;
	struct fault fault = { 0 };
	arena_init(&arena, ARENA_MAX);
	struct grpc_translation t = { .arena = &arena, .service = service };
	ProtobufCMessage *out = NULL, *in = msg_decode(reply ? row->reply : types->input, &arena, data + 2, size - 2);
	int r = 0;
	if (in)
		r = reply ? m->translator->reply(&t, in, &out, &fault) : m->translator->request(&t, in, &out, &fault);
	require(r == 0 || (fault.code != FAULT_NONE && fault.text[0]));
	if (r == 0 && out)
		check(out, reply ? types->output : row->request, &arena);
	free(t.name);
	arena_deinit(&arena);
	return 0;
}

/* --- seeds ------------------------------------------------------------------ */

/* Messages with something in every field: numbers, strings, and messages one
 * level deep, made by their descriptors. */
static void add_field(struct buffer *b, const ProtobufCFieldDescriptor *f, int depth);

static void add_varint(struct buffer *b, uint64_t v) {
	do {
		uint8_t byte = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
		buffer_add(b, &byte, 1);
		v >>= 7;
	} while (v);
}

static void add_message(struct buffer *b, const ProtobufCMessageDescriptor *d, int depth) {
	for (unsigned i = 0; i < d->n_fields; i++)
		add_field(b, &d->fields[i], depth);
}

static void add_field(struct buffer *b, const ProtobufCFieldDescriptor *f, int depth) {
	struct buffer inner CLEANUP_BUFFER = { 0 };
	static const uint8_t eight[8] = { 0, 0, 0, 0, 0, 0, 0xf0, 0x3f };
	switch (f->type) {
	case PROTOBUF_C_TYPE_MESSAGE:
		if (depth < 5)
			add_message(&inner, f->descriptor, depth + 1);
		break;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_BYTES:
		buffer_add(&inner, f->name, strlen(f->name));
		break;
	case PROTOBUF_C_TYPE_DOUBLE:
		add_varint(b, (uint64_t)f->id << 3 | 1);
		buffer_add(b, eight, sizeof(eight));
		return;
	default:
		add_varint(b, (uint64_t)f->id << 3);
		add_varint(b, 1);
		return;
	}
	add_varint(b, (uint64_t)f->id << 3 | 2);
	add_varint(b, inner.size);
	buffer_add(b, inner.data, inner.size);
}

size_t fuzz_seed(unsigned n, struct buffer *ret_seed) {
	const struct grpc_service *service;
	const ProtobufCMethodDescriptor *types;
	if (n >= 2 * 20)
		return 0;
	const struct grpc_method *m = choose(n / 2, &service, &types);
	uint8_t head[2] = { (uint8_t)(n / 2), n & 1 };
	buffer_add(ret_seed, head, sizeof(head));
	add_message(ret_seed, n & 1 ? msg_row_find(m->number)->reply : types->input, 0);
	return ret_seed->size;
}
