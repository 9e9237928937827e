/* What the command line's files share: one connection, one way to call, one
 * way to fail. */
#pragma once

#include "cri/runtime.pb-c.h"
#include "internal/admin.pb-c.h"
#include "tools/client/client.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define RUNTIME "/runtime.v1.RuntimeService/"
#define IMAGES "/runtime.v1.ImageService/"
#define ADMIN "/bulkhead.v1.Admin/"

struct cli {
	const char *socket;
	const char *program;
	struct client *client;
	bool quiet, json;
};

/* A command's body: argv[0] is its name. Returns the exit status. */
typedef int (*command_fn)(struct cli *c, int argc, char **argv);

int command_version(struct cli *c, int argc, char **argv);
int command_pull(struct cli *c, int argc, char **argv);
int command_images(struct cli *c, int argc, char **argv);
int command_rmi(struct cli *c, int argc, char **argv);
int command_run(struct cli *c, int argc, char **argv);
int command_pods(struct cli *c, int argc, char **argv);
int command_ps(struct cli *c, int argc, char **argv);
int command_logs(struct cli *c, int argc, char **argv);
int command_exec(struct cli *c, int argc, char **argv);
int command_inspect(struct cli *c, int argc, char **argv);
int command_stop(struct cli *c, int argc, char **argv);
int command_rm(struct cli *c, int argc, char **argv);
int command_stats(struct cli *c, int argc, char **argv);
int command_doctor(struct cli *c, int argc, char **argv);

/* Connects, unless it has; an error is printed, with what to do. */
int cli_connect(struct cli *c);
/* Connects on first use. The reply, or NULL after the error was printed. */
ProtobufCMessage *cli_call(struct cli *c, const char *method, const ProtobufCMessage *request,
			   const ProtobufCMessageDescriptor *type, int64_t timeout_ns);
/* The same without printing. */
int cli_try(struct cli *c, const char *method, const ProtobufCMessage *request, const ProtobufCMessageDescriptor *type,
	    int64_t timeout_ns, ProtobufCMessage **ret_reply, struct fault *fault);
/* "bulkhead COMMAND: sentence" on stderr; returns 1. */
int cli_fail(const char *command, const char *format, ...) PRINTF(2, 3);

static inline void reply_free_p(void *p) {
	if (*(ProtobufCMessage **)p)
		protobuf_c_message_free_unpacked(*(ProtobufCMessage **)p, NULL);
}
#define CLEANUP_REPLY CLEANUP(reply_free_p)

/* "3 minutes ago", "12.3MiB", an id's first 13 characters; in ret_text. */
const char *text_age(int64_t since_ns, char ret_text[32]);
const char *text_size(uint64_t bytes, char ret_text[32]);
const char *text_id(const char *id, char ret_text[32]);

/* Prints a CRI log; follow waits until the container has exited. */
int log_print(struct cli *c, const char *container, const char *path, bool follow);
/* The container whose id, or name, begins so; the id in ret_id. */
int container_find(struct cli *c, const char *command, const char *name, char ret_id[128]);
