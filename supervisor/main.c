/*
 * bulkheadd: options, start-up and readiness.
 *
 * Start-up either succeeds up to the point where all workers are on their way,
 * or ends with one sentence on stderr and status 1; nothing is left behind but
 * folders. The sockets listen before any worker starts, so no client is refused
 * meanwhile. The workers that face clients have a short head start: on a small
 * machine nobody is early when all begin at once.
 */
#include "supervisor/supervisor.h"

#include "base/clock.h"
#include "base/footprint.h"
#include "base/log.h"
#include "base/version.h"
#include "supervisor/folders.h"
#include "supervisor/notify.h"
#include "supervisor/privileges.h"
#include "supervisor/spawn.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* jemalloc's, as small as it gets: this process hardly allocates. */
const char *malloc_conf = "narenas:1,tcache:false,background_thread:false,dirty_decay_ms:0,muzzy_decay_ms:0,"
			  "abort_conf:false";

#define HEAD_START (30 * NS_PER_MS)

static void slots_start(struct supervisor *s, bool facing_clients) {
	for (size_t i = 0; i < s->n_slots; i++)
		if ((s->slots[i].role == ROLE_API) == facing_clients)
			slot_start(&s->slots[i]);
}

static void rest_start(void *ctx) {
	struct supervisor *s = ctx;
	loop_source_free_p(&s->rest_timer);
	if (s->stopping || s->all_begun)
		return;
	s->all_begun = true;
	slots_start(s, false);
}

static int workers_start(struct supervisor *s) {
	slots_start(s, true);
	return loop_timer(s->loop, clock_mono() + HEAD_START, rest_start, s, &s->rest_timer);
}

/* --- the service manager --- */

/* Those that face clients, or all. */
static bool were_ready(const struct supervisor *s, bool all) {
	for (size_t i = 0; i < s->n_slots; i++)
		if ((all || s->slots[i].role == ROLE_API) && !s->slots[i].was_ready)
			return false;
	return true;
}

void supervisor_ready(struct supervisor *s, struct slot *t) {
	if (!s->all_begun && were_ready(s, false))
		rest_start(s);
	if (s->announced || !were_ready(s, true))
		return;
	s->announced = true;
	const struct boot_config *c = &s->config.boot;
	char lines[BOOT_PATH_MAX + 64];
	snprintf(lines, sizeof(lines), "READY=1\nSTATUS=Serving on %s%s", c->endpoints[0].socket,
		 c->n_endpoints > 1 ? " and others" : "");
	notify(lines);
	for (uint32_t i = 0; i < c->n_endpoints; i++)
		log_event(LOG_INFO, "serving", "endpoint", c->endpoints[i].name, "socket", c->endpoints[i].socket,
			  "access", link_access_name(c->endpoints[i].access), NULL);
	footprint_trim();
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
	for (unsigned i = 0; i < s->config.boot.n_endpoints; i++) {
		int r = listener_open(&s->config, i, &s->listeners[i], fault);
		if (r < 0)
			return r;
		s->n_listeners++;
	}
	return 0;
}

static void listeners_remove(struct supervisor *s) {
	for (unsigned i = 0; i < s->n_listeners; i++)
		if (s->config.boot.endpoints[i].socket[0] == '/')
			unlink(s->config.boot.endpoints[i].socket);
}

static void slot_add(struct supervisor *s, enum role role, unsigned instance) {
	const char *endpoint = role == ROLE_API ? s->config.boot.endpoints[instance].name : "";
	struct slot t = {
		.supervisor = s,
		.role = role,
		.instance = instance,
		.pidfd = -1,
		.control = -1,
	};
	snprintf(t.name, sizeof(t.name), "%s%s%s", role_name(role), *endpoint ? "/" : "", endpoint);
	s->slots[s->n_slots++] = t;
}

static int environment_prepare(struct supervisor *s, struct fault *fault) {
	if (geteuid() != 0)
		return fault_set(fault, FAULT_PERMISSION_DENIED, "bulkheadd must be started by root");
	int r = spawn_check(&s->config, s->libexec, fault);
	if (r == 0)
		r = folders_lock(&s->config, &s->lock, &s->workers_lock, fault);
	if (r == 0)
		r = folders_make(&s->config, fault);
	if (r == 0)
		r = listeners_open(s, fault);
	return r < 0 ? r : stream_listener_open(&s->config, &s->stream_listener, fault);
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

static void loop_end(struct supervisor *s) {
	loop_source_free_p(&s->signal_source);
	loop_source_free_p(&s->watchdog_timer);
	loop_source_free_p(&s->ping_timer);
	loop_source_free_p(&s->stop_timer);
	loop_source_free_p(&s->rest_timer);
	/* What was freed just now still has its last word. */
	loop_turn(s->loop, 0);
	loop_free(take_ptr(s->loop));
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
		if (privileges_wanted(role, &s->config))
			slot_add(s, role, 0);
	r = workers_start(s);
	if (r < 0)
		return fault_errno(fault, r, "start the workers");
	if (notify_watchdog_period() > 0)
		watchdog_due(s);
	r = loop_run(s->loop);
	loop_end(s);
	return r < 0 ? fault_errno(fault, r, "the event loop failed") : 0;
}

/* --- options --- */

static const char usage[] = "usage: bulkheadd [OPTION]...\n"
			    "\n"
			    "  -c, --config FILE       the configuration (" CONFIG_DEFAULT_FILE ")\n"
			    "      --set KEY=VALUE     as a line of that file; wins over it\n"
			    "      --libexec DIR       where the workers are (beside bulkheadd, or\n"
			    "                          in ../libexec/bulkhead from there); a file:\n"
			    "                          a program that is all of them\n"
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
