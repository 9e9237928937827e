/* Containers as containerd's clients have them: in a bare pod, with a root of
 * their own and streams that lead to fifos and files. */
#pragma once

#include "tests/integration/keeper_lab.h"

struct bare {
	const char *id, *script;
	const char *root;      /* a folder of the host; NULL: rootfs */
	Bulkhead__Stdio stdio; /* empty: all three nowhere */
	Grpc__Mount *rootfs[4];
	size_t n_rootfs;
	bool terminal, held; /* held: isn't started */
	Bulkhead__NamespaceMode pid;
	const char *cgroup;
	void (*tweak)(Grpc__Spec *spec); /* may be NULL */
};

#define BARE_INIT \
	{ .stdio = BULKHEAD__STDIO__INIT, .pid = BULKHEAD__NAMESPACE_MODE__CONTAINER }

/* A folder with busybox below the lab's; static. */
const char *bare_root(struct lab *l);
void bare_root_remove(struct lab *l);
/* Loopback alone, unless s (may be NULL) says more. */
bool bare_setup(struct lab_pod *p, Bulkhead__SandboxStartRequest *s, struct lab_answer *a);
/* Its first process, or -1; the answer stays in *a. */
pid_t bare_run(struct lab_pod *p, const struct bare *b, struct lab_answer *a);
/* Deletes the container; its exit code, or -1. */
int bare_delete(struct lab_pod *p, const char *id);

/* A new fifo in the lab's folder; the path is the caller's to free. */
char *fifo_new(struct lab *l, const char *name);
/* What comes out until the text is there, or with NULL until the end; static. */
const char *fifo_read(struct lab *l, int fd, const char *until, double seconds);
/* Whether the end was met by the last fifo_read. */
bool fifo_ended(void);
