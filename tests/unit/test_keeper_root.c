/* What a keeper does with a root that somebody else wrote: paths, users; and
 * with words of a specification: mount options, capabilities, sysctls. */
#include "tests/unit/tap.h"
#include "workers/keeper/caps.h"
#include "workers/keeper/inside.h"
#include "base/mountopt.h"
#include "workers/keeper/shm.h"
#include "workers/keeper/sys.h"
#include "workers/keeper/sysctl.h"
#include "workers/keeper/user.h"

#include "base/fd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char folder[] = "/tmp/keeper-root-XXXXXX";
static int root;

static void put(const char *path, const char *text) {
	CLEANUP_FD int fd = openat(root, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
		abort();
}

static bool exists(const char *path) {
	char full[256];
	struct stat st;
	snprintf(full, sizeof(full), "%s/%s", folder, path);
	return lstat(full, &st) == 0;
}

/* Where a descriptor leads to, below the folder. */
static const char *where(int fd) {
	static char target[512];
	char link[64];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = fd < 0 ? -1 : readlink(link, target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = '\0';
	size_t prefix = strlen(folder);
	return strncmp(target, folder, prefix) == 0 ? target + prefix : target;
}

static void test_paths(void) {
	static const struct {
		const char *path;
		bool directory;
		const char *expected; /* NULL: fails */
	} table[] = {
		{ "/a/b/c", true, "/a/b/c" },
		{ "/a/b/file", false, "/a/b/file" },
		{ "/a/b/file/x", true, NULL },
		{ "/../../up", true, "/up" },
		{ "/a/../b/./c//d/", true, "/b/c/d" },
		{ "/absolute", true, "/tmp/deep/er" },
		{ "/outside", true, "/etc2/x" },
		{ "/dangling/below", true, "/no/where/below" },
		{ "/dangling-file", false, "/no/file" },
		{ "/loop", true, NULL },
		{ "/proclink/x", true, "/proc2/x" },
		{ "relative/path", true, "/relative/path" },
		{ "/", true, "" },
	};
	mkdirat(root, "tmp", 0755);
	int r = symlinkat("/tmp/deep/er", root, "absolute");
	r |= symlinkat("../../../../etc2/x", root, "outside");
	r |= symlinkat("no/where", root, "dangling");
	r |= symlinkat("/no/file", root, "dangling-file");
	r |= symlinkat("loop", root, "loop");
	r |= symlinkat("/proc2", root, "proclink");
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(table); i++) {
		CLEANUP_FD int fd = inside_make(root, table[i].path, table[i].directory);
		tap_check(table[i].expected ? fd >= 0 && strcmp(where(fd), table[i].expected) == 0 : fd < 0,
			  "make %s: \"%s\"", table[i].path, fd >= 0 ? where(fd) : strerrordesc_np(-fd));
	}
	CLEANUP_FD int gone = inside_open(root, "/nothing", O_PATH);
	tap_check(gone == -ENOENT, "what isn't there isn't");
	CLEANUP_FD int proc = open("/proc", O_PATH | O_DIRECTORY);
	CLEANUP_FD int magic = inside_open(proc, "/self/fd/0", O_PATH);
	CLEANUP_FD int exe = inside_open(proc, "/self/exe", O_PATH);
	tap_check(magic < 0 && exe < 0, "a magic link leads nowhere");
	char name[256];
	CLEANUP_FD int parent = inside_parent(root, "/dev/sub/tun", name);
	tap_check(parent >= 0 && strcmp(where(parent), "/dev/sub") == 0 && strcmp(name, "tun") == 0,
		  "a parent is made");
	CLEANUP_FD int none = inside_parent(root, "/dev/..", name);
	tap_check(none == -EINVAL, "dots are no name");
	char longest[5000];
	memset(longest, 'x', sizeof(longest) - 1);
	longest[0] = '/';
	longest[sizeof(longest) - 1] = '\0';
	tap_check(inside_make(root, longest, true) < 0, "a path that is too long fails");
}

static int resolve(const char *username, struct user_ids *ids, struct fault *fault) {
	Grpc__User u = GRPC__USER__INIT;
	u.username = (char *)username;
	return user_resolve(root, &u, false, ids, fault);
}

static void test_users(void) {
	static const struct {
		const char *name;
		int uid, gid; /* uid -1: an error */
		size_t groups;
		const char *home;
	} table[] = {
		{ "root", 0, 0, 1, "/root" },
		{ "web", 1000, 1001, 3, "/home/web" },
		{ "web:wheel", 1000, 10, 2, "/home/web" },
		{ "web:77", 1000, 77, 3, "/home/web" },
		{ "1000", 1000, 1001, 3, "/home/web" },
		{ "1000:0", 1000, 0, 3, "/home/web" },
		{ "4242", 4242, 0, 1, "/" },
		{ "2147483647", 2147483647, 0, 1, "/" },
		{ "2147483648", -1, 0, 0, NULL },
		{ "4294967296", -1, 0, 0, NULL },
		{ "18446744073709551616", -1, 0, 0, NULL },
		{ "00000000000000000000000000000000000001000", 1000, 1001, 3, "/home/web" },
		{ "-1", -1, 0, 0, NULL },
		{ "nobody", -1, 0, 0, NULL },
		{ "web:nogroup", -1, 0, 0, NULL },
		{ "web:", -1, 0, 0, NULL },
		{ ":0", -1, 0, 0, NULL },
		{ "web:0:0", -1, 0, 0, NULL },
		{ "overflow", -1, 0, 0, NULL },
		{ "negative", -1, 0, 0, NULL },
		{ "short", -1, 0, 0, NULL },
		{ "control", 1005, 5, 1, "/" },
		{ "we", -1, 0, 0, NULL },
		{ "last", 1006, 6, 1, "/last" },
	};
	mkdirat(root, "etc", 0755);
	put("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n# comment\n\nweb:x:1000:1001::/home/web:/bin/sh\n"
			  "overflow:x:4294967296:0::/:\nnegative:x:-1:0::/:\nshort:x\ncontrol:x:1005:5::/\x01:\n"
			  "last:x:1006:6::/last");
	put("etc/group",
	    "root:x:0:root\nwheel:x:10:root2,web\nbig:x:4294967295:web\nextra:x:2000:nobody,web\nnot:x:3:webber");
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct user_ids ids;
		struct fault fault = { 0 };
		int r = resolve(table[i].name, &ids, &fault);
		if (table[i].uid < 0)
			tap_check(r < 0 && fault.code == FAULT_INVALID_ARGUMENT, "user \"%s\": %s", table[i].name,
				  fault.text);
		else
			tap_check(r == 0 && ids.uid == (uid_t)table[i].uid && ids.gid == (gid_t)table[i].gid &&
				      ids.n_groups == table[i].groups && strcmp(ids.home, table[i].home) == 0,
				  "user \"%s\"", table[i].name);
	}
	struct user_ids ids;
	struct fault fault = { 0 };
	Grpc__User u = GRPC__USER__INIT;
	uint32_t more[] = { 5, 6, 5 };
	u.uid = 1000;
	u.gid = 7;
	u.additionalgids = more;
	u.n_additionalgids = 3;
	tap_check(user_resolve(root, &u, false, &ids, &fault) == 0 && ids.uid == 1000 && ids.gid == 7 &&
		      ids.n_groups == 2 && strcmp(ids.home, "/home/web") == 0,
		  "numbers are taken as they are");
	u.uid = UINT32_MAX;
	tap_check(user_resolve(root, &u, false, &ids, &fault) < 0, "and refused when out of range");
	unlinkat(root, "etc/passwd", 0);
	tap_check(resolve("1000", &ids, &fault) == 0 && ids.gid == 0, "without /etc/passwd a number is a number");
	tap_check(resolve("web", &ids, &fault) < 0, "and a name unknown");
	tap_check(mkfifoat(root, "etc/passwd", 0644) == 0 && resolve("1000", &ids, &fault) < 0 &&
		      strstr(fault.text, "not a regular file"),
		  "a pipe isn't read: %s", fault.text);
	unlinkat(root, "etc/passwd", 0);
	CLEANUP_FD int big = openat(root, "etc/passwd", O_WRONLY | O_CREAT, 0644);
	tap_check(ftruncate(big, 64 * 1024 * 1024) == 0 && resolve("1000", &ids, &fault) < 0, "nor a huge file: %s",
		  fault.text);
}

static void test_options(void) {
	char *plain[] = { (char *)"rbind", (char *)"ro", (char *)"rslave", (char *)"nosuid", (char *)"x-make-source" };
	char *data[] = { (char *)"mode=755", (char *)"size=1m", (char *)"strictatime", (char *)"ro", (char *)"rw" };
	char *bad[] = { (char *)"ridmap" };
	struct mount_options o;
	struct fault fault = { 0 };
	tap_check(mount_options_parse(plain, 5, &o, &fault) == 0 && o.bind && o.recursive && o.make_source &&
		      o.set == (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID) && o.propagation == MS_SLAVE &&
		      o.propagation_tree && o.n_data == 0,
		  "options of a bind mount");
	tap_check(mount_options_parse(data, 5, &o, &fault) == 0 && o.n_data == 2 && o.set == MOUNT_ATTR_STRICTATIME &&
		      o.clear & MOUNT_ATTR_RDONLY,
		  "options of a file system; the last word counts");
	tap_check(mount_options_parse(bad, 1, &o, &fault) < 0 && fault.code == FAULT_UNIMPLEMENTED, "%s", fault.text);
}

static void test_caps(void) {
	char *some[] = { (char *)"CAP_CHOWN", (char *)"CAP_KILL" }, *all[] = { (char *)"CAP_CHOWN" };
	char *bad[] = { (char *)"CAP_EVERYTHING" };
	Grpc__LinuxCapabilities c = GRPC__LINUX_CAPABILITIES__INIT;
	struct caps caps;
	struct fault fault = { 0 };
	uint64_t missing;
	c.bounding = all;
	c.n_bounding = 1;
	c.effective = c.permitted = c.ambient = c.inheritable = some;
	c.n_effective = c.n_permitted = c.n_ambient = c.n_inheritable = 2;
	tap_check(caps_parse(&c, &caps, &missing, &fault) == 0 && (caps.permitted & ~caps.bounding) == 0 &&
		      (caps.ambient & ~caps.permitted) == 0,
		  "no set exceeds the bounding set");
	tap_check(caps_parse(NULL, &caps, &missing, &fault) == 0 && caps.bounding == 0 && caps.effective == 0,
		  "none said is none had");
	c.bounding = bad;
	tap_check(caps_parse(&c, &caps, &missing, &fault) < 0, "%s", fault.text);
	tap_check(strcmp(caps_name(21), "CAP_SYS_ADMIN") == 0 && !caps_name(64), "they have names");
}

static void test_sysctls(void) {
	static const char *const refused[] = {
		"kernel.core_pattern",
		"kernel.hostname",
		"net..ipv4",
		"../kernel/core_pattern",
		"net/../kernel/core_pattern",
		"/net/ipv4",
		"net.ipv4.x y",
		"",
		"vm.swappiness",
		"kernel.shmmax2",
		"fs.file-max",
		"net.ipv4\n.x",
	};
	struct sysctl_scope all = { true, true, true }, none = { false, false, false };
	struct fault fault = { 0 };
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		tap_check(sysctl_write(&all, refused[i], "1", &fault) < 0 && fault.code == FAULT_INVALID_ARGUMENT,
			  "refused: %s", fault.text);
	tap_check(sysctl_write(&none, "net.ipv4.ip_forward", "1", &fault) < 0 && fault.code == FAULT_INVALID_ARGUMENT,
		  "nothing of the host's: %s", fault.text);
	tap_check(sysctl_write(&all, "net.nosuch.thing", "1", &fault) < 0 && fault.code == FAULT_NOT_FOUND, "%s",
		  fault.text);
}

/* The way of older kernels: a mount namespace holds the memory. */
static int shm_child(void) {
	struct fault fault;
	int first, held, one, two;
	char at[64];
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0)
		return 77;
	if (shm_new(0, 0, &first, &fault) < 0)
		return 1;
	int tree = (int)syscall(SYS_open_tree, first, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
	if (tree < 0)
		return 77;
	if (shm_hold(tree, &held) < 0)
		return 2;
	if (shm_clone(held, &one) < 0 || shm_clone(held, &two) < 0)
		return 3;
	snprintf(at, sizeof(at), "%s/tmp", folder);
	if (syscall(SYS_move_mount, one, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return 4;
	CLEANUP_FD int fd = openat(one, "shared", O_CREAT | O_WRONLY, 0600);
	struct stat st;
	if (fd < 0 || fstatat(two, "shared", &st, 0) < 0)
		return 5;
	snprintf(at, sizeof(at), "%s/tmp/shared", folder);
	return access(at, F_OK) == 0 ? 0 : 6;
}

static void test_shm(void) {
	int status;
	if (geteuid() != 0) {
		tap_skip("shared memory", "needs root");
		return;
	}
	pid_t pid = fork();
	if (pid == 0)
		_exit(shm_child());
	waitpid(pid, &status, 0);
	if (WEXITSTATUS(status) == 77)
		tap_skip("shared memory by a namespace", "the kernel doesn't clone detached mounts");
	else
		tap_check(status == 0, "a namespace holds shared memory (%d)", WEXITSTATUS(status));
	tap_check(!exists("tmp/shared"), "and the host sees nothing of it");
}

int main(void) {
	char command[128];
	if (!mkdtemp(folder))
		return 1;
	root = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	test_paths();
	test_users();
	test_options();
	test_caps();
	test_sysctls();
	test_shm();
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	tap_check(system(command) == 0, "cleared up");
	return tap_done();
}
