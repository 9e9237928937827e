/* layer_file: one file or folder of a committed layer, by descriptor. A layer is
 * foreign: a link isn't followed, and only what can be read at once is given. */
#include "workers/snapshot/state.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int file_open(const struct snapshot_worker *s, const struct layer *l, const char *name) {
	struct stat st;
	char top[LAYER_NAME_SIZE + 4];
	snprintf(top, sizeof(top), "%s/fs", l->name);
	CLEANUP_FD int folder = openat(s->rooms.layers, top, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (folder < 0)
		return -errno;
	CLEANUP_FD int fd =
	    openat(folder, *name ? name : ".", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) ? take_fd(&fd) : -EINVAL;
}

void on_layer_file(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__LayerFileRequest *m) {
	Bulkhead__Empty reply = BULKHEAD__EMPTY__INIT;
	struct fault fault;
	const struct layer *l = layer_find(s, m->chain_id);
	if (!l || l->state != LAYER_COMMITTED || strchr(m->name, '/') || m->name[0] == '.') {
		msg_failf(r, FAULT_NOT_FOUND, "open \"%.80s\" of layer \"%.80s\": it isn't here", m->name, m->chain_id);
		return;
	}
	CLEANUP_FD int fd = file_open(s, l, m->name);
	if (fd >= 0) {
		layer_file_reply(r, &reply, &fd, 1);
		return;
	}
	fault_errno(&fault, fd, "open \"%.80s\" of layer \"%.80s\"", m->name, m->chain_id);
	msg_fail(r, &fault);
}
