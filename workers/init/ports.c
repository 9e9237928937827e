/*
 * devtmpfs knows a virtio-serial port by its numbers only; its name is in
 * sysfs. It comes when the host has told of it, a moment after the driver.
 */
#include "workers/init/init.h"

#include "base/clock.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PORTS "/sys/class/virtio-ports"
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
