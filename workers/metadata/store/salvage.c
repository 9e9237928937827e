#include "workers/metadata/store/salvage.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* A record in a TDB file, version 6: this header at a multiple of four, then
 * the key, then the data. */
struct tdb_header {
	uint32_t next, room, key_size, data_size, hash, magic;
};
#define TDB_LIVE 0x26011999

static bool salvage_at(const uint8_t *p, size_t left, salvage_fn fn, void *ctx) {
	struct tdb_header h;
	char key[RECORD_KEY_MAX + 1];
	struct record r;
	const char *reason;
	if (left < sizeof(h))
		return false;
	memcpy(&h, p, sizeof(h));
	left -= sizeof(h);
	if (h.magic != TDB_LIVE || h.key_size == 0 || h.key_size > RECORD_KEY_MAX || h.key_size > left ||
	    h.data_size > left - h.key_size)
		return false;
	memcpy(key, p + sizeof(h), h.key_size);
	key[h.key_size] = '\0';
	const uint8_t *data = p + sizeof(h) + h.key_size;
	if (strlen(key) != h.key_size || record_check(key, data, h.data_size, &r, &reason) < 0)
		return false;
	fn(ctx, &r, data, h.data_size);
	return true;
}

int salvage_file(const char *path, salvage_fn fn, void *ctx) {
	struct stat st;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size == 0)
		return 0;
	size_t size = (size_t)st.st_size;
	uint8_t *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	int n = 0;
	for (size_t at = 0; at + sizeof(struct tdb_header) <= size; at += 4)
		n += salvage_at(map + at, size - at, fn, ctx);
	munmap(map, size);
	return n;
}
