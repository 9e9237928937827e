/*
 * The runtime spec as it comes out of CRI request and image configuration, and
 * what is refused on the way.
 */
#include "tap.h"
#include "workers/metadata/check.h"
#include "workers/metadata/signal.h"
#include "workers/metadata/spec/spec.h"

#include <string.h>

/* One of everything, wired together; a test changes what it is about. */
static struct {
	Bulkhead__SandboxRecord sandbox;
	Bulkhead__ContainerRecord container;
	Bulkhead__ImageConfig image;
	Runtime__V1__PodSandboxConfig pod;
	Runtime__V1__PodSandboxMetadata pod_name;
	Runtime__V1__LinuxPodSandboxConfig pod_linux;
	Runtime__V1__LinuxSandboxSecurityContext pod_security;
	Runtime__V1__NamespaceOption pod_namespaces;
	Runtime__V1__ContainerConfig config;
	Runtime__V1__ContainerMetadata name;
	Runtime__V1__ImageSpec image_spec;
	Runtime__V1__LinuxContainerConfig linux;
	Runtime__V1__LinuxContainerSecurityContext security;
	Runtime__V1__NamespaceOption namespaces;
	Runtime__V1__LinuxContainerResources resources;
	Runtime__V1__Capability capabilities;
} x;

static struct arena arena;
static struct fault fault;
static Grpc__Spec *spec;

static void reset(void) {
	arena_deinit(&arena);
	arena_init(&arena, 0);
	x.sandbox = (Bulkhead__SandboxRecord)BULKHEAD__SANDBOX_RECORD__INIT;
	x.container = (Bulkhead__ContainerRecord)BULKHEAD__CONTAINER_RECORD__INIT;
	x.image = (Bulkhead__ImageConfig)BULKHEAD__IMAGE_CONFIG__INIT;
	x.pod = (Runtime__V1__PodSandboxConfig)RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	x.pod_name = (Runtime__V1__PodSandboxMetadata)RUNTIME__V1__POD_SANDBOX_METADATA__INIT;
	x.pod_linux = (Runtime__V1__LinuxPodSandboxConfig)RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT;
	runtime__v1__linux_sandbox_security_context__init(&x.pod_security);
	x.pod_namespaces = (Runtime__V1__NamespaceOption)RUNTIME__V1__NAMESPACE_OPTION__INIT;
	x.config = (Runtime__V1__ContainerConfig)RUNTIME__V1__CONTAINER_CONFIG__INIT;
	x.name = (Runtime__V1__ContainerMetadata)RUNTIME__V1__CONTAINER_METADATA__INIT;
	x.image_spec = (Runtime__V1__ImageSpec)RUNTIME__V1__IMAGE_SPEC__INIT;
	x.linux = (Runtime__V1__LinuxContainerConfig)RUNTIME__V1__LINUX_CONTAINER_CONFIG__INIT;
	runtime__v1__linux_container_security_context__init(&x.security);
	x.namespaces = (Runtime__V1__NamespaceOption)RUNTIME__V1__NAMESPACE_OPTION__INIT;
	x.resources = (Runtime__V1__LinuxContainerResources)RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
	x.capabilities = (Runtime__V1__Capability)RUNTIME__V1__CAPABILITY__INIT;

	x.sandbox.id = (char *)"pod1";
	x.sandbox.config = &x.pod;
	x.pod.metadata = &x.pod_name;
	x.pod_name.name = (char *)"p";
	x.pod.linux = &x.pod_linux;
	x.pod_linux.security_context = &x.pod_security;
	x.pod_security.namespace_options = &x.pod_namespaces;
	x.container.config = &x.config;
	x.container.image_config = &x.image;
	x.config.metadata = &x.name;
	x.name.name = (char *)"c";
	x.config.image = &x.image_spec;
	x.image_spec.image = (char *)"busybox";
	x.config.linux = &x.linux;
	x.linux.security_context = &x.security;
	x.linux.resources = &x.resources;
	x.security.namespace_options = &x.namespaces;
	x.security.capabilities = &x.capabilities;
	static char *cmd[] = { "sh" };
	x.image.cmd = cmd;
	x.image.n_cmd = 1;
}

static int build(void) {
	const struct spec_input in = {
		.sandbox = &x.sandbox, .container = &x.container, .pods_dir = "/run/b/pods", .hostname = "host"
	};
	spec = NULL;
	memset(&fault, 0, sizeof(fault));
	return spec_build(&arena, &in, &spec, &fault);
}

static bool refused(enum fault_code code, const char *part) {
	bool good = build() < 0 && fault.code == code && strstr(fault.text, part);
	if (!good)
		printf("# %d \"%s\"\n", fault.code, fault.text);
	return good;
}

static bool has(char *const *list, size_t n, const char *text) {
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], text) == 0)
			return true;
	return false;
}

static const Grpc__Mount *mount_at(const char *destination) {
	for (size_t i = 0; i < spec->n_mounts; i++)
		if (strcmp(spec->mounts[i]->destination, destination) == 0)
			return spec->mounts[i];
	return NULL;
}

static const char *annotation(const char *key) {
	for (size_t i = 0; i < spec->n_annotations; i++)
		if (strcmp(spec->annotations[i]->key, key) == 0)
			return spec->annotations[i]->value;
	return "";
}

/* "a b c" of a list, to compare in one go. */
static const char *joined(char *const *list, size_t n) {
	static char text[1024];
	text[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		strcat(text, i ? " " : "");
		strcat(text, list[i]);
	}
	return text;
}

static const char *args_of(void) {
	return build() < 0 ? fault.text : joined(spec->process->args, spec->process->n_args);
}

static void test_args(void) {
	static char *entry[] = { "entry", "e1" }, *cmd[] = { "c1", "c2" }, *command[] = { "mine" }, *args[] = { "a1" };
	reset();
	x.image.entrypoint = entry;
	x.image.n_entrypoint = 2;
	x.image.cmd = cmd;
	x.image.n_cmd = 2;
	tap_check(strcmp(args_of(), "entry e1 c1 c2") == 0, "entrypoint and cmd of the image");
	x.config.args = args;
	x.config.n_args = 1;
	tap_check(strcmp(args_of(), "entry e1 a1") == 0, "args take the place of cmd");
	x.config.command = command;
	x.config.n_command = 1;
	tap_check(strcmp(args_of(), "mine a1") == 0, "command takes the place of entrypoint");
	x.config.n_args = 0;
	tap_check(strcmp(args_of(), "mine") == 0, "command hides cmd too");
	x.config.n_command = x.image.n_cmd = x.image.n_entrypoint = 0;
	tap_check(refused(FAULT_INVALID_ARGUMENT, "what to run"), "nothing to run is an error");
}

static void test_env(void) {
	static char *image_env[] = { "PATH=/image", "A=1", "junk", "=x" };
	Runtime__V1__KeyValue kv = RUNTIME__V1__KEY_VALUE__INIT, *kvs[] = { &kv };
	reset();
	build();
	tap_check(has(spec->process->env, spec->process->n_env, "HOSTNAME=host"), "HOSTNAME is the host's");
	tap_check(strncmp(spec->process->env[0], "PATH=/usr/local/sbin:", 21) == 0, "PATH has a default");
	x.pod.hostname = (char *)"web";
	x.image.env = image_env;
	x.image.n_env = 4;
	kv.key = (char *)"A";
	kv.value.data = (uint8_t *)"two\nlines";
	kv.value.len = 9;
	x.config.envs = kvs;
	x.config.n_envs = 1;
	build();
	tap_check(strcmp(joined(spec->process->env, spec->process->n_env), "PATH=/image HOSTNAME=web A=two\nlines") ==
		      0,
		  "the client's win over the image's, values have any text");
	kv.key = (char *)"A=B";
	tap_check(refused(FAULT_INVALID_ARGUMENT, "A=B"), "a name with = is refused");
	kv.key = (char *)"A";
	kv.value.data = (uint8_t *)"a\0b";
	kv.value.len = 3;
	tap_check(refused(FAULT_INVALID_ARGUMENT, "NUL"), "a value with NUL is refused");
	kv.value.data = (uint8_t *)"\xff";
	kv.value.len = 1;
	tap_check(refused(FAULT_INVALID_ARGUMENT, "variable \"A\" isn't UTF-8"), "a value that is no text is refused");
	x.config.n_envs = 0;
	x.config.tty = true;
	build();
	tap_check(has(spec->process->env, spec->process->n_env, "TERM=xterm") && spec->process->terminal, "tty");
}

static void test_user(void) {
	Runtime__V1__Int64Value uid = RUNTIME__V1__INT64_VALUE__INIT, gid = uid;
	int64_t groups[] = { 5, 6 };
	reset();
	build();
	tap_check(strcmp(spec->process->user->username, "0") == 0, "root when nobody says");
	x.image.user = (char *)"app:staff";
	build();
	tap_check(strcmp(spec->process->user->username, "app:staff") == 0, "the image's user");
	uid.value = 1000;
	x.security.run_as_user = &uid;
	build();
	tap_check(strcmp(spec->process->user->username, "1000") == 0, "the client's user");
	gid.value = 2000;
	x.security.run_as_group = &gid;
	x.security.supplemental_groups = groups;
	x.security.n_supplemental_groups = 2;
	build();
	tap_check(strcmp(spec->process->user->username, "1000:2000") == 0 &&
		      spec->process->user->n_additionalgids == 2 && spec->process->user->additionalgids[1] == 6,
		  "with group and supplementary groups");
	x.security.run_as_user = NULL;
	x.image.user = (char *)"";
	tap_check(refused(FAULT_INVALID_ARGUMENT, "without a user"), "a group alone is refused");
	x.security.run_as_username = (char *)"bob";
	build();
	tap_check(strcmp(spec->process->user->username, "bob:2000") == 0, "a name with a group");
	uid.value = INT64_C(1) << 31;
	x.security.run_as_user = &uid;
	tap_check(refused(FAULT_INVALID_ARGUMENT, "out of range"), "CVE-2024-40635: a uid of 2^31 is refused");
	uid.value = -1;
	tap_check(refused(FAULT_INVALID_ARGUMENT, "out of range"), "and a negative one");
	reset();
	x.image.user = (char *)"a\nroot";
	tap_check(refused(FAULT_INVALID_ARGUMENT, "control character"), "a line break in USER is refused");
}

static void test_capabilities(void) {
	static char *all[] = { "ALL" }, *net[] = { "net_admin", "CAP_SYS_TIME" }, *chown[] = { "CHOWN" },
		    *bad[] = { "FLY" };
	reset();
	build();
	const Grpc__LinuxCapabilities *c = spec->process->capabilities;
	tap_check(c->n_bounding == 14 && has(c->bounding, 14, "CAP_NET_RAW") && c->n_inheritable == 0,
		  "fourteen capabilities, none inheritable");
	x.capabilities.add_capabilities = net;
	x.capabilities.n_add_capabilities = 2;
	x.capabilities.drop_capabilities = chown;
	x.capabilities.n_drop_capabilities = 1;
	build();
	c = spec->process->capabilities;
	tap_check(c->n_bounding == 15 && has(c->effective, 15, "CAP_NET_ADMIN") &&
		      has(c->permitted, 15, "CAP_SYS_TIME") && !has(c->bounding, 15, "CAP_CHOWN"),
		  "add and drop, with and without CAP_");
	x.capabilities.drop_capabilities = all;
	build();
	c = spec->process->capabilities;
	tap_check(strcmp(joined(c->bounding, c->n_bounding), "CAP_NET_ADMIN CAP_SYS_TIME") == 0, "drop ALL, then add");
	x.capabilities.add_capabilities = all;
	x.capabilities.n_add_capabilities = 1;
	x.capabilities.drop_capabilities = chown;
	build();
	c = spec->process->capabilities;
	tap_check(c->n_bounding == 40 && !has(c->bounding, 40, "CAP_CHOWN"), "add ALL, drop one");
	x.capabilities.add_ambient_capabilities = net;
	x.capabilities.n_add_ambient_capabilities = 1;
	build();
	c = spec->process->capabilities;
	tap_check(c->n_ambient == 1 && c->n_inheritable == 1, "ambient needs inheritable");
	x.capabilities.add_capabilities = bad;
	tap_check(refused(FAULT_INVALID_ARGUMENT, "FLY"), "an unknown capability is refused");
	reset();
	x.security.privileged = x.pod_security.privileged = true;
	build();
	tap_check(spec->process->capabilities->n_bounding == 41, "privileged has all");
}

static void test_mounts(void) {
	Runtime__V1__Mount a = RUNTIME__V1__MOUNT__INIT, b = a, *mounts[] = { &a, &b };
	reset();
	build();
	tap_check(strcmp(mount_at("/etc/hosts")->source, "/run/b/pods/pod1/hosts") == 0, "the pod's hosts file");
	tap_check(strcmp(mount_at("/dev/shm")->source, "shm") == 0, "the pod's shm");
	tap_check(has(mount_at("/sys")->options, mount_at("/sys")->n_options, "ro"), "/sys is read-only");
	a.container_path = (char *)"/data/in/";
	a.host_path = (char *)"/srv/in";
	a.readonly = a.recursive_read_only = true;
	b.container_path = (char *)"/data";
	b.host_path = (char *)"/srv";
	b.propagation = RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL;
	x.config.mounts = mounts;
	x.config.n_mounts = 2;
	build();
	tap_check(strcmp(joined(mount_at("/data/in")->options, 3), "rbind rprivate rro") == 0, "recursively read-only");
	tap_check(strcmp(joined(mount_at("/data")->options, 3), "rbind rshared rw") == 0 &&
		      strcmp(spec->linux->rootfspropagation, "rshared") == 0,
		  "propagation");
	tap_check(mount_at("/data") && mount_at("/data/in") &&
		      strcmp(spec->mounts[spec->n_mounts - 1]->destination, "/data") != 0,
		  "a folder comes before what is mounted in it");
	b.container_path = (char *)"/etc//hosts";
	build();
	tap_check(strcmp(mount_at("/etc/hosts")->source, "/srv") == 0, "a client's mount takes the place of ours");
	b.container_path = (char *)"/dev";
	build();
	tap_check(!mount_at("/dev/pts") && !mount_at("/dev/shm"), "a client's /dev takes the place of all in it");
	b.container_path = (char *)"/../etc";
	tap_check(refused(FAULT_INVALID_ARGUMENT, ".."), "a path with .. is refused");
	b.container_path = (char *)"etc";
	tap_check(refused(FAULT_INVALID_ARGUMENT, "absolute"), "and a relative one");
	b.container_path = (char *)"/ok";
	a.readonly = false;
	tap_check(refused(FAULT_INVALID_ARGUMENT, "needs readonly"), "recursive_read_only alone is refused");
	a.readonly = true;
	a.image_sub_path = (char *)"part";
	tap_check(refused(FAULT_INVALID_ARGUMENT, "needs an image"), "a sub path of no image is refused");
}

/* The numbers count images in the client's order, whatever comes between them. */
static void test_image_mounts(void) {
	Runtime__V1__Mount a = RUNTIME__V1__MOUNT__INIT, b = a, c = a, *mounts[] = { &a, &b, &c };
	Runtime__V1__ImageSpec image = RUNTIME__V1__IMAGE_SPEC__INIT;
	static char *noexec[] = { "noexec" };
	reset();
	a.image = c.image = &image;
	a.readonly = c.readonly = true;
	a.container_path = (char *)"/deep/in/there";
	b.container_path = (char *)"/host";
	b.host_path = (char *)"/srv";
	c.container_path = (char *)"/top";
	c.mount_options = noexec;
	c.n_mount_options = 1;
	x.config.mounts = mounts;
	x.config.n_mounts = 3;
	build();
	const Grpc__Mount *first = mount_at("/deep/in/there"), *second = mount_at("/top");
	tap_check(first && strcmp(first->type, "image") == 0 && strcmp(first->source, "1") == 0 && second &&
		      strcmp(second->source, "2") == 0,
		  "a volume from an image names its descriptor");
	tap_check(strcmp(joined(first->options, first->n_options), "rprivate ro nosuid nodev") == 0,
		  "it is read-only, without devices and set-id programs");
	tap_check(has(second->options, second->n_options, "noexec"), "more options can be asked for");
	tap_check(strcmp(mount_at("/host")->type, "bind") == 0, "a folder of the host is one");
	a.container_path = (char *)"../up";
	tap_check(refused(FAULT_INVALID_ARGUMENT, "absolute"), "where it goes is checked as for any mount");
}

static void test_linux(void) {
	Runtime__V1__SecurityProfile profile = RUNTIME__V1__SECURITY_PROFILE__INIT;
	static char *masks[] = { "/proc/x" };
	reset();
	build();
	tap_check(strcmp(annotation(SPEC_SECCOMP), "unconfined") == 0, "seccomp: unconfined when nobody asks");
	x.security.seccomp = &profile;
	build();
	tap_check(strcmp(annotation(SPEC_SECCOMP), "runtime/default") == 0, "seccomp: the default profile");
	profile.profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost;
	profile.localhost_ref = (char *)"/p.json";
	build();
	tap_check(strcmp(annotation(SPEC_SECCOMP), "localhost//p.json") == 0, "seccomp: a file");
	tap_check(spec->linux->n_maskedpaths > 8 && spec->linux->n_readonlypaths == 5, "usual masked and locked paths");
	x.security.masked_paths = masks;
	x.security.n_masked_paths = 1;
	build();
	tap_check(spec->linux->n_maskedpaths == 1, "the client's masked paths instead");
	x.namespaces.pid = RUNTIME__V1__NAMESPACE_MODE__CONTAINER;
	build();
	tap_check(spec->linux->n_namespaces == 3 && strcmp(spec->linux->namespaces[2]->type, "pid") == 0,
		  "a PID namespace of its own");
	x.namespaces.network = RUNTIME__V1__NAMESPACE_MODE__NODE;
	tap_check(refused(FAULT_INVALID_ARGUMENT, "its pod's"), "a network other than the pod's is refused");
	reset();
	x.security.privileged = true;
	tap_check(refused(FAULT_INVALID_ARGUMENT, "privileged pod"), "privileged needs a privileged pod");
	x.pod_security.privileged = true;
	x.security.seccomp = &profile;
	build();
	tap_check(strcmp(annotation(SPEC_SECCOMP), "unconfined") == 0 && spec->linux->n_maskedpaths == 0 &&
		      has(mount_at("/sys")->options, mount_at("/sys")->n_options, "rw"),
		  "privileged: no filter, nothing masked, /sys writable");
	Runtime__V1__Device device = RUNTIME__V1__DEVICE__INIT, *devices[] = { &device };
	device.host_path = (char *)"/dev/fuse";
	device.permissions = (char *)"rw";
	x.config.devices = devices;
	x.config.n_devices = 1;
	build();
	tap_check(strcmp(annotation(SPEC_DEVICE "0"), "/dev/fuse\n/dev/fuse\nrw") == 0, "a device of the host");
	device.permissions = (char *)"x";
	tap_check(refused(FAULT_INVALID_ARGUMENT, "permissions"), "its permissions are checked");
}

static void test_resources(void) {
	Runtime__V1__LinuxContainerResources__UnifiedEntry u =
	    RUNTIME__V1__LINUX_CONTAINER_RESOURCES__UNIFIED_ENTRY__INIT;
	Runtime__V1__LinuxContainerResources__UnifiedEntry *us[] = { &u };
	reset();
	x.resources.memory_limit_in_bytes = 1 << 20;
	x.resources.cpu_shares = 512;
	x.resources.cpuset_cpus = (char *)"0-1";
	x.resources.oom_score_adj = -998;
	u.key = (char *)"memory.high";
	u.value = (char *)"100";
	x.resources.unified = us;
	x.resources.n_unified = 1;
	build();
	tap_check(spec->linux->resources->memory->limit == 1 << 20 && spec->linux->resources->cpu->shares == 512 &&
		      spec->process->oomscoreadj == -998 && strcmp(annotation(SPEC_UNIFIED "memory.high"), "100") == 0,
		  "resources");
	u.key = (char *)"../cgroup.procs";
	tap_check(refused(FAULT_INVALID_ARGUMENT, "cgroup setting"), "a unified key that is a path is refused");
	x.resources.n_unified = 0;
	x.resources.cpuset_cpus = (char *)"0\n1";
	tap_check(refused(FAULT_INVALID_ARGUMENT, "cpuset"), "a cpuset of other characters is refused");
}

static void test_signals(void) {
	reset();
	tap_check(spec_stop_signal(&x.container) == 15, "SIGTERM when nobody says");
	x.image.stop_signal = (char *)"SIGQUIT";
	tap_check(spec_stop_signal(&x.container) == 3, "the image's stop signal");
	x.config.stop_signal = RUNTIME__V1__SIGNAL__SIGNAL_SIGUSR1;
	tap_check(spec_stop_signal(&x.container) == 10, "the client's");
	tap_check(signal_parse("RTMIN+3") == 37 && signal_parse("SIGRTMAX-1") == 63 && signal_parse("9") == 9 &&
		      signal_parse("99") == 0 && signal_parse("nonsense") == 0,
		  "other ways to write one");
	bool same = true;
	for (unsigned n = 1; n <= 64; n++)
		if (n != 32 && n != 33)
			same = same && signal_from_cri(signal_to_cri(n)) == n;
	tap_check(same, "each signal of the kernel has a number of the CRI");
	x.pod.log_directory = (char *)"/var/log/pods/a";
	x.config.log_path = (char *)"c/0.log";
	tap_check(strcmp(spec_log_path(&arena, &x.sandbox, &x.container), "/var/log/pods/a/c/0.log") == 0, "log path");
}

static bool sysctl(const char *name, bool host_network, bool host_ipc) {
	return check_sysctl(name, "1", host_network, host_ipc, &fault) == 0;
}

static void test_checks(void) {
	reset();
	tap_check(sysctl("net.core.somaxconn", false, false) && sysctl("net/ipv4/ip_forward", false, false) &&
		      sysctl("kernel.shmmax", false, false) && sysctl("fs.mqueue.msg_max", false, false),
		  "sysctls of namespaces");
	tap_check(!sysctl("kernel.core_pattern", false, false) && !sysctl("kernel.shmmaxx", false, false) &&
		      !sysctl("net.ipv4.ip_forward+kernel.core_pattern", false, false) &&
		      !sysctl("net/../kernel/core_pattern", false, false) && !sysctl("vm.swappiness", false, false),
		  "sysctls of the machine are refused");
	tap_check(!sysctl("net.core.somaxconn", true, false) && !sysctl("kernel.sem", false, true),
		  "those of shared namespaces too");
	tap_check(check_sandbox_config(&x.pod, &fault) == 0, "an ordinary pod");
	x.pod_name.name = (char *)"a\nb";
	tap_check(check_sandbox_config(&x.pod, &fault) < 0, "a name with a line break is refused");
	reset();
	x.pod.hostname = (char *)"a b";
	tap_check(check_sandbox_config(&x.pod, &fault) < 0, "a host name with a blank is refused");
	reset();
	Runtime__V1__DNSConfig dns = RUNTIME__V1__DNSCONFIG__INIT;
	char *good[] = { "10.0.0.10", "fe80::1%eth0" }, *evil[] = { "1.1.1.1\nnameserver 6.6.6.6" };
	dns.servers = good;
	dns.n_servers = 2;
	x.pod.dns_config = &dns;
	tap_check(check_sandbox_config(&x.pod, &fault) == 0, "DNS servers");
	dns.servers = evil;
	dns.n_servers = 1;
	tap_check(check_sandbox_config(&x.pod, &fault) < 0, "a DNS server with a second line is refused");
	reset();
	x.pod_linux.cgroup_parent = (char *)"/kubepods/../..";
	tap_check(check_sandbox_config(&x.pod, &fault) < 0, "a cgroup parent that climbs is refused");
	reset();
	x.config.log_path = (char *)"../../etc/passwd";
	tap_check(check_container_config(&x.config, &fault) < 0, "a log path that climbs is refused");
}

int main(void) {
	test_args();
	test_env();
	test_user();
	test_capabilities();
	test_mounts();
	test_image_mounts();
	test_linux();
	test_resources();
	test_signals();
	test_checks();
	arena_deinit(&arena);
	return tap_done();
}
