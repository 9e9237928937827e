#include "workers/keeper/limits.h"

#include "base/fd.h"
#include "workers/keeper/process.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static const struct {
	const char *name;
	int resource;
} table[] = {
	{ "RLIMIT_AS", RLIMIT_AS },
	{ "RLIMIT_CORE", RLIMIT_CORE },
	{ "RLIMIT_CPU", RLIMIT_CPU },
	{ "RLIMIT_DATA", RLIMIT_DATA },
	{ "RLIMIT_FSIZE", RLIMIT_FSIZE },
	{ "RLIMIT_LOCKS", RLIMIT_LOCKS },
	{ "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK },
	{ "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE },
	{ "RLIMIT_NICE", RLIMIT_NICE },
	{ "RLIMIT_NOFILE", RLIMIT_NOFILE },
	{ "RLIMIT_NPROC", RLIMIT_NPROC },
	{ "RLIMIT_RSS", RLIMIT_RSS },
	{ "RLIMIT_RTPRIO", RLIMIT_RTPRIO },
	{ "RLIMIT_RTTIME", RLIMIT_RTTIME },
	{ "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
	{ "RLIMIT_STACK", RLIMIT_STACK },
};

static int limit_set(const Grpc__POSIXRlimit *l, int resource, int status, struct fault *fault) {
	struct rlimit wanted = { .rlim_cur = l->soft, .rlim_max = l->hard }, now;
	if (setrlimit((__rlimit_resource_t)resource, &wanted) == 0)
		return 0;
	if (errno != EPERM || getrlimit((__rlimit_resource_t)resource, &now) < 0)
		return fault_errno(fault, errno, "set %s to %" PRIu64 ":%" PRIu64, l->type, l->soft, l->hard);
	wanted.rlim_max = MIN(wanted.rlim_max, now.rlim_max);
	wanted.rlim_cur = MIN(wanted.rlim_cur, wanted.rlim_max);
	if (setrlimit((__rlimit_resource_t)resource, &wanted) < 0)
		return fault_errno(fault, errno, "set %s to %" PRIu64 ":%" PRIu64, l->type, l->soft, l->hard);
	become_warn(status, "%s of %" PRIu64 ":%" PRIu64 " is not permitted here, it is %" PRIu64 ":%" PRIu64, l->type,
		    l->soft, l->hard, (uint64_t)wanted.rlim_cur, (uint64_t)wanted.rlim_max);
	return 0;
}

int limits_resources(const Grpc__Process *p, int status, struct fault *fault) {
	for (size_t i = 0; i < p->n_rlimits; i++) {
		const Grpc__POSIXRlimit *l = p->rlimits[i];
		size_t k = 0;
		while (k < ARRAY_SIZE(table) && strcmp(table[k].name, l->type) != 0)
			k++;
		if (k == ARRAY_SIZE(table))
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "unknown resource limit \"%s\"", l->type);
		int r = limit_set(l, table[k].resource, status, fault);
		if (r < 0)
			return r;
	}
	return 0;
}

void limits_oom_score(int64_t score, int status) {
	char text[32];
	CLEANUP_FD int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	int n = snprintf(text, sizeof(text), "%" PRId64, score);
	if (fd >= 0 && write(fd, text, (size_t)n) == n)
		return;
	int error = errno;
	char now[32] = "?";
	ssize_t size = fd < 0 ? -1 : pread(fd, now, sizeof(now) - 1, 0);
	if (size > 0)
		now[strcspn(now, "\n")] = '\0';
	become_warn(status, "an oom score of %s is not permitted here (%s), it is %s", text, strerrordesc_np(error),
		    now);
}
