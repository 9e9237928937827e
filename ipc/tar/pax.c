/*
 * pax records come as "27 SCHILY.xattr.user.a=value\n" with the record's own
 * length in front. Keys of no interest are skipped; values of interest that
 * make no sense end the archive.
 */
#include "tar/pax.h"

#include <string.h>

struct record {
	const char *key;
	char *value; /* NUL-terminated, may hold more NULs */
	size_t size;
};

bool tar_decimal(const char *text, uint64_t max, uint64_t *ret_value) {
	uint64_t v = 0;
	if (!*text)
		return false;
	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '9')
			return false;
		uint64_t digit = (uint64_t)(*p - '0');
		if (v > (max - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*ret_value = v;
	return true;
}

static int bad(struct fault *fault, const struct record *r) {
	return fault_set(fault, FAULT_INVALID_ARGUMENT,
			 "pax record \"%.64s\" has a value that makes no sense: \"%.64s\"", r->key, r->value);
}

/* "-123.4567890123": seconds with a fraction of any length. */
static bool time_parse(const char *text, struct timespec *ret_time) {
	bool negative = *text == '-';
	const char *p = text + negative;
	int64_t sec = 0, ns = 0;
	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (sec > (INT64_C(1) << 53))
			return false;
		sec = sec * 10 + (*p - '0');
	}
	if (*p == '.')
		for (int64_t unit = 100000000; *++p >= '0' && *p <= '9'; unit /= 10)
			ns += unit * (*p - '0');
	if (*p)
		return false;
	if (negative) {
		sec = -sec;
		if (ns) {
			sec--;
			ns = 1000000000 - ns;
		}
	}
	*ret_time = (struct timespec){ sec, ns };
	return true;
}

static bool id_parse(const struct record *r, uint32_t *ret_id, bool *ret_has) {
	uint64_t v;
	/* -1 means "leave it" to chown. */
	if (!tar_decimal(r->value, UINT32_MAX - 1, &v))
		return false;
	*ret_id = (uint32_t)v;
	return *ret_has = true;
}

static int on_sparse(struct tar_pax *pax, struct tar_sparse *map, const struct record *r, struct fault *fault) {
	const char *key = r->key + strlen("GNU.sparse.");
	uint64_t v;

	if (strcmp(key, "name") == 0) {
		pax->sparse_name = r->value;
		return 0;
	}
	if (strcmp(key, "map") == 0) {
		pax->sparse = true;
		return tar_sparse_parse(map, r->value, fault);
	}
	if (!tar_decimal(r->value, INT64_MAX, &v))
		return bad(fault, r);
	if (strcmp(key, "size") == 0 || strcmp(key, "realsize") == 0) {
		pax->sparse_size = v;
		pax->has_sparse_size = true;
	} else if (strcmp(key, "major") == 0) {
		pax->sparse_major = (uint32_t)MIN(v, 1000u);
		pax->has_major = true;
	} else if (strcmp(key, "minor") == 0) {
		pax->sparse_minor = (uint32_t)MIN(v, 1000u);
	} else if (strcmp(key, "numblocks") == 0) {
		pax->sparse = true;
	} else if (strcmp(key, "offset") == 0) {
		pax->sparse = true;
		if (map->half)
			return bad(fault, r);
		map->half = true;
		return tar_sparse_add(map, v, 0, fault);
	} else if (strcmp(key, "numbytes") == 0) {
		if (!map->half)
			return bad(fault, r);
		map->runs[map->n - 1].size = v;
		map->half = false;
	}
	return 0;
}

static int on_xattr(struct tar_pax *pax, const struct record *r, struct fault *fault) {
	if (pax->n_xattrs == TAR_XATTRS_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "an entry has more than %d extended attributes",
				 TAR_XATTRS_MAX);
	pax->xattrs[pax->n_xattrs++] = (struct tar_xattr){
		.name = r->key + strlen("SCHILY.xattr."),
		.value = (const uint8_t *)r->value,
		.size = r->size,
	};
	return 0;
}

static bool has_prefix(const char *text, const char *prefix) {
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static int on_record(struct tar_pax *pax, struct tar_sparse *map, const struct record *r, struct fault *fault) {
	if (has_prefix(r->key, "SCHILY.xattr."))
		return on_xattr(pax, r, fault);
	/* Only an attribute's value may hold NULs. */
	if (memchr(r->value, '\0', r->size))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "pax record \"%.64s\" contains a NUL", r->key);
	if (has_prefix(r->key, "GNU.sparse."))
		return on_sparse(pax, map, r, fault);

	bool ok = true;
	/* An empty value takes the record back. */
	if (strcmp(r->key, "path") == 0) {
		pax->path = r->size ? r->value : NULL;
	} else if (strcmp(r->key, "linkpath") == 0) {
		pax->link = r->size ? r->value : NULL;
	} else if (strcmp(r->key, "size") == 0) {
		ok = pax->has_size = tar_decimal(r->value, INT64_MAX, &pax->size);
	} else if (strcmp(r->key, "uid") == 0) {
		ok = id_parse(r, &pax->uid, &pax->has_uid);
	} else if (strcmp(r->key, "gid") == 0) {
		ok = id_parse(r, &pax->gid, &pax->has_gid);
	} else if (strcmp(r->key, "mtime") == 0) {
		ok = pax->has_mtime = time_parse(r->value, &pax->mtime);
	}
	return ok ? 0 : bad(fault, r);
}

/* Cuts the record at *text off; NULL when the bytes aren't one. */
static char *record_cut(char *text, char *end, struct record *ret_record) {
	size_t length = 0;
	char *p = text;
	for (; p < end && *p >= '0' && *p <= '9'; p++) {
		if (length > TAR_PAX_MAX)
			return NULL;
		length = length * 10 + (size_t)(*p - '0');
	}
	if (p == text || p == end || *p != ' ' || length > (size_t)(end - text))
		return NULL;
	char *next = text + length;
	p++;
	if (next <= p || next[-1] != '\n')
		return NULL;
	char *equals = memchr(p, '=', (size_t)(next - 1 - p));
	if (!equals || equals == p || memchr(p, '\0', (size_t)(equals - p)))
		return NULL;
	*equals = '\0';
	next[-1] = '\0';
	*ret_record = (struct record){ .key = p, .value = equals + 1, .size = (size_t)(next - 1 - (equals + 1)) };
	return next;
}

int tar_pax_parse(char *text, size_t size, struct tar_pax *ret_pax, struct tar_sparse *map, struct fault *fault) {
	char *p = text, *end = text + size;
	*ret_pax = (struct tar_pax){ 0 };
	tar_sparse_clear(map);
	while (p < end && *p) {
		struct record record;
		p = record_cut(p, end, &record);
		if (!p)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "a pax header isn't made of records");
		int r = on_record(ret_pax, map, &record, fault);
		if (r < 0)
			return r;
	}
	if (ret_pax->sparse_name) /* beside it, path names a folder of tar's own making */
		ret_pax->path = ret_pax->sparse_name;
	ret_pax->sparse_1_0 = ret_pax->has_major && ret_pax->sparse_major == 1 && ret_pax->sparse_minor == 0;
	if (ret_pax->has_major && !ret_pax->sparse_1_0 && ret_pax->sparse_major > 0)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "a sparse file has the unknown format %u.%u",
				 ret_pax->sparse_major, ret_pax->sparse_minor);
	return 0;
}
