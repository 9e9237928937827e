/* Names looked up below a folder, while somebody else renames. */
#include "tap.h"

#include "base/fd.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define LOOKUPS 50000

static char folder[] = "/tmp/bulkhead-fd-XXXXXX";

/* The kernel gives up a ".." whenever anything was renamed meanwhile, anywhere. */
static pid_t renamer_start(int root) {
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		renameat(root, "x", root, "y");
		renameat(root, "y", root, "x");
	}
}

static void test_races(int root) {
	const struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT };
	const char *path = "a/../a/../a/../b";
	int found = 0, raced = 0;
	pid_t pid = renamer_start(root);
	for (int i = 0; i < LOOKUPS; i++) {
		int raw = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
		raced += raw < 0 && errno == EAGAIN;
		fd_close(raw);
		int fd = fd_open_in(root, path, O_PATH, RESOLVE_IN_ROOT);
		found += fd >= 0;
		fd_close(fd);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	tap_check(found == LOOKUPS, "a name is found whoever renames: %d of %d, where the kernel gave up %d", found,
		  LOOKUPS, raced);
}

static void test_ways(int root) {
	int fd = fd_open_in(root, "", O_PATH, RESOLVE_BENEATH);
	tap_check(fd >= 0, "no name is the folder itself");
	fd_close(fd);
	tap_check(fd_open_in(root, "../b", O_PATH, RESOLVE_BENEATH) == -EXDEV, "no way leads out");
	tap_check(fd_open_in(root, "gone", O_PATH, RESOLVE_BENEATH) == -ENOENT, "what isn't there isn't there");
}

int main(void) {
	if (!mkdtemp(folder))
		return 1;
	CLEANUP_FD int root = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (const char **name = (const char *[]){ "a", "b", "x", NULL }; *name; name++)
		mkdirat(root, *name, 0755);
	test_ways(root);
	test_races(root);
	for (const char **name = (const char *[]){ "a", "b", "x", "y", NULL }; *name; name++)
		unlinkat(root, *name, AT_REMOVEDIR);
	rmdir(folder);
	return tap_done();
}
