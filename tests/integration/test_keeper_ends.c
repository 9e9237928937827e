/*
 * Containers that end while something is asked of them. The keeper is stopped
 * (SIGSTOP), asked, and the container killed before it goes on: it sees the
 * question first, and finds nothing to do it with.
 */
#include "tests/integration/keeper_lab.h"
#include "tests/unit/tap.h"

#include "base/clock.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONTAINER BULKHEAD__NAMESPACE_MODE__CONTAINER
#define POD BULKHEAD__NAMESPACE_MODE__POD
#define TARGET BULKHEAD__NAMESPACE_MODE__TARGET

/* Milliseconds that a pod may take to go. */
#define PROMPT 2000

/* --- commands --- */

struct command {
	Bulkhead__KeeperExecRequest request;
	Bulkhead__ExecSyncRequest exec;
	char *args[3];
	struct lab_answer answer;
};

static void command_start(struct command *c, struct lab_pod *p, const char *id, const char *script) {
	*c = (struct command){ .request = BULKHEAD__KEEPER_EXEC_REQUEST__INIT,
			       .exec = BULKHEAD__EXEC_SYNC_REQUEST__INIT,
			       .args = { (char *)"/bin/sh", (char *)"-c", (char *)script } };
	c->exec.container_id = (char *)id;
	c->exec.args = c->args;
	c->exec.n_args = 3;
	c->request.exec = &c->exec;
	lab_call_start(p->link, (lab_send_fn)keeper_exec_send, &c->request, NULL, 0, 20, &c->answer);
}

static bool answered(void *answer) {
	return ((struct lab_answer *)answer)->done;
}

/* Processes whose command line has it, anywhere on the machine. */
static pid_t find(const char *text) {
	char command[200];
	int pid = -1;
	snprintf(command, sizeof(command), "pgrep -xf '%s'", text);
	FILE *f = popen(command, "r");
	if (!f || fscanf(f, "%d", &pid) != 1)
		pid = -1;
	if (f)
		pclose(f);
	return pid;
}

static pid_t find_soon(struct lab *l, const char *text) {
	pid_t pid = -1;
	for (int i = 0; i < 200 && (pid = find(text)) < 0; i++)
		lab_pause(l, 0.02);
	return pid;
}

static bool gone(void *pid) {
	return kill(*(pid_t *)pid, 0) < 0 && errno == ESRCH;
}

static bool has_ended(void *pid) {
	return gone(pid) || lab_status(*(pid_t *)pid, "State")[0] == 'Z';
}

/* --- the keeper looks away --- */

static void look_away(struct lab_pod *p) {
	kill(p->keeper, SIGSTOP);
	for (int i = 0; i < 500 && lab_status(p->keeper, "State")[0] != 'T'; i++)
		usleep(1000);
}

static bool is_why(const struct lab_answer *a, const char *id) {
	char text[100];
	snprintf(text, sizeof(text), "container \"%s\" isn't running any more: ", id);
	return a->done && a->code == FAULT_FAILED_PRECONDITION && strncmp(a->text, text, strlen(text)) == 0;
}

static void test_exec(struct lab_pod *p) {
	struct command c;
	pid_t pid = lab_run(p, "brief", "sleep 1000", CONTAINER, true);
	look_away(p);
	command_start(&c, p, "brief", "true");
	lab_pause(p->lab, 0.05);
	kill(pid, SIGKILL);
	tap_check(lab_wait(p->lab, has_ended, &pid, 5), "a container ends unseen");
	kill(p->keeper, SIGCONT);
	lab_wait(p->lab, answered, &c.answer, 5);
	tap_check(is_why(&c.answer, "brief"), "a command that comes too late is told so: %d %s", c.answer.code,
		  c.answer.text);
	lab_answer_deinit(&c.answer);
	lab_key(p, (lab_send_fn)container_delete_send, "brief");
}

/* A pid namespace ends with its last process: one that the keeper has to reap
 * keeps the container's first from being gone, but not from being empty. */
static void test_exec_while_ending(struct lab_pod *p) {
	struct command holds, late;
	pid_t pid = lab_run(p, "slow", "sleep 1000", CONTAINER, true);
	command_start(&holds, p, "slow", "exec sleep 4711");
	pid_t command = find_soon(p->lab, "sleep 4711");
	look_away(p);
	command_start(&late, p, "slow", "true");
	lab_pause(p->lab, 0.05);
	kill(pid, SIGKILL);
	lab_wait(p->lab, has_ended, &command, 5);
	tap_check(command > 0 && lab_status(command, "State")[0] == 'Z' && !has_ended(&pid),
		  "a container is ending and can't, for a command isn't reaped");
	kill(p->keeper, SIGCONT);
	lab_wait(p->lab, answered, &late.answer, 5);
	tap_check(is_why(&late.answer, "slow"), "another command is told so: %d %s", late.answer.code,
		  late.answer.text);
	lab_wait(p->lab, answered, &holds.answer, 5);
	Bulkhead__ExecSyncReply *e = (Bulkhead__ExecSyncReply *)holds.answer.reply;
	tap_check(e && e->exit_code == 137, "the first one has its exit code");
	lab_answer_deinit(&late.answer);
	lab_answer_deinit(&holds.answer);
	lab_key(p, (lab_send_fn)container_delete_send, "slow");
}

static void test_session(struct lab_pod *p) {
	Bulkhead__ExecOpenRequest m = BULKHEAD__EXEC_OPEN_REQUEST__INIT;
	char *args[] = { (char *)"/bin/true" }, id[65];
	struct lab_answer a;
	memset(id, 'a', 64);
	id[64] = '\0';
	pid_t pid = lab_run(p, "session", "sleep 1000", CONTAINER, true);
	m.container_id = (char *)"session";
	m.exec_id = id;
	m.args = args;
	m.n_args = 1;
	m.stdout = true;
	look_away(p);
	lab_call_start(p->link, (lab_send_fn)keeper_exec_open_send, &m, NULL, 0, 20, &a);
	lab_pause(p->lab, 0.05);
	kill(pid, SIGKILL);
	lab_wait(p->lab, has_ended, &pid, 5);
	kill(p->keeper, SIGCONT);
	lab_wait(p->lab, answered, &a, 5);
	tap_check(is_why(&a, "session"), "so is a command with streams: %d %s", a.code, a.text);
	lab_answer_deinit(&a);
	lab_key(p, (lab_send_fn)container_delete_send, "session");
}

static void test_target(struct lab_pod *p) {
	const char *args[] = { "/bin/true", NULL };
	Bulkhead__ContainerCreateRequest m = BULKHEAD__CONTAINER_CREATE_REQUEST__INIT;
	Bulkhead__TaskCreateRequest t = BULKHEAD__TASK_CREATE_REQUEST__INIT;
	Grpc__Spec *spec = lab_spec(args);
	struct lab_answer a;
	char log[256];
	pid_t pid = lab_run(p, "target", "sleep 1000", CONTAINER, true);
	snprintf(log, sizeof(log), "%s/logs/guest.log", p->lab->dir);
	t.container_id = (char *)"guest";
	t.spec = spec;
	t.log_path = log;
	t.pid_mode = TARGET;
	t.target_container_id = (char *)"target";
	m.task = &t;
	int root = lab_root();
	look_away(p);
	lab_call_start(p->link, (lab_send_fn)container_create_send, &m, &root, 1, 20, &a);
	close(root);
	lab_pause(p->lab, 0.05);
	kill(pid, SIGKILL);
	lab_wait(p->lab, has_ended, &pid, 5);
	kill(p->keeper, SIGCONT);
	lab_wait(p->lab, answered, &a, 5);
	tap_check(is_why(&a, "target"), "so is a container that was to join it: %d %s", a.code, a.text);
	lab_answer_deinit(&a);
	lab_spec_free(spec);
	lab_key(p, (lab_send_fn)container_delete_send, "target");
}

static void test_start(struct lab_pod *p) {
	Bulkhead__TaskKey m = BULKHEAD__TASK_KEY__INIT;
	struct lab_answer a;
	pid_t pid = lab_run(p, "unstarted", "true", CONTAINER, false);
	m.container_id = (char *)"unstarted";
	look_away(p);
	lab_call_start(p->link, (lab_send_fn)container_start_send, &m, NULL, 0, 20, &a);
	lab_pause(p->lab, 0.05);
	kill(pid, SIGKILL);
	lab_wait(p->lab, has_ended, &pid, 5);
	kill(p->keeper, SIGCONT);
	lab_wait(p->lab, answered, &a, 5);
	tap_check(a.code == FAULT_ABORTED &&
		      strcmp(a.text, "container \"unstarted\" was killed by signal 9 before it ran") == 0,
		  "a start says how the process ended: %d %s", a.code, a.text);
	lab_answer_deinit(&a);
	lab_key(p, (lab_send_fn)container_delete_send, "unstarted");
}

/* --- a command outlives its container --- */

/* What is killed stops on its way out until it is let go. */
static bool hold_end(pid_t pid) {
	return ptrace(PTRACE_SEIZE, pid, NULL, (void *)PTRACE_O_TRACEEXIT) == 0;
}

static bool let_end(pid_t pid) {
	int status;
	return waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status) &&
	       ptrace(PTRACE_DETACH, pid, NULL, NULL) == 0;
}

/* In the pod's pid namespace nothing but its control group ties the command to
 * the container. It is the keeper's child, whose end that of the namespace waits
 * for, so the keeper must not wait for the namespace. */
static void test_outlives(struct lab *l) {
	struct lab_pod *p = lab_pod_new(l);
	Bulkhead__SandboxStopRequest m = BULKHEAD__SANDBOX_STOP_REQUEST__INIT;
	Bulkhead__Empty nothing = BULKHEAD__EMPTY__INIT;
	struct command c;
	struct lab_answer down, state;
	tap_check(lab_pod_setup(p, "shared"), "a pod whose containers share a pid namespace");
	lab_run(p, "owner", "sleep 1000", POD, true);
	command_start(&c, p, "owner", "exec sleep 4712");
	pid_t command = find_soon(l, "sleep 4712");
	tap_check(command > 0 && hold_end(command) && lab_key(p, (lab_send_fn)container_delete_send, "owner") == 0,
		  "a container is removed before a command of it has ended");
	lab_wait(l, answered, &c.answer, 5);
	tap_check(c.answer.code == FAULT_ABORTED && strcmp(c.answer.text, "container \"owner\" was removed") == 0,
		  "whose caller is told: %d %s", c.answer.code, c.answer.text);
	lab_answer_deinit(&c.answer);
	m.id = p->id;
	lab_call_start(p->link, (lab_send_fn)pod_teardown_send, &m, NULL, 0, 20, &down);
	lab_pause(l, 0.2);
	LAB_CALL(p, keeper_state, &nothing, NULL, 0, &state);
	tap_check(!down.done && state.code == 0 && state.reply, "the pod's end waits for it, the keeper doesn't");
	lab_answer_deinit(&state);
	tap_check(!gone(&command) && let_end(command) && lab_wait(l, gone, &command, 5), "it ends and is reaped (%s)",
		  lab_status(command, "State"));
	int64_t begin = clock_mono();
	lab_wait(l, answered, &down, 10);
	tap_check(down.done && down.code == 0 && clock_mono() - begin < PROMPT * NS_PER_MS, "then the pod goes: %s",
		  down.text);
	if (!down.done) {
		kill(p->keeper, SIGKILL);
		lab_wait(l, answered, &down, 5);
	}
	lab_answer_deinit(&down);
	tap_check(lab_cgroups(p->id) == 0, "no control group is left");
	tap_check(lab_pod_free(p), "its folder is empty");
}

int main(void) {
	struct lab *l = lab_new();
	if (!l) {
		tap_skip("containers that end meanwhile", "needs root and a built keeper");
		return tap_done();
	}
	struct lab_pod *p = lab_pod_new(l);
	tap_check(lab_pod_setup(p, "ends"), "a pod is set up");
	test_exec(p);
	test_exec_while_ending(p);
	test_session(p);
	test_target(p);
	test_start(p);
	tap_check(lab_pod_teardown(p) && lab_pod_free(p), "it is taken down, its folder is empty");
	test_outlives(l);
	char command[100];
	snprintf(command, sizeof(command), "rm -rf %s/logs", l->dir);
	tap_check(system(command) == 0, "logs are removed");
	lab_free(l);
	return tap_done();
}
