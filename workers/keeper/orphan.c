#include "workers/keeper/orphan.h"

#include "base/fd.h"
#include "base/log.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>

struct orphan {
	int pidfd;
	struct loop_source *source;
};

static void ended(void *ctx, uint32_t events) {
	struct orphan *o = ctx;
	siginfo_t info;
	waitid(P_PIDFD, (id_t)o->pidfd, &info, WEXITED | WNOHANG);
	loop_source_free(o->source);
	fd_close(o->pidfd);
	free(o);
}

void orphan_adopt(struct loop *loop, int *pidfd) {
	siginfo_t info = { 0 };
	if (*pidfd < 0 || waitid(P_PIDFD, (id_t)*pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid != 0)
		return;
	struct orphan *o = calloc(1, sizeof(*o));
	if (o && loop_poll(loop, *pidfd, POLLIN, ended, o, &o->source) == 0) {
		o->pidfd = take_fd(pidfd);
		return;
	}
	free(o);
	log_event(LOG_WARN, "out of memory: a child's end won't be seen", NULL);
}
