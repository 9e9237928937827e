/* pax extended header records: "LENGTH KEY=VALUE\n". */
#pragma once

#include "tar/sparse.h"
#include "tar/tar.h"

/* What the records of one entry say. Strings point into the records' text. */
struct tar_pax {
	const char *path, *link; /* NULL: not given */
	bool has_size, has_uid, has_gid, has_mtime;
	uint64_t size;
	uint32_t uid, gid;
	struct timespec mtime;
	struct tar_xattr xattrs[TAR_XATTRS_MAX];
	size_t n_xattrs;

	/* GNU.sparse.* */
	const char *sparse_name;
	bool has_sparse_size;
	bool sparse;	 /* the map is in these records (0.0, 0.1) */
	bool sparse_1_0; /* the map begins the payload */
	uint64_t sparse_size;
	uint32_t sparse_major, sparse_minor;
	bool has_major;
};

/* Takes the records apart, in place. The map of sparse 0.x goes into map. */
int tar_pax_parse(char *text, size_t size, struct tar_pax *ret_pax, struct tar_sparse *map, struct fault *fault);
/* Decimal digits only; false when it isn't or exceeds max. */
bool tar_decimal(const char *text, uint64_t max, uint64_t *ret_value);
