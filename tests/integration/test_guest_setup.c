/*
 * A sandbox's beginning and end in the guest, devices of containers, and their
 * last words: the guest worker's functions in a mount namespace of the test's own.
 */
#include "workers/guest/guest.h"

#include "base/fd.h"
#include "tests/unit/tap.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

static struct boot_config config;
static struct fault fault;
static struct work work = { .config = &config };

typedef int (*run_fn)(struct work *w, const ProtobufCMessage *request, struct fault *fault);

/* The reply lives until the next call. */
static int run(run_fn fn, const ProtobufCMessage *request) {
	arena_deinit(&work.arena);
	arena_init(&work.arena, 0);
	work.reply = NULL;
	fault = (struct fault){ 0 };
	return fn(&work, request, &fault);
}

static char *path(const char *name) {
	static char paths[4][BOOT_PATH_MAX + 128];
	static unsigned next;
	char *p = paths[next++ % ARRAY_SIZE(paths)];
	snprintf(p, sizeof(paths[0]), "%s/%s", config.agent_run_root, name);
	return p;
}

static void file_write(const char *name, const char *text) {
	int fd = open(name, O_CREAT | O_WRONLY | O_TRUNC, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		printf("# can't write %s\n", name);
	close(fd);
}

static bool file_is(const char *name, const char *text) {
	CLEANUP_FREE char *data = NULL;
	size_t size;
	CLEANUP_FD int fd = open(name, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && fd_read_all(fd, 65536, &data, &size) == 0 && strcmp(data, text) == 0;
}

/* --- the sandbox --- */

static void test_setup(void) {
	Bulkhead__GuestSetupRequest q = BULKHEAD__GUEST_SETUP_REQUEST__INIT;
	char *dns[] = { (char *)"nameserver 192.0.2.1", (char *)"search example.org" };
	char precious[BOOT_PATH_MAX + 32];
	snprintf(precious, sizeof(precious), "%s/precious", config.run_root);
	mkdir(precious, 0755);
	snprintf(precious, sizeof(precious), "%s/precious/file", config.run_root);
	file_write(precious, "x");
	file_write(config.agent_resolv_conf, "the guest's own\n");
	make_folders(path("a/b/c"));
	file_write(path("a/b/c/file"), "old");
	snprintf(precious, sizeof(precious), "%s/precious", config.run_root);
	tap_check(mount(precious, path("a/b"), NULL, MS_BIND, NULL) == 0, "(a folder of somebody's is mounted there)");
	q.dns = dns;
	q.n_dns = 2;
	int r = run(guest_setup_run, &q.base);
	tap_check(r == 0 && access(path("a"), F_OK) < 0, "setup: what was there is gone: %s", fault.text);
	snprintf(precious, sizeof(precious), "%s/precious/file", config.run_root);
	tap_check(file_is(precious, "x"), "setup: but not what was mounted there");
	tap_check(file_is(config.agent_resolv_conf, "nameserver 192.0.2.1\nsearch example.org\n"),
		  "setup: names are resolved as the host says");
	q.n_dns = 1;
	tap_check(run(guest_setup_run, &q.base) == 0 && file_is(config.agent_resolv_conf, "nameserver 192.0.2.1\n"),
		  "setup: once more: %s", fault.text);
	q.n_dns = 0;
	tap_check(run(guest_setup_run, &q.base) == 0 && file_is(config.agent_resolv_conf, "the guest's own\n"),
		  "setup: without name servers the guest's own stay");
	q.n_dns = 2;
	Bulkhead__Empty none = BULKHEAD__EMPTY__INIT;
	tap_check(run(guest_setup_run, &q.base) == 0 && run(guest_clear_run, &none.base) == 0 &&
		      file_is(config.agent_resolv_conf, "the guest's own\n") && access(path("sandbox"), F_OK) < 0,
		  "clear: nothing is left: %s", fault.text);
	tap_check(run(guest_clear_run, &none.base) == 0, "clear: once more is no error");
}

static void test_modules(void) {
	Bulkhead__GuestSetupRequest q = BULKHEAD__GUEST_SETUP_REQUEST__INIT;
	Grpc__KernelModule m = GRPC__KERNEL_MODULE__INIT, *list[] = { &m };
	char *parameters[] = { (char *)"--remove" };
	q.kernel_modules = list;
	q.n_kernel_modules = 1;
	m.name = (char *)"-r";
	tap_check(run(guest_setup_run, &q.base) < 0 && fault.code == FAULT_INVALID_ARGUMENT,
		  "a module whose name is an option: %s", fault.text);
	m.name = (char *)"bulkhead_none";
	m.parameters = parameters;
	m.n_parameters = 1;
	tap_check(run(guest_setup_run, &q.base) < 0 && fault.code == FAULT_INVALID_ARGUMENT,
		  "a parameter that is an option: %s", fault.text);
	m.n_parameters = 0;
	tap_check(run(guest_setup_run, &q.base) < 0 && strstr(fault.text, "\"bulkhead_none\"") &&
		      (fault.code == FAULT_FAILED_PRECONDITION || fault.code == FAULT_INTERNAL),
		  "a module that isn't there: %s", fault.text);
}

/* --- devices --- */

static const struct {
	const char *type, *id, *vm_path;
	enum fault_code code;
	const char *text;
} refused[] = {
	{ "blk", "02/20", "", FAULT_INVALID_ARGUMENT, "PCI slots" },
	{ "blk", "", "", FAULT_INVALID_ARGUMENT, "PCI slots" },
	{ "mmioblk", "", "/etc/passwd", FAULT_INVALID_ARGUMENT, "no device" },
	{ "mmioblk", "", "/dev/../etc/passwd", FAULT_INVALID_ARGUMENT, "no device" },
	{ "nvdimm", "", "/dev/null", FAULT_INVALID_ARGUMENT, "no block device" },
	{ "scsi", "7", "", FAULT_INVALID_ARGUMENT, "ID:LUN" },
	{ "vfio-pci", "", "", FAULT_UNIMPLEMENTED, "vfio-pci" },
	{ "tape", "", "", FAULT_INVALID_ARGUMENT, "tape" },
};

static void test_devices(void) {
	Bulkhead__GuestDevicesRequest q = BULKHEAD__GUEST_DEVICES_REQUEST__INIT;
	Grpc__Device d = GRPC__DEVICE__INIT, *list[] = { &d };
	q.devices = list;
	q.n_devices = 1;
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		d.type = (char *)refused[i].type;
		d.id = (char *)refused[i].id;
		d.vm_path = (char *)refused[i].vm_path;
		int r = run(guest_devices_run, &q.base);
		tap_check(r < 0 && fault.code == refused[i].code && strstr(fault.text, refused[i].text),
			  "device %s \"%s%s\": %s", d.type, d.id, d.vm_path, fault.text);
	}
	struct stat st;
	if (stat("/dev/loop0", &st) < 0 || !S_ISBLK(st.st_mode)) {
		tap_skip("a device that is there", "there is no /dev/loop0");
		return;
	}
	char folder[2 * BOOT_PATH_MAX];
	snprintf(folder, sizeof(folder), "%s/devices/pci0000:00/0000:00:04.0/virtio1/block/loop0", config.agent_sysfs);
	make_folders(folder);
	d = (Grpc__Device)GRPC__DEVICE__INIT;
	d.type = (char *)"blk";
	d.id = (char *)"04";
	d.container_path = (char *)"/dev/xvda";
	int r = run(guest_devices_run, &q.base);
	const Bulkhead__GuestDevicesReply *reply = (const Bulkhead__GuestDevicesReply *)work.reply;
	tap_check(r == 0 && reply->n_devices == 1 && strcmp(reply->devices[0]->path, "/dev/loop0") == 0 &&
		      strcmp(reply->devices[0]->container_path, "/dev/xvda") == 0 && reply->devices[0]->major == 7 &&
		      reply->devices[0]->minor == 0,
		  "a device by its slot: %s", fault.text);
}

/* --- last words --- */

static const char *words(const char *id) {
	Grpc__GetDiagnosticDataRequest q = GRPC__GET_DIAGNOSTIC_DATA_REQUEST__INIT;
	q.container_id = (char *)id;
	q.log_type = (char *)"termination_log";
	if (run(guest_diagnostics_run, &q.base) < 0)
		return fault.text;
	return ((const Grpc__GetDiagnosticDataResponse *)work.reply)->data;
}

static void test_words(void) {
	Bulkhead__GuestAttachRequest q = BULKHEAD__GUEST_ATTACH_REQUEST__INIT;
	Bulkhead__GuestDetachRequest gone = BULKHEAD__GUEST_DETACH_REQUEST__INIT;
	q.owner = gone.owner = (char *)"c1";
	q.termination_log = path("log");
	tap_check(run(guest_attach_run, &q.base) == 0 && *words("c1") == '\0', "no words yet: %s", fault.text);
	file_write(path("log"), "out of coffee\n");
	tap_check(strcmp(words("c1"), "out of coffee\n") == 0, "a container's last words");
	file_write(path("log"), "caf\xe9 \xc3\xa9");
	tap_check(strcmp(words("c1"), "caf? \xc3\xa9") == 0, "what is no UTF-8 of them");
	char *big = calloc(1, 10000);
	memset(big, 'x', 9999);
	file_write(path("log"), big);
	free(big);
	tap_check(strlen(words("c1")) == 4096, "the first 4096 bytes of them");
	unlink(path("log"));
	tap_check(symlink("/etc/passwd", path("log")) == 0 && *words("c1") == '\0', "a link has none");
	unlink(path("log"));
	tap_check(mkfifo(path("log"), 0600) == 0 && *words("c1") == '\0', "nor has a pipe, which isn't waited for");
	unlink(path("log"));
	tap_check(*words("nobody") == '\0', "an unknown container has none");
	file_write(path("log"), "x");
	tap_check(run(guest_detach_run, &gone.base) == 0 && *words("c1") == '\0', "they go with it");
	q.termination_log = (char *)"/etc/passwd";
	tap_check(run(guest_attach_run, &q.base) == 0 && *words("c1") == '\0', "a file elsewhere is never read");
	Grpc__GetDiagnosticDataRequest other = GRPC__GET_DIAGNOSTIC_DATA_REQUEST__INIT;
	other.log_type = (char *)"dmesg";
	tap_check(run(guest_diagnostics_run, &other.base) < 0 && fault.code == FAULT_INVALID_ARGUMENT,
		  "another log: %s", fault.text);
	gone.owner = (char *)"";
	tap_check(run(guest_detach_run, &gone.base) == 0, "(everybody's end)");
}

int main(void) {
	char top[] = "/tmp/bulkhead-guest-XXXXXX", holding[BOOT_PATH_MAX + 8];
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		tap_skip("the guest", "no mount namespace can be made here (root is needed)");
		return tap_done();
	}
	if (!mkdtemp(top) || mount("tmpfs", top, "tmpfs", 0, NULL) < 0)
		return 1;
	snprintf(config.run_root, sizeof(config.run_root), "%s/run", top);
	snprintf(config.agent_run_root, sizeof(config.agent_run_root), "%s/kata", top);
	snprintf(config.agent_sysfs, sizeof(config.agent_sysfs), "%s/sys", top);
	config.agent_hotplug_timeout_s = 3;
	snprintf(config.agent_resolv_conf, sizeof(config.agent_resolv_conf), "%s/resolv.conf", top);
	snprintf(holding, sizeof(holding), "%s/guest", config.run_root);
	if (make_folders(holding) < 0 || mkdir(config.agent_run_root, 0755) < 0)
		return 1;
	test_setup();
	test_modules();
	test_devices();
	test_words();
	arena_deinit(&work.arena);
	umount2(top, MNT_DETACH);
	rmdir(top);
	return tap_done();
}
