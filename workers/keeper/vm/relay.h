/* Inside of the relay: relay.c (the machine and the keeper's questions), guest.c
 * (processes), agent.c (calls). */
#pragma once

#include "base/list.h"
#include "loop/loop.h"
#include "workers/keeper/vm/vm.h"

/* --- agent.c: ttrpc's client, on a stream socket --- */

struct agent;

/* reply is valid during the call and NULL with a fault. */
typedef void (*agent_done_fn)(void *ctx, const ProtobufCMessage *reply, const struct fault *fault);

/* down: the guest has closed the line, or broken the protocol; not a call is
 * answered any more. */
int agent_new(struct loop *l, int fd, void (*down)(void *ctx, const char *why), void *ctx, struct agent **ret_agent);
/* done isn't called before this returns. timeout_ns 0: none. A failure to send
 * is an answer, too. */
void agent_call(struct agent *a, const char *method, const ProtobufCMessage *request, int64_t timeout_ns,
		const ProtobufCMessageDescriptor *reply_type, agent_done_fn done, void *ctx);
/* Of grpc.Health. */
void agent_check(struct agent *a, int64_t timeout_ns, agent_done_fn done, void *ctx);

/* --- relay.c, guest.c --- */

struct relay {
	struct loop *loop;
	const struct vm *vm;
	struct agent *agent;
	struct vm_machine machine;
	struct vm_network network;
	int control;
	struct loop_source *control_source, *qemu_source, *files_source, *console_source, *patience, *early;
	struct list guests; /* struct guest */
	size_t step;	    /* of the boot */
	bool booted, stopping;
	char hostname[HOST_NAME_MAX + 1]; /* of the pod */
	int log;			  /* the console's file */
	size_t log_room;		  /* bytes that may be written to it */
	char last[256];			  /* the last that was said */
	size_t n_last;
};

#define CALL_LIMIT (60 * NS_PER_SEC)

/* Takes the channel; its first packet says what it is. */
void guest_new(struct relay *r, int channel);
