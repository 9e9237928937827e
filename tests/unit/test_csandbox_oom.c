/* Kills for want of memory and those who ask for them: what is told once, and what
 * again, when an asker, or this worker, dies. */
#include "metadata_lab.h"
#include "tap.h"
#include "workers/metadata/csandbox/csandbox.h"
#include "workers/metadata/ctask/ctask.h"

#include "base/clock.h"

#include <string.h>

#define NAMESPACE "kata"
#define SANDBOX "sandbox"
#define POD "pod1"

static struct lab l;
static Bulkhead__CsandboxKey key = BULKHEAD__CSANDBOX_KEY__INIT;

static void pod_new(bool keeps) {
	Bulkhead__CsandboxRecord r = BULKHEAD__CSANDBOX_RECORD__INIT;
	Bulkhead__SandboxStartRequest pod = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	struct csandbox *s;
	pod.id = (char *)POD;
	r.namespace_ = key.namespace_ = (char *)NAMESPACE;
	r.id = key.id = (char *)SANDBOX;
	r.state = CSANDBOX(READY);
	r.keeps_ooms = keeps;
	r.pod = &pod;
	if (csandbox_add(&l.m.csandboxes, &r, &s) < 0 || csandbox_save(&l.m, s) < 0)
		abort();
	s->made = true;
	strcpy(l.sandboxes.name[l.sandboxes.n++], POD);
}

static void task_new(const char *id) {
	Bulkhead__CtaskRecord r = BULKHEAD__CTASK_RECORD__INIT;
	Bulkhead__TaskCreateReply task = BULKHEAD__TASK_CREATE_REPLY__INIT;
	Bulkhead__Stdio stdio = BULKHEAD__STDIO__INIT;
	struct ctask *t;
	r.namespace_ = (char *)NAMESPACE;
	r.container_id = (char *)(uintptr_t)id;
	r.sandbox_id = (char *)POD;
	r.status = CTASK(RUNNING);
	r.task = &task;
	r.stdio = &stdio;
	if (ctask_add(&l.m.ctasks, &r, &t) < 0)
		abort();
	t->made = true;
}

static void begin(bool keeps) {
	lab_init(&l);
	pod_new(keeps);
	task_new("a");
	task_new("b");
}

/* As the task worker tells it: so often since the container began. */
static void killed(const char *id, uint32_t times) {
	Bulkhead__TaskOom o = BULKHEAD__TASK_OOM__INIT;
	o.sandbox_id = (char *)POD;
	o.container_id = (char *)(uintptr_t)id;
	o.ooms = times;
	task_oom_send(l.task_peer, NULL, &o, NULL, 0, NULL, NULL);
	lab_turns(&l, 3);
}

static void ask(const char *name, struct lab_call *call) {
	Bulkhead__CsandboxOomRequest q = BULKHEAD__CSANDBOX_OOM_REQUEST__INIT;
	q.key = &key;
	q.asker = (char *)(uintptr_t)name;
	lab_send(&l, MSG_csandbox_oom, &q.base, call);
	lab_turns(&l, 5);
}

static enum fault_code settle(const char *name, bool told) {
	Bulkhead__CsandboxOomSettleRequest q = BULKHEAD__CSANDBOX_OOM_SETTLE_REQUEST__INIT;
	struct lab_call call;
	q.key = &key;
	q.asker = (char *)(uintptr_t)name;
	q.told = told;
	lab_call(&l, MSG_csandbox_oom_settle, &q.base, &call);
	enum fault_code code = call.fault.code;
	lab_call_end(&call);
	return code;
}

/* Whether the answer is there, and names the container. Ends it. */
static bool is(struct lab_call *call, const char *id) {
	lab_turns(&l, 5);
	bool as = call->done && call->fault.code == FAULT_NONE &&
		  strcmp(((Bulkhead__CsandboxOomReply *)call->reply)->container_id, id) == 0;
	if (call->done)
		lab_call_end(call);
	return as;
}

static bool asks(const char *name, const char *id) {
	struct lab_call call;
	ask(name, &call);
	bool as = is(&call, id) && settle(name, true) == FAULT_NONE;
	return as;
}

static size_t left(void) {
	const struct csandbox *s = csandbox_find(&l.m.csandboxes, NAMESPACE, SANDBOX);
	return s ? s->record->n_ooms : 0;
}

static void test_once(void) {
	begin(true);
	killed("a", 3);
	killed("a", 3);
	killed("a", 2);
	killed("b", 1);
	tap_check(asks("1", "a") && asks("2", "b") && asks("3", "a") && asks("4", "a") && left() == 0,
		  "a number that comes again tells nothing again; containers take turns");
	struct lab_call first, second;
	ask("5", &first);
	ask("6", &second);
	killed("b", 2);
	tap_check(is(&first, "b") && !second.done, "who asks first is told");
	settle("5", true);
	killed("nobody", 1);
	killed("a", 4);
	tap_check(is(&second, "a"), "then the next one");
	lab_deinit(&l);
}

static void test_untold(void) {
	struct lab_call gone, next;
	begin(true);
	killed("a", 1);
	ask("1", &gone);
	ask("2", &next);
	tap_check(is(&gone, "a") && !next.done, "one is being told");
	settle("1", false);
	tap_check(is(&next, "a"), "its client has gone: the next one is told");
	settle("2", true);
	tap_check(left() == 0, "and then it is known");
	lab_deinit(&l);
}

static void test_asker_dies(void) {
	struct lab_call dead, next;
	begin(true);
	killed("a", 1);
	ask("1", &dead);
	ask("2", &next);
	tap_check(is(&dead, "a"), "one is being told, and never settles it");
	for (int64_t end = clock_mono() + 8 * NS_PER_SEC; !next.done && clock_mono() < end;)
		loop_turn(l.loop, 100 * NS_PER_MS);
	tap_check(is(&next, "a"), "the next one is told in the end");
	lab_deinit(&l);
}

static void test_restart(void) {
	struct lab_call call, again, other;
	begin(true);
	killed("a", 2);
	ask("1", &call);
	tap_check(is(&call, "a"), "one is being told when this worker dies");
	lab_restart(&l);
	ask("1", &again);
	ask("2", &other);
	tap_check(is(&again, "a") && is(&other, "a") && left() == 2,
		  "who asks again by its name has the same answer, another one the other");
	settle("1", true);
	settle("2", true);
	lab_restart(&l);
	tap_check(left() == 0, "what was told isn't there after another death");
	lab_deinit(&l);
}

static void test_refused(void) {
	struct lab_call call;
	begin(false);
	killed("a", 1);
	ask("1", &call);
	tap_check(call.done && call.fault.code == FAULT_FAILED_PRECONDITION && left() == 0,
		  "of a sandbox that keeps none, none are kept");
	lab_call_end(&call);
	lab_deinit(&l);
	lab_init(&l);
	ask("1", &call);
	tap_check(call.done && call.fault.code == FAULT_NOT_FOUND, "a sandbox that isn't there");
	lab_call_end(&call);
	lab_deinit(&l);
}

int main(void) {
	test_once();
	test_untold();
	test_asker_dies();
	test_restart();
	test_refused();
	return tap_done();
}
