/* The configuration: what it takes, and that it names what it doesn't. */
#include "base/fd.h"
#include "base/log.h"
#include "supervisor/config.h"
#include "tap.h"

#include <fcntl.h>
#include <string.h>

static char path[] = "/tmp/bulkhead-config-XXXXXX";
static struct fault fault;

static int load(const char *text, struct config *ret_config) {
	CLEANUP_FD int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
		return -EIO;
	return config_load(&(struct config_source){ .file = path, .file_required = true }, ret_config, &fault);
}

static bool refused(const char *text, const char *place, const char *about) {
	struct config c;
	char where[64];
	snprintf(where, sizeof(where), "%s%s", path, place);
	int r = load(text, &c);
	bool ok = r < 0 && strstr(fault.text, where) && strstr(fault.text, about);
	printf("#   %s\n", r < 0 ? fault.text : "(accepted)");
	return ok;
}

static void test_values(void) {
	struct config c;
	tap_check(load("", &c) == 0 && strcmp(c.boot.state_root, "/var/lib/bulkhead") == 0, "defaults");
	tap_check(strcmp(c.boot.endpoints[0].socket, "/run/bulkhead/bulkhead.sock") == 0,
		  "the socket lies in run_root");
	int r = load("# a comment\n\n  run_root=/tmp/x # another\nlog_level\t=  debug\nmax_concurrent_downloads = 7\n"
		     "certs_dir = /etc/a#b\n",
		     &c);
	tap_check(r == 0, "comments, blanks and spaces");
	tap_check(strcmp(c.boot.run_root, "/tmp/x") == 0, "a path, without the comment after it");
	tap_check(strcmp(c.boot.endpoints[0].socket, "/tmp/x/bulkhead.sock") == 0, "the socket follows run_root");
	tap_check(c.boot.log_level == LOG_DEBUG && c.boot.max_concurrent_downloads == 7, "a level and a number");
	tap_check(strcmp(c.boot.certs_dir, "/etc/a#b") == 0, "a # within a word belongs to it");
	tap_check(load("run_root = /a\nrun_root = /b", &c) == 0 && strcmp(c.boot.run_root, "/b") == 0,
		  "the last one wins, and a last line without an end counts");
}

static void test_refusals(void) {
	tap_check(refused("\nno_such_key = 1\n", ":2", "no_such_key"), "an unknown key");
	tap_check(refused("run_root\n", ":1", "key = value"), "a line without =");
	tap_check(refused("run_root =\n", ":1", "run_root"), "an empty path");
	tap_check(refused("run_root = run\n", ":1", "absolute"), "a relative path");
	tap_check(refused("run_root = /a/../b\n", ":1", "absolute"), "a path with ..");
	tap_check(refused("run_root = /a//b\n", ":1", "absolute"), "a path with an empty part");
	tap_check(refused("run_root = /a/\n", ":1", "absolute"), "a path with a slash at its end");
	tap_check(refused("log_level = loud\n", ":1", "debug, info"), "an unknown level");
	tap_check(refused("log_line_max = 12x\n", ":1", "number"), "a number with a tail");
	tap_check(refused("log_line_max = -1\n", ":1", "number"), "a negative number");
	tap_check(refused("log_line_max = 99999999999999999999\n", ":1", "number"), "a number beyond all");
	tap_check(refused("max_concurrent_downloads = 0\n", ":1", "from 1"), "a number out of its range");
	char text[600];
	snprintf(text, sizeof(text), "a = b\nrun_root = /%0300d\n", 1);
	tap_check(refused(text + 6, ":1", "longer"), "a path that doesn't fit");
	snprintf(text, sizeof(text), "endpoint.cri.socket = /%0120d\n", 1);
	tap_check(refused(text, ":1", "107"), "a socket path that the kernel can't take");
	snprintf(text, sizeof(text), "run_root = /%0120d\n", 1);
	tap_check(refused(text, "", "") || strstr(fault.text, "too long for a socket"), "a run_root too long for it");
	struct config c;
	struct config_source missing = { .file = "/nonexistent/x.conf" };
	tap_check(config_load(&missing, &c, &fault) == 0, "a missing default file is no error");
	missing.file_required = true;
	tap_check(config_load(&missing, &c, &fault) == -ENOENT && strstr(fault.text, missing.file),
		  "a missing file that was asked for is");
}

static void test_cgroups(void) {
	struct config c;
	tap_check(load("", &c) == 0 && c.boot.cgroup_driver == BOOT_CGROUPFS &&
		      strcmp(c.boot.cgroup_parent, "/bulkhead") == 0,
		  "the cgroup driver is cgroupfs, and a path the parent");
	tap_check(load("cgroup_driver = systemd\n", &c) == 0 && c.boot.cgroup_driver == BOOT_SYSTEMD &&
		      strcmp(c.boot.cgroup_parent, "bulkhead.slice") == 0,
		  "with systemd it's a slice");
	bool runs = access("/run/systemd/system", F_OK) == 0;
	tap_check(load("cgroup_driver = auto\n", &c) == 0 &&
		      c.boot.cgroup_driver == (runs ? BOOT_SYSTEMD : BOOT_CGROUPFS),
		  "auto is systemd where that runs: here it %s", runs ? "does" : "doesn't");
	tap_check(load("cgroup_parent = a-b.slice\ncgroup_driver = systemd\n", &c) == 0 &&
		      strcmp(c.boot.cgroup_parent, "a-b.slice") == 0,
		  "in any order");
	tap_check(refused("cgroup_driver = docker\n", ":1", "cgroupfs, systemd or auto"), "an unknown driver");
	tap_check(refused("cgroup_parent = a--b.slice\n", ":1", "a slice such as"), "neither a path nor a slice");
	tap_check(load("cgroup_driver = systemd\ncgroup_parent = /x\n", &c) < 0 &&
		      strstr(fault.text, "the cgroup driver is systemd"),
		  "a path with systemd: %s", fault.text);
	tap_check(load("cgroup_parent = x.slice\n", &c) < 0 && strstr(fault.text, "the cgroup driver is cgroupfs"),
		  "a slice with cgroupfs: %s", fault.text);
	struct config other;
	load("", &c);
	load("cgroup_driver = systemd\n", &other);
	const char *fixed = config_reload(&c, &other);
	tap_check(fixed && strncmp(fixed, "cgroup_", 7) == 0 && c.boot.cgroup_driver == BOOT_CGROUPFS,
		  "a reload doesn't change it");
}

static void test_options(void) {
	struct config c;
	const char *options[] = { "log_level=warn", "endpoint.cri.socket=/a/x.sock" };
	struct config_source source = { .file = path, .file_required = true, .options = options, .n_options = 2 };
	load("log_level = debug\n", &c);
	tap_check(config_load(&source, &c, &fault) == 0 && c.boot.log_level == LOG_WARN, "--set wins over the file");
	options[0] = "colour=red";
	tap_check(config_load(&source, &c, &fault) < 0 && strstr(fault.text, "--set"), "a wrong --set says so");
}

static void test_reload(void) {
	struct config a, b;
	load("", &a);
	load("log_level = debug\nlog_line_max = 500\n", &b);
	tap_check(config_reload(&a, &b) == NULL && a.boot.log_level == LOG_DEBUG && a.boot.log_line_max == 500,
		  "what may change changes");
	load("run_root = /tmp/y\nlog_level = error\n", &b);
	const char *fixed = config_reload(&a, &b);
	tap_check(fixed && strcmp(a.boot.run_root, "/run/bulkhead") == 0 && a.boot.log_level == LOG_ERROR,
		  "what may not stays, and is named");
}

static void test_runtimes(void) {
	struct config c;
	tap_check(load("runtime.runc = /usr/sbin/runc\nruntime.a-1 = /a\nruntime.runc = /b/runc\n", &c) == 0 &&
		      c.boot.n_runtimes == 2 && strcmp(c.boot.runtimes[0].name, "runc") == 0 &&
		      strcmp(c.boot.runtimes[0].path, "/b/runc") == 0 && strcmp(c.boot.runtimes[1].name, "a-1") == 0,
		  "runtimes by name, the last word counts");
	tap_check(load("runtime.x = runc\n", &c) < 0 && load("runtime.x = /a/../b\n", &c) < 0,
		  "a runtime's program is an absolute path");
	tap_check(load("runtime. = /a\n", &c) < 0 && load("runtime.native = /a\n", &c) < 0 &&
		      load("runtime.A = /a\n", &c) < 0 && load("runtime.a- = /a\n", &c) < 0,
		  "a runtime's name is a label, and not the native one's");
	tap_check(
	    load("runtime.a=/a\nruntime.b=/a\nruntime.c=/a\nruntime.d=/a\nruntime.e=/a\nruntime.f=/a\nruntime.g=/a\n"
		 "runtime.h=/a\nruntime.i=/a\n",
		 &c) < 0,
	    "a ninth runtime is refused");
	tap_check(load("log_binary.journal = /usr/bin/to-journal\nruntime.x = /x\n", &c) == 0 &&
		      c.boot.n_runtimes == 1 && c.boot.n_log_binaries == 1 &&
		      strcmp(c.boot.log_binaries[0].path, "/usr/bin/to-journal") == 0,
		  "programs that log are a list of their own");
	tap_check(load("log_binary.journal = to-journal\n", &c) < 0 && strstr(fault.text, "log_binary \"journal\""),
		  "with absolute paths: %s", fault.text);
	struct config other;
	load("", &c);
	load("log_binary.x = /x\n", &other);
	const char *fixed = config_reload(&c, &other);
	tap_check(fixed && strcmp(fixed, "log_binary.*") == 0, "that a reload doesn't change");
}

#define VM "vm_kernel = /k\nvm_initrd = /i\n"

static void test_vm(void) {
	struct config c;
	tap_check(load("vm_initrd = /i\n", &c) == 0 && c.boot.n_runtimes == 0, "no virtual machines without a kernel");
	tap_check(load("runtime.runc = /runc\n" VM "vm_accel = tcg\n", &c) == 0 && c.boot.n_runtimes == 2 &&
		      strcmp(c.boot.runtimes[1].name, "vm") == 0 && !c.boot.runtimes[1].path[0] &&
		      c.boot.vm.accel == BOOT_ACCEL_TCG && c.boot.vm.uid >= 64100,
		  "with one there is a handler without a program");
	tap_check(load("vm_kernel = /k\n", &c) < 0 && strstr(fault.text, "\"vm_initrd\""), "it needs an initrd: %s",
		  fault.text);
	tap_check(load(VM "runtime.vm = /runc\n", &c) < 0 && strstr(fault.text, "runtime.vm"), "its name is taken: %s",
		  fault.text);
	tap_check(load("vm_vmm = uml\nvm_initrd = /i\n", &c) == 0 && c.boot.n_runtimes == 1 &&
		      c.boot.vm.vmm == BOOT_VMM_UML && strcmp(c.boot.vm.uml, "/usr/bin/linux.uml") == 0,
		  "user-mode Linux needs no kernel but itself");
	tap_check(load("vm_vmm = uml\n", &c) < 0 && strstr(fault.text, "\"vm_vmm\"") &&
		      strstr(fault.text, "\"vm_initrd\""),
		  "it needs an initrd: %s", fault.text);
	tap_check(load("vm_vmm = xen\n", &c) < 0 && strstr(fault.text, "\"vm_vmm\" takes qemu or uml, not \"xen\""),
		  "no other one: %s", fault.text);
	tap_check(load("vm_accel = hvf\n", &c) < 0 && strstr(fault.text, "vm_accel"),
		  "an accelerator that isn't known: %s", fault.text);
}

#define ENDPOINT(name, socket) "endpoint." name ".socket = " socket "\nendpoint." name ".services = cri\n"

static void test_endpoints(void) {
	struct config c, d;
	tap_check(load("", &c) == 0 && c.boot.n_endpoints == 2 && strcmp(c.boot.endpoints[0].name, "cri") == 0 &&
		      strcmp(c.boot.endpoints[1].name, "containerd") == 0 &&
		      c.boot.endpoints[0].access == ACCESS_FULL && c.listeners[0].mode == 0660,
		  "by themselves there are the CRI's and containerd's");
	tap_check(load("endpoint.ro.services = cri  health\nendpoint.ro.access = read-only\nendpoint.ro.uids = 0 1000\n"
		       "endpoint.ro.mode = 0666\nendpoint.ro.owner = nobody\nendpoint.ro.group = 7\n",
		       &c) == 0 &&
		      c.boot.n_endpoints == 3,
		  "another one");
	const struct boot_endpoint *e = &c.boot.endpoints[2];
	tap_check(strcmp(e->socket, "/run/bulkhead/ro.sock") == 0 && e->access == ACCESS_READ_ONLY &&
		      e->services == (GROUP_BIT(CRI) | GROUP_BIT(HEALTH)) && c.listeners[2].mode == 0666 &&
		      strcmp(c.listeners[2].owner, "nobody") == 0 && strcmp(c.listeners[2].group, "7") == 0,
		  "its socket is named as it is, and it has what was said");
	tap_check(endpoint_admits(e, 0) && endpoint_admits(e, 1000) && !endpoint_admits(e, 1001) &&
		      endpoint_admits(&c.boot.endpoints[0], 1001),
		  "it admits the uids that are named; one that names none admits all");
	tap_check(load("endpoint.cri.uids = 5\nendpoint.cri.uids =\n", &c) == 0 && c.boot.endpoints[0].n_uids == 0,
		  "an empty list takes them back");
	tap_check(load("endpoint.vm.services = agent\nendpoint.vm.protocol = ttrpc\n"
		       "endpoint.vm.socket = vsock://-1:1024\n",
		       &c) == 0 &&
		      c.boot.endpoints[2].protocol == PROTOCOL_TTRPC && c.boot.endpoints[0].protocol == PROTOCOL_GRPC,
		  "one that speaks ttrpc, on vsock");
	uint32_t cid, port;
	tap_check(endpoint_serial("serial:///dev/vport0p1") &&
		      strcmp(endpoint_serial("serial:///dev/vport0p1"), "/dev/vport0p1") == 0 &&
		      !endpoint_serial("/dev/vport0p1") && !endpoint_serial("serial://"),
		  "what serial:///dev/NAME means");
	tap_check(endpoint_vsock("vsock://-1:1024", &cid, &port) == 0 && cid == UINT32_MAX && port == 1024 &&
		      endpoint_vsock("vsock://3:4294967295", &cid, &port) == 0 && cid == 3 && port == UINT32_MAX,
		  "its CID and port");
	load("", &d);
	load("endpoint.cri.mode = 0600\n", &c);
	tap_check(config_reload(&d, &c) != NULL && d.listeners[0].mode == 0660, "a reload changes none of it");
	load("\n\nendpoint.cri.mode = 0660\n", &c);
	tap_check(config_reload(&d, &c) == NULL, "nor minds where a line stands");
}

static void test_endpoint_refusals(void) {
	tap_check(refused(ENDPOINT("a", "/x") "\n" ENDPOINT("b", "/x"), ":4", "same socket"), "a socket twice");
	tap_check(refused(ENDPOINT("a", "/run/bulkhead/bulkhead.sock"), ":1", "same socket"),
		  "one that another has by itself");
	tap_check(refused("endpoint.a.services = cri dri\n", ":1", "\"dri\""), "an unknown service group");
	tap_check(refused("\nendpoint.a.mode = 0999\n", ":2", "octal"), "a mode that isn't octal");
	tap_check(refused("endpoint.a.mode = 01777\n", ":1", "0777"), "a mode beyond all");
	tap_check(refused("endpoint.a.mode =\n", ":1", "octal"), "no mode");
	tap_check(refused("endpoint.a.access = some\n", ":1", "read-only"), "an unknown access");
	tap_check(refused("endpoint.a.access = none\n", ":1", "read-only"), "no access");
	tap_check(refused("endpoint.a.uids = 0 -1\n", ":1", "uids are numbers"), "a negative uid");
	tap_check(refused("endpoint.a.uids = root\n", ":1", "uids are numbers"), "a uid by name");
	tap_check(refused("endpoint.a.uids = 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n", ":1", "more than 16"),
		  "a seventeenth uid");
	tap_check(refused("endpoint.a.socket = run/x\n", ":1", "absolute"), "a relative socket");
	tap_check(refused("endpoint.a.socket = serial://ttyS1\n", ":1", "serial:///dev/NAME"), "no serial line: %s",
		  "serial://ttyS1");
	static const char *const vsocks[] = { "vsock://",     "vsock://1",    "vsock://1:",
					      "vsock://:1",   "vsock://-2:1", "vsock://1:4294967296",
					      "vsock://1:2x", "vsock://x:2" };
	for (size_t i = 0; i < ARRAY_SIZE(vsocks); i++) {
		char line[64];
		snprintf(line, sizeof(line), "endpoint.a.socket = %s\n", vsocks[i]);
		tap_check(refused(line, ":1", "vsock://CID:PORT"), "no vsock address: %s", vsocks[i]);
	}
	tap_check(refused(ENDPOINT("a", "vsock://-1:7") "endpoint.a.uids = 0\n", ":1", "has no uid"),
		  "uids of who has none");
	tap_check(refused("endpoint.a.protocol = http\n", ":1", "grpc or ttrpc"), "an unknown protocol");
	tap_check(refused("endpoint.a.owner =\n", ":1", "a name"), "an empty owner");
	tap_check(refused("endpoint.a.colour = red\n", ":1", "endpoint.a.colour"), "an unknown field");
	tap_check(refused("endpoint.a = red\n", ":1", "unknown key"), "no field");
	tap_check(refused("endpoint.A.mode = 0600\n", ":1", "can't name an endpoint"), "a name that isn't a label");
	tap_check(refused("endpoint.a.mode = 0600\n", ":1", "would serve nothing"), "an endpoint without services");
	tap_check(refused("endpoint.a.services = health\n", ":1", "would serve nothing"), "one with health only");
	tap_check(refused(ENDPOINT("a", "/a") ENDPOINT("b", "/b") ENDPOINT("c", "/c") ENDPOINT("d", "/d")
			      ENDPOINT("e", "/e") ENDPOINT("f", "/f") ENDPOINT("g", "/g"),
			  ":13", "more than 8"),
		  "a ninth endpoint");
}

static void test_agent(void) {
	struct config c;
	tap_check(load("mode = agent\n", &c) == 0 && c.boot.mode == BOOT_AGENT && c.boot.n_endpoints == 1 &&
		      strcmp(c.boot.endpoints[0].socket, "vsock://-1:1024") == 0 &&
		      c.boot.endpoints[0].services == GROUP_BIT(AGENT) &&
		      c.boot.endpoints[0].protocol == PROTOCOL_TTRPC,
		  "an agent has its endpoint and none else");
	tap_check(load("endpoint.agent.socket = /a\nmode = agent\n", &c) == 0 && c.boot.n_endpoints == 1 &&
		      c.boot.endpoints[0].services == GROUP_BIT(AGENT),
		  "an agent on another socket");
	tap_check(load("endpoint.hypervisor.socket = /h\n", &c) == 0 &&
		      c.boot.endpoints[c.boot.n_endpoints - 1].services == GROUP_BIT(HYPERVISOR) &&
		      c.boot.endpoints[c.boot.n_endpoints - 1].protocol == PROTOCOL_TTRPC,
		  "an endpoint for Kata's shims, by its name");
	tap_check(refused("mode = vm\n", ":1", "host or agent"), "an unknown mode");
	tap_check(refused("agent_run_root = run\n", ":1", "absolute"), "an agent's folder that is no path");
}

/* What packaging/bulkhead.conf says is true: its keys exist, and what is
 * commented out is the default. */
static void test_packaged(void) {
	CLEANUP_FD int fd = open("packaging/bulkhead.conf", O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE char *text = NULL;
	if (fd < 0 || fd_read_all(fd, 65536, &text, NULL) < 0) {
		tap_skip("the packaged configuration", "not started from the source's folder");
		return;
	}
	struct config defaults, packaged;
	tap_check(load(text, &packaged) == 0, "the packaged configuration is valid");
	unsigned keys = 0;
	for (char *p = strstr(text, "\n#"); p; p = strstr(p + 1, "\n#"))
		if (p[2] != ' ' && p[2] != '\n') {
			p[1] = ' ';
			keys++;
		}
	load("", &defaults);
	tap_check(load(text, &packaged) == 0 && keys == 40, "it names all %u keys", keys);
	tap_check(config_reload(&defaults, &packaged) == NULL &&
		      memcmp(&defaults.boot, &packaged.boot, sizeof(defaults.boot)) == 0 &&
		      defaults.worker_timeout_s == packaged.worker_timeout_s &&
		      defaults.stop_timeout_s == packaged.stop_timeout_s,
		  "with their defaults");
}

int main(void) {
	int fd = mkstemp(path);
	if (fd < 0)
		return 1;
	close(fd);
	test_values();
	test_refusals();
	test_cgroups();
	test_options();
	test_reload();
	test_runtimes();
	test_vm();
	test_endpoints();
	test_endpoint_refusals();
	test_agent();
	test_packaged();
	unlink(path);
	return tap_done();
}
