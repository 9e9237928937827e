/*
 * Operations that make content: the image worker writes what comes out of a
 * pipe, whose other end goes to whoever has the bytes, and makes a blob of it;
 * with its record it is content of a namespace. Before that it is nobody's, and
 * goes: after a failure by blob_write_undo, after a crash with the other writes
 * that nobody knows.
 */
#pragma once

#include "base/id.h"
#include "base/sha256.h"
#include "workers/metadata/object/object.h"
#include "workers/metadata/op.h"

struct blob_write {
	char id[ID_SIZE]; /* the image worker's name for it */
	int pipe;	  /* the end to write to: while it is open, so is the write; -1 */
	bool counted;	  /* among metadata.commits */
	char digest[DIGEST_SIZE];
	uint64_t size;
};

void blob_write_init(struct blob_write *b);
void blob_write_deinit(struct metadata *m, struct blob_write *b);

/* Two steps, which end with op_next or op_fail; in between digest and size
 * become what was written. */
void blob_write_open(struct op *op, struct blob_write *b);
void blob_write_commit(struct op *op, struct blob_write *b);
/* Takes back both. */
void blob_write_undo(struct metadata *m, const struct blob_write *b);
/* The record of it, held by the lease o->held_by; o has what else there is to
 * say. False: op has been failed. */
bool blob_write_record(struct op *op, const struct blob_write *b, char *namespace, const Bulkhead__Object *o);
