#include "workers/keeper/title.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static char *room;
static size_t room_size;

void title_init(int argc, char **argv) {
	char *end = argv[0];
	for (int i = 0; i < argc; i++)
		if (argv[i] == end)
			end = argv[i] + strlen(argv[i]) + 1;
	for (char **e = environ; *e; e++)
		if (*e == end)
			end = *e + strlen(*e) + 1;
	room = argv[0];
	room_size = (size_t)(end - argv[0]);
}

void title_set(const char *name, const char *id) {
	static char *nothing[] = { NULL };
	environ = nothing;
	prctl(PR_SET_NAME, name, 0, 0, 0);
	if (room_size < 2)
		return;
	memset(room, 0, room_size);
	snprintf(room, room_size, "%s %.12s", name, id);
}
