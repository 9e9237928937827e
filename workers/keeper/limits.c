#include "workers/keeper/limits.h"

#include "base/fd.h"
#include "workers/keeper/caps.h"
#include "workers/keeper/process.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
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

static void clamp(const Grpc__POSIXRlimit *l, const struct rlimit *now, int status, struct rlimit *ret) {
	ret->rlim_max = MIN((rlim_t)l->hard, now->rlim_max);
	ret->rlim_cur = MIN((rlim_t)l->soft, ret->rlim_max);
	become_warn(status, "%s of %" PRIu64 ":%" PRIu64 " is not permitted here, it is %" PRIu64 ":%" PRIu64, l->type,
		    l->soft, l->hard, (uint64_t)ret->rlim_cur, (uint64_t)ret->rlim_max);
}

static int limit_find(const Grpc__POSIXRlimit *l, int *ret_resource, struct fault *fault) {
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strcmp(table[i].name, l->type) == 0) {
			*ret_resource = table[i].resource;
			return 0;
		}
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "unknown resource limit \"%s\"", l->type);
}

int limits_granted(const Grpc__POSIXRlimit *l, int status, struct rlimit *ret_limit, struct fault *fault) {
	struct rlimit now;
	int resource;
	int r = limit_find(l, &resource, fault);
	if (r < 0)
		return r;
	*ret_limit = (struct rlimit){ .rlim_cur = l->soft, .rlim_max = l->hard };
	if (getrlimit((__rlimit_resource_t)resource, &now) < 0)
		return fault_errno(fault, errno, "read %s", l->type);
	if (l->hard > now.rlim_max && !(caps_own() & UINT64_C(1) << CAP_SYS_RESOURCE))
		clamp(l, &now, status, ret_limit);
	return 0;
}

static int limit_set(const Grpc__POSIXRlimit *l, int resource, int status, struct fault *fault) {
	struct rlimit wanted = { .rlim_cur = l->soft, .rlim_max = l->hard }, now;
	if (setrlimit((__rlimit_resource_t)resource, &wanted) == 0)
		return 0;
	if (errno != EPERM || getrlimit((__rlimit_resource_t)resource, &now) < 0)
		return fault_errno(fault, errno, "set %s to %" PRIu64 ":%" PRIu64, l->type, l->soft, l->hard);
	clamp(l, &now, status, &wanted);
	if (setrlimit((__rlimit_resource_t)resource, &wanted) < 0)
		return fault_errno(fault, errno, "set %s to %" PRIu64 ":%" PRIu64, l->type, l->soft, l->hard);
	return 0;
}

int limits_resources(const Grpc__Process *p, int status, struct fault *fault) {
	for (size_t i = 0; i < p->n_rlimits; i++) {
		int resource;
		int r = limit_find(p->rlimits[i], &resource, fault);
		if (r == 0)
			r = limit_set(p->rlimits[i], resource, status, fault);
		if (r < 0)
			return r;
	}
	return 0;
}
