/* Keepers that are made ahead of their pods; see ahead.c. */
#pragma once

#include "task.h"

/* Whether such a keeper can be the pod's. */
bool ahead_fits(const Bulkhead__SandboxStartRequest *m);
/* Our end of the socket of one, which is the caller's now; -1: there is none. */
int ahead_take(struct task_worker *w);
/* Sees to it that there will be one. */
void ahead_make(struct task_worker *w);
void ahead_drop(struct task_worker *w);
