/*
 * bulkhead-agent: the Kata agent of a guest, all of its processes in one
 * executable. Which of them it is, the name says that it is started by; the
 * supervisor starts the workers so, from /proc/self/exe.
 *
 * By another name it is the agent: as process 1 the guest's init (init.h), which
 * starts the supervisor; in a guest that has an init, the supervisor.
 */
#include "workers/init/init.h"

#include "base/macros.h"
#include "workers/skeleton/image.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int supervisor_program(int argc, char **argv);
int api_program(int argc, char **argv);
int metadata_program(int argc, char **argv);
int task_program(int argc, char **argv);
int guest_program(int argc, char **argv);
int keeper_program(int argc, char **argv);

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} programs[] = {
	{ "bulkheadd", supervisor_program },	   { "bulkhead-api", api_program },
	{ "bulkhead-metadata", metadata_program }, { "bulkhead-task", task_program },
	{ "bulkhead-guest", guest_program },	   { "bulkhead-keeper", keeper_program },
};

/* The supervisor, with the words of the command line as its options. */
static int service(int argc, char **argv) {
	static const char *const own[] = { "bulkheadd", "--libexec", "/proc/self/exe", "--set", "mode=agent" };
	const char **args = calloc(ARRAY_SIZE(own) + (size_t)argc, sizeof(*args));
	if (!args || image_seal("bulkhead-agent", argv) < 0)
		return 1;
	memcpy(args, own, sizeof(own));
	memcpy(args + ARRAY_SIZE(own), argv + 1, (size_t)argc * sizeof(*args));
	return supervisor_program((int)ARRAY_SIZE(own) + argc - 1, (char **)args);
}

int main(int argc, char **argv) {
	const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
		if (strcmp(programs[i].name, name) == 0)
			return programs[i].main(argc, argv);
	return getpid() == 1 ? init_main(argc, argv) : service(argc, argv);
}
