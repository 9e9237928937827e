/*
 * What the unpacker leaves for layer_commit, in a file beside the tree: folders
 * that the archive didn't name, opaque folders (their mark needs a capability
 * that the jail doesn't have), and hard links whose target isn't in this layer.
 *
 * The reader trusts nothing in it: lengths and counts are checked, and the
 * paths mean something only inside of the layer's tree.
 */
#pragma once

#include "base/buffer.h"
#include "base/fault.h"

#define REPORT_SIZE_MAX (32u * 1024 * 1024)

enum report_kind { REPORT_IMPLICIT = 1, REPORT_OPAQUE, REPORT_LINK };

struct report_record {
	enum report_kind kind;
	const char *path;   /* relative, "" is the layer's root */
	const char *target; /* of a link; else "" */
};

/* -EFBIG when the report would exceed REPORT_SIZE_MAX. */
int report_add(struct buffer *b, enum report_kind kind, const char *path, const char *target) NODISCARD;
/* The record at *pos, which moves on: 1, 0 at the end, -EBADMSG. Strings point
 * into data. */
int report_next(const char *data, size_t size, size_t *pos, struct report_record *ret_record) NODISCARD;
