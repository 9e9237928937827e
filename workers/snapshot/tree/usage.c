#include "workers/snapshot/tree/usage.h"

#include "base/clock.h"
#include "workers/snapshot/tree/inodes.h"
#include "tree/walk.h"

#include <errno.h>

struct counting {
	struct usage sum;
	struct inodes linked;
};

static int64_t changed_at(const struct stat *st) {
	return st->st_ctim.tv_sec * NS_PER_SEC + st->st_ctim.tv_nsec;
}

static int count(void *ctx, const struct walk_entry *e) {
	struct counting *c = ctx;
	c->sum.changed_at = MAX(c->sum.changed_at, changed_at(e->st));
	if (e->st->st_nlink > 1 && !S_ISDIR(e->st->st_mode)) {
		int r = inodes_add(&c->linked, e->st->st_ino, 0, NULL);
		if (r == -EEXIST)
			return 0;
		if (r < 0)
			return r;
	}
	c->sum.size += (uint64_t)e->st->st_blocks * 512;
	c->sum.inodes++;
	return 0;
}

int usage_tree(int root, uint64_t limit, struct usage *ret_usage) {
	struct counting c = { 0 };
	struct stat st;
	if (fstat(root, &st) < 0)
		return -errno;
	c.sum = (struct usage){ .size = (uint64_t)st.st_blocks * 512, .inodes = 1, .changed_at = changed_at(&st) };
	int r = walk_tree(root, limit, count, &c);
	inodes_deinit(&c.linked);
	if (r < 0)
		return r;
	*ret_usage = c.sum;
	return 0;
}
