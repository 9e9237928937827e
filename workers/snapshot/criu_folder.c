#include "workers/snapshot/criu_folder.h"

#include "base/fd.h"
#include "internal/common.pb-c.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int criu_gate_wait(int gate, char word, struct fault *fault) {
	char c;
	ssize_t n;
	while ((n = read(gate, &c, 1)) < 0 && errno == EINTR)
		continue;
	return n == 1 && c == word ? 0 : fault_set(fault, FAULT_ABORTED, "criu has given up");
}

int criu_gate_go(int gate) {
	return fd_write_all(gate, &(char){ BULKHEAD__GATE_WORD__GATE_GO }, 1);
}

int criu_file_write(struct tar_writer *w, int folder, const char *file, const char *name) {
	struct stat st;
	CLEANUP_FD int fd = openat(folder, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	struct tar_member m = tar_member_of(name, &st);
	m.mode = 0600;
	int r = tar_write_header(w, &m);
	return r < 0 ? r : tar_write_file(w, fd, m.size);
}

int criu_images_write(struct tar_writer *w, int folder, const char *prefix) {
	const struct tar_member top = { .name = prefix, .type = '5', .mode = 0700 };
	int fd = openat(folder, CRIU_IMAGES, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		fd_close(fd);
		return -errno;
	}
	int r = *prefix ? tar_write_header(w, &top) : 0;
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		char name[2 * NAME_MAX];
		if (e->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%.200s%s", prefix, e->d_name);
		r = criu_file_write(w, fd, e->d_name, name);
	}
	closedir(d);
	return r;
}
