/* Figures of a control group that only metrics show, and pressure. */
#include "workers/keeper/cgroup_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_SIZE 8192
#define DEVICES_MAX 32

static uint64_t number(const struct cgroup *c, int h, const char *file) {
	char text[64];
	if (cgroup_read(c, h, file, text, sizeof(text)) < 0)
		return 0;
	uint64_t v = strtoull(text, NULL, 10); /* "max" is 0 */
	return v >= UINT64_C(1) << 62 ? 0 : v;
}

static bool has(const struct cgroup *c, unsigned controller, int *ret_h) {
	*ret_h = c->system ? cgroup_find(c->system, controller) : -1;
	return *ret_h >= 0 && c->made >> *ret_h & 1;
}

static bool is_v2(const struct cgroup *c, int h) {
	return c->system->hierarchies[h].v2;
}

/* --- CPU -------------------------------------------------------------------- */

static void cpu(const struct cgroup *c, Bulkhead__TaskDetail *d, char text[TEXT_SIZE]) {
	int h;
	if (has(c, CGROUP_CPUACCT, &h) && !is_v2(c, h)) {
		d->cpu_user_ns = number(c, h, "cpuacct.usage_user");
		d->cpu_system_ns = number(c, h, "cpuacct.usage_sys");
	}
	if (!has(c, CGROUP_CPU, &h) || cgroup_read(c, h, "cpu.stat", text, TEXT_SIZE) < 0)
		return;
	d->cpu_periods = cgroup_field(text, "nr_periods");
	d->cpu_throttled_periods = cgroup_field(text, "nr_throttled");
	if (is_v2(c, h)) {
		d->cpu_user_ns = cgroup_field(text, "user_usec") * 1000;
		d->cpu_system_ns = cgroup_field(text, "system_usec") * 1000;
		d->cpu_throttled_ns = cgroup_field(text, "throttled_usec") * 1000;
	} else {
		d->cpu_throttled_ns = cgroup_field(text, "throttled_time");
	}
}

/* --- memory ----------------------------------------------------------------- */

static void memory(const struct cgroup *c, Bulkhead__TaskDetail *d, char text[TEXT_SIZE]) {
	int h;
	if (!has(c, CGROUP_MEMORY, &h))
		return;
	d->oom_kills = cgroup_oom_kills(c);
	bool stat = cgroup_read(c, h, "memory.stat", text, TEXT_SIZE) == 0;
	if (is_v2(c, h)) {
		if (stat) {
			d->memory_cache_bytes = cgroup_field(text, "file");
			d->memory_mapped_bytes = cgroup_field(text, "file_mapped");
			d->memory_kernel_bytes = cgroup_field(text, "kernel");
		}
		d->memory_max_usage_bytes = number(c, h, "memory.peak");
		if (cgroup_read(c, h, "memory.events", text, TEXT_SIZE) == 0)
			d->memory_limit_hits = cgroup_field(text, "max");
		return;
	}
	if (stat) {
		d->memory_cache_bytes = cgroup_field(text, "total_cache");
		d->memory_mapped_bytes = cgroup_field(text, "total_mapped_file");
	}
	d->memory_kernel_bytes = number(c, h, "memory.kmem.usage_in_bytes");
	d->memory_max_usage_bytes = number(c, h, "memory.max_usage_in_bytes");
	d->memory_limit_hits = number(c, h, "memory.failcnt");
}

static void hugepages(struct arena *a, const struct cgroup *c, Bulkhead__TaskDetail *d) {
	static const char *const sizes[] = { "64KB", "2MB", "16MB", "32MB", "512MB", "1GB", "16GB" };
	char file[48], text[32];
	int h;
	if (!has(c, CGROUP_HUGETLB, &h))
		return;
	d->hugepages = arena_alloc(a, ARRAY_SIZE(sizes) * sizeof(*d->hugepages));
	for (size_t i = 0; d->hugepages && i < ARRAY_SIZE(sizes); i++) {
		snprintf(file, sizeof(file), is_v2(c, h) ? "hugetlb.%s.current" : "hugetlb.%s.usage_in_bytes",
			 sizes[i]);
		Bulkhead__HugepageUsage *u = arena_alloc(a, sizeof(*u));
		if (!u || cgroup_read(c, h, file, text, sizeof(text)) < 0)
			continue;
		*u = (Bulkhead__HugepageUsage)BULKHEAD__HUGEPAGE_USAGE__INIT;
		u->page_size = (char *)(uintptr_t)sizes[i];
		u->usage_bytes = u->max_usage_bytes = strtoull(text, NULL, 10);
		/* v2 doesn't remember the most. */
		snprintf(file, sizeof(file), "hugetlb.%s.max_usage_in_bytes", sizes[i]);
		if (!is_v2(c, h))
			u->max_usage_bytes = number(c, h, file);
		d->hugepages[d->n_hugepages++] = u;
	}
}

/* --- block devices ---------------------------------------------------------- */

static Bulkhead__DeviceUsage *device(struct arena *a, Bulkhead__TaskDetail *d, unsigned major, unsigned minor) {
	for (size_t i = 0; i < d->n_devices; i++)
		if (d->devices[i]->major == major && d->devices[i]->minor == minor)
			return d->devices[i];
	Bulkhead__DeviceUsage *u = d->n_devices < DEVICES_MAX ? arena_alloc(a, sizeof(*u)) : NULL;
	if (!u)
		return NULL;
	*u = (Bulkhead__DeviceUsage)BULKHEAD__DEVICE_USAGE__INIT;
	u->major = major;
	u->minor = minor;
	return d->devices[d->n_devices++] = u;
}

/* "8:0 Read 4096" */
static void devices_v1(struct arena *a, Bulkhead__TaskDetail *d, char *text, bool bytes) {
	char *save = NULL, word[16];
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned major, minor;
		uint64_t value;
		if (sscanf(line, "%u:%u %15s %" SCNu64, &major, &minor, word, &value) != 4)
			continue;
		bool read = strcmp(word, "Read") == 0;
		Bulkhead__DeviceUsage *u = read || strcmp(word, "Write") == 0 ? device(a, d, major, minor) : NULL;
		if (u)
			*(bytes ? (read ? &u->read_bytes : &u->write_bytes) : (read ? &u->reads : &u->writes)) = value;
	}
}

/* "8:0 rbytes=1 wbytes=2 rios=3 wios=4 ..." */
static void devices_v2(struct arena *a, Bulkhead__TaskDetail *d, char *text) {
	char *save = NULL;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned major, minor;
		uint64_t v[4];
		if (sscanf(line, "%u:%u rbytes=%" SCNu64 " wbytes=%" SCNu64 " rios=%" SCNu64 " wios=%" SCNu64, &major,
			   &minor, &v[0], &v[1], &v[2], &v[3]) != 6)
			continue;
		Bulkhead__DeviceUsage *u = device(a, d, major, minor);
		if (!u)
			return;
		u->read_bytes = v[0];
		u->write_bytes = v[1];
		u->reads = v[2];
		u->writes = v[3];
	}
}

static void devices(struct arena *a, const struct cgroup *c, Bulkhead__TaskDetail *d, char text[TEXT_SIZE]) {
	int h;
	if (!has(c, CGROUP_BLKIO, &h))
		return;
	d->devices = arena_alloc(a, DEVICES_MAX * sizeof(*d->devices));
	if (!d->devices)
		return;
	if (is_v2(c, h)) {
		if (cgroup_read(c, h, "io.stat", text, TEXT_SIZE) == 0)
			devices_v2(a, d, text);
		return;
	}
	if (cgroup_read(c, h, "blkio.throttle.io_service_bytes_recursive", text, TEXT_SIZE) == 0)
		devices_v1(a, d, text, true);
	if (cgroup_read(c, h, "blkio.throttle.io_serviced_recursive", text, TEXT_SIZE) == 0)
		devices_v1(a, d, text, false);
}

void cgroup_detail(struct arena *a, const struct cgroup *c, Bulkhead__TaskDetail *d) {
	char text[TEXT_SIZE];
	int h;
	cpu(c, d, text);
	memory(c, d, text);
	hugepages(a, c, d);
	devices(a, c, d, text);
	if (has(c, CGROUP_PIDS, &h))
		d->threads_max = number(c, h, "pids.max");
}

/* --- pressure --------------------------------------------------------------- */

/* "some avg10=0.12 avg60=0.34 avg300=0.56 total=789" */
static Bulkhead__PressureLine *pressure_line(struct arena *a, const char *text, const char *word) {
	Bulkhead__PressureLine *l = arena_alloc(a, sizeof(*l));
	const char *p = strstr(text, word);
	if (!l || !p)
		return NULL;
	*l = (Bulkhead__PressureLine)BULKHEAD__PRESSURE_LINE__INIT;
	if (sscanf(p + strlen(word), " avg10=%lf avg60=%lf avg300=%lf total=%" SCNu64, &l->avg10, &l->avg60, &l->avg300,
		   &l->total_us) != 4)
		return NULL;
	return l;
}

static Bulkhead__Pressure *pressure(struct arena *a, const struct cgroup *c, const char *file) {
	char text[256];
	if (cgroup_read(c, c->system->v2, file, text, sizeof(text)) < 0)
		return NULL;
	Bulkhead__Pressure *p = arena_alloc(a, sizeof(*p));
	if (!p)
		return NULL;
	*p = (Bulkhead__Pressure)BULKHEAD__PRESSURE__INIT;
	p->some = pressure_line(a, text, "some");
	p->full = pressure_line(a, text, "full");
	return p;
}

/* The v2 hierarchy counts it, whoever has the controllers. */
void cgroup_pressure(struct arena *a, const struct cgroup *c, Bulkhead__TaskStats *s) {
	if (!c->system || c->system->v2 < 0 || !(c->made >> c->system->v2 & 1))
		return;
	s->cpu_pressure = pressure(a, c, "cpu.pressure");
	s->memory_pressure = pressure(a, c, "memory.pressure");
	s->io_pressure = pressure(a, c, "io.pressure");
}
