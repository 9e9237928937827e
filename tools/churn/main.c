/*
 * churn: drives any CRI socket with N clients through the full pod cycle and
 * prints what each call took. Works against every runtime that serves
 * runtime.v1.
 *
 *   bulkhead-churn --socket /run/containerd/containerd.sock --clients 8 --pods 200 --image IMAGE
 *
 * The pod cycle is RunPodSandbox, CreateContainer, StartContainer, StopContainer
 * (grace 0), RemoveContainer, StopPodSandbox, RemovePodSandbox.
 */
#include "tools/churn/churn.h"

#include "base/clock.h"
#include "cri/runtime.pb-c.h"
#include "tools/client/client.h"

#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define RUNTIME "/runtime.v1.RuntimeService/"
#define CALL_TIMEOUT (60 * NS_PER_SEC)

static const char *const step_names[STEP_COUNT] = {
	[RUN] = "RunPodSandbox",      [CREATE] = "CreateContainer",  [START] = "StartContainer",
	[EXEC] = "ExecSync true",     [STATUS] = "ContainerStatus",  [STOP] = "StopContainer",
	[REMOVE] = "RemoveContainer", [STOP_POD] = "StopPodSandbox", [REMOVE_POD] = "RemovePodSandbox",
	[CYCLE] = "whole cycle",      [READY] = "Run+Create+Start",
};

struct worker {
	const struct options *options;
	struct client *client;
	atomic_uint *next; /* pods still to be started, counted down */
	unsigned failures;
	struct samples samples[STEP_COUNT];
	struct fault fault;
	unsigned index;
};

struct pod {
	char name[64], uid[64];
	char sandbox[128], container[128];
	Runtime__V1__PodSandboxConfig config;
	Runtime__V1__PodSandboxMetadata metadata;
	Runtime__V1__LinuxPodSandboxConfig linux_config;
	Runtime__V1__LinuxSandboxSecurityContext security;
	Runtime__V1__NamespaceOption namespaces;
};

/* Calls and notes how long it took. NULL on failure. */
static ProtobufCMessage *timed(struct worker *w, enum step step, const char *method, const ProtobufCMessage *request,
			       const ProtobufCMessageDescriptor *type) {
	ProtobufCMessage *reply = NULL;
	int64_t begin = clock_mono();
	if (client_call(w->client, method, request, type, CALL_TIMEOUT, &reply, &w->fault) < 0) {
		fprintf(stderr, "churn: %s: %s: %s\n", step_names[step], fault_code_name(w->fault.code), w->fault.text);
		return NULL;
	}
	samples_add(&w->samples[step], clock_mono() - begin);
	return reply;
}

static bool simple(struct worker *w, enum step step, const char *method, const ProtobufCMessage *request,
		   const ProtobufCMessageDescriptor *type) {
	ProtobufCMessage *reply = timed(w, step, method, request, type);
	if (reply)
		protobuf_c_message_free_unpacked(reply, NULL);
	return reply != NULL;
}

static void pod_init(struct pod *p, const struct options *o) {
	static atomic_uint counter;
	snprintf(p->name, sizeof(p->name), "churn-%d-%u", (int)getpid(), atomic_fetch_add(&counter, 1));
	snprintf(p->uid, sizeof(p->uid), "uid-%s", p->name);
	runtime__v1__pod_sandbox_config__init(&p->config);
	runtime__v1__pod_sandbox_metadata__init(&p->metadata);
	runtime__v1__linux_pod_sandbox_config__init(&p->linux_config);
	runtime__v1__linux_sandbox_security_context__init(&p->security);
	runtime__v1__namespace_option__init(&p->namespaces);
	p->metadata.name = p->name;
	p->metadata.uid = p->uid;
	p->metadata.namespace_ = (char *)"churn";
	bool host = strcmp(o->network, "host") == 0;
	p->namespaces.network = host ? RUNTIME__V1__NAMESPACE_MODE__NODE : RUNTIME__V1__NAMESPACE_MODE__POD;
	p->namespaces.pid = RUNTIME__V1__NAMESPACE_MODE__CONTAINER;
	p->security.namespace_options = &p->namespaces;
	p->linux_config.security_context = &p->security;
	p->config.metadata = &p->metadata;
	p->config.linux = &p->linux_config;
	if (!host)
		p->config.hostname = p->name;
	if (o->log_dir)
		p->config.log_directory = (char *)o->log_dir;
}

static bool pod_run(struct worker *w, struct pod *p) {
	Runtime__V1__RunPodSandboxRequest r = RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT;
	r.config = &p->config;
	r.runtime_handler = (char *)w->options->handler;
	ProtobufCMessage *m =
	    timed(w, RUN, RUNTIME "RunPodSandbox", &r.base, &runtime__v1__run_pod_sandbox_response__descriptor);
	if (!m)
		return false;
	snprintf(p->sandbox, sizeof(p->sandbox), "%s", ((Runtime__V1__RunPodSandboxResponse *)m)->pod_sandbox_id);
	protobuf_c_message_free_unpacked(m, NULL);
	return true;
}

static bool container_create(struct worker *w, struct pod *p) {
	static char *command[] = { (char *)"sleep", (char *)"3600" };
	Runtime__V1__ContainerMetadata metadata = RUNTIME__V1__CONTAINER_METADATA__INIT;
	Runtime__V1__ImageSpec image = RUNTIME__V1__IMAGE_SPEC__INIT;
	Runtime__V1__ContainerConfig config = RUNTIME__V1__CONTAINER_CONFIG__INIT;
	Runtime__V1__LinuxContainerConfig linux_config = RUNTIME__V1__LINUX_CONTAINER_CONFIG__INIT;
	Runtime__V1__LinuxContainerSecurityContext security = RUNTIME__V1__LINUX_CONTAINER_SECURITY_CONTEXT__INIT;
	Runtime__V1__SecurityProfile seccomp = RUNTIME__V1__SECURITY_PROFILE__INIT;
	Runtime__V1__CreateContainerRequest r = RUNTIME__V1__CREATE_CONTAINER_REQUEST__INIT;
	char log_path[96];
	metadata.name = (char *)"main";
	image.image = (char *)w->options->image;
	config.metadata = &metadata;
	config.image = &image;
	config.command = command;
	config.n_command = 2;
	if (w->options->log_dir) {
		snprintf(log_path, sizeof(log_path), "%s.log", p->name);
		config.log_path = log_path;
	}
	seccomp.profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault;
	security.seccomp = &seccomp;
	security.namespace_options = &p->namespaces;
	linux_config.security_context = &security;
	config.linux = &linux_config;
	r.pod_sandbox_id = p->sandbox;
	r.config = &config;
	r.sandbox_config = &p->config;
	ProtobufCMessage *m =
	    timed(w, CREATE, RUNTIME "CreateContainer", &r.base, &runtime__v1__create_container_response__descriptor);
	if (!m)
		return false;
	snprintf(p->container, sizeof(p->container), "%s", ((Runtime__V1__CreateContainerResponse *)m)->container_id);
	protobuf_c_message_free_unpacked(m, NULL);
	return true;
}

static bool container_start(struct worker *w, struct pod *p) {
	Runtime__V1__StartContainerRequest r = RUNTIME__V1__START_CONTAINER_REQUEST__INIT;
	r.container_id = p->container;
	return simple(w, START, RUNTIME "StartContainer", &r.base, &runtime__v1__start_container_response__descriptor);
}

static bool container_exec(struct worker *w, struct pod *p) {
	static char *command[] = { (char *)"true" };
	Runtime__V1__ExecSyncRequest r = RUNTIME__V1__EXEC_SYNC_REQUEST__INIT;
	r.container_id = p->container;
	r.cmd = command;
	r.n_cmd = 1;
	r.timeout = 10;
	ProtobufCMessage *m = timed(w, EXEC, RUNTIME "ExecSync", &r.base, &runtime__v1__exec_sync_response__descriptor);
	bool good = m && ((Runtime__V1__ExecSyncResponse *)m)->exit_code == 0;
	if (m && !good)
		fprintf(stderr, "churn: ExecSync: exit code %d\n", ((Runtime__V1__ExecSyncResponse *)m)->exit_code);
	if (m)
		protobuf_c_message_free_unpacked(m, NULL);
	return good;
}

static bool pod_end(struct worker *w, struct pod *p) {
	Runtime__V1__StopContainerRequest stop = RUNTIME__V1__STOP_CONTAINER_REQUEST__INIT;
	Runtime__V1__RemoveContainerRequest remove = RUNTIME__V1__REMOVE_CONTAINER_REQUEST__INIT;
	Runtime__V1__StopPodSandboxRequest stop_pod = RUNTIME__V1__STOP_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__RemovePodSandboxRequest remove_pod = RUNTIME__V1__REMOVE_POD_SANDBOX_REQUEST__INIT;
	stop.container_id = remove.container_id = p->container;
	stop_pod.pod_sandbox_id = remove_pod.pod_sandbox_id = p->sandbox;
	bool good = true;
	if (p->container[0])
		good = simple(w, STOP, RUNTIME "StopContainer", &stop.base,
			      &runtime__v1__stop_container_response__descriptor) &&
		       simple(w, REMOVE, RUNTIME "RemoveContainer", &remove.base,
			      &runtime__v1__remove_container_response__descriptor);
	if (p->sandbox[0])
		good = simple(w, STOP_POD, RUNTIME "StopPodSandbox", &stop_pod.base,
			      &runtime__v1__stop_pod_sandbox_response__descriptor) &&
		       simple(w, REMOVE_POD, RUNTIME "RemovePodSandbox", &remove_pod.base,
			      &runtime__v1__remove_pod_sandbox_response__descriptor) &&
		       good;
	return good;
}

static bool pod_begin(struct worker *w, struct pod *p) {
	int64_t begin = clock_mono();
	bool good = pod_run(w, p) && container_create(w, p) && container_start(w, p);
	if (good)
		samples_add(&w->samples[READY], clock_mono() - begin);
	return good;
}

static bool take_one(atomic_uint *left) {
	unsigned n = atomic_load(left);
	while (n > 0 && !atomic_compare_exchange_weak(left, &n, n - 1))
		;
	return n > 0;
}

static void *worker_cycle(void *arg) {
	struct worker *w = arg;
	while (w->failures < 10 && take_one(w->next)) {
		struct pod p = { 0 };
		pod_init(&p, w->options);
		int64_t begin = clock_mono();
		bool good = pod_begin(w, &p);
		for (unsigned i = 0; good && i < w->options->execs; i++)
			good = container_exec(w, &p);
		good = pod_end(w, &p) && good;
		if (good)
			samples_add(&w->samples[CYCLE], clock_mono() - begin);
		else
			w->failures++;
	}
	return NULL;
}

/* One call over and over, for the cost of the way there and back. */
static void *worker_version(void *arg) {
	struct worker *w = arg;
	Runtime__V1__VersionRequest r = RUNTIME__V1__VERSION_REQUEST__INIT;
	while (!w->failures && take_one(w->next))
		w->failures +=
		    !simple(w, STATUS, RUNTIME "Version", &r.base, &runtime__v1__version_response__descriptor);
	return NULL;
}

static struct pod *held;

static void *worker_status(void *arg) {
	struct worker *w = arg;
	Runtime__V1__ContainerStatusRequest r = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	unsigned n = w->index;
	while (!w->failures && take_one(w->next)) {
		r.container_id = held[n++ % w->options->hold].container;
		w->failures += !simple(w, STATUS, RUNTIME "ContainerStatus", &r.base,
				       &runtime__v1__container_status_response__descriptor);
	}
	return NULL;
}

static void *worker_list(void *arg) {
	struct worker *w = arg;
	Runtime__V1__ListContainersRequest r = RUNTIME__V1__LIST_CONTAINERS_REQUEST__INIT;
	while (!w->failures && take_one(w->next))
		w->failures += !simple(w, STATUS, RUNTIME "ListContainers", &r.base,
				       &runtime__v1__list_containers_response__descriptor);
	return NULL;
}

static void *worker_exec(void *arg) {
	struct worker *w = arg;
	unsigned n = w->index;
	while (!w->failures && take_one(w->next))
		w->failures += !container_exec(w, &held[n++ % w->options->hold]);
	return NULL;
}

static const struct {
	const char *name;
	void *(*run)(void *);
	bool needs_pods;
	const char *says;
} calls[] = {
	{ "cycle", worker_cycle, false, "the pod cycle" },
	{ "version", worker_version, false, "Version" },
	{ "status", worker_status, true, "ContainerStatus of held pods" },
	{ "list", worker_list, false, "ListContainers" },
	{ "exec", worker_exec, true, "ExecSync true in held pods" },
};

static int64_t own_cpu(void) {
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * NS_PER_SEC + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

struct figures {
	int64_t wall, cgroups, machine, pss_before, pss_held;
	unsigned done, failures, processes;
	struct samples samples[STEP_COUNT];
};

static int run_workers(const struct options *o, void *(*run)(void *), struct figures *f) {
	struct worker *workers = calloc(o->clients, sizeof(*workers));
	pthread_t *threads = calloc(o->clients, sizeof(*threads));
	atomic_uint next = o->pods;
	struct fault fault;
	int r = workers && threads ? 0 : -1;
	for (unsigned i = 0; r == 0 && i < o->clients; i++) {
		workers[i] = (struct worker){ .options = o, .next = &next, .index = i * 7919 };
		r = client_open(o->socket, &workers[i].client, &fault);
		if (r < 0)
			fprintf(stderr, "churn: %s\n", fault.text);
	}
	int64_t begin = clock_mono(), cgroups = usage_cgroups(o), machine = usage_machine() - own_cpu();
	for (unsigned i = 0; r == 0 && i < o->clients; i++)
		pthread_create(&threads[i], NULL, run, &workers[i]);
	for (unsigned i = 0; r == 0 && i < o->clients; i++)
		pthread_join(threads[i], NULL);
	f->wall = clock_mono() - begin;
	/* What was left to the background belongs to the pods too. */
	usleep(300000);
	f->cgroups = usage_cgroups(o) - cgroups;
	f->machine = usage_machine() - own_cpu() - machine;
	for (unsigned i = 0; workers && i < o->clients; i++) {
		f->failures += workers[i].failures;
		for (int s = 0; s < STEP_COUNT; s++)
			samples_merge(&f->samples[s], &workers[i].samples[s]);
		client_close(workers[i].client);
	}
	free(workers);
	free(threads);
	return r;
}

static int hold_begin(const struct options *o, struct worker *w, struct figures *f) {
	f->pss_before = usage_pss(o, &f->processes);
	held = calloc(o->hold, sizeof(*held));
	for (unsigned i = 0; held && i < o->hold; i++) {
		pod_init(&held[i], o);
		if (!pod_begin(w, &held[i]))
			return -1;
	}
	usleep(200000);
	f->pss_held = usage_pss(o, &f->processes);
	return held ? 0 : -1;
}

static void print_figures(const struct options *o, const char *says, struct figures *f) {
	enum step last = strcmp(o->call, "cycle") == 0 ? CYCLE : strcmp(o->call, "exec") == 0 ? EXEC : STATUS;
	unsigned done = f->samples[last].n;
	printf("%s, %u client%s, network %s: %u done, %u failed, %.1f s, %.1f per second\n", says, o->clients,
	       o->clients == 1 ? "" : "s", o->network, done, f->failures, (double)f->wall / NS_PER_SEC,
	       done * (double)NS_PER_SEC / (double)MAX(f->wall, INT64_C(1)));
	printf("  %-18s %9s %9s %9s\n", "ms", "p50", "p90", "p99");
	for (int s = 0; s < STEP_COUNT; s++)
		if (f->samples[s].n && (last == CYCLE || s == (int)last))
			printf("  %-18s %9.3f %9.3f %9.3f\n", s == STATUS ? says : step_names[s],
			       (double)samples_percentile(&f->samples[s], 50) / NS_PER_MS,
			       (double)samples_percentile(&f->samples[s], 90) / NS_PER_MS,
			       (double)samples_percentile(&f->samples[s], 99) / NS_PER_MS);
	if (done) {
		if (o->n_cgroups)
			printf("  CPU each: %.2f ms in the cgroups given\n", (double)f->cgroups / done / NS_PER_MS);
		printf("  CPU each: %.2f ms of the whole machine, kernel threads included, this program not\n",
		       (double)f->machine / done / NS_PER_MS);
	}
	if (o->pid || o->n_matches)
		printf("  PSS: %.1f MiB in %u processes", (double)(o->hold ? f->pss_held : f->pss_before) / 1024,
		       f->processes);
	if (o->hold && (o->pid || o->n_matches))
		printf(" with %u pods, %.1f MiB without: %.3f MiB a pod", o->hold, (double)f->pss_before / 1024,
		       (double)(f->pss_held - f->pss_before) / 1024 / o->hold);
	printf(o->pid || o->n_matches ? "\n" : "");
}

static void usage(FILE *to) {
	fputs("usage: bulkhead-churn [OPTION]...\n"
	      "Drives a CRI socket with pods and prints what the calls took.\n\n"
	      "  --socket PATH    the runtime's socket (/run/bulkhead/bulkhead.sock)\n"
	      "  --image NAME     an image with `sleep` and `true`, already pulled\n"
	      "  --call WHAT      cycle (default), version, status, list or exec\n"
	      "  --clients N      concurrent clients (1)\n"
	      "  --pods N         how many cycles or calls in all (100)\n"
	      "  --network MODE   pod (CNI) or host (host)\n"
	      "  --hold N         keep N running pods meanwhile; with --pid: memory of each\n"
	      "  --exec N         ExecSync of `true` N times in each pod of the cycle\n"
	      "  --handler NAME   the runtime handler\n"
	      "  --log-dir DIR    have the runtime write the containers' logs there\n"
	      "  --cgroup DIR     count the CPU of this cgroup (repeat for several)\n"
	      "  --pid PID        count the PSS of this process and its descendants\n"
	      "  --match NAME     and of processes whose name begins so (repeat for several)\n",
	      to);
}

static int parse(int argc, char **argv, struct options *o) {
	enum {
		SOCKET = 256,
		IMAGE,
		CALL,
		CLIENTS,
		PODS,
		NETWORK,
		HOLD,
		EXECS,
		HANDLER,
		LOG_DIR,
		CGROUP,
		PID,
		MATCH,
		HELP
	};
	static const struct option table[] = {
		{ "socket", 1, 0, SOCKET },   { "image", 1, 0, IMAGE },	  { "call", 1, 0, CALL },
		{ "clients", 1, 0, CLIENTS }, { "pods", 1, 0, PODS },	  { "network", 1, 0, NETWORK },
		{ "hold", 1, 0, HOLD },	      { "exec", 1, 0, EXECS },	  { "handler", 1, 0, HANDLER },
		{ "log-dir", 1, 0, LOG_DIR }, { "cgroup", 1, 0, CGROUP }, { "pid", 1, 0, PID },
		{ "match", 1, 0, MATCH },     { "help", 0, 0, HELP },	  { 0 },
	};
	for (int c; (c = getopt_long(argc, argv, "", table, NULL)) >= 0;) {
		switch (c) {
		case SOCKET:
			o->socket = optarg;
			break;
		case IMAGE:
			o->image = optarg;
			break;
		case CALL:
			o->call = optarg;
			break;
		case CLIENTS:
			o->clients = (unsigned)MAX(atoi(optarg), 1);
			break;
		case PODS:
			o->pods = (unsigned)MAX(atoi(optarg), 0);
			break;
		case NETWORK:
			o->network = optarg;
			break;
		case HOLD:
			o->hold = (unsigned)MAX(atoi(optarg), 0);
			break;
		case EXECS:
			o->execs = (unsigned)MAX(atoi(optarg), 0);
			break;
		case HANDLER:
			o->handler = optarg;
			break;
		case LOG_DIR:
			o->log_dir = optarg;
			break;
		case CGROUP:
			if (o->n_cgroups < CHURN_PATHS_MAX)
				o->cgroups[o->n_cgroups++] = optarg;
			break;
		case PID:
			o->pid = atoi(optarg);
			break;
		case MATCH:
			if (o->n_matches < CHURN_PATHS_MAX)
				o->matches[o->n_matches++] = optarg;
			break;
		case HELP:
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			return -1;
		}
	}
	return 0;
}

int main(int argc, char **argv) {
	struct options o = {
		.socket = "/run/bulkhead/bulkhead.sock",
		.image = "busybox",
		.network = "host",
		.handler = "",
		.call = "cycle",
		.clients = 1,
		.pods = 100,
	};
	if (parse(argc, argv, &o) < 0)
		return 2;
	size_t kind = 0;
	while (kind < ARRAY_SIZE(calls) && strcmp(calls[kind].name, o.call) != 0)
		kind++;
	if (kind == ARRAY_SIZE(calls)) {
		fprintf(stderr, "churn: --call %s: there is no such call, see --help\n", o.call);
		return 2;
	}
	if (calls[kind].needs_pods && !o.hold)
		o.hold = 1;
	struct figures f = { 0 };
	struct worker holder = { .options = &o };
	if (client_open(o.socket, &holder.client, &holder.fault) < 0) {
		fprintf(stderr, "churn: %s\n", holder.fault.text);
		return 1;
	}
	int r = hold_begin(&o, &holder, &f);
	if (r == 0)
		r = run_workers(&o, calls[kind].run, &f);
	for (unsigned i = 0; held && i < o.hold; i++)
		pod_end(&holder, &held[i]);
	client_close(holder.client);
	if (r == 0)
		print_figures(&o, calls[kind].says, &f);
	return r < 0 || f.failures ? 1 : 0;
}
