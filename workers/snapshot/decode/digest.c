/*
 * SHA-256 by OpenSSL's own function, linked statically: the whole of libcrypto
 * with its providers would be a third of this worker's memory, for one digest.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "workers/snapshot/decode/internal.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

struct digest {
	SHA256_CTX context;
};

void digest_free(struct digest *d) {
	free(d);
}

struct digest *digest_new(void) {
	struct digest *d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	if (SHA256_Init(&d->context) != 1) {
		free(d);
		return NULL;
	}
	return d;
}

int digest_add(struct digest *d, const void *data, size_t size) {
	return SHA256_Update(&d->context, data, size) == 1 ? 0 : -EIO;
}

int digest_end(struct digest *d, char ret_text[72]) {
	unsigned char bytes[SHA256_DIGEST_LENGTH];
	if (SHA256_Final(bytes, &d->context) != 1)
		return -EIO;
	char *p = ret_text + sprintf(ret_text, "sha256:");
	for (size_t i = 0; i < sizeof(bytes); i++)
		p += sprintf(p, "%02x", bytes[i]);
	return 0;
}
