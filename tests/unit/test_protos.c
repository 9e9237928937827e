/*
 * The generated code of the public interfaces. That all of it links into this
 * one program is a test by itself: no C name is there twice. The rest looks at
 * where a .proto file departs from its original, and at names that two
 * interfaces share.
 */
#include <string.h>

#include "containerd/images.pb-c.h"
#include "containerd/sandbox.pb-c.h"
#include "containerd/task_types.pb-c.h"
#include "containerd_seed/sandbox.pb-c.h"
#include "containerd_seed/types.pb-c.h"
#include "kata/agent.pb-c.h"
#include "descriptors.h"
#include "tap.h"

struct wire {
	uint8_t data[64];
	size_t size;
};

static struct wire packed(const ProtobufCMessage *m) {
	struct wire w = { .size = protobuf_c_message_get_packed_size(m) };
	if (w.size <= sizeof w.data)
		protobuf_c_message_pack(m, w.data);
	return w;
}

static bool wire_is(const struct wire *w, const char *bytes, size_t size) {
	return w->size == size && memcmp(w->data, bytes, size) == 0;
}

#define WIRE_IS(w, bytes) wire_is(&(w), bytes, sizeof(bytes) - 1)

/* A oneof of one stands for proto3's optional: it's sent when it's set, even to what is the default. */
static void test_optional(void) {
	Grpc__MemAgentMemcgConfig m = GRPC__MEM_AGENT_MEMCG_CONFIG__INIT;
	struct wire w = packed(&m.base);
	tap_check(w.size == 0, "an optional field that is not set is not sent");

	m._disabled_case = GRPC__MEM_AGENT_MEMCG_CONFIG___DISABLED_DISABLED;
	m._period_secs_case = GRPC__MEM_AGENT_MEMCG_CONFIG___PERIOD_SECS_PERIOD_SECS;
	m.period_secs = 300;
	w = packed(&m.base);
	tap_check(WIRE_IS(w, "\x08\x00\x20\xac\x02"), "one that is set to its default is sent");

	Containerd__Services__Images__V1__DeleteImageRequest *d =
	    containerd__services__images__v1__delete_image_request__unpack(
		NULL, 9, (const uint8_t *)"\x0a\x01x\x1a\x04\x0a\x02yz");
	tap_check(d && d->_target_case && d->target && strcmp(d->target->media_type, "yz") == 0,
		  "an optional message is received");
	containerd__services__images__v1__delete_image_request__free_unpacked(d, NULL);
}

/* The same name on the wire, two in C, with a layout each. */
static void test_ages(void) {
	const ProtobufCMessageDescriptor *now = DESCRIPTOR_Containerd__Services__Sandbox__V1__ControllerStatusResponse;
	const ProtobufCMessageDescriptor *seed = DESCRIPTOR_Containerd__Seed__Sandbox__ControllerStatusResponse;
	tap_check(strcmp(now->name, seed->name) == 0 && now != seed, "two ages of %s", now->name);
	const ProtobufCFieldDescriptor *a = protobuf_c_message_descriptor_get_field(now, 4);
	const ProtobufCFieldDescriptor *b = protobuf_c_message_descriptor_get_field(seed, 4);
	tap_check(a && b && strcmp(a->name, "info") == 0 && strcmp(b->name, "exit_status") == 0,
		  "field 4 is another in each");

	now = DESCRIPTOR_Containerd__V1__Types__Process;
	seed = DESCRIPTOR_Containerd__Seed__Types__Process;
	tap_check(strcmp(now->name, seed->name) == 0 && strcmp(now->fields[0].name, "container_id") == 0 &&
		      strcmp(seed->fields[0].name, "pid") == 0,
		  "two ages of %s", now->name);
	tap_check(CONTAINERD__V1__TYPES__STATUS__PAUSING == 5 && CONTAINERD__SEED__TYPES__STATUS__PAUSED == 4,
		  "enumerations too");
}

/* A service finds the messages of its calls, Google's among them. */
static void test_services(void) {
	const ProtobufCServiceDescriptor *s = &containerd__seed__sandbox__controller__descriptor;
	tap_check(strcmp(s->name, "containerd.services.sandbox.v1.Controller") == 0, "a seed's service keeps its path");
	const ProtobufCMethodDescriptor *ping = protobuf_c_service_descriptor_get_method_by_name(s, "Ping");
	tap_check(ping && ping->input == DESCRIPTOR_Containerd__Seed__Sandbox__ControllerPingRequest,
		  "its calls have their own messages");
	s = &containerd__services__images__v1__images__descriptor;
	const ProtobufCMethodDescriptor *delete = protobuf_c_service_descriptor_get_method_by_name(s, "Delete");
	tap_check(delete &&delete->output == DESCRIPTOR_Google__Protobuf__Empty, "a call answers with Google's Empty");
}

int main(void) {
	test_optional();
	test_ages();
	test_services();
	return tap_done();
}
