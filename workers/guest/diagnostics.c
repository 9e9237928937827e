/*
 * GetDiagnosticData: the last words of a container, which it wrote to a file of
 * the host's choice. Where that is was noted when its storages were attached, as
 * a link in a folder beside the holdings.
 */
#include "guest.h"

#include "base/fd.h"
#include "base/id.h"
#include "base/utf8.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LOG_TYPE "termination_log"
#define LOG_MAX 4096
#define NOTES "guest/.logs"

static void note_path(const struct work *w, const char *owner, char *ret_path, size_t size) {
	snprintf(ret_path, size, "%s/" NOTES "%s%s", w->config->run_root, *owner ? "/" : "", owner);
}

int log_note(const struct work *w, const char *owner, const char *file) {
	char path[BOOT_PATH_MAX + 128];
	note_path(w, "", path, sizeof(path));
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	note_path(w, owner, path, sizeof(path));
	unlink(path);
	return symlink(file, path) < 0 ? -errno : 0;
}

void log_forget(const struct work *w, const char *owner) {
	char path[BOOT_PATH_MAX + 128];
	if (*owner) {
		note_path(w, owner, path, sizeof(path));
		unlink(path);
		return;
	}
	snprintf(path, sizeof(path), "%s/guest", w->config->run_root);
	CLEANUP_FD int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder >= 0 && tree_remove(&(struct place){ .folder = folder, .name = ".logs" }) < 0)
		return;
}

/* Everything in a message is UTF-8 without NUL. */
static void text_clean(char *text, size_t size) {
	for (size_t i = 0; i < size;) {
		unsigned n = text[i] ? utf8_length(text + i, size - i) : 0;
		if (n == 0)
			text[i] = '?';
		i += MAX(n, 1u);
	}
}

/* No more than a plain file: a container may have put anything there. */
static int log_read(const struct work *w, const char *file, char *text, ssize_t *ret_size, struct fault *fault) {
	CLEANUP_PLACE struct place p = PLACE_NONE;
	struct stat st;
	if (place_find(w, file, false, &p, fault) < 0)
		return 0;
	CLEANUP_FD int fd = openat(p.folder, p.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	*ret_size = read(fd, text, LOG_MAX);
	return *ret_size < 0 ? fault_errno(fault, errno, "read \"%s\"", file) : 0;
}

int guest_diagnostics_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Grpc__GetDiagnosticDataRequest *q = (const Grpc__GetDiagnosticDataRequest *)request;
	char path[BOOT_PATH_MAX + 128], file[PATH_MAX];
	if (strcmp(q->log_type, LOG_TYPE) != 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "there is no log \"%s\", only \"" LOG_TYPE "\"",
				 q->log_type);
	if (!id_valid(q->container_id))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.80s\" is no id", q->container_id);
	Grpc__GetDiagnosticDataResponse *reply =
	    ARENA_NEW(&w->arena, Grpc__GetDiagnosticDataResponse, GRPC__GET_DIAGNOSTIC_DATA_RESPONSE__INIT);
	char *text = arena_zalloc(&w->arena, LOG_MAX + 1);
	if (!reply || !text)
		return no_memory(fault);
	w->reply = &reply->base;
	note_path(w, q->container_id, path, sizeof(path));
	ssize_t n = readlink(path, file, sizeof(file) - 1), size = 0;
	if (n <= 0)
		return 0;
	file[n] = '\0';
	int r = log_read(w, file, text, &size, fault);
	if (r < 0)
		return r;
	text_clean(text, (size_t)size);
	reply->data = text;
	return 0;
}
