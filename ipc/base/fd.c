#include "base/fd.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>

#define RACES_MAX 128

int fd_write_all(int fd, const void *data, size_t size) {
	const char *p = data;
	while (size > 0) {
		ssize_t n = write(fd, p, size);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		p += n;
		size -= (size_t)n;
	}
	return 0;
}

int fd_open_in(int folder, const char *path, uint64_t flags, uint64_t resolve) {
	struct open_how how = { .flags = flags | O_CLOEXEC, .resolve = resolve };
	int fd = -1;
	errno = EAGAIN;
	for (int i = 0; fd < 0 && errno == EAGAIN && i < RACES_MAX; i++)
		fd = (int)syscall(SYS_openat2, folder, *path ? path : ".", &how, sizeof(how));
	return fd < 0 ? -errno : fd;
}

int fd_read_all(int fd, size_t max, char **ret_data, size_t *ret_size) {
	size_t used = 0, room = 4096;
	CLEANUP_FREE char *data = malloc(room + 1);
	if (!data)
		return -ENOMEM;
	for (;;) {
		if (used == room) {
			if (used > max)
				return -EFBIG;
			char *more = realloc(data, room * 2 + 1);
			if (!more)
				return -ENOMEM;
			data = more;
			room *= 2;
		}
		ssize_t n = read(fd, data + used, room - used);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (n == 0)
			break;
		used += (size_t)n;
	}
	if (used > max)
		return -EFBIG;
	data[used] = '\0';
	*ret_data = take_ptr(data);
	if (ret_size)
		*ret_size = used;
	return 0;
}

int make_folders(const char *path) {
	char part[PATH_MAX];
	size_t n = strlen(path);
	struct stat st;
	if (n == 0 || n >= sizeof(part))
		return n ? -ENAMETOOLONG : -ENOENT;
	for (size_t i = 1; i <= n; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	return stat(path, &st) < 0 ? -errno : S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int fd_set_raw(int fd) {
	struct termios t;
	if (tcgetattr(fd, &t) < 0)
		return -errno;
	cfmakeraw(&t);
	t.c_cflag |= CLOCAL | CREAD;
	return tcsetattr(fd, TCSANOW, &t) < 0 ? -errno : 0;
}
