/* SHA-256 of short texts, for names that are digests (chain ids). What hashes
 * megabytes uses a library that knows the CPU's instructions. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32

void sha256(const void *data, size_t size, uint8_t ret_digest[SHA256_SIZE]);
/* "sha256:" and 64 hexadecimal digits, NUL-terminated. */
#define DIGEST_SIZE 72
void sha256_digest(const void *data, size_t size, char ret_digest[DIGEST_SIZE]);
