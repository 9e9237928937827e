/*
 * Two buffers: one that is being written, one that fills meanwhile. The end is
 * a chain of asynchronous steps: drain, fsync the file, rename, fsync the
 * folder.
 */
#include "ingest.h"

#include "base/fd.h"
#include "base/id.h"
#include "digest.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define BUFFER_MAX (1024 * 1024)
#define REHASH_STEP (1024 * 1024) /* per turn of the loop */

struct ingest {
	struct ingest_options options;
	char digest[DIGEST_SIZE]; /* "": not known yet */
	char name[DIGEST_SIZE + 24];
	int dir; /* where name is */
	int fd;
	struct digest *hash;
	uint64_t hashed, written, rehash_end;
	struct buffer fill;
	size_t writing;		  /* bytes with the kernel */
	struct loop_source *step; /* what is under way: a rehash, a write or a sync */
	void (*done)(void *ctx, const struct fault *fault);
	bool committed;
};

bool ingest_ready(const struct ingest *i) {
	return i->hashed >= i->rehash_end;
}

uint64_t ingest_offset(const struct ingest *i) {
	return i->hashed;
}

int ingest_file(const struct ingest *i) {
	return i->fd;
}

uint64_t ingest_written(const struct ingest *i) {
	return i->written;
}

static bool of_client(const struct ingest *i) {
	return i->options.write != NULL;
}

static void remove_file(struct ingest *i) {
	unlinkat(i->dir, i->name, 0);
	i->committed = true; /* nothing is left of it */
}

void ingest_free(struct ingest *i) {
	if (!i)
		return;
	loop_source_free(i->step);
	uint64_t keep = i->options.resume ? MAX(i->written, i->rehash_end) : 0;
	/* Room that was reserved and not used is given back. */
	if (i->fd >= 0 && !i->committed && !of_client(i) && (keep == 0 || ftruncate(i->fd, (off_t)keep) < 0))
		remove_file(i);
	fd_close(i->fd);
	digest_free(i->hash);
	buffer_deinit(&i->fill);
	free(i);
}

/* --- failing --------------------------------------------------------------- */

static int no_room(const struct ingest *i, int err, struct fault *fault) {
	struct statvfs fs;
	uint64_t have = 0, need = i->options.size == UINT64_MAX ? i->fill.size : i->options.size - i->written;
	if (fstatvfs(i->fd, &fs) == 0)
		have = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (err == EDQUOT || have >= need)
		return fault_errno(fault, err, "write blob %s to \"%s\" (%llu bytes are missing)", i->digest,
				   content_path(i->options.content), (unsigned long long)need);
	return fault_set(fault, FAULT_RESOURCE_EXHAUSTED,
			 "the disk of \"%s\" is full: %llu more bytes are needed for blob %s, %llu are free",
			 content_path(i->options.content), (unsigned long long)need, i->digest,
			 (unsigned long long)have);
}

/* The end of an ingest that went wrong; whoever waits is told once. */
static void fail(struct ingest *i, int err) {
	struct fault fault;
	if (err == -ENOSPC || err == -EDQUOT)
		no_room(i, -err, &fault);
	else
		fault_errno(&fault, err, "write blob %s to \"%s\"", i->digest, content_path(i->options.content));
	if (!of_client(i))
		remove_file(i);
	void (*done)(void *, const struct fault *) = i->done ? i->done : i->options.failed;
	i->done = NULL;
	done(i->options.ctx, &fault);
}

/* --- beginning ------------------------------------------------------------- */

static void rehash(void *ctx);

static int next_rehash(struct ingest *i) {
	return loop_defer(content_loop(i->options.content), rehash, i, &i->step);
}

/* A step of reading what an earlier attempt left. */
static void rehash(void *ctx) {
	struct ingest *i = ctx;
	char chunk[64 * 1024];
	loop_source_free_p(&i->step);
	for (size_t n = 0; n < REHASH_STEP && i->hashed < i->rehash_end; n += sizeof(chunk)) {
		size_t want = (size_t)MIN((uint64_t)sizeof(chunk), i->rehash_end - i->hashed);
		ssize_t got = pread(i->fd, chunk, want, (off_t)i->hashed);
		if (got <= 0) {
			fail(i, got < 0 ? -errno : -EIO);
			return;
		}
		digest_update(i->hash, chunk, (size_t)got);
		i->hashed += (uint64_t)got;
		i->written = i->hashed;
	}
	int r = ingest_ready(i) ? 0 : next_rehash(i);
	if (r < 0)
		fail(i, r);
	else
		i->options.moved(i->options.ctx);
}

/* Where it is and what it is called. */
static void name_file(struct ingest *i) {
	const struct ingest_options *o = &i->options;
	const char *hex = i->digest + strlen("sha256:");
	i->dir = of_client(i) ? content_writes_dir(o->content) : content_ingest_dir(o->content);
	if (of_client(i))
		snprintf(i->name, sizeof(i->name), "%s", o->write);
	else if (o->resume)
		snprintf(i->name, sizeof(i->name), "%s", hex);
	else
		snprintf(i->name, sizeof(i->name), "%s.%llu", hex, (unsigned long long)content_serial(o->content));
}

static int file_fault(const struct ingest *i, struct fault *fault) {
	return fault_errno(fault, errno, "\"%s/%s/%s\"", content_path(i->options.content),
			   of_client(i) ? "writes" : "ingest", i->name);
}

/* A full disk is better known now than after a gigabyte. */
static int reserve(struct ingest *i, struct fault *fault) {
	uint64_t size = i->options.size;
	if (size == 0 || size == UINT64_MAX || fallocate(i->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size) == 0 ||
	    errno == EOPNOTSUPP || errno == EINTR)
		return 0;
	int err = errno;
	return err == ENOSPC || err == EDQUOT || err == EFBIG ? no_room(i, err, fault) : file_fault(i, fault);
}

static int open_file(struct ingest *i, struct fault *fault) {
	struct stat st;
	name_file(i);
	i->fd =
	    openat(i->dir, i->name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (i->options.resume ? 0 : O_EXCL), 0600);
	if (i->fd < 0 || fstat(i->fd, &st) < 0)
		return file_fault(i, fault);
	/* Longer than it can be: not what we are looking for. */
	if ((uint64_t)st.st_size > i->options.size) {
		if (ftruncate(i->fd, 0) < 0)
			return file_fault(i, fault);
		st.st_size = 0;
	}
	i->rehash_end = (uint64_t)st.st_size;
	return reserve(i, fault);
}

int ingest_new(const struct ingest_options *options, struct ingest **ret_ingest, struct fault *fault) {
	struct ingest *i = calloc(1, sizeof(*i));
	if (!i)
		return fault_errno(fault, ENOMEM, "write a blob");
	i->fd = -1;
	i->options = *options;
	snprintf(i->digest, sizeof(i->digest), "%s", options->digest ? options->digest : "");
	i->hash = digest_new();
	int r = i->hash ? open_file(i, fault) : fault_errno(fault, ENOMEM, "write blob %s", i->digest);
	if (r == 0 && i->rehash_end > 0) {
		r = next_rehash(i);
		if (r < 0)
			fault_errno(fault, r, "write blob %s", i->digest);
	}
	if (r < 0) {
		if (i->fd >= 0 && (r == -ENOSPC || r == -EDQUOT) && !of_client(i))
			remove_file(i);
		ingest_free(i);
		return r;
	}
	if (of_client(i))
		i->options.write = i->name; /* the caller's may not last */
	*ret_ingest = i;
	return 0;
}

/* --- writing --------------------------------------------------------------- */

static void drained(struct ingest *i);
static void write_done(void *ctx, int result);

static int write_more(struct ingest *i) {
	if (i->step || i->fill.size == 0)
		return 0;
	i->writing = i->fill.size;
	return loop_write(content_loop(i->options.content), i->fd, (int64_t)i->written, &i->fill, write_done, i,
			  &i->step);
}

static void write_done(void *ctx, int result) {
	struct ingest *i = ctx;
	loop_source_free_p(&i->step);
	if (result == 0) {
		i->written += i->writing;
		i->writing = 0;
		result = write_more(i);
	}
	if (result < 0)
		fail(i, result);
	else if (i->done && !i->step)
		drained(i);
	else
		i->options.moved(i->options.ctx);
}

size_t ingest_room(const struct ingest *i) {
	return i->fill.size < BUFFER_MAX ? BUFFER_MAX - i->fill.size : 0;
}

void ingest_digest(struct ingest *i, char ret_digest[DIGEST_SIZE]) {
	digest_text(i->hash, ret_digest);
}

int ingest_restart(struct ingest *i) {
	struct digest *hash = digest_new();
	if (!hash || ftruncate(i->fd, 0) < 0) {
		int err = hash ? errno : ENOMEM;
		digest_free(hash);
		return -err;
	}
	digest_free(i->hash);
	i->hash = hash;
	i->hashed = i->written = i->rehash_end = 0;
	return 0;
}

int ingest_add(struct ingest *i, const void *data, size_t size) {
	if (size > i->options.size - i->hashed)
		return -EFBIG;
	if (i->fill.size > 0 && i->fill.size + size > BUFFER_MAX)
		return -EAGAIN;
	buffer_add(&i->fill, data, size);
	if (i->fill.failed)
		return -ENOMEM;
	digest_update(i->hash, data, size);
	i->hashed += size;
	return write_more(i);
}

/* --- committing ------------------------------------------------------------ */

static void commit_end(struct ingest *i, const struct fault *fault) {
	void (*done)(void *, const struct fault *) = i->done;
	i->done = NULL;
	done(i->options.ctx, fault);
}

static void folder_synced(void *ctx, int result) {
	struct ingest *i = ctx;
	struct fault fault;
	loop_source_free_p(&i->step);
	if (result < 0)
		fault_errno(&fault, result, "sync \"%s/blobs/sha256\"", content_path(i->options.content));
	commit_end(i, result < 0 ? &fault : NULL);
}

static void file_synced(void *ctx, int result) {
	struct ingest *i = ctx;
	struct content *c = i->options.content;
	loop_source_free_p(&i->step);
	if (result == 0 && renameat(i->dir, i->name, content_blobs_dir(c), i->digest + strlen("sha256:")) < 0)
		result = -errno;
	if (result == 0) {
		i->committed = true;
		result = loop_fsync(content_loop(c), content_blobs_dir(c), false, folder_synced, i, &i->step);
	}
	if (result < 0)
		fail(i, result);
}

/* What came against what was announced. */
static int judge(struct ingest *i, struct fault *fault) {
	char have[DIGEST_SIZE];
	uint64_t size = i->options.size;
	digest_text(i->hash, have);
	if (of_client(i) && size != UINT64_MAX && i->written != size)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "unexpected commit size %llu, expected %llu",
				 (unsigned long long)i->written, (unsigned long long)size);
	if (of_client(i) && *i->digest && strcmp(have, i->digest) != 0)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "unexpected commit digest %s, expected %s", have,
				 i->digest);
	if (!of_client(i) && i->written != size)
		return fault_set(fault, FAULT_DATA_LOSS, "blob %s has %llu bytes, %llu were announced", i->digest,
				 (unsigned long long)i->written, (unsigned long long)size);
	if (!of_client(i) && strcmp(have, i->digest) != 0)
		return fault_set(fault, FAULT_DATA_LOSS, "what came for blob %s has the digest %s: it is thrown away",
				 i->digest, have);
	if (!*have)
		return fault_errno(fault, ENOMEM, "compute the digest of a blob");
	memcpy(i->digest, have, sizeof(have));
	return 0;
}

static void drained(struct ingest *i) {
	struct fault fault;
	if (judge(i, &fault) < 0) {
		if (!of_client(i))
			remove_file(i);
		commit_end(i, &fault);
		return;
	}
	if (ftruncate(i->fd, (off_t)i->written) < 0 || fchmod(i->fd, 0400) < 0) {
		fail(i, -errno);
		return;
	}
	int r = loop_fsync(content_loop(i->options.content), i->fd, false, file_synced, i, &i->step);
	if (r < 0)
		fail(i, r);
}

static void drained_now(void *ctx) {
	struct ingest *i = ctx;
	loop_source_free_p(&i->step);
	drained(i);
}

void ingest_commit(struct ingest *i, void (*done)(void *ctx, const struct fault *fault)) {
	i->done = done;
	if (!i->step && loop_defer(content_loop(i->options.content), drained_now, i, &i->step) < 0)
		fail(i, -ENOMEM);
}

void ingest_commit_as(struct ingest *i, uint64_t size, const char *digest,
		      void (*done)(void *ctx, const struct fault *fault)) {
	i->options.size = size;
	snprintf(i->digest, sizeof(i->digest), "%s", digest);
	ingest_commit(i, done);
}
