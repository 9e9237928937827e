#include "workers/metadata/server.h"

#include "base/fd.h"
#include "base/id.h"
#include "workers/metadata/csandbox/csandbox.h"
#include "workers/metadata/handlers.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void server_prepare(struct server_identity *s) {
	struct stat st;
	s->supervisor = getppid();
	s->pid_namespace = stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;
}

/* Version 4 of RFC 9562: random but for its version and variant. */
static void uuid_make(char ret_uuid[UUID_SIZE]) {
	char r[ID_SIZE];
	id_random(r);
	snprintf(ret_uuid, UUID_SIZE, "%.8s-%.4s-4%.3s-a%.3s-%.12s", r, r + 8, r + 12, r + 16, r + 20);
}

static int uuid_read(const char *path, char ret_uuid[UUID_SIZE]) {
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret_uuid, UUID_SIZE - 1);
	if (n < 0)
		return -errno;
	ret_uuid[n] = '\0';
	return n == UUID_SIZE - 1 ? 0 : -ENOENT; /* cut short by a crash: made anew */
}

static int uuid_write(const char *path, const char *uuid) {
	char fresh[PATH_MAX];
	snprintf(fresh, sizeof(fresh), "%s.new", path);
	CLEANUP_FD int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, uuid, UUID_SIZE - 1) != UUID_SIZE - 1 || fdatasync(fd) < 0 || rename(fresh, path) < 0)
		return -errno;
	return 0;
}

int server_identify(struct server_identity *s, const char *dir, struct fault *fault) {
	char path[PATH_MAX - 8];
	snprintf(path, sizeof(path), "%s/uuid", dir);
	int r = uuid_read(path, s->uuid);
	if (r == -ENOENT) {
		uuid_make(s->uuid);
		r = uuid_write(path, s->uuid);
	}
	return r < 0 ? fault_errno(fault, r, "the daemon's identity in \"%s\"", path) : 0;
}

void server_info(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	Bulkhead__ServerInfo a = BULKHEAD__SERVER_INFO__INIT;
	a.uuid = m->server.uuid;
	a.pid = (uint32_t)m->server.supervisor;
	a.pid_namespace = m->server.pid_namespace;
	server_info_reply(r, &a, NULL, 0);
}

void runtime_known(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const char *name = ((const Bulkhead__Key *)request)->id;
	Bulkhead__Empty yes = BULKHEAD__EMPTY__INIT;
	if (csandbox_runtime_known(m, name))
		runtime_known_reply(r, &yes, NULL, 0);
	else
		msg_failf(r, FAULT_NOT_FOUND, "nothing is run by the runtime \"%.100s\" here", name);
}
