#include "workers/snapshot/jail.h"

#include "base/calls.h"
#include "base/fd.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define MEMORY_MAX (768u * 1024 * 1024)

#define CALLS_ALL SYS_lseek, SYS_fcntl, CALLS_OF_LIBC

/* The most frequent first: the filter is a list. */
static const unsigned unpack_calls[] = { SYS_write,	SYS_pwrite64, SYS_read,	     SYS_openat,     SYS_close,
					 SYS_fchown,	SYS_fchmod,   SYS_utimensat, SYS_openat2,    SYS_mkdirat,
					 SYS_symlinkat, SYS_fchownat, SYS_linkat,    SYS_newfstatat, SYS_fsetxattr,
					 SYS_mknodat,	SYS_fchmodat, SYS_unlinkat,  SYS_renameat2,  SYS_readlinkat,
					 SYS_fstat,	SYS_statx,    SYS_ftruncate, SYS_getdents64, CALLS_ALL };
static const unsigned pack_calls[] = { SYS_pread64,   SYS_pwrite64,   SYS_write,      SYS_newfstatat, SYS_openat,
				       SYS_close,     SYS_fstat,      SYS_flistxattr, SYS_openat2,    SYS_getdents64,
				       SYS_fgetxattr, SYS_readlinkat, SYS_ftruncate,  SYS_read,	      SYS_fsync,
				       SYS_dup3,      CALLS_ALL };

static const unsigned inflate_calls[] = { SYS_read, SYS_write, SYS_close, CALLS_ALL };

static const struct jail {
	uint32_t capabilities;
	uint64_t attributes; /* of the mount that is its root */
	bool as_root;	     /* what it makes belongs to root */
	const unsigned *calls;
	size_t n_calls;
} jails[] = {
	[JAIL_UNPACK] = {
		.capabilities = 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_FOWNER | 1u << CAP_FSETID |
				1u << CAP_MKNOD | 1u << CAP_SETFCAP,
		.attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
		.as_root = true,
		.calls = unpack_calls,
		.n_calls = ARRAY_SIZE(unpack_calls),
	},
	[JAIL_PACK] = {
		.capabilities = 1u << CAP_DAC_READ_SEARCH,
		.attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY,
		.calls = pack_calls,
		.n_calls = ARRAY_SIZE(pack_calls),
	},
	[JAIL_INFLATE] = {
		.calls = inflate_calls,
		.n_calls = ARRAY_SIZE(inflate_calls),
	},
};

/* Makes the folder the root: cloned as a mount while it can still be named,
 * then laid over the old root, which is thrown away. */
static int root_enter(const struct jail *j, int root, struct fault *fault) {
	CLEANUP_FD int tree = open_tree(root, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	struct mount_attr attributes = { .attr_set = j->attributes };
	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) < 0)
		return fault_errno(fault, errno, "jail: clone the folder as a mount");
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return fault_errno(fault, errno, "jail: make a mount namespace");
	if (move_mount(tree, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 || fchdir(tree) < 0 ||
	    syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return fault_errno(fault, errno, "jail: change the root");
	return 0;
}

/* Files belong to root unless the archive says otherwise, whoever we are. */
static int identity_take(struct fault *fault) {
	setfsgid(0);
	setfsuid(0);
	if (setfsuid((uid_t)-1) != 0 || setfsgid((gid_t)-1) != 0)
		return fault_set(fault, FAULT_PERMISSION_DENIED, "jail: can't make files that belong to root");
	return 0;
}

static int capabilities_drop(const struct jail *j, struct fault *fault) {
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };
	if (syscall(SYS_capget, &header, data) < 0)
		return fault_errno(fault, errno, "jail: read the capabilities");
	_Static_assert(CAP_SETFCAP < 32, "the first word");
	data[0].permitted &= j->capabilities;
	data[0].effective = data[0].permitted;
	data[0].inheritable = 0;
	data[1] = (struct __user_cap_data_struct){ 0 };
	if (syscall(SYS_capset, &header, data) < 0)
		return fault_errno(fault, errno, "jail: drop capabilities");
	return 0;
}

static int limits_set(struct fault *fault) {
	static const struct {
		int resource;
		rlim_t max;
	} limits[] = {
		{ RLIMIT_CORE, 0 },
		{ RLIMIT_NPROC, 0 },
		{ RLIMIT_NOFILE, 256 },
#ifndef CALLS_SANITIZED
		{ RLIMIT_AS, MEMORY_MAX },
#endif
	};
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct rlimit l;
		if (getrlimit(limits[i].resource, &l) < 0)
			return fault_errno(fault, errno, "jail: read the limits");
		l.rlim_cur = l.rlim_max = MIN(l.rlim_max, limits[i].max);
		if (setrlimit(limits[i].resource, &l) < 0)
			return fault_errno(fault, errno, "jail: set the limits");
	}
	return 0;
}

int jail_enter(enum jail_kind kind, int root, struct fault *fault) {
	const struct jail *j = &jails[kind];
	int r = root < 0 ? 0 : root_enter(j, root, fault);
	if (r == 0 && j->as_root)
		r = identity_take(fault);
	if (r == 0)
		r = limits_set(fault);
	if (r == 0)
		r = capabilities_drop(j, fault);
	return r == 0 ? calls_restrict(j->calls, j->n_calls, fault) : r;
}
