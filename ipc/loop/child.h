/*
 * Short-lived children for what may take long or wait: unpacking, removing,
 * mounting. One is a fork of the worker that runs one function, says how it
 * ended through a pipe, and exits. It dies with the worker.
 *
 * In the child nothing of the loop may be touched; every descriptor that isn't
 * named in keep is closed before run is called.
 */
#pragma once

#include "base/fault.h"
#include "loop/loop.h"

#define CHILD_KEEP_MAX 8
#define CHILD_VALUES 32

struct child;

struct child_result {
	struct fault fault; /* code FAULT_NONE: success */
	uint64_t values[CHILD_VALUES];
};

struct child_options {
	const char *name; /* the process's title: at most 15 bytes */
	int nice;
	int keep[CHILD_KEEP_MAX];
	size_t n_keep;
	/* In the child: 0, or a negative errno with the fault set. */
	int (*run)(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault);
	void *arg; /* the child sees it as it was at the fork */
	/* In the worker, once. */
	void (*done)(void *ctx, const struct child_result *result);
	void *ctx;
};

int child_start(struct loop *loop, const struct child_options *options, struct child **ret_child) NODISCARD;
/* Ends it; done is called when it is gone. */
void child_kill(struct child *c);
/* Closes all descriptors but those in keep, which it sorts. */
void descriptors_close_but(int *keep, size_t n);
