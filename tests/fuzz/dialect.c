#include "tests/fuzz/dialect.h"

#include "tests/fuzz/fuzz.h"
#include "workers/api/services.h"

#include <string.h>

#define ARENA_MAX (64u << 20)

/* The n-th method of these groups, modulo how many there are. */
static struct grpc_target choose(uint32_t groups, unsigned n) {
	struct grpc_target targets[256];
	unsigned count = 0;
	for (const struct grpc_service *s = services; s->name; s++)
		for (const struct grpc_method *m = s->methods; m->name && (groups & 1u << s->group); m++) {
			require(count < ARRAY_SIZE(targets));
			targets[count++] = (struct grpc_target){
				.service = s,
				.method = m,
				.types = protobuf_c_service_descriptor_get_method_by_name(s->api, m->name),
			};
		}
	require(count > 0);
	return targets[n % count];
}

/* A message of this type, by its full name: a sandbox answers Status in the form, today's or the older, that it was
 * started in. It must come back out of its own bytes. */
static void check(const ProtobufCMessage *m, const ProtobufCMessageDescriptor *type, struct arena *arena) {
	require(strcmp(m->descriptor->name, type->name) == 0);
	size_t size = protobuf_c_message_get_packed_size(m);
	uint8_t *packed = arena_alloc(arena, size + 1);
	if (!packed)
		return;
	require(protobuf_c_message_pack(m, packed) == size);
	struct arena again;
	arena_init(&again, ARENA_MAX);
	require(msg_decode(m->descriptor, &again, packed, size) != NULL);
	arena_deinit(&again);
}

static void translate(const struct grpc_target *target, bool reply, ProtobufCMessage *in, struct arena *arena) {
	const struct grpc_translator *translator = target->method->translator;
	const struct msg_row *row = msg_row_find(target->method->number);
	struct arena kept;
	struct grpc_translation t = { .arena = arena, .kept = &kept, .target = target };
	struct fault fault = { 0 };
	ProtobufCMessage *out = NULL;
	arena_init(&kept, ARENA_MAX);
	int r = reply ? grpc_translate_reply(&t, in, &out, &fault) : translator->request(&t, in, &out, &fault);
	require(r == 0 || (fault.code != FAULT_NONE && fault.text[0]));
	if (r == 0 && out)
		check(out, reply ? target->types->output : row->request, arena);
	if (t.state_free)
		t.state_free(t.state);
	arena_deinit(&kept);
}

int dialect_try(uint32_t groups, const uint8_t *data, size_t size) {
	struct arena arena;
	if (size < 2)
		return 0;
	const struct grpc_target target = choose(groups, data[0]);
	bool reply = (data[1] & 1) && target.method->translator;
	arena_init(&arena, ARENA_MAX);
	ProtobufCMessage *in = msg_decode(reply ? msg_row_find(target.method->number)->reply : target.types->input,
					  &arena, data + 2, size - 2);
	if (in)
		check(in, in->descriptor, &arena);
	if (in && target.method->translator)
		translate(&target, reply, in, &arena);
	arena_deinit(&arena);
	return 0;
}
