/*
 * Reads tar archives as an untrusted stream: v7, ustar, GNU (long names,
 * sparse, base-256 numbers) and pax (extended records, sparse 0.0, 0.1, 1.0).
 *
 * It owns nothing of the file system: it says what the archive says, with every
 * length checked; what a name may mean is the extractor's business. Memory is
 * bounded: one pax block (TAR_PAX_MAX), one sparse map (TAR_SPARSE_MAX), two
 * names.
 *
 *     while ((r = tar_next(t, &entry, fault)) > 0)
 *             while ((n = tar_data(t, &data, &offset, fault)) > 0)
 *                     pwrite(fd, data, n, offset);
 *
 * Like Go's archive/tar, which nearly all images were made and read with:
 * entries that aren't regular files have no payload whatever their size says,
 * global pax records are not applied, and the archive ends at its first zero
 * block or at the end of the stream behind an entry's payload.
 */
#pragma once

#include "tar/stream.h"

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define TAR_NAME_MAX 4095
#define TAR_PAX_MAX (1024 * 1024)
#define TAR_SPARSE_MAX 262144
#define TAR_XATTRS_MAX 256

enum tar_type { TAR_FILE, TAR_LINK, TAR_SYMLINK, TAR_CHAR, TAR_BLOCK, TAR_DIR, TAR_FIFO };

struct tar_xattr {
	const char *name;
	const uint8_t *value;
	size_t size;
};

/* Valid until the next tar_next. */
struct tar_entry {
	enum tar_type type;
	const char *path, *link; /* as in the archive; link "" when there is none */
	uint64_t size;		 /* of the file when extracted, holes included */
	bool sparse;
	uint32_t mode; /* 07777 */
	uint32_t uid, gid;
	uint32_t major, minor;
	struct timespec mtime;
	const struct tar_xattr *xattrs;
	size_t n_xattrs;
};

struct tar;

/* The stream is the caller's and must outlive the reader. */
int tar_new(struct stream *stream, struct tar **ret_tar) NODISCARD;
void tar_free(struct tar *t);
static inline void tar_free_p(struct tar **t) {
	tar_free(*t);
}
/* 1 with the next entry, 0 at the end, or a negative errno. What was not read
 * of the entry before is skipped. */
int tar_next(struct tar *t, struct tar_entry *ret_entry, struct fault *fault) NODISCARD;
/* Bytes of the entry and where they belong in the file; 0 at its end. */
ssize_t tar_data(struct tar *t, const uint8_t **ret_data, uint64_t *ret_offset, struct fault *fault) NODISCARD;
