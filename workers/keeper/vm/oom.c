/*
 * Kills for want of memory in the guest. The relay asks the agent by GetOOMEvent,
 * again and again, counts for each container, and tells the keeper each number over
 * the control socket: one that is lost with a keeper, or finds no room, is told by
 * the next or when a successor asks. From there on they are kills like the host's
 * (oom_watch.c).
 */
#include "workers/keeper/vm/relay.h"

#include "base/clock.h"

#include <poll.h>
#include <string.h>

/* --- the relay -------------------------------------------------------------- */

#define ASK_AGAIN NS_PER_SEC /* after a failure */

static void tell(const struct relay *r, const struct guest *g) {
	struct vm_packet p = { .kind = VM_OOM, .value = g->ooms };
	memcpy(p.container, g->id, sizeof(p.container));
	(void)vm_send(r->control, &p, NULL, 0, NULL, 0);
}

void relay_ooms_tell(const struct relay *r) {
	list_for_each (n, &r->guests) {
		const struct guest *g = list_entry(n, struct guest, node);
		if (g->ooms > 0)
			tell(r, g);
	}
}

static void count(struct relay *r, const char *container) {
	list_for_each (n, &r->guests) {
		struct guest *g = list_entry(n, struct guest, node);
		if (!g->container || strcmp(g->id, container) != 0 || g->ooms == INT32_MAX)
			continue;
		g->ooms++;
		tell(r, g);
	}
}

static void ask_again(void *ctx) {
	struct relay *r = ctx;
	loop_source_free_p(&r->oom_later);
	relay_ooms_ask(r);
}

static void came(void *ctx, const ProtobufCMessage *reply, const struct fault *fault) {
	struct relay *r = ctx;
	if (!fault) {
		count(r, ((const Grpc__OOMEvent *)reply)->container_id);
		relay_ooms_ask(r);
		return;
	}
	/* An agent that can't tell, or a sandbox that is going. */
	if (fault->code == FAULT_UNIMPLEMENTED || r->stopping)
		return;
	if (loop_timer(r->loop, clock_mono() + ASK_AGAIN, ask_again, r, &r->oom_later) < 0)
		r->oom_later = NULL;
}

void relay_ooms_ask(struct relay *r) {
	const Grpc__GetOOMEventRequest q = GRPC__GET_OOMEVENT_REQUEST__INIT;
	r->oom_asks++;
	agent_call(r, "GetOOMEvent", &q.base, 0, came, r);
}

/* --- the keeper ------------------------------------------------------------- */

/* A relay that goes mad costs no more than this. */
#define PACKETS_MAX 256
#define PAUSE (20 * NS_PER_MS)

static void take(const struct keeper *k) {
	struct pollfd readable = { .fd = k->pod.vm->control, .events = POLLIN };
	struct vm_packet p;
	for (int i = 0; i < PACKETS_MAX && poll(&readable, 1, 0) > 0; i++) {
		if (vm_receive(readable.fd, &p, NULL, NULL, NULL, NULL) <= 0)
			return;
		struct container *c = p.kind == VM_OOM ? container_find(k, p.container) : NULL;
		if (c && p.value > 0)
			c->oom.guest = MAX(c->oom.guest, (uint32_t)p.value);
	}
}

void vm_ooms_take(struct keeper *k) {
	if (!k->pod.vm || k->pod.vm->over)
		return;
	take(k);
	list_for_each (n, &k->containers) {
		struct container *c = list_entry(n, struct container, node);
		if (c->state == CONTAINER_RUNNING)
			oom_watch_look(c);
	}
}

static void control_ready(void *ctx, uint32_t events);

static void watch_again(void *ctx) {
	struct vm *vm = ctx;
	loop_source_free_p(&vm->oom_later);
	vm_ooms_take(vm->keeper);
	vm_ooms_watch(vm);
}

static void control_ready(void *ctx, uint32_t events) {
	struct vm *vm = ctx;
	loop_source_free_p(&vm->oom_source);
	if (loop_timer(vm->keeper->loop, clock_mono() + PAUSE, watch_again, vm, &vm->oom_later) < 0)
		vm->oom_later = NULL;
	vm_ooms_take(vm->keeper);
}

void vm_ooms_watch(struct vm *vm) {
	if (loop_poll(vm->keeper->loop, vm->control, POLLIN, control_ready, vm, &vm->oom_source) < 0)
		vm->oom_source = NULL;
}
