#include "workers/snapshot/tree/inodes.h"

#include <errno.h>

void inodes_deinit(struct inodes *s) {
	free(s->slots);
	*s = (struct inodes){ 0 };
}

static struct inode_slot *slot_of(struct inode_slot *slots, size_t room, uint64_t inode) {
	size_t i = (size_t)(inode * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (room - 1);
	while (slots[i].inode && slots[i].inode != inode)
		i = (i + 1) & (room - 1);
	return &slots[i];
}

static int grow(struct inodes *s) {
	size_t room = s->room ? s->room * 2 : 64;
	struct inode_slot *slots = calloc(room, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < s->room; i++)
		if (s->slots[i].inode)
			*slot_of(slots, room, s->slots[i].inode) = s->slots[i];
	free(s->slots);
	s->slots = slots;
	s->room = room;
	return 0;
}

int inodes_add(struct inodes *s, uint64_t inode, uint64_t value, uint64_t *ret_value) {
	if (s->n * 4 >= s->room * 3) {
		int r = grow(s);
		if (r < 0)
			return r;
	}
	struct inode_slot *slot = slot_of(s->slots, s->room, inode);
	if (slot->inode) {
		if (ret_value)
			*ret_value = slot->value;
		return -EEXIST;
	}
	*slot = (struct inode_slot){ .inode = inode, .value = value };
	s->n++;
	return 0;
}

bool inodes_has(const struct inodes *s, uint64_t inode) {
	return s->room > 0 && slot_of(s->slots, s->room, inode)->inode != 0;
}
