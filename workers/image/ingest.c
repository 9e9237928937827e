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
	char digest[DIGEST_SIZE];
	char name[DIGEST_SIZE + 24]; /* below ingest/ */
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

static void remove_file(struct ingest *i) {
	unlinkat(content_ingest_dir(i->options.content), i->name, 0);
	i->committed = true; /* nothing is left of it */
}

void ingest_free(struct ingest *i) {
	if (!i)
		return;
	loop_source_free(i->step);
	uint64_t keep = i->options.resume ? MAX(i->written, i->rehash_end) : 0;
	/* Room that was reserved and not used is given back. */
	if (i->fd >= 0 && !i->committed && (keep == 0 || ftruncate(i->fd, (off_t)keep) < 0))
		remove_file(i);
	fd_close(i->fd);
	digest_free(i->hash);
	buffer_deinit(&i->fill);
	free(i);
}

/* --- failing --------------------------------------------------------------- */

static int no_room(const struct ingest *i, int err, struct fault *fault) {
	struct statvfs fs;
	uint64_t need = i->options.size - i->written, have = 0;
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

static int open_file(struct ingest *i, struct fault *fault) {
	struct stat st;
	const char *hex = i->digest + strlen("sha256:");
	if (i->options.resume)
		snprintf(i->name, sizeof(i->name), "%s", hex);
	else
		snprintf(i->name, sizeof(i->name), "%s.%llu", hex,
			 (unsigned long long)content_serial(i->options.content));
	i->fd = openat(content_ingest_dir(i->options.content), i->name,
		       O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (i->options.resume ? 0 : O_EXCL), 0600);
	if (i->fd < 0 || fstat(i->fd, &st) < 0)
		return fault_errno(fault, errno, "\"%s/ingest/%s\"", content_path(i->options.content), i->name);
	/* Longer than it can be: not what we are looking for. */
	if ((uint64_t)st.st_size > i->options.size) {
		if (ftruncate(i->fd, 0) < 0)
			return fault_errno(fault, errno, "\"%s/ingest/%s\"", content_path(i->options.content), i->name);
		st.st_size = 0;
	}
	i->rehash_end = (uint64_t)st.st_size;
	/* A full disk is better known now than after a gigabyte. */
	if (i->options.size > 0 && fallocate(i->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)i->options.size) < 0 &&
	    errno != EOPNOTSUPP && errno != EINTR) {
		int err = errno;
		return err == ENOSPC || err == EDQUOT || err == EFBIG
			   ? no_room(i, err, fault)
			   : fault_errno(fault, err, "\"%s/ingest/%s\"", content_path(i->options.content), i->name);
	}
	return 0;
}

int ingest_new(const struct ingest_options *options, struct ingest **ret_ingest, struct fault *fault) {
	struct ingest *i = calloc(1, sizeof(*i));
	if (!i)
		return fault_errno(fault, ENOMEM, "write blob %s", options->digest);
	i->fd = -1;
	i->options = *options;
	memcpy(i->digest, options->digest, DIGEST_SIZE);
	i->hash = digest_new();
	int r = i->hash ? open_file(i, fault) : fault_errno(fault, ENOMEM, "write blob %s", options->digest);
	if (r == 0 && i->rehash_end > 0) {
		r = next_rehash(i);
		if (r < 0)
			fault_errno(fault, r, "write blob %s", options->digest);
	}
	if (r < 0) {
		if (i->fd >= 0 && (r == -ENOSPC || r == -EDQUOT))
			remove_file(i);
		ingest_free(i);
		return r;
	}
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
	if (result == 0 &&
	    renameat(content_ingest_dir(c), i->name, content_blobs_dir(c), i->digest + strlen("sha256:")) < 0)
		result = -errno;
	if (result == 0) {
		i->committed = true;
		result = loop_fsync(content_loop(c), content_blobs_dir(c), false, folder_synced, i, &i->step);
	}
	if (result < 0)
		fail(i, result);
}

static void wrong(struct ingest *i, const struct fault *fault) {
	remove_file(i);
	commit_end(i, fault);
}

static void drained(struct ingest *i) {
	char have[DIGEST_SIZE];
	struct fault fault;
	if (i->written != i->options.size) {
		fault_set(&fault, FAULT_DATA_LOSS, "blob %s has %llu bytes, %llu were announced", i->digest,
			  (unsigned long long)i->written, (unsigned long long)i->options.size);
		wrong(i, &fault);
		return;
	}
	digest_text(i->hash, have);
	if (strcmp(have, i->digest) != 0) {
		fault_set(&fault, FAULT_DATA_LOSS, "what came for blob %s has the digest %s: it is thrown away",
			  i->digest, have);
		wrong(i, &fault);
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
