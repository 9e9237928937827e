#include "workers/metadata/store/store.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/map.h"
#include "workers/metadata/store/database.h"

#include <stdio.h>
#include <string.h>

#define RETRY_NS (1 * NS_PER_SEC)
#define SYNC_DELAY_NS (1 * NS_PER_SEC)

struct change {
	struct map_node node;
	struct buffer bytes; /* empty: delete */
	char key[];
};

struct base {
	struct store *store;
	struct database db;
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
	int hash_size;
	bool durable;
} kinds[STORE_BASES] = {
	[STORE_IMAGES] = { .file = "images.tdb", .hash_size = 257, .durable = true },
	[STORE_PODS] = { .file = "pods.tdb", .hash_size = 2003, .durable = false },
};

/* --- opening ---------------------------------------------------------------- */

static int base_open(struct base *b, const struct base_kind *k, const char *dir, struct fault *fault) {
	b->db = (struct database){ .hash_size = k->hash_size, .durable = k->durable, .aside = &b->store->aside };
	if (asprintf(&b->db.path, "%s/%s", dir, k->file) < 0) {
		b->db.path = NULL;
		return fault_errno(fault, ENOMEM, "open database \"%s/%s\"", dir, k->file);
	}
	return database_open(&b->db, fault);
}

int store_open(struct loop *loop, const char *dir, struct store **ret_store, struct fault *fault) {
	struct store *s = calloc(1, sizeof(*s));
	if (!s)
		return fault_errno(fault, ENOMEM, "open the store");
	s->loop = loop;
	s->sequence = (uint64_t)clock_real();
	for (int i = 0; i < STORE_BASES; i++) {
		s->bases[i] = (struct base){ .store = s };
		map_init(&s->bases[i].changes);
		list_init(&s->bases[i].waiters);
	}
	int r = aside_init(&s->aside, dir);
	if (r < 0)
		fault_errno(fault, r, "make \"%s/set-aside\"", dir);
	for (int i = 0; r == 0 && i < STORE_BASES; i++)
		r = base_open(&s->bases[i], &kinds[i], dir, fault);
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
	if (tdb_traverse_read(l.base->db.tdb, load_one, &l) < 0)
		log_event(LOG_ERROR, "database only partly read", "file", l.base->db.path, "error",
			  tdb_errorstr(l.base->db.tdb), NULL);
	bool any = !list_empty(&l.bad), open = any && tdb_transaction_start(l.base->db.tdb) == 0;
	for (struct list *n; (n = list_pop(&l.bad));) {
		struct bad *bad = list_entry(n, struct bad, node);
		if (open)
			tdb_delete(l.base->db.tdb, (TDB_DATA){ (unsigned char *)bad->key, bad->key_size });
		free(bad);
	}
	if (open)
		tdb_transaction_commit(l.base->db.tdb);
}

/* --- the background sync of what isn't durable by itself ------------------- */

static void base_sync_later(struct base *b);

static void sync_done(void *ctx, int result) {
	struct base *b = ctx;
	loop_source_free(b->sync);
	b->sync = NULL;
	if (result < 0)
		log_event(LOG_WARN, "database not synced", "file", b->db.path, "error", strerrordesc_np(-result), NULL);
	if (b->dirty)
		base_sync_later(b);
}

static void on_sync_timer(void *ctx) {
	struct base *b = ctx;
	loop_source_free(b->sync_timer);
	b->sync_timer = NULL;
	b->dirty = false;
	if (loop_fsync(b->store->loop, tdb_fd(b->db.tdb), true, sync_done, b, &b->sync) < 0)
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

/* The file is mapped while all of it is read. From then on it isn't: TDB makes
 * the mapping anew with each transaction, which costs several times what reading
 * and writing do, the more the larger the file is. */
static int base_write(struct base *b) {
	size_t pos;
	if (b->changes.n_nodes == 0)
		return 0;
	tdb_add_flags(b->db.tdb, TDB_NOMMAP);
	if (tdb_transaction_start(b->db.tdb) < 0)
		return database_errno(b->db.tdb);
	for (struct map_node *n = map_first(&b->changes, &pos); n; n = map_next(&b->changes, &pos, n)) {
		struct change *c = container_of(n, struct change, node);
		TDB_DATA key = database_key(c->key), value = { .dptr = c->bytes.data, .dsize = c->bytes.size };
		int r = value.dsize ? tdb_store(b->db.tdb, key, value, TDB_REPLACE) : tdb_delete(b->db.tdb, key);
		/* Deleting what was never committed is no error. */
		if (r < 0 && (value.dsize || tdb_error(b->db.tdb) != TDB_ERR_NOEXIST)) {
			r = database_errno(b->db.tdb);
			tdb_transaction_cancel(b->db.tdb);
			return r;
		}
	}
	if (tdb_transaction_commit(b->db.tdb) < 0)
		return database_errno(b->db.tdb);
	changes_drop(b);
	if (!b->db.durable)
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
		log_event(LOG_ERROR, "database not written", "file", b->db.path, "error", strerrordesc_np(-r), NULL);
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
		if (b->db.tdb)
			base_write(b);
		loop_source_free(b->commit);
		loop_source_free(b->retry);
		loop_source_free(b->sync_timer);
		loop_source_free(b->sync);
		changes_drop(b);
		map_deinit(&b->changes);
		database_close(&b->db);
	}
	aside_deinit(&s->aside);
	free(s);
}
