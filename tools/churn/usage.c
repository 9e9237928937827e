/* What the kernel says about CPU and memory. */
#include "tools/churn/churn.h"

#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char *file_text(const char *path) {
	char *text = NULL;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && fd_read_all(fd, 1 << 20, &text, NULL) == 0 ? text : NULL;
}

int64_t usage_cgroups(const struct options *o) {
	int64_t sum = 0;
	for (unsigned i = 0; i < o->n_cgroups; i++) {
		char path[512];
		snprintf(path, sizeof(path), "%s/cpuacct.usage", o->cgroups[i]);
		CLEANUP_FREE char *v1 = file_text(path);
		snprintf(path, sizeof(path), "%s/cpu.stat", o->cgroups[i]);
		CLEANUP_FREE char *v2 = v1 ? NULL : file_text(path);
		long long us;
		if (v1)
			sum += atoll(v1);
		else if (v2 && sscanf(v2, "usage_usec %lld", &us) == 1)
			sum += us * 1000;
	}
	return sum;
}

int64_t usage_machine(void) {
	CLEANUP_FREE char *text = file_text("/proc/stat");
	long long user, nice, system, idle, iowait, irq, softirq;
	if (!text || sscanf(text, "cpu %lld %lld %lld %lld %lld %lld %lld", &user, &nice, &system, &idle, &iowait, &irq,
			    &softirq) != 7)
		return 0;
	return (user + nice + system + irq + softirq) * (1000000000 / sysconf(_SC_CLK_TCK));
}

struct process {
	int pid, parent;
	bool counted;
	char name[32];
};

static bool process_read(int pid, struct process *ret_process) {
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	CLEANUP_FREE char *text = file_text(path);
	char *open = text ? strchr(text, '(') : NULL, *close = text ? strrchr(text, ')') : NULL;
	if (!open || !close)
		return false;
	*ret_process = (struct process){ .pid = pid };
	snprintf(ret_process->name, sizeof(ret_process->name), "%.*s", (int)(close - open - 1), open + 1);
	return sscanf(close + 1, " %*c %d", &ret_process->parent) == 1;
}

static bool same_pid_namespace(int pid) {
	char path[64];
	struct stat theirs, ours;
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
	return stat(path, &theirs) == 0 && stat("/proc/self/ns/pid", &ours) == 0 && theirs.st_ino == ours.st_ino;
}

static int64_t pss_of(int pid) {
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	CLEANUP_FREE char *text = file_text(path);
	char *line = text ? strstr(text, "\nPss:") : NULL;
	return line ? atoll(line + 5) : 0;
}

static unsigned processes_read(struct process *list, unsigned room) {
	DIR *d = opendir("/proc");
	unsigned n = 0;
	struct dirent *e;
	while (d && n < room && (e = readdir(d)))
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && process_read(atoi(e->d_name), &list[n]))
			n++;
	if (d)
		closedir(d);
	return n;
}

static void mark(const struct options *o, struct process *list, unsigned n) {
	for (unsigned i = 0; i < n; i++) {
		list[i].counted = list[i].pid == o->pid;
		for (unsigned m = 0; m < o->n_matches; m++)
			list[i].counted |= strncmp(list[i].name, o->matches[m], strlen(o->matches[m])) == 0;
	}
	for (bool again = true; again;) {
		again = false;
		for (unsigned i = 0; i < n; i++)
			for (unsigned p = 0; !list[i].counted && p < n; p++)
				if (list[p].counted && list[p].pid == list[i].parent)
					again = list[i].counted = true;
	}
}

int64_t usage_pss(const struct options *o, unsigned *ret_processes) {
	unsigned room = 32768;
	CLEANUP_FREE struct process *list = calloc(room, sizeof(*list));
	unsigned n = list ? processes_read(list, room) : 0;
	int64_t sum = 0;
	*ret_processes = 0;
	mark(o, list, n);
	for (unsigned i = 0; i < n; i++)
		if (list[i].counted && same_pid_namespace(list[i].pid)) {
			sum += pss_of(list[i].pid);
			++*ret_processes;
		}
	return sum;
}
