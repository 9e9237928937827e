#include "metadata_lab.h"

#include "base/clock.h"
#include "base/unit.h"
#include "base/fd.h"

#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* --- sets ------------------------------------------------------------------- */

bool lab_has(const struct lab_set *s, const char *name) {
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->name[i], name) == 0)
			return true;
	return false;
}

static void set_add(struct lab_set *s, const char *name) {
	if (!lab_has(s, name) && s->n < LAB_ITEMS)
		snprintf(s->name[s->n++], 80, "%s", name);
}

static void set_remove(struct lab_set *s, const char *name) {
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->name[i], name) == 0) {
			memmove(s->name[i], s->name[i + 1], (s->n - i - 1) * 80);
			s->n--;
			return;
		}
}

struct lab_task *lab_task(struct lab *l, const char *id) {
	for (size_t i = 0; i < l->n_tasks; i++)
		if (strcmp(l->tasks[i].id, id) == 0)
			return &l->tasks[i];
	return NULL;
}

static void task_remove(struct lab *l, const char *id) {
	struct lab_task *t = lab_task(l, id);
	if (t)
		*t = l->tasks[--l->n_tasks];
}

/* --- the fakes -------------------------------------------------------------- */

/* Counts the call; true when it was answered with an error or is held. */
static bool arrived(struct lab *l, struct msg_request *r) {
	struct lab_row *row = &l->row[r->row->number];
	row->calls++;
	if (strlen(l->journal) + 64 < sizeof(l->journal)) {
		strcat(l->journal, r->row->name);
		strcat(l->journal, " ");
	}
	if (row->fail > 0) {
		row->fail--;
		msg_failf(r, row->code, "the fake refuses %s", r->row->name);
		return true;
	}
	if (row->hold && row->n_held < ARRAY_SIZE(row->held)) {
		row->held[row->n_held++] = r;
		return true;
	}
	return false;
}

static void done(struct msg_request *r) {
	Bulkhead__Empty e = BULKHEAD__EMPTY__INIT;
	msg_reply(r, &e.base, NULL, 0, false);
}

static void on_image_resolve(struct lab *l, struct msg_request *r, const Bulkhead__ImageResolveRequest *q) {
	Bulkhead__ImageResolveReply a = BULKHEAD__IMAGE_RESOLVE_REPLY__INIT;
	Bulkhead__Descriptor target = BULKHEAD__DESCRIPTOR__INIT, config = target, blobs[8];
	Bulkhead__ImageResolveReply__Layer layers[8], *list[8];
	Bulkhead__ImageConfig c = BULKHEAD__IMAGE_CONFIG__INIT;
	static char *cmd[] = { "sh" };
	if (arrived(l, r))
		return;
	target.digest = (char *)"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	config.digest = (char *)(uintptr_t)l->config_digest;
	c.n_cmd = 1;
	c.cmd = cmd;
	a.name = a.repository = q->reference;
	a.target = a.manifest = &target;
	a.config = &config;
	a.image_config = &c;
	a.n_layers = l->n_layers;
	a.layers = list;
	for (size_t i = 0; i < l->n_layers; i++) {
		blobs[i] = target;
		/* The blob's digest is any that differs per layer. */
		blobs[i].digest = (char *)(uintptr_t)l->diff_ids[i];
		blobs[i].size = 100;
		layers[i] = (Bulkhead__ImageResolveReply__Layer)BULKHEAD__IMAGE_RESOLVE_REPLY__LAYER__INIT;
		layers[i].blob = &blobs[i];
		layers[i].diff_id = (char *)(uintptr_t)l->diff_ids[i];
		list[i] = &layers[i];
	}
	set_add(&l->blobs, target.digest);
	image_resolve_reply(r, &a, NULL, 0);
}

static void on_layer_fetch(struct lab *l, struct msg_request *r, const Bulkhead__LayerFetchRequest *q) {
	Bulkhead__LayerFetchReply a = BULKHEAD__LAYER_FETCH_REPLY__INIT;
	if (arrived(l, r))
		return;
	set_add(&l->blobs, q->blob->digest);
	layer_fetch_reply(r, &a, NULL, 0);
}

static void on_image_release(struct lab *l, struct msg_request *r, const Bulkhead__ImageReleaseRequest *q) {
	if (!arrived(l, r))
		done(r);
}

static void on_content_list(struct lab *l, struct msg_request *r, const Bulkhead__Empty *q) {
	Bulkhead__ContentListReply a = BULKHEAD__CONTENT_LIST_REPLY__INIT;
	Bulkhead__Descriptor d[LAB_ITEMS], *list[LAB_ITEMS];
	if (arrived(l, r))
		return;
	for (size_t i = 0; i < l->blobs.n; i++) {
		d[i] = (Bulkhead__Descriptor)BULKHEAD__DESCRIPTOR__INIT;
		d[i].digest = l->blobs.name[i];
		list[i] = &d[i];
	}
	a.n_blobs = l->blobs.n;
	a.blobs = list;
	content_list_reply(r, &a, NULL, 0);
}

static void on_content_remove(struct lab *l, struct msg_request *r, const Bulkhead__KeyList *q) {
	if (arrived(l, r))
		return;
	for (size_t i = 0; i < q->n_ids; i++)
		set_remove(&l->blobs, q->ids[i]);
	done(r);
}

static void on_content_index(struct lab *l, struct msg_request *r, const Bulkhead__ContentIndexRequest *q) {
	if (!arrived(l, r))
		done(r);
}

static void on_layer_unpack(struct lab *l, struct msg_request *r, const Bulkhead__LayerUnpackRequest *q) {
	Bulkhead__LayerUnpackReply a = BULKHEAD__LAYER_UNPACK_REPLY__INIT;
	if (arrived(l, r))
		return;
	set_add(&l->staged, q->chain_id);
	a.size = 1000;
	layer_unpack_reply(r, &a, NULL, 0);
}

static void on_layer_commit(struct lab *l, struct msg_request *r, const Bulkhead__LayerCommitRequest *q) {
	if (arrived(l, r))
		return;
	for (size_t i = 0; i < q->n_parents; i++)
		if (!lab_has(&l->layers, q->parents[i])) {
			msg_failf(r, FAULT_FAILED_PRECONDITION, "parent %s isn't committed", q->parents[i]);
			return;
		}
	if (!lab_has(&l->staged, q->chain_id)) {
		msg_failf(r, FAULT_NOT_FOUND, "layer %s isn't unpacked", q->chain_id);
		return;
	}
	set_remove(&l->staged, q->chain_id);
	set_add(&l->layers, q->chain_id);
	done(r);
}

static void on_layer_remove(struct lab *l, struct msg_request *r, const Bulkhead__Key *q) {
	if (arrived(l, r))
		return;
	set_remove(&l->staged, q->id);
	set_remove(&l->layers, q->id);
	done(r);
}

static void on_snapshot_prepare(struct lab *l, struct msg_request *r, const Bulkhead__SnapshotPrepareRequest *q) {
	if (arrived(l, r))
		return;
	for (size_t i = 0; i < q->n_parents; i++)
		if (!lab_has(&l->layers, q->parents[i])) {
			msg_failf(r, FAULT_NOT_FOUND, "no layer %s", q->parents[i]);
			return;
		}
	set_add(&l->snapshots, q->key);
	done(r);
}

static void on_snapshot_mount(struct lab *l, struct msg_request *r, const Bulkhead__SnapshotMountRequest *q) {
	Bulkhead__Empty e = BULKHEAD__EMPTY__INIT;
	if (arrived(l, r))
		return;
	for (size_t i = 0; i < q->n_parents; i++)
		if (!lab_has(&l->layers, q->parents[i])) {
			msg_failf(r, FAULT_NOT_FOUND, "no layer %s", q->parents[i]);
			return;
		}
	snprintf(l->sub_path, sizeof(l->sub_path), "%s", q->sub_path);
	int fd = memfd_create("root", MFD_CLOEXEC);
	snapshot_mount_reply(r, &e, &fd, 1);
	close(fd);
}

static void on_snapshot_remove(struct lab *l, struct msg_request *r, const Bulkhead__Key *q) {
	if (arrived(l, r))
		return;
	set_remove(&l->snapshots, q->id);
	done(r);
}

static void on_snapshot_usage(struct lab *l, struct msg_request *r, const Bulkhead__Key *q) {
	Bulkhead__SnapshotUsageReply a = BULKHEAD__SNAPSHOT_USAGE_REPLY__INIT;
	if (arrived(l, r))
		return;
	a.size = 4096;
	a.inodes = 3;
	a.changed_at = l->changed_at;
	snapshot_usage_reply(r, &a, NULL, 0);
}

static void on_snapshot_mounts(struct lab *l, struct msg_request *r, const Bulkhead__SnapshotMountRequest *q) {
	Bulkhead__MountList a = BULKHEAD__MOUNT_LIST__INIT;
	Grpc__Mount mount = GRPC__MOUNT__INIT, *list = &mount;
	char source[256];
	if (arrived(l, r))
		return;
	snprintf(source, sizeof(source), "%s/layers/.writable/%s/fs", l->config.state_root, q->key);
	mount.type = (char *)"bind";
	mount.source = source;
	a.mounts = &list;
	a.n_mounts = 1;
	snapshot_mounts_reply(r, &a, NULL, 0);
}

static void on_snapshot_commit(struct lab *l, struct msg_request *r, const Bulkhead__SnapshotCommitRequest *q) {
	Bulkhead__LayerUnpackReply a = BULKHEAD__LAYER_UNPACK_REPLY__INIT;
	if (arrived(l, r))
		return;
	if (!lab_has(&l->layers, q->layer) && !lab_has(&l->snapshots, q->key)) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "no snapshot %s", q->key);
		return;
	}
	if (!lab_has(&l->layers, q->layer)) {
		set_remove(&l->snapshots, q->key);
		set_add(&l->layers, q->layer);
	}
	a.size = 4096;
	snapshot_commit_reply(r, &a, NULL, 0);
}

static void on_snapshot_apply(struct lab *l, struct msg_request *r, const Bulkhead__SnapshotApplyRequest *q) {
	Bulkhead__SnapshotApplyReply a = BULKHEAD__SNAPSHOT_APPLY_REPLY__INIT;
	if (arrived(l, r))
		return;
	a.diff_id = (char *)(uintptr_t)l->diff_id;
	a.size = 1024;
	a.applied_at = 1000;
	snapshot_apply_reply(r, &a, NULL, 0);
}

static void on_blob_open(struct lab *l, struct msg_request *r, const Bulkhead__Key *q) {
	Bulkhead__Descriptor a = BULKHEAD__DESCRIPTOR__INIT;
	if (arrived(l, r))
		return;
	int fd = memfd_create("blob", MFD_CLOEXEC);
	blob_open_reply(r, &a, &fd, 1);
	close(fd);
}

static void on_snapshot_list(struct lab *l, struct msg_request *r, const Bulkhead__Empty *q) {
	Bulkhead__SnapshotListReply a = BULKHEAD__SNAPSHOT_LIST_REPLY__INIT;
	char *layers[LAB_ITEMS], *snapshots[LAB_ITEMS];
	if (arrived(l, r))
		return;
	for (size_t i = 0; i < l->layers.n; i++)
		layers[a.n_layers++] = l->layers.name[i];
	for (size_t i = 0; i < l->snapshots.n; i++)
		snapshots[a.n_snapshots++] = l->snapshots.name[i];
	a.layers = layers;
	a.snapshots = snapshots;
	snapshot_list_reply(r, &a, NULL, 0);
}

static void on_snapshot_info(struct lab *l, struct msg_request *r, const Bulkhead__Empty *q) {
	Bulkhead__SnapshotInfoReply a = BULKHEAD__SNAPSHOT_INFO_REPLY__INIT;
	if (arrived(l, r))
		return;
	a.driver = (char *)"overlayfs";
	a.mountpoint = (char *)"/state/snapshots";
	a.used_bytes = 5000;
	snapshot_info_reply(r, &a, NULL, 0);
}

static void started_fill(Bulkhead__SandboxStartReply *a) {
	static char *ips[] = { "10.0.0.2", "fd00::2" };
	a->keeper_pid = 4242;
	a->n_ips = 2;
	a->ips = ips;
}

static void on_sandbox_start(struct lab *l, struct msg_request *r, const Bulkhead__SandboxStartRequest *q) {
	Bulkhead__SandboxStartReply a = BULKHEAD__SANDBOX_START_REPLY__INIT;
	set_add(&l->sandboxes, q->id);
	if (arrived(l, r))
		return;
	started_fill(&a);
	sandbox_start_reply(r, &a, NULL, 0);
}

static void on_sandbox_stop(struct lab *l, struct msg_request *r, const Bulkhead__SandboxStopRequest *q) {
	if (arrived(l, r))
		return;
	set_remove(&l->sandboxes, q->id);
	for (size_t i = l->n_tasks; i-- > 0;)
		if (strcmp(l->tasks[i].sandbox, q->id) == 0) {
			if (l->tasks[i].state == BULKHEAD__TASK_STATE__TASK_RUNNING)
				lab_exit(l, l->tasks[i].id, 137, false, false);
			task_remove(l, l->tasks[i].id);
		}
	done(r);
}

static void on_task_create(struct lab *l, struct msg_request *r, const Bulkhead__TaskCreateRequest *q) {
	Bulkhead__TaskCreateReply a = BULKHEAD__TASK_CREATE_REPLY__INIT;
	Grpc__User u = GRPC__USER__INIT;
	static char *warnings[] = { "oom score clamped" };
	struct lab_row *row = &l->row[MSG_task_create];
	if (row->fail == 0 || (row->code == FAULT_UNAVAILABLE && !l->create_lost)) {
		struct lab_task *t = &l->tasks[l->n_tasks++];
		snprintf(t->id, sizeof(t->id), "%s", q->container_id);
		snprintf(t->sandbox, sizeof(t->sandbox), "%s", q->sandbox_id);
		t->state = q->start ? BULKHEAD__TASK_STATE__TASK_RUNNING : BULKHEAD__TASK_STATE__TASK_CREATED;
		t->n_mounts = r->n_fds;
	}
	if (arrived(l, r))
		return;
	a.pid = 77;
	a.started_at = clock_real();
	u.uid = 5;
	a.user = &u;
	a.n_warnings = 1;
	a.warnings = warnings;
	task_create_reply(r, &a, NULL, 0);
}

static void on_task_update(struct lab *l, struct msg_request *r, const Bulkhead__TaskUpdateRequest *q) {
	Bulkhead__TaskUpdateReply a = BULKHEAD__TASK_UPDATE_REPLY__INIT;
	if (!arrived(l, r))
		task_update_reply(r, &a, NULL, 0);
}

static void on_task_start(struct lab *l, struct msg_request *r, const Bulkhead__TaskKey *q) {
	Bulkhead__TaskCreateReply a = BULKHEAD__TASK_CREATE_REPLY__INIT;
	if (arrived(l, r))
		return;
	struct lab_task *t = lab_task(l, q->container_id);
	if (!t) {
		msg_failf(r, FAULT_NOT_FOUND, "no task %s", q->container_id);
		return;
	}
	t->state = BULKHEAD__TASK_STATE__TASK_RUNNING;
	a.pid = 77;
	a.started_at = clock_real();
	task_start_reply(r, &a, NULL, 0);
}

static void exit_fill(const struct lab_task *t, Bulkhead__TaskExit *e) {
	e->sandbox_id = (char *)(uintptr_t)t->sandbox;
	e->container_id = (char *)(uintptr_t)t->id;
	e->exit_code = t->exit_code;
	e->finished_at = 12345;
}

void lab_exit(struct lab *l, const char *id, uint32_t code, bool oom, bool silent) {
	Bulkhead__TaskExit e = BULKHEAD__TASK_EXIT__INIT;
	struct lab_task *t = lab_task(l, id);
	if (!t)
		return;
	t->state = BULKHEAD__TASK_STATE__TASK_EXITED;
	t->exit_code = code;
	exit_fill(t, &e);
	e.ooms = oom;
	if (!silent)
		task_exited_send(l->task_peer, NULL, &e, NULL, 0, NULL, NULL);
}

static void on_task_stop(struct lab *l, struct msg_request *r, const Bulkhead__TaskStopRequest *q) {
	Bulkhead__TaskExit e = BULKHEAD__TASK_EXIT__INIT;
	if (arrived(l, r))
		return;
	struct lab_task *t = lab_task(l, q->container_id);
	if (!t) {
		msg_failf(r, FAULT_NOT_FOUND, "no task %s", q->container_id);
		return;
	}
	t->state = BULKHEAD__TASK_STATE__TASK_EXITED;
	t->exit_code = 128 + q->signal;
	exit_fill(t, &e);
	task_stop_reply(r, &e, NULL, 0);
}

static void on_task_delete(struct lab *l, struct msg_request *r, const Bulkhead__TaskKey *q) {
	Bulkhead__TaskExit e = BULKHEAD__TASK_EXIT__INIT;
	if (arrived(l, r))
		return;
	if (l->exit_on_delete)
		lab_exit(l, q->container_id, 137, false, false);
	task_remove(l, q->container_id);
	task_delete_reply(r, &e, NULL, 0);
}

static void on_exec_sync(struct lab *l, struct msg_request *r, const Bulkhead__ExecSyncRequest *q) {
	Bulkhead__ExecSyncReply a = BULKHEAD__EXEC_SYNC_REPLY__INIT;
	if (arrived(l, r))
		return;
	a.stdout_data.data = (uint8_t *)q->args[0];
	a.stdout_data.len = strlen(q->args[0]);
	a.exit_code = 3;
	exec_sync_reply(r, &a, NULL, 0);
}

static void on_task_stats(struct lab *l, struct msg_request *r, const Bulkhead__TaskStatsRequest *q) {
	Bulkhead__TaskStatsReply a = BULKHEAD__TASK_STATS_REPLY__INIT;
	Bulkhead__TaskStats s[LAB_ITEMS], *list[LAB_ITEMS];
	if (arrived(l, r))
		return;
	for (size_t i = 0; i < l->n_tasks; i++) {
		if (strcmp(l->tasks[i].sandbox, q->sandbox_id) != 0)
			continue;
		s[i] = (Bulkhead__TaskStats)BULKHEAD__TASK_STATS__INIT;
		s[i].container_id = l->tasks[i].id;
		s[i].timestamp = clock_real();
		s[i].cpu_usage_ns = 1000;
		s[i].memory_working_set_bytes = 2000;
		list[a.n_stats++] = &s[i];
	}
	a.stats = list;
	task_stats_reply(r, &a, NULL, 0);
}

static void on_task_list(struct lab *l, struct msg_request *r, const Bulkhead__Empty *q) {
	Bulkhead__TaskListReply a = BULKHEAD__TASK_LIST_REPLY__INIT;
	Bulkhead__SandboxInfo infos[LAB_ITEMS], *list[LAB_ITEMS];
	Bulkhead__SandboxStartReply started = BULKHEAD__SANDBOX_START_REPLY__INIT;
	Bulkhead__TaskInfo tasks[LAB_ITEMS], *task_list[LAB_ITEMS][LAB_ITEMS];
	Bulkhead__TaskExit exits[LAB_ITEMS];
	if (arrived(l, r))
		return;
	started_fill(&started);
	for (size_t i = 0; i < l->sandboxes.n; i++) {
		infos[i] = (Bulkhead__SandboxInfo)BULKHEAD__SANDBOX_INFO__INIT;
		infos[i].id = l->sandboxes.name[i];
		infos[i].started = &started;
		infos[i].network_ready = true;
		infos[i].tasks = task_list[i];
		for (size_t k = 0; k < l->n_tasks; k++) {
			if (strcmp(l->tasks[k].sandbox, l->sandboxes.name[i]) != 0)
				continue;
			tasks[k] = (Bulkhead__TaskInfo)BULKHEAD__TASK_INFO__INIT;
			exits[k] = (Bulkhead__TaskExit)BULKHEAD__TASK_EXIT__INIT;
			tasks[k].container_id = l->tasks[k].id;
			tasks[k].state = l->tasks[k].state;
			tasks[k].started_at = 99;
			tasks[k].pid = 77;
			exit_fill(&l->tasks[k], &exits[k]);
			if (l->tasks[k].state == BULKHEAD__TASK_STATE__TASK_EXITED)
				tasks[k].exit = &exits[k];
			task_list[i][infos[i].n_tasks++] = &tasks[k];
		}
		list[a.n_sandboxes++] = &infos[i];
	}
	a.sandboxes = list;
	task_list_reply(r, &a, NULL, 0);
}

static void on_runtime_info(struct lab *l, struct msg_request *r, const Bulkhead__Empty *q) {
	Bulkhead__RuntimeInfoReply a = BULKHEAD__RUNTIME_INFO_REPLY__INIT;
	if (arrived(l, r))
		return;
	a.network_ready = true;
	a.cgroup_driver = (char *)"cgroupfs";
	runtime_info_reply(r, &a, NULL, 0);
}

/* --- systemd ---------------------------------------------------------------- */

static void on_unit_start(struct lab *l, struct msg_request *r, const Bulkhead__UnitStartRequest *q) {
	Bulkhead__UnitStartReply a = BULKHEAD__UNIT_START_REPLY__INIT;
	char scope[UNIT_NAME_SIZE] = "", slice[1024] = "", path[2048];
	if (arrived(l, r))
		return;
	set_add(&l->units, q->id);
	if (q->own_slice)
		set_add(&l->slices, q->pod ? q->id : "");
	l->unit_pid = q->pid;
	snprintf(l->unit_slice, sizeof(l->unit_slice), "%s", q->slice);
	if (scope_name(q->id, scope) < 0 || slice_path(q->slice, slice, sizeof(slice)) < 0)
		abort();
	snprintf(path, sizeof(path), "%s/%s", slice, scope);
	a.cgroup_path = l->misplaced ? (char *)(uintptr_t)l->misplaced : path;
	unit_start_reply(r, &a, NULL, 0);
}

static void on_unit_update(struct lab *l, struct msg_request *r, const Bulkhead__UnitUpdateRequest *q) {
	if (arrived(l, r))
		return;
	snprintf(l->unit_slice, sizeof(l->unit_slice), "%s", q->slice);
	done(r);
}

static void on_unit_stop(struct lab *l, struct msg_request *r, const Bulkhead__UnitStopRequest *q) {
	if (arrived(l, r))
		return;
	set_remove(&l->units, q->id);
	if (q->slice[0])
		set_remove(&l->slices, q->id);
	done(r);
}

static void on_unit_list(struct lab *l, struct msg_request *r, const Bulkhead__UnitListRequest *q) {
	Bulkhead__UnitListReply a = BULKHEAD__UNIT_LIST_REPLY__INIT;
	char *ids[LAB_ITEMS], *pods[LAB_ITEMS];
	if (arrived(l, r))
		return;
	for (; a.n_ids < l->units.n; a.n_ids++)
		ids[a.n_ids] = l->units.name[a.n_ids];
	for (; a.n_pods < l->slices.n; a.n_pods++)
		pods[a.n_pods] = l->slices.name[a.n_pods];
	a.ids = ids;
	a.pods = pods;
	unit_list_reply(r, &a, NULL, 0);
}

void lab_systemd(struct lab *l, bool ready, const char *why) {
	Bulkhead__UnitsState m = BULKHEAD__UNITS_STATE__INIT;
	m.ready = ready;
	m.message = (char *)(uintptr_t)why;
	units_state_send(l->systemd_peer, NULL, &m, NULL, 0, NULL, NULL);
	lab_turns(l, 10);
}

void lab_keeper(struct lab *l, const char *sandbox, int32_t pid) {
	Bulkhead__SandboxKept m = BULKHEAD__SANDBOX_KEPT__INIT;
	m.sandbox_id = (char *)(uintptr_t)sandbox;
	m.keeper_pid = pid;
	sandbox_kept_send(l->task_peer, NULL, &m, NULL, 0, NULL, NULL);
	lab_turns(l, 10);
}

HANDLER_DEFINE(struct lab, image_resolve)
HANDLER_DEFINE(struct lab, layer_fetch)
HANDLER_DEFINE(struct lab, image_release)
HANDLER_DEFINE(struct lab, content_list)
HANDLER_DEFINE(struct lab, content_remove)
HANDLER_DEFINE(struct lab, content_index)
HANDLER_DEFINE(struct lab, layer_unpack)
HANDLER_DEFINE(struct lab, layer_commit)
HANDLER_DEFINE(struct lab, layer_remove)
HANDLER_DEFINE(struct lab, snapshot_prepare)
HANDLER_DEFINE(struct lab, snapshot_mount)
HANDLER_DEFINE(struct lab, snapshot_remove)
HANDLER_DEFINE(struct lab, snapshot_usage)
HANDLER_DEFINE(struct lab, snapshot_mounts)
HANDLER_DEFINE(struct lab, snapshot_commit)
HANDLER_DEFINE(struct lab, snapshot_apply)
HANDLER_DEFINE(struct lab, blob_open)
HANDLER_DEFINE(struct lab, snapshot_list)
HANDLER_DEFINE(struct lab, snapshot_info)
HANDLER_DEFINE(struct lab, sandbox_start)
HANDLER_DEFINE(struct lab, sandbox_stop)
HANDLER_DEFINE(struct lab, task_create)
HANDLER_DEFINE(struct lab, task_stop)
HANDLER_DEFINE(struct lab, task_delete)
HANDLER_DEFINE(struct lab, exec_sync)
HANDLER_DEFINE(struct lab, task_stats)
HANDLER_DEFINE(struct lab, task_start)
HANDLER_DEFINE(struct lab, task_update)
HANDLER_DEFINE(struct lab, unit_start)
HANDLER_DEFINE(struct lab, unit_update)
HANDLER_DEFINE(struct lab, unit_stop)
HANDLER_DEFINE(struct lab, unit_list)
HANDLER_DEFINE(struct lab, task_list)
HANDLER_DEFINE(struct lab, runtime_info)

static const struct link_handler fake_handlers[] = {
	HANDLER(image_resolve),
	HANDLER(layer_fetch),
	HANDLER(image_release),
	HANDLER(content_list),
	HANDLER(content_remove),
	HANDLER(content_index),
	HANDLER(layer_unpack),
	HANDLER(layer_commit),
	HANDLER(layer_remove),
	HANDLER(snapshot_prepare),
	HANDLER(snapshot_mount),
	HANDLER(snapshot_remove),
	HANDLER(snapshot_usage),
	HANDLER(snapshot_mounts),
	HANDLER(snapshot_commit),
	HANDLER(snapshot_apply),
	HANDLER(blob_open),
	HANDLER(snapshot_list),
	HANDLER(snapshot_info),
	HANDLER(sandbox_start),
	HANDLER(sandbox_stop),
	HANDLER(task_create),
	HANDLER(task_stop),
	HANDLER(task_delete),
	HANDLER(exec_sync),
	HANDLER(task_stats),
	HANDLER(task_start),
	HANDLER(task_update),
	HANDLER(unit_start),
	HANDLER(unit_update),
	HANDLER(unit_stop),
	HANDLER(unit_list),
	HANDLER(task_list),
	HANDLER(runtime_info),
	{ 0 },
};

/* --- life ------------------------------------------------------------------- */

static struct link *new_link(struct lab *l, enum role self, enum role peer) {
	struct link *link;
	struct link_options o = { .loop = l->loop, .self = self, .peer = peer, .access = ACCESS_FULL };
	o.handlers = self == ROLE_METADATA ? metadata_handlers : self == ROLE_API ? NULL : fake_handlers;
	o.worker = self == ROLE_METADATA ? (void *)&l->m : l;
	if (link_new(&o, &link) < 0)
		abort();
	return link;
}

static void join(struct link *a, struct link *b) {
	struct link_ends ea, eb;
	if (link_ends_new(&ea, &eb) < 0 || link_attach_ring(a, &ea) < 0 || link_attach_ring(b, &eb) < 0)
		abort();
}

static struct link **ours(struct lab *l, enum role role) {
	return role == ROLE_IMAGE      ? &l->m.image
	       : role == ROLE_SNAPSHOT ? &l->m.snapshot
	       : role == ROLE_SYSTEMD  ? &l->m.systemd
				       : &l->m.task;
}

static struct link **theirs(struct lab *l, enum role role) {
	return role == ROLE_IMAGE      ? &l->image_peer
	       : role == ROLE_SNAPSHOT ? &l->snapshot_peer
	       : role == ROLE_SYSTEMD  ? &l->systemd_peer
				       : &l->task_peer;
}

/* Their link is gone; answering frees them. */
static void forget_held(struct lab *l) {
	for (size_t i = 0; i < LAB_ROWS; i++) {
		while (l->row[i].n_held > 0) {
			struct msg_request *r = l->row[i].held[--l->row[i].n_held];
			if (!r->link)
				msg_failf(r, FAULT_CANCELLED, "the worker died");
		}
	}
}

void lab_worker_down(struct lab *l, enum role role) {
	link_free(*theirs(l, role));
	*theirs(l, role) = NULL;
	forget_held(l);
	link_detach(*ours(l, role));
	metadata_link_down(&l->m, role);
	lab_turns(l, 5);
}

void lab_worker_up(struct lab *l, enum role role) {
	*theirs(l, role) = new_link(l, role, ROLE_METADATA);
	join(*theirs(l, role), *ours(l, role));
	metadata_link_up(&l->m, role);
	lab_turns(l, 10);
}

static const enum role workers[] = { ROLE_IMAGE, ROLE_SNAPSHOT, ROLE_TASK, ROLE_SYSTEMD };

static void metadata_begin(struct lab *l) {
	struct fault fault;
	memset(&l->m, 0, sizeof(l->m));
	snprintf(l->m.boot_id, sizeof(l->m.boot_id), "boot-1");
	l->api_peer = new_link(l, ROLE_METADATA, ROLE_API);
	for (size_t i = 0; i < ARRAY_SIZE(workers); i++)
		*ours(l, workers[i]) = new_link(l, ROLE_METADATA, workers[i]);
	if (metadata_init(&l->m, l->loop, &l->config, &fault) < 0) {
		printf("# %s\n", fault.text);
		abort();
	}
	join(l->api, l->api_peer);
}

/* A dead process frees nothing: what its callbacks begin while the lab takes
 * its links away is lost on purpose. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
	return "leak:metadata_end\n";
}

static __attribute__((noinline)) void metadata_end(struct lab *l) {
	link_free(l->api_peer);
	for (size_t i = 0; i < ARRAY_SIZE(workers); i++)
		link_free(*ours(l, workers[i]));
	metadata_deinit(&l->m);
}

void lab_restart(struct lab *l) {
	for (size_t i = 0; i < ARRAY_SIZE(workers); i++) {
		link_free(*theirs(l, workers[i]));
		*theirs(l, workers[i]) = NULL;
	}
	forget_held(l);
	metadata_end(l);
	link_detach(l->api);
	metadata_begin(l);
	for (size_t i = 0; i < ARRAY_SIZE(workers); i++)
		lab_worker_up(l, workers[i]);
}

void lab_init(struct lab *l) {
	struct loop_options o = { 0 };
	char path[80];
	memset(l, 0, sizeof(*l));
	strcpy(l->dir, "/tmp/bulkhead-metadata-XXXXXX");
	if (!mkdtemp(l->dir) || loop_new(&o, &l->loop) < 0 || loop_enable(l->loop, NULL, 0) < 0)
		abort();
	snprintf(path, sizeof(path), "%s/metadata", l->dir);
	mkdir(path, 0700);
	strcpy(l->config.state_root, l->dir);
	strcpy(l->config.run_root, "/run/lab");
	l->config.max_concurrent_downloads = 3;
	l->config_digest = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";
	l->diff_ids[0] = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
	l->diff_ids[1] = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
	l->diff_ids[2] = "sha256:2222222222222222222222222222222222222222222222222222222222222222";
	l->n_layers = 3;
	l->api = new_link(l, ROLE_API, ROLE_METADATA);
	metadata_begin(l);
	for (size_t i = 0; i < ARRAY_SIZE(workers); i++)
		lab_worker_up(l, workers[i]);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
	return remove(path);
}

void lab_deinit(struct lab *l) {
	for (size_t i = 0; i < ARRAY_SIZE(workers); i++)
		link_free(*theirs(l, workers[i]));
	metadata_end(l);
	link_free(l->api);
	loop_turn(l->loop, 0);
	loop_free(l->loop);
	nftw(l->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void lab_turns(struct lab *l, int n) {
	for (int i = 0; i < n; i++)
		loop_turn(l->loop, NS_PER_MS);
}

/* --- calls ------------------------------------------------------------------ */

static void call_done(void *ctx, const struct msg_answer *a) {
	struct lab_call *c = ctx;
	c->done = !a->more;
	c->parts++;
	if (a->fault)
		c->fault = *a->fault;
	else {
		struct buffer bytes = { 0 };
		size_t n = protobuf_c_message_get_packed_size(a->reply);
		protobuf_c_message_pack(a->reply, buffer_reserve(&bytes, n + 1));
		c->reply = msg_decode(a->reply->descriptor, &c->arena, bytes.data, n);
		buffer_deinit(&bytes);
	}
}

void lab_send(struct lab *l, uint16_t number, const ProtobufCMessage *request, struct lab_call *call) {
	memset(call, 0, sizeof(*call));
	arena_init(&call->arena, 0);
	msg_send(l->api, number, NULL, request, NULL, 0, call_done, call);
}

void lab_wait(struct lab *l, struct lab_call *call) {
	for (int i = 0; i < 500 && !call->done; i++)
		loop_turn(l->loop, 5 * NS_PER_MS);
	if (!call->done)
		fault_set(&call->fault, FAULT_UNKNOWN, "no answer came; the calls so far: %s", l->journal);
}

void lab_call(struct lab *l, uint16_t number, const ProtobufCMessage *request, struct lab_call *call) {
	lab_send(l, number, request, call);
	lab_wait(l, call);
}

void lab_call_end(struct lab_call *call) {
	arena_deinit(&call->arena);
}

/* The held request is handled as if it came now. */
void lab_release(struct lab *l, uint16_t number) {
	struct lab_row *row = &l->row[number];
	row->hold = false;
	if (row->n_held == 0)
		return;
	struct msg_request *r = row->held[--row->n_held];
	switch (number) {
	case MSG_sandbox_start: {
		Bulkhead__SandboxStartReply a = BULKHEAD__SANDBOX_START_REPLY__INIT;
		started_fill(&a);
		sandbox_start_reply(r, &a, NULL, 0);
		break;
	}
	case MSG_task_create: {
		Bulkhead__TaskCreateReply a = BULKHEAD__TASK_CREATE_REPLY__INIT;
		task_create_reply(r, &a, NULL, 0);
		break;
	}
	default:
		done(r);
	}
}

const char *lab_run(struct lab *l, const char *name, struct fault *fault) {
	return lab_run_below(l, name, "", fault);
}

const char *lab_run_below(struct lab *l, const char *name, const char *cgroup_parent, struct fault *fault) {
	static char id[4][80];
	static unsigned slot;
	struct lab_call c;
	Runtime__V1__RunPodSandboxRequest q = RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__PodSandboxConfig config = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__PodSandboxMetadata metadata = RUNTIME__V1__POD_SANDBOX_METADATA__INIT;
	Runtime__V1__LinuxPodSandboxConfig linux = RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__PodSandboxConfig__LabelsEntry label = RUNTIME__V1__POD_SANDBOX_CONFIG__LABELS_ENTRY__INIT;
	Runtime__V1__PodSandboxConfig__LabelsEntry *labels[] = { &label };
	metadata.name = (char *)(uintptr_t)name;
	metadata.uid = (char *)"uid";
	metadata.namespace_ = (char *)"default";
	label.key = (char *)"app";
	label.value = (char *)(uintptr_t)name;
	config.n_labels = 1;
	config.labels = labels;
	config.metadata = &metadata;
	linux.cgroup_parent = (char *)(uintptr_t)cgroup_parent;
	config.linux = *cgroup_parent ? &linux : NULL;
	q.config = &config;
	lab_call(l, MSG_cri_run_pod_sandbox, &q.base, &c);
	char *to = id[slot++ % 4];
	snprintf(to, 80, "%s", c.fault.code ? "" : ((Runtime__V1__RunPodSandboxResponse *)c.reply)->pod_sandbox_id);
	if (fault)
		*fault = c.fault;
	lab_call_end(&c);
	return to;
}

const char *lab_create(struct lab *l, const char *sandbox, const char *name, struct fault *fault) {
	return lab_create_with(l, sandbox, name, NULL, 0, fault);
}

const char *lab_create_with(struct lab *l, const char *sandbox, const char *name, Runtime__V1__Mount **mounts,
			    size_t n_mounts, struct fault *fault) {
	static char id[4][80];
	static unsigned slot;
	struct lab_call c;
	Runtime__V1__CreateContainerRequest q = RUNTIME__V1__CREATE_CONTAINER_REQUEST__INIT;
	Runtime__V1__ContainerConfig config = RUNTIME__V1__CONTAINER_CONFIG__INIT;
	Runtime__V1__ContainerMetadata metadata = RUNTIME__V1__CONTAINER_METADATA__INIT;
	Runtime__V1__ImageSpec image = RUNTIME__V1__IMAGE_SPEC__INIT;
	metadata.name = (char *)(uintptr_t)name;
	config.metadata = &metadata;
	image.image = (char *)"busybox";
	config.image = &image;
	config.mounts = mounts;
	config.n_mounts = n_mounts;
	q.pod_sandbox_id = (char *)(uintptr_t)sandbox;
	q.config = &config;
	lab_call(l, MSG_cri_create_container, &q.base, &c);
	char *to = id[slot++ % 4];
	snprintf(to, 80, "%s", c.fault.code ? "" : ((Runtime__V1__CreateContainerResponse *)c.reply)->container_id);
	if (fault)
		*fault = c.fault;
	lab_call_end(&c);
	return to;
}

enum fault_code lab_key(struct lab *l, uint16_t number, const char *id) {
	struct lab_call c;
	/* All of these have the id as field 1. */
	Bulkhead__Key k = BULKHEAD__KEY__INIT;
	k.id = (char *)(uintptr_t)id;
	lab_call(l, number, &k.base, &c);
	if (c.fault.code)
		printf("# %s\n", c.fault.text);
	enum fault_code code = c.fault.code;
	lab_call_end(&c);
	return code;
}

enum fault_code lab_pull(struct lab *l, const char *name, struct fault *fault) {
	struct lab_call c;
	Runtime__V1__PullImageRequest q = RUNTIME__V1__PULL_IMAGE_REQUEST__INIT;
	Runtime__V1__ImageSpec image = RUNTIME__V1__IMAGE_SPEC__INIT;
	image.image = (char *)(uintptr_t)name;
	q.image = &image;
	lab_call(l, MSG_cri_pull_image, &q.base, &c);
	if (fault)
		*fault = c.fault;
	enum fault_code code = c.fault.code;
	lab_call_end(&c);
	return code;
}
