#include "tar/sparse.h"

#include "tar/tar.h"

#include <errno.h>

void tar_sparse_deinit(struct tar_sparse *s) {
	free(s->runs);
	*s = (struct tar_sparse){ 0 };
}

void tar_sparse_clear(struct tar_sparse *s) {
	s->n = 0;
	s->half = false;
}

int tar_sparse_add(struct tar_sparse *s, uint64_t offset, uint64_t size, struct fault *fault) {
	if (s->n == s->room) {
		size_t room = s->room ? s->room * 2 : 32;
		if (room > TAR_SPARSE_MAX)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "a sparse file has more than %d runs",
					 TAR_SPARSE_MAX);
		struct tar_run *more = realloc(s->runs, room * sizeof(*more));
		if (!more)
			return fault_errno(fault, ENOMEM, "a sparse file's map");
		s->runs = more;
		s->room = room;
	}
	s->runs[s->n++] = (struct tar_run){ offset, size };
	return 0;
}

static const char *number_parse(const char *p, uint64_t *ret_value) {
	uint64_t v = 0;
	const char *start = p;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (v > (INT64_MAX - 9) / 10)
			return NULL;
		v = v * 10 + (uint64_t)(*p - '0');
	}
	if (p == start)
		return NULL;
	*ret_value = v;
	return p;
}

int tar_sparse_parse(struct tar_sparse *s, const char *text, struct fault *fault) {
	const char *p = text;
	tar_sparse_clear(s);
	while (*p) {
		uint64_t offset, size;
		p = number_parse(p, &offset);
		if (!p || *p++ != ',')
			goto bad;
		p = number_parse(p, &size);
		if (!p || (*p != ',' && *p != '\0'))
			goto bad;
		if (*p == ',')
			p++;
		int r = tar_sparse_add(s, offset, size, fault);
		if (r < 0)
			return r;
	}
	return 0;
bad:
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "a sparse file's map isn't pairs of numbers");
}

int tar_sparse_check(const struct tar_sparse *s, uint64_t size, uint64_t stored, struct fault *fault) {
	uint64_t end = 0, sum = 0;
	if (s->half)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "a sparse file's map ends in the middle of a pair");
	for (size_t i = 0; i < s->n; i++) {
		const struct tar_run *run = &s->runs[i];
		if (run->offset < end || run->offset > size || run->size > size - run->offset)
			return fault_set(fault, FAULT_INVALID_ARGUMENT,
					 "a sparse file's map is out of order or beyond the file's end");
		end = run->offset + run->size;
		sum += run->size;
	}
	if (sum != stored)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "a sparse file's map doesn't fit the data stored");
	return 0;
}
