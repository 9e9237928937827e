/* The map of a sparse file: where its stored runs belong. */
#pragma once

#include "base/fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tar_run {
	uint64_t offset, size;
};

/* Zero-initialised is empty; its memory is kept from entry to entry. */
struct tar_sparse {
	struct tar_run *runs;
	size_t n, room;
	bool half; /* an offset came without its size so far (pax 0.0) */
};

void tar_sparse_deinit(struct tar_sparse *s);
void tar_sparse_clear(struct tar_sparse *s);
int tar_sparse_add(struct tar_sparse *s, uint64_t offset, uint64_t size, struct fault *fault);
/* "offset,size,offset,size": pax 0.1. */
int tar_sparse_parse(struct tar_sparse *s, const char *text, struct fault *fault);
/* Runs ascend without overlap, end within size, and add up to stored. */
int tar_sparse_check(const struct tar_sparse *s, uint64_t size, uint64_t stored, struct fault *fault);
