/* SHA-1, which the WebSocket handshake is made of; for nothing that has to be
 * secure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA1_SIZE 20

/* Of at most 119 bytes. */
void sha1(const void *data, size_t size, uint8_t ret_digest[SHA1_SIZE]);
