/*
 * Writes the entries of one layer's archive below a root folder, in overlayfs's
 * form: whiteouts become 0:0 character devices, opaque folders are reported.
 *
 * Invariant: nothing outside of root is ever touched, whatever the archive
 * says; the jail holds the same line once more. Later entries replace earlier
 * ones of their name; whiteouts don't hide what the same layer has. Attributes
 * that are honoured: mode (set-id bits after the owner), owner, time, and the
 * extended attributes user.*, security.capability and POSIX ACLs.
 */
#pragma once

#include "base/buffer.h"
#include "tar/tar.h"

struct extract_limits {
	uint64_t entries;
};

struct extract_result {
	uint64_t size; /* bytes on disk, by blocks of 4096 */
	uint64_t inodes;
	uint64_t xattrs_skipped; /* the file system didn't take them */
};

/* Extracts the whole archive; the report (see report.h) grows in *report. */
int extract_archive(struct tar *tar, int root, const struct extract_limits *limits, struct buffer *report,
		    struct extract_result *ret_result, struct fault *fault) NODISCARD;
