#include "workers/snapshot/copies.h"

#include "base/fd.h"
#include "workers/snapshot/tree/merge.h"
#include "tree/remove.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

struct copying {
	const struct rooms *rooms;
	int room;
	const char *name;
	const char **layers; /* names, top first */
	size_t n_layers;
	copy_done_fn done;
	void *ctx;
	struct child *child;
};

static int copy_layers(const struct copying *c, int tree, struct fault *fault) {
	char path[LAYER_NAME_SIZE + 4];
	for (size_t i = c->n_layers; i-- > 0;) {
		snprintf(path, sizeof(path), "%s/fs", c->layers[i]);
		CLEANUP_FD int layer = openat(c->rooms->layers, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		int r = layer < 0 ? -errno : merge_layer(layer, tree, c->rooms->snapshots_trash);
		if (r < 0)
			return fault_errno(fault, r, "copy layer %s", c->layers[i]);
	}
	return 0;
}

static int copy_run(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	const struct copying *c = arg;
	int new = c->rooms->snapshots_new;
	int r = trash_put(c->rooms->snapshots_trash, new, c->name);
	if (r == 0 || r == -ENOENT)
		r = room_folder(new, c->name, 0700, geteuid(), getegid());
	CLEANUP_FD int dir = r < 0 ? -1 : openat(new, c->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir >= 0)
		r = room_folder(dir, "fs", 0755, 0, 0);
	CLEANUP_FD int tree = dir < 0 ? -1 : openat(dir, "fs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (r < 0 || tree < 0)
		return fault_errno(fault, r < 0 ? r : errno, "make a folder to copy to");
	r = copy_layers(c, tree, fault);
	if (r < 0)
		return r;
	if (renameat2(new, c->name, c->room, c->name, RENAME_NOREPLACE) < 0)
		return fault_errno(fault, errno, "give the copy its name");
	return 0;
}

static void copy_ended(void *ctx, const struct child_result *result) {
	struct copying *c = ctx;
	c->done(c->ctx, result->fault.code == FAULT_NONE ? NULL : &result->fault);
}

int copy_start(struct snapshot_worker *s, struct msg_request *r, int room, const char *name,
	       const struct layer *const *layers, size_t n, copy_done_fn done, void *ctx) {
	struct copying *c = arena_zalloc(&r->arena, sizeof(*c));
	const char **names = c ? arena_alloc(&r->arena, (n + 1) * sizeof(*names)) : NULL;
	if (!names)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		names[i] = layers[i]->name;
	*c = (struct copying){
		.rooms = &s->rooms, .room = room, .name = name, .layers = names, .n_layers = n, .done = done, .ctx = ctx
	};
	const struct child_options options = {
		.name = "copy",
		.keep = { room, s->rooms.layers, s->rooms.snapshots_new, s->rooms.snapshots_trash },
		.n_keep = 4,
		.run = copy_run,
		.arg = c,
		.done = copy_ended,
		.ctx = c,
	};
	return child_start(s->loop, &options, &c->child);
}

int copy_mount(int dir, const char *name, bool read_only, int *ret_mount, struct fault *fault) {
	char path[128];
	snprintf(path, sizeof(path), "%.80s/fs", name);
	/* The room forbids all of these; a container's root must not. */
	struct mount_attr attributes = {
		.attr_clr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
		.attr_set = read_only ? MOUNT_ATTR_RDONLY : 0,
	};
	CLEANUP_FD int fd = open_tree(dir, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
	if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) < 0)
		return fault_errno(fault, errno, "clone %s as a mount", path);
	*ret_mount = take_fd(&fd);
	return 0;
}
