/* Inside of the relay: relay.c (the machine and the keeper's questions), guest.c
 * (processes). */
#pragma once

#include "base/list.h"
#include "loop/loop.h"
#include "ttrpc/client.h"
#include "workers/keeper/vm/vm.h"

/* --- relay.c, guest.c --- */

struct relay {
	struct loop *loop;
	const struct vm *vm;
	struct ttrpc_client *agent;
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

/* A call of the agent's. done isn't called before this returns; without memory
 * the relay ends. timeout_ns 0: none. */
void agent_call(struct relay *r, const char *method, const ProtobufCMessage *request, int64_t timeout_ns,
		ttrpc_done_fn done, void *ctx);
/* Takes the channel; its first packet says what it is. */
void guest_new(struct relay *r, int channel);
