/* Processes of containers: they are added, signalled and waited for; and what
 * all files of the dialect share. */
#include "workers/api/agent/agent.h"

#include "workers/api/task_request.h"

#include <signal.h>
#include <string.h>

Bulkhead__CtaskKey *agent_key(struct grpc_translation *t, char *container_id, char *exec_id) {
	Bulkhead__CtaskKey *k = ARENA_NEW(t->arena, Bulkhead__CtaskKey, BULKHEAD__CTASK_KEY__INIT);
	if (k) {
		k->namespace_ = (char *)AGENT_NAMESPACE;
		k->container_id = container_id;
		k->exec_id = strcmp(exec_id, container_id) == 0 ? (char *)"" : exec_id;
	}
	return k;
}

Bulkhead__Stdio *agent_stdio(struct arena *a, const Grpc__Process *p) {
	Bulkhead__Stdio *s = task_stdio(a, (char *)"", (char *)"", (char *)"", p->terminal);
	if (s && p->consolesize) {
		s->width = p->consolesize->width;
		s->height = p->consolesize->height;
	}
	if (s)
		s->held = true;
	return s;
}

int agent_ports_check(const uint32_t ports[3], const char *container_id, struct fault *fault) {
	if (!ports[0] && !ports[1] && !ports[2])
		return 0;
	return fault_set(fault, FAULT_UNIMPLEMENTED,
			 "container \"%.76s\": streams have no ports of their own here: use ReadStdout, ReadStderr "
			 "and WriteStdin",
			 container_id);
}

void agent_unknown_container(struct fault *fault) {
	if (fault->code == FAULT_NOT_FOUND)
		fault->code = FAULT_INVALID_ARGUMENT;
}

/* --- requests --------------------------------------------------------------- */

static int exec_check(const Grpc__ExecProcessRequest *q, struct fault *fault) {
	const uint32_t ports[] = { q->stdin_port, q->stdout_port, q->stderr_port };
	if (!q->process)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "container \"%.76s\": no process to add is given",
				 q->container_id);
	if (!*q->exec_id || strcmp(q->exec_id, q->container_id) == 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "container \"%.76s\": \"%.76s\" names its first process, not one to add",
				 q->container_id, q->exec_id);
	return agent_ports_check(ports, q->container_id, fault);
}

static int exec(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const Grpc__ExecProcessRequest *q = (const Grpc__ExecProcessRequest *)request;
	int r = exec_check(q, fault);
	if (r < 0)
		return r;
	Bulkhead__CtaskExecRequest *m =
	    ARENA_NEW(t->arena, Bulkhead__CtaskExecRequest, BULKHEAD__CTASK_EXEC_REQUEST__INIT);
	if (!m || !(m->key = agent_key(t, q->container_id, q->exec_id)) ||
	    !(m->stdio = agent_stdio(t->arena, q->process)))
		return grpc_no_memory(fault);
	m->process = q->process;
	*ret_internal = &m->base;
	return 0;
}

static int wait(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const Grpc__WaitProcessRequest *q = (const Grpc__WaitProcessRequest *)request;
	return task_key_request(agent_key(t, q->container_id, q->exec_id), ret_internal, fault);
}

/* SIGKILL without an exec_id is for all of the container's processes. */
static int signal_process(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			  struct fault *fault) {
	const Grpc__SignalProcessRequest *q = (const Grpc__SignalProcessRequest *)request;
	bool all = *q->exec_id == '\0' && q->signal == SIGKILL;
	int r = task_kill_request(t->arena, agent_key(t, q->container_id, q->exec_id), q->signal, all, true,
				  ret_internal, fault);
	if (r == 0)
		((Bulkhead__CtaskKillRequest *)*ret_internal)->term_kills = true;
	return r;
}

static int resize(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const Grpc__TtyWinResizeRequest *q = (const Grpc__TtyWinResizeRequest *)request;
	return task_resize_request(t->arena, agent_key(t, q->container_id, q->exec_id), q->column, q->row, ret_internal,
				   fault);
}

/* --- replies ---------------------------------------------------------------- */

static int wait_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	Grpc__WaitProcessResponse *a = (Grpc__WaitProcessResponse *)*reply;
	a->status = (int32_t)((const Bulkhead__CtaskExit *)internal)->exit_status;
	return 0;
}

static void no_terminal(struct fault *fault) {
	if (fault->code == FAULT_FAILED_PRECONDITION)
		fault->code = FAULT_UNAVAILABLE;
}

const struct grpc_translator agent_exec_process = { .request = exec };
const struct grpc_translator agent_signal_process = { .request = signal_process };
const struct grpc_translator agent_wait_process = { .request = wait, .reply = wait_reply };
const struct grpc_translator agent_resize = { .request = resize, .failure = no_terminal };
