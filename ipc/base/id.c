#include "base/id.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void id_random(char ret_id[ID_SIZE]) {
	uint8_t bytes[32];
	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		abort(); /* can't fail for 32 bytes once the pool is up */
	for (size_t i = 0; i < sizeof(bytes); i++) {
		ret_id[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
		ret_id[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
	}
	ret_id[64] = '\0';
}

static bool alnum(char c) {
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool id_valid(const char *id) {
	size_t n = strlen(id);
	if (n == 0 || n > 76 || !alnum(id[0]) || !alnum(id[n - 1]))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (alnum(id[i]))
			continue;
		if (!strchr("._-", id[i]) || !alnum(id[i + 1]))
			return false;
	}
	return true;
}

/* A prefix of seven and 64 hexadecimal digits. */
static bool is_named(const char *id, const char *prefix) {
	return strncmp(id, prefix, 7) == 0 && strlen(id) == 71 && strspn(id + 7, "0123456789abcdef") == 64;
}

bool digest_valid(const char *digest) {
	return is_named(digest, "sha256:");
}

#define MADE_UP "commit:"

bool layer_id_valid(const char *id) {
	return digest_valid(id) || is_named(id, MADE_UP);
}

void layer_id_random(char ret_id[LAYER_ID_SIZE]) {
	memcpy(ret_id, MADE_UP, sizeof(MADE_UP));
	id_random(ret_id + strlen(MADE_UP));
}
