/*
 * devtmpfs knows a virtio-serial port by its numbers only; its name is in
 * sysfs. It comes when the host has told of it, a moment after the driver.
 *
 * A serial line begins as a terminal: it sends back what the host sends, and takes
 * some bytes for orders. From when on it doesn't, the host is told by one XON; what
 * came before that is lost.
 */
#include "workers/init/init.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define PORTS "/sys/class/virtio-ports"
#define XON 0x11
#define PATIENCE (3 * NS_PER_SEC)

static bool has_name(const char *device, const char *name) {
	char path[300], found[64] = "";
	snprintf(path, sizeof(path), PORTS "/%s/name", device);
	FILE *f = fopen(path, "re");
	bool same = f && fscanf(f, "%63s", found) == 1 && strcmp(found, name) == 0;
	if (f)
		fclose(f);
	return same;
}

static bool link_make(const char *device, const char *name) {
	char target[300], path[128];
	snprintf(target, sizeof(target), "../%s", device);
	snprintf(path, sizeof(path), "/dev/virtio-ports/%s", name);
	mkdir("/dev/virtio-ports", 0755);
	return symlink(target, path) == 0 || errno == EEXIST;
}

static bool port_find(const char *name) {
	DIR *d = opendir(PORTS);
	bool done = false;
	if (!d)
		return false;
	for (struct dirent *e; !done && (e = readdir(d));)
		done = e->d_name[0] != '.' && has_name(e->d_name, name) && link_make(e->d_name, name);
	closedir(d);
	return done;
}

void port_name(const char *name) {
	for (int64_t end = clock_mono() + PATIENCE; clock_mono() < end;) {
		if (port_find(name))
			return;
		nanosleep(&(struct timespec){ .tv_nsec = NS_PER_MS }, NULL);
	}
	log_text(LOG_ERROR, "no virtio-serial port has the name \"%s\"", name);
}

void line_announce(const char *path) {
	static const char xon = XON;
	int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC), r = fd < 0 ? -errno : 0;
	/* A port of virtio isn't one. */
	if (r == 0 && !isatty(fd)) {
		fd_close(fd);
		return;
	}
	if (r == 0)
		r = fd_set_raw(fd);
	if (r == 0 && tcflush(fd, TCIFLUSH) < 0)
		r = -errno;
	if (r == 0)
		r = fd_write_all(fd, &xon, 1);
	if (r < 0)
		log_text(LOG_ERROR, "make %s a line for the host: %s", path, strerrordesc_np(-r));
	/* It stays open: with the last user's end what was sent is thrown away. */
}
