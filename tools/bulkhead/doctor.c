/* doctor: what this machine offers and what the daemon says, each with what to
 * do when it isn't well. */
#include "tools/bulkhead/cli.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

static int problems;

static void say(bool good, const char *what, const char *advice) {
	printf("%-4s %s%s%s\n", good ? "ok" : "NO", what, good ? "" : ": ", good ? "" : advice);
	problems += !good;
}

static bool file_has(const char *path, const char *text) {
	char *content = NULL;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fd_read_all(fd, 1 << 20, &content, NULL) < 0)
		return false;
	bool found = strstr(content, text) != NULL;
	free(content);
	return found;
}

/* Where the configuration has it by default. */
#define CRIU "/usr/sbin/criu"

/* Without it a machine is none the worse, but for one call. */
static void criu(void) {
	char *const args[] = { (char *)CRIU, (char *)"check", NULL };
	posix_spawn_file_actions_t quiet;
	pid_t pid;
	int status = -1;
	if (access(CRIU, X_OK) < 0) {
		printf("note no " CRIU ": containers can't be checkpointed (unless the key criu names another)\n");
		return;
	}
	posix_spawn_file_actions_init(&quiet);
	for (int fd = 0; fd < 3; fd++)
		posix_spawn_file_actions_addopen(&quiet, fd, "/dev/null", O_RDWR, 0);
	if (posix_spawn(&pid, CRIU, &quiet, NULL, args, environ) == 0)
		waitpid(pid, &status, 0);
	posix_spawn_file_actions_destroy(&quiet);
	printf(status == 0 ? "ok   criu\n" : "note \"criu check\" fails: containers can't be checkpointed\n");
}

static void machine(void) {
	struct utsname u;
	unsigned major = 0, minor = 0;
	char text[256];
	uname(&u);
	sscanf(u.release, "%u.%u", &major, &minor);
	snprintf(text, sizeof(text), "kernel %s", u.release);
	say(major > 6 || (major == 6 && minor >= 1), text, "6.1 or later is needed");
	struct stat st;
	bool uring = !file_has("/proc/sys/kernel/io_uring_disabled", "2");
	say(uring, "io_uring", "set the sysctl kernel.io_uring_disabled to 0");
	say(file_has("/proc/filesystems", "overlay") || stat("/sys/module/overlay", &st) == 0, "overlayfs",
	    "load the module overlay; without it each container costs a copy of its image");
	say(stat("/proc/self/ns/cgroup", &st) == 0, "cgroup namespaces", "the kernel lacks CONFIG_CGROUPS");
	struct statfs fs;
	bool v2 = statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
	printf("ok   cgroup %s\n", v2 ? "v2" : "v1 (or hybrid)");
	if (statfs("/run", &fs) == 0 && fs.f_type != TMPFS_MAGIC)
		printf(
		    "note /run is no tmpfs: pods start slower, and leftovers of a reboot are cleaned at start only\n");
	say(file_has("/proc/sys/net/ipv4/ip_forward", "1"), "IPv4 forwarding",
	    "set the sysctl net.ipv4.ip_forward to 1 (done by the first pod with a bridge)");
	criu();
}

static void endpoint_says(const Bulkhead__V1__InspectReply__Endpoint *e) {
	printf("ok   endpoint %s: %s access on %s to", e->name, e->access, e->socket);
	for (size_t i = 0; i < e->n_services; i++)
		printf(" %s", e->services[i]);
	for (size_t i = 0; i < e->n_uids; i++)
		printf("%s %u", i == 0 ? ", for uid" : "", e->uids[i]);
	putchar('\n');
}

static void daemon_says(struct cli *c) {
	Runtime__V1__StatusRequest r = RUNTIME__V1__STATUS_REQUEST__INIT;
	ProtobufCMessage *m = NULL;
	struct fault fault;
	if (cli_try(c, RUNTIME "Status", &r.base, &runtime__v1__status_response__descriptor, 10 * NS_PER_SEC, &m,
		    &fault) < 0) {
		say(false, "daemon", fault.text);
		return;
	}
	say(true, "daemon answers", "");
	const Runtime__V1__RuntimeStatus *s = ((Runtime__V1__StatusResponse *)m)->status;
	for (size_t i = 0; s && i < s->n_conditions; i++)
		say(s->conditions[i]->status, s->conditions[i]->type, s->conditions[i]->message);
	protobuf_c_message_free_unpacked(m, NULL);
	Bulkhead__V1__InspectRequest q = BULKHEAD__V1__INSPECT_REQUEST__INIT;
	if (cli_try(c, ADMIN "Inspect", &q.base, &bulkhead__v1__inspect_reply__descriptor, 10 * NS_PER_SEC, &m,
		    &fault) < 0)
		return;
	const Bulkhead__V1__InspectReply *in = (Bulkhead__V1__InspectReply *)m;
	for (size_t i = 0; i < in->n_endpoints; i++)
		endpoint_says(in->endpoints[i]);
	printf("ok   %u pods, %u containers, %u images\n", in->sandboxes, in->containers, in->images);
	for (size_t i = 0; i < in->n_set_aside; i++)
		say(false, in->set_aside[i]->key, in->set_aside[i]->reason);
	protobuf_c_message_free_unpacked(m, NULL);
}

int command_doctor(struct cli *c, int argc, char **argv) {
	machine();
	daemon_says(c);
	return problems ? 1 : 0;
}
