/*
 * The store: what was acknowledged is there after kill -9 at any moment, pairs
 * that were written together are whole, a damaged record and a damaged file
 * cost themselves only.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "internal/common.pb-c.h"
#include "tap.h"
#include "workers/metadata/store/store.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <tdb.h>

#define KEYS_MAX 512

struct seen {
	size_t n;
	char key[KEYS_MAX][64], value[KEYS_MAX][64];
	const char *refuse; /* a key that load says is bad */
};

static char folder[] = "/tmp/bulkhead-store-XXXXXX";

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
	return remove(path);
}

static const char *fresh_folder(void) {
	static char path[128];
	static int n;
	snprintf(path, sizeof(path), "%s/%d", folder, n++);
	mkdir(path, 0700);
	return path;
}

static int load_one(void *ctx, const struct record *r, const char **ret_reason) {
	struct seen *s = ctx;
	Bulkhead__Key *k = bulkhead__key__unpack(NULL, r->size, r->data);
	if (!k || s->n >= KEYS_MAX || (s->refuse && strcmp(s->refuse, r->key) == 0)) {
		*ret_reason = "the test doesn't want it";
		bulkhead__key__free_unpacked(k, NULL);
		return -EBADMSG;
	}
	snprintf(s->key[s->n], 64, "%s", r->key);
	snprintf(s->value[s->n++], 64, "%s", k->id);
	bulkhead__key__free_unpacked(k, NULL);
	return 0;
}

static const char *value_of(const struct seen *s, const char *key) {
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->key[i], key) == 0)
			return s->value[i];
	return NULL;
}

static struct loop *new_loop(void) {
	struct loop *l;
	struct loop_options o = { 0 };
	if (loop_new(&o, &l) < 0 || loop_enable(l, NULL, 0) < 0)
		abort();
	return l;
}

static struct store *open_store(struct loop *l, const char *dir) {
	struct store *s = NULL;
	struct fault fault;
	if (store_open(l, dir, &s, &fault) < 0)
		printf("# %s\n", fault.text);
	return s;
}

static int put(struct store *s, enum store_base base, const char *key, const char *value) {
	Bulkhead__Key k = BULKHEAD__KEY__INIT;
	k.id = (char *)(uintptr_t)value;
	return store_put(s, base, key, RECORD_LAYER, &k.base);
}

struct waited {
	struct store_waiter w;
	int calls, result;
};

static void on_waited(void *ctx, int result) {
	struct waited *w = ctx;
	w->calls++;
	w->result = result;
}

static void wait_commit(struct loop *l, struct store *s, enum store_base base, struct waited *w) {
	*w = (struct waited){ .w = { .fn = on_waited, .ctx = w } };
	store_wait(s, base, &w->w);
	for (int i = 0; i < 100 && w->calls == 0; i++)
		loop_turn(l, 10 * NS_PER_MS);
}

static struct seen reload(const char *dir, enum store_base base, const char *refuse, unsigned *ret_aside) {
	struct seen seen = { .refuse = refuse };
	CLEANUP_LOOP struct loop *l = new_loop();
	struct store *s = open_store(l, dir);
	if (!s)
		return seen;
	store_load(s, base, load_one, &seen);
	if (ret_aside)
		*ret_aside = store_aside(s)->n_entries;
	store_close(s);
	return seen;
}

/* --- ordinary life ---------------------------------------------------------- */

static void test_life(void) {
	const char *dir = fresh_folder();
	struct loop *l = new_loop();
	struct store *s = open_store(l, dir);
	struct waited w;
	tap_check(s != NULL, "a new store opens");
	tap_check(put(s, STORE_PODS, "a", "1") == 0 && put(s, STORE_PODS, "b", "2") == 0, "changes are taken");
	tap_check(put(s, STORE_PODS, "a", "3") == 0, "a second change of a key too");
	w.calls = 0;
	wait_commit(l, s, STORE_PODS, &w);
	tap_check(w.calls == 1 && w.result == 0, "the waiter is called once, after the commit");
	tap_check(store_delete(s, STORE_PODS, "b") == 0 && store_delete(s, STORE_PODS, "never") == 0,
		  "deleting what isn't there is no error");
	wait_commit(l, s, STORE_PODS, &w);
	tap_check(w.result == 0, "and commits");
	put(s, STORE_IMAGES, "i", "image");
	wait_commit(l, s, STORE_IMAGES, &w);
	tap_check(w.result == 0, "the durable database commits");
	put(s, STORE_PODS, "late", "4");
	store_close(s);
	loop_free(l);

	unsigned aside;
	struct seen pods = reload(dir, STORE_PODS, NULL, &aside), images = reload(dir, STORE_IMAGES, NULL, NULL);
	tap_check(pods.n == 2 && value_of(&pods, "a") && strcmp(value_of(&pods, "a"), "3") == 0 && aside == 0,
		  "the last value is there after reopening, the deleted key isn't");
	tap_check(value_of(&pods, "late") != NULL, "closing commits what is collected");
	tap_check(images.n == 1 && strcmp(value_of(&images, "i"), "image") == 0, "databases don't mix");
}

static void test_large(void) {
	const char *dir = fresh_folder();
	CLEANUP_LOOP struct loop *l = new_loop();
	struct store *s = open_store(l, dir);
	char *big = malloc(RECORD_MAX + 1);
	memset(big, 'x', RECORD_MAX);
	big[RECORD_MAX] = '\0';
	tap_check(put(s, STORE_PODS, "big", big) == -EFBIG, "a record above the cap is refused");
	big[RECORD_MAX - 100] = '\0';
	tap_check(put(s, STORE_PODS, "big", big) == 0, "one below it is taken");
	struct waited w;
	wait_commit(l, s, STORE_PODS, &w);
	tap_check(w.result == 0, "and committed");
	store_close(s);
	free(big);
}

static void test_group(void) {
	const char *dir = fresh_folder();
	CLEANUP_LOOP struct loop *l = new_loop();
	struct store *s = open_store(l, dir);
	struct waited w[3];
	for (int i = 0; i < 3; i++) {
		char key[8];
		snprintf(key, sizeof(key), "k%d", i);
		put(s, STORE_PODS, key, "v");
		w[i] = (struct waited){ .w = { .fn = on_waited, .ctx = &w[i] } };
		store_wait(s, STORE_PODS, &w[i].w);
	}
	tap_check(w[0].calls == 0, "nobody is called from within store_wait");
	loop_turn(l, 10 * NS_PER_MS);
	loop_turn(l, 0);
	tap_check(w[0].calls == 1 && w[1].calls == 1 && w[2].calls == 1, "one commit serves all of a turn");
	store_close(s);
}

/* --- kill -9 ---------------------------------------------------------------- */

/* Writes pairs for ever: "a" and "b" together, then tells how far it is. */
static void writer(const char *dir, int out) {
	struct loop *l = new_loop();
	struct store *s = open_store(l, dir);
	struct waited w;
	char value[32], key[32];
	for (uint32_t i = 1;; i++) {
		snprintf(value, sizeof(value), "%u", i);
		put(s, STORE_PODS, "a", value);
		put(s, STORE_PODS, "b", value);
		snprintf(key, sizeof(key), "churn%u", i % 50);
		if (i % 3)
			put(s, STORE_PODS, key, value);
		else
			(void)!store_delete(s, STORE_PODS, key);
		wait_commit(l, s, STORE_PODS, &w);
		if (w.result != 0 || write(out, &i, sizeof(i)) != sizeof(i))
			_exit(1);
	}
}

static bool kill_once(const char *dir, int delay_us) {
	int p[2];
	uint32_t acknowledged = 0, i;
	if (pipe2(p, O_CLOEXEC) < 0)
		return false;
	pid_t pid = fork();
	if (pid == 0)
		writer(dir, p[1]);
	close(p[1]);
	usleep((useconds_t)delay_us);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	while (read(p[0], &i, sizeof(i)) == sizeof(i))
		acknowledged = i;
	close(p[0]);
	unsigned aside;
	struct seen seen = reload(dir, STORE_PODS, NULL, &aside);
	const char *a = value_of(&seen, "a"), *b = value_of(&seen, "b");
	if (acknowledged == 0)
		return aside == 0;
	bool good = a && b && strcmp(a, b) == 0 && strtoul(a, NULL, 10) >= acknowledged && aside == 0;
	if (!good)
		printf("# acknowledged %u, a %s, b %s, set aside %u\n", acknowledged, a ? a : "-", b ? b : "-", aside);
	return good;
}

static void test_kill(void) {
	bool good = true;
	const char *dir = fresh_folder();
	for (int i = 0; i < 25 && good; i++)
		good = kill_once(dir, 8000 + i * 1300);
	tap_check(good, "after kill -9, 25 times, what was acknowledged is there and pairs are whole");
}

/* --- damage ----------------------------------------------------------------- */

static void fill(const char *dir, int n) {
	CLEANUP_LOOP struct loop *l = new_loop();
	struct store *s = open_store(l, dir);
	struct waited w;
	char key[32];
	for (int i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "key%d", i);
		put(s, STORE_PODS, key, "old");
	}
	wait_commit(l, s, STORE_PODS, &w);
	for (int i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "key%d", i);
		put(s, STORE_PODS, key, key);
	}
	wait_commit(l, s, STORE_PODS, &w);
	store_close(s);
}

/* Changes one byte of the value of a key, by TDB's own means. */
static void damage_record(const char *dir, const char *key) {
	char path[256];
	snprintf(path, sizeof(path), "%s/pods.tdb", dir);
	struct tdb_context *t = tdb_open(path, 0, TDB_DEFAULT, O_RDWR, 0600);
	TDB_DATA k = { (unsigned char *)(uintptr_t)key, strlen(key) }, v = tdb_fetch(t, k);
	v.dptr[v.dsize - 1] ^= 1;
	tdb_store(t, k, v, TDB_REPLACE);
	free(v.dptr);
	tdb_close(t);
}

static void test_damaged_record(void) {
	const char *dir = fresh_folder();
	unsigned aside;
	fill(dir, 20);
	damage_record(dir, "key7");
	struct seen seen = reload(dir, STORE_PODS, "key9", &aside);
	tap_check(seen.n == 18 && !value_of(&seen, "key7"), "a damaged record costs itself only");
	tap_check(aside == 2, "it is set aside, and so is one that doesn't make sense");
	seen = reload(dir, STORE_PODS, NULL, &aside);
	tap_check(seen.n == 18 && aside == 2, "it isn't met again, and is still listed after a restart");
}

static void overwrite(const char *dir, off_t at, const void *data, size_t n) {
	char path[256];
	snprintf(path, sizeof(path), "%s/pods.tdb", dir);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (pwrite(fd, data, n, at) != (ssize_t)n)
		abort();
	close(fd);
}

/* Changes all places that name a key, stale copies included. */
static void damage_key(const char *path, const char *key) {
	char *data, *at;
	size_t size, n = strlen(key);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd_read_all(fd, 64 * 1024 * 1024, &data, &size) < 0)
		abort();
	for (char *from = data; (at = memmem(from, size - (size_t)(from - data), key, n)); from = at + n)
		if (pwrite(fd, "#", 1, at - data) != 1)
			abort();
	close(fd);
	free(data);
}

static void test_damaged_file(void) {
	static const uint8_t junk[8192] = { [0 ... 8191] = 0xa5 };
	unsigned aside;
	const char *dir = fresh_folder();
	fill(dir, 200);
	/* The hash chains: TDB's structure is lost, the records aren't. */
	overwrite(dir, 200, junk, 4000);
	struct seen seen = reload(dir, STORE_PODS, NULL, &aside);
	bool newest = seen.n > 0;
	for (size_t i = 0; i < seen.n; i++)
		newest = newest && strcmp(seen.key[i], seen.value[i]) == 0;
	tap_check(seen.n == 200 && newest && aside == 1, "all records are salvaged from a file without its index (%zu)",
		  seen.n);
	seen = reload(dir, STORE_PODS, NULL, NULL);
	tap_check(seen.n == 200, "and are there the next time");

	dir = fresh_folder();
	fill(dir, 200);
	overwrite(dir, 0, junk, 64);
	seen = reload(dir, STORE_PODS, NULL, &aside);
	tap_check(seen.n == 200 && aside == 1, "and from one without its head (%zu)", seen.n);

	dir = fresh_folder();
	fill(dir, 200);
	char path[256];
	snprintf(path, sizeof(path), "%s/pods.tdb", dir);
	damage_key(path, "key100");
	seen = reload(dir, STORE_PODS, NULL, &aside);
	tap_check(seen.n == 199 && aside >= 1, "a hole costs what was in it (%zu of 200 left)", seen.n);

	dir = fresh_folder();
	fill(dir, 3);
	snprintf(path, sizeof(path), "%s/pods.tdb", dir);
	tap_check(truncate(path, 0) == 0 && reload(dir, STORE_PODS, NULL, NULL).n == 0, "an empty file opens");
	fill(dir, 3);
	aside = 0;
	tap_check(truncate(path, 10000) == 0 && reload(dir, STORE_PODS, NULL, &aside).n <= 3 && aside == 1,
		  "a cut file opens");
}

static void test_compact(void) {
	const char *dir = fresh_folder();
	CLEANUP_LOOP struct loop *l = new_loop();
	struct store *s = open_store(l, dir);
	struct waited w;
	struct stat before, after;
	char key[32], path[256];
	char *value = malloc(300000);
	memset(value, 'v', 299999);
	value[299999] = '\0';
	for (int i = 0; i < 60; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		put(s, STORE_PODS, key, value);
	}
	wait_commit(l, s, STORE_PODS, &w);
	for (int i = 2; i < 60; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		(void)!store_delete(s, STORE_PODS, key);
	}
	wait_commit(l, s, STORE_PODS, &w);
	store_close(s);
	snprintf(path, sizeof(path), "%s/pods.tdb", dir);
	stat(path, &before);
	struct seen seen = reload(dir, STORE_PODS, NULL, NULL);
	stat(path, &after);
	tap_check(seen.n == 2 && after.st_size * 4 < before.st_size,
		  "a grown file is compacted at start (%ld to %ld KiB)", (long)before.st_size / 1024,
		  (long)after.st_size / 1024);
	free(value);
}

int main(void) {
	log_init("test", getenv("V") ? LOG_DEBUG : LOG_ERROR + 1);
	if (!mkdtemp(folder))
		return 1;
	test_life();
	test_large();
	test_group();
	test_kill();
	test_damaged_record();
	test_damaged_file();
	test_compact();
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return tap_done();
}
