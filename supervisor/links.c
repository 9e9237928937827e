/*
 * Every pair of the star that is alive has one connection, made here. A worker
 * that comes back gets new ends, and so do its peers: nothing of a dead
 * connection is used again.
 */
#include "supervisor/supervisor.h"

#include "base/fd.h"
#include "base/log.h"
#include "boot/control.h"
#include "msg/msg.h"
#include "supervisor/privileges.h"

#include <string.h>

static void link_tell(struct slot *t, const struct slot *peer, const struct link_ends *e) {
	struct control c = {
		.type = CONTROL_LINK,
		.peer = peer->role,
		.instance = peer->instance,
		.arg = (uint32_t)peer->pid,
	};
	slot_tell(t, &c, (const int[]){ e->rx_ring, e->tx_ring, e->rx_event, e->tx_event, e->side }, 5);
}

static void link_pair(struct slot *a, struct slot *b) {
	struct link_ends ends_a, ends_b;
	int r = link_ends_new(&ends_a, &ends_b);
	if (r < 0) {
		/* Without its link a worker is of no use; its successor tries again. */
		log_event(LOG_ERROR, "can't connect two workers", "error", strerror(-r), NULL);
		slot_kill(a, "no link could be made");
		return;
	}
	link_tell(a, b, &ends_a);
	link_tell(b, a, &ends_b);
	link_ends_close(&ends_a);
	link_ends_close(&ends_b);
}

/* The task worker and the zygote talk in packets: that socket is of the same
 * kind as those of the keepers, which outlive us and so can't have our rings. */
static void zygote_pair(struct slot *a, struct slot *b) {
	int pair[2];
	int r = control_pair(pair);
	if (r < 0) {
		log_event(LOG_ERROR, "can't connect the keepers' zygote", "error", strerror(-r), NULL);
		slot_kill(a, "no link could be made");
		return;
	}
	struct control c = { .type = CONTROL_ZYGOTE };
	slot_tell(a, &c, &pair[0], 1);
	slot_tell(b, &c, &pair[1], 1);
	fd_close(pair[0]);
	fd_close(pair[1]);
}

static bool zygote_peers(const struct slot *a, const struct slot *b) {
	return (a->role == ROLE_TASK && b->role == ROLE_KEEPER) || (a->role == ROLE_KEEPER && b->role == ROLE_TASK);
}

void links_make(struct slot *t) {
	struct supervisor *s = t->supervisor;
	for (size_t i = 0; i < s->n_slots && t->pid; i++) {
		struct slot *peer = &s->slots[i];
		if (peer == t || !peer->pid)
			continue;
		if (privileges_peers(t->role, peer->role))
			link_pair(t, peer);
		else if (zygote_peers(t, peer))
			zygote_pair(t, peer);
	}
}

void links_end(struct slot *t) {
	struct supervisor *s = t->supervisor;
	struct control c = { .type = CONTROL_UNLINK, .peer = t->role, .instance = t->instance };
	for (size_t i = 0; i < s->n_slots; i++)
		if (s->slots[i].pid && privileges_peers(t->role, s->slots[i].role))
			slot_tell(&s->slots[i], &c, NULL, 0);
}
