/*
 * The guest worker's life. What its row of the privilege table must grant: root,
 * with the capabilities to mount, configure networks, set the clock, load
 * modules and change files of anybody; children, and programs (iptables-save,
 * iptables-restore, modprobe) in them; namespaces as the supervisor has them.
 */
#include "guest.h"

#include "base/fd.h"

static const struct verb verbs[] = {
	{ .number = MSG_guest_do_attach, .name = "attach storage", .run = guest_attach_run },
	{ .number = MSG_guest_do_detach, .name = "detach storage", .run = guest_detach_run },
};

static void on_request(void *worker, struct msg_request *r, const ProtobufCMessage *request) {
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (verbs[i].number == r->row->number) {
			job_begin(worker, r, request, &verbs[i]);
			return;
		}
	msg_failf(r, FAULT_UNIMPLEMENTED, "%s: the guest worker has no such request", r->row->name);
}

static int guest_prepare(struct worker *w) {
	static struct guest guest;
	w->state = &guest;
	guest.loop = w->loop;
	guest.config = &w->config;
	return make_folders(w->config.agent_run_root);
}

static int guest_serve(struct worker *w) {
	worker_link(w, ROLE_METADATA, 0);
	return 0;
}

int main(int argc, char **argv) {
	static const enum role peers[] = { ROLE_METADATA, ROLE_SUPERVISOR };
	static struct link_handler handlers[ARRAY_SIZE(verbs) + 1];
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		handlers[i] = (struct link_handler){ verbs[i].number, on_request };
	const struct worker_class class = {
		.role = ROLE_GUEST,
		.peers = peers,
		.handlers = handlers,
		.prepare = guest_prepare,
		.serve = guest_serve,
	};
	return worker_main(&class, argc, argv);
}
