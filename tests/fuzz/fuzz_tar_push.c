/*
 * An archive whose bytes come when they come (tar/push.h), as a client's stream
 * brings them. The first byte says in pieces of how many bytes.
 *
 * Invariants beyond the sanitisers': what is read and how it ends doesn't depend
 * on the pieces; the position is what was taken; a refusal has a sentence; and
 * the entries are those that the reader which waits (tar/tar.h) finds.
 */
#include "tests/fuzz/archive.h"
#include "tests/fuzz/fuzz.h"

#include "tar/push.h"

#include <string.h>

/* Texts of entries and of the end, one after the other. */
static void note_entry(struct buffer *record, const struct tar_entry *e) {
	buffer_addf(record, "%d \"%s\" -> \"%s\" %llu\n", e->type, e->path, e->link, (unsigned long long)e->size);
}

static void take(struct tar_push *p, struct buffer *in) {
	size_t n = (size_t)MIN((uint64_t)in->size, p->stored);
	buffer_consume(in, n);
	tar_push_took(p, n);
}

/* What one piece leads to; negative: a refusal. */
static int push(struct tar_push *p, struct buffer *in, struct buffer *record) {
	struct tar_entry e;
	struct fault fault = { 0 };
	for (;;) {
		size_t before = in->size;
		uint64_t at = p->position;
		if (p->stored > 0) {
			take(p, in);
			if (in->size == 0)
				return 0;
			continue;
		}
		int r = tar_push(p, in, &e, &fault);
		require(p->position - at == before - in->size);
		require(r >= 0 || (fault.code != FAULT_NONE && fault.text[0]));
		if (r < 0)
			buffer_addf(record, "%s\n", fault.text);
		if (r <= 0)
			return r;
		note_entry(record, &e);
	}
}

/* Whether the archive was read without a refusal. */
static bool read_pushed(const uint8_t *data, size_t size, size_t piece, struct buffer *record) {
	struct tar_push p = { 0 };
	CLEANUP_BUFFER struct buffer in = { 0 };
	int r = 0;
	for (size_t at = 0; r == 0 && at < size; at += piece) {
		buffer_add(&in, data + at, MIN(piece, size - at));
		r = push(&p, &in, record);
	}
	bool whole = r == 0 && p.stored == 0 && tar_push_whole(&p) && (p.ended || in.size == 0);
	buffer_addf(record, whole ? "whole\n" : "not whole\n");
	tar_push_deinit(&p);
	return whole;
}

/* Nothing that isn't collected is in the record of the other. */
static void read_waited(const uint8_t *data, size_t size, struct buffer *record) {
	struct pieces pieces = pieces_of(data, size, 4096);
	struct tar_entry e;
	struct fault fault;
	struct tar *t;
	int r;
	require(tar_new(&pieces.stream, &t) == 0);
	while ((r = tar_next(t, &e, &fault)) > 0)
		note_entry(record, &e);
	buffer_addf(record, r == 0 ? "whole\n" : "not whole\n");
	tar_free(t);
}

static bool same(const struct buffer *a, const struct buffer *b) {
	require(!a->failed && !b->failed);
	return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	CLEANUP_BUFFER struct buffer pieces = { 0 }, at_once = { 0 }, waited = { 0 };
	CLEANUP_FREE uint8_t *copy = malloc(size + 1);
	if (size < 2 || !copy)
		return 0;
	memcpy(copy, data + 1, size - 1);
	archive_checksums_repair(copy, size - 1);
	bool whole = read_pushed(copy, size - 1, size - 1, &at_once);
	read_pushed(copy, size - 1, data[0] ? data[0] : 512, &pieces);
	require(same(&pieces, &at_once));
	read_waited(copy, size - 1, &waited);
	require(!whole || same(&waited, &at_once));
	return 0;
}
