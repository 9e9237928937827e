/* ReadStdout, ReadStderr, WriteStdin, CloseStdin: each is queued at its
 * process's streams, which answer it. */
#include "workers/api/agent/streams.h"

static void *call_open(struct grpc_call *c) {
	struct agent_stream_call *x = calloc(1, sizeof(*x));
	if (x) {
		x->call = c;
		list_init(&x->node);
	}
	return x;
}

static void call_closed(void *handler) {
	struct agent_stream_call *x = handler;
	agent_streams_leave(x);
	buffer_deinit(&x->data);
	free(x);
}

static void join(struct agent_stream_call *x, const char *container_id, const char *exec_id, int stream) {
	if (agent_streams_join(x, container_id, exec_id, stream) < 0)
		grpc_failf(x->call, FAULT_RESOURCE_EXHAUSTED, "no memory for the streams of container \"%.76s\"",
			   container_id);
}

static void read_message(struct agent_stream_call *x, const Grpc__ReadStreamRequest *q, int stream) {
	x->len = q->len;
	/* Nothing is what an answer at the end has. */
	if (q->len == 0)
		grpc_failf(x->call, FAULT_INVALID_ARGUMENT, "container \"%.76s\": a read of no bytes", q->container_id);
	else
		join(x, q->container_id, q->exec_id, stream);
}

static void on_read_stdout(void *handler, const ProtobufCMessage *request) {
	read_message(handler, (const Grpc__ReadStreamRequest *)request, STREAM_OUT);
}

static void on_read_stderr(void *handler, const ProtobufCMessage *request) {
	read_message(handler, (const Grpc__ReadStreamRequest *)request, STREAM_ERR);
}

static void on_write_stdin(void *handler, const ProtobufCMessage *request) {
	const Grpc__WriteStreamRequest *q = (const Grpc__WriteStreamRequest *)request;
	struct agent_stream_call *x = handler;
	x->writes = true;
	x->closes = q->data.len == 0;
	buffer_add(&x->data, q->data.data, q->data.len);
	if (x->data.failed)
		grpc_failf(x->call, FAULT_RESOURCE_EXHAUSTED, "no memory for %zu bytes of input", q->data.len);
	else
		join(x, q->container_id, q->exec_id, STREAM_IN);
}

static void on_close_stdin(void *handler, const ProtobufCMessage *request) {
	const Grpc__CloseStdinRequest *q = (const Grpc__CloseStdinRequest *)request;
	struct agent_stream_call *x = handler;
	x->closes = true;
	join(x, q->container_id, q->exec_id, STREAM_IN);
}

const struct grpc_handler agent_read_stdout = {
	.open = call_open,
	.message = on_read_stdout,
	.closed = call_closed,
};

const struct grpc_handler agent_read_stderr = {
	.open = call_open,
	.message = on_read_stderr,
	.closed = call_closed,
};

const struct grpc_handler agent_write_stdin = {
	.open = call_open,
	.message = on_write_stdin,
	.closed = call_closed,
};

const struct grpc_handler agent_close_stdin = {
	.open = call_open,
	.message = on_close_stdin,
	.closed = call_closed,
};
