/*
 * bulkheadd: start-up, signals, reload and the end.
 *
 * Start-up either succeeds up to the point where all workers are on their way,
 * or ends with one sentence on stderr and status 1; nothing is left behind but
 * folders. All workers start at once. The sockets listen before that, so no
 * client is refused meanwhile.
 *
 * SIGTERM and SIGINT: workers finish, role after role, those that face clients
 * first, each within stop_timeout_s; then status 0. Keepers and their
 * containers run on. A second signal ends it at once.
 */
#include "supervisor/supervisor.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/version.h"
#include "boot/block.h"
#include "supervisor/folders.h"
#include "supervisor/notify.h"
#include "supervisor/privileges.h"
#include "supervisor/spawn.h"

#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

/* jemalloc's, as small as it gets: this process hardly allocates. */
const char *malloc_conf = "narenas:1,tcache:false,background_thread:false,dirty_decay_ms:0,muzzy_decay_ms:0,"
			  "abort_conf:false";

/* --- signals --- */

static void finish_next(struct supervisor *s);

static void finish_late(void *ctx) {
	struct supervisor *s = ctx;
	loop_source_free_p(&s->stop_timer);
	for (size_t i = 0; i < s->n_slots; i++)
		if (s->slots[i].role == s->stop_role)
			slot_kill(&s->slots[i], "it doesn't finish");
	if (loop_timer(s->loop, clock_mono() + NS_PER_SEC, finish_late, s, &s->stop_timer) < 0)
		loop_stop(s->loop, 0);
}

/* Asks the workers of the next role that has any to finish; the end when there
 * is none. */
static void finish_next(struct supervisor *s) {
	loop_source_free_p(&s->stop_timer);
	while (++s->stop_role < ROLE_COUNT) {
		size_t n = 0;
		for (size_t i = 0; i < s->n_slots; i++) {
			loop_source_free_p(&s->slots[i].restart_timer);
			if (s->slots[i].role != s->stop_role || !s->slots[i].pid)
				continue;
			slot_tell(&s->slots[i], &(struct control){ .type = CONTROL_STOP }, NULL, 0);
			n++;
		}
		int64_t deadline = clock_mono() + s->config.stop_timeout_s * NS_PER_SEC;
		if (n > 0 && loop_timer(s->loop, deadline, finish_late, s, &s->stop_timer) == 0)
			return;
	}
	loop_stop(s->loop, 0);
}

void supervisor_gone(struct supervisor *s, struct slot *t) {
	if (!s->stopping || t->role != s->stop_role)
		return;
	for (size_t i = 0; i < s->n_slots; i++)
		if (s->slots[i].role == s->stop_role && s->slots[i].pid)
			return;
	finish_next(s);
}

static void on_stop(struct supervisor *s) {
	if (s->stopping) {
		log_text(LOG_WARN, "asked to stop again: not waiting for the workers");
		loop_stop(s->loop, 0);
		return;
	}
	log_text(LOG_INFO, "stopping; containers run on");
	notify("STOPPING=1\nSTATUS=Stopping; containers run on.");
	s->stopping = true;
	s->stop_role = ROLE_SUPERVISOR;
	finish_next(s);
}

static void reload_tell(struct supervisor *s) {
	static struct boot_block block;
	block.config = s->config.boot;
	CLEANUP_FD int fd = boot_block_write(&block);
	if (fd < 0) {
		log_event(LOG_ERROR, "can't hand the configuration out", "error", strerror(-fd), NULL);
		return;
	}
	for (size_t i = 0; i < s->n_slots; i++)
		slot_tell(&s->slots[i], &(struct control){ .type = CONTROL_RELOAD }, &fd, 1);
}

static void on_reload(struct supervisor *s) {
	char lines[96];
	snprintf(lines, sizeof(lines), "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)(clock_mono() / 1000));
	notify(lines);
	struct config new;
	struct fault fault;
	if (config_load(&s->source, &new, &fault) < 0) {
		log_event(LOG_ERROR, "the configuration stays as it was", "error", fault.text, NULL);
	} else {
		const char *fixed = config_reload(&s->config, &new);
		if (fixed)
			log_event(LOG_WARN, "a changed key takes effect at the next start", "key", fixed, NULL);
		log_set_level((enum log_level)s->config.boot.log_level);
		reload_tell(s);
		if (watch_start(s) < 0)
			loop_stop(s->loop, -ENOMEM);
		log_text(LOG_INFO, "configuration reloaded");
	}
	notify("READY=1");
}

static void signal_arrived(void *ctx, uint32_t events) {
	struct supervisor *s = ctx;
	struct signalfd_siginfo info;
	while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP)
			on_reload(s);
		else
			on_stop(s);
	}
}

static int signals_open(struct supervisor *s) {
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signals < 0)
		return -errno;
	return loop_poll(s->loop, s->signals, POLLIN, signal_arrived, s, &s->signal_source);
}

/* --- the service manager --- */

void supervisor_ready(struct supervisor *s, struct slot *t) {
	if (s->announced)
		return;
	for (size_t i = 0; i < s->n_slots; i++)
		if (!s->slots[i].was_ready)
			return;
	s->announced = true;
	char lines[BOOT_PATH_MAX + 64];
	snprintf(lines, sizeof(lines), "READY=1\nSTATUS=Serving on %s", s->config.boot.socket);
	notify(lines);
	log_event(LOG_INFO, "serving", "socket", s->config.boot.socket, NULL);
}

static void watchdog_due(void *ctx) {
	struct supervisor *s = ctx;
	loop_source_free_p(&s->watchdog_timer);
	notify("WATCHDOG=1");
	if (loop_timer(s->loop, clock_mono() + notify_watchdog_period(), watchdog_due, s, &s->watchdog_timer) < 0)
		loop_stop(s->loop, -ENOMEM);
}

/* --- start-up --- */

static int listeners_open(struct supervisor *s, struct fault *fault) {
	char path[BOOT_PATH_MAX];
	while (listener_path(&s->config, (unsigned)s->n_listeners, path) == 0) {
		if (s->n_listeners == LISTENERS_MAX)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"socket\" names more than %d paths",
					 LISTENERS_MAX);
		int r = listener_open(&s->config, path, &s->listeners[s->n_listeners], fault);
		if (r < 0)
			return r;
		s->n_listeners++;
	}
	return 0;
}

static void listeners_remove(struct supervisor *s) {
	char path[BOOT_PATH_MAX];
	for (unsigned i = 0; i < s->n_listeners; i++)
		if (listener_path(&s->config, i, path) == 0)
			unlink(path);
}

static void slot_add(struct supervisor *s, enum role role, unsigned instance) {
	s->slots[s->n_slots++] = (struct slot){
		.supervisor = s,
		.role = role,
		.instance = instance,
		.pidfd = -1,
		.control = -1,
	};
}

static int environment_prepare(struct supervisor *s, struct fault *fault) {
	if (geteuid() != 0)
		return fault_set(fault, FAULT_PERMISSION_DENIED, "bulkheadd must be started by root");
	int r = spawn_check(s->libexec, fault);
	if (r == 0)
		r = folders_lock(&s->config, &s->lock, &s->workers_lock, fault);
	if (r == 0)
		r = folders_make(&s->config, fault);
	return r < 0 ? r : listeners_open(s, fault);
}

static int loop_prepare(struct supervisor *s, struct fault *fault) {
	int r = loop_new(NULL, &s->loop);
	if (r == 0)
		r = loop_enable(s->loop, NULL, 0);
	if (r == 0)
		r = signals_open(s);
	if (r == 0)
		r = watch_start(s);
	return r < 0 ? fault_errno(fault, r, "make the io_uring (Linux 6.1 or newer is needed)") : 0;
}

static int supervise(struct supervisor *s, struct fault *fault) {
	int r = environment_prepare(s, fault);
	if (r == 0)
		r = loop_prepare(s, fault);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < s->n_listeners; i++)
		slot_add(s, ROLE_API, i);
	for (enum role role = ROLE_METADATA; role < ROLE_COUNT; role++)
		slot_add(s, role, 0);
	for (size_t i = 0; i < s->n_slots; i++)
		slot_start(&s->slots[i]);
	if (notify_watchdog_period() > 0)
		watchdog_due(s);
	r = loop_run(s->loop);
	return r < 0 ? fault_errno(fault, r, "the event loop failed") : 0;
}

/* --- options --- */

static const char usage[] =
	"usage: bulkheadd [-c FILE] [--set KEY=VALUE]... [--libexec DIR]\n"
	"\n"
	"  -c, --config FILE     the configuration (" CONFIG_DEFAULT_FILE ")\n"
	"      --set KEY=VALUE   as a line of that file; wins over it\n"
	"      --libexec DIR     where the workers are (the folder of bulkheadd,\n"
	"                        or ../libexec/bulkhead beside it)\n"
	"      --print-privileges  print what each worker may do, and exit\n"
	"      --version\n"
	"  -h, --help\n";

struct options {
	struct config_source source;
	char *libexec;
	bool print_privileges;
};

/* Beside the executable in a build, below ../libexec when installed. */
static char *libexec_find(void) {
	static char path[BOOT_PATH_MAX];
	char self[BOOT_PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return path;
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	snprintf(path, sizeof(path), "%.*s/bulkhead-api", (int)sizeof(path) - 16, self);
	bool beside = access(path, X_OK) == 0;
	snprintf(path, sizeof(path), "%.*s%s", (int)sizeof(path) - 32, self, beside ? "" : "/../libexec/bulkhead");
	return path;
}

static int options_read(int argc, char **argv, struct options *o, int *ret_status) {
	enum { SET = 256, LIBEXEC, PRIVILEGES, VERSION };
	static const struct option known[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "set", required_argument, NULL, SET },
		{ "libexec", required_argument, NULL, LIBEXEC },
		{ "print-privileges", no_argument, NULL, PRIVILEGES },
		{ "version", no_argument, NULL, VERSION },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;
	while ((c = getopt_long(argc, argv, "c:h", known, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->source.file = optarg;
			o->source.file_required = true;
			break;
		case SET:
			o->source.options[o->source.n_options++] = optarg;
			break;
		case LIBEXEC:
			o->libexec = optarg;
			break;
		case PRIVILEGES:
			o->print_privileges = true;
			break;
		case VERSION:
			printf("bulkheadd %s\n", BULKHEAD_VERSION);
			return 1;
		default:
			fputs(usage, c == 'h' ? stdout : stderr);
			*ret_status = c == 'h' ? 0 : 2;
			return 1;
		}
	}
	if (optind == argc)
		return 0;
	fprintf(stderr, "bulkheadd: unexpected \"%s\"\n%s", argv[optind], usage);
	*ret_status = 2;
	return 1;
}

int main(int argc, char **argv) {
	static struct supervisor s = { .lock = -1, .workers_lock = -1, .signals = -1 };
	/* There are fewer --set than words. */
	CLEANUP_FREE const char **sets = calloc((size_t)argc, sizeof(*sets));
	struct options o = { .source = { .file = CONFIG_DEFAULT_FILE, .options = sets }, .libexec = libexec_find() };
	struct fault fault;
	int status = 0;
	if (!sets || options_read(argc, argv, &o, &status))
		return status;
	log_init("supervisor", LOG_INFO);
	s.source = o.source;
	s.libexec = o.libexec;
	int r = config_load(&s.source, &s.config, &fault);
	if (r == 0)
		log_set_level((enum log_level)s.config.boot.log_level);
	if (r == 0)
		r = o.print_privileges ? privileges_print(&s.config, stdout, &fault) : supervise(&s, &fault);
	listeners_remove(&s);
	if (r < 0)
		log_event(LOG_ERROR, "can't run", "error", fault.text, NULL);
	return r < 0 ? 1 : 0;
}
