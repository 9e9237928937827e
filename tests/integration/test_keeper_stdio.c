/*
 * Streams that lead to fifos and files, with clients that come late, stay away,
 * go, or never close their end.
 */
#include "tests/integration/bare_lab.h"
#include "tests/unit/tap.h"

#include "base/clock.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NODE BULKHEAD__NAMESPACE_MODE__NODE

struct scene {
	struct lab *lab;
	struct lab_pod *pod;
	char *in, *out, *err;
};

static void plan(const struct scene *s, struct bare *b, const char *script) {
	*b = (struct bare)BARE_INIT;
	b->id = "c";
	b->root = bare_root(s->lab);
	b->script = script;
	b->stdio.stdin = s->in;
	b->stdio.stdout = s->out;
	b->stdio.stderr = s->err;
}

static pid_t run(const struct scene *s, const struct bare *b) {
	struct lab_answer a;
	pid_t pid = bare_run(s->pod, b, &a);
	tap_check(pid > 0, "a container runs: %s", a.text);
	lab_answer_deinit(&a);
	return pid;
}

static int reader(const char *path) {
	return open(path, O_RDONLY | O_NONBLOCK);
}

static bool gone(void *pid) {
	return kill(*(pid_t *)pid, 0) < 0;
}

static int close_stdin(struct lab_pod *p) {
	Bulkhead__ProcessKey m = BULKHEAD__PROCESS_KEY__INIT;
	struct lab_answer a;
	m.container_id = (char *)"c";
	LAB_CALL(p, keeper_process_close_stdin, &m, NULL, 0, &a);
	int code = a.code;
	lab_answer_deinit(&a);
	return code;
}

/* --- output --- */

static void test_output(const struct scene *s) {
	struct bare b;
	plan(s, &b, "echo out; echo err >&2; head -c 200000 /dev/zero | tr '\\0' x; echo; echo done");
	int out = reader(s->out), err = reader(s->err);
	run(s, &b);
	const char *text = fifo_read(s->lab, out, NULL, 10);
	tap_check(strncmp(text, "out\nxxx", 7) == 0 && strlen(text) == 200010 && fifo_ended(),
		  "all of its output comes, and the end (%zu bytes)", strlen(text));
	text = fifo_read(s->lab, err, NULL, 5);
	tap_check(strcmp(text, "err\n") == 0 && fifo_ended(), "so does what it says beside");
	tap_check(bare_delete(s->pod, "c") == 0, "it ended well");
	close(out);
	close(err);
}

/* The fifo fills, the container waits; then somebody comes, goes, comes back. */
static void test_late_reader(const struct scene *s) {
	struct bare b;
	plan(s, &b, "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done; echo last");
	pid_t pid = run(s, &b);
	lab_pause(s->lab, 0.5);
	tap_check(kill(pid, 0) == 0, "without a reader it waits");
	int out = reader(s->out);
	const char *text = fifo_read(s->lab, out, "line 1000\n", 10);
	tap_check(strncmp(text, "line 0\nline 1\n", 14) == 0 && strstr(text, "line 1000\n"),
		  "a late reader gets it from the beginning");
	close(out);
	lab_pause(s->lab, 0.2);
	tap_check(kill(pid, 0) == 0, "which goes and isn't missed");
	out = reader(s->out);
	text = fifo_read(s->lab, out, NULL, 20);
	tap_check(strlen(text) > 5 && strcmp(text + strlen(text) - 5, "last\n") == 0 && fifo_ended(),
		  "and comes back for the rest");
	tap_check(bare_delete(s->pod, "c") == 0, "nothing of it was an error");
	close(out);
}

static void test_no_reader(const struct scene *s) {
	struct bare b;
	plan(s, &b, "yes; true");
	pid_t pid = run(s, &b);
	lab_pause(s->lab, 0.3);
	unsigned before = s->pod->n_exits;
	kill(pid, SIGKILL);
	lab_wait(s->lab, gone, &pid, 5);
	lab_pause(s->lab, 0.1);
	tap_check(s->pod->n_exits == before + 1, "its end is told though nobody has read a word");
	tap_check(bare_delete(s->pod, "c") == 137, "and it can be deleted");
	/* The ends that the keeper holds go: whoever opens it now sees nothing. */
	lab_pause(s->lab, 2.5);
	int out = reader(s->out);
	fifo_read(s->lab, out, NULL, 0.3);
	tap_check(fifo_ended(), "then the fifo is let go");
	close(out);
}

/* A process that is through before its client has come to read. */
static void test_reader_after_end(const struct scene *s) {
	struct bare b;
	plan(s, &b, "echo early; echo too >&2");
	unsigned before = s->pod->n_exits;
	run(s, &b);
	for (int i = 0; i < 100 && s->pod->n_exits == before; i++)
		lab_pause(s->lab, 0.02);
	tap_check(s->pod->n_exits == before + 1 && bare_delete(s->pod, "c") == 0, "it ended unread");
	lab_pause(s->lab, 0.1);
	int out = reader(s->out), err = reader(s->err);
	tap_check(strcmp(fifo_read(s->lab, out, NULL, 5), "early\n") == 0 && fifo_ended(),
		  "who comes after the end still gets the output");
	tap_check(strcmp(fifo_read(s->lab, err, NULL, 5), "too\n") == 0 && fifo_ended(), "and what was said beside");
	close(out);
	close(err);
}

static void test_slow_reader(const struct scene *s) {
	struct bare b;
	plan(s, &b, "head -c 150000 /dev/zero | tr '\\0' y; echo; sleep 0.2; kill -9 $$");
	int out = reader(s->out);
	pid_t pid = run(s, &b);
	/* 64 KiB are in the fifo, 64 in the pipe: the rest waits with the writer. */
	char *data = malloc(90000);
	ssize_t total = 0, n;
	while (total < 90000 && (n = read(out, data, 90000 - (size_t)total)) != 0)
		if (n > 0)
			total += n;
		else
			lab_pause(s->lab, 0.01);
	free(data);
	lab_wait(s->lab, gone, &pid, 5);
	lab_pause(s->lab, 0.5);
	const char *text = fifo_read(s->lab, out, NULL, 10);
	tap_check(total == 90000 && strlen(text) == 60001 && fifo_ended(),
		  "a slow reader gets what was written before the end (%zu)", strlen(text));
	bare_delete(s->pod, "c");
	close(out);
}

static void test_background(const struct scene *s) {
	struct bare b;
	plan(s, &b, "setsid sleep 1000 & echo away; exit 5");
	b.pid = NODE;
	int out = reader(s->out);
	int64_t begin = clock_mono();
	run(s, &b);
	const char *text = fifo_read(s->lab, out, NULL, 10);
	tap_check(strcmp(text, "away\n") == 0 && fifo_ended() && clock_mono() - begin < NS_PER_SEC,
		  "the end comes though a child still holds the pipe (%.2f s)", (double)(clock_mono() - begin) / 1e9);
	tap_check(bare_delete(s->pod, "c") == 5, "with its exit code");
	close(out);
}

/* --- input --- */

static void test_input(const struct scene *s) {
	struct bare b;
	plan(s, &b, "cat; echo over");
	int out = reader(s->out);
	run(s, &b);
	lab_pause(s->lab, 0.2);
	int in = open(s->in, O_WRONLY | O_NONBLOCK);
	tap_check(in >= 0 && write(in, "first\n", 6) == 6, "a client comes late to write");
	tap_check(strcmp(fifo_read(s->lab, out, "first\n", 5), "first\n") == 0, "it arrives");
	tap_check(write(in, "third\n", 6) == 6 && close_stdin(s->pod) == 0, "stdin is closed with some of it unread");
	lab_pause(s->lab, 0.1);
	tap_check(write(in, "fourth\n", 7) == 7, "the client's own end still counts");
	close(in);
	tap_check(strcmp(fifo_read(s->lab, out, NULL, 5), "third\nfourth\nover\n") == 0 && fifo_ended(),
		  "then the process sees the end");
	tap_check(close_stdin(s->pod) == FAULT_NOT_FOUND, "after the process's end there is nothing to close");
	tap_check(bare_delete(s->pod, "c") == 0, "it ends well");
	close(out);
}

static void test_much_input(const struct scene *s) {
	struct bare b;
	plan(s, &b, "sleep 0.3; wc -c");
	int out = reader(s->out);
	run(s, &b);
	int in = open(s->in, O_WRONLY | O_NONBLOCK);
	static char data[50000];
	size_t total = 0;
	for (int64_t end = clock_mono() + 10 * NS_PER_SEC; total < 1000000 && clock_mono() < end;) {
		ssize_t n = write(in, data, sizeof(data));
		if (n > 0)
			total += (size_t)n;
		else
			lab_pause(s->lab, 0.01);
	}
	close(in);
	close_stdin(s->pod);
	char wanted[32];
	snprintf(wanted, sizeof(wanted), "%zu\n", total);
	tap_check(total >= 1000000 && strcmp(fifo_read(s->lab, out, NULL, 10), wanted) == 0,
		  "more than the pipe holds arrives whole");
	bare_delete(s->pod, "c");
	close(out);
}

/* Its writer has gone when its end is told, with all of it still unread. */
static void test_input_left_unread(const struct scene *s) {
	struct bare b;
	plan(s, &b, "sleep 0.3; wc -c");
	int out = reader(s->out);
	run(s, &b);
	static char data[200000];
	int in = open(s->in, O_WRONLY | O_NONBLOCK);
	size_t total = 0;
	for (int i = 0; i < 20; i++) {
		ssize_t n = write(in, data, sizeof(data));
		total += n > 0 ? (size_t)n : 0;
		lab_pause(s->lab, 0.005);
	}
	close(in);
	close_stdin(s->pod);
	char wanted[32];
	snprintf(wanted, sizeof(wanted), "%zu\n", total);
	tap_check(total > 65536 && strcmp(fifo_read(s->lab, out, NULL, 10), wanted) == 0,
		  "what a writer that has gone left unread arrives whole");
	bare_delete(s->pod, "c");
	close(out);
}

static void test_terminal(const struct scene *s) {
	struct bare b;
	plan(s, &b, "read x; echo got $x; [ -t 0 ] && echo tty");
	b.terminal = true;
	b.stdio.stderr = (char *)"";
	int out = reader(s->out), in;
	run(s, &b);
	in = open(s->in, O_WRONLY | O_NONBLOCK);
	tap_check(write(in, "typed\n", 6) == 6, "a terminal is typed at");
	const char *text = fifo_read(s->lab, out, NULL, 5);
	tap_check(strstr(text, "got typed\r\n") && strstr(text, "tty\r\n") && fifo_ended(), "it answers: %s", text);
	bare_delete(s->pod, "c");
	close(in);
	close(out);
}

/* --- other names --- */

static void test_file(const struct scene *s) {
	struct bare b;
	char uri[200], path[200];
	snprintf(path, sizeof(path), "%s/logs/deep/one.log", s->lab->dir);
	snprintf(uri, sizeof(uri), "file://%s", path);
	plan(s, &b, "echo out; echo err >&2");
	b.stdio.stdin = (char *)"";
	b.stdio.stdout = b.stdio.stderr = uri;
	for (int i = 0; i < 2; i++) {
		unsigned before = s->pod->n_exits;
		run(s, &b);
		for (int k = 0; k < 100 && s->pod->n_exits == before; k++)
			lab_pause(s->lab, 0.02);
		bare_delete(s->pod, "c");
	}
	const char *text = lab_file("%s", path);
	tap_check(strlen(text) == 16 && strstr(text, "out\n") && strstr(text, "err\n"), "a file is appended to: %s",
		  text);
	struct stat st;
	tap_check(stat(path, &st) == 0 && S_ISREG(st.st_mode), "its folder was made");
}

static void test_nowhere(const struct scene *s) {
	struct bare b;
	plan(s, &b, "read x && exit 9; echo gone; [ \"$(readlink /proc/$$/fd/1)\" = /dev/null ] || exit 4");
	b.stdio = (Bulkhead__Stdio)BULKHEAD__STDIO__INIT;
	unsigned before = s->pod->n_exits;
	run(s, &b);
	for (int k = 0; k < 100 && s->pod->n_exits == before; k++)
		lab_pause(s->lab, 0.02);
	tap_check(bare_delete(s->pod, "c") == 0, "without names all three are /dev/null");
}

static void refused(const struct scene *s, const char *in, const char *out, int code, const char *why) {
	struct bare b;
	struct lab_answer a;
	plan(s, &b, "true");
	b.stdio.stdin = (char *)in;
	b.stdio.stdout = (char *)out;
	pid_t pid = bare_run(s->pod, &b, &a);
	tap_check(pid < 0 && a.code == code && strstr(a.text, why), "%s is refused: %d %s", in[0] ? in : out, a.code,
		  a.text);
	lab_answer_deinit(&a);
}

static void test_refused(const struct scene *s) {
	char target[200];
	snprintf(target, sizeof(target), "%s/link", s->lab->dir);
	tap_check(symlink(s->out, target) == 0, "a symbolic link to a fifo");
	refused(s, "", target, FAULT_INVALID_ARGUMENT, "for stdout is not a fifo");
	refused(s, target, "", FAULT_INVALID_ARGUMENT, "for stdin is not a fifo");
	unlink(target);
	refused(s, "", "/etc/passwd", FAULT_INVALID_ARGUMENT, "\"/etc/passwd\" for stdout is not a fifo");
	refused(s, "", "/nothing/there", FAULT_NOT_FOUND, "open \"/nothing/there\" for stdout");
	refused(s, "", "relative", FAULT_INVALID_ARGUMENT, "neither an absolute path");
	refused(s, "", "http://host/x", FAULT_INVALID_ARGUMENT, "neither an absolute path");
	refused(s, "", "file:///dev/null", FAULT_INVALID_ARGUMENT, "is not a regular file");
	refused(s, "file:///etc/passwd", "", FAULT_INVALID_ARGUMENT, "stdin can't come from a file");
	refused(s, "", "binary:///bin/sh", FAULT_PERMISSION_DENIED, "no program \"/bin/sh\" may take");
}

static void logger_write(const struct scene *s, const char *path) {
	FILE *f = fopen(path, "w");
	fprintf(f,
		"#!/bin/sh\nlog=%s/logs/logged\necho \"$CONTAINER_NAMESPACE/$CONTAINER_ID $*\" >$log\n"
		"readlink /proc/self/ns/net >>$log\nexec 5>&-\ncat <&3 >>$log\ncat <&4 >>$log\necho end >>$log\n",
		s->lab->dir);
	fclose(f);
	chmod(path, 0755);
}

static void test_logger(const struct scene *s) {
	struct bare b;
	char path[100], network[64] = "", wanted[256];
	snprintf(path, sizeof(path), "%s/logger", s->lab->dir);
	logger_write(s, path);
	plan(s, &b, "echo out; echo err >&2");
	b.stdio.stdin = (char *)"";
	b.stdio.stdout = b.stdio.stderr = (char *)"binary:///logger?--level=high&-q";
	run(s, &b);
	for (int i = 0; i < 100 && !strstr(lab_file("%s/logs/logged", s->lab->dir), "end\n"); i++)
		lab_pause(s->lab, 0.02);
	if (readlink("/proc/self/ns/net", network, sizeof(network) - 1) < 0)
		perror("readlink");
	snprintf(wanted, sizeof(wanted), "scene/c --level high -q\n%s\nout\nerr\nend\n", network);
	const char *text = lab_file("%s/logs/logged", s->lab->dir);
	tap_check(strcmp(text, wanted) == 0, "a program of the configuration gets it all, and the end: %s", text);
	bare_delete(s->pod, "c");
	unlink(path);
	refused(s, "", "binary:///logger", FAULT_INTERNAL, "can't be executed");
	refused(s, "", "binary:///missing", FAULT_INTERNAL, "\"/nothing/there\" can't be executed");
	refused(s, "binary:///logger", "", FAULT_INVALID_ARGUMENT, "a program takes stdout");
}

/* --- a keeper is killed --- */

static void test_adopted(const struct scene *s) {
	struct bare b;
	struct lab_answer a;
	plan(s, &b, "read a; echo $a; read b; echo $b; cat; echo over");
	int out = reader(s->out);
	tap_check(lab_pod_take_vault(s->pod), "the vault is taken");
	run(s, &b);
	int in = open(s->in, O_WRONLY | O_NONBLOCK);
	tap_check(write(in, "one\n", 4) == 4 && strcmp(fifo_read(s->lab, out, "one\n", 5), "one\n") == 0,
		  "a container answers");
	tap_check(lab_pod_kill(s->pod), "its keeper is killed");
	fifo_read(s->lab, out, NULL, 0.2);
	tap_check(!fifo_ended(), "the reader doesn't take that for the end");
	tap_check(write(in, "two\n", 4) == 4 && lab_pod_adopt(s->pod, &a), "a successor adopts it");
	lab_answer_deinit(&a);
	tap_check(strcmp(fifo_read(s->lab, out, "two\n", 5), "two\n") == 0, "what was typed meanwhile arrives");
	tap_check(lab_pod_take_vault(s->pod) && close_stdin(s->pod) == 0 && lab_pod_kill(s->pod) &&
		      lab_pod_adopt(s->pod, &a),
		  "stdin is closed, the keeper killed again");
	lab_answer_deinit(&a);
	tap_check(write(in, "three\n", 6) == 6, "the client goes on");
	close(in);
	tap_check(strcmp(fifo_read(s->lab, out, NULL, 5), "three\nover\n") == 0 && fifo_ended(), "and ends it");
	tap_check(bare_delete(s->pod, "c") >= 0, "it is deleted");
	close(out);
}

int main(void) {
	struct scene s = { .lab = lab_new() };
	struct lab_answer a;
	if (!s.lab) {
		tap_skip("streams of containers", "needs root and a built keeper");
		return tap_done();
	}
	s.pod = lab_pod_new(s.lab);
	Bulkhead__SandboxStartRequest m = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	m.namespace_ = (char *)"scene";
	tap_check(bare_setup(s.pod, &m, &a), "a bare pod");
	lab_answer_deinit(&a);
	s.in = fifo_new(s.lab, "in");
	s.out = fifo_new(s.lab, "out");
	s.err = fifo_new(s.lab, "err");
	static void (*const tests[])(const struct scene *) = {
		test_output,	 test_late_reader, test_no_reader,  test_reader_after_end,  test_slow_reader,
		test_background, test_input,	   test_much_input, test_input_left_unread, test_terminal,
		test_file,	 test_nowhere,	   test_logger,	    test_refused,	    test_adopted
	};
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
		tests[i](&s);
	tap_check(lab_pod_teardown(s.pod) && lab_pod_free(s.pod), "the pod goes");
	unlink(s.in);
	unlink(s.out);
	unlink(s.err);
	free(s.in);
	free(s.out);
	free(s.err);
	bare_root_remove(s.lab);
	lab_free(s.lab);
	return tap_done();
}
