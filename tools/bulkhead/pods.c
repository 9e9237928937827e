/* pods, ps, stop, rm, inspect, stats: what is there and how it ends. */
#include "tools/bulkhead/cli.h"

#include "base/clock.h"
#include "tools/client/json.h"

#include <string.h>

static Runtime__V1__ListContainersResponse *containers(struct cli *c) {
	Runtime__V1__ListContainersRequest r = RUNTIME__V1__LIST_CONTAINERS_REQUEST__INIT;
	return (Runtime__V1__ListContainersResponse *)cli_call(
	    c, RUNTIME "ListContainers", &r.base, &runtime__v1__list_containers_response__descriptor, 30 * NS_PER_SEC);
}

static Runtime__V1__ListPodSandboxResponse *sandboxes(struct cli *c) {
	Runtime__V1__ListPodSandboxRequest r = RUNTIME__V1__LIST_POD_SANDBOX_REQUEST__INIT;
	return (Runtime__V1__ListPodSandboxResponse *)cli_call(
	    c, RUNTIME "ListPodSandbox", &r.base, &runtime__v1__list_pod_sandbox_response__descriptor, 30 * NS_PER_SEC);
}

int command_pods(struct cli *c, int argc, char **argv) {
	CLEANUP_REPLY ProtobufCMessage *m = (ProtobufCMessage *)sandboxes(c);
	if (!m)
		return 1;
	const Runtime__V1__ListPodSandboxResponse *list = (Runtime__V1__ListPodSandboxResponse *)m;
	printf("%-14s %-9s %-24s %-16s %s\n", "POD ID", "STATE", "NAME", "NAMESPACE", "CREATED");
	for (size_t i = 0; i < list->n_items; i++) {
		const Runtime__V1__PodSandbox *p = list->items[i];
		char id[32], age[32];
		printf("%-14s %-9s %-24s %-16s %s\n", text_id(p->id, id),
		       p->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY ? "Ready" : "NotReady",
		       p->metadata->name, p->metadata->namespace_, text_age(p->created_at, age));
	}
	return 0;
}

static const char *state_name(Runtime__V1__ContainerState state) {
	switch (state) {
	case RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED:
		return "Created";
	case RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING:
		return "Running";
	case RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED:
		return "Exited";
	default:
		return "Unknown";
	}
}

int command_ps(struct cli *c, int argc, char **argv) {
	bool all = argc > 1 && strcmp(argv[1], "-a") == 0;
	CLEANUP_REPLY ProtobufCMessage *m = (ProtobufCMessage *)containers(c);
	if (!m)
		return 1;
	const Runtime__V1__ListContainersResponse *list = (Runtime__V1__ListContainersResponse *)m;
	printf("%-14s %-8s %-20s %-14s %-36s %s\n", "CONTAINER", "STATE", "NAME", "POD ID", "IMAGE", "CREATED");
	for (size_t i = 0; i < list->n_containers; i++) {
		const Runtime__V1__Container *k = list->containers[i];
		char id[32], pod[32], age[32];
		if (!all && k->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
			continue;
		printf("%-14s %-8s %-20s %-14s %-36s %s\n", text_id(k->id, id), state_name(k->state), k->metadata->name,
		       text_id(k->pod_sandbox_id, pod), k->image ? k->image->image : "", text_age(k->created_at, age));
	}
	return 0;
}

/* What a name or the beginning of an id stands for. */
struct found {
	char id[128];
	bool is_pod;
};

static int note(struct found *f, const char *id, bool is_pod, const char *name, const char *own_name) {
	if (strncmp(id, name, strlen(name)) != 0 && strcmp(name, own_name) != 0)
		return 0;
	snprintf(f->id, sizeof(f->id), "%s", id);
	f->is_pod = is_pod;
	return 1;
}

/* How many things it stands for, the last of them in ret_found; negative when
 * the daemon doesn't say. */
static int search(struct cli *c, const char *name, bool pods_too, struct found *ret_found) {
	CLEANUP_REPLY ProtobufCMessage *m = (ProtobufCMessage *)containers(c);
	CLEANUP_REPLY ProtobufCMessage *p = m && pods_too ? (ProtobufCMessage *)sandboxes(c) : NULL;
	if (!m || (pods_too && !p))
		return -1;
	int n = 0;
	const Runtime__V1__ListContainersResponse *list = (Runtime__V1__ListContainersResponse *)m;
	for (size_t i = 0; i < list->n_containers; i++)
		n += note(ret_found, list->containers[i]->id, false, name, list->containers[i]->metadata->name);
	const Runtime__V1__ListPodSandboxResponse *pods = (Runtime__V1__ListPodSandboxResponse *)p;
	for (size_t i = 0; n == 0 && pods && i < pods->n_items; i++)
		n += note(ret_found, pods->items[i]->id, true, name, pods->items[i]->metadata->name);
	return n;
}

static int find(struct cli *c, const char *command, const char *name, bool pods_too, struct found *ret_found) {
	int n = search(c, name, pods_too, ret_found);
	if (n < 0)
		return 1;
	if (n == 0)
		return cli_fail(command, "there is no container%s \"%s\", see bulkhead ps -a",
				pods_too ? " or pod" : "", name);
	if (n > 1)
		return cli_fail(command, "\"%s\" could be any of %d, give more of the id", name, n);
	return 0;
}

int container_find(struct cli *c, const char *command, const char *name, char ret_id[128]) {
	struct found f;
	int r = find(c, command, name, false, &f);
	if (r == 0)
		memcpy(ret_id, f.id, sizeof(f.id));
	return r;
}

static int stop_one(struct cli *c, const struct found *f, int seconds) {
	if (f->is_pod) {
		Runtime__V1__StopPodSandboxRequest r = RUNTIME__V1__STOP_POD_SANDBOX_REQUEST__INIT;
		r.pod_sandbox_id = (char *)f->id;
		CLEANUP_REPLY ProtobufCMessage *m = cli_call(c, RUNTIME "StopPodSandbox", &r.base,
							     &runtime__v1__stop_pod_sandbox_response__descriptor,
							     120 * NS_PER_SEC);
		return !m;
	}
	Runtime__V1__StopContainerRequest r = RUNTIME__V1__STOP_CONTAINER_REQUEST__INIT;
	r.container_id = (char *)f->id;
	r.timeout = seconds;
	CLEANUP_REPLY ProtobufCMessage *m = cli_call(c, RUNTIME "StopContainer", &r.base,
						     &runtime__v1__stop_container_response__descriptor,
						     (seconds + 60) * NS_PER_SEC);
	return !m;
}

int command_stop(struct cli *c, int argc, char **argv) {
	int seconds = 10, i = 1, status = 0;
	if (i + 1 < argc && strcmp(argv[i], "-t") == 0) {
		seconds = atoi(argv[i + 1]);
		i += 2;
	}
	if (i == argc)
		return cli_fail("stop", "give at least one container or pod");
	for (; i < argc; i++) {
		struct found f;
		status |= find(c, "stop", argv[i], true, &f) || stop_one(c, &f, seconds);
	}
	return status;
}

static int remove_one(struct cli *c, const struct found *f, bool force) {
	if (f->is_pod) {
		Runtime__V1__RemovePodSandboxRequest r = RUNTIME__V1__REMOVE_POD_SANDBOX_REQUEST__INIT;
		r.pod_sandbox_id = (char *)f->id;
		CLEANUP_REPLY ProtobufCMessage *m = cli_call(c, RUNTIME "RemovePodSandbox", &r.base,
							     &runtime__v1__remove_pod_sandbox_response__descriptor,
							     120 * NS_PER_SEC);
		return !m;
	}
	if (!force) {
		Runtime__V1__ContainerStatusRequest s = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
		s.container_id = (char *)f->id;
		CLEANUP_REPLY ProtobufCMessage *m = cli_call(c, RUNTIME "ContainerStatus", &s.base,
							     &runtime__v1__container_status_response__descriptor,
							     30 * NS_PER_SEC);
		if (!m)
			return 1;
		if (((Runtime__V1__ContainerStatusResponse *)m)->status->state ==
		    RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
			return cli_fail("rm", "container %.13s is running: stop it first, or use -f", f->id);
	}
	Runtime__V1__RemoveContainerRequest r = RUNTIME__V1__REMOVE_CONTAINER_REQUEST__INIT;
	r.container_id = (char *)f->id;
	CLEANUP_REPLY ProtobufCMessage *m = cli_call(c, RUNTIME "RemoveContainer", &r.base,
						     &runtime__v1__remove_container_response__descriptor,
						     120 * NS_PER_SEC);
	return !m;
}

int command_rm(struct cli *c, int argc, char **argv) {
	bool force = argc > 1 && strcmp(argv[1], "-f") == 0;
	int status = 0;
	if (argc < 2 + force)
		return cli_fail("rm", "give at least one container or pod");
	for (int i = 1 + force; i < argc; i++) {
		struct found f;
		status |= find(c, "rm", argv[i], true, &f) || remove_one(c, &f, force);
	}
	return status;
}

static int print_reply(ProtobufCMessage *m) {
	if (!m)
		return 1;
	json_print(stdout, m, 0);
	fputc('\n', stdout);
	protobuf_c_message_free_unpacked(m, NULL);
	return 0;
}

static int inspect_image(struct cli *c, const char *name) {
	Runtime__V1__ImageStatusRequest r = RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT;
	Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
	spec.image = (char *)name;
	r.image = &spec;
	r.verbose = true;
	ProtobufCMessage *m = cli_call(c, IMAGES "ImageStatus", &r.base,
				       &runtime__v1__image_status_response__descriptor, 30 * NS_PER_SEC);
	if (m && !((Runtime__V1__ImageStatusResponse *)m)->image) {
		protobuf_c_message_free_unpacked(m, NULL);
		return cli_fail("inspect", "there is no container, pod or image \"%s\"", name);
	}
	return print_reply(m);
}

int command_inspect(struct cli *c, int argc, char **argv) {
	struct found f;
	if (argc != 2)
		return cli_fail("inspect", "give one container, pod or image");
	int n = search(c, argv[1], true, &f);
	if (n < 0)
		return 1;
	if (n == 0)
		return inspect_image(c, argv[1]);
	if (n > 1)
		return cli_fail("inspect", "\"%s\" could be any of %d, give more of the id", argv[1], n);
	if (f.is_pod) {
		Runtime__V1__PodSandboxStatusRequest r = RUNTIME__V1__POD_SANDBOX_STATUS_REQUEST__INIT;
		r.pod_sandbox_id = f.id;
		r.verbose = true;
		return print_reply(cli_call(c, RUNTIME "PodSandboxStatus", &r.base,
					    &runtime__v1__pod_sandbox_status_response__descriptor, 30 * NS_PER_SEC));
	}
	Runtime__V1__ContainerStatusRequest r = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	r.container_id = f.id;
	r.verbose = true;
	return print_reply(cli_call(c, RUNTIME "ContainerStatus", &r.base,
				    &runtime__v1__container_status_response__descriptor, 30 * NS_PER_SEC));
}

int command_stats(struct cli *c, int argc, char **argv) {
	Runtime__V1__ListContainerStatsRequest r = RUNTIME__V1__LIST_CONTAINER_STATS_REQUEST__INIT;
	CLEANUP_REPLY ProtobufCMessage *m = cli_call(c, RUNTIME "ListContainerStats", &r.base,
						     &runtime__v1__list_container_stats_response__descriptor,
						     30 * NS_PER_SEC);
	if (!m)
		return 1;
	const Runtime__V1__ListContainerStatsResponse *list = (Runtime__V1__ListContainerStatsResponse *)m;
	printf("%-14s %-20s %12s %12s %12s\n", "CONTAINER", "NAME", "CPU", "MEMORY", "DISK");
	for (size_t i = 0; i < list->n_stats; i++) {
		const Runtime__V1__ContainerStats *s = list->stats[i];
		char id[32], memory[32], disk[32];
		bool cpu = s->cpu && s->cpu->usage_core_nano_seconds;
		bool mem = s->memory && s->memory->working_set_bytes;
		bool layer = s->writable_layer && s->writable_layer->used_bytes;
		printf("%-14s %-20s %11.3fs %12s %12s\n", text_id(s->attributes->id, id), s->attributes->metadata->name,
		       cpu ? (double)s->cpu->usage_core_nano_seconds->value / NS_PER_SEC : 0.0,
		       mem ? text_size(s->memory->working_set_bytes->value, memory) : "-",
		       layer ? text_size(s->writable_layer->used_bytes->value, disk) : "-");
	}
	return 0;
}
