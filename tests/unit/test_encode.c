/* Archives to layers: encoded in each way and decoded again, of any size; walks that go by names. */
#include "base/fd.h"
#include "tap.h"
#include "workers/snapshot/decode/decode.h"
#include "workers/snapshot/encode.h"
#include "tree/walk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LARGEST (3u * 1024 * 1024)

/* Half of it can be compressed. */
static int file_of(size_t size) {
	uint8_t *data = malloc(size + 1);
	int fd = memfd_create("archive", MFD_CLOEXEC);
	srand(7);
	for (size_t i = 0; i < size; i++)
		data[i] = i & 4096 ? (uint8_t)rand() : (uint8_t)(i / 512);
	if (fd_write_all(fd, data, size) < 0)
		abort();
	free(data);
	return fd;
}

static uint64_t size_of(int fd) {
	return (uint64_t)lseek(fd, 0, SEEK_END);
}

/* What the unpacker makes of it. */
static bool decodes(int fd, const char *format, uint64_t size, const char *diff_id) {
	static const struct decode_limits none;
	struct decoder *d;
	struct fault fault = { 0 };
	const uint8_t *data;
	char digest[72];
	lseek(fd, 0, SEEK_SET);
	if (decoder_new(fd, &none, &d) < 0)
		abort();
	while (decoder_stream(d)->next(decoder_stream(d), &data, &fault) > 0)
		continue;
	int r = decoder_finish(d, digest, &fault);
	bool good = r == 0 && strcmp(digest, diff_id) == 0 && decoder_size(d) == size &&
		    strcmp(decoder_format(d), format) == 0;
	decoder_free(d);
	return good;
}

static void test_one(enum encoding encoding, const char *format, size_t size) {
	struct encode_result first, second;
	struct fault fault = { 0 };
	CLEANUP_FD int from = file_of(size);
	CLEANUP_FD int to = memfd_create("layer", MFD_CLOEXEC);
	CLEANUP_FD int again = memfd_create("layer", MFD_CLOEXEC);
	tap_check(encode_file(from, size, to, encoding, &first, &fault) == 0 && first.size == size_of(to),
		  "%s of %zu bytes: %s", format, size, fault.text);
	tap_check(decodes(to, format, size, first.diff_id), "comes back as it was");
	if (size > 65536 && encoding != ENCODING_NONE)
		tap_check(first.size < size * 3 / 4, "and was smaller");
	tap_check(encode_file(from, size, again, encoding, &second, &fault) == 0 &&
		      strcmp(first.digest, second.digest) == 0,
		  "the same again");
	CLEANUP_FD int nowhere = open("/dev/full", O_WRONLY | O_CLOEXEC);
	tap_check(encode_file(from, size, nowhere, encoding, &second, &fault) < 0 &&
		      fault.code == FAULT_RESOURCE_EXHAUSTED,
		  "no room: %s", fault.text);
}

/* --- walks ------------------------------------------------------------------ */

static char seen[256];

static int see(void *ctx, const struct walk_entry *e) {
	snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s ", e->path);
	return 0;
}

static void test_walk(void) {
	char root[] = "/tmp/test-encode-XXXXXX", path[128];
	static const char *const names[] = { "b/", "c/", "b/z", "b/y", "a", "c/x", "d" };
	if (!mkdtemp(root))
		abort();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, names[i]);
		bool folder = path[strlen(path) - 1] == '/';
		if (folder ? mkdir(path, 0700) < 0 : close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) < 0)
			abort();
	}
	CLEANUP_FD int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	tap_check(walk_tree_sorted(fd, see, NULL) == 0 && strcmp(seen, "a b c d c/x b/y b/z ") == 0,
		  "a folder's names in order: %s", seen);
	for (size_t i = ARRAY_SIZE(names); i-- > 0;) {
		snprintf(path, sizeof(path), "%s/%s", root, names[i]);
		if (remove(path) < 0 && rmdir(path) < 0)
			abort();
	}
	rmdir(root);
}

int main(void) {
	static const size_t sizes[] = { 1, 1024, 256 * 1024, LARGEST };
	static const char *const formats[] = {
		[ENCODING_NONE] = "plain", [ENCODING_GZIP] = "gzip", [ENCODING_ZSTD] = "zstd"
	};
	for (size_t f = 0; f < ARRAY_SIZE(formats); f++)
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
			test_one((enum encoding)f, formats[f], sizes[i]);
	test_walk();
	return tap_done();
}
