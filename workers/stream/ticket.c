/*
 * One-time URLs. A ticket is what the metadata worker has checked, under a
 * random name that nobody can guess; it is used up by the first request that
 * names it, and worthless after a minute.
 */
#include "workers/stream/stream.h"

#include "base/clock.h"
#include "base/id.h"

#include <stdio.h>
#include <string.h>

#define TICKET_LIFE (60 * NS_PER_SEC)

static const char *const kinds[] = {
	[BULKHEAD__STREAM_KIND__STREAM_EXEC] = "exec",
	[BULKHEAD__STREAM_KIND__STREAM_ATTACH] = "attach",
	[BULKHEAD__STREAM_KIND__STREAM_PORT_FORWARD] = "portforward",
};

void ticket_free(struct ticket *t) {
	if (!t)
		return;
	arena_deinit(&t->arena);
	free(t);
}

static void ticket_unlink(struct streamer *s, struct ticket *t) {
	map_remove(&s->tickets, &t->by_token);
	list_unlink(&t->node);
	s->n_tickets--;
}

static void expire(void *ctx) {
	struct streamer *s = ctx;
	int64_t now = clock_mono();
	loop_source_free_p(&s->ticket_timer);
	while (!list_empty(&s->ticket_order)) {
		struct ticket *t = list_entry(s->ticket_order.next, struct ticket, node);
		if (t->deadline > now) {
			/* Without a timer the next ticket tries again. */
			if (loop_timer(s->loop, t->deadline, expire, s, &s->ticket_timer) < 0)
				s->ticket_timer = NULL;
			return;
		}
		ticket_unlink(s, t);
		ticket_free(t);
	}
}

/* The request's payload moves into the ticket with its arena. */
static struct ticket *ticket_new(struct streamer *s, struct msg_request *r, const Bulkhead__StreamOpenRequest *m) {
	struct ticket *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	id_random(t->token);
	if (map_insert(&s->tickets, &t->by_token, t->token) < 0) {
		free(t);
		return NULL;
	}
	t->deadline = clock_mono() + TICKET_LIFE;
	t->arena = r->arena;
	arena_init(&r->arena, 0);
	t->what = m;
	list_append(&s->ticket_order, &t->node);
	s->n_tickets++;
	if (!s->ticket_timer)
		expire(s);
	return t;
}

void on_stream_open(struct streamer *s, struct msg_request *r, const Bulkhead__StreamOpenRequest *m) {
	char url[256];
	if (!s->address[0]) {
		msg_failf(r, FAULT_UNAVAILABLE, "the streaming server isn't ready yet");
		return;
	}
	if ((unsigned)m->kind >= ARRAY_SIZE(kinds)) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "%d is no kind of stream", (int)m->kind);
		return;
	}
	if (s->n_tickets >= TICKETS_MAX) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%d streaming URLs are open and unused, try again in a minute",
			  TICKETS_MAX);
		return;
	}
	struct ticket *t = ticket_new(s, r, m);
	if (!t) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "make a streaming URL: out of memory");
		return;
	}
	snprintf(url, sizeof(url), "http://%s/%s/%s", s->address, kinds[m->kind], t->token);
	Bulkhead__StreamOpenReply reply = BULKHEAD__STREAM_OPEN_REPLY__INIT;
	reply.url = url;
	stream_open_reply(r, &reply, NULL, 0);
}

struct ticket *ticket_take(struct streamer *s, const char *target) {
	char token[65];
	const char *slash = target[0] == '/' ? strchr(target + 1, '/') : NULL;
	if (!slash)
		return NULL;
	size_t n = strcspn(slash + 1, "?");
	if (n != sizeof(token) - 1)
		return NULL;
	memcpy(token, slash + 1, n);
	token[n] = '\0';
	struct map_node *found = map_find(&s->tickets, token);
	if (!found)
		return NULL;
	struct ticket *t = container_of(found, struct ticket, by_token);
	const char *kind = kinds[t->what->kind];
	if (strlen(kind) != (size_t)(slash - target - 1) || memcmp(kind, target + 1, strlen(kind)) != 0)
		return NULL;
	ticket_unlink(s, t);
	if (t->deadline <= clock_mono()) {
		ticket_free(t);
		return NULL;
	}
	return t;
}
