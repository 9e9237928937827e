/* logs: the container's log file, which the kubelet's format makes readable to
 * anyone: TIME STREAM TAGS MESSAGE, tag P for a line that goes on. */
#include "tools/bulkhead/cli.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static void line_print(char *line) {
	char *save = NULL;
	if (!strtok_r(line, " ", &save))
		return;
	const char *stream = strtok_r(NULL, " ", &save), *tags = strtok_r(NULL, " ", &save);
	if (!stream || !tags)
		return;
	FILE *to = strcmp(stream, "stderr") == 0 ? stderr : stdout;
	fputs(save, to);
	if (tags[0] != 'P')
		fputc('\n', to);
	fflush(to);
}

static bool running(struct cli *c, const char *container) {
	Runtime__V1__ContainerStatusRequest r = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	ProtobufCMessage *m = NULL;
	struct fault fault;
	r.container_id = (char *)container;
	if (cli_try(c, RUNTIME "ContainerStatus", &r.base, &runtime__v1__container_status_response__descriptor,
		    30 * NS_PER_SEC, &m, &fault) < 0)
		return false;
	bool yes = ((Runtime__V1__ContainerStatusResponse *)m)->status->state ==
		   RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING;
	protobuf_c_message_free_unpacked(m, NULL);
	return yes;
}

int log_print(struct cli *c, const char *container, const char *path, bool follow) {
	FILE *log = fopen(path, "re");
	if (!log)
		return cli_fail("logs", "open \"%s\": %s", path, strerrordesc_np(errno));
	CLEANUP_FREE char *line = NULL;
	size_t room = 0;
	bool last_round = !follow;
	for (;;) {
		ssize_t n;
		while ((n = getline(&line, &room, log)) > 0) {
			if (line[n - 1] == '\n')
				line[n - 1] = '\0';
			line_print(line);
		}
		if (last_round)
			break;
		/* Once more after the end: what it wrote last may have come meanwhile. */
		last_round = !running(c, container);
		clearerr(log);
		usleep(last_round ? 0 : 50000);
	}
	fclose(log);
	return 0;
}

int command_logs(struct cli *c, int argc, char **argv) {
	bool follow = argc > 1 && strcmp(argv[1], "-f") == 0;
	char id[128];
	if (argc != 2 + follow)
		return cli_fail("logs", "give one container");
	if (container_find(c, "logs", argv[1 + follow], id) != 0)
		return 1;
	Runtime__V1__ContainerStatusRequest r = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	r.container_id = id;
	CLEANUP_REPLY ProtobufCMessage *m = cli_call(c, RUNTIME "ContainerStatus", &r.base,
						     &runtime__v1__container_status_response__descriptor,
						     30 * NS_PER_SEC);
	if (!m)
		return 1;
	const char *path = ((Runtime__V1__ContainerStatusResponse *)m)->status->log_path;
	if (!path || !path[0])
		return cli_fail("logs", "container %.13s has no log: it was created without a log path", id);
	return log_print(c, id, path, follow);
}
