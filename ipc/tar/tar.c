/*
 * The stream of blocks. An entry is up to three kinds of extra headers (GNU long name,
 * GNU long link, pax records) and then the header proper; all of them are
 * collected before the entry is handed out (entry.c). The stored payload is
 * counted down in stored; a sparse map spreads it over the file.
 */
#include "tar/internal.h"

#include <errno.h>
#include <string.h>

int tar_new(struct stream *stream, struct tar **ret_tar) {
	struct tar *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->stream = stream;
	*ret_tar = t;
	return 0;
}

void tar_free(struct tar *t) {
	if (!t)
		return;
	tar_sparse_deinit(&t->map);
	free(t->pax_text);
	free(t);
}

static int cut_short(struct tar *t, struct fault *fault) {
	return fault_set(fault, FAULT_DATA_LOSS, "the archive ends in the middle of an entry, at byte %llu",
			 (unsigned long long)t->position);
}

/* Makes at least one byte available: 1, 0 at the end of the stream. */
static int more(struct tar *t, struct fault *fault) {
	if (t->avail)
		return 1;
	ssize_t n = t->stream->next(t->stream, &t->data, fault);
	if (n <= 0)
		return (int)n;
	t->avail = (size_t)n;
	return 1;
}

static void used(struct tar *t, size_t n) {
	t->data += n;
	t->avail -= n;
	t->position += n;
}

/* Exactly size bytes: 1, 0 when the stream ends before the first of them. */
static int read_exact(struct tar *t, void *out, size_t size, struct fault *fault) {
	size_t done = 0;
	while (done < size) {
		int r = more(t, fault);
		if (r < 0)
			return r;
		if (r == 0)
			return done ? cut_short(t, fault) : 0;
		size_t n = MIN(t->avail, size - done);
		memcpy((uint8_t *)out + done, t->data, n);
		used(t, n);
		done += n;
	}
	return 1;
}

int tar_read_block(struct tar *t, void *out, struct fault *fault) {
	int r = read_exact(t, out, TAR_BLOCK_SIZE, fault);
	return r == 0 ? cut_short(t, fault) : r;
}

static int skip(struct tar *t, uint64_t size, struct fault *fault) {
	while (size > 0) {
		int r = more(t, fault);
		if (r <= 0)
			return r < 0 ? r : cut_short(t, fault);
		size_t n = (size_t)MIN((uint64_t)t->avail, size);
		used(t, n);
		size -= n;
	}
	return 0;
}

/* What fills the entry's last block: 1, 0 when the stream ends in it. Archives whose writer was never closed end like
 * that (umoci insert's do), and nothing of them is lost. */
static int skip_padding(struct tar *t, struct fault *fault) {
	while (t->padding > 0) {
		int r = more(t, fault);
		if (r <= 0)
			return r;
		size_t n = (size_t)MIN((uint64_t)t->avail, t->padding);
		used(t, n);
		t->padding -= n;
	}
	return 1;
}

/* The payload of an extra header, NUL-terminated, into out of max + 1 bytes. */
static int read_extra(struct tar *t, uint64_t size, char *out, size_t max, const char *what, struct fault *fault) {
	if (size > max)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s of %llu bytes; at most %zu are read", what,
				 (unsigned long long)size, max);
	int r = read_exact(t, out, (size_t)size, fault);
	if (r <= 0 && size)
		return r < 0 ? r : cut_short(t, fault);
	out[size] = '\0';
	return skip(t, tar_padding(size), fault);
}

static int read_pax(struct tar *t, uint64_t size, struct fault *fault) {
	if (size > TAR_PAX_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "a pax header of %llu bytes; at most %d are read",
				 (unsigned long long)size, TAR_PAX_MAX);
	char *text = realloc(t->pax_text, (size_t)size + 1);
	if (!text)
		return fault_errno(fault, ENOMEM, "a pax header");
	t->pax_text = text;
	int r = read_extra(t, size, text, TAR_PAX_MAX, "a pax header", fault);
	if (r < 0)
		return r;
	t->has_pax = true;
	return tar_pax_parse(text, (size_t)size, &t->pax, &t->map, fault);
}

/* 1: it was an extra header and is consumed; 0: it is the entry proper. */
static int read_extra_header(struct tar *t, const struct tar_header *h, int64_t size, struct fault *fault) {
	int r;
	switch (h->type) {
	case 'L':
		r = read_extra(t, (uint64_t)size, t->name, TAR_NAME_MAX, "a name", fault);
		t->long_name = true;
		break;
	case 'K':
		r = read_extra(t, (uint64_t)size, t->link, TAR_NAME_MAX, "a link's target", fault);
		t->long_link = true;
		break;
	case 'x':
	case 'X': /* Solaris */
		r = read_pax(t, (uint64_t)size, fault);
		break;
	case 'g': /* defaults for what follows: not applied */
	case 'V': /* GNU: the volume's label */
		r = skip(t, (uint64_t)size + tar_padding((uint64_t)size), fault);
		break;
	default:
		return 0;
	}
	return r < 0 ? r : 1;
}

static int not_a_header(struct tar *t, struct fault *fault) {
	uint64_t at = t->position - TAR_BLOCK_SIZE;
	if (at == 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "this is no tar archive");
	return fault_set(fault, FAULT_DATA_LOSS, "no tar header at byte %llu of the archive", (unsigned long long)at);
}

int tar_next(struct tar *t, struct tar_entry *ret_entry, struct fault *fault) {
	struct tar_header h;
	int r = skip(t, t->stored, fault);
	if (r < 0)
		return r;
	t->stored = 0;
	r = skip_padding(t, fault);
	if (r <= 0)
		return r;
	t->has_pax = t->long_name = t->long_link = false;
	for (;;) {
		int64_t size = 0;
		r = read_exact(t, &h, sizeof(h), fault);
		if (r <= 0)
			return r;
		if (tar_block_is_zero((const uint8_t *)&h))
			return 0;
		if (!tar_header_valid(&h))
			return not_a_header(t, fault);
		/* With pax's size that in the entry's own header may be anything. */
		if (t->has_pax && t->pax.has_size && !tar_header_is_extra(&h))
			size = 0;
		else if ((r = TAR_FIELD(&h, size, INT64_MAX - TAR_BLOCK_SIZE, &size, fault)) < 0)
			return r;
		r = read_extra_header(t, &h, size, fault);
		if (r == 0)
			return tar_read_entry(t, &h, size, ret_entry, fault);
		if (r < 0)
			return r;
	}
}

ssize_t tar_data(struct tar *t, const uint8_t **ret_data, uint64_t *ret_offset, struct fault *fault) {
	if (t->stored == 0)
		return 0;
	/* The map adds up to stored, so a run is left. */
	while (t->sparse && t->run_done == t->map.runs[t->run].size) {
		t->run_done = 0;
		t->run++;
	}
	int r = more(t, fault);
	if (r <= 0)
		return r < 0 ? r : cut_short(t, fault);
	uint64_t n = MIN((uint64_t)t->avail, t->stored);
	if (t->sparse) {
		n = MIN(n, t->map.runs[t->run].size - t->run_done);
		*ret_offset = t->map.runs[t->run].offset + t->run_done;
		t->run_done += n;
	} else {
		*ret_offset = t->offset;
	}
	t->offset += n;
	*ret_data = t->data;
	used(t, (size_t)n);
	t->stored -= n;
	return (ssize_t)n;
}
