/* Inside of the relay: relay.c (the machine and the keeper's questions), guest.c
 * (processes), oom.c. */
#pragma once

#include "base/list.h"
#include "loop/loop.h"
#include "ttrpc/client.h"
#include "workers/keeper/vm/vm.h"

/* One process of the guest, or a question of the keeper's; see guest.c. */
enum guest_state { GUEST_NEW, GUEST_MAKING, GUEST_MADE, GUEST_STARTING, GUEST_RUNNING, GUEST_ENDED };

struct output {
	struct guest *guest;
	const char *method;
	int fd;
	bool done;
	struct buffer data;
	size_t at;
	struct loop_source *writable;
};

struct guest {
	struct list node;
	struct relay *relay;
	int channel;
	struct loop_source *source;
	enum guest_state state;
	bool container, terminal;
	bool gone; /* the stand-in is */
	unsigned calls;
	char id[80], process[32];
	struct output outputs[2];
	int in;
	bool in_ended, in_busy;
	struct loop_source *readable;
	int32_t status;
	int32_t ooms;		      /* times that something in it was killed for want of memory */
	uint64_t oom_asks;	      /* of the relay's, when its removal was asked for */
	struct loop_source *patience; /* for what may still be heard */
};

/* --- relay.c, guest.c --- */

struct relay {
	struct loop *loop;
	const struct vm *vm;
	struct ttrpc_client *agent;
	struct vm_machine machine;
	struct vm_network network;
	int control;
	struct loop_source *control_source, *vmm_source, *files_source, *console_source, *line_source, *patience,
	    *early;
	struct vhost *vhost;
	struct list guests; /* struct guest */
	uint64_t oom_asks;  /* so far */
	struct loop_source *oom_later;
	size_t step; /* of the boot */
	bool booted, stopping;
	char hostname[HOST_NAME_MAX + 1]; /* of the pod */
	int log;			  /* the console's file */
	size_t logged;			  /* its size, in bytes */
	char last[256];			  /* the last that was said */
	size_t n_last;
};

#define CALL_LIMIT (60 * NS_PER_SEC)

/* A call of the agent's. done isn't called before this returns; without memory
 * the relay ends. timeout_ns 0: none. */
void agent_call(struct relay *r, const char *method, const ProtobufCMessage *request, int64_t timeout_ns,
		ttrpc_done_fn done, void *ctx);
/* The machine's: why is told where it hasn't booted. */
void relay_over(struct relay *r, const char *what);
/* Takes the channel; its first packet says what it is. */
void guest_new(struct relay *r, int channel);

/* --- oom.c --- */

/* Asks the guest, from now on. */
void relay_ooms_ask(struct relay *r);
/* All that was heard of what is there, once more. */
void relay_ooms_tell(const struct relay *r);
