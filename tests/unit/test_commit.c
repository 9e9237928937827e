/*
 * Committing a layer: killed before each of its system calls it leaves a layer
 * that is whole or not there at all; and a report that a hostile unpacker could
 * have written changes nothing outside of the layer.
 */
#include "base/fd.h"
#include "base/log.h"
#include "tap.h"
#include "workers/snapshot/state.h"
#include "tree/remove.h"
#include "workers/snapshot/unpack/commit.h"
#include "workers/snapshot/unpack/report.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

static char base[64];
static const char chain[] = "sha256:feedfacef00d0000000000000000000000000000000000000000000000000000";

static PRINTF(1, 2) int shell(const char *format, ...) {
	char command[4096];
	va_list ap;
	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	int status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void report_write(const struct report_record *records, size_t n) {
	struct buffer b = { 0 };
	char path[128];
	for (size_t i = 0; i < n; i++)
		if (report_add(&b, records[i].kind, records[i].path, records[i].target) < 0)
			abort();
	snprintf(path, sizeof(path), "%s/layers/.staging/feedfacef00d/report", base);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || fd_write_all(fd, b.data, b.size) < 0)
		abort();
	buffer_deinit(&b);
}

/* A parent layer, and an unpacked one with everything that a report can say. */
static void stage(void) {
	static const struct report_record records[] = {
		{ REPORT_IMPLICIT, "", "" },	       { REPORT_IMPLICIT, "var", "" },
		{ REPORT_IMPLICIT, "var/lib", "" },    { REPORT_OPAQUE, "opq", "" },
		{ REPORT_LINK, "link", "dir/target" }, { REPORT_LINK, "link2", "dir/target" },
	};
	shell("cd %s && rm -rf layers snapshots && mkdir -p layers/.staging/feedfacef00d/fs layers/parent/fs && cd "
	      "layers && "
	      "mkdir -p parent/fs/var/lib parent/fs/dir && echo target >parent/fs/dir/target && chmod 2700 "
	      "parent/fs/var/lib && "
	      "chown 5:6 parent/fs/var/lib && printf 'chain sha256:%064d\\nsize 1\\ninodes 1\\n' >parent/layer && "
	      "mkdir -p .staging/feedfacef00d/fs/var/lib .staging/feedfacef00d/fs/opq && echo x "
	      ">.staging/feedfacef00d/fs/x && "
	      "printf 'chain %s\\nsize 2\\ninodes 2\\n' >.staging/feedfacef00d/layer",
	      base, 0, chain);
	report_write(records, ARRAY_SIZE(records));
}

static int commit(struct fault *fault) {
	static const char *parents[] = { "parent" };
	char path[128];
	snprintf(path, sizeof(path), "%s/layers", base);
	CLEANUP_FD int layers = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct commit_job job = { .layers = layers,
					.staged = ".staging/feedfacef00d",
					.name = "feedfacef00d",
					.parents = parents,
					.n_parents = 1 };
	return commit_run(&job, fault);
}

static bool whole(void) {
	char path[128], value;
	struct stat a, b, lib;
	snprintf(path, sizeof(path), "%s/layers/feedfacef00d/fs", base);
	CLEANUP_FD int fs = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int opq = openat(fs, "opq", O_RDONLY | O_CLOEXEC);
	return fstatat(fs, "link", &a, 0) == 0 && fstatat(fs, "link2", &b, 0) == 0 && a.st_ino == b.st_ino &&
	       a.st_size == 7 && fstatat(fs, "var/lib", &lib, 0) == 0 && lib.st_uid == 5 &&
	       (lib.st_mode & 07777) == 02700 && fgetxattr(opq, "trusted.overlay.opaque", &value, 1) == 1 &&
	       faccessat(fs, "../report", F_OK, 0) < 0;
}

/* Runs the commit until just before its n-th system call. 1: it ended first. */
static int commit_until(unsigned n) {
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		struct fault fault;
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(commit(&fault) < 0);
	}
	waitpid(pid, &status, 0);
	ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL));
	for (unsigned stops = 0;; stops++) {
		if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) < 0 || waitpid(pid, &status, 0) < 0)
			return 1;
		if (WIFEXITED(status))
			return 1;
		/* Each call stops twice: before and after. */
		if (stops == 2 * n) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return 0;
		}
	}
}

/* What the worker finds when it starts again. */
static bool found_after_restart(bool *ret_committed) {
	static struct snapshot_worker worker;
	struct loop *loop;
	struct fault fault;
	if (loop_new(&(struct loop_options){ 0 }, &loop) < 0 || loop_enable(loop, NULL, 0) < 0)
		abort();
	if (snapshot_worker_init(&worker, loop, base, &fault) < 0) {
		printf("# %s\n", fault.text);
		return false;
	}
	const struct layer *l = layer_find(&worker, chain);
	*ret_committed = l && l->state == LAYER_COMMITTED && l->usage.size == 2;
	bool ok = worker.layers.n_nodes == (l ? 2u : 1u) && (!l || whole()) &&
		  shell("test -z \"$(ls -A %s/layers/.staging)\"", base) == 0;
	size_t pos;
	for (struct map_node *n = map_first(&worker.layers, &pos); n; n = map_first(&worker.layers, &pos))
		layer_free(&worker, container_of(n, struct layer, node));
	map_deinit(&worker.layers);
	loop_source_free_p(&worker.reaper.timer);
	loop_turn(loop, 0);
	loop_free(loop);
	const int fds[] = { worker.rooms.layers,	   worker.rooms.layers_staging, worker.rooms.layers_trash,
			    worker.rooms.snapshots,	   worker.rooms.snapshots_new,	worker.rooms.snapshots_views,
			    worker.rooms.snapshots_spread, worker.rooms.snapshots_trash };
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	return ok;
}

static void test_deaths(void) {
	unsigned n = 0, lost = 0, kept = 0, wrong = 0;
	for (; n < 400; n++) {
		bool committed = false;
		stage();
		if (commit_until(n))
			break;
		if (!found_after_restart(&committed)) {
			printf("# killed before system call %u: neither whole nor gone\n", n);
			wrong++;
		}
		kept += committed;
		lost += !committed;
	}
	printf("# killed before each of %u system calls: %u times the layer was gone, %u times whole\n", n, lost, kept);
	tap_check(wrong == 0 && lost > 10 && kept > 0 && n < 400,
		  "a layer is whole or not there, whenever its commit dies");
}

static void test_commit(void) {
	struct fault fault = { 0 };
	stage();
	tap_check(commit(&fault) == 0 && whole(), "a commit (%s)", fault.text);
}

/* --- hostile reports --- */

static void hostile(const char *name, enum report_kind kind, const char *path, const char *target, bool refused) {
	struct fault fault = { 0 };
	const struct report_record record = { kind, path, target };
	stage();
	shell("cd %s && rm -rf canary && mkdir canary && echo t0p-content >canary/secret && chmod 711 canary && "
	      "ln -s %s/canary layers/.staging/feedfacef00d/fs/out && ln -s ../../../../canary "
	      "layers/.staging/feedfacef00d/fs/up && "
	      "ln -s %s/canary layers/parent/fs/out",
	      base, base, base);
	report_write(&record, 1);
	int r = commit(&fault);
	printf("# %d %s\n", r, fault.text);
	tap_check(refused == (r < 0), "%s", name);
	tap_check(shell("cd %s && test \"$(stat -c %%a canary)\" = 711 && test \"$(ls canary)\" = secret && "
			"! getfattr -d -m - canary 2>/dev/null | grep -q . && ! grep -rqs t0p-content layers",
			base) == 0,
		  "%s: nothing outside is touched or read", name);
}

static void test_hostile(void) {
	hostile("a folder above", REPORT_IMPLICIT, "../../../canary", "", true);
	hostile("an absolute folder", REPORT_IMPLICIT, "/etc", "", true);
	hostile("a folder behind a link", REPORT_OPAQUE, "out", "", false);
	hostile("a folder behind a relative link", REPORT_OPAQUE, "up", "", false);
	hostile("an implicit folder behind a link", REPORT_IMPLICIT, "out", "", false);
	hostile("a link to a file behind a link", REPORT_LINK, "stolen", "out/secret", true);
	hostile("a link to a file above", REPORT_LINK, "stolen", "../../../canary/secret", true);
	hostile("a link made behind a link", REPORT_LINK, "out/planted", "dir/target", true);
	hostile("a link to nothing", REPORT_LINK, "link", "nothing", true);
	hostile("a link to a folder", REPORT_LINK, "link", "dir", true);

	static const char *const garbage[] = { "\x01no end", "\x09odd\0\0", "\x03x\0", "\0\0\0" };
	static const size_t sizes[] = { 7, 6, 3, 3 };
	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
		struct report_record record;
		size_t pos = 0;
		tap_check(report_next(garbage[i], sizes[i], &pos, &record) == -EBADMSG, "a report that is none, %zu",
			  i);
	}
}

int main(void) {
	log_init("test", LOG_ERROR);
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		tap_skip("commit", "needs root and a mount namespace");
		return tap_done();
	}
	umask(022);
	snprintf(base, sizeof(base), "/dev/shm/bulkhead-commit-%d", getpid());
	if (mkdir(base, 0755) < 0)
		snprintf(base, sizeof(base), "/var/tmp/bulkhead-commit-%d", getpid());
	mkdir(base, 0755);
	test_commit();
	test_hostile();
	test_deaths();
	if (chdir("/") < 0)
		abort();
	shell("rm -rf %s", base);
	return tap_done();
}
