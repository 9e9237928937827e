#include "workers/init/init.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One path a line, each after those that it depends on; tools/initrd makes it. */
#define MODULES_LIST "/lib/bulkhead/modules"

static void module_load(const char *path) {
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)) {
		log_text(LOG_ERROR, "load the module %s: %s", path, strerrordesc_np(errno));
		return;
	}
	/* The kernel has it; the file would only take the guest's memory. */
	unlink(path);
}

void modules_load(void) {
	FILE *f = fopen(MODULES_LIST, "re");
	char path[256];
	if (!f)
		return;
	while (fscanf(f, "%255s", path) == 1)
		module_load(path);
	fclose(f);
}
