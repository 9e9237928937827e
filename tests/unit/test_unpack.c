/*
 * Archives that other programs made, unpacked in the jail and compared with
 * the trees that they were made of; and hostile ones, made byte by byte, that
 * must neither get out nor stay quiet.
 */
#include "base/fd.h"
#include "tap.h"
#include "tree_text.h"
#include "tar/header.h"
#include "workers/snapshot/unpack/report.h"
#include "workers/snapshot/unpack/unpack.h"

#include <openssl/evp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/wait.h>

static char scratch[64];

static PRINTF(1, 2) int shell(const char *format, ...) {
	char command[8192];
	va_list ap;
	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	int status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char *digest_of(const char *path) {
	static char text[72];
	uint8_t b[65536], sum[32];
	ssize_t n;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	EVP_DigestInit_ex(c, EVP_sha256(), NULL);
	while ((n = read(fd, b, sizeof(b))) > 0)
		EVP_DigestUpdate(c, b, (size_t)n);
	EVP_DigestFinal_ex(c, sum, NULL);
	EVP_MD_CTX_free(c);
	char *p = text + sprintf(text, "sha256:");
	for (size_t i = 0; i < 32; i++)
		p += sprintf(p, "%02x", sum[i]);
	return text;
}

/* How an unpacking ended. */
struct outcome {
	int r;
	struct fault fault;
	struct unpack_result result;
	bool died;
	char *report;
	size_t report_size;
};

struct wanted {
	const char *diff_id;
	struct decode_limits decode;
	struct extract_limits extract;
};

/* Unpacks the file into the folder in a child, as the worker does. */
static struct outcome unpack_to(const char *folder, const char *file, const struct wanted *w) {
	struct outcome o = { 0 };
	char path[128];
	int ends[2], status;
	struct unpack_job job = { .decode = w->decode, .extract = w->extract };
	snprintf(job.diff_id, sizeof(job.diff_id), "%s", w->diff_id);
	job.input = open(file, O_RDONLY | O_CLOEXEC);
	job.tree = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/report", scratch);
	job.report = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (pipe2(ends, O_CLOEXEC) < 0)
		abort();
	pid_t pid = fork();
	if (pid == 0) {
		o.r = unpack_run(&job, &o.result, &o.fault);
		_exit(write(ends[1], &o, sizeof(o)) == sizeof(o) ? 0 : 1);
	}
	close(ends[1]);
	o.died = read(ends[0], &o, sizeof(o)) != sizeof(o);
	close(ends[0]);
	waitpid(pid, &status, 0);
	if (o.died)
		printf("# the unpacker died: status %x\n", status);
	if (o.r < 0)
		printf("# %s: %s\n", fault_code_name(o.fault.code), o.fault.text);
	lseek(job.report, 0, SEEK_SET);
	if (fd_read_all(job.report, REPORT_SIZE_MAX, &o.report, &o.report_size) < 0)
		abort();
	close(job.input);
	close(job.tree);
	close(job.report);
	return o;
}

static struct outcome unpack(const char *file, const struct wanted *w) {
	char out[128];
	snprintf(out, sizeof(out), "%s/out", scratch);
	shell("rm -rf %s %s/report && mkdir %s", out, scratch, out);
	return unpack_to(out, file, w);
}

static struct outcome unpack_tar(const char *file) {
	struct wanted w = { .diff_id = digest_of(file) };
	return unpack(file, &w);
}

static bool reported(const struct outcome *o, enum report_kind kind, const char *path, const char *target) {
	struct report_record record;
	size_t pos = 0;
	while (report_next(o->report, o->report_size, &pos, &record) > 0)
		if (record.kind == kind && strcmp(record.path, path) == 0 && strcmp(record.target, target) == 0)
			return true;
	return false;
}

/* --- archives of others --- */

/* Everything that a layer can have; in <scratch>/src. */
static bool source_make(void) {
	return shell(
		   "set -e; exec 2>&1; cd %s; rm -rf src; mkdir src; cd src\n"
		   "mkdir -p a/b/c empty 'with space'; echo hello >a/hello; ln a/hello a/b/hard; ln -s ../hello "
		   "a/b/soft\n"
		   "ln -s /etc/passwd abs; ln -s nowhere dangling\n"
		   "head -c 300000 /dev/urandom >a/big; head -c 511 /dev/zero >a/z511; head -c 512 /dev/zero >a/z512\n"
		   ": >a/nothing; mkfifo fifo; mknod null c 1 3; mknod blk b 259 70000; chmod 666 null\n"
		   "echo x >suid; chown 1000:1001 suid; chmod 6755 suid; mkdir sticky; chmod 1777 sticky\n"
		   "mkdir sgid; chgrp 50 sgid; chmod 2775 sgid; echo x >sgid/f\n"
		   "echo x >readonly; chmod 400 readonly; mkdir closed; echo x >closed/in; chmod 555 closed\n"
		   "truncate -s 3M sparse; printf data | dd of=sparse bs=1 seek=1000000 conv=notrunc status=none\n"
		   "printf end | dd of=sparse bs=1 seek=3145725 conv=notrunc status=none\n"
		   "truncate -s 1M hole; python3 -c 'open(\"many\",\"wb\").truncate(4<<20)'\n"
		   "for i in $(seq 0 2 200); do printf $i | dd of=many bs=1 seek=$((i*8192)) conv=notrunc status=none; "
		   "done\n"
		   "n=$(printf 'n%%.0s' $(seq 200)); mkdir -p $n/$n; echo long >$n/$n/$n; ln -s $n/$n/$n long-link\n"
		   "ln $n/$n/$n hard-to-long; printf 'x' >'new\nline'; printf u >'\303\251'\n"
		   "touch -d '1969-12-31 23:59:50 UTC' old; touch -d '2031-05-06 07:08:09.123456789 UTC' future\n"
		   "chown 3000000:4000000 future\n"
		   "touch -d '2020-01-02 03:04:05 UTC' a/b/c a/b a empty closed sticky sgid 'with space' $n/$n $n .\n",
		   scratch) == 0;
}

static void compare(const char *what, const char *file, bool times, bool sub_second) {
	char path[128];
	struct outcome o = unpack_tar(file);
	tap_check(o.r == 0 && !o.died, "%s unpacks", what);
	snprintf(path, sizeof(path), "%s/src", scratch);
	char *a = tree_text(path, times);
	snprintf(path, sizeof(path), "%s/out", scratch);
	char *b = tree_text(path, times);
	if (!sub_second) { /* the format has whole seconds only */
		for (char *side = a; side; side = side == a ? b : NULL)
			for (char *p = side; (p = strstr(p, " mtime=")); p++) {
				char *dot = strchr(p, '.');
				memset(dot + 1, '0', 9);
			}
	}
	tap_check(strcmp(a, b) == 0, "%s: the tree is the same", what);
	if (strcmp(a, b) != 0)
		tree_diff(a, b);
	free(a);
	free(b);
	free(o.report);
}

static void test_sparse_on_disk(void) {
	char path[128];
	struct stat st;
	snprintf(path, sizeof(path), "%s/out/sparse", scratch);
	tap_check(stat(path, &st) == 0 && st.st_size == 3 << 20 && st.st_blocks * 512 < 1 << 20,
		  "a sparse file has its holes");
}

static void test_formats(void) {
	static const struct {
		const char *what, *command;
		bool sub_second;
	} archives[] = {
		{ "GNU tar, pax", "tar --format=posix --xattrs -C src -cf a.tar .", true },
		{ "GNU tar, gnu", "tar --format=gnu -C src -cf a.tar .", false },
		{ "GNU tar, gnu sparse", "tar --format=gnu -S -C src -cf a.tar .", false },
		{ "GNU tar, pax sparse 1.0", "tar --format=posix --sparse-version=1.0 -S -C src -cf a.tar .", true },
		{ "GNU tar, pax sparse 0.1", "tar --format=posix --sparse-version=0.1 -S -C src -cf a.tar .", true },
		{ "GNU tar, pax sparse 0.0", "tar --format=posix --sparse-version=0.0 -S -C src -cf a.tar .", true },
		{ "bsdtar, pax", "bsdtar --format=pax -C src -cf a.tar .", true },
		/* bsdtar writes no time before 1970 in this format */
		{ "bsdtar, gnutar", "touch -d @0 src/old; bsdtar --format=gnutar -C src -cf a.tar .", false },
		{ "python, pax",
		  "/usr/bin/python3 -c 'import tarfile; t=tarfile.open(\"a.tar\",\"w\",format=tarfile.PAX_FORMAT); "
		  "t.add(\"src\",arcname=\".\")'",
		  true },
		{ "python, gnu",
		  "/usr/bin/python3 -c 'import tarfile; t=tarfile.open(\"a.tar\",\"w\",format=tarfile.GNU_FORMAT); "
		  "t.add(\"src\",arcname=\".\")'",
		  false },
	};
	char file[128];
	snprintf(file, sizeof(file), "%s/a.tar", scratch);
	for (size_t i = 0; i < ARRAY_SIZE(archives); i++) {
		if (strncmp(archives[i].what, "bsdtar", 6) == 0 && shell("command -v bsdtar >/dev/null") != 0) {
			tap_skip(archives[i].what, "bsdtar isn't installed");
			continue;
		}
		if (shell("cd %s && %s 2>/dev/null", scratch, archives[i].command) != 0) {
			tap_check(false, "%s: make the archive", archives[i].what);
			continue;
		}
		/* python's times are floats */
		bool exact = archives[i].sub_second && strncmp(archives[i].what, "python", 6) != 0;
		compare(archives[i].what, file, true, exact);
		if (strstr(archives[i].what, "sparse"))
			test_sparse_on_disk();
	}
}

static void test_xattrs(void) {
	char file[128];
	if (shell("cd %s && rm -rf src && mkdir -p src/d && cd src && echo x >f && echo y >cap && chmod 755 cap && "
		  "setfattr -n user.name -v value f && setfattr -n user.nul -v 0x00010a003d f && setfattr -n user.dir "
		  "-v d d "
		  "&& setcap cap_net_raw+ep cap && setfacl -m u:1000:r f 2>/dev/null; setfattr -n "
		  "trusted.overlay.opaque -v y d "
		  "&& cd .. && tar --format=posix --xattrs --xattrs-include='*' -C src -cf a.tar .",
		  scratch) != 0) {
		tap_skip("extended attributes", "the file system or setfattr can't make them");
		return;
	}
	shell("setfattr -x trusted.overlay.opaque %s/src/d", scratch);
	snprintf(file, sizeof(file), "%s/a.tar", scratch);
	compare("extended attributes, but not trusted.*", file, true, true);
}

static void test_compressions(void) {
	static const struct {
		const char *what, *command;
	} ways[] = {
		{ "gzip", "gzip -kc a.tar >a.z" },
		{ "gzip in members", "size=$(stat -c %s a.tar); head -c $((size/3)) a.tar | gzip -c >a.z; "
				     "tail -c +$((size/3+1)) a.tar | gzip -9c >>a.z; printf '' | gzip -c >>a.z" },
		{ "gzip with zeros behind", "gzip -kc a.tar >a.z; head -c 1000 /dev/zero >>a.z" },
		{ "gzip with garbage behind", "gzip -kc a.tar >a.z; echo garbage >>a.z" },
		{ "zstd", "zstd -qkc a.tar >a.z" },
		{ "zstd in frames", "head -c 100000 a.tar | zstd -qc >a.z; tail -c +100001 a.tar | zstd -qc19 >>a.z" },
		{ "zstd with a skippable frame first",
		  "printf '\\120\\052\\115\\030\\004\\0\\0\\0abcd' >a.z; zstd -qkc a.tar >>a.z" },
		{ "plain", "cp a.tar a.z" },
	};
	char tar[128], file[128];
	source_make();
	shell("cd %s && tar --format=posix -C src -cf a.tar . 2>/dev/null", scratch);
	snprintf(tar, sizeof(tar), "%s/a.tar", scratch);
	snprintf(file, sizeof(file), "%s/a.z", scratch);
	struct wanted w = { .diff_id = digest_of(tar) };
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		shell("cd %s && %s", scratch, ways[i].command);
		struct outcome o = unpack(file, &w);
		tap_check(o.r == 0 && !o.died, "%s", ways[i].what);
		tap_check(shell("cd %s && cmp src/a/big out/a/big", scratch) == 0, "%s: the content fits",
			  ways[i].what);
		free(o.report);
	}
	static const struct {
		const char *what, *command;
		enum fault_code code;
	} broken[] = {
		{ "cut gzip", "gzip -kc a.tar | head -c 100000 >a.z", FAULT_DATA_LOSS },
		{ "cut zstd", "zstd -qkc a.tar | head -c 100000 >a.z", FAULT_DATA_LOSS },
		{ "cut tar", "head -c 100000 a.tar >a.z", FAULT_DATA_LOSS },
		{ "damaged gzip",
		  "gzip -kc a.tar >a.z; printf xxxx | dd of=a.z bs=1 seek=50000 conv=notrunc status=none",
		  FAULT_DATA_LOSS },
		{ "damaged zstd", "zstd -qkc a.tar >a.z; printf xxxx | dd of=a.z bs=1 seek=20 conv=notrunc status=none",
		  FAULT_DATA_LOSS },
		{ "nothing at all", ": >a.z", FAULT_DATA_LOSS },
		{ "xz", "printf '\\3757zXZ\\0abc' >a.z", FAULT_UNIMPLEMENTED },
		{ "no tar", "head -c 5000 /dev/urandom | tr '\\037\\050\\375B' a >a.z", FAULT_INVALID_ARGUMENT },
		{ "another archive", "tar -C src -cf a.z fifo", FAULT_DATA_LOSS },
	};
	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		shell("cd %s && %s", scratch, broken[i].command);
		struct outcome o = unpack(file, &w);
		tap_check(o.r < 0 && !o.died && o.fault.code == broken[i].code, "%s is refused", broken[i].what);
		free(o.report);
	}
}

/* --- archives made by hand --- */

struct archive {
	struct buffer b;
};

static void octal(char *field, size_t size, uint64_t v) {
	snprintf(field, size, "%0*llo", (int)size - 1, (unsigned long long)v);
}

static struct tar_header header_of(char type, const char *name, uint64_t size) {
	struct tar_header h = { .type = type };
	memcpy(h.name, name, strnlen(name, sizeof(h.name)));
	octal(h.mode, sizeof(h.mode), type == '5' ? 0755 : 0644);
	octal(h.uid, sizeof(h.uid), 0);
	octal(h.gid, sizeof(h.gid), 0);
	octal(h.size, sizeof(h.size), size);
	octal(h.mtime, sizeof(h.mtime), 1000);
	memcpy(h.magic,
	       "ustar\0"
	       "00",
	       8);
	octal(h.major, sizeof(h.major), 0);
	octal(h.minor, sizeof(h.minor), 0);
	return h;
}

static void header_add(struct archive *a, struct tar_header *h) {
	unsigned sum = 0;
	memset(h->checksum, ' ', 8);
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += ((uint8_t *)h)[i];
	snprintf(h->checksum, sizeof(h->checksum), "%06o", sum);
	buffer_add(&a->b, h, sizeof(*h));
}

static void payload_add(struct archive *a, const void *data, size_t size) {
	static const char zeros[512];
	buffer_add(&a->b, data, size);
	buffer_add(&a->b, zeros, (512 - size % 512) % 512);
}

static void add(struct archive *a, char type, const char *name, const char *link, const char *content) {
	struct tar_header h = header_of(type, name, content ? strlen(content) : 0);
	if (link)
		memcpy(h.link, link, strnlen(link, sizeof(h.link)));
	header_add(a, &h);
	if (content)
		payload_add(a, content, strlen(content));
}

static void add_pax(struct archive *a, const char *records, size_t size) {
	struct tar_header h = header_of('x', "PaxHeaders/x", size);
	header_add(a, &h);
	payload_add(a, records, size);
}

/* Unpacks what is there, without the two blocks that end an archive. */
static struct outcome finish_short(struct archive *a) {
	char file[128];
	snprintf(file, sizeof(file), "%s/hostile.tar", scratch);
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || fd_write_all(fd, a->b.data, a->b.size) < 0)
		abort();
	close(fd);
	buffer_deinit(&a->b);
	return unpack_tar(file);
}

static struct outcome finish(struct archive *a) {
	static const char end[1024];
	buffer_add(&a->b, end, sizeof(end));
	return finish_short(a);
}

static bool out_has(const char *path) {
	char whole[512];
	struct stat st;
	snprintf(whole, sizeof(whole), "%s/out/%s", scratch, path);
	return lstat(whole, &st) == 0;
}

static bool out_reads(const char *path, const char *content) {
	char whole[512], text[256] = { 0 };
	snprintf(whole, sizeof(whole), "%s/out/%s", scratch, path);
	CLEANUP_FD int fd = open(whole, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, text, sizeof(text) - 1) >= 0 && strcmp(text, content) == 0;
}

static bool out_is_whiteout(const char *path) {
	char whole[512];
	struct stat st;
	snprintf(whole, sizeof(whole), "%s/out/%s", scratch, path);
	return lstat(whole, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0;
}

static bool nothing_outside(void) {
	return shell("cd %s && test -z \"$(ls -A canary)\" && test ! -e evil", scratch) == 0;
}

static void test_escapes(void) {
	struct archive a;
	struct outcome o;
	shell("cd %s && mkdir -p canary", scratch);

	static const char *const names[] = { "../evil", "a/../../evil", "../../../../../../../../tmp/evil", "..",
					     "a/b/../../.." };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		a = (struct archive){ 0 };
		add(&a, '0', names[i], NULL, "evil");
		o = finish(&a);
		tap_check(o.r < 0 && !o.died && o.fault.code == FAULT_INVALID_ARGUMENT && nothing_outside(),
			  "the name %s is refused", names[i]);
		free(o.report);
	}

	a = (struct archive){ 0 };
	add(&a, '0', "/etc/evil", NULL, "absolute");
	add(&a, '0', "a/../b/./c//d", NULL, "roundabout");
	o = finish(&a);
	tap_check(o.r == 0 && out_reads("etc/evil", "absolute") && out_reads("b/c/d", "roundabout"),
		  "absolute and roundabout names are the layer's own");
	free(o.report);

	a = (struct archive){ 0 };
	add(&a, '2', "up", "../canary", NULL);
	add(&a, '0', "up/evil", NULL, "evil");
	add(&a, '2', "root", "/", NULL);
	add(&a, '0', "root/evil2", NULL, "evil");
	char absolute[256];
	snprintf(absolute, sizeof(absolute), "%s/canary", scratch);
	add(&a, '2', "abs", absolute, NULL);
	add(&a, '0', "abs/evil3", NULL, "evil");
	add(&a, '0', "up", NULL, "now a file");
	o = finish(&a);
	tap_check(o.r == 0 && nothing_outside() && out_reads("evil2", "evil") && out_reads("canary/evil", "evil") &&
		      out_reads("up", "now a file"),
		  "links lead to the layer's own folders");
	free(o.report);

	a = (struct archive){ 0 };
	add(&a, '1', "shadow", "/etc/shadow", NULL);
	add(&a, '1', "up", "../canary/x", NULL);
	o = finish(&a);
	tap_check(o.r < 0 && o.fault.code == FAULT_INVALID_ARGUMENT,
		  "CVE-2021-32760, CVE-2025-47290: a hard link that leads out is refused");
	free(o.report);

	a = (struct archive){ 0 };
	add(&a, '1', "shadow", "/etc/shadow", NULL);
	o = finish(&a);
	tap_check(o.r == 0 && !out_has("shadow") && reported(&o, REPORT_LINK, "shadow", "etc/shadow"),
		  "a hard link to a file of the layers below waits for the commit");
	free(o.report);

	a = (struct archive){ 0 };
	add(&a, '2', "l1", "l2", NULL);
	add(&a, '2', "l2", "l1", NULL);
	add(&a, '0', "l1/x", NULL, "loop");
	o = finish(&a);
	tap_check(o.r < 0 && !o.died, "a loop of links ends");
	free(o.report);

	a = (struct archive){ 0 };
	add(&a, '2', "dir", "/else/where", NULL);
	add(&a, '0', "dir/x", NULL, "there");
	o = finish(&a);
	tap_check(o.r == 0 && out_reads("else/where/x", "there"), "a dangling link's target is made");
	free(o.report);
}

static void test_replacing(void) {
	struct archive a = { 0 };
	add(&a, '5', "d", NULL, NULL);
	add(&a, '0', "d/deep/er/file", NULL, "1");
	add(&a, '0', "d", NULL, "a file now");
	add(&a, '0', "f", NULL, "first");
	add(&a, '0', "f", NULL, "second");
	add(&a, '0', "g", NULL, "file");
	add(&a, '5', "g", NULL, NULL);
	add(&a, '0', "g/x", NULL, "in it");
	add(&a, '2', "s", "f", NULL);
	add(&a, '0', "s", NULL, "not f");
	add(&a, '2', "t", "g", NULL);
	add(&a, '5', "t", NULL, NULL);
	add(&a, '0', "t/y", NULL, "y");
	add(&a, '0', "h", NULL, "h");
	add(&a, '1', "h", "h", NULL);
	struct outcome o = finish(&a);
	tap_check(o.r == 0, "entries that replace others");
	tap_check(out_reads("d", "a file now") && out_reads("f", "second") && out_reads("g/x", "in it") &&
		      out_reads("s", "not f") && !out_has("g/y") && out_reads("t/y", "y") && out_reads("h", "h"),
		  "the last one counts");
	tap_check(shell("cd %s/out && test -z \"$(ls -d .wh.* 2>/dev/null)\"", scratch) == 0, "no trash is left");
	free(o.report);

	a = (struct archive){ 0 };
	add(&a, '0', "f", NULL, "file");
	add(&a, '0', "f/x", NULL, "below a file");
	o = finish(&a);
	tap_check(o.r < 0 && strstr(o.fault.text, "f/x"), "a file is no folder");
	free(o.report);
}

static void test_whiteouts(void) {
	struct archive a = { 0 };
	add(&a, '0', "dir/.wh.gone", NULL, "");
	add(&a, '0', ".wh.top", NULL, "");
	add(&a, '0', "opq/.wh..wh..opq", NULL, "");
	add(&a, '0', "opq/new", NULL, "new");
	add(&a, '0', "stays", NULL, "stays");
	add(&a, '0', ".wh.stays", NULL, "");
	add(&a, '5', "both", NULL, NULL);
	add(&a, '0', "both/x", NULL, "x");
	add(&a, '0', ".wh.both", NULL, "");
	add(&a, '0', ".wh.later", NULL, "");
	add(&a, '5', "later", NULL, NULL);
	add(&a, '0', ".wh.implicit", NULL, "");
	add(&a, '0', "implicit/x", NULL, "x");
	add(&a, '0', ".wh..wh.aufs", NULL, "");
	add(&a, '5', ".wh..wh.plnk", NULL, NULL);
	add(&a, '0', ".wh..wh.plnk/1.2", NULL, "linked");
	add(&a, '1', "plnk1", ".wh..wh.plnk/1.2", NULL);
	add(&a, '0', ".wh..wh.bulkhead/0", NULL, "ours");
	add(&a, '0', ".wh.dir2/x", NULL, "ignored");
	struct outcome o = finish(&a);
	tap_check(o.r == 0, "whiteouts");
	tap_check(out_is_whiteout("dir/gone") && out_is_whiteout("top") && !out_has("dir/.wh.gone"),
		  "they are 0:0 devices");
	tap_check(reported(&o, REPORT_OPAQUE, "opq", "") && out_reads("opq/new", "new"),
		  "an opaque folder is reported");
	tap_check(out_reads("stays", "stays") && out_reads("both/x", "x") && reported(&o, REPORT_OPAQUE, "both", ""),
		  "they don't hide what the same layer has");
	tap_check(reported(&o, REPORT_OPAQUE, "later", "") && out_reads("implicit/x", "x") &&
		      reported(&o, REPORT_OPAQUE, "implicit", ""),
		  "a folder in a whiteout's place is opaque");
	tap_check(out_reads("plnk1", "linked") && !out_has(".wh..wh.plnk") && !out_has(".wh..wh.aufs") &&
		      !out_has(".wh..wh.bulkhead") && !out_has(".wh.dir2"),
		  "AUFS's marks leave nothing but what they stand for");
	tap_check(reported(&o, REPORT_IMPLICIT, "dir", "") && reported(&o, REPORT_IMPLICIT, "opq", "") &&
		      reported(&o, REPORT_IMPLICIT, "", "") && !reported(&o, REPORT_IMPLICIT, "both", ""),
		  "folders that the archive didn't name are reported");
	free(o.report);

	static const char *const bad[] = { ".wh.", "d/.wh..", "d/.wh..." };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		a = (struct archive){ 0 };
		add(&a, '0', bad[i], NULL, "");
		o = finish(&a);
		tap_check(o.r < 0 && o.fault.code == FAULT_INVALID_ARGUMENT, "a whiteout of nothing is refused: %s",
			  bad[i]);
		free(o.report);
	}
}

static void record(struct buffer *b, const char *key, const char *value) {
	size_t body = strlen(key) + strlen(value) + 3, n = body;
	char text[32];
	while (n != body + (size_t)snprintf(text, sizeof(text), "%zu", n))
		n = body + strlen(text);
	buffer_addf(b, "%zu %s=%s\n", n, key, value);
}

static struct outcome with_pax(const char *key, const char *value) {
	struct archive a = { 0 };
	struct buffer b = { 0 };
	record(&b, key, value);
	add_pax(&a, (char *)b.data, b.size);
	buffer_deinit(&b);
	add(&a, '0', "f", NULL, "content");
	return finish(&a);
}

static void test_pax(void) {
	struct outcome o = with_pax("path", "other/name");
	tap_check(o.r == 0 && out_reads("other/name", "content") && !out_has("f"), "pax path");
	free(o.report);
	o = with_pax("path", "../evil");
	tap_check(o.r < 0 && o.fault.code == FAULT_INVALID_ARGUMENT, "pax path that leads out");
	free(o.report);
	o = with_pax("comment", "whatever");
	tap_check(o.r == 0 && out_reads("f", "content"), "an unknown record is skipped");
	free(o.report);
	static const struct {
		const char *key, *value;
	} bad[] = {
		{ "size", "-1" },
		{ "size", "99999999999999999999999" },
		{ "uid", "4294967295" },
		{ "gid", "x" },
		{ "mtime", "yesterday" },
		{ "GNU.sparse.map", "1,2,3" },
		{ "GNU.sparse.major", "7" },
		{ "GNU.sparse.numbytes", "5" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		o = with_pax(bad[i].key, bad[i].value);
		tap_check(o.r < 0 && !o.died, "pax %s=%s is refused", bad[i].key, bad[i].value);
		free(o.report);
	}
	static const char *const records[] = {
		"5 a=b\n6 c=d\n", "999 a=b\n", "0 a=b\n", "x", "5 =a\n", "12 path=a\0b\n"
	};
	for (size_t i = 0; i < ARRAY_SIZE(records); i++) {
		struct archive a = { 0 };
		add_pax(&a, records[i], i == 5 ? 12 : strlen(records[i]));
		add(&a, '0', "f", NULL, "content");
		o = finish(&a);
		tap_check(o.r < 0 && !o.died && o.fault.code == FAULT_INVALID_ARGUMENT, "bad records, %zu", i);
		free(o.report);
	}
}

/* An archive may end anywhere behind the last payload, and nowhere in it. */
static void test_unfinished(void) {
	static const struct {
		size_t behind; /* bytes that are there of "content" and its padding */
		bool good;
	} ends[] = { { 0, false }, { 6, false }, { 7, true }, { 8, true }, { 511, true }, { 512, true } };
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		struct archive a = { 0 };
		add(&a, '0', "first", NULL, "one");
		size_t before = a.b.size + TAR_BLOCK_SIZE;
		add(&a, '0', "last", NULL, "content");
		a.b.size = before + ends[i].behind;
		struct outcome o = finish_short(&a);
		if (ends[i].good)
			tap_check(o.r == 0 && out_reads("first", "one") && out_reads("last", "content"),
				  "an archive that ends %zu bytes behind its last header is whole", ends[i].behind);
		else
			tap_check(o.r < 0 && !o.died && o.fault.code == FAULT_DATA_LOSS,
				  "one that ends %zu bytes behind it is not", ends[i].behind);
		free(o.report);
	}
}

static void test_sizes(void) {
	struct archive a = { 0 };
	struct tar_header h = header_of('0', "huge", 0);
	memset(h.size, 0xff, sizeof(h.size));
	header_add(&a, &h);
	struct outcome o = finish(&a);
	tap_check(o.r < 0 && !o.died, "a negative size is refused");
	free(o.report);

	a = (struct archive){ 0 };
	h = header_of('0', "huge", 077777777777);
	header_add(&a, &h);
	o = finish(&a);
	tap_check(o.r < 0 && o.fault.code == FAULT_DATA_LOSS, "a size beyond the archive's end is refused");
	free(o.report);

	a = (struct archive){ 0 };
	h = header_of('x', "pax", 2 << 20);
	header_add(&a, &h);
	o = finish(&a);
	tap_check(o.r < 0 && o.fault.code == FAULT_INVALID_ARGUMENT,
		  "CVE-2023-25153, CVE-2026-47262: a pax header of 2 MiB is refused");
	free(o.report);

	a = (struct archive){ 0 };
	h = header_of('L', "long", 1 << 20);
	header_add(&a, &h);
	o = finish(&a);
	tap_check(o.r < 0 && o.fault.code == FAULT_INVALID_ARGUMENT, "a name of 1 MiB is refused");
	free(o.report);

	a = (struct archive){ 0 };
	char part[301];
	memset(part, 'p', 300);
	part[300] = '\0';
	h = header_of('L', "long", 300);
	header_add(&a, &h);
	payload_add(&a, part, 300);
	add(&a, '0', "x", NULL, "x");
	o = finish(&a);
	tap_check(o.r < 0 && !o.died, "a part of 300 bytes is refused");
	free(o.report);

	a = (struct archive){ 0 };
	add(&a, 'Z', "odd", NULL, "x");
	o = finish(&a);
	tap_check(o.r < 0 && o.fault.code == FAULT_UNIMPLEMENTED && strstr(o.fault.text, "odd"),
		  "an unknown type is refused by name");
	free(o.report);

	a = (struct archive){ 0 };
	add(&a, '0', "bell\a\x1b[2J\xff", NULL, "x");
	add(&a, '0', "bell\a\x1b[2J\xff/x", NULL, "x");
	o = finish(&a);
	tap_check(o.r < 0 && !strchr(o.fault.text, '\a') && !strchr(o.fault.text, '\x1b') &&
		      !strchr(o.fault.text, '\xff'),
		  "names are cleaned in messages");
	free(o.report);
}

/* 300 000 runs in a map, where a file may have 262 144. */
static void test_sparse_map(void) {
	struct archive a = { 0 };
	struct buffer records = { 0 }, map = { 0 };
	record(&records, "GNU.sparse.major", "1");
	record(&records, "GNU.sparse.minor", "0");
	record(&records, "GNU.sparse.realsize", "8192");
	add_pax(&a, (const char *)records.data, records.size);
	buffer_add(&map, "300000\n", 7);
	for (unsigned i = 0; i < 300000; i++)
		buffer_add(&map, "0\n0\n", 4);
	struct tar_header h = header_of('0', "sparse", map.size);
	header_add(&a, &h);
	payload_add(&a, map.data, map.size);
	struct outcome o = finish(&a);
	tap_check(o.r < 0 && !o.died && o.fault.code == FAULT_INVALID_ARGUMENT && strstr(o.fault.text, "runs"),
		  "CVE-2025-58183: a sparse file of 300000 runs is refused");
	free(o.report);
	buffer_deinit(&records);
	buffer_deinit(&map);
}

static void test_bombs(void) {
	char tar[128], file[128];
	snprintf(tar, sizeof(tar), "%s/bomb.tar", scratch);
	snprintf(file, sizeof(file), "%s/bomb.z", scratch);
	shell("cd %s && truncate -s 64M bomb && tar -cf bomb.tar bomb && zstd -qkc19 bomb.tar >bomb.z && rm bomb",
	      scratch);
	struct wanted w = { .diff_id = digest_of(tar), .decode = { .ratio = 1100, .ratio_from = 8 << 20 } };
	struct outcome o = unpack(file, &w);
	tap_check(o.r < 0 && o.fault.code == FAULT_RESOURCE_EXHAUSTED && strstr(o.fault.text, "bomb"),
		  "a decompression bomb is refused");
	free(o.report);
	w.decode = (struct decode_limits){ .size = 1 << 20 };
	o = unpack(file, &w);
	tap_check(o.r < 0 && o.fault.code == FAULT_RESOURCE_EXHAUSTED, "the size of all has a limit");
	free(o.report);
	w.decode = (struct decode_limits){ 0 };
	o = unpack(file, &w);
	tap_check(o.r == 0, "the same without limits");
	free(o.report);
	shell("rm -rf %s/out", scratch);

	struct archive a = { 0 };
	for (int i = 0; i < 20; i++)
		add(&a, '0', "f", NULL, NULL);
	o = finish(&a);
	tap_check(o.r == 0 && o.result.extract.inodes >= 20, "many entries");
	free(o.report);
	snprintf(file, sizeof(file), "%s/hostile.tar", scratch);
	w = (struct wanted){ .diff_id = digest_of(file), .extract = { .entries = 19 } };
	o = unpack(file, &w);
	tap_check(o.r < 0 && o.fault.code == FAULT_RESOURCE_EXHAUSTED, "their number has a limit");
	free(o.report);
}

/* A file system of 1 MiB in the place of the target. */
static void test_full_disk(void) {
	char file[128], out[128];
	snprintf(file, sizeof(file), "%s/full.tar", scratch);
	snprintf(out, sizeof(out), "%s/full", scratch);
	shell("cd %s && head -c 3000000 /dev/urandom >large && tar -cf full.tar large", scratch);
	if (mkdir(out, 0755) < 0 || mount("tmpfs", out, "tmpfs", 0, "size=1m") < 0) {
		tap_skip("a full disk", "no tmpfs to be had");
		return;
	}
	struct wanted w = { .diff_id = digest_of(file) };
	struct outcome o = unpack_to(out, file, &w);
	tap_check(o.r < 0 && o.fault.code == FAULT_RESOURCE_EXHAUSTED && strstr(o.fault.text, "\"large\"") &&
		      strstr(o.fault.text, "No space left"),
		  "a full disk is named, with the file that didn't fit");
	free(o.report);
	umount2(out, MNT_DETACH);
}

/* Deeper than any path: each entry goes one link further down. */
static void test_depth(void) {
	struct archive a = { 0 };
	char name[512] = "", part[64];
	for (int i = 0; i < 60; i++) {
		snprintf(part, sizeof(part), "%sd%d", i ? "/" : "", i);
		strncat(name, part, sizeof(name) - strlen(name) - 1);
	}
	struct buffer b = { 0 };
	record(&b, "path", name);
	add_pax(&a, (char *)b.data, b.size);
	buffer_deinit(&b);
	add(&a, '0', "x", NULL, "deep");
	add(&a, '0', "d0", NULL, "gone");
	struct outcome o = finish(&a);
	tap_check(o.r == 0 && out_reads("d0", "gone"), "a deep tree is replaced by a file");
	free(o.report);
}

int main(void) {
	if (geteuid() != 0) {
		tap_skip("unpacking", "needs root");
		return tap_done();
	}
	/* What the tests leave mounted by mistake goes with this namespace. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		tap_skip("unpacking", "no mount namespace to be had");
		return tap_done();
	}
	umask(022);
	snprintf(scratch, sizeof(scratch), "/var/tmp/bulkhead-unpack-%d", getpid());
	if (mkdir(scratch, 0755) < 0)
		abort();
	tap_check(source_make(), "a tree with everything");
	test_formats();
	test_xattrs();
	test_compressions();
	test_escapes();
	test_replacing();
	test_whiteouts();
	test_pax();
	test_unfinished();
	test_sizes();
	test_sparse_map();
	test_bombs();
	test_depth();
	test_full_disk();
	shell("rm -rf %s", scratch);
	return tap_done();
}
