/*
 * Processes beside a container's first: with a specification, streams and an
 * end of their own; freezing and listing; and all of it through a keeper's death.
 */
#include "tests/integration/bare_lab.h"
#include "tests/unit/tap.h"

#include "base/clock.h"
#include "base/fd.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct scene {
	struct lab *lab;
	struct lab_pod *pod;
	char *in, *out;
};

/* --- calls --- */

static pid_t start(const struct scene *s, const char *name, const char *script, void (*tweak)(Grpc__Process *),
		   struct lab_answer *a) {
	const char *args[] = { "/bin/sh", "-c", script, NULL };
	Bulkhead__ProcessStartRequest m = BULKHEAD__PROCESS_START_REQUEST__INIT;
	Bulkhead__Stdio stdio = BULKHEAD__STDIO__INIT;
	Grpc__Spec *spec = lab_spec(args);
	if (tweak)
		tweak(spec->process);
	stdio.stdin = s->in;
	stdio.stdout = s->out;
	stdio.width = 81;
	stdio.height = 43;
	m.container_id = (char *)"c";
	m.exec_id = (char *)name;
	m.process = spec->process;
	m.stdio = &stdio;
	LAB_CALL(s->pod, keeper_process_start, &m, NULL, 0, a);
	lab_spec_free(spec);
	return a->reply ? ((Bulkhead__TaskCreateReply *)a->reply)->pid : -1;
}

static int process_kill(const struct scene *s, const char *name, uint32_t sig, bool all, char *ret_text) {
	Bulkhead__ProcessKillRequest m = BULKHEAD__PROCESS_KILL_REQUEST__INIT;
	Bulkhead__ProcessKey key = BULKHEAD__PROCESS_KEY__INIT;
	struct lab_answer a;
	key.container_id = (char *)"c";
	key.exec_id = (char *)name;
	m.process = &key;
	m.signal = sig;
	m.all = all;
	LAB_CALL(s->pod, keeper_process_kill, &m, NULL, 0, &a);
	int code = a.code;
	if (ret_text)
		strcpy(ret_text, a.text);
	lab_answer_deinit(&a);
	return code;
}

/* Its exit code, or minus the fault's. */
static int process_delete(const struct scene *s, const char *name) {
	Bulkhead__ProcessKey m = BULKHEAD__PROCESS_KEY__INIT;
	struct lab_answer a;
	m.container_id = (char *)"c";
	m.exec_id = (char *)name;
	LAB_CALL(s->pod, keeper_process_delete, &m, NULL, 0, &a);
	int code = a.reply ? (int)((Bulkhead__TaskExit *)a.reply)->exit_code : -a.code;
	lab_answer_deinit(&a);
	return code;
}

static int resize(const struct scene *s, const char *name, uint32_t width, uint32_t height) {
	Bulkhead__ProcessResizeRequest m = BULKHEAD__PROCESS_RESIZE_REQUEST__INIT;
	Bulkhead__ProcessKey key = BULKHEAD__PROCESS_KEY__INIT;
	struct lab_answer a;
	key.container_id = (char *)"c";
	key.exec_id = (char *)name;
	m.process = &key;
	m.width = width;
	m.height = height;
	LAB_CALL(s->pod, keeper_process_resize, &m, NULL, 0, &a);
	int code = a.code;
	lab_answer_deinit(&a);
	return code;
}

static int freeze(const struct scene *s, bool frozen) {
	Bulkhead__TaskFreezeRequest m = BULKHEAD__TASK_FREEZE_REQUEST__INIT;
	struct lab_answer a;
	m.container_id = (char *)"c";
	m.frozen = frozen;
	LAB_CALL(s->pod, container_freeze, &m, NULL, 0, &a);
	int code = a.code;
	if (code)
		printf("# freeze: %s\n", a.text);
	lab_answer_deinit(&a);
	return code;
}

/* What the keeper says of the container; the answer stays in *a. */
static Bulkhead__TaskInfo *info(const struct scene *s, struct lab_answer *a) {
	Bulkhead__Empty m = BULKHEAD__EMPTY__INIT;
	LAB_CALL(s->pod, keeper_state, &m, NULL, 0, a);
	Bulkhead__SandboxInfo *i = a->reply ? ((Bulkhead__KeeperStateReply *)a->reply)->info : NULL;
	return i && i->n_tasks == 1 ? i->tasks[0] : NULL;
}

static const struct lab_exit *exit_of(const struct scene *s, const char *name) {
	for (int i = 0; i < 250; i++) {
		for (unsigned k = 0; k < s->pod->n_exits; k++)
			if (strcmp(s->pod->exits[k].exec, name) == 0)
				return &s->pod->exits[k];
		lab_pause(s->lab, 0.02);
	}
	return NULL;
}

static pid_t container_start(const struct scene *s, const char *script) {
	struct bare b = BARE_INIT;
	struct lab_answer a;
	b.id = "c";
	b.root = bare_root(s->lab);
	b.script = script;
	s->pod->n_exits = 0;
	pid_t pid = bare_run(s->pod, &b, &a);
	tap_check(pid > 0, "a container runs: %s", a.text);
	lab_answer_deinit(&a);
	return pid;
}

/* --- tests --- */

static void as_web(Grpc__Process *p) {
	p->user->uid = 1000;
	p->user->gid = 1001;
	p->nonewprivileges = true;
	free(p->cwd);
	p->cwd = strdup("/data");
	lab_strings(&p->n_env, &p->env, "TASTE=sour");
}

static void test_run(const struct scene *s) {
	struct lab_answer a;
	container_start(s, "sleep 1000");
	int out = open(s->out, O_RDONLY | O_NONBLOCK);
	pid_t pid =
	    start(s, "own", "id -u; id -g; pwd; echo $TASTE; grep NoNewPrivs /proc/self/status; exit 7", as_web, &a);
	tap_check(pid > 0, "a process starts: %s", a.text);
	lab_answer_deinit(&a);
	const char *text = fifo_read(s->lab, out, NULL, 10);
	tap_check(strcmp(text, "1000\n1001\n/data\nsour\nNoNewPrivs:\t1\n") == 0 && fifo_ended(),
		  "as its own specification says: %s", text);
	const struct lab_exit *e = exit_of(s, "own");
	tap_check(e && e->code == 7, "its end is told by its name");
	char why[1100];
	tap_check(process_kill(s, "own", SIGTERM, false, why) == FAULT_NOT_FOUND &&
		      strncmp(why, "process already finished", 24) == 0,
		  "one that has ended can't be killed: %s", why);
	tap_check(start(s, "own", "true", NULL, &a) < 0 && a.code == FAULT_ALREADY_EXISTS, "its name is taken: %s",
		  a.text);
	lab_answer_deinit(&a);
	tap_check(process_delete(s, "own") == 7 && process_delete(s, "own") == -FAULT_NOT_FOUND,
		  "until it is deleted, which says how it ended");
	tap_check(start(s, "own", "true", NULL, &a) > 0, "then it is free");
	lab_answer_deinit(&a);
	exit_of(s, "own");
	lab_pause(s->lab, 0.1);
	process_delete(s, "own");
	close(out);
}

static void nothing(Grpc__Process *p) {
	free(p->args[0]);
	p->args[0] = strdup("/no/such/program");
}

static void test_errors(const struct scene *s) {
	struct lab_answer a;
	tap_check(start(s, "bad", "true", nothing, &a) < 0 && strstr(a.text, "exec \"/no/such/program\""),
		  "what can't be executed is the start's answer: %d %s", a.code, a.text);
	lab_answer_deinit(&a);
	tap_check(start(s, "bad", "sleep 1000", NULL, &a) > 0, "and leaves its name free: %s", a.text);
	lab_answer_deinit(&a);
	tap_check(process_delete(s, "bad") == -FAULT_FAILED_PRECONDITION, "one that runs can't be deleted");
	tap_check(process_kill(s, "bad", 0, false, NULL) == FAULT_INVALID_ARGUMENT, "no signal is no signal");
	tap_check(process_kill(s, "none", SIGTERM, false, NULL) == FAULT_NOT_FOUND, "nobody can't be killed");
	tap_check(resize(s, "bad", 10, 10) == FAULT_FAILED_PRECONDITION, "without a terminal it has no size");
	tap_check(process_kill(s, "bad", SIGKILL, false, NULL) == 0 && exit_of(s, "bad") &&
		      exit_of(s, "bad")->code == 137 && process_delete(s, "bad") == 137,
		  "it can be killed");
	tap_check(start(s, "../up", "true", NULL, &a) < 0 && a.code == FAULT_INVALID_ARGUMENT, "names are names: %s",
		  a.text);
	lab_answer_deinit(&a);
}

static void terminal(Grpc__Process *p) {
	p->terminal = true;
}

static void test_terminal(const struct scene *s) {
	struct lab_answer a;
	int out = open(s->out, O_RDONLY | O_NONBLOCK);
	int in = open(s->in, O_RDWR | O_NONBLOCK);
	tap_check(start(s, "tty", "busybox stty size; read x; busybox stty size; echo $x", terminal, &a) > 0,
		  "a process with a terminal: %s", a.text);
	lab_answer_deinit(&a);
	tap_check(strstr(fifo_read(s->lab, out, "43 81", 5), "43 81"), "of the size that was asked for");
	tap_check(resize(s, "tty", 100, 50) == 0 && write(in, "hello\n", 6) == 6, "it is resized, and typed at");
	const char *text = fifo_read(s->lab, out, NULL, 5);
	tap_check(strstr(text, "50 100\r\nhello\r\n") && fifo_ended(), "both are seen: %s", text);
	tap_check(exit_of(s, "tty") && process_delete(s, "tty") == 0, "it ends");
	close(in);
	close(out);
}

static void test_pids(const struct scene *s) {
	Bulkhead__TaskKey m = BULKHEAD__TASK_KEY__INIT;
	struct lab_answer a;
	pid_t pid = start(s, "listed", "sleep 1000; true", NULL, &a);
	lab_answer_deinit(&a);
	lab_pause(s->lab, 0.2);
	m.container_id = (char *)"c";
	LAB_CALL(s->pod, container_pids, &m, NULL, 0, &a);
	Bulkhead__TaskPidsReply *r = (Bulkhead__TaskPidsReply *)a.reply;
	bool named = false, first = false;
	Bulkhead__TaskInfo *t;
	struct lab_answer state;
	t = info(s, &state);
	for (size_t i = 0; r && i < r->n_pids; i++) {
		named |= r->pids[i]->pid == pid && strcmp(r->pids[i]->exec_id, "listed") == 0;
		first |= t && r->pids[i]->pid == t->pid && !r->pids[i]->exec_id[0];
	}
	tap_check(r && r->n_pids == 3 && named && first, "all three processes are listed, one by its name (%zu)",
		  r ? r->n_pids : 0);
	tap_check(t && t->n_execs == 1 && strcmp(t->execs[0]->exec_id, "listed") == 0 && t->execs[0]->pid == pid &&
		      !t->execs[0]->exit && t->execs[0]->started_at,
		  "the state has it, too");
	lab_answer_deinit(&state);
	lab_answer_deinit(&a);
}

static char process_state(pid_t pid) {
	return lab_status(pid, "State")[0];
}

static void test_freeze(const struct scene *s, pid_t counter) {
	struct lab_answer a;
	Bulkhead__TaskInfo *t;
	char before[64];
	tap_check(freeze(s, true) == 0 && freeze(s, true) == 0, "a container stands still, and may be told twice");
	snprintf(before, sizeof(before), "%s", lab_file("%s/count", bare_root(s->lab)));
	lab_pause(s->lab, 0.3);
	tap_check(before[0] && strcmp(before, lab_file("%s/count", bare_root(s->lab))) == 0, "really (%s)", before);
	t = info(s, &a);
	tap_check(t && t->frozen && t->state == BULKHEAD__TASK_STATE__TASK_RUNNING, "its state says so");
	lab_answer_deinit(&a);
	tap_check(start(s, "cold", "true", NULL, &a) < 0 && a.code == FAULT_FAILED_PRECONDITION &&
		      strstr(a.text, "is paused"),
		  "nothing starts in it: %s", a.text);
	lab_answer_deinit(&a);
	tap_check(lab_pod_kill(s->pod) && lab_pod_adopt(s->pod, &a), "its keeper is replaced");
	lab_answer_deinit(&a);
	t = info(s, &a);
	tap_check(t && t->frozen, "which is still known");
	lab_answer_deinit(&a);
	tap_check(freeze(s, false) == 0, "it goes on");
	lab_pause(s->lab, 0.3);
	tap_check(strcmp(before, lab_file("%s/count", bare_root(s->lab))) != 0, "really");
	tap_check(freeze(s, true) == 0 && process_kill(s, "", SIGKILL, false, NULL) == 0, "frozen again and killed");
	tap_check(exit_of(s, "") != NULL, "it ends (%c)", process_state(counter));
	tap_check(bare_delete(s->pod, "c") >= 128, "it is deleted");
}

/* A killed keeper's processes are the successor's. */
static void test_adopted(const struct scene *s) {
	struct lab_answer a;
	Bulkhead__TaskInfo *t;
	container_start(s, "i=0; while true; do i=$((i+1)); echo $i >/count; usleep 20000; done");
	int out = open(s->out, O_RDONLY | O_NONBLOCK);
	int in = open(s->in, O_RDWR | O_NONBLOCK);
	tap_check(lab_pod_take_vault(s->pod), "the vault is taken");
	pid_t pid = start(s, "stays", "while read x; do echo $x; [ $x = end ] && exit 3; done", NULL, &a);
	lab_answer_deinit(&a);
	tap_check(start(s, "short", "exit 4", NULL, &a) > 0 && exit_of(s, "short"), "one runs, one has ended");
	lab_answer_deinit(&a);
	tap_check(write(in, "one\n", 4) == 4 && strstr(fifo_read(s->lab, out, "one\n", 5), "one\n"), "the one answers");
	tap_check(lab_pod_kill(s->pod) && lab_pod_adopt(s->pod, &a), "the keeper is killed and replaced");
	lab_answer_deinit(&a);
	t = info(s, &a);
	tap_check(t && t->n_execs == 2 && t->execs[0]->pid == pid && !t->execs[0]->exit && t->execs[1]->exit &&
		      t->execs[1]->exit->exit_code == 4,
		  "the successor knows both");
	lab_answer_deinit(&a);
	tap_check(write(in, "end\n", 4) == 4 && strstr(fifo_read(s->lab, out, NULL, 5), "end\n") && fifo_ended(),
		  "streams go on to their end");
	const struct lab_exit *e = exit_of(s, "stays");
	tap_check(e && (e->code == 3 || e->code == 255), "its end is told (%u)", e ? e->code : 0);
	tap_check(process_delete(s, "stays") >= 0 && process_delete(s, "short") == 4, "both can be deleted");
	tap_check(lab_pod_take_vault(s->pod), "the new vault is taken");
	close(in);
	close(out);
	t = info(s, &a);
	pid_t counter = t ? t->pid : -1;
	lab_answer_deinit(&a);
	test_freeze(s, counter);
}

static void test_container_ends(const struct scene *s) {
	struct lab_answer a;
	container_start(s, "sleep 1000");
	tap_check(start(s, "inner", "sleep 1000", NULL, &a) > 0, "a process in a container");
	lab_answer_deinit(&a);
	tap_check(process_kill(s, "", SIGKILL, true, NULL) == 0, "that is killed with all in it");
	const struct lab_exit *e = exit_of(s, "inner");
	tap_check(e && e->code == 137 && exit_of(s, ""), "both ends are told");
	char why[1100];
	tap_check(process_kill(s, "", SIGTERM, false, why) == FAULT_NOT_FOUND &&
		      strncmp(why, "process already finished", 24) == 0,
		  "its first process is finished, too: %s", why);
	tap_check(freeze(s, true) == FAULT_FAILED_PRECONDITION, "it can't be frozen any more");
	tap_check(start(s, "late", "true", NULL, &a) < 0 && a.code == FAULT_FAILED_PRECONDITION, "nor entered: %s",
		  a.text);
	lab_answer_deinit(&a);
	tap_check(process_delete(s, "inner") == 137 && process_delete(s, "") == 137,
		  "both can be deleted, each by name");
}

int main(void) {
	struct scene s = { .lab = lab_new() };
	struct lab_answer a;
	if (!s.lab) {
		tap_skip("processes beside a container's first", "needs root and a built keeper");
		return tap_done();
	}
	s.pod = lab_pod_new(s.lab);
	tap_check(bare_setup(s.pod, NULL, &a), "a bare pod");
	lab_answer_deinit(&a);
	s.in = fifo_new(s.lab, "in");
	s.out = fifo_new(s.lab, "out");
	test_run(&s);
	test_errors(&s);
	test_terminal(&s);
	test_pids(&s);
	tap_check(bare_delete(s.pod, "c") == 137, "the container goes with what runs in it");
	test_adopted(&s);
	test_container_ends(&s);
	tap_check(lab_pod_teardown(s.pod) && lab_cgroups(s.pod->id) == 0, "the pod goes, no control group is left");
	tap_check(lab_pod_free(s.pod), "nor a file of it");
	unlink(s.in);
	unlink(s.out);
	free(s.in);
	free(s.out);
	bare_root_remove(s.lab);
	lab_free(s.lab);
	return tap_done();
}
