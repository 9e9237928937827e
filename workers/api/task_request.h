/*
 * Requests of the rows ctask_*, as all dialects with tasks make them. Each
 * dialect says for itself how its clients name a process.
 */
#pragma once

#include "workers/api/grpc.h"

#include "msg/typed.h"

/* Of a process; key points to where the dialect's key function made it, NULL
 * when that was out of memory. In *ret_internal the message of the row. */
int task_key_request(Bulkhead__CtaskKey *key, ProtobufCMessage **ret_internal, struct fault *fault);
int task_freeze_request(struct arena *a, Bulkhead__CtaskKey *key, bool frozen, ProtobufCMessage **ret_internal,
			struct fault *fault);
int task_resize_request(struct arena *a, Bulkhead__CtaskKey *key, uint32_t width, uint32_t height,
			ProtobufCMessage **ret_internal, struct fault *fault);
/* all: of the container's processes. late: what has ended is no error. A number
 * that is no signal is INVALID_ARGUMENT. */
int task_kill_request(struct arena *a, Bulkhead__CtaskKey *key, uint32_t signal, bool all, bool late,
		      ProtobufCMessage **ret_internal, struct fault *fault);
/* What a client wants of a checkpoint; what is not_served names one that it also wants. */
struct task_checkpoint {
	bool exit; /* end the task then */
	char *config_type;
	bool config_bare; /* the specification without its type */
	char *lease;
	const char *not_served; /* NULL: nothing */
};
int task_checkpoint_request(struct arena *a, Bulkhead__CtaskKey *key, const struct task_checkpoint *wants,
			    ProtobufCMessage **ret_internal, struct fault *fault);
/* Names of streams, the client's own; NULL when out of memory. */
Bulkhead__Stdio *task_stdio(struct arena *a, char *in, char *out, char *err, bool terminal);
