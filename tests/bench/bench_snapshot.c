/*
 * What layers and snapshots cost. Prints figures, judges nothing.
 *
 *   bench_snapshot FOLDER [LAYER...]
 *
 * FOLDER is where to write (its file system is what is measured); LAYER are
 * archives (.tar, .tar.gz, .tar.zst). Without any, one is made of /usr/bin and
 * /usr/lib/python3, as gzip.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "workers/snapshot/state.h"
#include "workers/snapshot/unpack/unpack.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define CYCLES 300

static void run(const char *command) {
	if (system(command) != 0)
		fprintf(stderr, "failed: %s\n", command);
}

static double cpu_of(int who) {
	struct rusage u;
	getrusage(who, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* --- unpacking --- */

enum depth { DECODE, WALK, EXTRACT, DEPTHS };
static const char *const depth_names[] = { "decode and digest", "and read the archive",
					   "and write the files, in the jail" };

static void walk(struct stream *stream) {
	struct fault fault;
	struct tar_entry e;
	struct tar *t;
	if (tar_new(stream, &t) < 0)
		exit(1);
	while (tar_next(t, &e, &fault) > 0)
		continue;
	tar_free(t);
}

static void unpack_once(const char *layer, const char *folder, enum depth depth, uint64_t *shared) {
	struct fault fault = { 0 };
	struct decode_limits none = { 0 };
	char digest[72];
	struct unpack_job job = { .diff_id = "sha256:unknown" };
	struct unpack_result result;
	job.input = open(layer, O_RDONLY | O_CLOEXEC);
	if (depth == EXTRACT) {
		job.tree = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
		job.report = open("/dev/null", O_WRONLY | O_CLOEXEC);
		/* It ends with the wrong digest, after everything else. */
		if (unpack_run(&job, &result, &fault) == 0 || fault.code != FAULT_DATA_LOSS)
			fprintf(stderr, "%s\n", fault.text);
		return;
	}
	struct decoder *d;
	if (decoder_new(job.input, &none, &d) < 0)
		exit(1);
	if (depth == WALK) {
		walk(decoder_stream(d));
		if (decoder_finish(d, digest, &fault) < 0)
			fprintf(stderr, "%s\n", fault.text);
		return;
	}
	const uint8_t *data;
	ssize_t n;
	while ((n = decoder_stream(d)->next(decoder_stream(d), &data, &fault)) > 0)
		*shared += (uint64_t)n;
}

static void bench_unpack(const char *layer, const char *base) {
	uint64_t *size = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char folder[512], command[600];
	printf("%s\n", layer);
	for (int depth = DECODE; depth < DEPTHS; depth++) {
		snprintf(folder, sizeof(folder), "%s/unpacked-%d", base, depth);
		mkdir(folder, 0755);
		fflush(stdout);
		double cpu = cpu_of(RUSAGE_CHILDREN);
		int64_t begin = clock_mono();
		pid_t pid = fork();
		if (pid == 0) {
			unpack_once(layer, folder, (enum depth)depth, size);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		double wall = (double)(clock_mono() - begin) / 1e9;
		cpu = cpu_of(RUSAGE_CHILDREN) - cpu;
		printf("  %-34s %6.2f s, %6.2f s CPU: %5.0f MB/s of CPU\n", depth_names[depth], wall, cpu,
		       (double)*size / 1e6 / cpu);
		snprintf(command, sizeof(command), "rm -rf %s", folder);
		run(command);
	}
	printf("  %.0f MB uncompressed\n", (double)*size / 1e6);
	munmap(size, 4096);
}

/* --- the life of a snapshot --- */

static struct loop *loop;
static struct snapshot_worker worker;
static struct link *metadata;
static int mount_fd;
static bool done;

static void answered(void *ctx, const struct msg_answer *a) {
	if (a->fault)
		fprintf(stderr, "%s\n", a->fault->text);
	if (!a->fault && a->fds)
		mount_fd = take_fd(&a->fds[0]);
	done = true;
}

static void call(uint16_t number, const ProtobufCMessage *m) {
	done = false;
	msg_send(metadata, number, NULL, m, NULL, 0, answered, NULL);
	while (!done)
		loop_turn(loop, NS_PER_SEC);
}

static void layers_fake(const char *base, char chains[][CHAIN_SIZE], size_t n) {
	char path[600];
	for (size_t i = 0; i < n; i++) {
		snprintf(chains[i], CHAIN_SIZE, "sha256:%012zx%052d", i, 0);
		snprintf(path, sizeof(path),
			 "mkdir -p %s/layers/%012zx/fs/dir && printf 'chain %s\\nsize 1\\ninodes 1\\n' "
			 ">%s/layers/%012zx/layer",
			 base, i, chains[i], base, i);
		run(path);
	}
}

static void on_down(void *w, struct link *l, bool violation, const char *text) {
}

static void worker_start(const char *base) {
	struct fault fault;
	struct link *far;
	struct link_ends a, b;
	const struct link_options near_options = {
		.loop = loop, .self = ROLE_METADATA, .peer = ROLE_SNAPSHOT, .on_down = on_down
	};
	const struct link_options far_options = {
		.loop = loop,
		.self = ROLE_SNAPSHOT,
		.peer = ROLE_METADATA,
		.handlers = snapshot_handlers,
		.worker = &worker,
		.on_down = on_down,
	};
	if (snapshot_worker_init(&worker, loop, base, &fault) < 0) {
		fprintf(stderr, "%s\n", fault.text);
		exit(1);
	}
	if (link_new(&near_options, &metadata) < 0 || link_new(&far_options, &far) < 0 || link_ends_new(&a, &b) < 0 ||
	    link_attach_ring(metadata, &a) < 0 || link_attach_ring(far, &b) < 0)
		exit(1);
}

struct phase {
	const char *name;
	int64_t sum, min;
};

static void phase_add(struct phase *p, int64_t *begin) {
	int64_t now = clock_mono(), took = now - *begin;
	p->sum += took;
	p->min = p->min ? MIN(p->min, took) : took;
	*begin = now;
}

static void cycles(char *const *chains, size_t n) {
	struct phase phases[] = {
		{ .name = "prepare" }, { .name = "mount" }, { .name = "unmount" }, { .name = "remove" }
	};
	double own = cpu_of(RUSAGE_SELF), children = cpu_of(RUSAGE_CHILDREN);
	for (int i = 0; i < CYCLES; i++) {
		char key[32];
		Bulkhead__SnapshotPrepareRequest prepare = BULKHEAD__SNAPSHOT_PREPARE_REQUEST__INIT;
		Bulkhead__SnapshotMountRequest mount = BULKHEAD__SNAPSHOT_MOUNT_REQUEST__INIT;
		Bulkhead__Key remove = BULKHEAD__KEY__INIT;
		snprintf(key, sizeof(key), "c%d", i);
		prepare.key = mount.key = remove.id = key;
		prepare.parents = mount.parents = (char **)chains;
		prepare.n_parents = mount.n_parents = n;
		int64_t begin = clock_mono();
		call(MSG_snapshot_prepare, &prepare.base);
		phase_add(&phases[0], &begin);
		call(MSG_snapshot_mount, &mount.base);
		phase_add(&phases[1], &begin);
		mkdirat(mount_fd, "dev", 0755);
		mkdirat(mount_fd, "proc", 0755);
		begin = clock_mono();
		fd_close(mount_fd);
		phase_add(&phases[2], &begin);
		call(MSG_snapshot_remove, &remove.base);
		phase_add(&phases[3], &begin);
	}
	while (worker.reaper.child || worker.reaper.timer)
		loop_turn(loop, NS_PER_SEC);
	printf("%zu layers, %d snapshots; us min/mean:", n, CYCLES);
	for (size_t i = 0; i < ARRAY_SIZE(phases); i++)
		printf(" %s %lld/%lld", phases[i].name, (long long)phases[i].min / 1000,
		       (long long)phases[i].sum / CYCLES / 1000);
	printf("; CPU per snapshot %.0f us, of its removal %.0f us\n", (cpu_of(RUSAGE_SELF) - own) * 1e6 / CYCLES,
	       (cpu_of(RUSAGE_CHILDREN) - children) * 1e6 / CYCLES);
}

static void bench_snapshots(const char *base) {
	static char chains[130][CHAIN_SIZE];
	char *list[130];
	layers_fake(base, chains, ARRAY_SIZE(chains));
	for (size_t i = 0; i < ARRAY_SIZE(chains); i++)
		list[i] = chains[i];
	if (loop_new(&(struct loop_options){ 0 }, &loop) < 0 || loop_enable(loop, NULL, 0) < 0)
		exit(1);
	worker_start(base);
	cycles(list, 1);
	cycles(list, 5);
	cycles(list, 15);
	cycles(list, 130);
}

int main(int argc, char **argv) {
	char base[512], made[600], command[1400];
	log_init("bench", LOG_WARN);
	if (argc < 2 || geteuid() != 0) {
		fprintf(stderr, "usage, as root: bench_snapshot FOLDER [LAYER...]\n");
		return 2;
	}
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 1;
	snprintf(base, sizeof(base), "%s/bench-%d", argv[1], getpid());
	snprintf(made, sizeof(made), "%s/layer.tar.gz", base);
	if (mkdir(base, 0755) < 0)
		return 1;
	if (argc == 2) {
		snprintf(command, sizeof(command), "tar -C / -czf %s usr/bin usr/lib/python3", made);
		run(command);
		bench_unpack(made, base);
	}
	for (int i = 2; i < argc; i++)
		bench_unpack(argv[i], base);
	bench_snapshots(base);
	if (chdir("/") < 0)
		return 1;
	snprintf(command, sizeof(command), "rm -rf %s", base);
	run(command);
	return 0;
}
