/*
 * Input and output of processes, by calls. Per process that calls read or write
 * there is one struct agent_streams: the descriptors that its keeper holds, and
 * the calls that wait for each of them, in their order.
 *
 *   made by the first call -> given (ctask_streams) -> ended (ctask_wait)
 *        -> cut -> freed, or freed when nobody has asked for a while
 *
 * What nobody has read is in the kernel's pipe, so nothing is lost with this
 * worker, and a process whose output nobody reads waits.
 *
 * An output ends when all who could write to it have closed it. When the process
 * has ended, and others still hold it, it ends half a second later (the cut)
 * with what is in the pipe then, however much these go on to write. A terminal
 * is the output; it has no error output.
 */
#pragma once

#include "workers/api/agent/agent.h"

#include "base/list.h"

struct agent_streams;

enum { STREAM_IN, STREAM_OUT, STREAM_ERR, STREAMS };

/* A call that waits for its turn. */
struct agent_stream_call {
	struct list node;
	struct grpc_call *call;
	struct agent_streams *streams;
	struct msg_call *asked;
	uint32_t len;	    /* of a read: at most */
	struct buffer data; /* of a write */
	size_t sent;
	bool writes; /* and is answered so, also when it closes */
	bool closes; /* the input, after all that was written before */
};

/* Queues it; answered now or later. -ENOMEM. */
int agent_streams_join(struct agent_stream_call *x, const char *container_id, const char *exec_id, int stream);
/* It was answered, or its client has gone. */
void agent_streams_leave(struct agent_stream_call *x);
/* The container (NULL: any) is being removed: another may have its name soon. */
void agent_streams_forget(struct grpc_server *server, const char *container_id);
