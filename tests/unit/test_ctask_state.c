/* What may be asked of a process in which state: the whole table. */
#include "metadata_lab.h"
#include "tap.h"
#include "workers/metadata/ctask/ctask.h"

#include <stdio.h>
#include <string.h>

#define STATES 4 /* in the order of the letters below */

static const Bulkhead__CtaskStatus states[STATES] = { CTASK(CREATED), CTASK(RUNNING), CTASK(PAUSED), CTASK(STOPPED) };

/* A letter each: '+' it may, 'p' FAILED_PRECONDITION, 'n' NOT_FOUND. */
static const struct row {
	enum ctask_action action;
	const char *name, *first, *added; /* of created, running, paused, stopped */
} rows[] = {
	{ CTASK_MAY_START, "start", "+ppp", "+p+p" },	{ CTASK_MAY_PAUSE, "pause", "p+pp", "++++" },
	{ CTASK_MAY_RESUME, "resume", "pp+p", "++++" }, { CTASK_MAY_FREEZE, "pause or resume again", "p++p", "++++" },
	{ CTASK_MAY_ADD, "exec", "++pp", "++++" },	{ CTASK_MAY_EXECUTE, "exec now", "p+pp", "++++" },
	{ CTASK_MAY_UPDATE, "update", "+++p", "++++" }, { CTASK_MAY_CHECKPOINT, "checkpoint", "p++p", "++++" },
	{ CTASK_MAY_SIGNAL, "kill", "+++n", "p++n" },	{ CTASK_MAY_REACH, "resize", "+++n", "p++n" },
	{ CTASK_MAY_DELETE, "delete", "+pp+", "+p++" },
};

static char ask(const struct ctask *t, const Bulkhead__CtaskExec *exec, enum ctask_action action) {
	Bulkhead__CtaskKey key = BULKHEAD__CTASK_KEY__INIT;
	struct fault fault = { 0 };
	key.namespace_ = (char *)"default";
	key.container_id = (char *)"web";
	key.exec_id = (char *)(exec ? "shell" : "");
	if (ctask_may(t, exec, action, &key, &fault) == 0)
		return fault.code == FAULT_NONE ? '+' : '?';
	bool named = strstr(fault.text, exec ? "process \"shell\" of task \"web\"" : "task \"web\"") == fault.text;
	return !named ? '?' : fault.code == FAULT_NOT_FOUND ? 'n' : fault.code == FAULT_FAILED_PRECONDITION ? 'p' : '?';
}

static void check(const struct row *r) {
	Bulkhead__CtaskRecord record = BULKHEAD__CTASK_RECORD__INIT;
	Bulkhead__CtaskExec exec = BULKHEAD__CTASK_EXEC__INIT;
	struct ctask t = { .record = &record };
	char first[STATES + 1] = "", added[STATES + 1] = "";
	for (size_t i = 0; i < STATES; i++) {
		record.status = exec.status = states[i];
		first[i] = ask(&t, NULL, r->action);
		added[i] = ask(&t, &exec, r->action);
	}
	tap_check(strcmp(first, r->first) == 0, "%s, of a task: %s", r->name, first);
	tap_check(strcmp(added, r->added) == 0, "%s, of an added process: %s", r->name, added);
}

static void says(Bulkhead__CtaskStatus status, enum ctask_action action, const char *text) {
	Bulkhead__CtaskRecord record = BULKHEAD__CTASK_RECORD__INIT;
	Bulkhead__CtaskKey key = BULKHEAD__CTASK_KEY__INIT;
	struct ctask t = { .record = &record };
	struct fault fault = { 0 };
	record.status = status;
	int r = ctask_may(&t, NULL, action, &key, &fault);
	tap_check(r < 0 && strstr(fault.text, text), "%s", text);
}

int main(void) {
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		check(&rows[i]);
	tap_check(ARRAY_SIZE(rows) == CTASK_ACTIONS, "no action is left out");
	says(CTASK(PAUSED), CTASK_MAY_PAUSE, "cannot pause a paused container");
	says(CTASK(STOPPED), CTASK_MAY_PAUSE, "cannot pause a stopped container");
	says(CTASK(RUNNING), CTASK_MAY_RESUME, "cannot resume a running container");
	says(CTASK(CREATED), CTASK_MAY_RESUME, "cannot resume a created container");
	return tap_done();
}
