/*
 * Happy path: mounts, modules, console, then the supervisor, then waiting: for
 * children to reap, and for the end. The supervisor that ends with status 0 was
 * asked to (DestroySandbox, SIGTERM), so the machine goes off; one that ended
 * otherwise is started again, and its workers find their containers.
 */
#include "workers/init/init.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "workers/skeleton/image.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define AGAIN_AFTER (500 * NS_PER_MS) /* so long since its start a supervisor's end is no loop */
#define END_GRACE 15		      /* seconds that the end may take */

/* What the agent keeps lies in the guest's memory, beside its sockets. */
static const char *const agent_options[] = {
	"bulkheadd", "--libexec",    "/proc/self/exe", "--set", "mode=agent", "--set", "state_root=/run/bulkhead/state",
	"--set",     "agent_ends=1",
};

struct init {
	struct init_parameters parameters;
	sigset_t signals;
	pid_t supervisor;
	int64_t started;
	bool stopping;
};

/* --- the machine --- */

static void loopback_up(void) {
	CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		log_text(LOG_ERROR, "bring up lo: %s", strerrordesc_np(errno));
}

static void file_write(const char *path, const char *text) {
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		log_text(LOG_WARN, "write %s: %s", path, strerrordesc_np(errno));
}

/* The kernel has opened it, where the initrd has the node. */
static void console_take(void) {
	setsid();
	CLEANUP_FD int fd = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return;
	for (int standard = STDIN_FILENO; standard <= STDERR_FILENO; standard++)
		dup2(fd, standard);
	ioctl(STDIN_FILENO, TIOCSCTTY, 1);
}

static void parameters_find(struct init_parameters *ret_parameters) {
	static char line[4096];
	CLEANUP_FD int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
	if (n < 0)
		log_text(LOG_ERROR, "read /proc/cmdline: %s", strerrordesc_np(errno));
	line[n < 0 ? 0 : n] = '\0';
	parameters_read(line, ret_parameters);
}

/* All processes of the agent are one image, which lies in memory once: in the
 * initrd's file system only until here. */
static void image_prepare(char **argv) {
	struct statfs st;
	int r = image_seal("bulkhead-agent", argv);
	if (r < 0)
		log_text(LOG_ERROR, "run from a sealed copy: %s", strerrordesc_np(-r));
	else if (statfs("/", &st) == 0 && (st.f_type == RAMFS_MAGIC || st.f_type == TMPFS_MAGIC))
		unlink(argv[0]);
}

static void machine_prepare(struct init *i) {
	console_take();
	parameters_find(&i->parameters);
	modules_load();
	mounts_rest(i->parameters.cgroup_v1);
	if (i->parameters.port[0])
		port_name(i->parameters.port);
	if (i->parameters.line[0])
		line_announce(i->parameters.line);
	loopback_up();
	if (sethostname("localhost", strlen("localhost")) < 0)
		log_text(LOG_WARN, "set the host name: %s", strerrordesc_np(errno));
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	/* Containers get scores of their own from the keeper. */
	file_write("/proc/self/oom_score_adj", "-997");
	reboot(RB_DISABLE_CAD);
}

/* --- the supervisor --- */

static void supervisor_become(const struct init *i) {
	const char *args[sizeof(agent_options) / sizeof(*agent_options) + INIT_OPTIONS_MAX + 1] = { 0 };
	size_t n = sizeof(agent_options) / sizeof(*agent_options);
	memcpy(args, agent_options, sizeof(agent_options));
	memcpy(args + n, i->parameters.options, i->parameters.n_options * sizeof(*args));
	sigprocmask(SIG_UNBLOCK, &i->signals, NULL);
	execv("/proc/self/exe", (char **)args);
	log_text(LOG_ERROR, "execute the supervisor: %s", strerrordesc_np(errno));
	_exit(127);
}

static void supervisor_start(struct init *i) {
	i->started = clock_mono();
	i->supervisor = fork();
	if (i->supervisor == 0)
		supervisor_become(i);
	if (i->supervisor < 0)
		log_text(LOG_ERROR, "start the supervisor: %s", strerrordesc_np(errno));
}

/* --- the end --- */

static void power_off(void) {
	log_text(LOG_INFO, "the agent is done: power off");
	kill(-1, SIGKILL);
	/* Nothing can stay that would still write: they are killed. */
	while (wait(NULL) > 0 || errno == EINTR)
		;
	sync();
	reboot(RB_POWER_OFF);
	log_text(LOG_ERROR, "power off: %s", strerrordesc_np(errno));
	_exit(1);
}

static void stop(struct init *i) {
	if (i->stopping)
		return;
	i->stopping = true;
	alarm(END_GRACE);
	if (i->supervisor <= 0 || kill(i->supervisor, SIGTERM) < 0)
		power_off();
}

static void supervisor_ended(struct init *i, int status) {
	i->supervisor = 0;
	if (i->stopping || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
		power_off();
	log_text(LOG_ERROR, "the supervisor has ended by %s %d: it is started again",
		 WIFSIGNALED(status) ? "signal" : "status",
		 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static void reap(struct init *i) {
	int status;
	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
		if (pid == i->supervisor)
			supervisor_ended(i, status);
}

static void run(struct init *i) {
	for (;;) {
		if (i->supervisor <= 0 && clock_mono() - i->started >= AGAIN_AFTER)
			supervisor_start(i);
		/* Without a supervisor this is the wait until the next. */
		const struct timespec wait = { .tv_nsec = AGAIN_AFTER };
		int signal = i->supervisor > 0 ? sigwaitinfo(&i->signals, NULL)
					       : sigtimedwait(&i->signals, NULL, &wait);
		if (signal == SIGTERM || signal == SIGINT || signal == SIGPWR)
			stop(i);
		else if (signal == SIGALRM)
			power_off();
		reap(i);
	}
}

int init_main(int argc, char **argv) {
	static struct init init;
	log_init("init", LOG_INFO);
	sigemptyset(&init.signals);
	for (const int *s = (const int[]){ SIGCHLD, SIGTERM, SIGINT, SIGPWR, SIGALRM, 0 }; *s; s++)
		sigaddset(&init.signals, *s);
	sigprocmask(SIG_BLOCK, &init.signals, NULL);
	mounts_first();
	image_prepare(argv);
	machine_prepare(&init);
	supervisor_start(&init);
	run(&init);
	return 0;
}
