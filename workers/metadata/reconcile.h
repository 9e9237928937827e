/*
 * What the records say and what runs, made one again: whenever the task worker
 * (or this one) has been away. The kernel's truth wins.
 *
 *   runs, no record            stopped
 *   STARTING, runs             becomes UP
 *   STARTING, doesn't run      forgotten
 *   UP, doesn't run            DOWN, its containers ended ("Unknown", 255)
 *   DOWN, something is left    stopped again
 *   a container's process      taken over, or its end is, or deleted when it
 *                              has no record
 *
 * Objects with an operation under way are left alone: it gets its own answers.
 * So are pods whose keeper doesn't answer; the comparison is made again soon.
 */
#pragma once

#include "internal/task.pb-c.h"

struct metadata;

void reconcile_begin(struct metadata *m);

/* What a lost answer of task_create would have said. */
void task_info_reply(const Bulkhead__TaskInfo *t, Bulkhead__TaskCreateReply *ret_reply);
/* NULL: not in the list. */
const Bulkhead__SandboxInfo *task_list_sandbox(const Bulkhead__TaskListReply *l, const char *id);
const Bulkhead__TaskInfo *task_list_task(const Bulkhead__SandboxInfo *s, const char *id);
