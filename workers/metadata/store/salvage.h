/*
 * Reads what is left in a database file that failed its check: every record
 * that is live by its TDB header and whole by its own checksum. Needs nothing
 * of the file's structure to be right.
 */
#pragma once

#include "workers/metadata/store/record.h"

typedef void (*salvage_fn)(void *ctx, const struct record *r, const uint8_t *bytes, size_t size);

/* A key may come several times; the highest sequence is the one to keep.
 * Returns the number of records, or a negative errno. */
int salvage_file(const char *path, salvage_fn fn, void *ctx);
