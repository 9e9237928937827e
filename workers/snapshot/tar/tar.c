/*
 * The reader. An entry is up to three kinds of extra headers (GNU long name,
 * GNU long link, pax records) and then the header proper; all of them are
 * collected before the entry is handed out. The stored payload is counted down
 * in stored; a sparse map spreads it over the file.
 */
#include "workers/snapshot/tar/tar.h"

#include "workers/snapshot/tar/header.h"
#include "workers/snapshot/tar/pax.h"

#include <errno.h>
#include <string.h>

struct tar {
	struct stream *stream;
	const uint8_t *data; /* what is left of the stream's last bytes */
	size_t avail;
	uint64_t position; /* in the archive, for messages */

	uint64_t stored, padding; /* of the current entry, not read yet */
	uint64_t offset;          /* in its file */
	bool sparse;
	struct tar_sparse map;
	size_t run;        /* index in map */
	uint64_t run_done; /* bytes of that run handed out */

	bool has_pax, long_name, long_link;
	struct tar_pax pax;
	char *pax_text;
	char header_name[257], header_link[101];
	char name[TAR_NAME_MAX + 1], link[TAR_NAME_MAX + 1];
};

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

/* A block that must be there. */
static int read_block(struct tar *t, void *out, struct fault *fault) {
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

static uint64_t padding_of(uint64_t size) {
	return (TAR_BLOCK_SIZE - size % TAR_BLOCK_SIZE) % TAR_BLOCK_SIZE;
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
	return skip(t, padding_of(size), fault);
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
		r = skip(t, (uint64_t)size + padding_of((uint64_t)size), fault);
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

static int header_number(const char *field, size_t size, int64_t max, const char *what, int64_t *ret_value,
			 struct fault *fault) {
	int64_t v;
	if (!tar_number(field, size, &v) || v < 0 || v > max)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "an entry's %s makes no sense", what);
	*ret_value = v;
	return 0;
}
#define FIELD(h, name, max, ret, fault) header_number((h)->name, sizeof((h)->name), max, #name, ret, fault)

static int type_of(const struct tar_header *h, const char *path, enum tar_type *ret_type, struct fault *fault) {
	static const struct {
		char flag;
		enum tar_type type;
	} types[] = {
		{ '\0', TAR_FILE }, { '0', TAR_FILE }, { '7', TAR_FILE }, { 'S', TAR_FILE },    { '1', TAR_LINK },
		{ '2', TAR_SYMLINK }, { '3', TAR_CHAR }, { '4', TAR_BLOCK }, { '5', TAR_DIR }, { 'D', TAR_DIR },
		{ '6', TAR_FIFO },
	};
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (types[i].flag != h->type)
			continue;
		size_t n = strlen(path);
		/* Before ustar a folder was a file with a slash at its end. */
		bool v7_dir = (h->type == '\0' || h->type == '0') && n && path[n - 1] == '/';
		*ret_type = v7_dir ? TAR_DIR : types[i].type;
		return 0;
	}
	return fault_set(fault, FAULT_UNIMPLEMENTED, "entries of type '%c' are unknown", h->type);
}

/* Mode, owner, time and device numbers: the header's, then pax's over them. */
static int read_attributes(struct tar *t, const struct tar_header *h, struct tar_entry *e, struct fault *fault) {
	const struct tar_pax *pax = t->has_pax ? &t->pax : NULL;
	int64_t mode = 0, uid = 0, gid = 0, mtime, devmajor = 0, devminor = 0;
	int r = FIELD(h, mode, INT64_MAX, &mode, fault);
	if (r == 0 && !(pax && pax->has_uid))
		r = FIELD(h, uid, UINT32_MAX - 1, &uid, fault);
	if (r == 0 && !(pax && pax->has_gid))
		r = FIELD(h, gid, UINT32_MAX - 1, &gid, fault);
	if (r == 0 && (e->type == TAR_CHAR || e->type == TAR_BLOCK)) {
		r = FIELD(h, major, (1 << 12) - 1, &devmajor, fault);
		if (r == 0)
			r = FIELD(h, minor, (1 << 20) - 1, &devminor, fault);
	}
	if (r < 0)
		return r;
	if (!tar_number(h->mtime, sizeof(h->mtime), &mtime))
		mtime = 0;
	e->mode = (uint32_t)mode & 07777;
	e->uid = pax && pax->has_uid ? pax->uid : (uint32_t)uid;
	e->gid = pax && pax->has_gid ? pax->gid : (uint32_t)gid;
	e->major = (uint32_t)devmajor;
	e->minor = (uint32_t)devminor;
	e->mtime = pax && pax->has_mtime ? pax->mtime : (struct timespec){ mtime, 0 };
	if (pax) {
		e->xattrs = pax->xattrs;
		e->n_xattrs = pax->n_xattrs;
	}
	return 0;
}

static void read_names(struct tar *t, const struct tar_header *h, struct tar_entry *e) {
	tar_header_name(h, t->header_name);
	memcpy(t->header_link, h->link, sizeof(h->link));
	t->header_link[sizeof(h->link)] = '\0';
	e->path = t->has_pax && t->pax.path ? t->pax.path : t->long_name ? t->name : t->header_name;
	e->link = t->has_pax && t->pax.link ? t->pax.link : t->long_link ? t->link : t->header_link;
}

static int add_gnu_runs(struct tar *t, const struct tar_sparse_field *fields, size_t n, struct fault *fault) {
	for (size_t i = 0; i < n && fields[i].offset[0]; i++) {
		int64_t offset = 0, size = 0;
		int r = FIELD(&fields[i], offset, INT64_MAX, &offset, fault);
		if (r == 0)
			r = FIELD(&fields[i], size, INT64_MAX, &size, fault);
		if (r == 0)
			r = tar_sparse_add(&t->map, (uint64_t)offset, (uint64_t)size, fault);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Type 'S': four runs in the header, then blocks of 21 as long as they last. */
static int read_gnu_sparse(struct tar *t, const struct tar_header *h, uint64_t *ret_size, struct fault *fault) {
	const struct tar_gnu_tail *tail = (const struct tar_gnu_tail *)h->prefix;
	int64_t size = 0;
	int r = FIELD(tail, real_size, INT64_MAX, &size, fault);
	tar_sparse_clear(&t->map);
	if (r == 0)
		r = add_gnu_runs(t, tail->sparse, ARRAY_SIZE(tail->sparse), fault);
	for (char extended = tail->extended; r == 0 && extended;) {
		struct tar_gnu_sparse_block block;
		r = read_block(t, &block, fault);
		if (r < 0)
			return r;
		r = add_gnu_runs(t, block.sparse, ARRAY_SIZE(block.sparse), fault);
		extended = block.extended;
	}
	if (r == 0)
		*ret_size = (uint64_t)size;
	return r;
}

/* The lines of numbers that begin the payload of sparse 1.0. */
struct number_lines {
	struct tar *tar;
	uint64_t *stored;
	size_t at;
	uint8_t block[TAR_BLOCK_SIZE];
};

static int next_number(struct number_lines *l, uint64_t *ret_value, struct fault *fault) {
	char digits[24];
	for (size_t n = 0; n < sizeof(digits); n++) {
		if (l->at == TAR_BLOCK_SIZE) {
			if (*l->stored < TAR_BLOCK_SIZE)
				break;
			int r = read_block(l->tar, l->block, fault);
			if (r < 0)
				return r;
			*l->stored -= TAR_BLOCK_SIZE;
			l->at = 0;
		}
		digits[n] = (char)l->block[l->at++];
		if (digits[n] != '\n')
			continue;
		digits[n] = '\0';
		if (!tar_decimal(digits, INT64_MAX, ret_value))
			break;
		return 0;
	}
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "a sparse file's map isn't lines of numbers");
}

static int read_sparse_1_0(struct tar *t, struct fault *fault) {
	struct number_lines lines = { .tar = t, .stored = &t->stored, .at = TAR_BLOCK_SIZE };
	uint64_t n, offset, size;
	tar_sparse_clear(&t->map);
	int r = next_number(&lines, &n, fault);
	while (r >= 0 && n-- > 0) {
		r = next_number(&lines, &offset, fault);
		if (r == 0)
			r = next_number(&lines, &size, fault);
		if (r == 0)
			r = tar_sparse_add(&t->map, offset, size, fault);
	}
	return r;
}

/* How much payload is stored, and which part of the file it is. */
static int read_payload_shape(struct tar *t, const struct tar_header *h, int64_t stored, struct tar_entry *e,
			      struct fault *fault) {
	const struct tar_pax *pax = t->has_pax ? &t->pax : NULL;
	t->offset = t->run = t->run_done = 0;
	t->stored = t->padding = 0;
	t->sparse = false;
	if (e->type != TAR_FILE)
		return 0;
	t->stored = pax && pax->has_size ? pax->size : (uint64_t)stored;
	t->padding = padding_of(t->stored);
	e->size = t->stored;

	int r = 0;
	if (h->type == 'S') {
		r = read_gnu_sparse(t, h, &e->size, fault);
		/* pax carries what doesn't fit. */
		if (pax && pax->has_sparse_size)
			e->size = pax->sparse_size;
	} else if (pax && (pax->sparse || pax->sparse_1_0)) {
		if (!pax->has_sparse_size)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "a sparse file has no size");
		e->size = pax->sparse_size;
		if (pax->sparse_1_0)
			r = read_sparse_1_0(t, fault);
	} else {
		return 0;
	}
	e->sparse = t->sparse = true;
	return r < 0 ? r : tar_sparse_check(&t->map, e->size, t->stored, fault);
}

static int read_entry(struct tar *t, const struct tar_header *h, int64_t size, struct tar_entry *ret_entry,
		      struct fault *fault) {
	struct tar_entry e = { 0 };
	read_names(t, h, &e);
	int r = type_of(h, e.path, &e.type, fault);
	if (r == 0)
		r = read_attributes(t, h, &e, fault);
	if (r == 0)
		r = read_payload_shape(t, h, size, &e, fault);
	if (r < 0)
		return fault_prefix(fault, r, "\"%.256s\"", e.path);
	*ret_entry = e;
	return 1;
}

int tar_next(struct tar *t, struct tar_entry *ret_entry, struct fault *fault) {
	struct tar_header h;
	int r = skip(t, t->stored, fault);
	if (r == 0)
		r = skip(t, t->padding, fault);
	if (r < 0)
		return r;
	t->stored = t->padding = 0;
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
		/* With pax's size the header's own may be anything. */
		if (t->has_pax && t->pax.has_size)
			size = 0;
		else if ((r = FIELD(&h, size, INT64_MAX - TAR_BLOCK_SIZE, &size, fault)) < 0)
			return r;
		r = read_extra_header(t, &h, size, fault);
		if (r == 0)
			return read_entry(t, &h, size, ret_entry, fault);
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
