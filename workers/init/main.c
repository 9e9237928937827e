/*
 * bulkhead-agent: the Kata agent of a guest, all of its processes in one
 * executable. Which of them it is, the name says that it is started by; the
 * supervisor starts the workers so, from /proc/self/exe.
 *
 * As process 1 it is the guest's init (init.h), which starts the supervisor. In a
 * guest that has an init already, it is started by the supervisor's name.
 */
#include "workers/init/init.h"

#include <stdio.h>
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

int main(int argc, char **argv) {
	const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
	for (size_t i = 0; i < sizeof(programs) / sizeof(*programs); i++)
		if (strcmp(programs[i].name, name) == 0)
			return programs[i].main(argc, argv);
	if (getpid() == 1)
		return init_main(argc, argv);
	fprintf(stderr, "%s: the agent's init; where there is one already, start it as bulkheadd\n", argv[0]);
	return 2;
}
