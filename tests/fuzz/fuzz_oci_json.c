/*
 * The OCI runtime specification in JSON, as containerd's clients send it. The
 * first byte chooses whether it is a specification, a process or resources.
 *
 * Invariants beyond the sanitisers': a refusal has a sentence, and what was
 * read packs to what the metadata worker decodes.
 */
#include "tests/fuzz/fuzz.h"

#include "msg/msg.h"
#include "workers/api/containerd/oci_json.h"

#define ARENA_MAX (64u << 20)

static int parse(struct arena *a, unsigned kind, const uint8_t *json, size_t size, ProtobufCMessage **ret_message,
		 struct fault *fault) {
	switch (kind % 3) {
	case 0:
		return oci_json_spec(a, json, size, (Grpc__Spec **)ret_message, fault);
	case 1:
		return oci_json_process(a, json, size, (Grpc__Process **)ret_message, fault);
	default:
		return oci_json_resources(a, json, size, (Grpc__LinuxResources **)ret_message, fault);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct arena arena;
	struct fault fault = { 0 };
	ProtobufCMessage *m = NULL;
	if (size == 0)
		return 0;
	arena_init(&arena, ARENA_MAX);
	int r = parse(&arena, data[0], data + 1, size - 1, &m, &fault);
	require(r == 0 || (fault.code != FAULT_NONE && fault.text[0]));
	if (r == 0) {
		size_t packed = protobuf_c_message_get_packed_size(m);
		uint8_t *to = arena_alloc(&arena, packed + 1);
		require(!to || protobuf_c_message_pack(m, to) == packed);
		require(!to || msg_wire_valid(m->descriptor, to, packed));
	}
	arena_deinit(&arena);
	return 0;
}
