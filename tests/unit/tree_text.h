/* A tree as text, one line per name with all that an archive carries, sorted:
 * two trees are equal when their texts are. */
#pragma once

#include "base/buffer.h"
#include "base/fd.h"

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

struct tree_lines {
	char *line[4096];
	size_t n, root;
	bool times;
};

static struct tree_lines tree_lines;

static uint64_t tree_hash(int fd) {
	uint8_t b[65536];
	uint64_t h = UINT64_C(1469598103934665603);
	ssize_t n;
	while ((n = read(fd, b, sizeof(b))) > 0)
		for (ssize_t i = 0; i < n; i++)
			h = (h ^ b[i]) * UINT64_C(1099511628211);
	return h;
}

static void tree_xattrs(struct buffer *b, const char *path) {
	char names[4096], value[4096];
	ssize_t n = llistxattr(path, names, sizeof(names));
	/* The order of names is the file system's. */
	char *sorted[64];
	size_t count = 0;
	for (char *p = names; n > 0 && p < names + n && count < 64; p += strlen(p) + 1)
		sorted[count++] = p;
	for (size_t i = 1; i < count; i++)
		for (size_t j = i; j > 0 && strcmp(sorted[j - 1], sorted[j]) > 0; j--) {
			char *t = sorted[j];
			sorted[j] = sorted[j - 1];
			sorted[j - 1] = t;
		}
	for (size_t i = 0; i < count; i++) {
		ssize_t size = lgetxattr(path, sorted[i], value, sizeof(value));
		buffer_addf(b, " %s=", sorted[i]);
		for (ssize_t k = 0; k < size; k++)
			buffer_addf(b, "%02x", (uint8_t)value[k]);
	}
}

static int tree_visit(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
	struct buffer b = { 0 };
	const char *name = path + tree_lines.root;
	buffer_addf(&b, "%s mode=%o uid=%u gid=%u", *name ? name + 1 : ".", st->st_mode, st->st_uid, st->st_gid);
	if (tree_lines.times)
		buffer_addf(&b, " mtime=%" PRId64 ".%09ld", (int64_t)st->st_mtime, st->st_mtim.tv_nsec);
	if (!S_ISDIR(st->st_mode))
		buffer_addf(&b, " links=%lu", (unsigned long)st->st_nlink);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		buffer_addf(&b, " dev=%u:%u", major(st->st_rdev), minor(st->st_rdev));
	if (S_ISREG(st->st_mode)) {
		CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
		buffer_addf(&b, " size=%" PRId64 " hash=%016" PRIx64, (int64_t)st->st_size, tree_hash(fd));
	}
	if (S_ISLNK(st->st_mode)) {
		char target[4096];
		ssize_t n = readlink(path, target, sizeof(target));
		buffer_addf(&b, " -> %.*s", (int)n, target);
	}
	tree_xattrs(&b, path);
	if (tree_lines.n < 4096)
		tree_lines.line[tree_lines.n++] = buffer_take_text(&b);
	return 0;
}

static int tree_compare(const void *a, const void *b) {
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The caller frees it. */
static char *tree_text(const char *root, bool times) {
	struct buffer b = { 0 };
	tree_lines = (struct tree_lines){ .root = strlen(root), .times = times };
	nftw(root, tree_visit, 32, FTW_PHYS);
	qsort(tree_lines.line, tree_lines.n, sizeof(char *), tree_compare);
	for (size_t i = 0; i < tree_lines.n; i++) {
		buffer_addf(&b, "%s\n", tree_lines.line[i]);
		free(tree_lines.line[i]);
	}
	buffer_addf(&b, "%s", "");
	return buffer_take_text(&b);
}

/* Prints the lines that only one of them has. */
static void tree_diff(const char *a, const char *b) {
	for (int side = 0; side < 2; side++) {
		const char *mine = side ? b : a, *other = side ? a : b;
		while (*mine) {
			size_t n = strcspn(mine, "\n");
			char line[8192];
			snprintf(line, sizeof(line), "%.*s\n", (int)n, mine);
			if (!strstr(other, line))
				printf("# %c %s", side ? '+' : '-', line);
			mine += n + 1;
		}
	}
}
