/*
 * Reads a tar archive whose bytes come when they come, for who can't wait for
 * them. What makes up an entry (its extra headers, then its own) is collected, at
 * most TAR_PUSH_MAX, and handed to the reader (tar.h) as a whole; the payload
 * is the caller's to take.
 *
 *     if (p.stored > 0)  up to so many bytes of in are the entry's: take n of
 *                        them, then tar_push_took(&p, n)
 *     else               tar_push(&p, &in, &entry, fault)
 */
#pragma once

#include "base/buffer.h"
#include "tar/tar.h"

#define TAR_PUSH_MAX (2 * TAR_PAX_MAX)

/* Zero-initialised it is at an archive's beginning. */
struct tar_push {
	uint64_t stored;   /* of the entry, not taken yet */
	uint64_t position; /* in the archive */
	bool ended;	   /* the archive says so: what else comes is no part of it */

	struct buffer headers; /* of the next entry, so far */
	uint64_t payload;      /* of an extra header, missing */
	uint64_t padding;
	struct tar *tar;
};

void tar_push_deinit(struct tar_push *p);
/* 1 with the next entry; 0: more bytes are needed, or the end. Takes what it
 * has looked at out of in. */
int tar_push(struct tar_push *p, struct buffer *in, struct tar_entry *ret_entry, struct fault *fault) NODISCARD;
void tar_push_took(struct tar_push *p, uint64_t n);
/* May the archive end here? */
bool tar_push_whole(const struct tar_push *p);
