/* run, exec: a pod with one container, and a command in one that runs. */
#include "tools/bulkhead/cli.h"

#include "base/clock.h"
#include "base/id.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct run {
	const char *image, *name, *network, *log_dir;
	bool detach, keep;
	Runtime__V1__PortMapping ports[16], *port_list[16];
	size_t n_ports;
	char **command;
	size_t n_command;
	char sandbox[128], container[128];
	/* the request, which the messages below make up */
	Runtime__V1__PodSandboxConfig config;
	Runtime__V1__PodSandboxMetadata metadata;
	Runtime__V1__LinuxPodSandboxConfig linux_config;
	Runtime__V1__LinuxSandboxSecurityContext security;
	Runtime__V1__NamespaceOption namespaces;
	char uid[ID_SIZE];
};

static int port_parse(struct run *r, const char *text) {
	unsigned host, container;
	char end;
	if (r->n_ports == ARRAY_SIZE(r->ports) || sscanf(text, "%u:%u%c", &host, &container, &end) != 2 ||
	    host > 65535 || container > 65535 || !host || !container)
		return cli_fail("run", "-p takes HOST_PORT:CONTAINER_PORT, not \"%s\"", text);
	Runtime__V1__PortMapping *p = &r->ports[r->n_ports];
	runtime__v1__port_mapping__init(p);
	p->host_port = (int)host;
	p->container_port = (int)container;
	r->port_list[r->n_ports++] = p;
	return 0;
}

static int run_parse(struct run *r, int argc, char **argv) {
	int i = 1;
	for (; i < argc && argv[i][0] == '-'; i++) {
		bool more = i + 1 < argc;
		if (strcmp(argv[i], "-d") == 0)
			r->detach = true;
		else if (strcmp(argv[i], "--keep") == 0)
			r->keep = true;
		else if (strcmp(argv[i], "--name") == 0 && more)
			r->name = argv[++i];
		else if (strcmp(argv[i], "--net") == 0 && more)
			r->network = argv[++i];
		else if (strcmp(argv[i], "--log-dir") == 0 && more)
			r->log_dir = argv[++i];
		else if (strcmp(argv[i], "-p") == 0 && more) {
			if (port_parse(r, argv[++i]) != 0)
				return 1;
		} else
			return cli_fail("run",
					"unknown option \"%s\"; there are -d, --keep, --name NAME, --net pod|host, "
					"-p HOST:CONTAINER, --log-dir DIR",
					argv[i]);
	}
	if (strcmp(r->network, "pod") != 0 && strcmp(r->network, "host") != 0)
		return cli_fail("run", "--net is pod or host, not \"%s\"", r->network);
	if (i == argc)
		return cli_fail("run", "give an IMAGE");
	r->image = argv[i];
	r->command = argv + i + 1;
	r->n_command = (size_t)(argc - i - 1);
	return 0;
}

static void run_config(struct run *r) {
	runtime__v1__pod_sandbox_config__init(&r->config);
	runtime__v1__pod_sandbox_metadata__init(&r->metadata);
	runtime__v1__linux_pod_sandbox_config__init(&r->linux_config);
	runtime__v1__linux_sandbox_security_context__init(&r->security);
	runtime__v1__namespace_option__init(&r->namespaces);
	id_random(r->uid);
	bool host = strcmp(r->network, "host") == 0;
	r->metadata.name = (char *)r->name;
	r->metadata.uid = r->uid;
	r->metadata.namespace_ = (char *)"default";
	r->namespaces.network = host ? RUNTIME__V1__NAMESPACE_MODE__NODE : RUNTIME__V1__NAMESPACE_MODE__POD;
	r->namespaces.pid = RUNTIME__V1__NAMESPACE_MODE__CONTAINER;
	r->security.namespace_options = &r->namespaces;
	r->linux_config.security_context = &r->security;
	r->config.metadata = &r->metadata;
	r->config.linux = &r->linux_config;
	r->config.hostname = host ? r->config.hostname : (char *)r->name;
	r->config.log_directory = (char *)r->log_dir;
	r->config.port_mappings = r->port_list;
	r->config.n_port_mappings = r->n_ports;
}

static bool image_present(struct cli *c, const char *image) {
	Runtime__V1__ImageStatusRequest r = RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT;
	Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
	spec.image = (char *)image;
	r.image = &spec;
	ProtobufCMessage *m = NULL;
	struct fault fault;
	if (cli_try(c, IMAGES "ImageStatus", &r.base, &runtime__v1__image_status_response__descriptor, 30 * NS_PER_SEC,
		    &m, &fault) < 0)
		return false;
	bool yes = ((Runtime__V1__ImageStatusResponse *)m)->image != NULL;
	protobuf_c_message_free_unpacked(m, NULL);
	return yes;
}

static int sandbox_run(struct cli *c, struct run *r) {
	Runtime__V1__RunPodSandboxRequest q = RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT;
	q.config = &r->config;
	CLEANUP_REPLY ProtobufCMessage *m = cli_call(
	    c, RUNTIME "RunPodSandbox", &q.base, &runtime__v1__run_pod_sandbox_response__descriptor, 240 * NS_PER_SEC);
	if (!m)
		return 1;
	snprintf(r->sandbox, sizeof(r->sandbox), "%s", ((Runtime__V1__RunPodSandboxResponse *)m)->pod_sandbox_id);
	return 0;
}

static int container_run(struct cli *c, struct run *r) {
	Runtime__V1__ContainerMetadata metadata = RUNTIME__V1__CONTAINER_METADATA__INIT;
	Runtime__V1__ImageSpec image = RUNTIME__V1__IMAGE_SPEC__INIT;
	Runtime__V1__ContainerConfig config = RUNTIME__V1__CONTAINER_CONFIG__INIT;
	Runtime__V1__LinuxContainerConfig linux_config = RUNTIME__V1__LINUX_CONTAINER_CONFIG__INIT;
	Runtime__V1__LinuxContainerSecurityContext security = RUNTIME__V1__LINUX_CONTAINER_SECURITY_CONTEXT__INIT;
	Runtime__V1__SecurityProfile seccomp = RUNTIME__V1__SECURITY_PROFILE__INIT;
	Runtime__V1__CreateContainerRequest q = RUNTIME__V1__CREATE_CONTAINER_REQUEST__INIT;
	char log_path[96];
	snprintf(log_path, sizeof(log_path), "%s.log", r->name);
	metadata.name = (char *)r->name;
	image.image = (char *)r->image;
	seccomp.profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault;
	security.namespace_options = &r->namespaces;
	security.seccomp = &seccomp;
	linux_config.security_context = &security;
	config.metadata = &metadata;
	config.image = &image;
	config.args = r->command;
	config.n_args = r->n_command;
	config.log_path = log_path;
	config.linux = &linux_config;
	q.pod_sandbox_id = r->sandbox;
	q.config = &config;
	q.sandbox_config = &r->config;
	CLEANUP_REPLY ProtobufCMessage *m = cli_call(c, RUNTIME "CreateContainer", &q.base,
						     &runtime__v1__create_container_response__descriptor,
						     240 * NS_PER_SEC);
	if (!m)
		return 1;
	snprintf(r->container, sizeof(r->container), "%s", ((Runtime__V1__CreateContainerResponse *)m)->container_id);
	Runtime__V1__StartContainerRequest s = RUNTIME__V1__START_CONTAINER_REQUEST__INIT;
	s.container_id = r->container;
	CLEANUP_REPLY ProtobufCMessage *started = cli_call(
	    c, RUNTIME "StartContainer", &s.base, &runtime__v1__start_container_response__descriptor, 240 * NS_PER_SEC);
	return !started;
}

static void sandbox_remove(struct cli *c, struct run *r) {
	Runtime__V1__RemovePodSandboxRequest q = RUNTIME__V1__REMOVE_POD_SANDBOX_REQUEST__INIT;
	q.pod_sandbox_id = r->sandbox;
	ProtobufCMessage *m = cli_call(c, RUNTIME "RemovePodSandbox", &q.base,
				       &runtime__v1__remove_pod_sandbox_response__descriptor, 120 * NS_PER_SEC);
	if (m)
		protobuf_c_message_free_unpacked(m, NULL);
}

/* The container's log until its end; its exit code is ours. */
static int run_follow(struct cli *c, struct run *r) {
	char path[512];
	snprintf(path, sizeof(path), "%s/%s.log", r->log_dir, r->name);
	int status = log_print(c, r->container, path, true);
	Runtime__V1__ContainerStatusRequest q = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	q.container_id = r->container;
	CLEANUP_REPLY ProtobufCMessage *m = cli_call(c, RUNTIME "ContainerStatus", &q.base,
						     &runtime__v1__container_status_response__descriptor,
						     30 * NS_PER_SEC);
	if (!m)
		return 1;
	const Runtime__V1__ContainerStatus *s = ((Runtime__V1__ContainerStatusResponse *)m)->status;
	if (s->reason && strcmp(s->reason, "OOMKilled") == 0)
		fprintf(stderr, "bulkhead run: the container was killed for want of memory\n");
	return status ? status : s->exit_code;
}

int command_run(struct cli *c, int argc, char **argv) {
	char name[32], log_dir[64], id[ID_SIZE];
	id_random(id);
	snprintf(name, sizeof(name), "run-%.8s", id);
	snprintf(log_dir, sizeof(log_dir), "/var/log/bulkhead");
	struct run r = { .name = name, .network = "pod", .log_dir = log_dir };
	if (run_parse(&r, argc, argv) != 0)
		return 2;
	if (mkdir(r.log_dir, 0755) < 0 && errno != EEXIST)
		return cli_fail("run", "create log folder \"%s\": %s; --log-dir names another", r.log_dir,
				strerrordesc_np(errno));
	run_config(&r);
	if (!image_present(c, r.image)) {
		char *pull[] = { (char *)"pull", (char *)r.image };
		client_close(take_ptr(c->client));
		if (command_pull(c, 2, pull) != 0)
			return 1;
	}
	if (sandbox_run(c, &r) != 0)
		return 1;
	if (container_run(c, &r) != 0) {
		sandbox_remove(c, &r);
		return 1;
	}
	if (r.detach)
		return printf("%s\n", r.container) < 0;
	int status = run_follow(c, &r);
	if (!r.keep)
		sandbox_remove(c, &r);
	return status;
}

int command_exec(struct cli *c, int argc, char **argv) {
	char id[128];
	if (argc < 3)
		return cli_fail("exec", "give a CONTAINER and a COMMAND");
	if (container_find(c, "exec", argv[1], id) != 0)
		return 1;
	Runtime__V1__ExecSyncRequest r = RUNTIME__V1__EXEC_SYNC_REQUEST__INIT;
	r.container_id = id;
	r.cmd = argv + 2;
	r.n_cmd = (size_t)argc - 2;
	CLEANUP_REPLY ProtobufCMessage *m =
	    cli_call(c, RUNTIME "ExecSync", &r.base, &runtime__v1__exec_sync_response__descriptor, 0);
	if (!m)
		return 1;
	const Runtime__V1__ExecSyncResponse *e = (Runtime__V1__ExecSyncResponse *)m;
	fwrite(e->stdout.data, 1, e->stdout.len, stdout);
	fwrite(e->stderr.data, 1, e->stderr.len, stderr);
	return e->exit_code;
}
