#include "tools/initrd/initrd.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX ((size_t)256 << 20)

/* Names and contents start at multiples of four. */
static void pad(struct archive *a) {
	for (; a->size % 4; a->size++)
		fputc(0, a->out);
}

static int entry(struct archive *a, const char *path, mode_t mode, const void *data, size_t size, unsigned major,
		 unsigned minor, struct fault *fault) {
	/* magic, inode, mode, uid, gid, links, time, size, device of the file
	 * system, device that it is, length of the name, checksum */
	int n = fprintf(a->out, "070701%08X%08X%08X%08X%08X%08X%08zX%08X%08X%08X%08X%08zX%08X%s", ++a->inodes, mode, 0,
			0, 1, 0, size, 0, 0, major, minor, strlen(path) + 1, 0, path);
	fputc(0, a->out);
	a->size += n + 1;
	pad(a);
	fwrite(data, 1, size, a->out);
	a->size += (off_t)size;
	pad(a);
	return ferror(a->out) ? fault_errno(fault, EIO, "write %s into the initrd", path) : 0;
}

int archive_folder(struct archive *a, const char *path, mode_t mode, struct fault *fault) {
	return entry(a, path, S_IFDIR | mode, "", 0, 0, 0, fault);
}

int archive_device(struct archive *a, const char *path, mode_t mode, unsigned major, unsigned minor,
		   struct fault *fault) {
	return entry(a, path, S_IFCHR | mode, "", 0, major, minor, fault);
}

int archive_data(struct archive *a, const char *path, mode_t mode, const void *data, size_t size, struct fault *fault) {
	return entry(a, path, S_IFREG | mode, data, size, 0, 0, fault);
}

int archive_file(struct archive *a, const char *path, mode_t mode, const char *from, struct fault *fault) {
	CLEANUP_FD int fd = open(from, O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE char *data = NULL;
	size_t size;
	int r = fd < 0 ? -errno : fd_read_all(fd, FILE_MAX, &data, &size);
	return r < 0 ? fault_errno(fault, r, "read %s", from) : archive_data(a, path, mode, data, size, fault);
}

int archive_end(struct archive *a, struct fault *fault) {
	int r = entry(a, "TRAILER!!!", 0, "", 0, 0, 0, fault);
	if (r == 0 && fflush(a->out) < 0)
		r = fault_errno(fault, errno, "write the initrd");
	return r;
}
