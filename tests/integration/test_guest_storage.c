/*
 * Storages of the guest worker, in a mount namespace of the test's own: what is
 * mounted, who needs it, what is left when it fails or nobody needs it.
 */
#include "workers/guest/guest.h"

#include "base/fd.h"
#include "tests/unit/tap.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>

static struct boot_config config;
static struct fault fault;

/* Of the agent's folder; a ring of buffers, so that one call may have several. */
static char *path(const char *name) {
	static char paths[8][BOOT_PATH_MAX + 128];
	static unsigned next;
	char *p = paths[next++ % ARRAY_SIZE(paths)];
	snprintf(p, sizeof(paths[0]), "%s/%s", config.agent_run_root, name);
	return p;
}

struct wish {
	const char *driver, *source, *fstype, *at, *options[6], *driver_option;
	bool shared;
	Grpc__FSGroup *group;
};

static void storage_fill(Grpc__Storage *s, const struct wish *x) {
	grpc__storage__init(s);
	s->driver = (char *)x->driver;
	s->source = (char *)(x->source ? x->source : "");
	s->fstype = (char *)(x->fstype ? x->fstype : "");
	s->mount_point = path(x->at);
	s->options = (char **)x->options;
	while (s->n_options < ARRAY_SIZE(x->options) && x->options[s->n_options])
		s->n_options++;
	s->driver_options = (char **)&x->driver_option;
	s->n_driver_options = x->driver_option != NULL;
	s->shared = x->shared;
	s->fs_group = x->group;
}

static int attach(const char *owner, const struct wish *wishes, size_t n) {
	Grpc__Storage storages[4], *list[4];
	Bulkhead__GuestAttachRequest q = BULKHEAD__GUEST_ATTACH_REQUEST__INIT;
	struct work w = { .config = &config };
	for (size_t i = 0; i < n; i++) {
		storage_fill(&storages[i], &wishes[i]);
		list[i] = &storages[i];
	}
	q.owner = (char *)owner;
	q.storages = list;
	q.n_storages = n;
	arena_init(&w.arena, 0);
	fault.code = FAULT_NONE;
	fault.text[0] = '\0';
	int r = guest_attach_run(&w, &q.base, &fault);
	arena_deinit(&w.arena);
	return r;
}

static int detach(const char *owner, bool all_shared) {
	Bulkhead__GuestDetachRequest q = BULKHEAD__GUEST_DETACH_REQUEST__INIT;
	struct work w = { .config = &config };
	q.owner = (char *)owner;
	q.all_shared = all_shared;
	arena_init(&w.arena, 0);
	int r = guest_detach_run(&w, &q.base, &fault);
	arena_deinit(&w.arena);
	return r;
}

/* --- the kernel's truth --- */

static unsigned mounts_below(const char *folder) {
	char line[4096];
	unsigned n = 0;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, folder) != NULL;
	if (f)
		fclose(f);
	return n;
}
static bool there(const char *name) {
	return access(path(name), F_OK) == 0;
}
static bool mounted(const char *name) {
	CLEANUP_PLACE struct place p = PLACE_NONE;
	struct work w = { .config = &config };
	struct fault f;
	return place_find(&w, path(name), false, &p, &f) == 0 && mounting_is(&p);
}
static unsigned holdings(void) {
	char command[BOOT_PATH_MAX + 64], text[16] = "";
	snprintf(command, sizeof(command), "ls %s/guest | wc -l", config.run_root);
	FILE *f = popen(command, "re");
	if (f && !fgets(text, sizeof(text), f))
		text[0] = '\0';
	if (f)
		pclose(f);
	return (unsigned)strtoul(text, NULL, 10);
}
static bool nothing_left(void) {
	return mounts_below(config.agent_run_root) == 1 && holdings() == 0;
}

/* --- ephemeral, and who needs it --- */

static const struct wish shm = {
	.driver = "ephemeral",
	.source = "shm",
	.fstype = "tmpfs",
	.at = "sandbox/shm",
	.options = { "noexec", "nosuid", "nodev", "mode=1777", "size=65536" },
};

static void test_ephemeral(void) {
	struct statfs f;
	struct stat st;
	int r = attach("sandbox", &shm, 1);
	tap_check(r == 0 && mounted("sandbox/shm"), "ephemeral: a tmpfs is mounted: %s", fault.text);
	tap_check(statfs(path("sandbox/shm"), &f) == 0 && f.f_blocks * (uint64_t)f.f_bsize == 65536 &&
		      (f.f_flags & 8 /* ST_NOEXEC */),
		  "ephemeral: with its size and flags");
	tap_check(attach("sandbox", &shm, 1) == 0 && mounts_below("sandbox/shm") == 1,
		  "the same request again changes nothing");
	tap_check(attach("other", &shm, 1) == 0 && mounts_below("sandbox/shm") == 1,
		  "the same mount point is used again");
	tap_check(detach("sandbox", false) == 0 && mounted("sandbox/shm"), "what somebody needs stays");
	tap_check(detach("nobody", false) == 0 && mounted("sandbox/shm"), "an unknown owner is no error");
	tap_check(detach("other", false) == 0 && !there("sandbox/shm") && nothing_left(),
		  "what nobody needs goes, and its folder");
	const struct wish grouped = {
		.driver = "ephemeral", .source = "tmpfs", .fstype = "tmpfs", .at = "e", .options = { "fsgid=1234" }
	};
	tap_check(attach("c", &grouped, 1) == 0 && stat(path("e"), &st) == 0 && st.st_gid == 1234 &&
		      (st.st_mode & S_ISGID),
		  "ephemeral: fsgid is its group: %s", fault.text);
	detach("c", false);
}

static void test_shared(void) {
	struct wish s = shm;
	s.shared = true;
	tap_check(attach("c1", &s, 1) == 0 && detach("c1", false) == 0 && mounted(s.at),
		  "a shared storage outlives its owner");
	tap_check(attach("c2", &s, 1) == 0 && mounts_below(s.at) == 1 && detach("", true) == 0 && nothing_left(),
		  "a shared storage ends with all_shared");
}

/* --- local --- */

static void test_local(void) {
	const struct wish l = {
		.driver = "local", .fstype = "local", .at = "sandbox/local/a", .options = { "mode=0750", "fsgid=77" }
	};
	struct stat st;
	int r = attach("c", &l, 1);
	tap_check(r == 0 && stat(path(l.at), &st) == 0 && (st.st_mode & 07777) == 02750 && st.st_gid == 77,
		  "local: a folder with mode and group: %s", fault.text);
	mkdir(path("sandbox/local/a/deep"), 0755);
	close(open(path("sandbox/local/a/deep/file"), O_CREAT | O_WRONLY, 0600));
	tap_check(attach("d", &l, 1) == 0 && detach("c", false) == 0 && there("sandbox/local/a/deep/file"),
		  "local: another owner keeps it");
	tap_check(detach("d", false) == 0 && !there("sandbox/local/a") && nothing_left(),
		  "local: its content goes with it");
	const struct wish bad = { .driver = "local", .at = "x", .options = { "mode=rwx" } };
	tap_check(attach("c", &bad, 1) < 0 && fault.code == FAULT_INVALID_ARGUMENT && strstr(fault.text, "rwx") &&
		      nothing_left(),
		  "local: a mode that is none: %s", fault.text);
}

/* --- overlayfs, binds --- */

static void file_write(const char *name, const char *text) {
	int fd = open(path(name), O_CREAT | O_WRONLY | O_TRUNC, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		printf("# can't write %s\n", name);
	close(fd);
}

static void test_overlay(void) {
	char lower[BOOT_PATH_MAX + 16];
	mkdir(path("low"), 0755);
	file_write("low/below", "x");
	snprintf(lower, sizeof(lower), "lowerdir=%s", path("low"));
	const struct wish o = { .driver = "overlayfs",
				.source = "overlay",
				.fstype = "overlay",
				.at = "merged",
				.options = { lower, "io.katacontainers.fs-opt.overlay-rw" } };
	int r = attach("c", &o, 1);
	tap_check(r == 0 && there("merged/below"), "overlayfs: what is below shows: %s", fault.text);
	file_write("merged/new", "y");
	tap_check(there("merged.upper/new") && !there("low/new"), "overlayfs: overlay-rw: what is written goes above");
	tap_check(detach("c", false) == 0 && nothing_left() && !there("merged"), "overlayfs: it ends");
	tap_check(!there("merged.upper") && !there("merged.work"), "overlayfs: and what was written with it");
	snprintf(lower, sizeof(lower), "lowerdir=%s", path("made/by/it"));
	char option[BOOT_PATH_MAX + 80];
	snprintf(option, sizeof(option), "io.katacontainers.volume.overlayfs.create_directory=%s", path("made/by/it"));
	const struct wish made = { .driver = "overlayfs",
				   .source = "overlay",
				   .fstype = "overlay",
				   .at = "merged",
				   .options = { lower, "ro" },
				   .driver_option = option };
	tap_check(attach("c", &made, 1) == 0 || strstr(fault.text, "overlay"), "overlayfs: create_directory: %s",
		  fault.text);
	tap_check(there("made/by/it"), "overlayfs: the folder is made");
	detach("c", false);
}

static void test_bind(void) {
	struct stat st;
	char volume[BOOT_PATH_MAX + 16], one[BOOT_PATH_MAX + 16];
	snprintf(volume, sizeof(volume), "%s", path("volume"));
	snprintf(one, sizeof(one), "%s", path("one"));
	mkdir(volume, 0755);
	file_write("volume/file", "x");
	file_write("one", "1");
	Grpc__FSGroup group = GRPC__FSGROUP__INIT;
	group.group_id = 4321;
	const struct wish b = { .driver = "watchable-bind",
				.source = volume,
				.fstype = "bind",
				.at = "bound",
				.options = { "rbind", "nosuid" },
				.group = &group };
	int r = attach("c", &b, 1);
	tap_check(r == 0 && there("bound/file"), "watchable-bind: the folder is bound: %s", fault.text);
	tap_check(stat(path("bound/file"), &st) == 0 && st.st_gid == 4321 && (st.st_mode & 060) == 060 &&
		      stat(path("bound"), &st) == 0 && (st.st_mode & S_ISGID),
		  "fsGroup: files have the group and may be written by it");
	detach("c", false);
	file_write("volume/late", "x");
	group.group_change_policy = TYPES__FSGROUP_CHANGE_POLICY__OnRootMismatch;
	tap_check(attach("c", &b, 1) == 0 && chown(path("volume/late"), 0, 0) == 0 && detach("c", false) == 0 &&
		      attach("c", &b, 1) == 0 && stat(path("bound/late"), &st) == 0 && st.st_gid == 0,
		  "fsGroup: OnRootMismatch looks at the root alone");
	detach("c", false);
	const struct wish f = {
		.driver = "virtio-fs", .source = one, .fstype = "bind", .at = "two", .options = { "bind", "ro" }
	};
	tap_check(attach("c", &f, 1) == 0 && mounted("two") && open(path("two"), O_WRONLY) < 0 && errno == EROFS,
		  "a file is bound to a file, read-only: %s", fault.text);
	detach("c", false);
	tap_check(nothing_left(), "binds: nothing is left");
}

/* --- devices --- */

/* Attached to a file in our tmpfs; freed with its last user. */
static bool loop_make(const char *image, char *ret_path, size_t size) {
	char command[2 * BOOT_PATH_MAX];
	snprintf(command, sizeof(command),
		 "truncate -s 16M %s && mkfs.ext4 -q %s && losetup --find --show %s 2>/dev/null", image, image, image);
	FILE *f = popen(command, "re");
	bool made = f && fgets(ret_path, (int)size, f);
	if (f)
		pclose(f);
	ret_path[made ? strcspn(ret_path, "\n") : 0] = '\0';
	return made;
}

static void sys_make(const char *name) {
	char full[2 * BOOT_PATH_MAX];
	snprintf(full, sizeof(full), "%s/%s", config.agent_sysfs, name);
	if (make_folders(full) < 0)
		printf("# can't make %s\n", full);
}

static void device_try(const char *driver, const char *source) {
	const struct wish x = { .driver = driver, .source = source, .fstype = "ext4", .at = "disk" };
	int r = attach("c", &x, 1);
	tap_check(r == 0 && there("disk/lost+found"), "%s \"%s\" is mounted: %s", driver, source, fault.text);
	tap_check(detach("c", false) == 0 && nothing_left(), "%s: it ends", driver);
}

static void devices_refused(void) {
	struct wish x = { .driver = "blk", .source = "/dev/null", .fstype = "ext4", .at = "disk" };
	tap_check(attach("c", &x, 1) < 0 && fault.code == FAULT_INVALID_ARGUMENT &&
		      strstr(fault.text, "no block device"),
		  "blk: what is no block device: %s", fault.text);
	x.source = "02/zz";
	tap_check(attach("c", &x, 1) < 0 && fault.code == FAULT_INVALID_ARGUMENT && strstr(fault.text, "PCI slots"),
		  "blk: slots that are none: %s", fault.text);
	x.source = "/etc/passwd";
	tap_check(attach("c", &x, 1) < 0 && fault.code == FAULT_INVALID_ARGUMENT, "blk: a path that is no device's");
	x.driver = "scsi";
	x.source = "1:x";
	tap_check(attach("c", &x, 1) < 0 && fault.code == FAULT_INVALID_ARGUMENT && strstr(fault.text, "ID:LUN"),
		  "scsi: an address that is none: %s", fault.text);
	x.driver = "nvdimm";
	x.source = "/dev/pmem77";
	tap_check(attach("c", &x, 1) < 0 && fault.code == FAULT_NOT_FOUND && strstr(fault.text, "has appeared"),
		  "nvdimm: one that never comes: %s", fault.text);
	tap_check(nothing_left(), "devices that aren't there: nothing is left");
}

static void test_devices(void) {
	char image[2 * BOOT_PATH_MAX], device[64] = "", folder[160];
	snprintf(image, sizeof(image), "%s/image", config.run_root);
	devices_refused();
	if (!loop_make(image, device, sizeof(device))) {
		tap_skip("block devices", "no loop device can be made here");
		return;
	}
	const char *name = device + strlen("/dev/");
	device_try("blk", device);
	device_try("mmioblk", device);
	device_try("nvdimm", device);
	sys_make("devices/pci0000:00/0000:00:02.0/pci_bus/0000:01");
	snprintf(folder, sizeof(folder), "devices/pci0000:00/0000:00:02.0/0000:01:03.0/virtio7/block/%s", name);
	sys_make(folder);
	device_try("blk", "02/03");
	snprintf(folder, sizeof(folder), "bus/scsi/devices/0:0:1:2/block/%s", name);
	sys_make(folder);
	sys_make("class/scsi_host/host0");
	snprintf(image, sizeof(image), "%s/class/scsi_host/host0/scan", config.agent_sysfs);
	close(open(image, O_CREAT | O_WRONLY, 0600));
	device_try("scsi", "1:2");
	char scan[32] = "";
	int fd = open(image, O_RDONLY);
	tap_check(read(fd, scan, sizeof(scan) - 1) > 0 && strcmp(scan, "0 1 2") == 0, "scsi: adapters look for it: %s",
		  scan);
	close(fd);
	snprintf(image, sizeof(image), "losetup -d %s", device);
	if (system(image) != 0)
		printf("# %s is left\n", device);
}

/* --- what is refused, and what is left then --- */

static void refused(const char *name, enum fault_code code, const char *text, struct wish x) {
	const struct wish both[] = { shm, x };
	int r = attach("c", both, 2);
	tap_check(r < 0 && fault.code == code && strstr(fault.text, text), "%s is %s: %s", name, fault_code_name(code),
		  fault.text);
	tap_check(nothing_left(), "%s: the storage before it is undone", name);
}

static void test_refusals(void) {
	struct wish x = { .driver = "ephemeral", .source = "x", .fstype = "tmpfs", .at = "x" };
	struct wish y = x;
	y.driver = "tape";
	refused("an unknown driver", FAULT_INVALID_ARGUMENT, "\"tape\"", y);
	y.driver = "image_guest_pull";
	refused("a driver that isn't there", FAULT_UNIMPLEMENTED, "image_guest_pull", y);
	y = x;
	y.fstype = "nofs";
	refused("an unknown file system", FAULT_FAILED_PRECONDITION, "nofs", y);
	y = x;
	y.at = "../../etc/x";
	refused("a mount point with ..", FAULT_INVALID_ARGUMENT, "clean path", y);
	y = x;
	y.options[0] = "size=many";
	refused("an option that the file system refuses", FAULT_INVALID_ARGUMENT, "mount it as tmpfs", y);
	y = x;
	y.options[0] = "tmpcopyup";
	refused("an option that isn't there", FAULT_UNIMPLEMENTED, "tmpcopyup", y);
	if (symlink("/", path("out")) < 0)
		printf("# no link\n");
	y = x;
	y.at = "out/tmp/x";
	refused("a mount point behind a link", FAULT_INVALID_ARGUMENT, "out", y);
	y.at = "out";
	refused("a mount point that is a link", FAULT_INVALID_ARGUMENT, "", y);
	unlink(path("out"));
	const struct wish none = shm;
	tap_check(attach("../c", &none, 1) < 0 && fault.code == FAULT_INVALID_ARGUMENT, "an owner that is no id");
}

/* --- deaths --- */

/* One that is killed at a random moment leaves what the next one finishes or
 * takes away. */
static void test_killed(void) {
	bool right = true;
	for (unsigned delay = 0; delay < 60; delay++) {
		pid_t pid = fork();
		if (pid == 0) {
			attach("c", &shm, 1);
			_exit(0);
		}
		usleep(delay * 15);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		if (delay % 2)
			right &= attach("c", &shm, 1) == 0 && mounted(shm.at) && mounts_below(shm.at) == 1;
		right &= detach("c", false) == 0 && nothing_left() && !there(shm.at);
	}
	tap_check(right, "killed at any moment: attached by the next, or taken away");
	mkdir(path("stale"), 0755);
	tap_check(attach("c", &shm, 1) == 0 && umount2(path(shm.at), MNT_DETACH) == 0 && attach("c", &shm, 1) == 0 &&
		      mounted(shm.at),
		  "what was unmounted behind its back is mounted again");
	tap_check(detach("", true) == 0 && nothing_left(), "everybody's end");
}

int main(void) {
	char top[] = "/tmp/bulkhead-guest-XXXXXX";
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		tap_skip("storages", "no mount namespace can be made here (root is needed)");
		return tap_done();
	}
	if (!mkdtemp(top) || mount("tmpfs", top, "tmpfs", 0, NULL) < 0)
		return 1;
	snprintf(config.run_root, sizeof(config.run_root), "%s/run", top);
	snprintf(config.agent_run_root, sizeof(config.agent_run_root), "%s/kata", top);
	char holding[BOOT_PATH_MAX + 8];
	snprintf(holding, sizeof(holding), "%s/guest", config.run_root);
	snprintf(config.agent_sysfs, sizeof(config.agent_sysfs), "%s/sys", top);
	config.agent_hotplug_timeout_s = 3;
	if (make_folders(holding) < 0 || mkdir(config.agent_run_root, 0755) < 0 ||
	    mount("tmpfs", config.agent_run_root, "tmpfs", 0, NULL) < 0)
		return 1;
	test_ephemeral();
	test_shared();
	test_local();
	test_overlay();
	test_bind();
	test_devices();
	test_refusals();
	test_killed();
	umount2(top, MNT_DETACH);
	rmdir(top);
	return tap_done();
}
