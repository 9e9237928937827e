#include "workers/init/init.h"

#include "base/log.h"
#include "base/macros.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

struct mount_row {
	const char *source, *target, *type;
	unsigned long flags;
	const char *data;
};

#define SAFE (MS_NOSUID | MS_NOEXEC | MS_NODEV)

static const struct mount_row first[] = {
	{ .source = "proc", .target = "/proc", .type = "proc", .flags = SAFE },
	{ .source = "sysfs", .target = "/sys", .type = "sysfs", .flags = SAFE },
	{ .source = "dev", .target = "/dev", .type = "devtmpfs", .flags = MS_NOSUID, .data = "mode=0755" },
};

static const struct mount_row rest[] = {
	{ .source = "shm", .target = "/dev/shm", .type = "tmpfs", .flags = SAFE, .data = "mode=1777" },
	{ .source = "devpts",
	  .target = "/dev/pts",
	  .type = "devpts",
	  .flags = MS_NOSUID | MS_NOEXEC,
	  .data = "mode=0620,ptmxmode=0666" },
	{ .source = "run", .target = "/run", .type = "tmpfs", .flags = MS_NOSUID | MS_NODEV, .data = "mode=0755" },
};

static const struct mount_row cgroup_v2 = {
	.source = "cgroup",
	.target = "/sys/fs/cgroup",
	.type = "cgroup2",
	.flags = SAFE,
	.data = "nsdelegate",
};
static const struct mount_row cgroup_v1_root = {
	.source = "cgroup",
	.target = "/sys/fs/cgroup",
	.type = "tmpfs",
	.flags = SAFE,
	.data = "mode=0755",
};

/* A kernel that has mounted it already (CONFIG_DEVTMPFS_MOUNT) is as good. */
static void attach(const struct mount_row *m) {
	if (mkdir(m->target, 0755) < 0 && errno != EEXIST && errno != EROFS)
		log_text(LOG_ERROR, "make the folder %s: %s", m->target, strerrordesc_np(errno));
	if (mount(m->source, m->target, m->type, m->flags, m->data) < 0 && errno != EBUSY)
		log_text(LOG_ERROR, "mount %s on %s: %s", m->type, m->target, strerrordesc_np(errno));
}

void mounts_first(void) {
	for (size_t i = 0; i < ARRAY_SIZE(first); i++)
		attach(&first[i]);
}

/* Each controller that the kernel has on, in a hierarchy of its own. */
static void cgroup_v1_attach(void) {
	attach(&cgroup_v1_root);
	FILE *f = fopen("/proc/cgroups", "re");
	char name[32], path[64];
	unsigned enabled;
	/* The first line is the columns' names. */
	if (!f || fscanf(f, "%*[^\n]") != 0) {
		log_text(LOG_ERROR, "read /proc/cgroups: %s", strerrordesc_np(errno));
		return;
	}
	while (fscanf(f, "%31s %*u %*u %u", name, &enabled) == 2) {
		snprintf(path, sizeof(path), "/sys/fs/cgroup/%s", name);
		if (enabled)
			attach(&(struct mount_row){
			    .source = "cgroup", .target = path, .type = "cgroup", .flags = SAFE, .data = name });
	}
	fclose(f);
}

/*
 * The initrd's file system is the root of all and no mount that could be moved,
 * which pivot_root needs: workers and containers use it. So it is put over
 * itself, and what is in it stays where it is.
 */
static void root_cover(void) {
	if (mkdir("/.root", 0700) < 0 && errno != EEXIST)
		log_text(LOG_ERROR, "make the folder /.root: %s", strerrordesc_np(errno));
	if (mount("/", "/.root", NULL, MS_BIND | MS_REC, NULL) < 0 || chdir("/.root") < 0 ||
	    mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		log_text(LOG_ERROR, "make the root a mount: %s", strerrordesc_np(errno));
	rmdir("/.root");
}

void mounts_rest(bool cgroup_v1) {
	for (size_t i = 0; i < ARRAY_SIZE(rest); i++)
		attach(&rest[i]);
	if (cgroup_v1)
		cgroup_v1_attach();
	else
		attach(&cgroup_v2);
	/* The terminals of this devpts, whatever the kernel's own would be of. */
	unlink("/dev/ptmx");
	if (symlink("pts/ptmx", "/dev/ptmx") < 0)
		log_text(LOG_WARN, "link /dev/ptmx: %s", strerrordesc_np(errno));
	root_cover();
}
