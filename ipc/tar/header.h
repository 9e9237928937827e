/* One 512-byte header block and the numbers in it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TAR_BLOCK_SIZE 512

/* POSIX ustar; GNU uses prefix for its own fields. */
struct tar_header {
	char name[100];
	char mode[8], uid[8], gid[8];
	char size[12], mtime[12];
	char checksum[8];
	char type;
	char link[100];
	char magic[8]; /* "ustar\0" "00", or GNU's "ustar  \0" */
	char uname[32], gname[32];
	char major[8], minor[8];
	char prefix[155];
	char pad[12];
};
_Static_assert(sizeof(struct tar_header) == TAR_BLOCK_SIZE, "a tar block");

struct tar_sparse_field {
	char offset[12], size[12];
};
/* GNU's use of the area from prefix on (type 'S'). */
struct tar_gnu_tail {
	char atime[12], ctime[12], volume[12], longnames[4], unused;
	struct tar_sparse_field sparse[4];
	char extended;
	char real_size[12];
};
/* The blocks that follow while extended is set. */
struct tar_gnu_sparse_block {
	struct tar_sparse_field sparse[21];
	char extended;
	char pad[7];
};
_Static_assert(sizeof(struct tar_gnu_sparse_block) == TAR_BLOCK_SIZE, "a tar block");

bool tar_block_is_zero(const uint8_t *block);
/* Whether the checksum fits, as unsigned or as signed bytes. */
bool tar_header_valid(const struct tar_header *h);
/* It says more of the entry that comes next, or of all that do. */
bool tar_header_is_extra(const struct tar_header *h);

/* An octal or base-256 field; false when it is neither or doesn't fit. An
 * empty field is 0. */
bool tar_number(const char *field, size_t size, int64_t *ret_value);
/* "prefix/name" or name into out (at least 256 bytes). */
void tar_header_name(const struct tar_header *h, char *out);
