/*
 * Keepers are killed, and successors take over: nothing that runs may notice,
 * and nothing that was to be known may be lost.
 */
#include "tests/integration/keeper_lab.h"
#include "tests/unit/tap.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <linux/ioctl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CONTAINER BULKHEAD__NAMESPACE_MODE__CONTAINER
#define POD BULKHEAD__NAMESPACE_MODE__POD

static void kill_keeper(struct lab_pod *p) {
	tap_check(lab_pod_kill(p), "a keeper is killed");
}

static const char *out(struct lab_pod *p, const char *id, const char *script) {
	static char text[1024];
	Bulkhead__KeeperExecRequest m = BULKHEAD__KEEPER_EXEC_REQUEST__INIT;
	Bulkhead__ExecSyncRequest e = BULKHEAD__EXEC_SYNC_REQUEST__INIT;
	char *args[] = { (char *)"/bin/sh", (char *)"-c", (char *)script };
	struct lab_answer a;
	e.container_id = (char *)id;
	e.args = args;
	e.n_args = 3;
	m.exec = &e;
	LAB_CALL(p, keeper_exec, &m, NULL, 0, &a);
	Bulkhead__ExecSyncReply *r = (Bulkhead__ExecSyncReply *)a.reply;
	snprintf(text, sizeof(text), "%.*s%s", r ? (int)r->stdout_data.len : 0, r ? (char *)r->stdout_data.data : "",
		 a.text);
	text[strcspn(text, "\n")] = '\0';
	lab_answer_deinit(&a);
	return text;
}

struct exit_wait {
	struct lab_pod *pod;
	const char *id;
	int code;
};

static bool exit_seen(void *ctx) {
	struct exit_wait *w = ctx;
	for (unsigned i = 0; i < w->pod->n_exits; i++)
		if (strcmp(w->pod->exits[i].container, w->id) == 0)
			w->code = (int)w->pod->exits[i].code;
	return w->code >= 0;
}

static int exit_code(struct lab_pod *p, const char *id) {
	struct exit_wait w = { p, id, -1 };
	lab_wait(p->lab, exit_seen, &w, 10);
	return w.code;
}

static Bulkhead__TaskInfo *task(const struct lab_answer *a, const char *id) {
	Bulkhead__SandboxInfo *info = a->reply ? ((Bulkhead__KeeperStateReply *)a->reply)->info : NULL;
	for (size_t i = 0; info && i < info->n_tasks; i++)
		if (strcmp(info->tasks[i]->container_id, id) == 0)
			return info->tasks[i];
	return NULL;
}

/* Numbers without a gap, whole lines only. */
static bool counted(struct lab *l, const char *id, unsigned at_least) {
	char path[200], line[512];
	unsigned next = 0;
	bool good = true;
	snprintf(path, sizeof(path), "%s/logs/%s.log", l->dir, id);
	FILE *f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		unsigned n;
		char *rest = strstr(line, " stdout ");
		/* The last one may be cut by the container's own end. */
		if (rest && !strchr(rest, '.') && fgetc(f) == EOF)
			break;
		if (!rest || sscanf(rest, " stdout F n %u.", &n) != 1 || n != next || !strchr(rest, '.')) {
			printf("# line %u: %s", next, line);
			good = false;
		}
		next++;
	}
	if (f)
		fclose(f);
	printf("# %s: %u lines\n", id, next);
	return good && next >= at_least;
}

#define COUNT "i=0; while :; do printf \"n $i\"; usleep 3000; echo .; i=$((i+1)); done"

static bool kernel_keeps_exits(void) {
	uint64_t info[16] = { 1 << 3 };
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int r = ioctl(fd, _IOWR(0xFF, 11, char[64]), info);
	close(fd);
	return r == 0;
}

static void test_adopt(struct lab *l) {
	struct lab_pod *p = lab_pod_new(l);
	struct lab_answer a;
	bool codes = kernel_keeps_exits();
	tap_check(lab_pod_setup(p, "adopted") && lab_pod_take_vault(p), "a pod is set up, its vault taken");
	pid_t counter = lab_run(p, "counter", COUNT, CONTAINER, true);
	pid_t dies = lab_run(p, "dies", "sleep 0.6; exit 33", CONTAINER, true);
	lab_run(p, "later", "sleep 2; exit 44", POD, true);
	lab_run(p, "waits", "echo woken; exit 55", CONTAINER, false);
	lab_run(p, "ended", "exit 66", CONTAINER, true);
	tap_check(exit_code(p, "ended") == 66, "one has ended before");
	lab_pause(l, 0.2);
	kill_keeper(p);
	tap_check(kill(counter, 0) == 0, "its containers live on");
	lab_pause(l, 0.7);
	tap_check(kill(dies, 0) < 0, "one ends while nobody looks");
	tap_check(lab_pod_adopt(p, &a), "a successor adopts them");
	tap_check(task(&a, "counter") && task(&a, "counter")->state == BULKHEAD__TASK_STATE__TASK_RUNNING, "one runs");
	tap_check(task(&a, "waits") && task(&a, "waits")->state == BULKHEAD__TASK_STATE__TASK_CREATED, "one waits");
	tap_check(task(&a, "ended") && task(&a, "ended")->exit && task(&a, "ended")->exit->exit_code == 66,
		  "the exit of one is remembered");
	lab_answer_deinit(&a);
	int code = exit_code(p, "dies");
	tap_check(code == (codes ? 33 : 255), "the one that ended meanwhile is known with its code (%d)", code);
	tap_check(strcmp(out(p, "counter", "hostname"), "adopted") == 0, "commands can be executed in the adopted");
	tap_check(lab_key(p, (lab_send_fn)container_start_send, "waits") == 0, "what was only created can be started");
	code = exit_code(p, "waits");
	tap_check(code == (codes ? 55 : 255), "and ends (%d)", code);
	tap_check(strstr(lab_file("%s/logs/waits.log", l->dir), "F woken") != NULL, "with a log");
	code = exit_code(p, "later");
	tap_check(code == (codes ? 44 : 255), "an adopted container's exit is seen (%d)", code);
	tap_check(lab_pod_take_vault(p), "the new vault is taken");
	kill_keeper(p);
	tap_check(lab_pod_adopt(p, &a), "and killed and adopted again");
	lab_answer_deinit(&a);
	pid_t more = lab_run(p, "more", "sleep 1000", POD, true);
	tap_check(more > 0, "new containers can be created");
	lab_pause(l, 0.2);
	tap_check(lab_key(p, (lab_send_fn)container_delete_send, "counter") == 0, "an adopted one can be deleted");
	tap_check(counted(l, "counter", 200), "not a line of its log was lost or cut");
	tap_check(lab_pod_teardown(p), "the pod is taken down");
	tap_check(lab_cgroups(p->id) == 0 && kill(more, 0) < 0, "nothing is left of it");
	tap_check(lab_pod_free(p), "its folder is empty");
}

static void test_vault(struct lab *l) {
	struct lab_pod *p = lab_pod_new(l);
	struct lab_answer a;
	tap_check(lab_pod_setup(p, "adopted") && lab_pod_take_vault(p), "another pod");
	pid_t stays = lab_run(p, "stays", COUNT, CONTAINER, true);
	unsigned good = 0;
	for (int i = 0; i < 90; i++) {
		char id[16];
		snprintf(id, sizeof(id), "c%d", i);
		good += lab_run(p, id, "exit 0", CONTAINER, true) > 0 &&
			lab_key(p, (lab_send_fn)container_delete_send, id) == 0;
	}
	tap_check(good == 90, "many containers come and go (%u)", good);
	kill_keeper(p);
	tap_check(lab_pod_adopt(p, &a) && task(&a, "stays"), "the vault still holds what is there");
	Bulkhead__SandboxInfo *info = a.reply ? ((Bulkhead__KeeperStateReply *)a.reply)->info : NULL;
	tap_check(info && info->n_tasks == 1, "and nothing else");
	lab_answer_deinit(&a);
	tap_check(kill(stays, 0) == 0 && counted(l, "stays", 20), "the container didn't notice");
	tap_check(lab_pod_teardown(p), "it is taken down");
	tap_check(lab_pod_free(p), "its folder is empty");
}

/* Without the vault, as when the task worker died too. */
static void test_lost(struct lab *l) {
	struct lab_pod *p = lab_pod_new(l);
	struct lab_answer a;
	int pair[2];
	tap_check(lab_pod_setup(p, "adopted"), "a pod whose vault is lost");
	lab_run(p, "lost", "exec sleep 1000", CONTAINER, true);
	lab_pause(l, 0.1);
	kill_keeper(p);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return;
	close(pair[1]);
	p->vault = pair[0];
	tap_check(lab_pod_adopt(p, &a) && task(&a, "lost"), "its container is found by what the state says");
	lab_answer_deinit(&a);
	tap_check(lab_pod_teardown(p) && lab_cgroups(p->id) == 0, "and is taken down");
	tap_check(lab_pod_free(p), "its folder is empty");
}

/* A pod that is to go anyway: a fresh keeper takes it down without adoption. */
static void test_fresh(struct lab *l) {
	struct lab_pod *p = lab_pod_new(l);
	Bulkhead__KeeperForkRequest f = BULKHEAD__KEEPER_FORK_REQUEST__INIT;
	struct lab_answer a;
	int pair[2];
	tap_check(lab_pod_setup(p, "adopted"), "a pod whose keeper is killed before it is stopped");
	pid_t one = lab_run(p, "one", "sleep 1000", CONTAINER, true);
	pid_t two = lab_run(p, "two", "(setsid sleep 888 &) ; sleep 1000", POD, true);
	kill_keeper(p);
	f.sandbox_id = p->id;
	f.run_dir = p->run_dir;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0 ||
	    link_attach_socket(p->link, pair[0]) < 0)
		return;
	lab_call(l, l->zygote, (lab_send_fn)keeper_fork_send, &f, &pair[1], 1, 5, &a);
	close(pair[1]);
	lab_answer_deinit(&a);
	tap_check(lab_pod_teardown(p), "a fresh one takes it down");
	lab_pause(l, 0.1);
	tap_check(kill(one, 0) < 0 && kill(two, 0) < 0 && errno == ESRCH, "its containers are gone");
	tap_check(lab_cgroups(p->id) == 0 && !lab_exists("%s/state.0", p->run_dir), "and all else");
	tap_check(lab_pod_free(p), "its folder is empty");
}

int main(void) {
	struct lab *l = lab_new();
	if (!l) {
		tap_skip("successors of keepers", "needs root and a built keeper");
		return tap_done();
	}
	test_adopt(l);
	test_vault(l);
	test_lost(l);
	test_fresh(l);
	char command[100];
	snprintf(command, sizeof(command), "rm -rf %s/logs", l->dir);
	tap_check(system(command) == 0, "logs are removed");
	char cgroup[64];
	snprintf(cgroup, sizeof(cgroup), "%s", l->cgroup);
	lab_free(l);
	tap_check(lab_cgroups(cgroup) == 0, "no control group is left");
	return tap_done();
}
