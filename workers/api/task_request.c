#include "workers/api/task_request.h"

int task_key_request(Bulkhead__CtaskKey *key, ProtobufCMessage **ret_internal, struct fault *fault) {
	if (!key)
		return grpc_no_memory(fault);
	*ret_internal = &key->base;
	return 0;
}

int task_freeze_request(struct arena *a, Bulkhead__CtaskKey *key, bool frozen, ProtobufCMessage **ret_internal,
			struct fault *fault) {
	Bulkhead__CtaskFreezeRequest *q =
	    ARENA_NEW(a, Bulkhead__CtaskFreezeRequest, BULKHEAD__CTASK_FREEZE_REQUEST__INIT);
	if (!q || !key)
		return grpc_no_memory(fault);
	q->key = key;
	q->frozen = frozen;
	*ret_internal = &q->base;
	return 0;
}

int task_resize_request(struct arena *a, Bulkhead__CtaskKey *key, uint32_t width, uint32_t height,
			ProtobufCMessage **ret_internal, struct fault *fault) {
	Bulkhead__CtaskResizeRequest *q =
	    ARENA_NEW(a, Bulkhead__CtaskResizeRequest, BULKHEAD__CTASK_RESIZE_REQUEST__INIT);
	if (!q || !key)
		return grpc_no_memory(fault);
	q->key = key;
	q->width = width;
	q->height = height;
	*ret_internal = &q->base;
	return 0;
}

int task_kill_request(struct arena *a, Bulkhead__CtaskKey *key, uint32_t signal, bool all, bool late,
		      ProtobufCMessage **ret_internal, struct fault *fault) {
	Bulkhead__CtaskKillRequest *q = ARENA_NEW(a, Bulkhead__CtaskKillRequest, BULKHEAD__CTASK_KILL_REQUEST__INIT);
	if (!q || !key)
		return grpc_no_memory(fault);
	if (signal < 1 || signal > 64)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "kill \"%.76s\": there is no signal %u",
				 key->container_id, signal);
	q->key = key;
	q->signal = signal;
	q->all = all;
	q->late = late;
	*ret_internal = &q->base;
	return 0;
}

int task_checkpoint_request(struct arena *a, Bulkhead__CtaskKey *key, const struct task_checkpoint *wants,
			    ProtobufCMessage **ret_internal, struct fault *fault) {
	Bulkhead__CtaskCheckpointRequest *q =
	    ARENA_NEW(a, Bulkhead__CtaskCheckpointRequest, BULKHEAD__CTASK_CHECKPOINT_REQUEST__INIT);
	if (!q || !key)
		return grpc_no_memory(fault);
	if (wants->not_served)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "checkpoint task \"%.76s\": %s can't be asked for here",
				 key->container_id, wants->not_served);
	q->key = key;
	q->exit = wants->exit;
	q->config_type = wants->config_type;
	q->config_bare = wants->config_bare;
	q->held_by = wants->lease;
	*ret_internal = &q->base;
	return 0;
}

Bulkhead__Stdio *task_stdio(struct arena *a, char *in, char *out, char *err, bool terminal) {
	Bulkhead__Stdio *s = ARENA_NEW(a, Bulkhead__Stdio, BULKHEAD__STDIO__INIT);
	if (s) {
		s->stdin = in;
		s->stdout = out;
		s->stderr = err;
		s->terminal = terminal;
	}
	return s;
}
