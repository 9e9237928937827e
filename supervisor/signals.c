/*
 * What the supervisor is told from outside.
 *
 * SIGTERM and SIGINT: workers finish, role after role, those that face clients
 * first, each within stop_timeout_s; then status 0. Keepers and their
 * containers run on. A second signal ends it at once.
 *
 * SIGHUP: the configuration is read again. When that fails, everything stays
 * as it was.
 */
#include "supervisor/supervisor.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "boot/block.h"
#include "supervisor/notify.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

/* --- the end --- */

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

void supervisor_finish(struct supervisor *s) {
	if (s->stopping)
		return;
	log_text(LOG_INFO, "stopping; containers run on");
	notify("STOPPING=1\nSTATUS=Stopping; containers run on.");
	s->stopping = true;
	s->stop_role = ROLE_SUPERVISOR;
	finish_next(s);
}

static void on_stop(struct supervisor *s) {
	if (s->stopping) {
		log_text(LOG_WARN, "asked to stop again: not waiting for the workers");
		loop_stop(s->loop, 0);
		return;
	}
	supervisor_finish(s);
}

/* --- reload --- */

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

int signals_open(struct supervisor *s) {
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
