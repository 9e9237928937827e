#include "workers/keeper/proc.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the name, which may hold anything and is in brackets. */
#define NAME_FIELD 2

int proc_stat(pid_t pid, enum proc_stat_field field, uint64_t *ret_value) {
	char path[32];
	CLEANUP_FREE char *text = NULL;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fd_read_all(fd, 4096, &text, NULL) < 0)
		return -ESRCH;
	const char *p = strrchr(text, ')');
	for (int i = NAME_FIELD; p && i < (int)field; i++)
		p = strchr(p + 1, ' ');
	if (!p)
		return -ESRCH;
	*ret_value = strtoull(p, NULL, 10);
	return 0;
}

bool proc_heeds(pid_t pid, int signal) {
	static const char *const masks[] = { "\nSigBlk:", "\nSigIgn:", "\nSigCgt:" };
	char path[32];
	CLEANUP_FREE char *text = NULL;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fd_read_all(fd, 16384, &text, NULL) < 0)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
		const char *at = strstr(text, masks[i]);
		if (!at || strtoull(at + strlen(masks[i]), NULL, 16) >> (signal - 1) & 1)
			return true;
	}
	return false;
}
