/*
 * bulkhead: the command line. Everything goes over the daemon's socket; nothing
 * here reads the daemon's state.
 */
#include "tools/bulkhead/cli.h"

#include "base/clock.h"
#include "base/version.h"

#include <stdarg.h>
#include <string.h>

static const struct {
	const char *name;
	command_fn run;
	const char *arguments, *says;
} commands[] = {
	{ "run", command_run, "[OPTION]... IMAGE [COMMAND [ARG]...]", "run a container in a pod of its own" },
	{ "pull", command_pull, "[--user NAME:PASSWORD] IMAGE", "fetch an image from its registry" },
	{ "images", command_images, "", "list images" },
	{ "rmi", command_rmi, "IMAGE...", "remove images" },
	{ "pods", command_pods, "", "list pods" },
	{ "ps", command_ps, "[-a]", "list containers (-a: those that have exited too)" },
	{ "logs", command_logs, "[-f] CONTAINER", "print what a container wrote" },
	{ "exec", command_exec, "CONTAINER COMMAND [ARG]...", "run a command in a container" },
	{ "inspect", command_inspect, "ID", "show all that is known of a pod, container or image" },
	{ "stop", command_stop, "[-t SECONDS] ID...", "stop containers or pods" },
	{ "rm", command_rm, "[-f] ID...", "remove containers or pods" },
	{ "stats", command_stats, "", "CPU and memory of each container" },
	{ "doctor", command_doctor, "", "check this machine and the daemon" },
	{ "version", command_version, "", "print versions" },
};

int cli_fail(const char *command, const char *format, ...) {
	va_list ap;
	fprintf(stderr, "bulkhead %s: ", command);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	return 1;
}

int cli_try(struct cli *c, const char *method, const ProtobufCMessage *request, const ProtobufCMessageDescriptor *type,
	    int64_t timeout_ns, ProtobufCMessage **ret_reply, struct fault *fault) {
	int r = c->client ? 0 : client_open(c->socket, &c->client, fault);
	return r < 0 ? r : client_call(c->client, method, request, type, timeout_ns, ret_reply, fault);
}

int cli_connect(struct cli *c) {
	struct fault fault;
	int r = c->client ? 0 : client_open(c->socket, &c->client, &fault);
	if (r < 0)
		fprintf(stderr, "bulkhead: %s. Is bulkheadd running? --socket names another socket.\n", fault.text);
	return r;
}

ProtobufCMessage *cli_call(struct cli *c, const char *method, const ProtobufCMessage *request,
			   const ProtobufCMessageDescriptor *type, int64_t timeout_ns) {
	ProtobufCMessage *reply = NULL;
	struct fault fault;
	if (cli_connect(c) < 0)
		return NULL;
	if (cli_try(c, method, request, type, timeout_ns, &reply, &fault) == 0)
		return reply;
	fprintf(stderr, "bulkhead: %s (%s)\n", fault.text, fault_code_name(fault.code));
	return NULL;
}

static int usage(FILE *to, int status) {
	fprintf(to, "usage: bulkhead [--socket PATH] COMMAND [ARGUMENT]...\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(to, "  %-8s %-38s %s\n", commands[i].name, commands[i].arguments, commands[i].says);
	fprintf(to, "\nThe socket is /run/bulkhead/bulkhead.sock, $BULKHEAD_SOCKET, or what --socket says.\n");
	return status;
}

int command_version(struct cli *c, int argc, char **argv) {
	Runtime__V1__VersionRequest r = RUNTIME__V1__VERSION_REQUEST__INIT;
	printf("bulkhead %s\n", BULKHEAD_VERSION);
	CLEANUP_REPLY ProtobufCMessage *m =
	    cli_call(c, RUNTIME "Version", &r.base, &runtime__v1__version_response__descriptor, 5 * NS_PER_SEC);
	if (!m)
		return 1;
	const Runtime__V1__VersionResponse *v = (Runtime__V1__VersionResponse *)m;
	printf("daemon   %s %s, CRI %s\n", v->runtime_name, v->runtime_version, v->runtime_api_version);
	return 0;
}

int main(int argc, char **argv) {
	struct cli c = { .socket = getenv("BULKHEAD_SOCKET") };
	if (!c.socket || !c.socket[0])
		c.socket = "/run/bulkhead/bulkhead.sock";
	int i = 1;
	for (; i < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return usage(stdout, 0);
		if (strcmp(argv[i], "--version") == 0)
			return printf("bulkhead %s\n", BULKHEAD_VERSION) < 0;
		if (strcmp(argv[i], "--socket") == 0 && i + 1 < argc)
			c.socket = argv[++i];
		else if (strncmp(argv[i], "--socket=", 9) == 0)
			c.socket = argv[i] + 9;
		else
			return usage(stderr, 2);
	}
	if (i == argc)
		return usage(stderr, 2);
	for (size_t k = 0; k < ARRAY_SIZE(commands); k++)
		if (strcmp(commands[k].name, argv[i]) == 0) {
			int status = commands[k].run(&c, argc - i, argv + i);
			client_close(c.client);
			return status;
		}
	fprintf(stderr, "bulkhead: there is no command \"%s\", see bulkhead --help\n", argv[i]);
	return 2;
}
