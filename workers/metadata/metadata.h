/*
 * The metadata worker: the hub between the API and everybody else. It owns the
 * object model and its store, and no privilege.
 *
 * A request: handler -> (validation) -> operation -> calls to the image,
 * snapshot or task worker -> commit -> reply. Reads are answered at once.
 */
#pragma once

#include "boot/boot.h"
#include "msg/typed.h"
#include "workers/metadata/event.h"
#include "workers/metadata/csandbox/csandboxes.h"
#include "workers/metadata/ctask/ctasks.h"
#include "workers/metadata/model.h"
#include "workers/metadata/object/bus.h"
#include "workers/metadata/object/object.h"
#include "workers/metadata/op.h"
#include "workers/metadata/server.h"
#include "workers/metadata/store/store.h"

#define BOOT_ID_SIZE 37

struct worker; /* the skeleton's */

struct metadata {
	struct loop *loop;
	const struct boot_config *config;
	/* An agent's sandbox is destroyed, and agent_ends is set; NULL in tests. */
	void (*finish)(struct worker *w);
	struct worker *worker; /* its argument */
	struct link *image, *snapshot, *task, *stream, *systemd, *guest;
	/* As far as this process has seen them, by role and instance; its own too. */
	struct peer {
		pid_t pid;
		unsigned starts;
	} peers[ROLE_COUNT][BOOT_ENDPOINTS_MAX];
	struct server_identity server;
	char boot_id[BOOT_ID_SIZE]; /* of the kernel; empty when unreadable */

	struct store *store;
	struct model model;
	struct objects objects;
	struct ctasks ctasks;
	struct csandboxes csandboxes;
	struct bus bus;
	struct events events;
	struct list ops;    /* struct op: all that are under way */
	struct list sweeps; /* struct sweep */

	/* Changes wait until the records are compared with what runs. */
	bool reconciled, readable;
	struct list gate, read_gate; /* struct gated */
	struct loop_source *read_timer;
	unsigned reconcile_calls;
	int64_t reconcile_asked; /* clock_real of the latest */
	struct loop_source *reconcile_timer;

	struct list made;      /* struct made */
	struct list pulls;     /* struct pull */
	struct map layer_jobs; /* struct layer_job */
	uint64_t pull_id;
	uint64_t losses; /* how often the image or the snapshot worker went away */
	struct loop_source *gc_timer, *index_timer;
	int64_t gc_content_at; /* when blobs without an owner become garbage; 0: there are none */
	bool gc_running, gc_again;
	struct loop_source *collect_timer; /* object/collect.h */
	int64_t collect_at;
	unsigned commits; /* of ingests, under way: there may be blobs that no object names yet */

	/* The latest answer of runtime_info. */
	struct arena runtime_arena;
	const Bulkhead__RuntimeInfoReply *runtime;
	int64_t runtime_at;
	bool units_ready;	 /* systemd can be asked, with that cgroup driver */
	char units_why[160];	 /* and why not */
	struct arena info_arena; /* and of snapshot_info */
	const Bulkhead__SnapshotInfoReply *info;
	struct fs_room {
		uint64_t size, inodes, inodes_free;
	} fs; /* what containers write to, by the latest snapshot_usage */
};

/* Opens the store below config->state_root and loads the records. The links
 * are the caller's and must be set before the first request. */
int metadata_init(struct metadata *m, struct loop *loop, const struct boot_config *config,
		  struct fault *fault) NODISCARD;
void metadata_deinit(struct metadata *m);

/* Peers come and go. */
void metadata_link_up(struct metadata *m, enum role peer);
void metadata_link_down(struct metadata *m, enum role peer);

/* True when the request has to wait for the first comparison with what runs:
 * it is handled again afterwards. */
bool metadata_gate(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
		   void (*handle)(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request));
/* The same for what only reads: a moment of patience, so that nobody is told
 * that something runs which ended during an outage; then the records have to do. */
bool metadata_gate_read(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
			void (*handle)(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request));
void metadata_open_gate(struct metadata *m);

/* For all links. */
extern const struct link_handler metadata_handlers[];
