/* What the guest's init makes of its kernel's command line. */
#include "tap.h"
#include "workers/init/init.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct init_parameters p;

static void read_line(const char *text) {
	char line[512];
	/* An init never gives back what it has read; here the next line is. */
	for (size_t i = 1; i < p.n_options; i += 2)
		free((char *)p.options[i]);
	snprintf(line, sizeof(line), "%s", text);
	parameters_read(line, &p);
}

static bool has_option(const char *option) {
	for (size_t i = 0; i + 1 < p.n_options; i += 2)
		if (strcmp(p.options[i], "--set") == 0 && strcmp(p.options[i + 1], option) == 0)
			return true;
	return false;
}

static void test_address(void) {
	read_line("console=ttyS0 agent.server_addr=vsock://-1:1024\n");
	tap_check(has_option("endpoint.agent.socket=vsock://-1:1024") && !p.port[0], "server_addr on vsock");
	read_line("agent.server_addr=unix:///run/a.sock");
	tap_check(has_option("endpoint.agent.socket=/run/a.sock"), "server_addr with unix://");
	read_line("agent.server_addr=serial:///dev/virtio-ports/agent.0 quiet");
	tap_check(has_option("endpoint.agent.socket=serial:///dev/virtio-ports/agent.0") &&
		      strcmp(p.port, "agent.0") == 0,
		  "server_addr on a virtio-serial port, whose name is looked for");
	tap_check(!p.line[0], "which is no plain line");
	read_line("agent.server_addr=serial:///dev/ttyS0");
	tap_check(has_option("endpoint.agent.socket=serial:///dev/ttyS0") && strcmp(p.line, "/dev/ttyS0") == 0 &&
		      !p.port[0],
		  "server_addr on a serial line, which the host is told of");
}

static void test_others(void) {
	read_line("agent.log=trace");
	tap_check(has_option("log_level=debug"), "log: the most that there is");
	read_line("agent.log=critical");
	tap_check(has_option("log_level=error"), "log: the least that there is");
	read_line("agent.hotplug_timeout=10");
	tap_check(has_option("agent_hotplug_timeout_s=10"), "hotplug_timeout, in seconds");
	read_line("agent.hotplug_timeout=long agent.hotplug_timeout=0 agent.hotplug_timeout=");
	tap_check(p.n_options == 0, "hotplug_timeout: no number of seconds has no effect");
	read_line("agent.log=loud agent.debug_console agent.new=1 log=debug");
	tap_check(p.n_options == 0, "what isn't known changes nothing");
	read_line("quiet");
	tap_check(!p.cgroup_v1, "control groups are v2");
	read_line("agent.unified_cgroup_hierarchy=1");
	tap_check(!p.cgroup_v1, "control groups are v2 when asked for");
	read_line("agent.unified_cgroup_hierarchy=false");
	tap_check(p.cgroup_v1, "control groups are v1 when asked for");
}

static void test_many(void) {
	char line[4096] = "";
	for (int i = 0; i < 100; i++)
		strcat(line, "agent.log=info ");
	parameters_read(line, &p);
	tap_check(p.n_options == INIT_OPTIONS_MAX, "more than there is room for");
}

int main(void) {
	test_address();
	test_others();
	test_many();
	return tap_done();
}
