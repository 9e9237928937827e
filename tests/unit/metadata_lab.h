/*
 * The metadata worker between fakes: an API that calls it, and image, snapshot
 * and task workers that keep in memory what they were told, all in one loop.
 * Each can be made to fail, to wait, or to die.
 */
#pragma once

#include "msg/typed.h"
#include "workers/metadata/metadata.h"

#define LAB_ITEMS 64
#define LAB_ROWS 256

struct lab_set {
	char name[LAB_ITEMS][80];
	size_t n;
};

struct lab_task {
	char id[80], sandbox[80];
	Bulkhead__TaskState state;
	uint32_t exit_code;
	size_t n_mounts; /* that came with it: root and volumes */
};

struct lab_row {
	int calls, fail;
	enum fault_code code;
	bool hold;
	struct msg_request *held[8];
	size_t n_held;
};

struct lab {
	struct loop *loop;
	char dir[64];
	struct boot_config config;
	struct metadata m;
	struct link *api, *api_peer;
	struct link *image_peer, *snapshot_peer, *task_peer, *systemd_peer; /* the fakes' ends */

	/* How each row behaves: an error for the next calls, or no answer yet. */
	struct lab_row row[LAB_ROWS];

	/* systemd: ids of scopes, slices of pods' own; where it makes scopes instead. */
	struct lab_set units, slices;
	const char *misplaced;
	int32_t unit_pid; /* of the latest unit_start */
	char unit_slice[256];

	struct lab_set staged, layers, snapshots, blobs, sandboxes;
	struct lab_task tasks[LAB_ITEMS];
	size_t n_tasks;
	bool create_lost;    /* a task_create that is UNAVAILABLE has made nothing */
	bool exit_on_delete; /* task_delete kills, and the end is told first */
	int64_t changed_at;  /* of any folder */
	const char *diff_id; /* of whatever is applied */
	char sub_path[80];   /* of the last snapshot_mount */
	char journal[8192];  /* names of the calls, in order */

	/* The image that the fake registry has. */
	const char *config_digest;
	const char *diff_ids[8];
	size_t n_layers;
};

void lab_init(struct lab *l);
void lab_deinit(struct lab *l);
/* The metadata worker dies and its successor starts; the fakes live on. */
void lab_restart(struct lab *l);
/* A worker dies; up brings its successor, which knows what the old one knew. */
void lab_worker_down(struct lab *l, enum role role);
void lab_worker_up(struct lab *l, enum role role);
void lab_turns(struct lab *l, int n);

/* A call of a client. The reply lives in the arena. */
struct lab_call {
	bool done;
	struct fault fault;
	struct arena arena;
	ProtobufCMessage *reply;
	int parts;
};
void lab_send(struct lab *l, uint16_t number, const ProtobufCMessage *request, struct lab_call *call);
/* Turns the loop until the answer is there. */
void lab_wait(struct lab *l, struct lab_call *call);
void lab_call(struct lab *l, uint16_t number, const ProtobufCMessage *request, struct lab_call *call);
void lab_call_end(struct lab_call *call);
/* Answers what a row held back last (with success). */
void lab_release(struct lab *l, uint16_t number);

bool lab_has(const struct lab_set *s, const char *name);
struct lab_task *lab_task(struct lab *l, const char *id);
/* The process ends; the fake tells, unless silent. */
void lab_exit(struct lab *l, const char *id, uint32_t code, bool oom, bool silent);

/* systemd comes or goes, as its worker tells; a pod's keeper is seen. */
void lab_systemd(struct lab *l, bool ready, const char *why);
void lab_keeper(struct lab *l, const char *sandbox, int32_t pid);

/* Shortcuts: the usual request; "" or an id, and the fault in l's last. */
const char *lab_run_below(struct lab *l, const char *name, const char *cgroup_parent, struct fault *fault);
const char *lab_run(struct lab *l, const char *name, struct fault *fault);
const char *lab_create(struct lab *l, const char *sandbox, const char *name, struct fault *fault);
const char *lab_create_with(struct lab *l, const char *sandbox, const char *name, Runtime__V1__Mount **mounts,
			    size_t n_mounts, struct fault *fault);
enum fault_code lab_key(struct lab *l, uint16_t number, const char *id); /* Stop*, Remove*, Start */
enum fault_code lab_pull(struct lab *l, const char *name, struct fault *fault);
