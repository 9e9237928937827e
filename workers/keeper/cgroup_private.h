/* What the files of the cgroup module share. */
#pragma once

#include "workers/keeper/cgroup.h"

/* Where a value goes, said by the version's own file (v1.c, v2.c). */
struct cgroup_setting {
	unsigned controller;
	char file[48];
	char value[64];
	bool needed; /* failing is an error, not a warning */
};

#define CGROUP_SETTINGS_MAX 24

struct cgroup_settings {
	struct cgroup_setting list[CGROUP_SETTINGS_MAX];
	size_t n;
};

void cgroup_settings_add(struct cgroup_settings *s, unsigned controller, bool needed, const char *file,
			 const char *format, ...) PRINTF(5, 6);
/* "2MB", as the kernel names its huge pages; what it may name a file with. */
bool cgroup_pagesize_valid(const char *text);
/* Only settings whose controller is in one hierarchy of that version are used. */
void cgroup_v1_settings(const Grpc__LinuxResources *r, struct cgroup_settings *ret);
void cgroup_v2_settings(const Grpc__LinuxResources *r, struct cgroup_settings *ret);

/* The group has a folder where that controller is; which hierarchy it is in. */
bool cgroup_has(const struct cgroup *c, unsigned controller, int *ret_h);
/* Names of controllers, separated by blanks. */
unsigned cgroup_controllers_parse(const char *text);
/* One file of the group in hierarchy h: its descriptor, or a negative errno. */
int cgroup_file_open(const struct cgroup *c, int h, const char *file, int flags);
/* The folder in hierarchy h, with those controllers of v2. */
int cgroup_folder_make(const struct cgroup *c, int h, unsigned needed);

/* One rule of the device controller; -1 is any. */
struct device_rule {
	bool allow;
	char type; /* 'a', 'b' or 'c' */
	int64_t major, minor;
	unsigned access; /* DEVICE_READ, ... */
};
enum { DEVICE_READ = 4, DEVICE_WRITE = 2, DEVICE_MKNOD = 1 };
#define DEVICE_RULES_MAX 256

struct device_rules {
	struct device_rule list[DEVICE_RULES_MAX];
	size_t n;
};

/* The rules in the order in which they are to be applied: deny all, what the
 * specification says, and the few devices that every container has. */
int device_rules_make(const Grpc__LinuxResources *r, struct device_rules *ret, struct fault *fault);
int device_rules_v1(const struct cgroup *c, int h, const struct device_rules *rules);
/* Loads a program and attaches it to the v2 group, which owns it. */
int device_rules_v2(int cgroup_fd, const struct device_rules *rules);
/* The program itself, for tests; returns the number of instructions. */
struct bpf_insn;
size_t device_program(const struct device_rules *rules, struct bpf_insn *ret, size_t room);
