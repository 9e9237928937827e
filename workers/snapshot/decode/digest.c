/* SHA-256 by OpenSSL, which is told not to look for its configuration: the
 * jail has none. */
#include "workers/snapshot/decode/internal.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

struct digest {
	EVP_MD_CTX *context;
};

void digest_free(struct digest *d) {
	if (!d)
		return;
	EVP_MD_CTX_free(d->context);
	free(d);
}

struct digest *digest_new(void) {
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL);
	struct digest *d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->context = EVP_MD_CTX_new();
	if (!d->context || EVP_DigestInit_ex(d->context, EVP_sha256(), NULL) != 1) {
		digest_free(d);
		return NULL;
	}
	return d;
}

int digest_add(struct digest *d, const void *data, size_t size) {
	return EVP_DigestUpdate(d->context, data, size) == 1 ? 0 : -EIO;
}

int digest_end(struct digest *d, char ret_text[72]) {
	unsigned char bytes[EVP_MAX_MD_SIZE];
	unsigned n;
	if (EVP_DigestFinal_ex(d->context, bytes, &n) != 1 || n != 32)
		return -EIO;
	char *p = ret_text + sprintf(ret_text, "sha256:");
	for (unsigned i = 0; i < n; i++)
		p += sprintf(p, "%02x", bytes[i]);
	return 0;
}
