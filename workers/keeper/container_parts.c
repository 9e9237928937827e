/*
 * What a container is made with before its process is: the pipes of its streams
 * and those who read them, and its control group. A failure leaves them to
 * container_free.
 */
#include "workers/keeper/backend.h"
#include "workers/keeper/container.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* So that it may be opened again, as /dev/stdout. */
static void stream_own(const struct keeper *k, int fd) {
	if (k->pod.userns.fd >= 0 && fchown(fd, k->pod.userns.uid, k->pod.userns.gid) < 0)
		log_event(LOG_WARN, "a stream keeps its owner", "pod", k->id, "why", strerrordesc_np(errno), NULL);
}

int process_pipes(struct keeper *k, struct stdio *s, struct log *l, int stdio[3], struct fault *fault) {
	for (int i = 0; i < 3; i++) {
		int ends[2];
		if (!stdio_wants(s, i))
			continue;
		if (pipe2(ends, O_CLOEXEC) < 0)
			return fault_errno(fault, errno, "make a pipe");
		stdio[i] = ends[i == 0 ? 0 : 1];
		stream_own(k, stdio[i]);
		int r = stdio_is_held(s) ? stdio_hold(s, i, ends[i == 0], fault)
			: i == 0	 ? stdio_input(s, ends[1], false, fault)
					 : log_attach(l, (enum log_stream_kind)(i - 1), ends[0]);
		if (r < 0)
			return i == 0 || stdio_is_held(s) ? r : fault_errno(fault, r, "read the process's output");
	}
	if (!stdio_is_held(s))
		stdio_outputs(s, l);
	return 0;
}

int process_terminal(struct stdio *s, struct log *l, int fd, struct fault *fault) {
	if (stdio_is_held(s))
		return stdio_hold(s, 1, fd, fault);
	int copy = s && stdio_wants(s, 0) ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
	int r = log_attach(l, LOG_STDOUT, fd);
	if (r < 0) {
		fd_close(copy);
		return fault_errno(fault, r, "read the process's terminal");
	}
	if (s)
		stdio_outputs(s, l);
	return copy >= 0 ? stdio_input(s, copy, true, fault) : 0;
}

int container_streams(struct container *c, const Bulkhead__TaskCreateRequest *t, int stdio[3], struct fault *fault) {
	int ends[2];
	if (t->spec->process->terminal)
		return 0;
	if (c->stdio)
		return process_pipes(c->keeper, c->stdio, c->log, stdio, fault);
	if (t->stdin) {
		if (pipe2(ends, O_CLOEXEC) < 0)
			return fault_errno(fault, errno, "make a pipe for stdin");
		stdio[0] = ends[0];
		stream_own(c->keeper, ends[0]);
		c->stdin_fd = ends[1];
	}
	for (int i = 0; i < LOG_STREAMS; i++) {
		if (pipe2(ends, O_CLOEXEC) < 0)
			return fault_errno(fault, errno, "make a pipe for output");
		stdio[1 + i] = ends[1];
		stream_own(c->keeper, ends[1]);
		int r = log_attach(c->log, (enum log_stream_kind)i, ends[0]);
		if (r < 0)
			return fault_errno(fault, r, "read the container's output");
	}
	return 0;
}

/* A path below the root of each hierarchy, or what systemd would make a scope
 * of, "SLICE:PREFIX:NAME", and where it would be. */
static int given_path(const char *given, char ret_path[CGROUP_PATH_MAX], struct fault *fault) {
	char slice[UNIT_NAME_SIZE], place[CGROUP_PATH_MAX];
	const char *first = strchr(given, ':'), *second = first ? strchr(first + 1, ':') : NULL;
	if (given[0] == '/' || !second) {
		snprintf(ret_path, CGROUP_PATH_MAX, "%s", given);
		return 0;
	}
	snprintf(slice, sizeof(slice), "%.*s", (int)(first - given), given);
	if (slice_path(slice[0] ? slice : "system.slice", place, sizeof(place)) < 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.80s\" of the cgroup \"%.200s\" is not a slice",
				 slice, given);
	bool prefixed = second > first + 1;
	if (snprintf(ret_path, CGROUP_PATH_MAX, "%s/%.*s%s%s.scope", place, (int)(second - first - 1), first + 1,
		     prefixed ? "-" : "", second + 1) >= CGROUP_PATH_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the cgroup \"%.200s\" is too long", given);
	return 0;
}

int container_group(struct container *c, const Grpc__Spec *spec, struct fault *fault) {
	struct keeper *k = c->keeper;
	char path[CGROUP_PATH_MAX];
	const char *given = spec->linux ? spec->linux->cgroupspath : "";
	int r = given[0] ? given_path(given, path, fault) : 0;
	if (r < 0)
		return r;
	if (!given[0])
		snprintf(path, sizeof(path), "%s/%s", k->pod.cgroup_path, c->id);
	r = keeper_grave_clear(k, path);
	if (r < 0)
		return fault_errno(fault, r, "the processes of an earlier container are still in the cgroup \"%s\"",
				   path);
	/* At its end everything in there is killed. */
	if (given[0] && k->pod.bare && cgroup_path_valid(path) && cgroup_in_use(k->config.cgroups, path))
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "the cgroup \"%s\" isn't empty", path);
	/* A successor finds the usual place by the id alone. */
	if (given[0]) {
		snprintf(c->cgroup.path, sizeof(c->cgroup.path), "%s", path);
		state_save(k);
	}
	r = cgroup_create(k->config.cgroups, path, spec->linux ? spec->linux->resources : NULL, true, container_warn, c,
			  &c->cgroup, fault);
	return r < 0 ? r : cgroup_unified(&c->cgroup, spec, container_warn, c, fault);
}
