/*
 * fsGroup: all files of a volume get a group that may read them, and write to
 * them unless the volume is read-only. A link is never followed; a file's mode
 * is changed by a descriptor of it, since a container that has the volume
 * already may exchange names meanwhile.
 */
#include "guest.h"

#include "base/fd.h"
#include "tree/walk.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct giving {
	gid_t gid;
	mode_t file, folder; /* bits that are added */
};

static int give(int dir, const char *name, const struct giving *g) {
	struct stat st;
	char path[32];
	CLEANUP_FD int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fchownat(fd, "", (uid_t)-1, g->gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	mode_t mode = (st.st_mode & 07777) | (S_ISDIR(st.st_mode) ? g->folder : g->file);
	return chmod(path, mode) < 0 ? -errno : 0;
}

static int give_entry(void *ctx, const struct walk_entry *e) {
	return give(e->dir, e->name, ctx);
}

static bool matches(int root, const struct giving *g) {
	struct stat st;
	return fstat(root, &st) == 0 && st.st_gid == g->gid && (st.st_mode & g->folder) == g->folder;
}

static bool read_only(const Grpc__Storage *s) {
	for (size_t i = 0; i < s->n_options; i++)
		if (strcmp(s->options[i], "ro") == 0)
			return true;
	return false;
}

int group_give(const struct place *at, const Grpc__Storage *s, struct fault *fault) {
	mode_t file = read_only(s) ? 0440 : 0660;
	struct giving g = { .gid = s->fs_group->group_id, .file = file, .folder = file | 0110 | S_ISGID };
	CLEANUP_FD int root = openat(at->folder, at->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (root < 0)
		return fault_errno(fault, errno, "open the volume");
	if (s->fs_group->group_change_policy == TYPES__FSGROUP_CHANGE_POLICY__OnRootMismatch && matches(root, &g))
		return 0;
	int r = walk_tree(root, 0, give_entry, &g);
	if (r == 0) /* last: until then nothing matches */
		r = give(root, ".", &g);
	return r < 0 ? fault_errno(fault, r, "give its files to group %u", g.gid) : 0;
}
