/* The shape of the privilege table, for privileges.c, which holds it, and
 * print.c, which shows it. */
#pragma once

#include "supervisor/filter.h"
#include "supervisor/privileges.h"

#include <sys/resource.h>

/* Where a visible path begins. */
enum place { HOST, STATE, RUN, CERTS, CNI_CONF, CNI_BIN };
/* AS_IT_IS: with the host's mount flags, since it becomes the root of others. */
enum access { READ = 0, WRITE = 1, OPTIONAL = 2, AS_IT_IS = 4 };

struct sight {
	enum place place;
	enum access access;
	const char *path; /* below the place; NULL ends the list */
};

enum opcode_group {
	OPS_LOOP = 1 << 0,   /* readiness, and taking back what was asked */
	OPS_ACCEPT = 1 << 1, /* connections of a listener */
	OPS_STREAM = 1 << 2, /* bytes of open sockets and pipes */
	OPS_SYNC = 1 << 3,   /* making files durable */
};

struct row {
	const char *user; /* a system user; NULL: root */
	uint64_t capabilities;
	uint64_t namespaces; /* new and empty ones */
	bool empty_root;     /* nothing but what it sees */
	struct sight sees[12];
	unsigned syscalls; /* enum syscall_group; 0: any */
	unsigned opcodes;  /* enum opcode_group; 0: any */
	struct rlimit nofile, nproc;
	bool inherits_limits;
	unsigned peers; /* the star; each pair is named by both */
};

struct opcode {
	unsigned group; /* enum opcode_group */
	const char *name;
	uint8_t number; /* IORING_OP_* */
};

extern const struct row privilege_rows[ROLE_COUNT];
extern const struct opcode privilege_opcodes[]; /* ends with name NULL */
