/* What a list of running tasks says of those that changed while it was on its way. */
#include "metadata_lab.h"
#include "tap.h"
#include "workers/metadata/ctask/ctask.h"

#define POD "pod1"
#define ID "web"

static struct lab l;

static struct ctask *task_new(Bulkhead__CtaskStatus status) {
	Bulkhead__CtaskRecord r = BULKHEAD__CTASK_RECORD__INIT;
	Bulkhead__TaskCreateReply task = BULKHEAD__TASK_CREATE_REPLY__INIT;
	Bulkhead__Stdio stdio = BULKHEAD__STDIO__INIT;
	struct ctask *t;
	task.pid = 77;
	task.created_at = 1000;
	r.namespace_ = (char *)"default";
	r.container_id = (char *)ID;
	r.sandbox_id = (char *)POD;
	r.status = status;
	r.task = &task;
	r.stdio = &stdio;
	if (ctask_add(&l.m.ctasks, &r, &t) < 0)
		abort();
	t->made = true;
	return t;
}

static void told_end(uint32_t code) {
	Bulkhead__TaskExit e = BULKHEAD__TASK_EXIT__INIT;
	e.sandbox_id = (char *)POD;
	e.container_id = (char *)ID;
	e.exec_id = (char *)"";
	e.pid = 77;
	e.exit_code = code;
	ctask_exited(&l.m, &e);
}

static void listed(Bulkhead__TaskState state, bool frozen) {
	Bulkhead__SandboxInfo info = BULKHEAD__SANDBOX_INFO__INIT;
	Bulkhead__TaskInfo task = BULKHEAD__TASK_INFO__INIT, *tasks[] = { &task };
	task.container_id = (char *)ID;
	task.pid = 77;
	task.created_at = 1000;
	task.state = state;
	task.frozen = frozen;
	info.id = (char *)POD;
	info.tasks = tasks;
	info.n_tasks = 1;
	ctask_reconcile_pod(&l.m, &info);
}

static void test_list_is_older(void) {
	lab_init(&l);
	struct ctask *t = task_new(CTASK(RUNNING));
	told_end(3);
	tap_check(t->record->status == CTASK(STOPPED) && t->record->exit && t->record->exit->exit_code == 3,
		  "an end that is told is the task's end");
	listed(BULKHEAD__TASK_STATE__TASK_RUNNING, false);
	tap_check(t->record->status == CTASK(STOPPED), "a list that was made before it doesn't bring it back");
	lab_deinit(&l);
}

static void test_answer_lost(void) {
	lab_init(&l);
	struct ctask *t = task_new(CTASK(CREATED));
	listed(BULKHEAD__TASK_STATE__TASK_RUNNING, false);
	tap_check(t->record->status == CTASK(RUNNING), "a start whose answer was lost is seen in the list");
	listed(BULKHEAD__TASK_STATE__TASK_RUNNING, true);
	tap_check(t->record->status == CTASK(PAUSED), "so is a pause");
	listed(BULKHEAD__TASK_STATE__TASK_EXITED, false);
	tap_check(t->record->status == CTASK(STOPPED), "and an end");
	lab_deinit(&l);
}

int main(void) {
	test_list_is_older();
	test_answer_lost();
	return tap_done();
}
