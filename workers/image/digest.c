#include "digest.h"

#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define SHA256_SIZE 32

struct digest {
	EVP_MD_CTX *ctx;
	bool failed;
};

struct digest *digest_new(void) {
	struct digest *d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->ctx = EVP_MD_CTX_new();
	if (!d->ctx || !EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL)) {
		digest_free(d);
		return NULL;
	}
	return d;
}

void digest_free(struct digest *d) {
	if (!d)
		return;
	EVP_MD_CTX_free(d->ctx);
	free(d);
}

void digest_update(struct digest *d, const void *data, size_t size) {
	if (!EVP_DigestUpdate(d->ctx, data, size))
		d->failed = true;
}

/* The bytes of a copy: the stream itself goes on. */
static bool sum(const struct digest *d, uint8_t ret_bytes[EVP_MAX_MD_SIZE]) {
	unsigned n = 0;
	EVP_MD_CTX *copy = EVP_MD_CTX_new();
	bool good = copy && EVP_MD_CTX_copy_ex(copy, d->ctx) && EVP_DigestFinal_ex(copy, ret_bytes, &n);
	EVP_MD_CTX_free(copy);
	return good && n == SHA256_SIZE;
}

void digest_text(struct digest *d, char ret_text[DIGEST_SIZE]) {
	uint8_t bytes[EVP_MAX_MD_SIZE];
	ret_text[0] = '\0';
	if (d->failed || !sum(d, bytes)) {
		d->failed = true;
		return;
	}
	strcpy(ret_text, "sha256:");
	for (unsigned i = 0; i < SHA256_SIZE; i++)
		sprintf(ret_text + 7 + 2 * i, "%02x", bytes[i]);
}

void digest_of(const void *data, size_t size, char ret_text[DIGEST_SIZE]) {
	struct digest *d = digest_new();
	ret_text[0] = '\0';
	if (!d)
		return;
	digest_update(d, data, size);
	digest_text(d, ret_text);
	digest_free(d);
}
