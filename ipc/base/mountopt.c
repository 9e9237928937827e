#include "base/mountopt.h"

#include <string.h>
#include <sys/mount.h>

enum kind {
	ATTR,
	ATTR_CLEAR,
	TREE,
	TREE_CLEAR,
	PROPAGATION,
	PROPAGATION_TREE,
	BIND,
	RBIND,
	MAKE_SOURCE,
	IDMAP,
	NOTHING,
	REFUSED
};

#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

static const struct {
	const char *name;
	enum kind kind;
	uint64_t value;
} table[] = {
	{ "ro", ATTR, MOUNT_ATTR_RDONLY },
	{ "rw", ATTR_CLEAR, MOUNT_ATTR_RDONLY },
	{ "nosuid", ATTR, MOUNT_ATTR_NOSUID },
	{ "suid", ATTR_CLEAR, MOUNT_ATTR_NOSUID },
	{ "nodev", ATTR, MOUNT_ATTR_NODEV },
	{ "dev", ATTR_CLEAR, MOUNT_ATTR_NODEV },
	{ "noexec", ATTR, MOUNT_ATTR_NOEXEC },
	{ "exec", ATTR_CLEAR, MOUNT_ATTR_NOEXEC },
	{ "nodiratime", ATTR, MOUNT_ATTR_NODIRATIME },
	{ "diratime", ATTR_CLEAR, MOUNT_ATTR_NODIRATIME },
	{ "nosymfollow", ATTR, MOUNT_ATTR_NOSYMFOLLOW },
	{ "symfollow", ATTR_CLEAR, MOUNT_ATTR_NOSYMFOLLOW },
	{ "noatime", ATTR, MOUNT_ATTR_NOATIME },
	{ "strictatime", ATTR, MOUNT_ATTR_STRICTATIME },
	{ "relatime", NOTHING, 0 },
	{ "norelatime", NOTHING, 0 },
	{ "atime", NOTHING, 0 },
	{ "nostrictatime", NOTHING, 0 },
	{ "defaults", NOTHING, 0 },
	{ "async", NOTHING, 0 },
	{ "rro", TREE, MOUNT_ATTR_RDONLY },
	{ "rrw", TREE_CLEAR, MOUNT_ATTR_RDONLY },
	{ "rnosuid", TREE, MOUNT_ATTR_NOSUID },
	{ "rsuid", TREE_CLEAR, MOUNT_ATTR_NOSUID },
	{ "rnodev", TREE, MOUNT_ATTR_NODEV },
	{ "rdev", TREE_CLEAR, MOUNT_ATTR_NODEV },
	{ "rnoexec", TREE, MOUNT_ATTR_NOEXEC },
	{ "rexec", TREE_CLEAR, MOUNT_ATTR_NOEXEC },
	{ "bind", BIND, 0 },
	{ "rbind", RBIND, 0 },
	{ "private", PROPAGATION, MS_PRIVATE },
	{ "slave", PROPAGATION, MS_SLAVE },
	{ "shared", PROPAGATION, MS_SHARED },
	{ "unbindable", PROPAGATION, MS_UNBINDABLE },
	{ "rprivate", PROPAGATION_TREE, MS_PRIVATE },
	{ "rslave", PROPAGATION_TREE, MS_SLAVE },
	{ "rshared", PROPAGATION_TREE, MS_SHARED },
	{ "runbindable", PROPAGATION_TREE, MS_UNBINDABLE },
	{ "x-make-source", MAKE_SOURCE, 0 },
	{ "idmap", IDMAP, 0 },
	{ "ridmap", REFUSED, 0 },
	{ "tmpcopyup", REFUSED, 0 },
};

static void attr_set(struct mount_options *o, uint64_t value) {
	/* The access-time attributes are one field, not flags. */
	if (value == MOUNT_ATTR_NOATIME || value == MOUNT_ATTR_STRICTATIME) {
		o->clear |= MOUNT_ATTR__ATIME;
		o->set &= ~(uint64_t)MOUNT_ATTR__ATIME;
	} else {
		o->clear &= ~value;
	}
	o->set |= value;
}

static void option_apply(struct mount_options *o, enum kind kind, uint64_t value) {
	switch (kind) {
	case ATTR:
		attr_set(o, value);
		break;
	case ATTR_CLEAR:
		o->set &= ~value;
		o->clear |= value;
		break;
	case TREE:
		o->tree_set |= value;
		o->tree_clear &= ~value;
		break;
	case TREE_CLEAR:
		o->tree_clear |= value;
		o->tree_set &= ~value;
		break;
	case PROPAGATION:
	case PROPAGATION_TREE:
		o->propagation = value;
		o->propagation_tree = kind == PROPAGATION_TREE;
		break;
	case BIND:
	case RBIND:
		o->bind = true;
		o->recursive = kind == RBIND;
		break;
	case MAKE_SOURCE:
		o->make_source = true;
		break;
	case IDMAP:
		o->idmap = true;
		break;
	case NOTHING:
	case REFUSED:
		break;
	}
}

int mount_options_parse(char *const *options, size_t n, struct mount_options *ret_options, struct fault *fault) {
	struct mount_options o = { 0 };
	for (size_t i = 0; i < n; i++) {
		size_t k = 0;
		while (k < ARRAY_SIZE(table) && strcmp(table[k].name, options[i]) != 0)
			k++;
		if (k < ARRAY_SIZE(table) && table[k].kind == REFUSED)
			return fault_set(fault, FAULT_UNIMPLEMENTED, "mount option \"%s\" is not supported",
					 options[i]);
		if (k < ARRAY_SIZE(table)) {
			option_apply(&o, table[k].kind, table[k].value);
			continue;
		}
		if (o.n_data == MOUNT_DATA_MAX)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "more than %d mount options", MOUNT_DATA_MAX);
		o.data[o.n_data++] = options[i];
	}
	*ret_options = o;
	return 0;
}

const char *mount_option_name(size_t i) {
	for (size_t k = 0; k < ARRAY_SIZE(table); k++)
		if (table[k].kind != REFUSED && i-- == 0)
			return table[k].name;
	return NULL;
}
