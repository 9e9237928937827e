/*
 * Exec, Attach and PortForward: checked here, opened at the stream worker,
 * which comes back for the descriptors when the client has connected. What it
 * asks then is checked again: between the two the container may have ended.
 */
#include "workers/metadata/handlers.h"

#include "msg/relay.h"

/* --- checks --- */

static int find_running(struct metadata *m, const char *id, struct container **ret, struct fault *fault) {
	int r = model_find_container(&m->model, id, ret, fault);
	if (r == 0 && (*ret)->record->phase != BULKHEAD__CONTAINER_PHASE__CONTAINER_UP)
		r = fault_set(fault, FAULT_FAILED_PRECONDITION, "container \"%s\" isn't running", (*ret)->record->id);
	return r;
}

static int find_up(struct metadata *m, const char *id, struct sandbox **ret, struct fault *fault) {
	int r = model_find_sandbox(&m->model, id, ret, fault);
	if (r == 0 && (*ret)->record->phase != BULKHEAD__SANDBOX_PHASE__SANDBOX_UP)
		r = fault_set(fault, FAULT_FAILED_PRECONDITION, "pod sandbox \"%s\" isn't running", (*ret)->record->id);
	return r;
}

static int streams_check(bool tty, bool in, bool out, bool err, struct fault *fault) {
	if (!in && !out && !err)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "one of stdin, stdout and stderr must be asked for");
	if (tty && err)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "a terminal has no stderr of its own: ask for stdout");
	return 0;
}

/* --- opening a session --- */

struct opening {
	struct msg_request *request;
	const char *what;
	void (*reply)(struct msg_request *r, const char *url);
};

static void open_done(void *ctx, const struct msg_answer *a) {
	struct opening *o = ctx;
	if (!a->fault) {
		o->reply(o->request, stream_open_answer(a)->url);
		return;
	}
	struct fault fault = *a->fault;
	fault_prefix(&fault, 0, "%s", o->what);
	msg_fail(o->request, &fault);
}

static void open_session(struct metadata *m, struct msg_request *r, const char *what,
			 const Bulkhead__StreamOpenRequest *s, void (*reply)(struct msg_request *r, const char *url)) {
	struct opening *o = arena_zalloc(&r->arena, sizeof(*o));
	if (!o) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", what);
		return;
	}
	*o = (struct opening){ .request = r, .what = what, .reply = reply };
	stream_open_send(m->stream, &r->context, s, NULL, 0, open_done, o);
}

static void refuse(struct msg_request *r, const char *what, struct fault *fault) {
	fault_prefix(fault, 0, "%s", what);
	msg_fail(r, fault);
}

static void exec_reply(struct msg_request *r, const char *url) {
	Runtime__V1__ExecResponse a = RUNTIME__V1__EXEC_RESPONSE__INIT;
	a.url = (char *)url;
	cri_exec_reply(r, &a, NULL, 0);
}

void cri_exec(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__ExecRequest *q = (const Runtime__V1__ExecRequest *)request;
	static const char what[] = "execute in container";
	struct container *c;
	struct fault fault;
	int e = find_running(m, q->container_id, &c, &fault);
	if (e == 0 && q->n_cmd == 0)
		e = fault_set(&fault, FAULT_INVALID_ARGUMENT, "the command is empty");
	if (e == 0)
		e = streams_check(q->tty, q->stdin, q->stdout, q->stderr, &fault);
	if (e < 0) {
		refuse(r, what, &fault);
		return;
	}
	Bulkhead__StreamOpenRequest s = BULKHEAD__STREAM_OPEN_REQUEST__INIT;
	s.kind = BULKHEAD__STREAM_KIND__STREAM_EXEC;
	s.sandbox_id = c->record->sandbox_id;
	s.container_id = c->record->id;
	s.args = q->cmd;
	s.n_args = q->n_cmd;
	s.tty = q->tty;
	s.stdin = q->stdin;
	s.stdout = q->stdout;
	s.stderr = q->stderr;
	open_session(m, r, what, &s, exec_reply);
}

static void attach_reply(struct msg_request *r, const char *url) {
	Runtime__V1__AttachResponse a = RUNTIME__V1__ATTACH_RESPONSE__INIT;
	a.url = (char *)url;
	cri_attach_reply(r, &a, NULL, 0);
}

void cri_attach(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__AttachRequest *q = (const Runtime__V1__AttachRequest *)request;
	static const char what[] = "attach to container";
	struct container *c;
	struct fault fault;
	int e = find_running(m, q->container_id, &c, &fault);
	if (e == 0)
		e = streams_check(q->tty, q->stdin, q->stdout, q->stderr, &fault);
	if (e < 0) {
		refuse(r, what, &fault);
		return;
	}
	Bulkhead__StreamOpenRequest s = BULKHEAD__STREAM_OPEN_REQUEST__INIT;
	s.kind = BULKHEAD__STREAM_KIND__STREAM_ATTACH;
	s.sandbox_id = c->record->sandbox_id;
	s.container_id = c->record->id;
	s.tty = q->tty;
	s.stdin = q->stdin;
	s.stdout = q->stdout;
	s.stderr = q->stderr;
	open_session(m, r, what, &s, attach_reply);
}

static void port_forward_reply(struct msg_request *r, const char *url) {
	Runtime__V1__PortForwardResponse a = RUNTIME__V1__PORT_FORWARD_RESPONSE__INIT;
	a.url = (char *)url;
	cri_port_forward_reply(r, &a, NULL, 0);
}

void cri_port_forward(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__PortForwardRequest *q = (const Runtime__V1__PortForwardRequest *)request;
	static const char what[] = "forward ports";
	struct sandbox *s;
	struct fault fault;
	int e = find_up(m, q->pod_sandbox_id, &s, &fault);
	for (size_t i = 0; e == 0 && i < q->n_port; i++)
		if (q->port[i] < 1 || q->port[i] > 65535)
			e = fault_set(&fault, FAULT_INVALID_ARGUMENT, "%d is no port", q->port[i]);
	if (e < 0) {
		refuse(r, what, &fault);
		return;
	}
	Bulkhead__StreamOpenRequest o = BULKHEAD__STREAM_OPEN_REQUEST__INIT;
	o.kind = BULKHEAD__STREAM_KIND__STREAM_PORT_FORWARD;
	o.sandbox_id = s->record->id;
	o.ports = q->port;
	o.n_ports = q->n_port;
	open_session(m, r, what, &o, port_forward_reply);
}

/* --- what the stream worker asks for --- */

/* The sandbox is ours to say, not the asker's. */
static const Bulkhead__ContainerRecord *record_of(struct metadata *m, struct msg_request *r, const char *container) {
	struct container *c;
	struct fault fault;
	if (find_running(m, container, &c, &fault) == 0)
		return c->record;
	msg_fail(r, &fault);
	return NULL;
}

void session_exec(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	Bulkhead__ExecOpenRequest q = *(const Bulkhead__ExecOpenRequest *)request;
	const Bulkhead__ContainerRecord *c = record_of(m, r, q.container_id);
	struct msg_relay *x = c ? msg_relay_new(r, 3) : NULL;
	if (!x)
		return;
	q.sandbox_id = c->sandbox_id;
	q.container_id = c->id;
	x->call = exec_open_send(m->task, &r->context, &q, NULL, 0, msg_relay_done, x);
}

/* Without a look at the container: the command may outlive it by a moment. */
void session_exec_wait(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	struct msg_relay *x = msg_relay_new(r, 0);
	if (x)
		x->call = exec_wait_send(m->task, &r->context, (const Bulkhead__ExecWaitRequest *)request, NULL, 0,
					 msg_relay_done, x);
}

/* The same from the API worker, which knows the container only. */
void call_exec_wait(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	Bulkhead__ExecWaitRequest q = *(const Bulkhead__ExecWaitRequest *)request;
	struct container *c;
	struct fault fault;
	if (model_find_container(&m->model, q.container_id, &c, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	q.sandbox_id = c->record->sandbox_id;
	q.container_id = c->record->id;
	session_exec_wait(m, r, &q.base);
}

void session_attach(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	Bulkhead__AttachOpenRequest q = *(const Bulkhead__AttachOpenRequest *)request;
	const Bulkhead__ContainerRecord *c = record_of(m, r, q.container_id);
	struct msg_relay *x = c ? msg_relay_new(r, 3) : NULL;
	if (!x)
		return;
	q.sandbox_id = c->sandbox_id;
	q.container_id = c->id;
	x->call = attach_open_send(m->task, &r->context, &q, NULL, 0, msg_relay_done, x);
}

void session_port(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__PortOpenRequest *q = (const Bulkhead__PortOpenRequest *)request;
	struct sandbox *s;
	struct fault fault;
	if (find_up(m, q->sandbox_id, &s, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	struct msg_relay *x = msg_relay_new(r, 1);
	if (x)
		x->call = port_open_send(m->task, &r->context, q, NULL, 0, msg_relay_done, x);
}
