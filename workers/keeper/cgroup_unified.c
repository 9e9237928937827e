/*
 * Files of cgroup v2 that a container's specification sets by name:
 *
 *   bulkhead.io/unified/<file>   what is written into it
 *
 * They come last and so override what was derived from other limits. Files that
 * would move or stop processes are not settings. Where v1 has the controllers,
 * a file that v2 lacks is a warning.
 */
#include "workers/keeper/cgroup_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "bulkhead.io/unified/"

bool cgroup_unified_allowed(const char *file) {
	if (strchr(file, '/') || !strchr(file, '.') || file[0] == '.')
		return false;
	return strncmp(file, "cgroup.", 7) != 0 || strncmp(file, "cgroup.max.", 11) == 0;
}

/* io and huge pages aren't counted unless somebody asks. */
static int controller_enable(const struct cgroup *c, const char *file) {
	char name[32];
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(file, "."), file);
	return cgroup_folder_make(c, c->system->v2, cgroup_controllers_parse(name));
}

static int setting_write(const struct cgroup *c, const char *file, const char *value) {
	if (c->system->v2 < 0 || !(c->made >> c->system->v2 & 1))
		return -ENODEV;
	int r = controller_enable(c, file);
	return r < 0 ? r : cgroup_write(c, c->system->v2, file, value);
}

int cgroup_unified_set(const struct cgroup *c, const char *file, const char *value, cgroup_warn_fn warn, void *ctx,
		       struct fault *fault) {
	bool pure = c->system->n == 1 && c->system->v2 == 0;
	char text[256];
	if (!cgroup_unified_allowed(file))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.64s\" is no cgroup setting", file);
	int r = setting_write(c, file, value);
	if (r < 0 && (pure || (r != -ENOENT && r != -ENODEV)))
		return fault_errno(fault, r, "cgroup setting %s = \"%s\"", file, value);
	if (r < 0) {
		snprintf(text, sizeof(text),
			 "cgroup setting %.64s is not applied: this machine's cgroup v2 hierarchy has no such file",
			 file);
		warn(ctx, text);
	}
	return 0;
}

int cgroup_unified(const struct cgroup *c, const Grpc__Spec *spec, cgroup_warn_fn warn, void *ctx,
		   struct fault *fault) {
	for (size_t i = 0; i < spec->n_annotations; i++) {
		const char *file = spec->annotations[i]->key;
		if (strncmp(file, PREFIX, strlen(PREFIX)) != 0)
			continue;
		int r = cgroup_unified_set(c, file + strlen(PREFIX), spec->annotations[i]->value, warn, ctx, fault);
		if (r < 0)
			return r;
	}
	return 0;
}
