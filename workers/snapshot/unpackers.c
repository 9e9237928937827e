/* What those share who unpack archives: turns, and the folder to unpack to. */
#include "workers/snapshot/state.h"

#include "base/fd.h"
#include "tree/remove.h"
#include "workers/snapshot/unpack/unpack.h"

#include <fcntl.h>

static void turns_give(struct snapshot_worker *s) {
	while (s->unpackers < UNPACKERS_MAX && !list_empty(&s->unpack_ready)) {
		struct unpack_turn *t = list_entry(list_pop(&s->unpack_ready), struct unpack_turn, node);
		if (t->run(t) == 0)
			s->unpackers++;
	}
}

void unpack_turn_wait(struct snapshot_worker *s, struct unpack_turn *t) {
	list_append(&s->unpack_ready, &t->node);
	turns_give(s);
}

void unpack_turn_end(struct snapshot_worker *s) {
	s->unpackers--;
	turns_give(s);
}

int unpack_staging_open(struct snapshot_worker *s, const char *name, struct unpack_job *job, int *ret_dir,
			struct fault *fault) {
	int staging = s->rooms.layers_staging;
	int r = trash_put(s->rooms.layers_trash, staging, name);
	if (r == 0 || r == -ENOENT)
		r = room_folder(staging, name, 0700, geteuid(), getegid());
	CLEANUP_FD int dir = r < 0 ? -1 : openat(staging, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (r < 0 || dir < 0)
		return fault_errno(fault, r < 0 ? r : errno, "make a folder to unpack to");
	/* root's, until the archive says otherwise */
	r = room_folder(dir, "fs", 0755, 0, 0);
	if (r < 0)
		return fault_errno(fault, r, "make a folder to unpack to");
	job->tree = openat(dir, "fs", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	job->report = openat(dir, "report", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (job->tree < 0 || job->report < 0)
		return fault_errno(fault, errno, "make a folder to unpack to");
	*ret_dir = take_fd(&dir);
	return 0;
}
