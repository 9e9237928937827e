/*
 * The metadata worker between fakes: the life of pods, containers and images,
 * what happens when a step fails, when a worker dies, when this one does.
 */
#include "base/clock.h"
#include "base/log.h"
#include "metadata_lab.h"
#include "tap.h"

#include <string.h>

static struct lab l;

/* --- answers ---------------------------------------------------------------- */

static struct lab_call last;

static Runtime__V1__ContainerStatus *status_of(const char *id) {
	Runtime__V1__ContainerStatusRequest q = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	q.container_id = (char *)(uintptr_t)id;
	q.verbose = true;
	lab_call_end(&last);
	lab_call(&l, MSG_cri_container_status, &q.base, &last);
	return last.fault.code ? NULL : ((Runtime__V1__ContainerStatusResponse *)last.reply)->status;
}

static Runtime__V1__PodSandboxStatus *pod_of(const char *id) {
	Runtime__V1__PodSandboxStatusRequest q = RUNTIME__V1__POD_SANDBOX_STATUS_REQUEST__INIT;
	q.pod_sandbox_id = (char *)(uintptr_t)id;
	lab_call_end(&last);
	lab_call(&l, MSG_cri_pod_sandbox_status, &q.base, &last);
	return last.fault.code ? NULL : ((Runtime__V1__PodSandboxStatusResponse *)last.reply)->status;
}

static size_t count_containers(Runtime__V1__ContainerFilter *filter) {
	Runtime__V1__ListContainersRequest q = RUNTIME__V1__LIST_CONTAINERS_REQUEST__INIT;
	q.filter = filter;
	lab_call_end(&last);
	lab_call(&l, MSG_cri_list_containers, &q.base, &last);
	return last.fault.code ? 999 : ((Runtime__V1__ListContainersResponse *)last.reply)->n_containers;
}

static size_t count_pods(Runtime__V1__PodSandboxFilter *filter) {
	Runtime__V1__ListPodSandboxRequest q = RUNTIME__V1__LIST_POD_SANDBOX_REQUEST__INIT;
	q.filter = filter;
	lab_call_end(&last);
	lab_call(&l, MSG_cri_list_pod_sandbox, &q.base, &last);
	return last.fault.code ? 999 : ((Runtime__V1__ListPodSandboxResponse *)last.reply)->n_items;
}

static Runtime__V1__Image *image_of(const char *name) {
	Runtime__V1__ImageStatusRequest q = RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT;
	Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
	spec.image = (char *)(uintptr_t)name;
	q.image = &spec;
	lab_call_end(&last);
	lab_call(&l, MSG_cri_image_status, &q.base, &last);
	return last.fault.code ? NULL : ((Runtime__V1__ImageStatusResponse *)last.reply)->image;
}

static enum fault_code remove_image(const char *name) {
	Runtime__V1__RemoveImageRequest q = RUNTIME__V1__REMOVE_IMAGE_REQUEST__INIT;
	Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
	spec.image = (char *)(uintptr_t)name;
	q.image = &spec;
	lab_call_end(&last);
	lab_call(&l, MSG_cri_remove_image, &q.base, &last);
	return last.fault.code;
}

static void fail(uint16_t number, enum fault_code code, int times) {
	l.row[number].fail = times;
	l.row[number].code = code;
}

/* From the disk, and nobody was told. */
static void set_gone(const char *layer) {
	for (size_t i = 0; i < l.layers.n; i++)
		if (strcmp(l.layers.name[i], layer) == 0)
			l.layers.name[i][0] = '?';
}

static void begin(void) {
	lab_init(&l);
	if (lab_pull(&l, "busybox", NULL) != FAULT_NONE)
		printf("# the pull failed\n");
	l.journal[0] = '\0';
}

static void end(void) {
	lab_call_end(&last);
	lab_deinit(&l);
}

#define SET(text, from) snprintf(text, sizeof(text), "%s", from)
#define RUNNING RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING
#define EXITED RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED
#define CREATED RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED

/* --- images ----------------------------------------------------------------- */

static void test_pull(void) {
	struct fault fault;
	lab_init(&l);
	tap_check(lab_pull(&l, "busybox", &fault) == FAULT_NONE, "an image is pulled");
	tap_check(l.layers.n == 3 && l.staged.n == 0 && l.row[MSG_layer_fetch].calls == 3, "its layers are unpacked");
	/* sha256 of "<diff 0> <diff 1>", reckoned with sha256sum. */
	tap_check(strcmp(l.layers.name[0], l.diff_ids[0]) == 0 &&
		      strcmp(l.layers.name[1],
			     "sha256:f94b891e05f6e37c90d87edfd5bb98a02d618a437c35f3a94b3b00e48e894631") == 0,
		  "the bottom layer comes first");
	Runtime__V1__Image *i = image_of("docker.io/library/busybox:latest");
	tap_check(i && strcmp(i->id, l.config_digest) == 0 && i->n_repo_tags == 1 && i->n_repo_digests == 1 &&
		      i->size == 3 * 1100,
		  "it is known by its full name");
	tap_check(image_of("busybox") && image_of(l.config_digest) && image_of("cccccccc") && !image_of("other"),
		  "and by its short one, its id, and the beginning of that");
	tap_check(last.fault.code == FAULT_NONE, "an image that isn't there is no error");
	tap_check(lab_pull(&l, "busybox", NULL) == FAULT_NONE && l.row[MSG_layer_fetch].calls == 3,
		  "pulled again, nothing is fetched");
	tap_check(lab_pull(&l, "host:5000/copy:v1", NULL) == FAULT_NONE && l.row[MSG_layer_fetch].calls == 3,
		  "another name for the same content");
	i = image_of("busybox");
	tap_check(i && i->n_repo_tags == 2 && i->n_repo_digests == 2, "both names belong to the one image");
	lab_restart(&l);
	i = image_of("host:5000/copy:v1");
	tap_check(i && i->n_repo_tags == 2 && l.layers.n == 3 && l.blobs.n == 4,
		  "and survive a restart with all their content");
	tap_check(remove_image("busybox") == FAULT_NONE && l.layers.n == 0 && l.blobs.n == 0,
		  "removed, the disk is free when the answer comes");
	tap_check(remove_image("busybox") == FAULT_NONE, "removed again is no error");
	tap_check(lab_pull(&l, "BAD NAME", &fault) == FAULT_INVALID_ARGUMENT, "a malformed name is refused");
	end();
}

static void test_pull_joins(void) {
	struct lab_call a, b;
	Runtime__V1__PullImageRequest q = RUNTIME__V1__PULL_IMAGE_REQUEST__INIT;
	Runtime__V1__ImageSpec image = RUNTIME__V1__IMAGE_SPEC__INIT;
	lab_init(&l);
	image.image = (char *)"busybox";
	q.image = &image;
	lab_send(&l, MSG_cri_pull_image, &q.base, &a);
	lab_send(&l, MSG_cri_pull_image, &q.base, &b);
	lab_wait(&l, &a);
	lab_wait(&l, &b);
	tap_check(!a.fault.code && !b.fault.code && l.row[MSG_image_resolve].calls == 1,
		  "two pulls of one image are one");
	lab_call_end(&a);
	lab_call_end(&b);
	end();

	lab_init(&l);
	lab_send(&l, MSG_cri_pull_image, &q.base, &a);
	image.image = (char *)"other";
	lab_send(&l, MSG_cri_pull_image, &q.base, &b);
	lab_wait(&l, &a);
	lab_wait(&l, &b);
	tap_check(!a.fault.code && !b.fault.code && l.row[MSG_layer_fetch].calls == 3,
		  "layers that two images share are fetched once");
	lab_call_end(&a);
	lab_call_end(&b);
	end();
}

static void test_pull_fails(void) {
	struct fault fault;
	lab_init(&l);
	fail(MSG_layer_fetch, FAULT_DATA_LOSS, 1);
	tap_check(lab_pull(&l, "busybox", &fault) == FAULT_DATA_LOSS &&
		      strstr(fault.text, "docker.io/library/busybox") && strstr(fault.text, "layer sha256:0"),
		  "a pull that fails says which image, which layer, why");
	lab_turns(&l, 20);
	tap_check(l.staged.n == 0, "and leaves nothing half unpacked");
	tap_check(lab_pull(&l, "busybox", &fault) == FAULT_NONE, "the next try works");
	end();
	lab_init(&l);
	fail(MSG_layer_unpack, FAULT_RESOURCE_EXHAUSTED, 1);
	l.row[MSG_layer_fetch].code = FAULT_ABORTED;
	l.row[MSG_layer_fetch].fail = 1;
	tap_check(lab_pull(&l, "busybox", &fault) == FAULT_RESOURCE_EXHAUSTED, "the one who failed first is heard");
	end();
}

static void test_pull_worker_dies(void) {
	struct lab_call a;
	Runtime__V1__PullImageRequest q = RUNTIME__V1__PULL_IMAGE_REQUEST__INIT;
	Runtime__V1__ImageSpec image = RUNTIME__V1__IMAGE_SPEC__INIT;
	lab_init(&l);
	image.image = (char *)"busybox";
	q.image = &image;
	l.row[MSG_layer_fetch].hold = true;
	lab_send(&l, MSG_cri_pull_image, &q.base, &a);
	lab_turns(&l, 20);
	lab_worker_down(&l, ROLE_IMAGE);
	l.row[MSG_layer_fetch].hold = false;
	lab_worker_up(&l, ROLE_IMAGE);
	lab_wait(&l, &a);
	tap_check(!a.fault.code && l.layers.n == 3, "a pull goes on when the image worker is replaced: %s",
		  a.fault.text);
	lab_call_end(&a);
	end();
}

/* --- the ordinary cycle ----------------------------------------------------- */

static void test_cycle(void) {
	char pod[80], web[80];
	struct fault fault;
	begin();
	SET(pod, lab_run(&l, "p", &fault));
	tap_check(*pod, "a pod runs: %s", fault.text);
	Runtime__V1__PodSandboxStatus *p = pod_of(pod);
	tap_check(p && p->state == 0 && strcmp(p->network->ip, "10.0.0.2") == 0 && p->network->n_additional_ips == 1,
		  "it is ready and has its addresses");
	tap_check(strcmp(lab_run(&l, "p", NULL), pod) == 0 && l.row[MSG_sandbox_start].calls == 1,
		  "the same request again gives the same pod");
	SET(web, lab_create(&l, pod, "web", &fault));
	tap_check(*web, "a container is created: %s", fault.text);
	tap_check(strcmp(lab_create(&l, pod, "web", NULL), web) == 0 && l.snapshots.n == 1,
		  "again: the same container");
	Runtime__V1__ContainerStatus *s = status_of(web);
	tap_check(s && s->state == CREATED && s->created_at && strcmp(s->image_id, l.config_digest) == 0,
		  "it is created");
	tap_check(lab_key(&l, MSG_cri_start_container, web) == FAULT_NONE, "it starts");
	s = status_of(web);
	tap_check(s && s->state == RUNNING && s->started_at && s->user->linux->uid == 5, "it runs");
	tap_check(strstr(((Runtime__V1__ContainerStatusResponse *)last.reply)->info[0]->value, "oom score clamped") !=
		      NULL,
		  "warnings are in the verbose status");
	tap_check(lab_key(&l, MSG_cri_start_container, web) == FAULT_NONE && l.row[MSG_task_create].calls == 1,
		  "started again is no error");
	tap_check(lab_key(&l, MSG_cri_stop_container, web) == FAULT_NONE, "it stops");
	s = status_of(web);
	tap_check(s && s->state == EXITED && s->exit_code == 143 && strcmp(s->reason, "Error") == 0 && s->finished_at,
		  "it has ended");
	tap_check(lab_key(&l, MSG_cri_stop_container, web) == FAULT_NONE && l.row[MSG_task_stop].calls == 1,
		  "stopped again is no error");
	tap_check(lab_key(&l, MSG_cri_remove_container, web) == FAULT_NONE && count_containers(NULL) == 0,
		  "it is removed");
	lab_turns(&l, 10);
	tap_check(l.snapshots.n == 0 && l.n_tasks == 0, "with its snapshot and its task");
	tap_check(lab_key(&l, MSG_cri_stop_pod_sandbox, pod) == FAULT_NONE && pod_of(pod)->state == 1, "the pod stops");
	tap_check(lab_key(&l, MSG_cri_remove_pod_sandbox, pod) == FAULT_NONE && count_pods(NULL) == 0,
		  "and is removed");
	tap_check(l.sandboxes.n == 0, "nothing of it is left");
	tap_check(*lab_run(&l, "p", NULL) && l.row[MSG_sandbox_start].calls == 2, "its name is free again");
	end();
}

static void test_missing(void) {
	begin();
	tap_check(lab_key(&l, MSG_cri_stop_container, "nope") == FAULT_NONE, "StopContainer of none is success");
	tap_check(lab_key(&l, MSG_cri_remove_container, "nope") == FAULT_NONE, "RemoveContainer of none is success");
	tap_check(lab_key(&l, MSG_cri_stop_pod_sandbox, "nope") == FAULT_NONE, "StopPodSandbox of none is success");
	tap_check(lab_key(&l, MSG_cri_remove_pod_sandbox, "nope") == FAULT_NONE, "RemovePodSandbox of none is success");
	tap_check(lab_key(&l, MSG_cri_start_container, "nope") == FAULT_NOT_FOUND, "StartContainer of none isn't");
	tap_check(!status_of("nope") && last.fault.code == FAULT_NOT_FOUND, "ContainerStatus of none is NOT_FOUND");
	tap_check(!pod_of("nope") && last.fault.code == FAULT_NOT_FOUND, "PodSandboxStatus too");
	tap_check(!status_of("") && last.fault.code == FAULT_INVALID_ARGUMENT, "no id at all is INVALID_ARGUMENT");
	struct fault fault;
	lab_create(&l, "nope", "c", &fault);
	tap_check(fault.code == FAULT_NOT_FOUND, "CreateContainer in no pod");
	remove_image("busybox");
	lab_create(&l, lab_run(&l, "p", NULL), "c", &fault);
	tap_check(fault.code == FAULT_NOT_FOUND && strstr(fault.text, "image \"busybox\"") &&
		      count_containers(NULL) == 0,
		  "CreateContainer of an image that isn't there");
	end();
}

static void test_lists(void) {
	char a[80], b[80], c[80], d[80];
	begin();
	SET(a, lab_run(&l, "a", NULL));
	SET(b, lab_run(&l, "b", NULL));
	SET(c, lab_create(&l, a, "c", NULL));
	SET(d, lab_create(&l, b, "d", NULL));
	lab_key(&l, MSG_cri_start_container, d);
	lab_key(&l, MSG_cri_stop_pod_sandbox, b);

	Runtime__V1__PodSandboxFilter pf = RUNTIME__V1__POD_SANDBOX_FILTER__INIT;
	Runtime__V1__PodSandboxStateValue ready = RUNTIME__V1__POD_SANDBOX_STATE_VALUE__INIT;
	Runtime__V1__PodSandboxFilter__LabelSelectorEntry label =
	    RUNTIME__V1__POD_SANDBOX_FILTER__LABEL_SELECTOR_ENTRY__INIT;
	Runtime__V1__PodSandboxFilter__LabelSelectorEntry *labels[] = { &label };
	tap_check(count_pods(NULL) == 2 && count_pods(&pf) == 2, "all pods");
	pf.state = &ready;
	tap_check(count_pods(&pf) == 1, "by state");
	pf.state = NULL;
	label.key = (char *)"app";
	label.value = (char *)"b";
	pf.label_selector = labels;
	pf.n_label_selector = 1;
	tap_check(count_pods(&pf) == 1, "by label");
	pf.n_label_selector = 0;
	char begin_of[8] = { 0 };
	memcpy(begin_of, a, 7);
	pf.id = begin_of;
	tap_check(count_pods(&pf) == 1 && pod_of(begin_of), "by the beginning of an id");

	Runtime__V1__ContainerFilter cf = RUNTIME__V1__CONTAINER_FILTER__INIT;
	Runtime__V1__ContainerStateValue exited = RUNTIME__V1__CONTAINER_STATE_VALUE__INIT;
	exited.state = EXITED;
	cf.state = &exited;
	tap_check(count_containers(NULL) == 2 && count_containers(&cf) == 1, "containers by state");
	cf.state = NULL;
	cf.pod_sandbox_id = a;
	tap_check(count_containers(&cf) == 1, "by pod");
	cf.pod_sandbox_id = b;
	cf.id = c;
	tap_check(count_containers(&cf) == 0, "by all at once");
	end();
}

static void test_exits(void) {
	char pod[80], a[80], b[80];
	begin();
	SET(pod, lab_run(&l, "p", NULL));
	SET(a, lab_create(&l, pod, "a", NULL));
	SET(b, lab_create(&l, pod, "b", NULL));
	lab_key(&l, MSG_cri_start_container, a);
	lab_key(&l, MSG_cri_start_container, b);
	lab_exit(&l, a, 0, false, false);
	lab_exit(&l, b, 137, true, false);
	lab_turns(&l, 10);
	Runtime__V1__ContainerStatus *s = status_of(a);
	tap_check(s->state == EXITED && s->exit_code == 0 && strcmp(s->reason, "Completed") == 0 &&
		      s->finished_at == 12345,
		  "an exit is known at once");
	s = status_of(b);
	tap_check(s->exit_code == 137 && strcmp(s->reason, "OOMKilled") == 0, "an OOM kill is called so");
	uint64_t n = l.m.events.last;
	const struct event *e = events_get(&l.m.events, n);
	tap_check(e && e->type == EVENT_STOPPED && strcmp(e->container_id, b) == 0 &&
		      events_get(&l.m.events, n - 1)->type == EVENT_OOM && !events_get(&l.m.events, n + 1),
		  "events tell it in order");
	lab_restart(&l);
	s = status_of(b);
	tap_check(s && s->exit_code == 137 && strcmp(s->reason, "OOMKilled") == 0, "after a restart too");
	tap_check(lab_key(&l, MSG_cri_remove_pod_sandbox, pod) == FAULT_NONE && count_containers(NULL) == 0,
		  "removing the pod removes its containers");
	lab_turns(&l, 10);
	tap_check(l.snapshots.n == 0 && l.n_tasks == 0, "with all they had");
	end();
}

static void test_exec(void) {
	struct lab_call c;
	char pod[80], a[80];
	begin();
	SET(pod, lab_run(&l, "p", NULL));
	SET(a, lab_create(&l, pod, "a", NULL));
	Runtime__V1__ExecSyncRequest q = RUNTIME__V1__EXEC_SYNC_REQUEST__INIT;
	char *cmd[] = { "hello" };
	q.container_id = a;
	q.n_cmd = 1;
	q.cmd = cmd;
	lab_call(&l, MSG_cri_exec_sync, &q.base, &c);
	tap_check(c.fault.code == FAULT_FAILED_PRECONDITION, "no exec before the start");
	lab_call_end(&c);
	lab_key(&l, MSG_cri_start_container, a);
	lab_call(&l, MSG_cri_exec_sync, &q.base, &c);
	Runtime__V1__ExecSyncResponse *e = (Runtime__V1__ExecSyncResponse *)c.reply;
	tap_check(e && e->exit_code == 3 && e->stdout.len == 5, "exec passes through");
	lab_call_end(&c);
	fail(MSG_exec_sync, FAULT_DEADLINE_EXCEEDED, 1);
	lab_call(&l, MSG_cri_exec_sync, &q.base, &c);
	tap_check(c.fault.code == FAULT_DEADLINE_EXCEEDED, "its time-out keeps its code");
	lab_call_end(&c);
	Runtime__V1__ListContainerStatsRequest sq = RUNTIME__V1__LIST_CONTAINER_STATS_REQUEST__INIT;
	lab_call(&l, MSG_cri_list_container_stats, &sq.base, &c);
	Runtime__V1__ListContainerStatsResponse *st = (Runtime__V1__ListContainerStatsResponse *)c.reply;
	tap_check(st && st->n_stats == 1 && st->stats[0]->memory->working_set_bytes->value == 2000 &&
		      st->stats[0]->writable_layer->used_bytes->value == 4096,
		  "stats of task and snapshot together");
	lab_call_end(&c);
	Runtime__V1__StatusRequest stq = RUNTIME__V1__STATUS_REQUEST__INIT;
	lab_call(&l, MSG_cri_status, &stq.base, &c);
	Runtime__V1__StatusResponse *status = (Runtime__V1__StatusResponse *)c.reply;
	tap_check(status && status->status->n_conditions == 2 && status->status->conditions[0]->status &&
		      status->status->conditions[1]->status,
		  "the runtime and its network are ready");
	lab_call_end(&c);
	lab_worker_down(&l, ROLE_SNAPSHOT);
	lab_call(&l, MSG_cri_status, &stq.base, &c);
	status = (Runtime__V1__StatusResponse *)c.reply;
	tap_check(status && !status->status->conditions[0]->status &&
		      strstr(status->status->conditions[0]->message, "snapshot worker"),
		  "not while a worker is away");
	lab_call_end(&c);
	lab_worker_up(&l, ROLE_SNAPSHOT);
	end();
}

/* --- volumes from images ----------------------------------------------------- */

/* An image of one layer beside busybox. */
static const char *const data_layer = "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";
static const char *const data_id = "sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";

static struct {
	Runtime__V1__ImageSpec image;
	Runtime__V1__Mount host, data, part, *list[3];
} v;

static void volumes_begin(void) {
	begin();
	l.config_digest = data_id;
	l.diff_ids[0] = data_layer;
	l.n_layers = 1;
	lab_pull(&l, "data", NULL);
	v.image = (Runtime__V1__ImageSpec)RUNTIME__V1__IMAGE_SPEC__INIT;
	v.image.image = (char *)"data";
	v.host = v.data = (Runtime__V1__Mount)RUNTIME__V1__MOUNT__INIT;
	v.host.container_path = v.host.host_path = (char *)"/srv";
	v.data.image = &v.image;
	v.data.readonly = true;
	v.part = v.data;
	v.data.container_path = (char *)"/data";
	v.part.container_path = (char *)"/part";
	v.part.image_sub_path = (char *)"some/part";
	v.list[0] = &v.data;
	v.list[1] = &v.host;
	v.list[2] = &v.part;
}

static const char *volumes_create(const char *pod, const char *name, struct fault *fault) {
	return lab_create_with(&l, pod, name, v.list, 3, fault);
}

static void test_volumes(void) {
	char pod[80], a[80];
	struct fault fault;
	volumes_begin();
	SET(pod, lab_run(&l, "p", NULL));
	SET(a, volumes_create(pod, "a", &fault));
	tap_check(*a && l.row[MSG_snapshot_mount].calls == 2 && strcmp(l.sub_path, "some/part") == 0,
		  "each volume is looked at when the container is created: %s", fault.text);
	Runtime__V1__ContainerStatus *s = status_of(a);
	tap_check(s && s->n_mounts == 3 && strcmp(s->mounts[0]->image->image_ref, data_id) == 0 &&
		      strcmp(s->mounts[0]->image->image, "data") == 0 && !s->mounts[1]->image &&
		      strcmp(s->mounts[2]->image->image_ref, data_id) == 0 &&
		      strcmp(s->mounts[2]->image_sub_path, "some/part") == 0,
		  "its status tells the digests");
	remove_image("data");
	tap_check(!image_of("data") && lab_has(&l.layers, data_layer), "the layers outlive their image");
	lab_restart(&l);
	lab_turns(&l, 10);
	tap_check(lab_has(&l.layers, data_layer), "and a restart");
	tap_check(lab_key(&l, MSG_cri_start_container, a) == FAULT_NONE && lab_task(&l, a)->n_mounts == 3,
		  "it starts with its root and two volumes");
	s = status_of(a);
	tap_check(s && s->state == RUNNING && strcmp(s->mounts[0]->image->image_ref, data_id) == 0,
		  "its status still tells them");
	volumes_create(pod, "b", &fault);
	tap_check(fault.code == FAULT_NOT_FOUND && strstr(fault.text, "image \"data\"") &&
		      strstr(fault.text, "\"/data\""),
		  "a new one finds no such image: %s", fault.text);
	lab_key(&l, MSG_cri_stop_container, a);
	lab_key(&l, MSG_cri_remove_container, a);
	for (int i = 0; i < 200 && lab_has(&l.layers, data_layer); i++)
		lab_turns(&l, 10);
	tap_check(!lab_has(&l.layers, data_layer), "the layers go with the container");
	end();
}

/* The task worker dies with the mounts in its hands: they are made once more. */
static void volumes_start_again(const char *id) {
	struct lab_call c;
	Runtime__V1__StartContainerRequest q = RUNTIME__V1__START_CONTAINER_REQUEST__INIT;
	q.container_id = (char *)(uintptr_t)id;
	l.row[MSG_task_create].hold = true;
	lab_send(&l, MSG_cri_start_container, &q.base, &c);
	lab_turns(&l, 10);
	int mounts = l.row[MSG_snapshot_mount].calls;
	lab_worker_down(&l, ROLE_TASK);
	l.row[MSG_task_create].hold = false;
	l.n_tasks = 0;
	lab_worker_up(&l, ROLE_TASK);
	lab_wait(&l, &c);
	tap_check(!c.fault.code && l.row[MSG_snapshot_mount].calls == mounts + 3 && lab_task(&l, id)->n_mounts == 3,
		  "a start that died with the task worker makes all mounts anew: %s", c.fault.text);
	lab_call_end(&c);
}

/* What stands in a volume's way, at its container's creation and at its start. */
static void test_volumes_fail(void) {
	char pod[80], a[80];
	struct fault fault;
	volumes_begin();
	SET(pod, lab_run(&l, "p", NULL));
	fail(MSG_snapshot_mount, FAULT_INVALID_ARGUMENT, 1);
	volumes_create(pod, "a", &fault);
	tap_check(fault.code == FAULT_INVALID_ARGUMENT &&
		      strstr(fault.text, "ImageVolumeMountFailed: mount \"/data\": image \"data\": the fake refuses"),
		  "a volume that can't be made refuses the container: %s", fault.text);
	lab_turns(&l, 10);
	tap_check(count_containers(NULL) == 0 && l.snapshots.n == 0, "and leaves nothing");
	v.data.readonly = false;
	volumes_create(pod, "a", &fault);
	tap_check(fault.code == FAULT_INVALID_ARGUMENT && strstr(fault.text, "readonly"), "it must be read-only");
	v.data.readonly = true;
	v.data.host_path = (char *)"/both";
	volumes_create(pod, "a", &fault);
	tap_check(fault.code == FAULT_INVALID_ARGUMENT && strstr(fault.text, "host path"),
		  "it is a folder or an image");
	v.data.host_path = (char *)"";
	SET(a, volumes_create(pod, "a", &fault));
	volumes_start_again(a);
	lab_key(&l, MSG_cri_remove_container, a);
	SET(a, volumes_create(pod, "a", &fault));
	set_gone(data_layer);
	tap_check(lab_key(&l, MSG_cri_start_container, a) == FAULT_FAILED_PRECONDITION &&
		      strstr(status_of(a)->message, "mount \"/data\"") && status_of(a)->state == EXITED,
		  "a layer that is lost ends the container with a sentence");
	end();
}

/* --- failures --------------------------------------------------------------- */

static void test_step_fails(void) {
	struct fault fault;
	char pod[80], a[80];
	begin();
	fail(MSG_sandbox_start, FAULT_INTERNAL, 1);
	tap_check(!*lab_run(&l, "p", &fault) && strstr(fault.text, "run pod sandbox \"p\": start: "),
		  "a pod that can't start says so: %s", fault.text);
	lab_turns(&l, 10);
	tap_check(l.sandboxes.n == 0 && count_pods(NULL) == 0, "and is taken back");
	SET(pod, lab_run(&l, "p", &fault));
	tap_check(*pod, "its name is free");
	fail(MSG_snapshot_prepare, FAULT_RESOURCE_EXHAUSTED, 1);
	tap_check(!*lab_create(&l, pod, "a", &fault) && fault.code == FAULT_RESOURCE_EXHAUSTED,
		  "a full disk at create");
	tap_check(count_containers(NULL) == 0, "leaves no container");
	SET(a, lab_create(&l, pod, "a", &fault));
	fail(MSG_task_create, FAULT_NOT_FOUND, 1);
	tap_check(lab_key(&l, MSG_cri_start_container, a) == FAULT_FAILED_PRECONDITION,
		  "a start that misses something doesn't say that the container is missing");
	Runtime__V1__ContainerStatus *s = status_of(a);
	tap_check(s && s->state == EXITED && s->exit_code == 128 && strcmp(s->reason, "StartError") == 0 &&
		      strstr(s->message, "the fake refuses"),
		  "and is the container's end");
	tap_check(lab_key(&l, MSG_cri_start_container, a) == FAULT_FAILED_PRECONDITION, "which is final");
	tap_check(lab_key(&l, MSG_cri_remove_container, a) == FAULT_NONE, "it can be removed");
	fail(MSG_sandbox_stop, FAULT_INTERNAL, 1);
	tap_check(lab_key(&l, MSG_cri_stop_pod_sandbox, pod) == FAULT_INTERNAL && pod_of(pod)->state == 0,
		  "a pod that can't be stopped stays");
	tap_check(lab_key(&l, MSG_cri_stop_pod_sandbox, pod) == FAULT_NONE, "until it can");
	end();
}

static void test_retries(void) {
	struct lab_call c;
	char pod[80], a[80];
	Runtime__V1__RunPodSandboxRequest q = RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__PodSandboxConfig config = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__PodSandboxMetadata metadata = RUNTIME__V1__POD_SANDBOX_METADATA__INIT;
	begin();
	metadata.name = (char *)"p";
	config.metadata = &metadata;
	q.config = &config;
	l.row[MSG_sandbox_start].hold = true;
	lab_send(&l, MSG_cri_run_pod_sandbox, &q.base, &c);
	lab_turns(&l, 10);
	tap_check(count_pods(NULL) == 0, "a pod that starts isn't listed yet");
	lab_worker_down(&l, ROLE_TASK);
	l.row[MSG_sandbox_start].hold = false;
	lab_worker_up(&l, ROLE_TASK);
	lab_wait(&l, &c);
	tap_check(!c.fault.code && l.row[MSG_sandbox_start].calls == 1 && l.sandboxes.n == 1,
		  "it is taken over when the task worker dies: %s", c.fault.text);
	SET(pod, c.fault.code ? "" : ((Runtime__V1__RunPodSandboxResponse *)c.reply)->pod_sandbox_id);
	lab_call_end(&c);

	SET(a, lab_create(&l, pod, "a", NULL));
	Runtime__V1__StartContainerRequest sq = RUNTIME__V1__START_CONTAINER_REQUEST__INIT;
	sq.container_id = a;
	l.row[MSG_task_create].hold = true;
	lab_send(&l, MSG_cri_start_container, &sq.base, &c);
	lab_turns(&l, 10);
	lab_worker_down(&l, ROLE_TASK);
	l.row[MSG_task_create].hold = false;
	lab_worker_up(&l, ROLE_TASK);
	lab_wait(&l, &c);
	tap_check(!c.fault.code && l.n_tasks == 1 && l.row[MSG_task_create].calls == 1 &&
		      status_of(a)->state == RUNNING,
		  "and so is a container that runs: %s", c.fault.text);
	lab_call_end(&c);

	/* One that didn't get so far, and whose end is told late. */
	SET(a, lab_create(&l, pod, "half", NULL));
	l.row[MSG_task_create].hold = true;
	lab_send(&l, MSG_cri_start_container, &sq.base, &c);
	lab_turns(&l, 10);
	lab_worker_down(&l, ROLE_TASK);
	l.row[MSG_task_create].hold = false;
	l.exit_on_delete = true;
	if (lab_task(&l, a))
		lab_task(&l, a)->state = BULKHEAD__TASK_STATE__TASK_CREATED;
	lab_worker_up(&l, ROLE_TASK);
	lab_wait(&l, &c);
	l.exit_on_delete = false;
	tap_check(!c.fault.code && l.n_tasks == 2 && l.row[MSG_task_delete].calls == 1 &&
		      status_of(a)->state == RUNNING,
		  "one that doesn't is made anew: %s", c.fault.text);
	lab_call_end(&c);

	/* One that kills whoever makes it. */
	SET(a, lab_create(&l, pod, "deadly", NULL));
	l.create_lost = true;
	int calls = l.row[MSG_task_create].calls;
	fail(MSG_task_create, FAULT_UNAVAILABLE, 50);
	tap_check(lab_key(&l, MSG_cri_start_container, a) == FAULT_UNAVAILABLE &&
		      l.row[MSG_task_create].calls == calls + 3 && status_of(a)->state == EXITED,
		  "a start isn't tried for ever");
	fail(MSG_task_create, FAULT_NONE, 0);
	l.create_lost = false;

	/* An exit that overtakes the answer of its start. */
	SET(a, lab_create(&l, pod, "b", NULL));
	l.row[MSG_task_create].hold = true;
	sq.container_id = a;
	lab_send(&l, MSG_cri_start_container, &sq.base, &c);
	lab_turns(&l, 10);
	lab_exit(&l, a, 4, false, false);
	lab_turns(&l, 5);
	lab_release(&l, MSG_task_create);
	lab_wait(&l, &c);
	Runtime__V1__ContainerStatus *s = status_of(a);
	tap_check(!c.fault.code && s->state == EXITED && s->exit_code == 4 && s->started_at,
		  "an exit may overtake the answer of the start");
	lab_call_end(&c);
	end();
}

/* --- restarts --------------------------------------------------------------- */

static void test_restart(void) {
	char pod[80], a[80], b[80], c[80], gone[80];
	begin();
	SET(pod, lab_run(&l, "p", NULL));
	SET(gone, lab_run(&l, "gone", NULL));
	SET(a, lab_create(&l, pod, "a", NULL));
	SET(b, lab_create(&l, pod, "b", NULL));
	SET(c, lab_create(&l, gone, "c", NULL));
	lab_key(&l, MSG_cri_start_container, a);
	lab_key(&l, MSG_cri_start_container, b);
	lab_key(&l, MSG_cri_start_container, c);
	/* What happens while nobody looks. */
	lab_exit(&l, b, 9, false, true);
	l.sandboxes.n = 0;
	snprintf(l.sandboxes.name[l.sandboxes.n++], 80, "%s", pod);
	snprintf(l.sandboxes.name[l.sandboxes.n++], 80, "stranger");
	snprintf(l.snapshots.name[l.snapshots.n++], 80, "orphan");
	snprintf(l.layers.name[l.layers.n++], 80, "sha256:orphan");
	lab_restart(&l);
	tap_check(pod_of(pod)->state == 0 && status_of(a)->state == RUNNING, "what runs is found running");
	Runtime__V1__ContainerStatus *s = status_of(b);
	tap_check(s->state == EXITED && s->exit_code == 9, "an exit that nobody heard of is taken over");
	tap_check(pod_of(gone)->state == 1, "a pod that is gone isn't ready");
	s = status_of(c);
	tap_check(s->state == EXITED && s->exit_code == 255 && strcmp(s->reason, "Unknown") == 0,
		  "nor do its containers run");
	lab_turns(&l, 10);
	tap_check(l.sandboxes.n == 1, "a pod without a record is stopped");
	tap_check(!lab_has(&l.snapshots, "orphan") && !lab_has(&l.layers, "sha256:orphan") && l.snapshots.n == 3 &&
		      l.layers.n == 3,
		  "snapshots and layers without a record are removed, others stay");
	lab_key(&l, MSG_cri_remove_pod_sandbox, pod);
	lab_key(&l, MSG_cri_remove_pod_sandbox, gone);
	lab_turns(&l, 10);
	tap_check(l.snapshots.n == 0 && l.sandboxes.n == 0 && l.n_tasks <= 1, "all of it can be removed");
	end();
}

/* The worker dies with a start under way: the record says STARTING. */
static void test_restart_in_run(bool finished) {
	struct lab_call c;
	Runtime__V1__RunPodSandboxRequest q = RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__PodSandboxConfig config = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__PodSandboxMetadata metadata = RUNTIME__V1__POD_SANDBOX_METADATA__INIT;
	begin();
	metadata.name = (char *)"p";
	config.metadata = &metadata;
	q.config = &config;
	l.row[MSG_sandbox_start].hold = true;
	lab_send(&l, MSG_cri_run_pod_sandbox, &q.base, &c);
	lab_turns(&l, 10);
	l.row[MSG_sandbox_start].hold = false;
	if (!finished)
		l.sandboxes.n = 0;
	lab_restart(&l);
	/* The call is one that is sent again. */
	lab_wait(&l, &c);
	tap_check(!c.fault.code && l.sandboxes.n == 1 && l.row[MSG_sandbox_start].calls == (finished ? 1 : 2) &&
		      count_pods(NULL) == 1,
		  "%s: %s",
		  finished ? "a start that had worked is finished" : "one that hadn't is undone and made anew",
		  c.fault.text);
	lab_call_end(&c);
	end();
}

static void test_boot(void) {
	char pod[80], a[80];
	begin();
	SET(pod, lab_run(&l, "p", NULL));
	SET(a, lab_create(&l, pod, "a", NULL));
	lab_key(&l, MSG_cri_start_container, a);
	snprintf(l.m.boot_id, sizeof(l.m.boot_id), "boot-0");
	l.sandboxes.n = l.n_tasks = 0;
	lab_restart(&l);
	tap_check(pod_of(pod)->state == 1 && status_of(a)->state == EXITED && status_of(a)->exit_code == 255,
		  "after a boot nothing runs, and everything is still listed");
	tap_check(lab_key(&l, MSG_cri_remove_pod_sandbox, pod) == FAULT_NONE && count_pods(NULL) == 0,
		  "until it is removed");
	end();
}

static void test_concurrent(void) {
	char pod[80], a[80];
	struct lab_call start, stop, remove, again;
	begin();
	SET(pod, lab_run(&l, "p", NULL));
	SET(a, lab_create(&l, pod, "a", NULL));
	Bulkhead__Key ka = BULKHEAD__KEY__INIT, kp = ka;
	ka.id = a;
	kp.id = pod;
	l.row[MSG_task_create].hold = true;
	lab_send(&l, MSG_cri_start_container, &ka.base, &start);
	lab_send(&l, MSG_cri_stop_container, &ka.base, &stop);
	lab_send(&l, MSG_cri_remove_pod_sandbox, &kp.base, &remove);
	lab_send(&l, MSG_cri_remove_pod_sandbox, &kp.base, &again);
	lab_turns(&l, 10);
	tap_check(!start.done && !stop.done && !remove.done, "changes of one object wait for each other");
	lab_release(&l, MSG_task_create);
	lab_wait(&l, &start);
	lab_wait(&l, &stop);
	lab_wait(&l, &remove);
	lab_wait(&l, &again);
	tap_check(!start.fault.code && !stop.fault.code && !remove.fault.code && !again.fault.code &&
		      count_pods(NULL) == 0 && count_containers(NULL) == 0,
		  "and all come to their end");
	lab_turns(&l, 10);
	tap_check(l.snapshots.n == 0 && l.sandboxes.n == 0, "with nothing left");
	lab_call_end(&start);
	lab_call_end(&stop);
	lab_call_end(&remove);
	lab_call_end(&again);
	end();
}

int main(void) {
	log_init("test", getenv("V") ? LOG_DEBUG : LOG_ERROR + 1);
	test_pull();
	test_pull_joins();
	test_pull_fails();
	test_pull_worker_dies();
	test_cycle();
	test_missing();
	test_lists();
	test_exits();
	test_exec();
	test_volumes();
	test_volumes_fail();
	test_step_fails();
	test_retries();
	test_restart();
	test_restart_in_run(true);
	test_restart_in_run(false);
	test_boot();
	test_concurrent();
	return tap_done();
}
