#include "workers/metadata/store/store.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/map.h"
#include "workers/metadata/store/salvage.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <tdb.h>

#define RETRY_NS (1 * NS_PER_SEC)
#define SYNC_DELAY_NS (1 * NS_PER_SEC)
/* Copying pays when the file holds this many times what lives in it. */
#define COMPACT_MIN (4 * 1024 * 1024)
#define COMPACT_FACTOR 4

struct change {
	struct map_node node;
	struct buffer bytes; /* empty: delete */
	char key[];
};

struct base {
	struct store *store;
	const struct base_kind *kind;
	char *path;
	struct tdb_context *tdb;
	struct map changes;
	struct list waiters; /* struct store_waiter */
	struct loop_source *commit, *retry, *sync_timer, *sync;
	bool dirty; /* committed and not yet synced */
};

struct store {
	struct loop *loop;
	uint64_t sequence;
	struct aside aside;
	struct base bases[STORE_BASES];
};

static const struct base_kind {
	const char *file;
	int hash_size; /* chains, for thousands of pods without long walks */
	bool durable;
} kinds[STORE_BASES] = {
	[STORE_IMAGES] = { .file = "images.tdb", .hash_size = 257, .durable = true },
	[STORE_PODS] = { .file = "pods.tdb", .hash_size = 2003, .durable = false },
};

/* --- TDB ------------------------------------------------------------------ */

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

static int tdb_errno(struct tdb_context *tdb) {
	switch (tdb_error(tdb)) {
	case TDB_ERR_OOM:
		return -ENOSPC; /* the file can't grow: memory, disk or its 4 GiB */
	case TDB_ERR_CORRUPT:
		return -EBADMSG;
	default:
		return -EIO;
	}
}

static TDB_DATA tdb_key(const char *key) {
	return (TDB_DATA){ .dptr = (unsigned char *)(uintptr_t)key, .dsize = strlen(key) };
}

/* With O_CREAT TDB would begin anew in a file whose head it doesn't know. */
static struct tdb_context *tdb_open_at(const struct base_kind *k, const char *path) {
	struct tdb_logging_context log = { .log_fn = tdb_said };
	struct stat st;
	bool there = stat(path, &st) == 0 && st.st_size > 0;
	int flags = TDB_INCOMPATIBLE_HASH | TDB_DISALLOW_NESTING | (k->durable ? 0 : TDB_NOSYNC);
	return tdb_open_ex(path, k->hash_size, flags, O_RDWR | O_CLOEXEC | (there ? 0 : O_CREAT), 0600, &log, NULL);
}

/* --- opening -------------------------------------------------------------- */

/* Beside the database, to be renamed over it when it is complete: whenever we
 * die, the old one or the new one is there, whole. */
static int fresh_open(struct base *b, char **ret_path, struct tdb_context **ret_tdb) {
	CLEANUP_FREE char *path = NULL;
	if (asprintf(&path, "%s.new", b->path) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	unlink(path);
	errno = 0;
	*ret_tdb = tdb_open_at(b->kind, path);
	if (!*ret_tdb)
		return errno ? -errno : -EIO;
	*ret_path = take_ptr(path);
	return 0;
}

/* Closes tdb and takes it in use, unless r says that it went wrong. */
static int fresh_adopt(struct base *b, const char *path, struct tdb_context *tdb, int r) {
	if (r == 0 && fsync(tdb_fd(tdb)) < 0)
		r = -errno;
	tdb_close(tdb);
	if (r == 0 && rename(path, b->path) < 0)
		r = -errno;
	if (r < 0)
		return r;
	if (b->tdb)
		tdb_close(b->tdb);
	b->tdb = tdb_open_at(b->kind, b->path);
	return b->tdb ? 0 : -EIO;
}

/* What a salvage has found so far of a key. */
static void salvage_keep(void *ctx, const struct record *r, const uint8_t *bytes, size_t size) {
	struct tdb_context *to = ctx;
	struct record old;
	const char *reason;
	char key[RECORD_KEY_MAX + 1];
	strcpy(key, r->key);
	TDB_DATA have = tdb_fetch(to, tdb_key(key));
	if (!have.dptr || record_check(key, have.dptr, have.dsize, &old, &reason) < 0 || old.sequence < r->sequence)
		tdb_store(to, tdb_key(key), (TDB_DATA){ .dptr = (unsigned char *)(uintptr_t)bytes, .dsize = size },
			  TDB_REPLACE);
	free(have.dptr);
}

/* A database that can't be trusted: what is whole in it goes into a new one. */
static int base_rebuild(struct base *b, const char *reason) {
	CLEANUP_FREE char *path = NULL;
	struct tdb_context *to;
	char count[16];
	int r = fresh_open(b, &path, &to);
	if (r < 0)
		return r;
	if (tdb_transaction_start(to) < 0)
		r = tdb_errno(to);
	int n = r < 0 ? r : salvage_file(b->path, salvage_keep, to);
	if (r == 0 && tdb_transaction_commit(to) < 0)
		r = tdb_errno(to);
	if (r == 0)
		r = aside_file(&b->store->aside, b->path, reason);
	r = fresh_adopt(b, path, to, r);
	snprintf(count, sizeof(count), "%d", n);
	log_event(LOG_WARN, "database rebuilt", "file", b->path, "copies_found", count, NULL);
	return r;
}

static int base_create(struct base *b) {
	CLEANUP_FREE char *path = NULL;
	struct tdb_context *to;
	int r = fresh_open(b, &path, &to);
	return r < 0 ? r : fresh_adopt(b, path, to, 0);
}

static int copy_record(struct tdb_context *tdb, TDB_DATA key, TDB_DATA value, void *ctx) {
	return tdb_store(ctx, key, value, TDB_INSERT);
}

static int live_bytes(struct tdb_context *tdb, TDB_DATA key, TDB_DATA value, void *ctx) {
	*(uint64_t *)ctx += key.dsize + value.dsize;
	return 0;
}

/* TDB never shrinks its file. Copy and rename: a crash leaves the old one. */
static int base_compact(struct base *b) {
	struct stat st;
	uint64_t live = 0;
	if (stat(b->path, &st) < 0 || st.st_size < COMPACT_MIN || tdb_traverse_read(b->tdb, live_bytes, &live) < 0 ||
	    (uint64_t)st.st_size < COMPACT_MIN + live * COMPACT_FACTOR)
		return 0;
	CLEANUP_FREE char *path = NULL;
	struct tdb_context *to;
	int r = fresh_open(b, &path, &to);
	if (r < 0)
		return r;
	if (tdb_transaction_start(to) < 0 || tdb_traverse_read(b->tdb, copy_record, to) < 0 ||
	    tdb_transaction_commit(to) < 0)
		r = tdb_errno(to);
	return fresh_adopt(b, path, to, r);
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

static int base_open(struct base *b, struct fault *fault) {
	struct stat st;
	int r = 0;
	if (stat(b->path, &st) < 0 || st.st_size == 0) {
		r = base_create(b);
		return r < 0 ? fault_errno(fault, r, "create database \"%s\"", b->path) : 0;
	}
	errno = 0;
	b->tdb = tdb_open_at(b->kind, b->path);
	int e = errno;
	if (!b->tdb && content_to_blame(e, b->path))
		r = base_rebuild(b, "the file can't be opened as a database");
	else if (!b->tdb)
		r = -(e ? e : EIO);
	else if (tdb_check(b->tdb, NULL, NULL) < 0) {
		tdb_close(b->tdb);
		b->tdb = NULL;
		r = base_rebuild(b, "the file's structure is damaged");
	}
	if (r < 0)
		return fault_errno(fault, r, "open database \"%s\"", b->path);
	r = base_compact(b);
	if (r < 0)
		log_event(LOG_WARN, "database not compacted", "file", b->path, "error", strerrordesc_np(-r), NULL);
	return b->tdb ? 0 : fault_errno(fault, r ? r : EIO, "open database \"%s\"", b->path);
}

int store_open(struct loop *loop, const char *dir, struct store **ret_store, struct fault *fault) {
	struct store *s = calloc(1, sizeof(*s));
	if (!s)
		return fault_errno(fault, ENOMEM, "open the store");
	s->loop = loop;
	s->sequence = (uint64_t)clock_real();
	for (int i = 0; i < STORE_BASES; i++) {
		s->bases[i] = (struct base){ .store = s, .kind = &kinds[i] };
		map_init(&s->bases[i].changes);
		list_init(&s->bases[i].waiters);
	}
	int r = aside_init(&s->aside, dir);
	if (r < 0)
		fault_errno(fault, r, "make \"%s/set-aside\"", dir);
	for (int i = 0; r == 0 && i < STORE_BASES; i++) {
		struct base *b = &s->bases[i];
		r = asprintf(&b->path, "%s/%s", dir, b->kind->file) < 0 ? -ENOMEM : base_open(b, fault);
	}
	if (r < 0) {
		store_close(s);
		return r;
	}
	*ret_store = s;
	return 0;
}

/* --- loading -------------------------------------------------------------- */

struct loading {
	struct base *base;
	store_load_fn fn;
	void *ctx;
	struct list bad; /* struct bad */
};

struct bad {
	struct list node;
	char key[RECORD_KEY_MAX + 1];
	size_t key_size;
};

static int load_one(struct tdb_context *tdb, TDB_DATA key, TDB_DATA value, void *ctx) {
	struct loading *l = ctx;
	struct store *s = l->base->store;
	struct record r;
	const char *reason = "the record couldn't be read";
	char text[RECORD_KEY_MAX + 1];
	size_t n = MIN(key.dsize, sizeof(text) - 1);
	memcpy(text, key.dptr, n);
	text[n] = '\0';
	if (record_check(text, value.dptr, value.dsize, &r, &reason) == 0 && l->fn(l->ctx, &r, &reason) == 0) {
		s->sequence = MAX(s->sequence, r.sequence);
		return 0;
	}
	aside_record(&s->aside, text, reason, value.dptr, value.dsize);
	struct bad *bad = calloc(1, sizeof(*bad));
	if (bad) {
		memcpy(bad->key, text, n);
		bad->key_size = n;
		list_append(&l->bad, &bad->node);
	}
	return 0;
}

void store_load(struct store *s, enum store_base base, store_load_fn fn, void *ctx) {
	struct loading l = { .base = &s->bases[base], .fn = fn, .ctx = ctx };
	list_init(&l.bad);
	if (tdb_traverse_read(l.base->tdb, load_one, &l) < 0)
		log_event(LOG_ERROR, "database only partly read", "file", l.base->path, "error",
			  tdb_errorstr(l.base->tdb), NULL);
	bool any = !list_empty(&l.bad), open = any && tdb_transaction_start(l.base->tdb) == 0;
	for (struct list *n; (n = list_pop(&l.bad));) {
		struct bad *bad = list_entry(n, struct bad, node);
		if (open)
			tdb_delete(l.base->tdb, (TDB_DATA){ (unsigned char *)bad->key, bad->key_size });
		free(bad);
	}
	if (open)
		tdb_transaction_commit(l.base->tdb);
}

/* --- the background sync of what isn't durable by itself ------------------- */

static void base_sync_later(struct base *b);

static void sync_done(void *ctx, int result) {
	struct base *b = ctx;
	loop_source_free(b->sync);
	b->sync = NULL;
	if (result < 0)
		log_event(LOG_WARN, "database not synced", "file", b->path, "error", strerrordesc_np(-result), NULL);
	if (b->dirty)
		base_sync_later(b);
}

static void on_sync_timer(void *ctx) {
	struct base *b = ctx;
	loop_source_free(b->sync_timer);
	b->sync_timer = NULL;
	b->dirty = false;
	if (loop_fsync(b->store->loop, tdb_fd(b->tdb), true, sync_done, b, &b->sync) < 0)
		b->dirty = true;
}

static void base_sync_later(struct base *b) {
	b->dirty = true;
	if (b->sync || b->sync_timer)
		return;
	if (loop_timer(b->store->loop, clock_mono() + SYNC_DELAY_NS, on_sync_timer, b, &b->sync_timer) < 0)
		b->sync_timer = NULL; /* the next commit tries again */
}

/* --- group commit --------------------------------------------------------- */

static void changes_drop(struct base *b) {
	size_t pos;
	for (struct map_node *n = map_first(&b->changes, &pos); n;) {
		struct change *c = container_of(n, struct change, node);
		map_remove(&b->changes, n);
		n = map_next(&b->changes, &pos, n);
		buffer_deinit(&c->bytes);
		free(c);
	}
}

static int base_write(struct base *b) {
	size_t pos;
	if (b->changes.n_nodes == 0)
		return 0;
	if (tdb_transaction_start(b->tdb) < 0)
		return tdb_errno(b->tdb);
	for (struct map_node *n = map_first(&b->changes, &pos); n; n = map_next(&b->changes, &pos, n)) {
		struct change *c = container_of(n, struct change, node);
		TDB_DATA key = tdb_key(c->key), value = { .dptr = c->bytes.data, .dsize = c->bytes.size };
		int r = value.dsize ? tdb_store(b->tdb, key, value, TDB_REPLACE) : tdb_delete(b->tdb, key);
		/* Deleting what was never committed is no error. */
		if (r < 0 && (value.dsize || tdb_error(b->tdb) != TDB_ERR_NOEXIST)) {
			r = tdb_errno(b->tdb);
			tdb_transaction_cancel(b->tdb);
			return r;
		}
	}
	if (tdb_transaction_commit(b->tdb) < 0)
		return tdb_errno(b->tdb);
	changes_drop(b);
	if (!b->kind->durable)
		base_sync_later(b);
	return 0;
}

static void base_commit_later(struct base *b);

static void on_retry(void *ctx) {
	struct base *b = ctx;
	loop_source_free(b->retry);
	b->retry = NULL;
	base_commit_later(b);
}

static void base_commit(struct base *b) {
	int r = base_write(b);
	if (r < 0) {
		log_event(LOG_ERROR, "database not written", "file", b->path, "error", strerrordesc_np(-r), NULL);
		if (!b->retry && loop_timer(b->store->loop, clock_mono() + RETRY_NS, on_retry, b, &b->retry) < 0)
			b->retry = NULL;
	}
	/* Only those that waited for this commit: their callbacks add others. */
	struct list now;
	list_init(&now);
	for (struct list *n; (n = list_pop(&b->waiters));)
		list_append(&now, n);
	for (struct list *n; (n = list_pop(&now));) {
		struct store_waiter *w = list_entry(n, struct store_waiter, node);
		w->fn(w->ctx, r);
	}
}

static void on_commit(void *ctx) {
	struct base *b = ctx;
	loop_source_free(b->commit);
	b->commit = NULL;
	base_commit(b);
}

static void base_commit_later(struct base *b) {
	if (b->commit)
		return;
	if (loop_defer(b->store->loop, on_commit, b, &b->commit) < 0)
		b->commit = NULL; /* out of memory: the next change tries again */
}

static int base_change(struct base *b, const char *key, struct buffer *bytes) {
	struct map_node *n = map_find(&b->changes, key);
	struct change *c = n ? container_of(n, struct change, node) : calloc(1, sizeof(*c) + strlen(key) + 1);
	if (!c)
		return -ENOMEM;
	if (n)
		buffer_deinit(&c->bytes);
	else {
		strcpy(c->key, key);
		if (map_insert(&b->changes, &c->node, c->key) < 0) {
			free(c);
			return -ENOMEM;
		}
	}
	c->bytes = buffer_take(bytes);
	base_commit_later(b);
	return 0;
}

int store_put(struct store *s, enum store_base base, const char *key, enum record_type type,
	      const ProtobufCMessage *m) {
	CLEANUP_BUFFER struct buffer bytes = { 0 };
	int r = record_pack(key, type, ++s->sequence, m, &bytes);
	return r < 0 ? r : base_change(&s->bases[base], key, &bytes);
}

int store_delete(struct store *s, enum store_base base, const char *key) {
	struct buffer none = { 0 };
	return base_change(&s->bases[base], key, &none);
}

void store_wait(struct store *s, enum store_base base, struct store_waiter *w) {
	list_append(&s->bases[base].waiters, &w->node);
	base_commit_later(&s->bases[base]);
}

void store_unwait(struct store_waiter *w) {
	list_unlink(&w->node);
}

const struct aside *store_aside(const struct store *s) {
	return &s->aside;
}

void store_close(struct store *s) {
	if (!s)
		return;
	for (int i = 0; i < STORE_BASES; i++) {
		struct base *b = &s->bases[i];
		if (b->tdb) {
			base_write(b);
			tdb_close(b->tdb);
		}
		loop_source_free(b->commit);
		loop_source_free(b->retry);
		loop_source_free(b->sync_timer);
		loop_source_free(b->sync);
		changes_drop(b);
		map_deinit(&b->changes);
		free(b->path);
	}
	aside_deinit(&s->aside);
	free(s);
}
