/*
 * Whatever bytes a registry sends as a layer: the archive reader must neither
 * crash nor read beyond what it has nor claim data that isn't there. The first
 * byte says in pieces of how many bytes the archive arrives.
 *
 * Invariants beyond the sanitisers': data comes in ascending order, inside of
 * the file's size, and a path never has more than TAR_NAME_MAX bytes beyond a
 * pax header's; a cleaned path has no "..", no leading and no double slash.
 */
#include "tests/fuzz/fuzz.h"
#include "workers/snapshot/tar/header.h"
#include "workers/snapshot/tar/tar.h"
#include "workers/snapshot/unpack/path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct memory {
	struct stream stream;
	const uint8_t *data;
	size_t left, piece;
};

/* So that reading every byte isn't optimised away. */
static volatile uint8_t all_bytes;

static void require(bool condition) {
	if (!condition)
		abort();
}

static ssize_t memory_next(struct stream *stream, const uint8_t **ret_data, struct fault *fault) {
	struct memory *m = container_of(stream, struct memory, stream);
	size_t n = MIN(m->piece, m->left);
	*ret_data = m->data;
	m->data += n;
	m->left -= n;
	return (ssize_t)n;
}

static void check_path(const char *path) {
	char copy[TAR_NAME_MAX + 1];
	size_t n = strlen(path);
	if (n >= sizeof(copy))
		return;
	memcpy(copy, path, n + 1);
	if (path_clean(copy) < 0)
		return;
	require(copy[0] != '/' && !strstr(copy, "//") && strcmp(copy, "..") != 0 && strncmp(copy, "../", 3) != 0 &&
		!strstr(copy, "/../"));
	n = strlen(copy);
	require(n < 3 || strcmp(copy + n - 3, "/..") != 0);
	path_kind(path_last(copy));
}

static void read_entry(struct tar *t, const struct tar_entry *e) {
	struct fault fault;
	const uint8_t *data;
	uint64_t offset, end = 0;
	uint8_t sum = 0;
	ssize_t n;
	check_path(e->path);
	check_path(e->link);
	for (size_t i = 0; i < e->n_xattrs; i++)
		for (size_t j = 0; j < e->xattrs[i].size; j++)
			sum ^= e->xattrs[i].value[j];
	require(e->mode <= 07777 && e->mtime.tv_nsec >= 0 && e->mtime.tv_nsec < 1000000000);
	while ((n = tar_data(t, &data, &offset, &fault)) > 0) {
		require(e->type == TAR_FILE && offset >= end && offset + (uint64_t)n <= e->size);
		end = offset + (uint64_t)n;
		for (ssize_t j = 0; j < n; j++)
			sum ^= data[j];
	}
	all_bytes = sum;
}

static void checksum_set(struct tar_header *h) {
	unsigned sum = 0;
	memset(h->checksum, ' ', sizeof(h->checksum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += ((uint8_t *)h)[i];
	snprintf(h->checksum, sizeof(h->checksum), "%06o", sum);
}

/* What looks like a header gets its checksum, or few mutations would be read. */
static void checksums_repair(uint8_t *data, size_t size) {
	for (; size >= TAR_BLOCK_SIZE; data += TAR_BLOCK_SIZE, size -= TAR_BLOCK_SIZE) {
		struct tar_header h;
		memcpy(&h, data, sizeof(h));
		if (memcmp(h.magic, "ustar", 5) != 0)
			continue;
		checksum_set(&h);
		memcpy(data, &h, sizeof(h));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct tar_entry e;
	struct fault fault;
	struct tar *t;
	CLEANUP_FREE uint8_t *copy = malloc(size + 1);
	if (size < 1 || !copy)
		return 0;
	memcpy(copy, data + 1, size - 1);
	checksums_repair(copy, size - 1);
	struct memory m = {
		.stream = { memory_next }, .data = copy, .left = size - 1, .piece = data[0] ? data[0] : 512
	};
	require(tar_new(&m.stream, &t) == 0);
	while (tar_next(t, &e, &fault) > 0)
		read_entry(t, &e);
	tar_free(t);
	return 0;
}

/* --- seeds --- */

static void add(struct buffer *b, char type, const char *name, const char *link, const char *content, size_t size) {
	static const char zeros[TAR_BLOCK_SIZE];
	struct tar_header h = { .type = type };
	memcpy(h.name, name, strnlen(name, sizeof(h.name)));
	memcpy(h.link, link, strnlen(link, sizeof(h.link)));
	memcpy(h.mode, "0000644", 8);
	memcpy(h.uid, "0001750", 8);
	memcpy(h.gid, "0001750", 8);
	snprintf(h.size, sizeof(h.size), "%011zo", size);
	memcpy(h.mtime, "14000000000", 12);
	memcpy(h.magic,
	       "ustar\0"
	       "00",
	       8);
	if (type == 'S') { /* one run of 5 bytes at 4096 */
		struct tar_gnu_tail tail = { 0 };
		memcpy(h.magic, "ustar  \0", 8);
		memcpy(tail.sparse[0].offset, "00000010000", 12);
		memcpy(tail.sparse[0].size, "00000000005", 12);
		memcpy(tail.real_size, "00000020000", 12);
		memcpy(h.prefix, &tail, sizeof(tail));
	}
	checksum_set(&h);
	buffer_add(b, &h, sizeof(h));
	buffer_add(b, content, size);
	buffer_add(b, zeros, (TAR_BLOCK_SIZE - size % TAR_BLOCK_SIZE) % TAR_BLOCK_SIZE);
}

static void add_text(struct buffer *b, char type, const char *name, const char *content) {
	add(b, type, name, "", content, strlen(content));
}

size_t fuzz_seed(unsigned n, struct buffer *b) {
	static const char zeros[2 * TAR_BLOCK_SIZE];
	static const char map[TAR_BLOCK_SIZE + 5] = "1\n4096\n5\n";
	buffer_add(b, "\x40", 1);
	switch (n) {
	case 0:
		add_text(b, '5', "dir/", "");
		add_text(b, '0', "dir/file", "content");
		add(b, '1', "hard", "dir/file", "", 0);
		add(b, '2', "soft", "../x", "", 0);
		add(b, '3', "null", "", "", 0);
		add_text(b, '0', "dir/.wh.gone", "");
		break;
	case 1:
		add_text(b, 'L', "././@LongLink", "a/very/long/name/that/is/not/that/long");
		add_text(b, 'K', "././@LongLink", "its/target");
		add(b, '2', "a", "b", "", 0);
		break;
	case 2:
		add_text(b, 'x', "pax",
			 "13 path=a/b/c\n18 mtime=1.234567\n24 SCHILY.xattr.user.a=b\n13 uid=12345\n10 size=5\n");
		add_text(b, '0', "short", "12345");
		break;
	case 3:
		add_text(b, 'S', "sparse", "holes");
		break;
	case 4:
		add_text(b, 'x', "pax",
			 "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n29 GNU.sparse.realsize=8192\n22 "
			 "GNU.sparse.name=xyz\n");
		add(b, '0', "sparse", "", map, sizeof(map));
		break;
	case 5:
		add_text(b, 'x', "pax",
			 "24 GNU.sparse.size=8192\n26 GNU.sparse.numblocks=1\n26 GNU.sparse.offset=4096\n25 "
			 "GNU.sparse.numbytes=5\n");
		add_text(b, '0', "sparse", "holes");
		break;
	default:
		return 0;
	}
	buffer_add(b, zeros, sizeof(zeros));
	return b->size;
}
