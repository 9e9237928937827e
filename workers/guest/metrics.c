/*
 * GetMetrics: the guest's figures and the agent's own, in Prometheus' text form
 * under the names that Kata gave them. What the kernel lets nobody read is left
 * out.
 */
#include "device.h"

#include <dirent.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

static void gauge(FILE *to, const char *name, const char *help) {
	fprintf(to, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name);
}

static void sample(FILE *to, const char *name, const char *item, double value) {
	if (item)
		fprintf(to, "%s{item=\"%s\"} %.15g\n", name, item, value);
	else
		fprintf(to, "%s %.15g\n", name, value);
}

static void file_close(FILE **f) {
	if (*f)
		fclose(*f);
}
#define CLEANUP_FILE CLEANUP(file_close)

/* "\" and quotes of a label's value. */
static void label(FILE *to, const char *name, const char *value) {
	fprintf(to, "%s=\"", name);
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			fputc('\\', to);
		fputc(*value == '\n' ? ' ' : *value, to);
	}
	fputc('"', to);
}

/* --- the agent's processes: the supervisor, and what it has started --- */

struct figures {
	double threads, ticks, system_ticks, vm, rss;
	double peak, data, swap, read, written; /* bytes */
};

static double status_value(const char *line, const char *key) {
	size_t n = strlen(key);
	return strncmp(line, key, n) == 0 ? strtod(line + n, NULL) * 1024 : 0;
}

static void status_add(struct figures *f, int pid) {
	char path[64], line[256];
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	CLEANUP_FILE FILE *file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		f->peak += status_value(line, "VmHWM:");
		f->data += status_value(line, "VmData:");
		f->swap += status_value(line, "VmSwap:");
	}
}

static void io_add(struct figures *f, int pid) {
	char path[64];
	double read, written;
	snprintf(path, sizeof(path), "/proc/%d/io", pid);
	CLEANUP_FILE FILE *file = fopen(path, "re");
	if (file && fscanf(file, "rchar: %lf wchar: %lf", &read, &written) == 2) {
		f->read += read;
		f->written += written;
	}
}

static void process_add(struct figures *f, int pid, int supervisor) {
	char path[64], line[1024];
	int parent;
	unsigned long user, system, vm;
	long threads, rss;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	CLEANUP_FILE FILE *file = fopen(path, "re");
	char *end = file && fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
	if (!end ||
	    sscanf(end, ") %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %ld %*d %*u %lu %ld",
		   &parent, &user, &system, &threads, &vm, &rss) != 6 ||
	    (pid != supervisor && parent != supervisor))
		return;
	f->threads += (double)threads;
	f->ticks += (double)user;
	f->system_ticks += (double)system;
	f->vm += (double)vm;
	f->rss += (double)rss * (double)sysconf(_SC_PAGESIZE);
	status_add(f, pid);
	io_add(f, pid);
}

static struct figures agent_figures(const struct work *w) {
	struct figures f = { 0 };
	DIR *d = opendir("/proc");
	for (struct dirent *e; d && (e = readdir(d));)
		if (isdigit((unsigned char)e->d_name[0]))
			process_add(&f, atoi(e->d_name), w->supervisor);
	if (d)
		closedir(d);
	return f;
}

static void agent(const struct work *w, FILE *to) {
	struct figures f = agent_figures(w);
	double tick = (double)sysconf(_SC_CLK_TCK);
	gauge(to, "kata_agent_scrape_count", "How often this process was asked");
	sample(to, "kata_agent_scrape_count", NULL, (double)w->scrapes);
	gauge(to, "kata_agent_threads", "Threads of the agent's processes");
	sample(to, "kata_agent_threads", NULL, f.threads);
	gauge(to, "kata_agent_total_time", "CPU time of the agent's processes, seconds");
	sample(to, "kata_agent_total_time", NULL, (f.ticks + f.system_ticks) / tick);
	gauge(to, "kata_agent_total_vm", "Virtual memory of the agent's processes, bytes");
	sample(to, "kata_agent_total_vm", NULL, f.vm);
	gauge(to, "kata_agent_total_rss", "Resident memory of the agent's processes, bytes");
	sample(to, "kata_agent_total_rss", NULL, f.rss);
	gauge(to, "kata_agent_proc_status", "Sums of /proc/PID/status, bytes");
	sample(to, "kata_agent_proc_status", "hwm", f.peak);
	sample(to, "kata_agent_proc_status", "vmdata", f.data);
	sample(to, "kata_agent_proc_status", "vmswap", f.swap);
	gauge(to, "kata_agent_io_stat", "Sums of /proc/PID/io, bytes");
	sample(to, "kata_agent_io_stat", "rchar", f.read);
	sample(to, "kata_agent_io_stat", "wchar", f.written);
	gauge(to, "kata_agent_proc_stat", "Sums of /proc/PID/stat, seconds");
	sample(to, "kata_agent_proc_stat", "utime", f.ticks / tick);
	sample(to, "kata_agent_proc_stat", "stime", f.system_ticks / tick);
}

/* --- the guest --- */

static void load(const struct work *w, FILE *to) {
	double one, five, fifteen;
	int running, all;
	CLEANUP_FILE FILE *f = fopen("/proc/loadavg", "re");
	if (!f || fscanf(f, "%lf %lf %lf %d/%d", &one, &five, &fifteen, &running, &all) != 5)
		return;
	gauge(to, "kata_guest_load", "Load averages");
	sample(to, "kata_guest_load", "load1", one);
	sample(to, "kata_guest_load", "load5", five);
	sample(to, "kata_guest_load", "load15", fifteen);
	gauge(to, "kata_guest_tasks", "Threads that run, and all");
	sample(to, "kata_guest_tasks", "cur", running);
	sample(to, "kata_guest_tasks", "max", all);
}

static void cpus(const struct work *w, FILE *to) {
	static const char *const items[] = { "user", "nice",	"system", "idle",  "iowait",
					     "irq",  "softirq", "steal",  "guest", "guest_nice" };
	char line[512], cpu[16];
	CLEANUP_FILE FILE *f = fopen("/proc/stat", "re");
	gauge(to, "kata_guest_cpu_time", "CPU time, in ticks");
	while (f && fgets(line, sizeof(line), f) && strncmp(line, "cpu", 3) == 0) {
		char *p = line + strcspn(line, " ");
		snprintf(cpu, sizeof(cpu), "%.*s", (int)(p - line), line);
		for (size_t i = 0; i < ARRAY_SIZE(items); i++)
			fprintf(to, "kata_guest_cpu_time{cpu=\"%s\",item=\"%s\"} %llu\n",
				strcmp(cpu, "cpu") == 0 ? "total" : cpu, items[i], strtoull(p, &p, 10));
	}
}

/* Files of lines "key value" or "key: value kB". */
static void table(FILE *to, const char *path, const char *name, const char *help) {
	char line[256], key[128], unit[8];
	CLEANUP_FILE FILE *f = fopen(path, "re");
	gauge(to, name, help);
	while (f && fgets(line, sizeof(line), f)) {
		double value;
		int n = sscanf(line, "%127[^: ]%*[: ]%lf %7s", key, &value, unit);
		for (char *p = key; *p; p++)
			*p = *p == '(' || *p == ')' ? '_' : (char)tolower((unsigned char)*p);
		if (n >= 2)
			sample(to, name, key, n == 3 ? value * 1024 : value);
	}
}

static void memory(const struct work *w, FILE *to) {
	table(to, "/proc/meminfo", "kata_guest_meminfo", "Memory, bytes");
	table(to, "/proc/vmstat", "kata_guest_vm_stat", "Virtual memory's counters");
}

static void network(const struct work *w, FILE *to) {
	static const char *const items[] = { "recv_bytes", "recv_packets", "recv_errs",	      "recv_drop",
					     "recv_fifo",  "recv_frame",   "recv_compressed", "recv_multicast",
					     "sent_bytes", "sent_packets", "sent_errs",	      "sent_drop",
					     "sent_fifo",  "sent_colls",   "sent_carrier",    "sent_compressed" };
	char line[512];
	CLEANUP_FILE FILE *f = fopen("/proc/net/dev", "re");
	gauge(to, "kata_guest_netdev_stat", "Interfaces' counters");
	while (f && fgets(line, sizeof(line), f)) {
		char *name = line + strspn(line, " "), *p = strchr(name, ':');
		if (!p)
			continue;
		*p++ = '\0';
		for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
			fputs("kata_guest_netdev_stat{", to);
			label(to, "interface", name);
			fprintf(to, ",item=\"%s\"} %llu\n", items[i], strtoull(p, &p, 10));
		}
	}
}

static void disks(const struct work *w, FILE *to) {
	static const char *const items[] = { "reads",
					     "merged",
					     "sectors_read",
					     "time_reading",
					     "writes",
					     "writes_merged",
					     "sectors_written",
					     "time_writing",
					     "in_progress",
					     "time_in_progress",
					     "weighted_time_in_progress" };
	char line[512], name[64];
	int skip;
	CLEANUP_FILE FILE *f = fopen("/proc/diskstats", "re");
	gauge(to, "kata_guest_diskstat", "Disks' counters");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*u %*u %63s%n", name, &skip) != 1)
			continue;
		char *p = line + skip;
		for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
			fputs("kata_guest_diskstat{", to);
			label(to, "disk", name);
			fprintf(to, ",item=\"%s\"} %llu\n", items[i], strtoull(p, &p, 10));
		}
	}
}

static void fs_sample(FILE *to, const char *metric, const struct mntent *m, const char *item, double value) {
	fprintf(to, "%s{", metric);
	label(to, "path", m->mnt_dir);
	fputc(',', to);
	label(to, "device", m->mnt_fsname);
	fputc(',', to);
	label(to, "type", m->mnt_type);
	fprintf(to, ",item=\"%s\"} %.15g\n", item, value);
}

/* What another mount lies on isn't seen, and would be told twice. */
static bool covered(const char *folder, long after) {
	FILE *f = setmntent("/proc/self/mounts", "re");
	bool found = false;
	struct mntent *m;
	for (long i = 0; f && !found && (m = getmntent(f)); i++)
		found = i > after && strcmp(m->mnt_dir, folder) == 0;
	if (f)
		endmntent(f);
	return found;
}

/* One pass for each metric, so that its samples are together. A file system
 * without blocks isn't one that fills up. */
static void filesystems_of(FILE *to, const char *metric, const char *help, bool inodes) {
	FILE *f = setmntent("/proc/self/mounts", "re");
	struct statfs s;
	struct mntent *m, copy;
	char strings[4096];
	gauge(to, metric, help);
	for (long i = 0; f && (m = getmntent_r(f, &copy, strings, sizeof(strings))); i++) {
		if (statfs(m->mnt_dir, &s) < 0 || s.f_blocks == 0 || covered(m->mnt_dir, i))
			continue;
		double size = inodes ? 1 : (double)s.f_bsize;
		fs_sample(to, metric, m, "total", size * (double)(inodes ? s.f_files : s.f_blocks));
		fs_sample(to, metric, m, "free", size * (double)(inodes ? s.f_ffree : s.f_bfree));
		fs_sample(to, metric, m, "available", size * (double)(inodes ? s.f_ffree : s.f_bavail));
	}
	if (f)
		endmntent(f);
}

static void filesystems(const struct work *w, FILE *to) {
	filesystems_of(to, "kata_guest_filesystem_bytes", "Room in file systems", false);
	filesystems_of(to, "kata_guest_filesystem_inodes", "Inodes of file systems", true);
}

int guest_metrics_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	static void (*const sections[])(const struct work *w, FILE *to) = {
		agent, load, cpus, memory, network, disks, filesystems,
	};
	Grpc__Metrics *reply = ARENA_NEW(&w->arena, Grpc__Metrics, GRPC__METRICS__INIT);
	CLEANUP_FREE char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);
	if (!reply || !to)
		return no_memory(fault);
	for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
		sections[i](w, to);
	if (fclose(to) != 0)
		return no_memory(fault);
	reply->metrics = arena_strdup(&w->arena, text);
	w->reply = &reply->base;
	return reply->metrics ? 0 : no_memory(fault);
}
