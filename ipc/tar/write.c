#include "tar/write.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define COPY_SIZE (128 * 1024)

static uint64_t round_up(uint64_t n) {
	return (n + TAR_BLOCK_SIZE - 1) / TAR_BLOCK_SIZE * TAR_BLOCK_SIZE;
}

static int write_at(int fd, const void *data, size_t size, uint64_t at) {
	const uint8_t *p = data;
	while (size > 0) {
		ssize_t n = pwrite(fd, p, size, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		at += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

/* --- headers --- */

/* Octal and a NUL; where that doesn't fit base-256, as GNU does. */
static void number(char *field, size_t size, uint64_t value) {
	if (value >> (3 * (size - 1)) == 0) {
		for (size_t i = size - 1; i-- > 0; value >>= 3)
			field[i] = (char)('0' + (value & 7));
		return;
	}
	for (size_t i = size; i-- > 0; value >>= 8)
		field[i] = (char)(value & 0xff);
	field[0] = (char)(0x80 | field[0]);
}

static void checksum(struct tar_header *h) {
	unsigned sum = 0;
	memset(h->checksum, ' ', sizeof(h->checksum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += ((const uint8_t *)h)[i];
	number(h->checksum, sizeof(h->checksum) - 1, sum);
}

/* What is too long is cut: a pax record has it whole. */
static void text(char *field, size_t size, const char *value) {
	memcpy(field, value, MIN(strlen(value), size));
}

void tar_header_of(const struct tar_member *m, struct tar_header *ret_header) {
	struct tar_header h = { .type = m->type, .magic = "ustar\00000" };
	text(h.name, sizeof(h.name), m->name);
	number(h.mode, sizeof(h.mode), m->mode & 07777);
	number(h.uid, sizeof(h.uid), m->uid);
	number(h.gid, sizeof(h.gid), m->gid);
	number(h.size, sizeof(h.size), m->size);
	number(h.mtime, sizeof(h.mtime), (uint64_t)MAX(m->mtime, 0));
	if (m->link)
		text(h.link, sizeof(h.link), m->link);
	if (m->type == '3' || m->type == '4') {
		number(h.major, sizeof(h.major), major(m->device));
		number(h.minor, sizeof(h.minor), minor(m->device));
	}
	checksum(&h);
	*ret_header = h;
}

static int header_at(const struct tar_writer *w, const struct tar_member *m, uint64_t at) {
	struct tar_member member = *m;
	struct tar_header h;
	if (w->mtime_max)
		member.mtime = MIN(m->mtime, w->mtime_max);
	tar_header_of(&member, &h);
	return write_at(w->fd, &h, sizeof(h), at);
}

static size_t digits(size_t n) {
	return (size_t)snprintf(NULL, 0, "%zu", n);
}

/* The length counts its own digits. */
void tar_record(struct buffer *b, const char *key, const void *value, size_t size) {
	size_t rest = strlen(key) + size + 3, length = rest + 1;
	while (length != rest + digits(length))
		length = rest + digits(length);
	buffer_addf(b, "%zu %s=", length, key);
	buffer_add(b, value, size);
	buffer_add(b, "\n", 1);
}

static int records_write(struct tar_writer *w, const struct buffer *records) {
	const struct tar_member pax = { .name = "pax", .type = 'x', .mode = 0600, .size = records->size };
	int r = header_at(w, &pax, w->at);
	if (r == 0)
		r = write_at(w->fd, records->data, records->size, w->at + TAR_BLOCK_SIZE);
	w->at += TAR_BLOCK_SIZE + round_up(records->size);
	return r;
}

struct tar_member tar_member_of(const char *name, const struct stat *st) {
	static const struct {
		mode_t format;
		char type;
	} types[] = {
		{ S_IFREG, '0' }, { S_IFLNK, '2' }, { S_IFCHR, '3' },
		{ S_IFBLK, '4' }, { S_IFDIR, '5' }, { S_IFIFO, '6' },
	};
	struct tar_member m = {
		.name = name,
		.mode = st->st_mode,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0,
		.mtime = st->st_mtim.tv_sec,
		.device = st->st_rdev,
	};
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if ((st->st_mode & S_IFMT) == types[i].format)
			m.type = types[i].type;
	return m;
}

int tar_write_header(struct tar_writer *w, const struct tar_member *m) {
	CLEANUP_BUFFER struct buffer records = { 0 };
	int r = 0;
	if (strlen(m->name) > sizeof(((struct tar_header *)0)->name))
		tar_record(&records, "path", m->name, strlen(m->name));
	if (m->link && strlen(m->link) > sizeof(((struct tar_header *)0)->link))
		tar_record(&records, "linkpath", m->link, strlen(m->link));
	if (m->records)
		buffer_add(&records, m->records->data, m->records->size);
	if (records.failed)
		return -ENOMEM;
	if (records.size)
		r = records_write(w, &records);
	if (r == 0)
		r = header_at(w, m, w->at);
	w->at += TAR_BLOCK_SIZE;
	return r;
}

/* --- content --- */

/* One run of data, at the same offset of the member. */
static int run_copy(const struct tar_writer *w, int from, uint64_t at, uint64_t end, char *space) {
	while (at < end) {
		ssize_t n = pread(from, space, (size_t)MIN(end - at, (uint64_t)COPY_SIZE), (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		int r = write_at(w->fd, space, (size_t)n, w->at + at);
		if (r < 0)
			return r;
		at += (uint64_t)n;
	}
	return 0;
}

int tar_write_file(struct tar_writer *w, int from, uint64_t size) {
	CLEANUP_FREE char *space = malloc(COPY_SIZE);
	int r = space ? 0 : -ENOMEM;
	for (uint64_t at = 0; r == 0 && at < size;) {
		off_t data = lseek(from, (off_t)at, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			break;
		off_t hole = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);
		/* A file system that knows no holes. */
		uint64_t begin = data < 0 ? at : (uint64_t)data, end = hole < 0 ? size : (uint64_t)hole;
		r = run_copy(w, from, begin, MIN(end, size), space);
		at = end;
	}
	w->at += round_up(size);
	return r;
}

static struct tar_member plain(const char *name, uint64_t size) {
	return (struct tar_member){
		.name = name, .type = '0', .mode = 0600, .size = size, .mtime = clock_real() / NS_PER_SEC
	};
}

int tar_write_text(struct tar_writer *w, const char *name, const void *data, size_t size) {
	const struct tar_member m = plain(name, size);
	int r = tar_write_header(w, &m);
	if (r == 0)
		r = write_at(w->fd, data, size, w->at);
	w->at += round_up(size);
	return r;
}

void tar_write_end(struct tar_writer *w) {
	w->at += 2 * TAR_BLOCK_SIZE;
}

uint64_t tar_open(struct tar_writer *w) {
	uint64_t opened = w->at;
	w->at += TAR_BLOCK_SIZE;
	return opened;
}

int tar_close(struct tar_writer *w, uint64_t opened, const char *name) {
	const struct tar_member m = plain(name, w->at - opened - TAR_BLOCK_SIZE);
	return header_at(w, &m, opened);
}
