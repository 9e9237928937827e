/*
 * One blob on its way into the content store: a file below ingest/, hashed as
 * it is written, that becomes a blob when size and digest are right. Or one
 * below writes/: a client's, who may say only at the end what it must be, and
 * whose bytes stay whatever is wrong with them.
 *
 * Writing is asynchronous. What was handed in is hashed at once; ingest_file
 * and ingest_written tell how much of it others may read by now.
 */
#pragma once

#include "content.h"

struct ingest;

struct ingest_options {
	struct content *content;
	const char *digest; /* what it must be; copied. With write it may be NULL */
	uint64_t size;	    /* UINT64_MAX: not known yet */
	const char *write;  /* the file's name below writes/, copied; NULL: it is below ingest/ */
	/* Goes on with the bytes of an earlier attempt, which are hashed anew:
	 * moved is called as that proceeds. Without it the file has a name of
	 * its own and goes away with the ingest. */
	bool resume;
	/* More of the file may be read, or more may be handed in. */
	void (*moved)(void *ctx);
	/* Writing failed; nothing else comes. The file is removed. */
	void (*failed)(void *ctx, const struct fault *fault);
	void *ctx;
};

int ingest_new(const struct ingest_options *options, struct ingest **ret_ingest, struct fault *fault);
/* A resumable file that holds anything stays for the next attempt. */
void ingest_free(struct ingest *i);

/* False while the bytes of an earlier attempt are still being hashed. */
bool ingest_ready(const struct ingest *i);
/* How many bytes were hashed so far; the next one handed in follows them. */
uint64_t ingest_offset(const struct ingest *i);
/* How many bytes it takes now. */
size_t ingest_room(const struct ingest *i);
/* 0: taken; -EAGAIN: not now, moved tells when; -EFBIG: more than size. */
int ingest_add(struct ingest *i, const void *data, size_t size);
/* For reading; bytes before ingest_written are in it. */
int ingest_file(const struct ingest *i);
uint64_t ingest_written(const struct ingest *i);

/* "sha256:..." of the bytes so far. */
void ingest_digest(struct ingest *i, char ret_digest[DIGEST_SIZE]);
/* Of a client's, all of it written: back to no bytes. */
int ingest_restart(struct ingest *i);

/* Checks size and digest, syncs, names it. done is called later, once. On a
 * wrong size or digest the file is removed, unless it is a client's. */
void ingest_commit(struct ingest *i, void (*done)(void *ctx, const struct fault *fault));
/* The same, of a client's: what it must be is said now; digest "": whatever it
 * is, UINT64_MAX: however long. */
void ingest_commit_as(struct ingest *i, uint64_t size, const char *digest,
		      void (*done)(void *ctx, const struct fault *fault));
