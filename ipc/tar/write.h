/*
 * Writing a tar archive into a regular file: POSIX ustar, with pax records for
 * what doesn't fit. Writing goes by position, so that a member's header may be
 * written after its content, and what is a hole in a file is one in the archive.
 *
 * A writer's position is a multiple of TAR_BLOCK_SIZE between members. Errors
 * are those of the file, or -ENAMETOOLONG and its kind; the archive is then of
 * no use.
 */
#pragma once

#include "base/buffer.h"
#include "tar/header.h"

#include <stdint.h>
#include <sys/stat.h>

struct tar_writer {
	int fd;
	uint64_t at;
	int64_t mtime_max; /* no member's time is later; 0: any */
};

struct tar_member {
	const char *name;
	const char *link; /* target of a link, else NULL */
	char type;	  /* '0' file, '1' hard link, '2' symbolic, '3' and '4' devices, '5' folder, '6' fifo */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint64_t size; /* of what follows */
	int64_t mtime;
	dev_t device;
	const struct buffer *records; /* more pax records (tar_record); NULL: none */
};

/* Type, mode, owner, time, device and, of a file, size. */
struct tar_member tar_member_of(const char *name, const struct stat *st);
/* One pax record: "<length> <key>=<value>\n". */
void tar_record(struct buffer *b, const char *key, const void *value, size_t size);

/* What goes before its content, for writers of their own; a name or link that
 * doesn't fit is cut. */
void tar_header_of(const struct tar_member *m, struct tar_header *ret_header);

int tar_write_header(struct tar_writer *w, const struct tar_member *m) NODISCARD;
/* The content of a member of this size. A shorter file counts as zeros. */
int tar_write_file(struct tar_writer *w, int from, uint64_t size) NODISCARD;
int tar_write_text(struct tar_writer *w, const char *name, const void *data, size_t size) NODISCARD;
/* Two empty blocks. */
void tar_write_end(struct tar_writer *w);

/* A member whose content is written next, by any of the above, and ends with
 * tar_close, which writes the header in the room that tar_open left. */
uint64_t tar_open(struct tar_writer *w);
int tar_close(struct tar_writer *w, uint64_t opened, const char *name) NODISCARD;
