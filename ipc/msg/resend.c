/*
 * Calls that outlive the peer that had them: those of RESEND rows go to its
 * successor. A call that ends whoever gets it would do so for ever, and take all
 * others down each time; so each call counts the deaths that came soon after it
 * was sent, and fails after DEATHS_MAX of them. One that takes its time to do so
 * fails after ALL_DEATHS_MAX, however long each took.
 *
 * Whoever merely waits beside such a call must not fail with it, however often
 * the peer dies of something else. What has been with a peer for longer than
 * DEATH_SOON starts to count anew; so does a call without a deadline, which may
 * wait for hours, once the peer has gone on and answered one that was sent after
 * it. What waits for something to happen (WAITS rows: events, the ends of
 * processes) does nothing by which a peer could end late, and may outlive any
 * number of them.
 *
 * A call for which the next death would be the last is a suspect: suspects are
 * sent one after the other, each when the one before it was answered or has done
 * no harm for TRIAL_TIME. When the peer dies meanwhile, that suspect alone is
 * blamed.
 */
#include "msg/internal.h"

#include "base/clock.h"

#define DEATHS_MAX 3
#define ALL_DEATHS_MAX 8
#define DEATH_SOON (60 * NS_PER_SEC)
#define TRIAL_TIME NS_PER_SEC

static bool call_suspect(const struct msg_call *c) {
	return c->deaths == DEATHS_MAX - 1;
}

static void trial_over(void *ctx) {
	struct link *l = ctx;
	loop_source_free_p(&l->trial_timer);
	l->trial = NULL;
	if (l->attached)
		calls_send(l);
}

/* The next suspect's turn comes from the loop, never from within a caller. */
void trial_ended(struct msg_call *c) {
	struct link *l = c->link;
	if (l->trial != c)
		return;
	l->trial = NULL;
	loop_source_free_p(&l->trial_timer);
	if (loop_timer(l->options.loop, clock_mono(), trial_over, l, &l->trial_timer) < 0)
		abort(); /* calls that are never sent would be worse */
}

static void trial_begin(struct msg_call *c) {
	struct link *l = c->link;
	l->trial = c;
	loop_source_free_p(&l->trial_timer);
	if (loop_timer(l->options.loop, clock_mono() + TRIAL_TIME, trial_over, l, &l->trial_timer) < 0)
		abort();
}

static void call_outlived(struct msg_call *c, bool blamed, int64_t now) {
	bool waited = !c->context.deadline && c->sent_at < c->link->answered;
	c->sent = false;
	c->again = true;
	if (blamed && !c->row->waits)
		c->all_deaths++;
	if (waited || now - c->sent_at > DEATH_SOON)
		c->deaths = 0;
	else if (blamed)
		c->deaths++;
	if (c->deaths >= DEATHS_MAX || c->all_deaths >= ALL_DEATHS_MAX)
		link_call_fail(c, FAULT_INTERNAL,
			       "%s isn't sent again: the %s worker has ended %u times while it was at it", c->row->name,
			       role_name(c->link->options.peer), MAX(c->deaths, c->all_deaths));
}

void calls_lost(struct link *l) {
	struct msg_call *trial = l->trial;
	l->trial = NULL;
	loop_source_free_p(&l->trial_timer);
	int64_t now = clock_mono();
	list_for_each_safe (n, &l->order) {
		struct msg_call *c = list_entry(n, struct msg_call, order);
		if (!c->row->resend)
			link_call_fail(c, FAULT_UNAVAILABLE, "the %s worker was replaced while it was at %s, try again",
				       role_name(l->options.peer), c->row->name);
		else if (c->sent)
			call_outlived(c, !trial || trial == c, now);
	}
	l->answered = 0;
}

void calls_send(struct link *l) {
	list_for_each_safe (n, &l->order) {
		struct msg_call *c = list_entry(n, struct msg_call, order);
		if (c->sent || (call_suspect(c) && l->trial))
			continue;
		int r = link_call_send(c, NULL, 0);
		if (r == 0 && call_suspect(c))
			trial_begin(c);
		if (r < 0 && !link_call_waits(c, r))
			link_call_fail(c, FAULT_UNAVAILABLE, "%s: send to the %s worker: %s", c->row->name,
				       role_name(l->options.peer), strerrordesc_np(-r));
	}
}
