#include "workers/keeper/oci/oci.h"

#include "base/fd.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define ARGUMENTS_MAX 24
#define LOG_MAX (1024 * 1024)
#define RUNTIME_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* --- what its log says --- */

/* A string of JSON from behind its opening quote, as far as it fits; what isn't
 * plain text is left to fault_set, which cleans it. */
static void string_read(const char *p, char *to, size_t size) {
	size_t n = 0;
	for (; *p && *p != '"' && n + 1 < size; p++) {
		if (*p != '\\') {
			to[n++] = *p;
			continue;
		}
		p++;
		if (*p == '\0')
			break;
		to[n++] = *p == 'n' || *p == 't' || *p == 'r' ? ' ' : *p == 'u' ? '?' : *p;
		if (*p == 'u')
			p += strnlen(p + 1, 4);
	}
	to[n] = '\0';
	while (n > 0 && to[n - 1] == ' ')
		to[--n] = '\0';
}

/* The message of the last line that is an error, or else of the last one. */
static bool log_read(const char *path, char *ret_text, size_t size) {
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	bool error = false, found = false;
	if (fd < 0 || fd_read_all(fd, LOG_MAX, &text, NULL) < 0)
		return false;
	char *save = NULL;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *message = strstr(line, "\"msg\":");
		bool bad = strstr(line, "\"level\":\"error\"") || strstr(line, "\"level\":\"fatal\"");
		message = message ? strchr(message + 6, '"') : NULL;
		if (!message || (error && !bad))
			continue;
		error = bad;
		found = true;
		string_read(message + 1, ret_text, size);
	}
	return found;
}

static int failed(const struct oci_place *p, const char *log, const char *verb, const siginfo_t *end,
		  struct fault *fault) {
	const char *slash = strrchr(p->program, '/');
	const char *name = slash ? slash + 1 : p->program;
	char text[FAULT_TEXT_MAX / 2];
	/* Whose mistake it is its exit status doesn't say. */
	if (log_read(log, text, sizeof(text)))
		return fault_set(fault, FAULT_UNKNOWN, "%s %s: %s", name, verb, text);
	if (end->si_code == CLD_EXITED)
		return fault_set(fault, FAULT_UNKNOWN, "%s %s ended with status %d and said nothing", name, verb,
				 end->si_status);
	return fault_set(fault, FAULT_UNKNOWN, "%s %s was ended by signal %d", name, verb, end->si_status);
}

/* --- running it --- */

static _Noreturn void become_runtime(const struct oci_place *p, const int stdio[3], char *const *args) {
	char *env[] = { (char *)RUNTIME_PATH, NULL };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	/* Whoever ends the maker ends what it was doing. */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	for (int i = 0; i < 3; i++)
		if (dup2(stdio[i] >= 0 ? stdio[i] : null, i) < 0)
			_exit(127);
	execve(p->program, args, env);
	_exit(127);
}

int oci_run(const struct oci_place *p, const char *log, const int stdio[3], const char *const *arguments,
	    struct fault *fault) {
	char path[PATH_MAX + 80];
	const char *args[ARGUMENTS_MAX] = { p->program, "--root", p->state, "--log", path, "--log-format", "json" };
	size_t n = 7;
	siginfo_t end = { 0 };
	snprintf(path, sizeof(path), "%s/%s", p->bundle, log);
	for (size_t i = 0; arguments[i] && n + 1 < ARGUMENTS_MAX; i++)
		args[n++] = arguments[i];
	if (access(p->program, X_OK) < 0)
		return fault_errno(fault, errno, "execute the runtime \"%s\"", p->program);
	unlink(path);
	pid_t pid = fork();
	if (pid == 0)
		become_runtime(p, stdio, (char *const *)(uintptr_t)args);
	if (pid < 0)
		return fault_errno(fault, errno, "execute the runtime \"%s\"", p->program);
	while (waitid(P_PID, (id_t)pid, &end, WEXITED) < 0 && errno == EINTR)
		;
	if (end.si_code == CLD_EXITED && end.si_status == 0)
		return 0;
	return failed(p, path, arguments[0], &end, fault);
}
