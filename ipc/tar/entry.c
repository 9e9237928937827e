/* One entry out of its header, its pax records and, for sparse files, the map
 * that begins its payload. */
#include "tar/internal.h"

#include <string.h>

int tar_header_number(const char *field, size_t size, int64_t max, const char *what, int64_t *ret_value,
		      struct fault *fault) {
	int64_t v;
	if (!tar_number(field, size, &v) || v < 0 || v > max)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "an entry's %s makes no sense", what);
	*ret_value = v;
	return 0;
}

static int type_of(const struct tar_header *h, const char *path, enum tar_type *ret_type, struct fault *fault) {
	static const struct {
		char flag;
		enum tar_type type;
	} types[] = {
		{ '\0', TAR_FILE }, { '0', TAR_FILE },	  { '7', TAR_FILE }, { 'S', TAR_FILE },
		{ '1', TAR_LINK },  { '2', TAR_SYMLINK }, { '3', TAR_CHAR }, { '4', TAR_BLOCK },
		{ '5', TAR_DIR },   { 'D', TAR_DIR },	  { '6', TAR_FIFO },
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
	int r = TAR_FIELD(h, mode, INT64_MAX, &mode, fault);
	if (r == 0 && !(pax && pax->has_uid))
		r = TAR_FIELD(h, uid, UINT32_MAX - 1, &uid, fault);
	if (r == 0 && !(pax && pax->has_gid))
		r = TAR_FIELD(h, gid, UINT32_MAX - 1, &gid, fault);
	if (r == 0 && (e->type == TAR_CHAR || e->type == TAR_BLOCK)) {
		r = TAR_FIELD(h, major, (1 << 12) - 1, &devmajor, fault);
		if (r == 0)
			r = TAR_FIELD(h, minor, (1 << 20) - 1, &devminor, fault);
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
		int r = TAR_FIELD(&fields[i], offset, INT64_MAX, &offset, fault);
		if (r == 0)
			r = TAR_FIELD(&fields[i], size, INT64_MAX, &size, fault);
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
	int r = TAR_FIELD(tail, real_size, INT64_MAX, &size, fault);
	tar_sparse_clear(&t->map);
	if (r == 0)
		r = add_gnu_runs(t, tail->sparse, ARRAY_SIZE(tail->sparse), fault);
	for (char extended = tail->extended; r == 0 && extended;) {
		struct tar_gnu_sparse_block block;
		r = tar_read_block(t, &block, fault);
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
			int r = tar_read_block(l->tar, l->block, fault);
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
	t->padding = tar_padding(t->stored);
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

int tar_read_entry(struct tar *t, const struct tar_header *h, int64_t size, struct tar_entry *ret_entry,
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
