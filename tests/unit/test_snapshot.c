/*
 * The snapshot worker through its messages: layers from pipes to mounts, what
 * the kernel then shows in them, failures, restarts; with overlayfs and without.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "supervisor/privileges.h"
#include "tap.h"
#include "workers/skeleton/confine.h"
#include "workers/snapshot/state.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <openssl/evp.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static char base[64];
static struct loop *loop;
static struct link *near, *far; /* the metadata worker's end, the snapshot worker's */
static struct snapshot_worker worker;

static PRINTF(1, 2) int shell(const char *format, ...) {
	char command[8192];
	va_list ap;
	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	int status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* --- calls --- */

struct answer {
	bool done;
	struct fault fault;
	uint64_t size, inodes;
	char driver[16];
	size_t layers, snapshots;
	int fd;
};

static void answered(void *ctx, const struct msg_answer *a) {
	struct answer *out = ctx;
	out->done = true;
	out->fd = -1;
	if (a->fault) {
		out->fault = *a->fault;
		printf("# %s: %s\n", fault_code_name(a->fault->code), a->fault->text);
		return;
	}
	const ProtobufCMessageDescriptor *type = a->reply->descriptor;
	if (type == &bulkhead__layer_unpack_reply__descriptor) {
		out->size = ((const Bulkhead__LayerUnpackReply *)a->reply)->size;
		out->inodes = ((const Bulkhead__LayerUnpackReply *)a->reply)->inodes;
	} else if (type == &bulkhead__snapshot_usage_reply__descriptor) {
		out->size = ((const Bulkhead__SnapshotUsageReply *)a->reply)->size;
		out->inodes = ((const Bulkhead__SnapshotUsageReply *)a->reply)->inodes;
	} else if (type == &bulkhead__snapshot_list_reply__descriptor) {
		out->layers = ((const Bulkhead__SnapshotListReply *)a->reply)->n_layers;
		out->snapshots = ((const Bulkhead__SnapshotListReply *)a->reply)->n_snapshots;
	} else if (type == &bulkhead__snapshot_info_reply__descriptor) {
		const Bulkhead__SnapshotInfoReply *info = (const Bulkhead__SnapshotInfoReply *)a->reply;
		snprintf(out->driver, sizeof(out->driver), "%s", info->driver);
		out->size = info->used_bytes;
		out->inodes = info->used_inodes;
	}
	if (a->fds && a->fds[0] >= 0)
		out->fd = take_fd(&a->fds[0]);
}

static void wait_for(const bool *done) {
	int64_t end = clock_mono() + 60 * NS_PER_SEC;
	while (!*done && clock_mono() < end)
		loop_turn(loop, 50 * NS_PER_MS);
}

static struct answer *call_unpack(const char *chain, const char *diff, int fd) {
	struct answer *a = calloc(1, sizeof(*a));
	Bulkhead__LayerUnpackRequest m = BULKHEAD__LAYER_UNPACK_REQUEST__INIT;
	m.chain_id = (char *)chain;
	m.diff_id = (char *)diff;
	m.media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
	layer_unpack_send(near, NULL, &m, &fd, 1, answered, a);
	close(fd);
	return a;
}

static struct answer call(uint16_t number, const ProtobufCMessage *m) {
	struct answer a = { .fd = -1 };
	msg_send(near, number, NULL, m, NULL, 0, answered, &a);
	wait_for(&a.done);
	if (!a.done)
		abort();
	return a;
}

static struct answer call_key(uint16_t number, const char *id) {
	Bulkhead__Key m = BULKHEAD__KEY__INIT;
	m.id = (char *)id;
	return call(number, &m.base);
}

static struct answer call_empty(uint16_t number) {
	Bulkhead__Empty m = BULKHEAD__EMPTY__INIT;
	return call(number, &m.base);
}

static struct answer call_commit(const char *chain, char **parents, size_t n) {
	Bulkhead__LayerCommitRequest m = BULKHEAD__LAYER_COMMIT_REQUEST__INIT;
	m.chain_id = (char *)chain;
	m.parents = parents;
	m.n_parents = n;
	return call(MSG_layer_commit, &m.base);
}

static struct answer call_prepare(const char *key, char **parents, size_t n) {
	Bulkhead__SnapshotPrepareRequest m = BULKHEAD__SNAPSHOT_PREPARE_REQUEST__INIT;
	m.key = (char *)key;
	m.parents = parents;
	m.n_parents = n;
	return call(MSG_snapshot_prepare, &m.base);
}

static struct answer call_mount_part(const char *key, char **parents, size_t n, const char *sub_path) {
	Bulkhead__SnapshotMountRequest m = BULKHEAD__SNAPSHOT_MOUNT_REQUEST__INIT;
	m.key = (char *)key;
	m.parents = parents;
	m.n_parents = n;
	m.sub_path = (char *)sub_path;
	return call(MSG_snapshot_mount, &m.base);
}

static struct answer call_mount(const char *key, char **parents, size_t n) {
	return call_mount_part(key, parents, n, "");
}

/* --- layers --- */

struct test_layer {
	char chain[72], diff[72], file[128];
	int fd; /* of the file, where it can't be opened by name; else -1 */
	pid_t feeder;
};

static void digest_of(const char *path, char out[72]) {
	uint8_t b[65536], sum[32];
	ssize_t n;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	EVP_DigestInit_ex(c, EVP_sha256(), NULL);
	while ((n = read(fd, b, sizeof(b))) > 0)
		EVP_DigestUpdate(c, b, (size_t)n);
	EVP_DigestFinal_ex(c, sum, NULL);
	EVP_MD_CTX_free(c);
	char *p = out + sprintf(out, "sha256:");
	for (size_t i = 0; i < 32; i++)
		p += sprintf(p, "%02x", sum[i]);
}

#define EVERYTHING "$(find . -mindepth 1)"

/* The commands make the layer's content in an empty folder. */
static struct test_layer layer_make(unsigned n, const char *commands, const char *members) {
	struct test_layer l = { .fd = -1 };
	snprintf(l.file, sizeof(l.file), "%s/layer%u", base, n);
	if (shell("set -e; cd %s; rm -rf work; mkdir work; cd work; %s\n"
		  "tar --format=posix --no-recursion -cf ../layer%u.tar %s; gzip -c1 ../layer%u.tar >../layer%u",
		  base, commands, n, members, n, n) != 0)
		printf("# making layer %u failed\n", n);
	char tar[160];
	snprintf(tar, sizeof(tar), "%s.tar", l.file);
	digest_of(tar, l.diff);
	/* A chain id is a digest; which one doesn't matter here. The first 12
	 * digits of some are the same: their short names must differ anyway. */
	snprintf(l.chain, sizeof(l.chain), "sha256:%08x%04x%012x%040x", n < 100 ? 0xabcdef : n, 0, n, 0);
	return l;
}

/* A pipe that a child fills with the layer, slowly at first. */
static int layer_pipe(struct test_layer *l, size_t limit) {
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		abort();
	l->feeder = fork();
	if (l->feeder == 0) {
		char b[65536];
		ssize_t n;
		int fd = l->fd >= 0 ? l->fd : open(l->file, O_RDONLY);
		signal(SIGPIPE, SIG_DFL);
		close(ends[0]);
		while ((n = read(fd, b, MIN(sizeof(b), limit))) > 0 && fd_write_all(ends[1], b, (size_t)n) == 0)
			limit -= (size_t)n;
		_exit(0);
	}
	close(ends[1]);
	return ends[0];
}

static struct answer unpack(struct test_layer *l) {
	struct answer *a = call_unpack(l->chain, l->diff, layer_pipe(l, SIZE_MAX));
	wait_for(&a->done);
	if (!a->done)
		abort();
	waitpid(l->feeder, NULL, 0);
	struct answer copy = *a;
	free(a);
	return copy;
}

static bool ok(const struct answer *a) {
	return a->done && a->fault.code == FAULT_NONE;
}

/* --- the worker's life --- */

static void on_down(void *w, struct link *l, bool violation, const char *text) {
	if (violation)
		printf("# violation: %s\n", text);
}

/* The supervisor makes a connection's ends; a confined worker can't. */
static void ends_make(struct link_ends ends[2]) {
	if (link_ends_new(&ends[0], &ends[1]) < 0)
		abort();
}

static void links_make(struct link_ends ends[2]) {
	struct link_options near_options = {
		.loop = loop, .self = ROLE_METADATA, .peer = ROLE_SNAPSHOT, .on_down = on_down
	};
	struct link_options far_options = { .loop = loop,
					    .self = ROLE_SNAPSHOT,
					    .peer = ROLE_METADATA,
					    .handlers = snapshot_handlers,
					    .worker = &worker,
					    .on_down = on_down };
	if (link_new(&near_options, &near) < 0 || link_new(&far_options, &far) < 0 ||
	    link_attach_ring(near, &ends[0]) < 0 || link_attach_ring(far, &ends[1]) < 0)
		abort();
}

static void worker_start(bool overlay) {
	struct link_ends ends[2];
	struct fault fault;
	if (loop_new(&(struct loop_options){ 0 }, &loop) < 0 || loop_enable(loop, NULL, 0) < 0)
		abort();
	if (snapshot_worker_init(&worker, loop, base, &fault) < 0) {
		printf("# %s\n", fault.text);
		abort();
	}
	if (!overlay)
		worker.overlay.usable = false;
	ends_make(ends);
	links_make(ends);
}

/* As after kill -9: nothing is finished. Children die with the worker; here
 * the worker is this process, so the test waits until there are none. */
static void worker_stop(void) {
	while (worker.reaper.child || worker.unpackers || worker.measuring)
		loop_turn(loop, 20 * NS_PER_MS);
	loop_source_free_p(&worker.reaper.timer);
	link_free(near);
	link_free(far);
	loop_turn(loop, 0); /* what was cancelled comes back */
	loop_free(loop);
	const int fds[] = { worker.rooms.layers,	  worker.rooms.layers_staging,	worker.rooms.layers_trash,
			    worker.rooms.snapshots,	  worker.rooms.snapshots_new,	worker.rooms.snapshots_views,
			    worker.rooms.snapshots_trash, worker.rooms.snapshots_spread };
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	size_t pos;
	for (struct map_node *n = map_first(&worker.layers, &pos); n; n = map_first(&worker.layers, &pos))
		layer_free(&worker, container_of(n, struct layer, node));
	for (struct map_node *n = map_first(&worker.snapshots, &pos); n; n = map_first(&worker.snapshots, &pos))
		snapshot_free(&worker, container_of(n, struct snapshot, node));
	map_deinit(&worker.layers);
	map_deinit(&worker.snapshots);
}

/* --- looking into a mount --- */

static bool reads(int root, const char *path, const char *content) {
	char text[256] = { 0 };
	CLEANUP_FD int fd = openat(root, path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, text, sizeof(text) - 1) >= 0 && strcmp(text, content) == 0;
}

static bool is_there(int root, const char *path) {
	struct stat st;
	return fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool attributes(int root, const char *path, mode_t mode, uid_t uid, gid_t gid) {
	struct stat st;
	return fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & 07777) == mode && st.st_uid == uid &&
	       st.st_gid == gid;
}

static bool writes(int root, const char *path) {
	CLEANUP_FD int fd = openat(root, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	return fd >= 0 && write(fd, "written", 7) == 7;
}

static unsigned entries(const char *path) {
	char whole[256];
	unsigned n = 0;
	snprintf(whole, sizeof(whole), "%s/%s", base, path);
	DIR *d = opendir(whole);
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n - 2;
}

/* Whether the mount can be attached and run from by another process in a mount
 * namespace of its own, as a keeper does. */
static bool attaches_elsewhere(int mount_fd, const char *file) {
	char path[64];
	int status;
	snprintf(path, sizeof(path), "/mnt/%s", file);
	pid_t pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    move_mount(mount_fd, "", AT_FDCWD, "/mnt", MOVE_MOUNT_F_EMPTY_PATH) < 0)
			_exit(1);
		if (access("/mnt/bin/busybox", X_OK) == 0) {
			execl("/mnt/bin/busybox", "busybox", "true", NULL);
			_exit(2);
		}
		_exit(is_there(AT_FDCWD, path) ? 0 : 3);
	}
	waitpid(pid, &status, 0);
	if (status)
		printf("# attaching elsewhere: status %x\n", status);
	return status == 0;
}

#define LAYERS 4
static struct test_layer layers[LAYERS];
static char *chains[LAYERS];

static void layers_make(void) {
	layers[0] =
	    layer_make(0,
		       "mkdir -p bin dir opq whole var/lib/deep; echo base >base; echo a >dir/a; echo b >dir/b; "
		       "echo old >opq/old; echo w >whole/w; echo t >target; chown 7:8 target; chmod 4711 target; "
		       "mkdir -m 1777 tmp; chown 3:4 var/lib; chmod 2750 var/lib; touch -d @5000 var/lib; "
		       "setfattr -n user.k -v v var/lib 2>/dev/null || true; "
		       "cp /bin/busybox bin/busybox 2>/dev/null || echo none >bin/none; ln base hard1; ln base hard2",
		       EVERYTHING);
	layers[1] = layer_make(1,
			       "mkdir -p dir opq var/lib/deep; : >dir/.wh.a; : >.wh.whole; : >opq/.wh..wh..opq; "
			       "echo new >opq/new; echo d >var/lib/deep/d; echo c >dir/c",
			       ".wh.whole dir/.wh.a dir/c opq/.wh..wh..opq opq/new var/lib/deep/d");
	layers[2] = layer_make(2, "echo linked >target", EVERYTHING);
	layers[3] =
	    layer_make(3,
		       "mkdir -p whole; echo again >whole/again; ln -s dir to-dir; "
		       "ln -s /var/lib absolute; ln -s ../../../../../../../../var/lib up; ln -s round round; "
		       "ln -s up/deep/d to-file; mkfifo pipe; mkdir -m 700 mine; chown 5:6 mine; echo m >mine/m",
		       EVERYTHING);
	/* The third layer's hard links lose their target: it is in the first. */
	shell(
	    "cd %s && rm -rf work && mkdir work && cd work && echo x >target && ln target link1 && ln target link2 && "
	    "tar --format=posix -cf all.tar target link1 link2 && "
	    "/usr/bin/python3 -c 'import tarfile\n"
	    "i = tarfile.open(\"all.tar\"); o = tarfile.open(\"../layer2.tar\", \"w\")\n"
	    "[o.addfile(m) for m in i if m.name != \"target\"]; o.close()' && gzip -c ../layer2.tar >../layer2",
	    base);
	char tar[160];
	snprintf(tar, sizeof(tar), "%s.tar", layers[2].file);
	digest_of(tar, layers[2].diff);
	for (int i = 0; i < LAYERS; i++)
		chains[i] = layers[i].chain;
}

static void test_layers(void) {
	struct answer *open[LAYERS];
	for (int i = LAYERS - 1; i >= 0; i--)
		open[i] = call_unpack(layers[i].chain, layers[i].diff, layer_pipe(&layers[i], SIZE_MAX));
	for (int i = 0; i < LAYERS; i++) {
		wait_for(&open[i]->done);
		waitpid(layers[i].feeder, NULL, 0);
		tap_check(ok(open[i]) && open[i]->size > 0 && open[i]->inodes > 0, "layer %d unpacks beside the others",
			  i);
		free(open[i]);
	}
	struct answer a = call_commit(chains[1], chains, 1);
	tap_check(a.fault.code == FAULT_FAILED_PRECONDITION, "a layer isn't committed before its parent");
	a = call_prepare("c0", chains, 1);
	tap_check(a.fault.code == FAULT_FAILED_PRECONDITION, "nor is it used before it is committed");
	for (size_t i = 0; i < LAYERS; i++) {
		a = call_commit(chains[i], chains, i);
		tap_check(ok(&a), "layer %zu is committed", i);
	}
	a = call_commit(chains[0], NULL, 0);
	tap_check(ok(&a), "and once more, which changes nothing");
	struct answer *again = call_unpack(chains[0], layers[0].diff, layer_pipe(&layers[0], SIZE_MAX));
	int status;
	wait_for(&again->done);
	waitpid(layers[0].feeder, &status, 0);
	tap_check(ok(again) && again->size > 0 && status == 0,
		  "what is there isn't unpacked again, and the writer sees no broken pipe");
	free(again);
	a = call_empty(MSG_snapshot_list);
	tap_check(ok(&a) && a.layers == LAYERS && a.snapshots == 0, "all are listed");
	tap_check(entries("layers/.staging") == 0, "nothing is left in .staging");
}

static void check_view(int root, const char *what) {
	tap_check(reads(root, "base", "base\n") && reads(root, "dir/b", "b\n") && reads(root, "dir/c", "c\n"),
		  "%s: files of several layers", what);
	tap_check(!is_there(root, "dir/a") && !is_there(root, "dir/.wh.a"), "%s: a whiteout hides a file", what);
	tap_check(!is_there(root, "whole/w") && reads(root, "whole/again", "again\n"),
		  "%s: a folder that was removed and made again has the new content only", what);
	tap_check(!is_there(root, "opq/old") && reads(root, "opq/new", "new\n"),
		  "%s: an opaque folder hides what was in it", what);
	tap_check(attributes(root, "var/lib", 02750, 3, 4) && reads(root, "var/lib/deep/d", "d\n"),
		  "%s: a folder that the archive didn't name has its parent's attributes", what);
	tap_check(attributes(root, "link1", 04711, 7, 8) && reads(root, "link2", "t\n"),
		  "%s: hard links into a lower layer", what);
	tap_check(attributes(root, "tmp", 01777, 0, 0), "%s: a sticky folder", what);
	struct stat st;
	tap_check(fstatat(root, "hard1", &st, 0) == 0 && st.st_nlink == 3, "%s: hard links stay links", what);
}

static void test_mounts(const char *what) {
	struct answer a = call_prepare("c1", chains, LAYERS);
	tap_check(ok(&a), "%s: prepare", what);
	a = call_prepare("c1", chains, LAYERS);
	tap_check(ok(&a), "%s: prepare again", what);
	a = call_mount("c1", chains, LAYERS);
	tap_check(ok(&a) && a.fd >= 0, "%s: mount", what);
	if (a.fd < 0)
		return;
	check_view(a.fd, what);
	tap_check(writes(a.fd, "base") && writes(a.fd, "new") && unlinkat(a.fd, "dir/b", 0) == 0,
		  "%s: it can be written", what);
	tap_check(attributes(a.fd, ".", 0755, 0, 0), "%s: the root belongs to root", what);
	struct statvfs flags;
	tap_check(fstatvfs(a.fd, &flags) == 0 && !(flags.f_flag & (ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_RDONLY)),
		  "%s: set-id programs, devices and programs work in it", what);
	tap_check(attaches_elsewhere(a.fd, "base"), "%s: it attaches and runs in another mount namespace", what);
	close(a.fd);
	a = call_mount("c1", chains, LAYERS);
	tap_check(ok(&a) && reads(a.fd, "base", "written") && reads(a.fd, "new", "written") && !is_there(a.fd, "dir/b"),
		  "%s: what was written is there in the next mount", what);
	fd_close(a.fd);

	a = call_mount("", chains, LAYERS);
	tap_check(ok(&a) && a.fd >= 0, "%s: a view", what);
	check_view(a.fd, what);
	tap_check(!writes(a.fd, "base") && errno == EROFS, "%s: a view can't be written", what);
	fd_close(a.fd);
	a = call_mount("", chains, 1);
	tap_check(ok(&a) && reads(a.fd, "dir/a", "a\n") && !is_there(a.fd, "link1"), "%s: a view of one layer", what);
	fd_close(a.fd);
	a = call_mount("", NULL, 0);
	tap_check(ok(&a) && !is_there(a.fd, "base"), "%s: a view of nothing", what);
	fd_close(a.fd);
	a = call_prepare("scratch", NULL, 0);
	tap_check(ok(&a), "%s: a snapshot of nothing", what);
	a = call_mount("scratch", NULL, 0);
	tap_check(ok(&a) && writes(a.fd, "x"), "%s: it can be written", what);
	fd_close(a.fd);

	a = call_key(MSG_snapshot_usage, "c1");
	tap_check(ok(&a) && a.inodes >= 2 && a.size >= 4096, "%s: usage", what);
	a = call_empty(MSG_snapshot_info);
	tap_check(ok(&a) && a.size > 0 && a.inodes > 20, "%s: info says %s", what, a.driver);
	a = call_empty(MSG_snapshot_list);
	tap_check(ok(&a) && a.snapshots == 2, "%s: both are listed", what);
	a = call_key(MSG_snapshot_remove, "c1");
	tap_check(ok(&a), "%s: remove", what);
	a = call_key(MSG_snapshot_remove, "c1");
	tap_check(ok(&a), "%s: remove again", what);
	a = call_key(MSG_snapshot_remove, "scratch");
	a = call_mount("c1", chains, LAYERS);
	tap_check(a.fault.code == FAULT_NOT_FOUND, "%s: what was removed can't be mounted", what);
	int64_t end = clock_mono() + 20 * NS_PER_SEC;
	while (entries("snapshots/.trash") && clock_mono() < end)
		loop_turn(loop, 50 * NS_PER_MS);
	tap_check(entries("snapshots/.trash") == 0, "%s: the trash gets empty", what);
}

/* The mount's root, when that is a file. */
static bool is_file(int root, const char *content) {
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", root);
	return reads(AT_FDCWD, path, content);
}

static void test_sub_paths(const char *what) {
	static const struct {
		const char *path, *file, *content; /* file NULL: it is one itself */
	} good[] = {
		{ "dir", "b", "b\n" },
		{ "var/lib/", "deep/d", "d\n" },
		{ ".", "var/lib/deep/d", "d\n" },
		{ "to-dir", "c", "c\n" },
		{ "absolute", "deep/d", "d\n" },
		{ "up/deep", "d", "d\n" },
		{ "../../var/lib/deep", "d", "d\n" },
		{ "mine", "m", "m\n" },
		{ "target", NULL, "t\n" },
		{ "to-file", NULL, "d\n" },
	};
	static const struct {
		const char *path, *text;
	} bad[] = {
		{ "missing", "has no \"missing\"" },
		{ "dir/a", "has no \"dir/a\"" }, /* a higher layer takes it away */
		{ "target/x", "has no" },
		{ "round", "symbolic links" },
		{ "pipe", "neither a folder nor" },
		{ "/proc/self/root", "has no" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct answer a = call_mount_part("", chains, LAYERS, good[i].path);
		tap_check(ok(&a) && (good[i].file ? reads(a.fd, good[i].file, good[i].content)
						  : is_file(a.fd, good[i].content)),
			  "%s: the part \"%s\" of a view: %s", what, good[i].path, a.fault.text);
		if (good[i].file)
			tap_check(!writes(a.fd, "new") && errno == EROFS && attaches_elsewhere(a.fd, good[i].file),
				  "%s: it can't be written, and attaches elsewhere", what);
		fd_close(a.fd);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct answer a = call_mount_part("", chains, LAYERS, bad[i].path);
		tap_check(a.fault.code == FAULT_INVALID_ARGUMENT && strstr(a.fault.text, bad[i].text),
			  "%s: no part \"%s\": %s", what, bad[i].path, a.fault.text);
	}
	call_prepare("c2", chains, LAYERS);
	struct answer a = call_mount_part("c2", chains, LAYERS, "dir");
	tap_check(a.fault.code == FAULT_INVALID_ARGUMENT, "%s: a snapshot is mounted whole", what);
	call_key(MSG_snapshot_remove, "c2");
	tap_check(shell("! grep -q '[.]view' /proc/self/mountinfo") == 0, "%s: no view stays attached", what);
}

static void test_refusals(void) {
	static const char *const keys[] = { "", "../x", ".trash", "a/b", "a..b", "-a" };
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		struct answer a = call_prepare(keys[i], chains, 1);
		tap_check(a.fault.code == FAULT_INVALID_ARGUMENT, "the key \"%s\" is refused", keys[i]);
	}
	char *strange[] = { "sha256:../../../etc" };
	struct answer a = call_prepare("c", strange, 1);
	tap_check(a.fault.code == FAULT_FAILED_PRECONDITION, "so is an unknown layer");
	a = call_key(MSG_layer_remove, "../../etc");
	tap_check(ok(&a), "removing what isn't there is nothing");
	a = call_commit("sha256:none", NULL, 0);
	tap_check(a.fault.code == FAULT_NOT_FOUND, "committing what isn't there fails");

	struct test_layer l = layer_make(50, "echo x >x", EVERYTHING);
	struct answer *u = call_unpack(l.chain, layers[0].diff, layer_pipe(&l, SIZE_MAX));
	wait_for(&u->done);
	tap_check(u->fault.code == FAULT_DATA_LOSS && strstr(u->fault.text, l.chain), "another diff id than said");
	free(u);
	waitpid(l.feeder, NULL, 0);
	u = call_unpack(l.chain, l.diff, layer_pipe(&l, 60));
	wait_for(&u->done);
	tap_check(u->fault.code == FAULT_DATA_LOSS, "a pipe that ends too early");
	free(u);
	waitpid(l.feeder, NULL, 0);
	u = call_unpack("sha256:short", l.diff, open("/dev/null", O_RDONLY | O_CLOEXEC));
	wait_for(&u->done);
	tap_check(u->fault.code == FAULT_INVALID_ARGUMENT, "a chain id that is none");
	free(u);
	a = unpack(&l);
	tap_check(ok(&a), "after failures the layer unpacks all the same");
	a = unpack(&l);
	tap_check(ok(&a), "and anew, as long as it isn't committed");
	layers_abandon(&worker);
	a = call_commit(l.chain, NULL, 0);
	tap_check(a.fault.code == FAULT_NOT_FOUND && entries("layers/.staging") == 0,
		  "when its caller is gone it goes");
	a = unpack(&l);
	a = call_key(MSG_layer_remove, l.chain);
	tap_check(ok(&a) && entries("layers/.staging") == 0, "an unpacked layer is removed before its commit");

	a = unpack(&l);
	a = call_commit(l.chain, NULL, 0);
	struct answer going = { .fd = -1 };
	Bulkhead__Key key = BULKHEAD__KEY__INIT;
	key.id = l.chain;
	layer_remove_send(near, NULL, &key, NULL, 0, answered, &going);
	a = unpack(&l);
	tap_check(ok(&a), "a layer that is on its way out is made anew: %s", a.fault.text);
	wait_for(&going.done);
	a = call_commit(l.chain, NULL, 0);
	tap_check(ok(&going) && ok(&a), "and is there when the old one is gone");
	a = call_key(MSG_layer_remove, l.chain);
	tap_check(ok(&a), "until it is removed, too");
}

static void test_giving_up(void) {
	int ends[2];
	struct test_layer l = layer_make(60, "head -c 3000000 /dev/urandom >x", EVERYTHING);
	/* One that never sends a byte must not be in the way of the others. */
	struct answer *silent[UNPACKERS_MAX + 2];
	int writers[UNPACKERS_MAX + 2];
	char names[UNPACKERS_MAX + 2][72];
	struct msg_call *calls[UNPACKERS_MAX + 2];
	for (int i = 0; i < UNPACKERS_MAX + 2; i++) {
		Bulkhead__LayerUnpackRequest m = BULKHEAD__LAYER_UNPACK_REQUEST__INIT;
		if (pipe2(ends, O_CLOEXEC) < 0)
			abort();
		snprintf(names[i], sizeof(names[i]), "sha256:%064x", 1000 + i);
		silent[i] = calloc(1, sizeof(struct answer));
		m.chain_id = names[i];
		m.diff_id = l.diff;
		m.media_type = "";
		calls[i] = layer_unpack_send(near, NULL, &m, &ends[0], 1, answered, silent[i]);
		close(ends[0]);
		writers[i] = ends[1];
	}
	struct answer a = unpack(&l);
	tap_check(ok(&a), "layers whose bytes don't come yet don't hold up others");
	/* One of them gets its first bytes, then its caller gives up. */
	CLEANUP_FD int file = open(l.file, O_RDONLY | O_CLOEXEC);
	char b[1000];
	if (read(file, b, sizeof(b)) != sizeof(b) || write(writers[0], b, sizeof(b)) != sizeof(b))
		abort();
	for (int i = 0; i < 10; i++)
		loop_turn(loop, 10 * NS_PER_MS);
	tap_check(worker.unpackers == 1, "the unpacker waits for more");
	for (int i = 0; i < UNPACKERS_MAX + 2; i++)
		msg_cancel(calls[i]);
	int64_t end = clock_mono() + 20 * NS_PER_SEC;
	while ((worker.unpackers || entries("layers/.staging") > 1) && clock_mono() < end)
		loop_turn(loop, 20 * NS_PER_MS);
	tap_check(worker.unpackers == 0 && entries("layers/.staging") == 1, "a caller that gives up ends it");
	signal(SIGPIPE, SIG_IGN);
	tap_check(write(writers[0], b, sizeof(b)) < 0 && errno == EPIPE, "and its pipe breaks");
	for (int i = 0; i < UNPACKERS_MAX + 2; i++) {
		close(writers[i]);
		free(silent[i]);
	}
	a = call_key(MSG_layer_remove, l.chain);
	tap_check(ok(&a), "remove it");
}

/* 130 layers: the list of their names is too long for one option. */
static void test_many_layers(void) {
	enum { MANY = 130 };
	static struct test_layer many[MANY];
	static char *names[MANY];
	bool all = true;
	for (unsigned i = 0; i < MANY; i++) {
		char command[64];
		snprintf(command, sizeof(command), "echo %u >f%u; echo %u >top", i, i, i);
		many[i] = layer_make(200 + i, command, EVERYTHING);
		names[i] = many[i].chain;
		struct answer a = unpack(&many[i]);
		all = all && ok(&a);
		a = call_commit(names[i], names, i);
		all = all && ok(&a);
	}
	tap_check(all, "%d layers", MANY);
	struct answer a = call_prepare("many", names, MANY);
	a = call_mount("many", names, MANY);
	tap_check(ok(&a) && reads(a.fd, "f0", "0\n") && reads(a.fd, "top", "129\n"), "all of them in one mount");
	fd_close(a.fd);
	worker.overlay.lower_append = false;
	a = call_mount("many", names, MANY);
	tap_check(ok(&a) && reads(a.fd, "f0", "0\n") && reads(a.fd, "top", "129\n"), "and by the way of older kernels");
	fd_close(a.fd);
	worker.overlay.lower_append = true;
	call_key(MSG_snapshot_remove, "many");
	for (unsigned i = 0; i < MANY; i++) {
		a = call_key(MSG_layer_remove, names[i]);
		all = all && ok(&a);
	}
	tap_check(all, "all are removed");
}

static void test_restart(void) {
	struct answer a = call_prepare("kept", chains, LAYERS);
	tap_check(ok(&a), "a snapshot before the restart");
	struct test_layer l = layer_make(70, "echo x >x", EVERYTHING);
	a = unpack(&l);
	tap_check(ok(&a), "an uncommitted layer before the restart");
	worker_stop();
	shell("cd %s/layers && mkdir -p broken/fs && mkdir half && echo nonsense >half/layer && "
	      "mkdir -p ../snapshots/.spread/07/half ../snapshots/.new/x/y ../snapshots/.trash/0/a/b/c && mkdir -p "
	      "../snapshots/halfmade",
	      base);
	worker_start(true);
	a = call_empty(MSG_snapshot_list);
	tap_check(a.layers == LAYERS && a.snapshots == 2, "layers and snapshots are found again");
	tap_check(entries("layers/.staging") == 0 && entries("snapshots/.new") == 0 &&
		      entries("snapshots/.spread/07") == 0,
		  "unfinished ones aren't");
	a = call_mount("kept", chains, LAYERS);
	tap_check(ok(&a), "and can be mounted");
	if (a.fd >= 0)
		check_view(a.fd, "after a restart");
	fd_close(a.fd);
	call_key(MSG_snapshot_remove, "kept");
	call_key(MSG_snapshot_remove, "halfmade");
	int64_t end = clock_mono() + 20 * NS_PER_SEC;
	while ((entries("snapshots/.trash") || entries("layers/.trash")) && clock_mono() < end)
		loop_turn(loop, 50 * NS_PER_MS);
	tap_check(entries("snapshots/.trash") == 0 && entries("layers/.trash") == 0, "leftovers are removed");
}

/* What containers can do to whoever cleans up after them. */
static void test_nasty_trees(void) {
	struct answer a = call_prepare("nasty", chains, 1);
	tap_check(ok(&a), "a snapshot for a nasty container");
	shell("cd %s/snapshots/nasty/fs && /usr/bin/python3 -c 'import os\n"
	      "for i in range(3000):\n os.mkdir(\"d\"); os.chdir(\"d\")\nopen(\"f\", \"w\").write(\"x\" * 5000)' && "
	      "ln -s / root && mkdir odd && touch odd/$(printf '\\377\\n') && chmod 000 odd; "
	      "touch fixed && chattr +i fixed 2>/dev/null; mkdir fixed-dir && touch fixed-dir/f && chattr +i fixed-dir "
	      "2>/dev/null; true",
	      base);
	a = call_key(MSG_snapshot_usage, "nasty");
	tap_check(ok(&a) && a.inodes >= 3005 && a.size > 3000 * 4096, "usage of 3000 folders in each other: %llu",
		  (unsigned long long)a.inodes);
	a = call_key(MSG_snapshot_remove, "nasty");
	tap_check(ok(&a), "remove it");
	int64_t end = clock_mono() + 20 * NS_PER_SEC;
	while (entries("snapshots/.trash") && clock_mono() < end)
		loop_turn(loop, 50 * NS_PER_MS);
	tap_check(entries("snapshots/.trash") == 0, "nothing of it is left");
	tap_check(access("/etc/passwd", F_OK) == 0, "and the host is still there");
}

static void test_removal(void) {
	struct answer a;
	for (int i = LAYERS - 1; i >= 0; i--) {
		a = call_key(MSG_layer_remove, chains[i]);
		tap_check(ok(&a), "layer %d is removed", i);
	}
	tap_check(entries("layers/.trash") == 0, "and its disk is free when the reply comes");
	a = call_empty(MSG_snapshot_list);
	tap_check(a.layers == 0, "none is listed");
}

/* The same as a confined worker: its row of the privilege table, applied to a
 * child, which goes through a layer's and a snapshot's life. */
static int confined_life(const struct boot_privileges *p) {
	struct fault fault = { 0 };
	struct link_ends ends[2];
	struct loop *confined;
	ends_make(ends);
	if (confine_surroundings(p, &fault) < 0 || loop_new(&(struct loop_options){ 0 }, &confined) < 0 ||
	    confine_calls(p, confined, &fault) < 0) {
		printf("# %s\n", fault.text);
		return 1;
	}
	loop = confined;
	if (snapshot_worker_init(&worker, loop, base, &fault) < 0) {
		printf("# %s\n", fault.text);
		return 1;
	}
	links_make(ends);
	tap_check(worker.overlay.usable && worker.overlay.is_volatile, "confined: overlayfs is usable");
	tap_check(geteuid() != 0 && access("/etc/passwd", F_OK) < 0, "confined: it isn't root and sees nothing");
	for (size_t i = 0; i < LAYERS; i++) {
		struct answer a = unpack(&layers[i]);
		tap_check(ok(&a), "confined: layer %zu unpacks", i);
		a = call_commit(chains[i], chains, i);
		tap_check(ok(&a), "confined: it is committed");
	}
	struct answer a = call_prepare("c1", chains, LAYERS);
	tap_check(ok(&a), "confined: prepare");
	a = call_mount("c1", chains, LAYERS);
	tap_check(ok(&a), "confined: mount");
	check_view(a.fd, "confined");
	tap_check(attributes(a.fd, ".", 0755, 0, 0) && attributes(a.fd, "dir", 0755, 0, 0) &&
		      attributes(a.fd, "opq", 0755, 0, 0) && attributes(a.fd, "base", 0644, 0, 0),
		  "confined: what belongs to root belongs to root");
	tap_check(writes(a.fd, "base") && unlinkat(a.fd, "dir/b", 0) == 0, "confined: it can be written");
	fd_close(a.fd);
	a = call_key(MSG_snapshot_usage, "c1");
	tap_check(ok(&a), "confined: usage");
	a = call_empty(MSG_snapshot_info);
	tap_check(ok(&a), "confined: info");
	a = call_mount("", chains, LAYERS);
	tap_check(ok(&a), "confined: a view");
	fd_close(a.fd);
	worker.overlay.usable = false;
	a = call_prepare("c2", chains, LAYERS);
	tap_check(ok(&a), "confined: a copy");
	a = call_mount("c2", chains, LAYERS);
	tap_check(ok(&a), "confined: the copy's mount");
	check_view(a.fd, "confined copy");
	fd_close(a.fd);
	a = call_key(MSG_snapshot_remove, "c1");
	a = call_key(MSG_snapshot_remove, "c2");
	for (size_t i = LAYERS; i-- > 0;) {
		a = call_key(MSG_layer_remove, chains[i]);
		tap_check(ok(&a), "confined: layer %zu is removed", i);
	}
	tap_check(entries("layers/.trash") == 0 && entries("snapshots/.trash") == 0, "confined: nothing is left");
	return 0;
}

static void test_confined(void) {
	struct fault fault;
	struct boot_privileges p;
	struct config config;
	char option[2][128];
	int ends[2], counts[2] = { 0, 1 };
	snprintf(option[0], sizeof(option[0]), "state_root=%s", base);
	snprintf(option[1], sizeof(option[1]), "run_root=%s/run", base);
	const char *options[] = { option[0], option[1] };
	struct config_source source = { .file = "/nonexistent", .options = options, .n_options = 2 };
	if (config_load(&source, &config, &fault) < 0 || privileges_compile(ROLE_SNAPSHOT, &config, &p, &fault) < 0) {
		tap_check(false, "the worker's row: %s", fault.text);
		return;
	}
	shell("chmod 711 %s; mkdir -p %s/layers %s/snapshots; chown %u:%u %s/layers %s/snapshots; chmod 700 %s/layers "
	      "%s/snapshots",
	      base, base, base, p.uid, p.gid, base, base, base, base);
	if (pipe2(ends, O_CLOEXEC) < 0)
		abort();
	for (int i = 0; i < LAYERS; i++)
		layers[i].fd = open(layers[i].file, O_RDONLY | O_CLOEXEC);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		int r = confined_life(&p);
		counts[0] = tap_count;
		counts[1] = tap_failures + r;
		_exit(write(ends[1], counts, sizeof(counts)) == sizeof(counts) ? 0 : 1);
	}
	close(ends[1]);
	bool told = read(ends[0], counts, sizeof(counts)) == sizeof(counts);
	if (told) {
		tap_count = counts[0];
		tap_failures = counts[1];
	}
	int status;
	waitpid(pid, &status, 0);
	if (!told)
		printf("# the confined child ended with status %x\n", status);
	tap_check(told, "confined: it comes to its end");
	close(ends[0]);
	for (int i = 0; i < LAYERS; i++)
		fd_close_p(&layers[i].fd);
	shell("rm -rf %s/layers %s/snapshots", base, base);
}

/* The unpacker among a worker's children; 0: none. */
static pid_t unpacker_of(pid_t worker_pid) {
	char path[64], text[256] = { 0 }, name[16] = { 0 };
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", worker_pid, worker_pid);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return 0;
	for (char *p = text, *end; *p; p = end) {
		pid_t pid = (pid_t)strtol(p, &end, 10);
		if (end == p)
			break;
		snprintf(path, sizeof(path), "/proc/%d/comm", pid);
		CLEANUP_FD int comm = open(path, O_RDONLY | O_CLOEXEC);
		if (comm >= 0 && read(comm, name, sizeof(name) - 1) > 0 && strcmp(name, "unpack\n") == 0)
			return pid;
	}
	return 0;
}

static bool wait_until(bool (*condition)(pid_t), pid_t pid) {
	for (int i = 0; i < 500; i++) {
		if (condition(pid))
			return true;
		usleep(10000);
	}
	return false;
}

static bool has_unpacker(pid_t pid) {
	return unpacker_of(pid) > 0;
}

static bool is_gone(pid_t pid) {
	return kill(pid, 0) < 0 && errno == ESRCH;
}

/* kill -9 in the middle of an unpacking: the unpacker dies with its worker, and
 * the next worker clears away what it wrote. */
static void test_killed(void) {
	struct test_layer l = layer_make(80, "head -c 3000000 /dev/urandom >x", EVERYTHING);
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		abort();
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		char b[1000];
		CLEANUP_FD int file = open(l.file, O_RDONLY | O_CLOEXEC);
		worker_start(true);
		struct answer *a = call_unpack(l.chain, l.diff, ends[0]);
		if (read(file, b, sizeof(b)) == sizeof(b) && write(ends[1], b, sizeof(b)) == sizeof(b))
			wait_for(&a->done);
		_exit(1);
	}
	close(ends[0]);
	bool began = wait_until(has_unpacker, pid);
	pid_t unpacker = unpacker_of(pid);
	tap_check(began && unpacker > 0, "a worker unpacks");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	/* It is an orphan by then, and whoever inherits it reaps it. */
	tap_check(wait_until(is_gone, unpacker), "its unpacker dies with it");
	close(ends[1]);
	tap_check(entries("layers/.staging") == 1, "and leaves what it wrote");
	worker_start(true);
	tap_check(entries("layers/.staging") == 0, "which the next worker removes");
	worker_stop();
}

/* As the confined worker has it: what it sees can't be executed or act as a
 * device there. What it gives away must be able to. */
static void room_restrict(void) {
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };
	if (mount(base, base, NULL, MS_BIND, NULL) < 0 ||
	    syscall(SYS_mount_setattr, AT_FDCWD, base, 0, &attr, sizeof(attr)) < 0)
		abort();
}

int main(void) {
	log_init("test", LOG_ERROR);
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0) {
		tap_skip("snapshot worker", "needs root and a mount namespace");
		return tap_done();
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		abort();
	umask(022);
	snprintf(base, sizeof(base), "/var/tmp/bulkhead-snapshot-%d", getpid());
	if (mkdir(base, 0755) < 0)
		abort();
	layers_make();
	test_confined();
	room_restrict();
	test_killed();
	worker_start(true);
	if (!worker.overlay.usable)
		tap_skip("overlayfs", "this kernel or file system can't");
	test_layers();
	if (worker.overlay.usable) {
		test_mounts("overlay");
		test_sub_paths("overlay");
	}
	test_refusals();
	test_giving_up();
	test_nasty_trees();
	if (worker.overlay.usable)
		test_many_layers();
	test_restart();
	worker.overlay.usable = false;
	test_mounts("copies");
	test_sub_paths("copies");
	test_removal();
	worker_stop();
	if (chdir("/") < 0 || umount2(base, MNT_DETACH) < 0)
		abort();
	shell("rm -rf %s", base);
	return tap_done();
}
