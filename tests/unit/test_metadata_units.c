/*
 * The systemd cgroup driver as the metadata worker sees it: in which order
 * things are asked for, what happens when systemd refuses or is away, and that
 * units and records are made to agree.
 */
#include "base/log.h"
#include "base/unit.h"
#include "metadata_lab.h"
#include "tap.h"
#include "workers/metadata/unit_limits.h"

#include <stdlib.h>
#include <string.h>

#define SLICE "kubepods-pod1.slice"
#define SET(text, from) snprintf(text, sizeof(text), "%s", from)

static struct lab l;
static char pod[80], web[80];

static void begin(void) {
	lab_init(&l);
	l.config.cgroup_driver = BOOT_SYSTEMD;
	strcpy(l.config.cgroup_parent, "bulkhead.slice");
	lab_systemd(&l, true, "");
	if (lab_pull(&l, "busybox", NULL) != FAULT_NONE)
		printf("# the pull failed\n");
	l.journal[0] = '\0';
}

static void begin_with_container(void) {
	begin();
	SET(pod, lab_run_below(&l, "p", SLICE, NULL));
	SET(web, lab_create(&l, pod, "web", NULL));
	lab_key(&l, MSG_cri_start_container, web);
}

static void end(void) {
	lab_deinit(&l);
}

static void test_order(void) {
	begin();
	SET(pod, lab_run_below(&l, "p", SLICE, NULL));
	tap_check(strstr(l.journal, "sandbox_start unit_start "), "a pod's scope comes after its keeper: %s",
		  l.journal);
	tap_check(l.unit_pid == 4242 && strcmp(l.unit_slice, SLICE) == 0 && l.slices.n == 0,
		  "with the keeper, in the slice that the client names");
	SET(web, lab_create(&l, pod, "web", NULL));
	l.journal[0] = '\0';
	tap_check(lab_key(&l, MSG_cri_start_container, web) == FAULT_NONE &&
		      strstr(l.journal, "task_create unit_start task_start "),
		  "a container's process waits for its scope: %s", l.journal);
	tap_check(l.unit_pid == 77 && lab_has(&l.units, web), "which holds it");
	lab_exit(&l, web, 0, false, false);
	lab_turns(&l, 10);
	tap_check(!lab_has(&l.units, web) && lab_has(&l.units, pod), "its end is that of its scope");
	lab_key(&l, MSG_cri_stop_pod_sandbox, pod);
	lab_turns(&l, 10);
	tap_check(l.units.n == 0, "as the pod's is of the pod's");
	end();
}

static void test_own_slice(void) {
	char slice[UNIT_NAME_SIZE];
	Runtime__V1__UpdatePodSandboxResourcesRequest q = RUNTIME__V1__UPDATE_POD_SANDBOX_RESOURCES_REQUEST__INIT;
	Runtime__V1__LinuxContainerResources limits = RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
	struct lab_call call;
	begin();
	SET(pod, lab_run(&l, "p", NULL));
	snprintf(slice, sizeof(slice), "bulkhead-%s.slice", pod);
	tap_check(strcmp(l.unit_slice, slice) == 0 && lab_has(&l.slices, pod), "a pod without a parent has a slice");
	limits.memory_limit_in_bytes = 1 << 20;
	q.pod_sandbox_id = pod;
	q.resources = &limits;
	l.unit_slice[0] = '\0';
	lab_call(&l, MSG_cri_update_pod_sandbox_resources, &q.base, &call);
	tap_check(call.fault.code == FAULT_NONE && l.row[MSG_unit_update].calls == 1 &&
		      strcmp(l.unit_slice, slice) == 0,
		  "its limits are the slice's: %s", call.fault.text);
	lab_call_end(&call);
	lab_key(&l, MSG_cri_remove_pod_sandbox, pod);
	lab_turns(&l, 10);
	tap_check(l.units.n == 0 && l.slices.n == 0, "both end with the pod");
	end();
}

static void test_refusals(void) {
	struct fault fault;
	begin();
	lab_run_below(&l, "p", "/kubepods", &fault);
	tap_check(fault.code == FAULT_INVALID_ARGUMENT && strstr(fault.text, "driver here is systemd"), "%s",
		  fault.text);
	lab_run_below(&l, "p", "a/../b.slice", &fault);
	tap_check(fault.code == FAULT_INVALID_ARGUMENT, "%s", fault.text);
	l.config.cgroup_driver = BOOT_CGROUPFS;
	lab_run_below(&l, "p", SLICE, &fault);
	tap_check(fault.code == FAULT_INVALID_ARGUMENT && strstr(fault.text, "driver here is cgroupfs"), "%s",
		  fault.text);
	SET(pod, lab_run_below(&l, "p", "/kubepods", &fault));
	SET(web, lab_create(&l, pod, "web", NULL));
	lab_key(&l, MSG_cri_start_container, web);
	tap_check(fault.code == FAULT_NONE && l.row[MSG_unit_start].calls == 0 && l.row[MSG_task_start].calls == 0,
		  "with cgroupfs systemd isn't asked");
	end();
}

/* systemd says no: what was made for it goes. */
static void test_failures(void) {
	struct fault fault;
	begin();
	l.row[MSG_unit_start].fail = 1;
	l.row[MSG_unit_start].code = FAULT_INTERNAL;
	lab_run_below(&l, "p", SLICE, &fault);
	lab_turns(&l, 20);
	tap_check(fault.code == FAULT_INTERNAL && strstr(fault.text, "make its scope") && l.sandboxes.n == 0 &&
		      l.units.n == 0,
		  "no pod without its scope: %s", fault.text);
	l.misplaced = "/elsewhere/x.scope";
	lab_run_below(&l, "p", SLICE, &fault);
	lab_turns(&l, 20);
	tap_check(fault.code == FAULT_INTERNAL && strstr(fault.text, "/elsewhere/x.scope") && l.sandboxes.n == 0 &&
		      l.units.n == 0,
		  "nor with one in another place: %s", fault.text);
	l.misplaced = NULL;
	SET(pod, lab_run_below(&l, "p", SLICE, &fault));
	SET(web, lab_create(&l, pod, "web", NULL));
	l.row[MSG_unit_start].fail = 1;
	tap_check(lab_key(&l, MSG_cri_start_container, web) == FAULT_INTERNAL, "no container without its scope");
	lab_turns(&l, 20);
	tap_check(!lab_task(&l, web) && l.row[MSG_task_start].calls == 0 && !lab_has(&l.units, web),
		  "its process never ran, and is gone");
	SET(web, lab_create(&l, pod, "other", NULL));
	l.row[MSG_task_start].fail = 1;
	l.row[MSG_task_start].code = FAULT_NOT_FOUND;
	tap_check(lab_key(&l, MSG_cri_start_container, web) == FAULT_FAILED_PRECONDITION, "a start that fails");
	lab_turns(&l, 20);
	tap_check(!lab_task(&l, web) && !lab_has(&l.units, web), "leaves neither process nor scope");
	end();
}

static Runtime__V1__RuntimeCondition ready(struct lab_call *call) {
	Runtime__V1__StatusRequest q = RUNTIME__V1__STATUS_REQUEST__INIT;
	Runtime__V1__RuntimeCondition none = RUNTIME__V1__RUNTIME_CONDITION__INIT;
	lab_call(&l, MSG_cri_status, &q.base, call);
	return call->fault.code ? none : *((Runtime__V1__StatusResponse *)call->reply)->status->conditions[0];
}

static void test_status(void) {
	struct lab_call call;
	begin();
	tap_check(ready(&call).status, "ready while systemd is");
	lab_call_end(&call);
	lab_systemd(&l, false, "nobody answers");
	Runtime__V1__RuntimeCondition c = ready(&call);
	tap_check(!c.status && strcmp(c.reason, "SystemdUnavailable") == 0 && strcmp(c.message, "nobody answers") == 0,
		  "not ready without it: %s", c.message);
	lab_call_end(&call);
	lab_systemd(&l, true, "");
	lab_worker_down(&l, ROLE_SYSTEMD);
	c = ready(&call);
	tap_check(!c.status && strstr(c.message, "systemd worker"), "nor without its worker: %s", c.message);
	lab_call_end(&call);
	lab_worker_up(&l, ROLE_SYSTEMD);
	lab_systemd(&l, true, "");
	tap_check(ready(&call).status, "ready again");
	lab_call_end(&call);
	end();
}

static void test_worker_dies(void) {
	struct lab_call call;
	Bulkhead__Key k = BULKHEAD__KEY__INIT;
	begin();
	SET(pod, lab_run_below(&l, "p", SLICE, NULL));
	SET(web, lab_create(&l, pod, "web", NULL));
	k.id = web;
	l.row[MSG_unit_start].hold = true;
	lab_send(&l, MSG_cri_start_container, &k.base, &call);
	lab_turns(&l, 20);
	tap_check(!call.done && l.row[MSG_unit_start].n_held == 1, "a start waits for systemd");
	l.row[MSG_unit_start].hold = false;
	lab_worker_down(&l, ROLE_SYSTEMD);
	lab_worker_up(&l, ROLE_SYSTEMD);
	lab_wait(&l, &call);
	tap_check(call.fault.code == FAULT_NONE && lab_has(&l.units, web), "and for its worker's successor: %s",
		  call.fault.text);
	lab_call_end(&call);
	end();
}

static void test_keeper_replaced(void) {
	begin_with_container();
	int before = l.row[MSG_unit_start].calls;
	lab_keeper(&l, pod, 4242);
	tap_check(l.row[MSG_unit_start].calls == before, "the same keeper again changes nothing");
	lab_keeper(&l, pod, 5555);
	tap_check(l.row[MSG_unit_start].calls == before + 1 && l.unit_pid == 5555, "another gets into the pod's scope");
	lab_keeper(&l, "nobody", 1);
	tap_check(l.row[MSG_unit_start].calls == before + 1, "one of a pod that nobody knows doesn't");
	end();
}

static void test_compare(void) {
	begin_with_container();
	l.units.n = 0;
	lab_systemd(&l, true, "");
	tap_check(lab_has(&l.units, pod) && lab_has(&l.units, web), "what runs without a unit gets one");
	strcpy(l.units.name[l.units.n++], "stranger");
	strcpy(l.slices.name[l.slices.n++], "gone");
	lab_exit(&l, web, 0, false, true);
	lab_restart(&l);
	strcpy(l.units.name[l.units.n++], web);
	lab_systemd(&l, true, "");
	lab_turns(&l, 20);
	tap_check(lab_has(&l.units, pod) && !lab_has(&l.units, web), "what has ended loses its");
	tap_check(!lab_has(&l.slices, "gone"), "a slice of a pod that is gone ends");
	tap_check(lab_has(&l.units, "stranger"), "a scope of somebody else doesn't");
	end();
}

/* --- limits --- */

static void test_limits(void) {
	Runtime__V1__LinuxContainerResources r = RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
	Runtime__V1__LinuxContainerResources__UnifiedEntry high =
	    RUNTIME__V1__LINUX_CONTAINER_RESOURCES__UNIFIED_ENTRY__INIT;
	Runtime__V1__LinuxContainerResources__UnifiedEntry tasks = high, odd = high,
							   *unified[] = { &high, &tasks, &odd };
	Bulkhead__UnitLimits u;
	struct arena a;
	arena_init(&a, 0);
	unit_limits(&a, NULL, &u);
	tap_check(u.memory_max == 0 && u.cpu_shares == 0 && u.cpus.len == 0 && !u.no_swap,
		  "nothing asked, nothing said");
	r.memory_limit_in_bytes = r.memory_swap_limit_in_bytes = 100;
	r.cpuset_cpus = (char *)"0-3,9";
	high.key = (char *)"memory.high";
	high.value = (char *)"max";
	tasks.key = (char *)"pids.max";
	tasks.value = (char *)"17";
	odd.key = (char *)"memory.low";
	odd.value = (char *)"1\nMemoryMax=1";
	r.n_unified = 3;
	r.unified = unified;
	unit_limits(&a, &r, &u);
	tap_check(u.memory_max == 100 && u.no_swap && u.memory_swap_max == 0,
		  "memory and swap of the same size: no swap");
	tap_check(u.cpus.len == 2 && u.cpus.data[0] == 0x0f && u.cpus.data[1] == 0x02, "a set of processors is bits");
	tap_check(u.memory_high == -1 && u.tasks_max == 17 && u.memory_low == 0,
		  "files of v2 that are numbers, no others");
	r.memory_swap_limit_in_bytes = 250;
	r.cpuset_cpus = (char *)"3-1";
	unit_limits(&a, &r, &u);
	tap_check(u.memory_swap_max == 150 && !u.no_swap && u.cpus.len == 0,
		  "swap alone; a malformed set says nothing");
	r.memory_swap_limit_in_bytes = -1;
	r.cpuset_cpus = (char *)"99999999";
	unit_limits(&a, &r, &u);
	tap_check(u.memory_swap_max == -1 && u.cpus.len == 0, "swap without a limit; a processor beyond all");
	arena_deinit(&a);
}

int main(void) {
	log_init("test", getenv("V") ? LOG_DEBUG : LOG_ERROR + 1);
	test_order();
	test_own_slice();
	test_refusals();
	test_failures();
	test_status();
	test_worker_dies();
	test_keeper_replaced();
	test_compare();
	test_limits();
	return tap_done();
}
