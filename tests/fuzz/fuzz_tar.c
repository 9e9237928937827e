/*
 * Whatever bytes a registry sends as a layer: the archive reader must neither
 * crash nor read beyond what it has nor claim data that isn't there. The first
 * byte says in pieces of how many bytes the archive arrives.
 *
 * Invariants beyond the sanitisers': data comes in ascending order, inside of
 * the file's size, and a path never has more than TAR_NAME_MAX bytes beyond a
 * pax header's; a cleaned path has no "..", no leading and no double slash.
 */
#include "tests/fuzz/archive.h"
#include "tests/fuzz/fuzz.h"
#include "tar/tar.h"
#include "workers/snapshot/unpack/path.h"

#include <string.h>

/* So that reading every byte isn't optimised away. */
static volatile uint8_t all_bytes;

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct tar_entry e;
	struct fault fault;
	struct tar *t;
	CLEANUP_FREE uint8_t *copy = malloc(size + 1);
	if (size < 1 || !copy)
		return 0;
	memcpy(copy, data + 1, size - 1);
	archive_checksums_repair(copy, size - 1);
	struct pieces m = pieces_of(copy, size - 1, data[0] ? data[0] : 512);
	require(tar_new(&m.stream, &t) == 0);
	while (tar_next(t, &e, &fault) > 0)
		read_entry(t, &e);
	tar_free(t);
	return 0;
}
