/*
 * Kills for want of memory. v2 wakes who polls memory.events after each, and for
 * much else (a limit that was reached); v1 wakes an eventfd when a group has no
 * memory left, a moment before anything is killed.
 */
#include "workers/keeper/cgroup_private.h"

#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>

uint64_t cgroup_oom_kills(const struct cgroup *c) {
	char text[512];
	int h;
	if (!cgroup_has(c, CGROUP_MEMORY, &h))
		return 0;
	const char *file = c->system->hierarchies[h].v2 ? "memory.events" : "memory.oom_control";
	return cgroup_read(c, h, file, text, sizeof(text)) == 0 ? cgroup_field(text, "oom_kill") : 0;
}

static int eventfd_open(const struct cgroup *c, int h) {
	char text[32];
	CLEANUP_FD int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CLEANUP_FD int file = cgroup_file_open(c, h, "memory.oom_control", O_RDONLY);
	if (fd < 0 || file < 0)
		return fd < 0 ? -errno : file;
	snprintf(text, sizeof(text), "%d %d", fd, file);
	int r = cgroup_write(c, h, "cgroup.event_control", text);
	return r < 0 ? r : take_fd(&fd);
}

int cgroup_oom_open(const struct cgroup *c, uint32_t *ret_events) {
	int h;
	if (!cgroup_has(c, CGROUP_MEMORY, &h))
		return -ENODEV;
	bool v2 = c->system->hierarchies[h].v2;
	*ret_events = v2 ? POLLPRI : POLLIN;
	return v2 ? cgroup_file_open(c, h, "memory.events", O_RDONLY) : eventfd_open(c, h);
}

/* An eventfd has no positions. */
void cgroup_oom_seen(int fd) {
	char text[512];
	if (pread(fd, text, sizeof(text), 0) < 0 && errno == ESPIPE && read(fd, text, sizeof(text)) < 0)
		return;
}
