#include "ttrpc/frame.h"

#include <errno.h>
#include <string.h>

static const char connect_upper[] = "CONNECT ", connect_lower[] = "connect ";
#define CONNECT_SIZE (sizeof(connect_upper) - 1)

static uint32_t number_parse(const uint8_t *p) {
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void number_write(uint32_t n, uint8_t *ret_bytes) {
	for (int i = 0; i < 4; i++)
		ret_bytes[i] = (uint8_t)(n >> (24 - 8 * i));
}

struct ttrpc_frame ttrpc_frame_parse(const uint8_t header[TTRPC_HEADER]) {
	return (struct ttrpc_frame){
		.size = number_parse(header),
		.stream = number_parse(header + 4),
		.type = header[8],
		.flags = header[9],
	};
}

void ttrpc_frame_write(const struct ttrpc_frame *f, uint8_t ret_header[TTRPC_HEADER]) {
	number_write(f->size, ret_header);
	number_write(f->stream, ret_header + 4);
	ret_header[8] = f->type;
	ret_header[9] = f->flags;
}

bool ttrpc_connect_begins(const uint8_t header[TTRPC_HEADER]) {
	return memcmp(header, connect_upper, CONNECT_SIZE) == 0 || memcmp(header, connect_lower, CONNECT_SIZE) == 0;
}

int ttrpc_connect_parse(const char *line, size_t size, uint32_t *ret_port) {
	uint64_t port = 0;
	size_t i = CONNECT_SIZE;
	for (; i < size && line[i] >= '0' && line[i] <= '9' && port <= UINT32_MAX; i++)
		port = port * 10 + (uint64_t)(line[i] - '0');
	if (i == CONNECT_SIZE || i + 1 != size || line[i] != '\n' || port > UINT32_MAX)
		return -EINVAL;
	*ret_port = (uint32_t)port;
	return 0;
}
