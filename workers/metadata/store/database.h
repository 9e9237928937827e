/*
 * One TDB file: made whole or not at all, checked when it is opened, rebuilt
 * from what is readable when it is damaged, copied when it has grown. TDB is
 * known in this folder only.
 */
#pragma once

#include "base/fault.h"
#include "workers/metadata/store/aside.h"

#include <signal.h>
#include <stdbool.h>
#include <tdb.h>

struct database {
	char *path;
	int hash_size; /* chains, for thousands of records without long walks */
	bool durable;  /* transactions are synced */
	struct aside *aside;
	struct tdb_context *tdb;
};

/* path (taken, even on error), hash_size, durable and aside are the caller's to set. */
int database_open(struct database *d, struct fault *fault) NODISCARD;
void database_close(struct database *d);

/* TDB's last error as a negative errno. */
int database_errno(struct tdb_context *tdb);
TDB_DATA database_key(const char *key);
