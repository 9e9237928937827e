/* The container log: format, cutting, unfinished lines, successors, a full
 * disk, rotation. */
#include "tests/unit/tap.h"
#include "workers/keeper/log.h"

#include "base/clock.h"
#include "base/fd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/mount.h>
#include <unistd.h>

#define LINE_MAX_TEST 100

static char folder[] = "/tmp/keeper-log-XXXXXX", path[64];
static struct loop *loop;
static char content[1 << 20];

static void turn(void) {
	for (int i = 0; i < 5; i++)
		loop_turn(loop, NS_PER_MS);
}

/* The log without its times, "|" for the ends of lines. */
static const char *seen(const char *file) {
	static char text[1 << 20];
	CLEANUP_FD int fd = open(file, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, content, sizeof(content) - 1);
	char *to = text;
	content[MAX(n, 0)] = '\0';
	for (char *line = content; *line;) {
		size_t size = strcspn(line, "\n");
		/* 2026-01-02T03:04:05.123456789Z */
		bool good = size > 31 && line[10] == 'T' && line[19] == '.' && line[29] == 'Z' && line[30] == ' ';
		to += sprintf(to, "%s%.*s|", good ? "" : "BAD ", good ? (int)size - 31 : (int)size,
			      good ? line + 31 : line);
		line += size + (line[size] == '\n');
	}
	*to = '\0';
	return text;
}

static struct log *fresh(int tail, int write_ends[2]) {
	struct fault fault = { 0 };
	struct log *l = NULL;
	if (tail < 0)
		unlink(path);
	if (log_new(loop, path, LINE_MAX_TEST, tail, &l, &fault) < 0) {
		printf("# %s\n", fault.text);
		abort();
	}
	for (int i = 0; i < 2; i++) {
		int ends[2];
		if (pipe2(ends, O_CLOEXEC) < 0 || log_attach(l, (enum log_stream_kind)i, ends[0]) < 0)
			abort();
		write_ends[i] = ends[1];
	}
	return l;
}

static void say(int fd, const char *text) {
	if (fd_write_all(fd, text, strlen(text)) < 0)
		abort();
	turn();
}

static void done(struct log *l, int ends[2]) {
	for (int i = 0; i < 2; i++)
		fd_replace(&ends[i], -1);
	turn();
	log_free(l);
}

static void test_lines(void) {
	int w[2];
	struct log *l = fresh(-1, w);
	say(w[0], "one\ntwo\n\nthr");
	tap_check(strcmp(seen(path), "stdout F one|stdout F two|stdout F |") == 0, "whole lines are written: %s",
		  seen(path));
	say(w[1], "oops\n");
	say(w[0], "ee\n");
	tap_check(strstr(seen(path), "stderr F oops|stdout F three|"), "a line in two pieces is one line");
	say(w[0], "end");
	done(l, w);
	tap_check(strstr(seen(path), "stdout F three|stdout F end|"), "the end of the stream ends a line");
}

static void test_long(void) {
	int w[2];
	char text[351];
	struct log *l = fresh(-1, w);
	memset(text, 'x', sizeof(text));
	/* exactly the limit; one more; much more */
	text[100] = '\n';
	text[202] = '\n';
	text[349] = '\n';
	text[350] = '\0';
	say(w[0], text);
	unsigned p = 0, f = 0;
	for (const char *s = seen(path); (s = strstr(s, "stdout ")); s += 7) {
		p += s[7] == 'P';
		f += s[7] == 'F';
	}
	tap_check(f == 3 && p == 2, "lines are cut at the limit and not before (%u F, %u P)", f, p);
	char chunk[51];
	memset(chunk, 'y', 50);
	chunk[50] = '\0';
	unlink(path);
	struct fault fault;
	log_reopen(l, &fault);
	for (int i = 0; i < 5; i++)
		say(w[0], chunk);
	say(w[0], "\n");
	p = f = 0;
	size_t ys = 0;
	for (const char *s = seen(path); *s; s++)
		ys += *s == 'y';
	for (const char *s = seen(path); (s = strstr(s, "stdout ")); s += 7) {
		p += s[7] == 'P';
		f += s[7] == 'F';
	}
	tap_check(p == 2 && f == 1 && ys == 250, "also when they come in pieces");
	done(l, w);
}

/* What a killed keeper leaves is what is in its memory now. */
static void test_successor(void) {
	int w[2];
	struct log *l = fresh(-1, w), *next;
	struct fault fault = { 0 };
	say(w[0], "first\nhalf a ");
	int tail = fcntl(log_tail(l), F_DUPFD_CLOEXEC, 0);
	int stream = fcntl(log_fd(l, LOG_STDOUT), F_DUPFD_CLOEXEC, 0);
	/* The dead one's copy must not speak any more; its line is in the tail. */
	fd_replace(&w[1], -1);
	turn();
	tap_check(log_new(loop, path, LINE_MAX_TEST, tail, &next, &fault) == 0 &&
		      log_attach(next, LOG_STDOUT, stream) == 0,
		  "a successor takes over");
	/* Freeing the first would end its line: it just stops being asked. */
	log_abandon(l);
	say(w[0], "line\n");
	tap_check(strcmp(seen(path), "stdout F first|stdout F half a line|") == 0, "in the middle of a line: %s",
		  seen(path));
	fd_replace(&w[0], -1);
	turn();
	log_free(next);
}

static void test_drain(void) {
	int w[2];
	char big[40000];
	struct log *l = fresh(-1, w);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = i % 80 == 79 ? '\n' : 'z';
	if (fd_write_all(w[0], big, sizeof(big)) < 0)
		abort();
	log_drain(l);
	unsigned lines = 0;
	for (const char *s = seen(path); *s; s++)
		lines += *s == '|';
	tap_check(lines == 500, "all that is there is read at once when asked (%u)", lines);
	done(l, w);
}

static void test_full(void) {
	char small[80], file[128];
	struct fault fault = { 0 };
	struct log *l;
	int ends[2];
	snprintf(small, sizeof(small), "%s/small", folder);
	mkdir(small, 0755);
	if (mount("tmpfs", small, "tmpfs", 0, "size=64k") < 0) {
		tap_skip("a full disk", "needs root");
		return;
	}
	snprintf(file, sizeof(file), "%s/x.log", small);
	if (log_new(loop, file, LINE_MAX_TEST, -1, &l, &fault) < 0 || pipe2(ends, O_CLOEXEC) < 0 ||
	    log_attach(l, LOG_STDOUT, ends[0]) < 0)
		abort();
	char many[50 * 48 + 1];
	for (int i = 0; i < 50; i++)
		strcpy(many + i * 48, "a line that takes room on a disk that has none.\n");
	for (int i = 0; i < 60; i++)
		say(ends[1], many);
	tap_check(log_lost(l) > 100, "on a full disk lines are lost and counted (%llu)",
		  (unsigned long long)log_lost(l));
	CLEANUP_FD int fd = open(file, O_WRONLY);
	struct stat st;
	fstat(fd, &st);
	tap_check(ftruncate(fd, 4096) == 0, "room again");
	say(ends[1], "after\n");
	tap_check(log_lost(l) == 0, "and it goes on");
	const char *text = seen(file);
	tap_check(strstr(text, "|stdout F after|") != NULL, "with a line of its own");
	fd_replace(&fd, -1);
	close(ends[1]);
	turn();
	log_free(l);
	umount2(small, MNT_DETACH);
}

static void test_files(void) {
	struct fault fault = { 0 };
	struct log *l;
	char other[128], deep[128];
	struct stat st;
	snprintf(other, sizeof(other), "%s/target", folder);
	unlink(path);
	tap_check(symlink(other, path) == 0 && log_new(loop, path, 100, -1, &l, &fault) < 0 && access(other, F_OK) < 0,
		  "a link isn't followed: %s", fault.text);
	unlink(path);
	tap_check(mkfifo(path, 0600) == 0 && log_new(loop, path, 100, -1, &l, &fault) < 0, "a pipe isn't opened: %s",
		  fault.text);
	unlink(path);
	tap_check(log_new(loop, "relative/x.log", 100, -1, &l, &fault) < 0 && fault.code == FAULT_INVALID_ARGUMENT,
		  "%s", fault.text);
	tap_check(log_new(loop, "/tmp/..", 100, -1, &l, &fault) < 0, "%s", fault.text);
	snprintf(deep, sizeof(deep), "%s/a/b/c.log", folder);
	tap_check(log_new(loop, deep, 100, -1, &l, &fault) == 0 && stat(deep, &st) == 0 && (st.st_mode & 0777) == 0640,
		  "folders are made");
	log_free(l);
}

int main(void) {
	char command[128];
	umask(0022);
	if (!mkdtemp(folder) || loop_new(NULL, &loop) < 0 || loop_enable(loop, NULL, 0) < 0)
		return 1;
	snprintf(path, sizeof(path), "%s/x.log", folder);
	test_lines();
	test_long();
	test_successor();
	test_drain();
	test_full();
	test_files();
	loop_free(loop);
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	tap_check(system(command) == 0, "cleared up");
	return tap_done();
}
