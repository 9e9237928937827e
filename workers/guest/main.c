/*
 * The guest worker's life. What its row of the privilege table must grant: root,
 * with the capabilities to mount, configure networks, set the clock, load
 * modules and change files of anybody; children, and programs (iptables-save,
 * iptables-restore, modprobe) in them; namespaces as the supervisor has them.
 */
#include "guest.h"

#include "base/fd.h"

#include <unistd.h>

static const struct verb verbs[] = {
	{ .number = MSG_guest_do_attach, .name = "attach storage", .run = guest_attach_run, .owner = attach_owner },
	{ .number = MSG_guest_do_detach, .name = "detach storage", .run = guest_detach_run, .owner = detach_owner },
	{ .number = MSG_guest_do_devices, .name = "find devices", .run = guest_devices_run },
	{ .number = MSG_guest_do_setup, .name = "set up sandbox", .run = guest_setup_run, .owner = setup_owner },
	{ .number = MSG_guest_do_clear, .name = "clear sandbox", .run = guest_clear_run, .owner = setup_owner },
	{ .number = MSG_guest_do_ephemeral, .name = "update mounts", .run = guest_ephemeral_run },
	{ .number = MSG_guest_do_refresh, .name = "refresh shares", .run = guest_refresh_run },
	{ .number = MSG_guest_do_volume_stats, .name = "volume stats", .run = guest_volume_stats_run, .reads = true },
	{ .number = MSG_guest_do_interface, .name = "set interface", .run = guest_interface_run },
	{ .number = MSG_guest_do_interfaces, .name = "list interfaces", .run = guest_interfaces_run, .reads = true },
	{ .number = MSG_guest_do_routes_update, .name = "set routes", .run = guest_routes_update_run },
	{ .number = MSG_guest_do_routes, .name = "list routes", .run = guest_routes_run, .reads = true },
	{ .number = MSG_guest_do_neighbors, .name = "set neighbours", .run = guest_neighbors_run },
	{ .number = MSG_guest_do_iptables_get, .name = "get iptables", .run = guest_iptables_get_run },
	{ .number = MSG_guest_do_iptables_set, .name = "set iptables", .run = guest_iptables_set_run },
	{ .number = MSG_guest_do_details, .name = "guest details", .run = guest_details_run, .reads = true },
	{ .number = MSG_guest_do_metrics, .name = "guest metrics", .run = guest_metrics_run, .reads = true },
	{ .number = MSG_guest_do_online, .name = "online CPUs", .run = guest_online_run },
	{ .number = MSG_guest_do_probe, .name = "probe memory", .run = guest_probe_run },
	{ .number = MSG_guest_do_copy, .name = "copy file", .run = guest_copy_run },
	{ .number = MSG_guest_do_swap, .name = "add swap", .run = guest_swap_run },
	{ .number = MSG_guest_do_swap_path, .name = "add swap", .run = guest_swap_path_run },
	{ .number = MSG_guest_do_reseed, .name = "reseed random", .run = guest_reseed_run },
	{ .number = MSG_guest_do_clock, .name = "set clock", .run = guest_clock_run },
	{ .number = MSG_guest_do_diagnostics, .name = "diagnostics", .run = guest_diagnostics_run, .reads = true },
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
	list_init(&guest.jobs);
	guest.supervisor = getppid();
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
