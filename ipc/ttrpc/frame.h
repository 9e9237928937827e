/*
 * ttrpc's frames: a header of ten bytes (length of the data, stream, type,
 * flags; numbers are big-endian), then the data. And the line by which a client
 * of hybrid vsock says which port of the guest it means. Pure functions.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TTRPC_HEADER 10
#define TTRPC_DATA_MAX (4u << 20)

enum ttrpc_type {
	TTRPC_REQUEST = 1,
	TTRPC_RESPONSE = 2,
	TTRPC_DATA = 3,
};

/* Of a request and of data. */
#define TTRPC_REMOTE_CLOSED 0x1 /* no data follows */
#define TTRPC_REMOTE_OPEN 0x2	/* data follows */
#define TTRPC_NO_DATA 0x4	/* this frame's data means nothing */

/* With what the name of the service begins that our client on a line asks for to
 * find its place; there is none. And what a server of ours answers, as UNAVAILABLE,
 * when that client has begun with a server before it. */
#define TTRPC_LINE_SERVICE "line."
#define TTRPC_LINE_ANEW "the line's server has begun anew"

struct ttrpc_frame {
	uint32_t size, stream;
	uint8_t type, flags;
};

struct ttrpc_frame ttrpc_frame_parse(const uint8_t header[TTRPC_HEADER]);
void ttrpc_frame_write(const struct ttrpc_frame *f, uint8_t ret_header[TTRPC_HEADER]);

/* "CONNECT PORT\n", also in small letters. The shortest has as many bytes as a
 * frame's header, which can't begin so: its data would be too long. */
#define TTRPC_CONNECT_MAX 32
/* Whether it begins so: to be asked of the first TTRPC_HEADER bytes. */
bool ttrpc_connect_begins(const uint8_t header[TTRPC_HEADER]);
/* Of the whole line, with its end; -EINVAL. */
int ttrpc_connect_parse(const char *line, size_t size, uint32_t *ret_port);
