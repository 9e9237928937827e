#include "workers/snapshot/unpack/attributes.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ACL_DEFAULT "system.posix_acl_default"

/* trusted.* steers overlayfs and is never an image's to set; labels of a
 * foreign security module mean nothing here. */
static bool honoured(const char *name) {
	return strncmp(name, "user.", 5) == 0 || strcmp(name, "security.capability") == 0 ||
	       strcmp(name, "system.posix_acl_access") == 0;
}

static int xattrs_set(int fd, const struct tar_entry *e, uint64_t *skipped) {
	for (size_t i = 0; i < e->n_xattrs; i++) {
		const struct tar_xattr *x = &e->xattrs[i];
		if (!honoured(x->name) || fsetxattr(fd, x->name, x->value, x->size, 0) == 0)
			continue;
		switch (errno) {
		case EOPNOTSUPP: /* the file system has no such attributes */
		case EPERM:	 /* user.* on a sticky folder of somebody else */
		case EINVAL:	 /* a capability or ACL of an unknown version */
		case ERANGE:
		case E2BIG:
			(*skipped)++;
			break;
		default:
			return -errno;
		}
	}
	return 0;
}

const struct tar_xattr *attributes_default_acl(const struct tar_entry *e) {
	for (size_t i = 0; i < e->n_xattrs; i++)
		if (strcmp(e->xattrs[i].name, ACL_DEFAULT) == 0)
			return &e->xattrs[i];
	return NULL;
}

int attributes_set_open(int fd, const struct tar_entry *e, uint64_t *skipped) {
	if (fchown(fd, e->uid, e->gid) < 0 || fchmod(fd, e->mode) < 0)
		return -errno;
	return e->n_xattrs ? xattrs_set(fd, e, skipped) : 0;
}

int attributes_set_named(int dir, const char *name, const struct tar_entry *e) {
	const struct timespec times[2] = { e->mtime, e->mtime };
	if (fchownat(dir, name, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* A link has no mode; anything else here is no link, so nothing is followed. */
	if (e->type != TAR_SYMLINK && fchmodat(dir, name, e->mode, 0) < 0)
		return -errno;
	return utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}
