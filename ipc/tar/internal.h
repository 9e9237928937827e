/* The reader's inside: the stream of blocks (tar.c), and what makes an entry of
 * them (entry.c). */
#pragma once

#include "tar/header.h"
#include "tar/pax.h"
#include "tar/tar.h"

struct tar {
	struct stream *stream;
	const uint8_t *data; /* what is left of the stream's last bytes */
	size_t avail;
	uint64_t position; /* in the archive, for messages */

	uint64_t stored, padding; /* of the current entry, not read yet */
	uint64_t offset;	  /* in its file */
	bool sparse;
	struct tar_sparse map;
	size_t run;	   /* index in map */
	uint64_t run_done; /* bytes of that run handed out */

	bool has_pax, long_name, long_link;
	struct tar_pax pax;
	char *pax_text;
	char header_name[257], header_link[101];
	char name[TAR_NAME_MAX + 1], link[TAR_NAME_MAX + 1];
};

static inline uint64_t tar_padding(uint64_t size) {
	return (TAR_BLOCK_SIZE - size % TAR_BLOCK_SIZE) % TAR_BLOCK_SIZE;
}

/* A block that must be there. */
int tar_read_block(struct tar *t, void *out, struct fault *fault);
/* 1; h is the entry's own header, size what it says is stored. */
int tar_read_entry(struct tar *t, const struct tar_header *h, int64_t size, struct tar_entry *ret_entry,
		   struct fault *fault);
/* A field between 0 and max; what names it in the message. */
int tar_header_number(const char *field, size_t size, int64_t max, const char *what, int64_t *ret_value,
		      struct fault *fault);
#define TAR_FIELD(h, name, max, ret, fault) tar_header_number((h)->name, sizeof((h)->name), max, #name, ret, fault)
