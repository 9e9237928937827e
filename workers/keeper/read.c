/*
 * Files of the host for the task worker, which sees none: seccomp profiles lie
 * wherever the client says. Nothing is parsed here. A file must be a regular
 * one and small; the last part of its path must not be a symbolic link, and
 * opening it doesn't wait. A large one is handed over to be read elsewhere.
 */
#include "workers/keeper/keeper.h"

#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_SIZE_MAX (1024 * 1024)
#define TOTAL_MAX (12 * 1024 * 1024)
#define FILES_MAX 256

static int file_open(const char *path, int *ret_fd, struct fault *fault) {
	struct stat st;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fault_errno(fault, errno, "read \"%.300s\"", path);
	if (!S_ISREG(st.st_mode))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.300s\" is not a regular file", path);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int file_read(struct arena *a, const char *path, Bulkhead__HostFile **ret_file, struct fault *fault) {
	CLEANUP_FREE char *data = NULL;
	size_t size;
	CLEANUP_FD int fd = -1;
	int r = file_open(path, &fd, fault);
	if (r < 0)
		return r;
	r = fd_read_all(fd, FILE_SIZE_MAX, &data, &size);
	if (r < 0)
		return fault_errno(fault, r, "read \"%.300s\"", path);
	Bulkhead__HostFile *f = arena_alloc(a, sizeof(*f));
	uint8_t *copy = arena_alloc(a, size + 1);
	char *name = arena_strdup(a, path);
	if (!f || !copy || !name)
		return fault_errno(fault, ENOMEM, "read \"%.300s\"", path);
	memcpy(copy, data, size);
	*f = (Bulkhead__HostFile)BULKHEAD__HOST_FILE__INIT;
	f->path = name;
	f->data = (ProtobufCBinaryData){ .len = size, .data = copy };
	*ret_file = f;
	return 0;
}

static bool ends_in(const char *name, const char *suffix) {
	size_t n = strlen(name), k = strlen(suffix);
	return name[0] != '.' && n > k && strcmp(name + n - k, suffix) == 0;
}

static void folder_read(struct arena *a, const char *folder, const char *suffix, Bulkhead__KeeperReadReply *reply,
			size_t *total) {
	struct dirent **names;
	int n = scandir(folder, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		char path[PATH_MAX];
		struct fault ignored;
		Bulkhead__HostFile *f;
		bool wanted = ends_in(names[i]->d_name, suffix) && reply->n_files < FILES_MAX &&
			      (size_t)snprintf(path, sizeof(path), "%s/%s", folder, names[i]->d_name) < sizeof(path);
		if (wanted && file_read(a, path, &f, &ignored) == 0 && *total + f->data.len <= TOTAL_MAX) {
			*total += f->data.len;
			reply->files[reply->n_files++] = f;
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

void on_keeper_read(struct keeper *k, struct msg_request *r, const Bulkhead__KeeperReadRequest *m) {
	Bulkhead__KeeperReadReply reply = BULKHEAD__KEEPER_READ_REPLY__INIT;
	struct fault fault = { 0 };
	size_t total = 0;
	int e = 0;
	reply.files = arena_alloc(&r->arena, FILES_MAX * sizeof(*reply.files));
	if (!reply.files)
		e = fault_errno(&fault, ENOMEM, "read files");
	else if (m->file[0] && m->file[0] != '/')
		e = fault_set(&fault, FAULT_INVALID_ARGUMENT, "\"%.300s\" is not an absolute path", m->file);
	else if (m->file[0])
		e = file_read(&r->arena, m->file, &reply.files[0], &fault);
	if (e < 0) {
		msg_fail(r, &fault);
		return;
	}
	reply.n_files = m->file[0] ? 1 : 0;
	for (size_t i = 0; i < m->n_folders; i++)
		if (m->folders[i][0] == '/')
			folder_read(&r->arena, m->folders[i], m->suffix, &reply, &total);
	keeper_read_reply(r, &reply, NULL, 0);
}

void on_keeper_file_open(struct keeper *k, struct msg_request *r, const Bulkhead__FileOpenRequest *m) {
	Bulkhead__Empty reply = BULKHEAD__EMPTY__INIT;
	struct fault fault = { 0 };
	CLEANUP_FD int fd = -1;
	int e = m->path[0] == '/'
		    ? file_open(m->path, &fd, &fault)
		    : fault_set(&fault, FAULT_INVALID_ARGUMENT, "\"%.300s\" is no absolute path", m->path);
	if (e < 0)
		msg_fail(r, &fault);
	else
		keeper_file_open_reply(r, &reply, &fd, 1);
}
