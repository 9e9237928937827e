/* The keepers' zygote under test, with the test in the place of the supervisor
 * and of the task worker. Calls are answered before they return. */
#pragma once

#include "msg/typed.h"

#include <sys/types.h>

struct lab {
	struct loop *loop;
	struct link *zygote;
	pid_t zygote_pid;
	int control;
	char dir[64];	 /* run folders of pods are below */
	char cgroup[64]; /* default parent of the pods' groups */
	unsigned n_pods;
};

#define LAB_EXITS_MAX 32

struct lab_pod {
	struct lab *lab;
	struct link *link;
	char id[65];
	char run_dir[160];
	pid_t keeper;
	int vault;
	bool down;
	unsigned n_exits;
	struct lab_exit {
		char container[80], exec[80];
		uint32_t code;
		bool oom;
	} exits[LAB_EXITS_MAX];
};

/* NULL and a printed reason when it can't be. */
struct lab *lab_new(void);
void lab_free(struct lab *l);
/* Turns the loop until done() or the seconds are over. */
bool lab_wait(struct lab *l, bool (*done)(void *ctx), void *ctx, double seconds);
void lab_pause(struct lab *l, double seconds);

struct lab_answer;
struct lab_pod *lab_pod_new(struct lab *l);
/* Whether nothing was left in its folder. */
bool lab_pod_free(struct lab_pod *p);
/* Connects to the keeper's socket, in the place of the old link. */
int lab_pod_connect(struct lab_pod *p);
/* The keeper's descriptors, for lab_pod_adopt. */
bool lab_pod_take_vault(struct lab_pod *p);
/* SIGKILL to the keeper. */
bool lab_pod_kill(struct lab_pod *p);
/* As the task worker does it: a new keeper, then its adoption. */
bool lab_pod_adopt(struct lab_pod *p, struct lab_answer *a);

/* One call. Returns 0 or the fault's code; ret_reply (may be NULL) is freed by
 * lab_reply_free; text is what the fault says. */
struct lab_answer {
	int code;
	char text[1100];
	ProtobufCMessage *reply;
	int fd;
	bool done;
};
void lab_answer_deinit(struct lab_answer *a);
typedef struct msg_call *(*lab_send_fn)(struct link *, const struct msg_context *, const void *, const int *, size_t,
					msg_done_fn, void *);
void lab_call(struct lab *l, struct link *link, lab_send_fn send, const void *m, const int *fds, size_t n_fds,
	      double seconds, struct lab_answer *ret);
/* Like lab_call, but returns at once; wait for a->done. */
void lab_call_start(struct link *link, lab_send_fn send, const void *m, const int *fds, size_t n_fds, double seconds,
		    struct lab_answer *a);
#define LAB_CALL(pod, name, m, fds, n, a) lab_call((pod)->lab, (pod)->link, (lab_send_fn)name##_send, m, fds, n, 20, a)

/* A pod with the host's network. */
bool lab_pod_setup(struct lab_pod *p, const char *hostname);
bool lab_pod_teardown(struct lab_pod *p);
/* A container with that shell command; its first process, or -1. */
pid_t lab_run(struct lab_pod *p, const char *id, const char *script, Bulkhead__NamespaceMode pid, bool start);
/* A call that says no more than which container; the fault's code. */
int lab_key(struct lab_pod *p, lab_send_fn send, const char *id);

/* A detached root: a tmpfs with busybox, users and a few traps. */
int lab_root(void);
/* The same in a folder, without users and traps. */
void lab_root_fill(int root);

/* A specification to change at will; freed with lab_spec_free. */
Grpc__Spec *lab_spec(const char *const *args);
void lab_spec_free(Grpc__Spec *s);
void lab_spec_mount(Grpc__Spec *s, const char *destination, const char *type, const char *source, const char *options);
void lab_strings(size_t *n, char ***list, const char *words);

/* Text of a file, "" when there is none; static. */
const char *lab_file(const char *format, ...) PRINTF(1, 2);
/* The value behind "key:" in /proc/<pid>/status; static. */
const char *lab_status(pid_t pid, const char *key);
bool lab_exists(const char *format, ...) PRINTF(1, 2);
/* How many folders below any hierarchy have this in their path. */
unsigned lab_cgroups(const char *part);
