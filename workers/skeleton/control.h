/* What the supervisor says to a worker: links, listeners, reload, stop, ping. */
#pragma once

#include "workers/skeleton/worker.h"

struct worker_link_slot {
	struct link *link; /* NULL until somebody asks for it */
	pid_t pid;	   /* of the peer; 0: away */
};

struct worker_private {
	const struct worker_class *class;
	int control;
	struct loop_source *source, *settle;
	struct worker_link_slot links[ROLE_COUNT][WORKER_INSTANCES_MAX];
};

/* Starts to listen; the end of the socket ends the worker. */
int control_start(struct worker *w, int fd) NODISCARD;
/* To the supervisor; a failure ends the worker. */
void control_tell(struct worker *w, const struct control *c);
