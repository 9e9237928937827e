/*
 * Pods on a real kernel's network: two on a bridge, published ports from the
 * host, from 127.0.0.1, from a neighbour, from the pod itself and from outside,
 * masquerading, both families; then nothing may be left. What is native and
 * what Debian's plugins do is judged by the same questions.
 */
#include "network_lab.h"
#include "tests/unit/tap.h"

#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#define DUAL_STACK                                                                            \
	"\"ipam\": {\"type\": \"host-local\", \"ranges\": [[{\"subnet\": \"10.88.0.0/16\"}]," \
	" [{\"subnet\": \"fd00:88::/64\"}]], \"routes\": [{\"dst\": \"0.0.0.0/0\"}, {\"dst\": \"::/0\"}]}"

static const char native_list[] =
    "{\"cniVersion\": \"1.0.0\", \"name\": \"lab\", \"plugins\": ["
    " {\"type\": \"bridge\", \"bridge\": \"lab0\", \"isGateway\": true, \"ipMasq\": true, " DUAL_STACK "},"
    " {\"type\": \"portmap\", \"capabilities\": {\"portMappings\": true}}]}";

/* What only Debian's own plugins can do, or with an option that isn't known to
 * be native. */
static const char ptp_list[] =
    "{\"cniVersion\": \"0.4.0\", \"name\": \"point\", \"plugins\": ["
    " {\"type\": \"ptp\", \"ipMasq\": true, \"ipam\": {\"type\": \"host-local\", \"subnet\": \"10.89.0.0/24\","
    "  \"routes\": [{\"dst\": \"0.0.0.0/0\"}]}},"
    " {\"type\": \"portmap\", \"capabilities\": {\"portMappings\": true}},"
    " {\"type\": \"tuning\", \"sysctl\": {\"net.core.somaxconn\": \"999\"}}]}";

static const char executed_list[] =
    "{\"cniVersion\": \"1.0.0\", \"name\": \"alien\", \"plugins\": ["
    " {\"type\": \"bridge\", \"bridge\": \"alien0\", \"isDefaultGateway\": true, \"ipMasq\": true, \"enabledad\": true,"
    "  \"ipam\": {\"type\": \"host-local\", \"subnet\": \"10.90.0.0/24\"}},"
    " {\"type\": \"portmap\", \"snat\": true, \"markMasqBit\": 13, \"capabilities\": {\"portMappings\": true}},"
    " {\"type\": \"firewall\"}]}";

static const char mixed_list[] =
    "{\"cniVersion\": \"1.0.0\", \"name\": \"mixed\", \"plugins\": ["
    " {\"type\": \"bridge\", \"bridge\": \"mixed0\", \"isDefaultGateway\": true, \"ipMasq\": true,"
    "  \"ipam\": {\"type\": \"host-local\", \"subnet\": \"10.91.0.0/24\"}},"
    " {\"type\": \"firewall\", \"backend\": \"iptables\"},"
    " {\"type\": \"tuning\", \"mac\": \"02:00:00:00:00:91\"},"
    " {\"type\": \"portmap\", \"capabilities\": {\"portMappings\": true}}]}";

static Bulkhead__PortMapping port(unsigned protocol, unsigned host_port, const char *host_ip) {
	Bulkhead__PortMapping m = BULKHEAD__PORT_MAPPING__INIT;
	m.protocol = protocol;
	m.container_port = 80;
	m.host_port = host_port;
	m.host_ip = (char *)host_ip;
	return m;
}

static bool says(struct lab_pod *from, int protocol, const char *address, unsigned port_number, const char *expected) {
	char text[256];
	lab_ask(from, protocol, address, port_number, text);
	bool good = strncmp(text, expected, strlen(expected)) == 0;
	if (!good)
		printf("# %s port %u says \"%s\", not \"%s\"\n", address, port_number, text, expected);
	return good;
}

/* A machine beside the host, which knows nothing of pods. */
static void outside_connect(struct lab_pod *outside) {
	lab_shell("ip link add out0 type veth peer name eth0 netns %d && ip addr add 192.0.2.1/24 dev out0 && "
		  "ip -6 addr add 2001:db8::1/64 dev out0 nodad && ip link set out0 up",
		  outside->pid);
	lab_run(outside, "ip link set lo up && ip addr add 192.0.2.2/24 dev eth0 && "
			 "ip -6 addr add 2001:db8::2/64 dev eth0 nodad && ip link set eth0 up");
	/* The kernel forwards IPv6 to no link whose own address is tentative. */
	lab_soon(5000, "ip -6 addr show dev out0 scope link | grep fe80 | grep -qv tentative");
}

static void test_native(struct lab *lab) {
	struct lab_pod a, b, outside;
	struct lab_answer r;
	char text[256];
	lab_pod_start(lab, &outside, "outside");
	outside_connect(&outside);
	lab_serve(&outside, "out", IPPROTO_TCP, 80);
	lab_pod_start(lab, &a, "aaaa");
	lab_pod_start(lab, &b, "bbbb");
	lab_run(&b, "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
	lab_configure(lab, native_list);

	Bulkhead__PortMapping ports[] = { port(IPPROTO_TCP, 8080, ""), port(IPPROTO_UDP, 8053, ""),
					  port(IPPROTO_TCP, 8081, "192.0.2.1") };
	lab_attach(lab, &a, ports, 3, &r);
	tap_check(r.result == 0 && r.attached.n_warnings == 0, "the first pod is attached");
	tap_check(r.attached.n_ips == 2 && strcmp(r.attached.ips[0], "10.88.0.2") == 0 &&
		      strcmp(r.attached.ips[1], "fd00:88::2") == 0,
		  "with the first address of each family");
	lab_attach(lab, &b, NULL, 0, &r);
	tap_check(r.result == 0 && strcmp(r.attached.ips[0], "10.88.0.3") == 0, "the second one with the next");
	lab_serve(&a, "a", IPPROTO_TCP, 80);
	lab_serve(&a, "a", IPPROTO_UDP, 80);
	lab_serve(&b, "b", IPPROTO_TCP, 80);

	tap_check(says(&b, IPPROTO_TCP, "10.88.0.2", 80, "a 10.88.0.3"), "pods reach each other");
	tap_check(says(&b, IPPROTO_TCP, "fd00:88::2", 80, "a fd00:88::3"), "by IPv6 too");
	tap_check(says(NULL, IPPROTO_TCP, "10.88.0.3", 80, "b 10.88.0.1"), "the host reaches them");
	tap_check(says(&b, IPPROTO_TCP, "127.0.0.1", 80, "b 127.0.0.1"), "loopback is up in a pod");
	tap_check(says(&b, IPPROTO_TCP, "192.0.2.2", 80, "out 192.0.2.1"), "a pod looks like the host to the outside");
	tap_check(says(&b, IPPROTO_TCP, "2001:db8::2", 80, "out 2001:db8::1"), "by IPv6 too");

	tap_check(says(&outside, IPPROTO_TCP, "192.0.2.1", 8080, "a 192.0.2.2"), "a published port, from outside");
	tap_check(says(&outside, IPPROTO_UDP, "192.0.2.1", 8053, "a 192.0.2.2"), "UDP");
	tap_check(says(&outside, IPPROTO_TCP, "2001:db8::1", 8080, "a 2001:db8::2"), "IPv6");
	tap_check(says(&outside, IPPROTO_TCP, "192.0.2.1", 8081, "a 192.0.2.2"), "published at one host address");
	tap_check(says(NULL, IPPROTO_TCP, "192.0.2.1", 8080, "a "), "from the host by its address");
	tap_check(says(NULL, IPPROTO_TCP, "127.0.0.1", 8080, "a 10.88.0.1"), "from the host by 127.0.0.1");
	lab_ask(NULL, IPPROTO_TCP, "127.0.0.1", 8081, text);
	tap_check(*text == '\0', "but not where it isn't published");
	for (int on = 0; on < 2; on++) {
		if (!lab_shell("echo %d > /proc/sys/net/bridge/bridge-nf-call-iptables", on))
			printf("# no br_netfilter here\n");
		const char *how = on ? "bridged packets pass netfilter" : "they don't";
		tap_check(says(&b, IPPROTO_TCP, "192.0.2.1", 8080, "a 10.88.0.1"), "from a neighbour, %s", how);
		tap_check(says(&a, IPPROTO_TCP, "192.0.2.1", 8080, "a 10.88.0.1"), "from the pod itself, %s", how);
	}
	tap_check(lab_shell("nft list table inet bulkhead | grep -q 'tcp . 8080 .*aaaa.* : 10.88.0.2 . 80'"),
		  "an administrator sees it with the pod's id");
	struct lab_answer d;
	lab_attach(lab, &b, ports, 1, &d);
	tap_check(d.result < 0 && d.fault.code == FAULT_ALREADY_EXISTS, "a host port that is taken is refused");
	tap_check(says(&outside, IPPROTO_TCP, "192.0.2.1", 8080, "a 192.0.2.2"), "and keeps working for its owner");
	tap_check(lab_shell("test ! -e %s/network && test ! -e %s/networks/lab/10.88.0.3", b.run_dir, lab->cache),
		  "the refused attach took everything back");
	/* A client that was too early must not be stuck where it was. */
	Bulkhead__PortMapping late = port(IPPROTO_UDP, 8055, "");
	lab_ask(&outside, IPPROTO_UDP, "192.0.2.1", 8055, text);
	lab_attach(lab, &b, &late, 1, &d);
	tap_check(d.result == 0, "attached again in the same namespace");
	lab_serve(&b, "b", IPPROTO_UDP, 80);
	tap_check(says(&outside, IPPROTO_UDP, "192.0.2.1", 8055, "b 192.0.2.2"), "a flow from before finds it");

	lab_detach(&a, &d);
	tap_check(d.result == 0, "detach");
	tap_check(lab_shell("! nft list table inet bulkhead | grep -q '10.88.0.2\\|fd00:88::2\\|aaaa'"),
		  "no element is left");
	tap_check(lab_shell("test ! -e %s/networks/lab/10.88.0.2 && test ! -e %s/network", lab->cache, a.run_dir),
		  "no address and no record is left");
	tap_check(lab_run(&a, "test -z \"$(ip -o addr show dev eth0 scope global 2>/dev/null)\"") == 0,
		  "no link has the address");
	lab_detach(&a, &d);
	tap_check(d.result == 0, "detach again is success");
	/* The servers in there have sockets, which could keep the namespace. */
	tap_check(lab_shell("test $(ip -o link show master lab0 | wc -l) = 1"),
		  "the link doesn't wait for open sockets");
	lab_pod_end(&a);

	lab_pod_kill(&b);
	lab_detach_gone(&b, &d);
	tap_check(d.result == 0, "detach of a pod that was killed");
	tap_check(lab_shell("test -z \"$(ip -o link show master lab0)\""), "its link is gone at once");
	tap_check(
	    lab_shell("! nft list table inet bulkhead | grep -q bbbb && test $(ls %s/networks/lab | grep -c :) = 0 && "
		      "test $(ls %s/networks/lab | grep -c '^10') = 0",
		      lab->cache, lab->cache),
	    "and so are its elements and addresses");
	lab_pod_end(&outside);
}

/* One pod of a network in which plugins are executed, asked as the native ones
 * are, then taken down while it lives or after it was killed. */
static void test_executed(struct lab *lab, const char *name, const char *list, const char *address, bool kill_it) {
	struct lab_pod pod, outside;
	struct lab_answer r;
	lab_pod_start(lab, &outside, "outside");
	outside_connect(&outside);
	lab_serve(&outside, "out", IPPROTO_TCP, 80);
	lab_pod_start(lab, &pod, "cccc");
	lab_configure(lab, list);
	Bulkhead__PortMapping published = port(IPPROTO_TCP, 8080, "");
	lab_attach(lab, &pod, &published, 1, &r);
	tap_check(r.result == 0 && r.attached.n_ips == 1 && strcmp(r.attached.ips[0], address) == 0, "%s: attach",
		  name);
	lab_serve(&pod, "c", IPPROTO_TCP, 80);
	tap_check(says(NULL, IPPROTO_TCP, address, 80, "c "), "%s: the host reaches the pod", name);
	tap_check(says(&pod, IPPROTO_TCP, "192.0.2.2", 80, "out 192.0.2.1"), "%s: the pod reaches the outside", name);
	tap_check(says(&outside, IPPROTO_TCP, "192.0.2.1", 8080, "c 192.0.2.2"), "%s: its published port", name);
	if (list == ptp_list)
		tap_check(lab_run(&pod, "test $(cat /proc/sys/net/core/somaxconn) = 999") == 0, "%s: tuning was run",
			  name);
	if (list == mixed_list)
		tap_check(lab_run(&pod, "ip link show eth0 | grep -q 02:00:00:00:00:91") == 0, "%s: tuning was run",
			  name);

	if (kill_it) {
		lab_pod_kill(&pod);
		lab_detach_gone(&pod, &r);
	} else {
		lab_detach(&pod, &r);
	}
	tap_check(r.result == 0, "%s: detach", name);
	tap_check(lab_shell("! ls %s/networks/*/%s 2>/dev/null", lab->cache, address), "%s: no address is left", name);
	tap_check(
	    lab_shell("! (nft list ruleset; iptables-save) 2>/dev/null | grep '%s\\b\\|cccc\\|dport 8080'", address),
	    "%s: no rule is left", name);
	tap_check(access(pod.run_dir, F_OK) == 0 && lab_shell("test ! -e %s/network", pod.run_dir),
		  "%s: no record is left", name);
	if (!kill_it)
		lab_pod_end(&pod);
	tap_check(lab_soon(3000, "test -z \"$(ip -o link show type veth | grep -v out0)\""), "%s: no link is left",
		  name);
	lab_pod_end(&outside);
	lab_soon(3000, "! ip link show out0 >/dev/null 2>&1");
}

/* The host as it was: checked by the kernel's lists and the store's files. A
 * link whose namespace just ended may take its time. */
static bool is_clean(struct lab *lab, struct lab_pod *pod) {
	bool clean = lab_soon(10000, "test -z \"$(ip -o link show master lab0)\"") &&
		     lab_shell("! nft list table inet bulkhead 2>/dev/null | grep -q '%.4s' && "
			       "test -z \"$(cd %s/networks/lab 2>/dev/null && ls | grep -v '^last_\\|^lock$')\" && "
			       "test -z \"$(ls %s)\"",
			       pod->id, lab->cache, pod->run_dir);
	if (!clean)
		lab_shell(
		    "(ip -o link show master lab0; nft list table inet bulkhead | grep '%.4s'; ls %s/networks/lab %s) "
		    "| sed 's/^/# left: /'",
		    pod->id, lab->cache, pod->run_dir);
	return clean;
}

/* The pod's process dies at each of its system calls in turn; whoever comes
 * later gives everything back. */
static void test_killed(struct lab *lab, bool in_detach) {
	Bulkhead__PortMapping ports[] = { port(IPPROTO_TCP, 8080, ""), port(IPPROTO_UDP, 8053, "192.0.2.1") };
	const char *name = in_detach ? "detach" : "attach";
	unsigned stop = 0, dirty = 0, failed = 0;
	lab_configure(lab, native_list);
	for (bool more = true; more && stop < 500;) {
		struct lab_pod pod;
		struct lab_answer r;
		stop++;
		lab_pod_start(lab, &pod, "eeee");
		if (in_detach) {
			lab_attach(lab, &pod, ports, 2, &r);
			more = r.result == 0 && lab_detach_killed(&pod, stop);
		} else {
			more = lab_attach_killed(lab, &pod, ports, 2, stop);
		}
		lab_detach_gone(&pod, &r);
		failed += r.result < 0;
		if (dirty < 3 && !is_clean(lab, &pod)) {
			printf("# killed at system call %u of %s\n", stop, name);
			dirty++;
		}
	}
	tap_check(stop > 20 && stop < 500, "killed at each of the %u system calls of %s", stop, name);
	tap_check(failed == 0, "a later detach always succeeds");
	tap_check(dirty == 0, "and nothing is ever left");
}

#define CROWD 10

/* The first pods of a network, all at once: who makes the bridge, the table,
 * the chain, the folder? And all go at once. */
static void test_crowd(struct lab *lab) {
	struct lab_pod pods[CROWD];
	struct lab_answer r;
	unsigned good = 0, gone = 0, different = 0;
	char id[16], ips[CROWD][46];
	lab_configure(lab, native_list);
	for (int round = 0; round < 3; round++) {
		lab_shell("ip link del lab0; nft delete table inet bulkhead; rm -rf %s/networks", lab->cache);
		for (unsigned i = 0; i < CROWD; i++) {
			snprintf(id, sizeof(id), "crowd%u", i);
			lab_pod_start(lab, &pods[i], id);
		}
		for (unsigned i = 0; i < CROWD; i++) {
			Bulkhead__PortMapping published = port(IPPROTO_TCP, 9000 + i, "");
			lab_attach_begin(lab, &pods[i], &published, 1);
		}
		for (unsigned i = 0; i < CROWD; i++) {
			lab_wait(&pods[i], &r);
			good += r.result == 0;
			memcpy(ips[i], r.attached.ips[0], sizeof(ips[i]));
			unsigned same = 0;
			for (unsigned j = 0; j < i; j++)
				same += strcmp(ips[i], ips[j]) == 0;
			different += same == 0;
		}
		lab_serve(&pods[CROWD - 1], "last", IPPROTO_TCP, 80);
		tap_check(says(&pods[0], IPPROTO_TCP, ips[CROWD - 1], 80, "last"), "a crowd, and it talks");
		for (unsigned i = 0; i < CROWD; i++)
			lab_detach_begin(&pods[i]);
		for (unsigned i = 0; i < CROWD; i++) {
			lab_wait(&pods[i], &r);
			gone += r.result == 0;
			lab_pod_end(&pods[i]);
		}
		tap_check(is_clean(lab, &pods[0]), "and leaves nothing");
	}
	tap_check(good == 3 * CROWD && different == 3 * CROWD && gone == 3 * CROWD, "%u pods at once, three times",
		  CROWD);
}

/* A plugin that lies, dies, or hangs about gives a sentence, and nothing is
 * left of the pod. */
static void test_bad_plugins(struct lab *lab) {
	static const struct {
		const char *type, *script, *sentence;
		enum fault_code code;
	} bad[] = {
		{ "bad-json", "echo nonsense", "its output is no CNI result", FAULT_DATA_LOSS },
		{ "bad-exit", "echo broken pipe dream >&2; exit 3", "exit status 3: broken pipe dream", FAULT_UNKNOWN },
		{ "bad-kill", "kill -9 $$", "killed by signal 9", FAULT_UNKNOWN },
		{ "bad-error",
		  "test $CNI_COMMAND = DEL && exit; echo '{\"cniVersion\": \"1.0.0\", \"code\": 11, \"msg\": \"come "
		  "back\"}'; exit 1",
		  "come back (code 11)", FAULT_UNAVAILABLE },
		{ "bad-flood", "test $CNI_COMMAND = DEL && exit; exec yes", "bytes of output",
		  FAULT_RESOURCE_EXHAUSTED },
		{ "not-there", NULL, "is in none of", FAULT_FAILED_PRECONDITION },
	};
	struct lab_pod pod;
	struct lab_answer r;
	char list[512];
	lab_pod_start(lab, &pod, "dddd");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (bad[i].script)
			lab_shell("cat > %s/%s <<'END'\n#!/bin/sh\n%s\nEND\nchmod +x %s/%s", lab->bin, bad[i].type,
				  bad[i].script, lab->bin, bad[i].type);
		snprintf(list, sizeof(list),
			 "{\"cniVersion\": \"1.0.0\", \"name\": \"bad\", \"plugins\": ["
			 "{\"type\": \"bridge\", \"bridge\": \"bad0\", \"ipam\": {\"type\": \"host-local\", "
			 "\"subnet\": \"10.92.0.0/24\"}}, {\"type\": \"%s\"}]}",
			 bad[i].type);
		lab_configure(lab, list);
		lab_attach(lab, &pod, NULL, 0, &r);
		tap_check(r.result < 0 && r.fault.code == bad[i].code && strstr(r.fault.text, bad[i].sentence) &&
			      strstr(r.fault.text, bad[i].type),
			  "%s: a sentence that names it", bad[i].type);
		/* Its DEL fails the same way for some; then the record must stay. */
		if (lab_shell("test -e %s/network", pod.run_dir)) {
			lab_shell("printf '#!/bin/sh\\n' > %s/%s", lab->bin, bad[i].type);
			lab_detach(&pod, &r);
		}
		tap_check(lab_shell("test ! -e %s/network && test $(ls %s/networks/bad | grep -c ^10) = 0", pod.run_dir,
				    lab->cache),
			  "%s: nothing is left", bad[i].type);
	}
	lab_pod_end(&pod);
}

int main(void) {
	struct lab lab;
	const char *reason = "";
	if (!lab_open(&lab, &reason)) {
		tap_skip("pods on a bridge", reason);
		return tap_done();
	}
	test_native(&lab);
	test_crowd(&lab);
	test_killed(&lab, false);
	test_killed(&lab, true);
	test_bad_plugins(&lab);
	if (access("/usr/lib/cni/ptp", X_OK) < 0) {
		tap_skip("executed plugins", "containernetworking-plugins isn't installed");
	} else {
		test_executed(&lab, "ptp, native portmap, tuning", ptp_list, "10.89.0.2", false);
		test_executed(&lab, "executed bridge, portmap, firewall", executed_list, "10.90.0.2", false);
		test_executed(&lab, "native bridge, firewall, tuning, native portmap", mixed_list, "10.91.0.2", false);
		test_executed(&lab, "the same, killed", mixed_list, "10.91.0.3", true);
	}
	lab_close(&lab);
	return tap_done();
}
