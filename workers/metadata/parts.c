#include "workers/metadata/parts.h"

/* Far below what a client takes in one message, large enough to be few. */
#define PART_BYTES (512u << 10)
#define PART_ITEMS 256

size_t parts_next(void *items, size_t n) {
	ProtobufCMessage **list = items;
	size_t bytes = 0, i = 0;
	while (i < n && i < PART_ITEMS && bytes < PART_BYTES)
		bytes += protobuf_c_message_get_packed_size(list[i++]);
	return i;
}
