#include "tar/push.h"

#include "tar/header.h"

#include <errno.h>
#include <string.h>

/* The headers as what the reader reads. */
struct memory {
	struct stream stream;
	const struct buffer *from;
	bool given;
};

static ssize_t memory_next(struct stream *s, const uint8_t **ret_data, struct fault *fault) {
	struct memory *m = container_of(s, struct memory, stream);
	if (m->given)
		return 0;
	m->given = true;
	*ret_data = m->from->data;
	return (ssize_t)m->from->size;
}

void tar_push_deinit(struct tar_push *p) {
	tar_free(p->tar);
	buffer_deinit(&p->headers);
	*p = (struct tar_push){ 0 };
}

void tar_push_took(struct tar_push *p, uint64_t n) {
	p->stored -= n;
	p->position += n;
}

bool tar_push_whole(const struct tar_push *p) {
	return p->ended || (p->stored == 0 && p->payload == 0 && p->headers.size == 0);
}

static void skip(struct tar_push *p, struct buffer *in) {
	size_t n = (size_t)MIN((uint64_t)in->size, p->padding);
	buffer_consume(in, n);
	p->padding -= n;
	p->position += n;
}

/* The next n bytes are of the headers. */
static int collect(struct tar_push *p, struct buffer *in, size_t n, struct fault *fault) {
	if (p->headers.size + n > TAR_PUSH_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the headers of an entry exceed %d bytes",
				 TAR_PUSH_MAX);
	buffer_add(&p->headers, in->data, n);
	buffer_consume(in, n);
	p->position += n;
	return p->headers.failed ? fault_errno(fault, ENOMEM, "read an archive") : 0;
}

/* 1: it comes before an entry's own, and payload is what belongs to it. */
static int is_extra(struct tar_push *p, const struct tar_header *h, struct fault *fault) {
	int64_t size;
	if (!tar_header_is_extra(h))
		return 0;
	if (!tar_number(h->size, sizeof(h->size), &size) || size < 0 || size > TAR_PAX_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "an extra header's size makes no sense");
	p->payload = ((uint64_t)size + TAR_BLOCK_SIZE - 1) / TAR_BLOCK_SIZE * TAR_BLOCK_SIZE;
	return 1;
}

static int entry_of(struct tar_push *p, struct tar_entry *ret_entry, struct fault *fault) {
	struct memory m = { .stream.next = memory_next, .from = &p->headers };
	tar_free(p->tar);
	p->tar = NULL;
	int r = tar_new(&m.stream, &p->tar);
	if (r < 0)
		return fault_errno(fault, -r, "read an archive");
	r = tar_next(p->tar, ret_entry, fault);
	buffer_consume(&p->headers, p->headers.size);
	if (r == 0)
		return fault_set(fault, FAULT_DATA_LOSS, "an entry of the archive has no header of its own");
	if (r > 0 && ret_entry->sparse)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "\"%.256s\" is a sparse file", ret_entry->path);
	if (r < 0)
		return r;
	p->stored = ret_entry->size;
	p->padding = -ret_entry->size % TAR_BLOCK_SIZE;
	return 1;
}

/* A whole block: 1 with an entry, 0: on with the next. */
static int block(struct tar_push *p, struct buffer *in, struct tar_entry *ret_entry, struct fault *fault) {
	struct tar_header h;
	memcpy(&h, in->data, sizeof(h));
	if (p->headers.size == 0 && tar_block_is_zero(in->data)) {
		p->ended = true;
		return 0;
	}
	if (!tar_header_valid(&h))
		return fault_set(fault, p->position ? FAULT_DATA_LOSS : FAULT_INVALID_ARGUMENT,
				 p->position ? "no tar header at byte %llu of the archive" : "this is no tar archive",
				 (unsigned long long)p->position);
	int r = collect(p, in, sizeof(h), fault);
	if (r == 0)
		r = is_extra(p, &h, fault);
	return r == 0 ? entry_of(p, ret_entry, fault) : MIN(r, 0);
}

int tar_push(struct tar_push *p, struct buffer *in, struct tar_entry *ret_entry, struct fault *fault) {
	int r = 0;
	skip(p, in);
	while (r == 0 && !p->ended && in->size > 0) {
		size_t n = (size_t)MIN((uint64_t)in->size, p->payload);
		if (n > 0) {
			r = collect(p, in, n, fault);
			p->payload -= n;
		} else if (in->size >= TAR_BLOCK_SIZE) {
			r = block(p, in, ret_entry, fault);
		} else {
			break;
		}
	}
	return r;
}
