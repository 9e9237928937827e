/*
 * fuzz_X [RUNS [SEED]]   mutates the seeds; prints TAP
 * fuzz_X FILE...         replays inputs that failed
 * fuzz_X --seeds FOLDER  writes the seeds there, for libFuzzer
 */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/tap.h"

#include "base/fd.h"

#include <fcntl.h>

#define RUNS 20000
#define INPUT_MAX 65536

static uint64_t state = 0x9e3779b97f4a7c15;

/* xorshift64*: the same sequence everywhere. */
static uint32_t next(uint32_t below) {
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (uint32_t)((state * UINT64_C(2685821657736338717)) >> 33) % below;
}

static void mutate(struct buffer *b) {
	static const uint8_t edges[] = { 0, 1, 0x7f, 0x80, 0xff, 4, 8, 9 };
	for (uint32_t i = 0, n = 1 + next(8); i < n && b->size > 0; i++) {
		uint32_t at = next((uint32_t)b->size);
		uint32_t size = next(64) + 1;
		size = MIN(size, (uint32_t)b->size - at);
		switch (next(6)) {
		case 0:
			b->data[at] ^= (uint8_t)(1u << next(8));
			break;
		case 1:
			b->data[at] = edges[next(ARRAY_SIZE(edges))];
			break;
		case 2:
			b->data[at] = (uint8_t)next(256);
			break;
		case 3: /* cut something out */
			memmove(b->data + at, b->data + at + size, b->size - at - size);
			b->size -= size;
			break;
		case 4: /* repeat something at the end */
			if (b->size + size <= INPUT_MAX && buffer_reserve(b, size)) {
				memcpy(b->data + b->size, b->data + at, size);
				b->size += size;
			}
			break;
		default: /* over something else */
			memmove(b->data + next((uint32_t)(b->size - size) + 1), b->data + at, size);
		}
	}
}

static int replay(const char *path) {
	char *data CLEANUP_FREE = NULL;
	size_t size;
	int fd CLEANUP_FD = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fd_read_all(fd, INPUT_MAX, &data, &size) < 0) {
		fprintf(stderr, "%s can't be read\n", path);
		return 1;
	}
	return LLVMFuzzerTestOneInput((const uint8_t *)data, size);
}

static int write_seeds(const char *folder) {
	for (unsigned i = 0;; i++) {
		struct buffer b CLEANUP_BUFFER = { 0 };
		char path[4096];
		if (fuzz_seed(i, &b) == 0)
			return 0;
		snprintf(path, sizeof(path), "%s/seed-%u", folder, i);
		int fd CLEANUP_FD = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (fd < 0 || fd_write_all(fd, b.data, b.size) < 0) {
			fprintf(stderr, "%s can't be written\n", path);
			return 1;
		}
	}
}

int main(int argc, char **argv) {
	char *end = NULL;
	if (argc == 3 && strcmp(argv[1], "--seeds") == 0)
		return write_seeds(argv[2]);
	unsigned long runs = argc > 1 ? strtoul(argv[1], &end, 10) : RUNS;
	if (end && *end) {
		int r = 0;
		for (int i = 1; i < argc; i++)
			r |= replay(argv[i]);
		return r;
	}
	if (argc > 2)
		state += strtoull(argv[2], NULL, 10) << 1;
	unsigned seeds = 0;
	for (;; seeds++) {
		struct buffer b CLEANUP_BUFFER = { 0 };
		if (fuzz_seed(seeds, &b) == 0)
			break;
		LLVMFuzzerTestOneInput(b.data, b.size);
	}
	tap_check(seeds > 0, "%u seeds", seeds);
	for (unsigned long i = 0; i < runs && seeds > 0; i++) {
		struct buffer b CLEANUP_BUFFER = { 0 };
		fuzz_seed(next(seeds), &b);
		mutate(&b);
		LLVMFuzzerTestOneInput(b.data, b.size);
	}
	tap_check(true, "%lu mutations of them", runs);
	return tap_done();
}
