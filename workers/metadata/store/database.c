#include "workers/metadata/store/database.h"

#include "base/fd.h"
#include "base/log.h"
#include "workers/metadata/store/salvage.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Copying pays when the file holds this many times what lives in it. */
#define COMPACT_MIN (4 * 1024 * 1024)
#define COMPACT_FACTOR 4

static void tdb_said(struct tdb_context *tdb, enum tdb_debug_level level, const char *format, ...) PRINTF(3, 4);
static void tdb_said(struct tdb_context *tdb, enum tdb_debug_level level, const char *format, ...) {
	char text[256];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	text[strcspn(text, "\n")] = '\0';
	log_event(LOG_DEBUG, "tdb", "file", tdb_name(tdb), "text", text, NULL);
}

int database_errno(struct tdb_context *tdb) {
	switch (tdb_error(tdb)) {
	case TDB_ERR_OOM:
		return -ENOSPC; /* the file can't grow: memory, disk or its 4 GiB */
	case TDB_ERR_CORRUPT:
		return -EBADMSG;
	default:
		return -EIO;
	}
}

TDB_DATA database_key(const char *key) {
	return (TDB_DATA){ .dptr = (unsigned char *)(uintptr_t)key, .dsize = strlen(key) };
}

/* With O_CREAT TDB would begin anew in a file whose head it doesn't know. */
static struct tdb_context *tdb_open_at(const struct database *d, const char *path) {
	struct tdb_logging_context log = { .log_fn = tdb_said };
	struct stat st;
	bool there = stat(path, &st) == 0 && st.st_size > 0;
	int flags = TDB_INCOMPATIBLE_HASH | TDB_DISALLOW_NESTING | (d->durable ? 0 : TDB_NOSYNC);
	return tdb_open_ex(path, d->hash_size, flags, O_RDWR | O_CLOEXEC | (there ? 0 : O_CREAT), 0600, &log, NULL);
}

/* Beside the database, to be renamed over it when it is complete: whenever we
 * die, the old one or the new one is there, whole. */
static int fresh_open(struct database *d, char **ret_path, struct tdb_context **ret_tdb) {
	CLEANUP_FREE char *path = NULL;
	if (asprintf(&path, "%s.new", d->path) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	unlink(path);
	errno = 0;
	*ret_tdb = tdb_open_at(d, path);
	if (!*ret_tdb)
		return errno ? -errno : -EIO;
	*ret_path = take_ptr(path);
	return 0;
}

/* Closes tdb and takes it in use, unless r says that it went wrong. */
static int fresh_adopt(struct database *d, const char *path, struct tdb_context *tdb, int r) {
	if (r == 0 && fsync(tdb_fd(tdb)) < 0)
		r = -errno;
	tdb_close(tdb);
	if (r == 0 && rename(path, d->path) < 0)
		r = -errno;
	if (r < 0)
		return r;
	if (d->tdb)
		tdb_close(d->tdb);
	d->tdb = tdb_open_at(d, d->path);
	return d->tdb ? 0 : -EIO;
}

/* What a salvage has found so far of a key. */
static void salvage_keep(void *ctx, const struct record *r, const uint8_t *bytes, size_t size) {
	struct tdb_context *to = ctx;
	struct record old;
	const char *reason;
	char key[RECORD_KEY_MAX + 1];
	strcpy(key, r->key);
	TDB_DATA have = tdb_fetch(to, database_key(key));
	if (!have.dptr || record_check(key, have.dptr, have.dsize, &old, &reason) < 0 || old.sequence < r->sequence)
		tdb_store(to, database_key(key), (TDB_DATA){ .dptr = (unsigned char *)(uintptr_t)bytes, .dsize = size },
			  TDB_REPLACE);
	free(have.dptr);
}

/* A database that can't be trusted: what is whole in it goes into a new one. */
static int database_rebuild(struct database *d, const char *reason) {
	CLEANUP_FREE char *path = NULL;
	struct tdb_context *to;
	char count[16];
	int r = fresh_open(d, &path, &to);
	if (r < 0)
		return r;
	if (tdb_transaction_start(to) < 0)
		r = database_errno(to);
	int n = r < 0 ? r : salvage_file(d->path, salvage_keep, to);
	if (r == 0 && tdb_transaction_commit(to) < 0)
		r = database_errno(to);
	if (r == 0)
		r = aside_file(d->aside, d->path, reason);
	r = fresh_adopt(d, path, to, r);
	snprintf(count, sizeof(count), "%d", n);
	log_event(LOG_WARN, "database rebuilt", "file", d->path, "copies_found", count, NULL);
	return r;
}

static int database_create(struct database *d) {
	CLEANUP_FREE char *path = NULL;
	struct tdb_context *to;
	int r = fresh_open(d, &path, &to);
	return r < 0 ? r : fresh_adopt(d, path, to, 0);
}

static int copy_record(struct tdb_context *tdb, TDB_DATA key, TDB_DATA value, void *ctx) {
	return tdb_store(ctx, key, value, TDB_INSERT);
}

static int live_bytes(struct tdb_context *tdb, TDB_DATA key, TDB_DATA value, void *ctx) {
	*(uint64_t *)ctx += key.dsize + value.dsize;
	return 0;
}

/* TDB never shrinks its file. Copy and rename: a crash leaves the old one. */
static int database_compact(struct database *d) {
	struct stat st;
	uint64_t live = 0;
	if (stat(d->path, &st) < 0 || st.st_size < COMPACT_MIN || tdb_traverse_read(d->tdb, live_bytes, &live) < 0 ||
	    (uint64_t)st.st_size < COMPACT_MIN + live * COMPACT_FACTOR)
		return 0;
	CLEANUP_FREE char *path = NULL;
	struct tdb_context *to;
	int r = fresh_open(d, &path, &to);
	if (r < 0)
		return r;
	if (tdb_transaction_start(to) < 0 || tdb_traverse_read(d->tdb, copy_record, to) < 0 ||
	    tdb_transaction_commit(to) < 0)
		r = database_errno(to);
	return fresh_adopt(d, path, to, r);
}

/* An open that failed for what the file contains, not for what the system
 * refuses. TDB doesn't always say which. */
static bool content_to_blame(int e, const char *path) {
	static const int systems[] = { EACCES, EPERM, ENOMEM, EMFILE, ENFILE, EROFS, ENOSPC, EDQUOT, EBUSY };
	for (size_t i = 0; i < ARRAY_SIZE(systems); i++)
		if (e == systems[i])
			return false;
	return access(path, F_OK) == 0;
}

int database_open(struct database *d, struct fault *fault) {
	struct stat st;
	int r = 0;
	if (stat(d->path, &st) < 0 || st.st_size == 0) {
		r = database_create(d);
		return r < 0 ? fault_errno(fault, r, "create database \"%s\"", d->path) : 0;
	}
	errno = 0;
	d->tdb = tdb_open_at(d, d->path);
	int e = errno;
	if (!d->tdb && content_to_blame(e, d->path))
		r = database_rebuild(d, "the file can't be opened as a database");
	else if (!d->tdb)
		r = -(e ? e : EIO);
	else if (tdb_check(d->tdb, NULL, NULL) < 0) {
		tdb_close(d->tdb);
		d->tdb = NULL;
		r = database_rebuild(d, "the file's structure is damaged");
	}
	if (r < 0)
		return fault_errno(fault, r, "open database \"%s\"", d->path);
	r = database_compact(d);
	if (r < 0)
		log_event(LOG_WARN, "database not compacted", "file", d->path, "error", strerrordesc_np(-r), NULL);
	return d->tdb ? 0 : fault_errno(fault, r ? r : EIO, "open database \"%s\"", d->path);
}

void database_close(struct database *d) {
	if (d->tdb)
		tdb_close(d->tdb);
	d->tdb = NULL;
	free(d->path);
	d->path = NULL;
}
