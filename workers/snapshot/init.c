#include "workers/snapshot/state.h"

#include "base/fd.h"
#include "base/log.h"
#include "tree/remove.h"

#include <fcntl.h>
#include <sys/stat.h>

#define PROBE "probe"

/* Tried where the upper folders are: that is what is choosy. */
static int probe(struct snapshot_worker *s, struct fault *fault) {
	int new = s->rooms.snapshots_new;
	if (mkdirat(new, PROBE, 0700) < 0 && errno != EEXIST)
		return fault_errno(fault, errno, "make a folder to try overlayfs in");
	CLEANUP_FD int scratch = openat(new, PROBE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (scratch < 0)
		return fault_errno(fault, errno, "make a folder to try overlayfs in");
	int r = overlay_probe(&s->overlay, scratch, fault);
	if (r < 0)
		return r;
	if (!s->overlay.usable)
		log_event(LOG_WARN, "overlayfs can't be used: each container gets a copy of its image", "error",
			  fault->text, NULL);
	if (trash_put(s->rooms.snapshots_trash, new, PROBE) == 0)
		s->rooms.leftovers = true;
	return 0;
}

int snapshot_worker_init(struct snapshot_worker *s, struct loop *loop, const char *state_root, struct fault *fault) {
	*s = (struct snapshot_worker){ .loop = loop, .state_root = state_root };
	map_init(&s->layers);
	map_init(&s->snapshots);
	list_init(&s->unpack_ready);
	list_init(&s->info_waiting);
	int r = rooms_open(&s->rooms, state_root, fault);
	if (r < 0)
		return r;
	reaper_init(&s->reaper, loop, &s->rooms);
	r = probe(s, fault);
	if (r == 0)
		r = layers_load(s, fault);
	if (r == 0)
		r = snapshots_load(s, fault);
	/* Also what a reaper before us didn't finish. */
	if (r == 0)
		reaper_soon(&s->reaper);
	return r;
}
