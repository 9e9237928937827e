/*
 * Where damaged records and files go: <dir>/set-aside, one file per record
 * with key, reason and the bytes as they were found. Nothing is ever deleted
 * from there by the daemon; a person looks, mends or removes.
 */
#pragma once

#include "base/list.h"
#include "base/macros.h"

struct aside_entry {
	struct list node;
	char *key, *reason;
};

struct aside {
	char *dir;
	struct list entries; /* struct aside_entry, what lies there now */
	unsigned n_entries;
};

/* Makes the folder below dir and reads what lies in it. */
int aside_init(struct aside *a, const char *dir) NODISCARD;
void aside_deinit(struct aside *a);
/* Keeps the bytes; logs. Failing to write them is logged too and no more: the
 * daemon starts without the record either way. */
void aside_record(struct aside *a, const char *key, const char *reason, const void *bytes, size_t size);
/* Moves a whole file there. */
int aside_file(struct aside *a, const char *path, const char *reason);
