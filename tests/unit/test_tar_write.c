/* What tar/write.c writes is what tar/tar.c reads: names, links, owners, times,
 * records and contents at and around every limit of a header. */
#include "tests/unit/tap.h"

#include "tar/tar.h"
#include "tar/write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NAME_LENGTHS 300

struct file_stream {
	struct stream stream;
	int fd;
	uint8_t space[4096];
};

static ssize_t file_next(struct stream *s, const uint8_t **ret_data, struct fault *fault) {
	struct file_stream *f = (struct file_stream *)s;
	ssize_t n = read(f->fd, f->space, sizeof(f->space));
	*ret_data = f->space;
	return n < 0 ? fault_errno(fault, errno, "read") : n;
}

struct reading {
	struct file_stream stream;
	struct tar *tar;
};

static struct tar_writer writer_new(void) {
	return (struct tar_writer){ .fd = memfd_create("archive", MFD_CLOEXEC) };
}

static void reading_begin(struct reading *r, struct tar_writer *w) {
	tar_write_end(w);
	if (ftruncate(w->fd, (off_t)w->at) < 0 || lseek(w->fd, 0, SEEK_SET) < 0)
		abort();
	*r = (struct reading){ .stream = { .stream = { file_next }, .fd = w->fd } };
	if (tar_new(&r->stream.stream, &r->tar) < 0)
		abort();
}

static bool next(struct reading *r, struct tar_entry *e) {
	struct fault fault = { 0 };
	int n = tar_next(r->tar, e, &fault);
	if (n < 0)
		printf("# %s\n", fault.text);
	return n == 1;
}

static void reading_end(struct reading *r) {
	tar_free(r->tar);
	close(r->stream.fd);
}

static void names(void) {
	struct tar_writer w = writer_new();
	struct reading r;
	struct tar_entry e;
	char name[NAME_LENGTHS + 1];
	int bad = 0;
	for (size_t n = 1; n <= NAME_LENGTHS; n++) {
		memset(name, 'n', n);
		name[n] = '\0';
		const struct tar_member m = { .name = name, .link = name, .type = '2' };
		bad += tar_write_header(&w, &m) != 0;
	}
	reading_begin(&r, &w);
	for (size_t n = 1; n <= NAME_LENGTHS; n++)
		bad += !next(&r, &e) || strlen(e.path) != n || strlen(e.link) != n || e.type != TAR_SYMLINK;
	tap_check(bad == 0 && !next(&r, &e), "names and links of 1 to %d bytes", NAME_LENGTHS);
	reading_end(&r);
}

static void numbers(void) {
	struct tar_writer w = writer_new();
	struct reading r;
	struct tar_entry e;
	static const uint32_t ids[] = { 0, 1, 07777777, 010000000, 4000000000u };
	int bad = 0;
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		const struct tar_member m = { .name = "x",
					      .type = '3',
					      .mode = 04711,
					      .uid = ids[i],
					      .gid = ids[i],
					      .mtime = (int64_t)ids[i] * 100,
					      .device = makedev(10, 229) };
		bad += tar_write_header(&w, &m) != 0;
	}
	reading_begin(&r, &w);
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		bad += !next(&r, &e) || e.uid != ids[i] || e.gid != ids[i] || e.mtime.tv_sec != (int64_t)ids[i] * 100 ||
		       e.mode != 04711 || e.type != TAR_CHAR || e.major != 10 || e.minor != 229;
	tap_check(bad == 0, "owners, times, modes and devices, in octal and beyond");
	reading_end(&r);
}

static void records(void) {
	struct tar_writer w = writer_new();
	struct reading r;
	struct tar_entry e;
	static char value[1100];
	int bad = 0;
	memset(value, '\n', sizeof(value)); /* what would end a record that had no length */
	for (size_t n = 0; n < sizeof(value); n += 1) {
		CLEANUP_BUFFER struct buffer b = { 0 };
		tar_record(&b, "SCHILY.xattr.user.a", value, n);
		const struct tar_member m = { .name = "x", .type = '0', .records = &b };
		bad += tar_write_header(&w, &m) != 0;
	}
	reading_begin(&r, &w);
	for (size_t n = 0; n < sizeof(value); n++)
		bad += !next(&r, &e) || (n && (e.n_xattrs != 1 || e.xattrs[0].size != n));
	tap_check(bad == 0, "records of every length, around those where the length's own digits grow");
	reading_end(&r);
}

static uint64_t read_sum(struct reading *r, uint64_t *ret_size) {
	struct fault fault;
	const uint8_t *data;
	uint64_t offset, sum = 0;
	ssize_t n;
	*ret_size = 0;
	while ((n = tar_data(r->tar, &data, &offset, &fault)) > 0)
		for (ssize_t i = 0; i < n; i++, (*ret_size)++)
			sum += data[i] * (offset + (uint64_t)i + 1);
	return sum;
}

static void contents(void) {
	struct tar_writer w = writer_new();
	struct reading r;
	struct tar_entry e;
	const uint64_t size = 5 << 20;
	int from = memfd_create("file", MFD_CLOEXEC), bad = 0;
	if (pwrite(from, "begin", 5, 0) != 5 || pwrite(from, "end", 3, (off_t)size - 3) != 3)
		abort();
	for (int i = 0; i < 2; i++) {
		const struct tar_member m = { .name = "x", .type = '0', .size = size };
		bad += tar_write_header(&w, &m) != 0 || tar_write_file(&w, from, size) != 0;
		/* The second time it is shorter than was said. */
		bad += ftruncate(from, 5) != 0;
	}
	bad += tar_write_text(&w, "text", "hello", 5) != 0;
	uint64_t opened = tar_open(&w);
	bad += tar_write_text(&w, "inner", "world", 5) != 0;
	bad += tar_close(&w, opened, "outer") != 0;
	struct stat st;
	bad += fstat(w.fd, &st) != 0 || st.st_blocks * 512 > 1 << 20;
	tap_check(bad == 0, "what is a hole in a file is one in the archive");
	reading_begin(&r, &w);
	uint64_t begin = 'b' * 1 + 'e' * 2 + 'g' * 3 + 'i' * 4 + 'n' * 5;
	uint64_t end = 'e' * (size - 2) + 'n' * (size - 1) + 'd' * size, n;
	tap_check(next(&r, &e) && e.size == size && read_sum(&r, &n) == begin + end && n == size, "a file with a hole");
	tap_check(next(&r, &e) && read_sum(&r, &n) == begin && n == size,
		  "a file that was cut meanwhile ends in zeros");
	tap_check(next(&r, &e) && strcmp(e.path, "text") == 0 && e.size == 5, "a text");
	tap_check(next(&r, &e) && strcmp(e.path, "outer") == 0 && e.size == 1024, "a member whose header came last");
	reading_end(&r);
	close(from);
}

int main(void) {
	names();
	numbers();
	records();
	contents();
	return tap_done();
}
