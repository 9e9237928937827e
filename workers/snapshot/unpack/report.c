/* A record: one byte of kind, then path and target, each with its NUL. */
#include "workers/snapshot/unpack/report.h"

#include <errno.h>

int report_add(struct buffer *b, enum report_kind kind, const char *path, const char *target) {
	size_t path_size = strlen(path) + 1, target_size = strlen(target) + 1;
	if (b->size + 1 + path_size + target_size > REPORT_SIZE_MAX)
		return -EFBIG;
	uint8_t byte = (uint8_t)kind;
	buffer_add(b, &byte, 1);
	buffer_add(b, path, path_size);
	buffer_add(b, target, target_size);
	return b->failed ? -ENOMEM : 0;
}

static const char *text_next(const char *data, size_t size, size_t *pos) {
	const char *text = data + *pos;
	const char *end = memchr(text, '\0', size - *pos);
	if (!end)
		return NULL;
	*pos = (size_t)(end - data) + 1;
	return text;
}

int report_next(const char *data, size_t size, size_t *pos, struct report_record *ret_record) {
	if (*pos == size)
		return 0;
	uint8_t kind = (uint8_t)data[(*pos)++];
	const char *path = text_next(data, size, pos);
	const char *target = path ? text_next(data, size, pos) : NULL;
	if (!target || kind < REPORT_IMPLICIT || kind > REPORT_LINK)
		return -EBADMSG;
	*ret_record = (struct report_record){ .kind = kind, .path = path, .target = target };
	return 1;
}
