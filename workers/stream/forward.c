/*
 * Sessions of forwarded ports: any number of connections into a pod, each two
 * streams, one for bytes and one for a sentence should it fail. With SPDY the
 * client opens them as it needs them and pairs them by a request id; the plain
 * WebSocket protocols have one pair per port of the request, channels 2i and
 * 2i+1, each beginning with the port's number.
 */
#include "workers/stream/stream.h"

#include "base/clock.h"
#include "base/fd.h"

#include <stdio.h>
#include <string.h>

#define CONNECT_TIME (30 * NS_PER_SEC)
#define PORTS_MAX 100

struct forward {
	struct conn *conn;
	struct ticket *ticket;
	const Bulkhead__StreamOpenRequest *what;
	struct list pairs;
};

struct pair {
	struct list node;
	struct forward *forward;
	char request[sizeof(((struct mux_stream *)0)->request)];
	uint16_t port;
	bool has_data, has_error;
	uint32_t data_id, error_id;
	struct msg_call *call;
	bool opened;
	bool client_ended, pod_ended;
	struct flow flow;
};

static void pair_free(struct pair *p) {
	msg_cancel(p->call);
	conn_forget(p->forward->conn, &p->flow);
	flow_deinit(&p->flow);
	list_unlink(&p->node);
	free(p);
}

/* --- the end of a pair --- */

static void error_end(struct pair *p, const char *text) {
	if (p->has_error)
		conn_send(p->forward->conn, p->error_id, text, strlen(text), true);
	p->has_error = false;
}

/* WebSocket's channels can't end by themselves: the connection does, with the
 * last of them. */
static void pair_over(struct pair *p) {
	struct forward *f = p->forward;
	pair_free(p);
	if (list_empty(&f->pairs) && !f->conn->spdy)
		conn_finish(f->conn);
}

static void pair_failed(struct pair *p, const char *text) {
	error_end(p, text);
	if (p->has_data)
		conn_reset(p->forward->conn, p->data_id);
	pair_over(p);
}

/* --- bytes --- */

static size_t flow_room(void *ctx, struct flow *f) {
	struct pair *p = ctx;
	return conn_room(p->forward->conn, p->data_id);
}

static void flow_data(void *ctx, struct flow *f, const uint8_t *data, size_t size) {
	struct pair *p = ctx;
	conn_send(p->forward->conn, p->data_id, data, size, false);
}

static void pair_over_later(void *ctx) {
	struct pair *p = ctx;
	/* The source is the flow's own and ends with it. */
	pair_over(p);
}

static void flow_ended(void *ctx, struct flow *f) {
	struct pair *p = ctx;
	p->pod_ended = true;
	conn_send(p->forward->conn, p->data_id, NULL, 0, true);
	/* Nothing can go wrong any more, and clients wait for that. */
	error_end(p, "");
	/* The flow's own code is on the stack. */
	bool over = p->client_ended || !p->forward->conn->spdy;
	loop_source_free_p(&f->again);
	if (over && loop_defer(f->loop, pair_over_later, p, &f->again) < 0)
		conn_fail(p->forward->conn, "out of memory");
}

static void flow_written(void *ctx, struct flow *f, size_t size) {
	struct pair *p = ctx;
	conn_consumed(p->forward->conn, p->data_id, size);
	conn_balance(p->forward->conn, f);
}

static const struct flow_events flow_events = {
	.room = flow_room,
	.data = flow_data,
	.ended = flow_ended,
	.written = flow_written,
};

static void client_end(struct pair *p) {
	p->client_ended = true;
	if (p->opened && p->pod_ended)
		pair_over(p);
	else
		flow_finish(&p->flow);
}

/* --- connecting --- */

static void port_opened(void *ctx, const struct msg_answer *a) {
	struct pair *p = ctx;
	p->call = NULL;
	if (a->fault) {
		pair_failed(p, a->fault->text);
		return;
	}
	p->opened = true;
	if (flow_open(&p->flow, take_fd(&a->fds[0]), true, true, true) < 0) {
		pair_failed(p, "out of memory for the connection");
		return;
	}
	flow_pull(&p->flow);
}

static void pair_connect(struct pair *p) {
	struct forward *f = p->forward;
	struct msg_context context = { .deadline = clock_mono() + CONNECT_TIME };
	Bulkhead__PortOpenRequest m = BULKHEAD__PORT_OPEN_REQUEST__INIT;
	m.sandbox_id = f->what->sandbox_id;
	m.port = p->port;
	p->call = session_port_send(f->conn->server->metadata, &context, &m, NULL, 0, port_opened, p);
}

/* A request that names ports means these only. */
static bool port_allowed(const struct forward *f, uint16_t port) {
	for (size_t i = 0; i < f->what->n_ports; i++)
		if (f->what->ports[i] == port)
			return true;
	return f->what->n_ports == 0;
}

static struct pair *pair_new(struct forward *f, const char *request, uint16_t port) {
	struct pair *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->forward = f;
	p->port = port;
	flow_init(&p->flow, f->conn->server->loop, &flow_events, p);
	snprintf(p->request, sizeof(p->request), "%s", request);
	list_append(&f->pairs, &p->node);
	return p;
}

static struct pair *pair_by_request(struct forward *f, const char *request) {
	list_for_each (n, &f->pairs) {
		struct pair *p = list_entry(n, struct pair, node);
		if (strcmp(p->request, request) == 0)
			return p;
	}
	return NULL;
}

static bool port_parse(const char *text, uint16_t *ret_port) {
	char *end;
	unsigned long n = text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
	if (n == 0 || n > 65535 || *end)
		return false;
	*ret_port = (uint16_t)n;
	return true;
}

static bool forward_opened(void *session, uint32_t id, const struct mux_stream *m) {
	struct forward *f = session;
	struct mux_stream named = *m;
	bool data = strcmp(m->type, "data") == 0;
	uint16_t port;
	if ((!data && strcmp(m->type, "error") != 0) || !port_parse(m->port, &port) || !port_allowed(f, port))
		return false;
	/* Old clients give no request id and open the error stream first. */
	if (!named.request[0])
		snprintf(named.request, sizeof(named.request), "#%u", data ? id - 2 : id);
	struct pair *p = pair_by_request(f, named.request);
	if (!p)
		p = pair_new(f, named.request, port);
	if (!p || (data ? p->has_data : p->has_error) || p->opened || p->call || p->port != port)
		return false;
	if (data) {
		p->has_data = true;
		p->data_id = id;
	} else {
		p->has_error = true;
		p->error_id = id;
	}
	if (p->has_data && p->has_error)
		pair_connect(p);
	return true;
}

/* --- what the client sends --- */

static struct pair *pair_by_data(struct forward *f, uint32_t id) {
	list_for_each (n, &f->pairs) {
		struct pair *p = list_entry(n, struct pair, node);
		if (p->has_data && p->data_id == id)
			return p;
	}
	return NULL;
}

static void forward_data(void *session, uint32_t id, const uint8_t *data, size_t size) {
	struct forward *f = session;
	struct pair *p = pair_by_data(f, id);
	if (!p) {
		conn_consumed(f->conn, id, size);
	} else {
		flow_write(&p->flow, data, size);
		conn_balance(f->conn, &p->flow);
	}
}

static void forward_ended(void *session, uint32_t id) {
	struct pair *p = pair_by_data(session, id);
	if (p)
		client_end(p);
}

static void forward_reset(void *session, uint32_t id) {
	struct forward *f = session;
	struct pair *p = pair_by_data(f, id);
	if (p) {
		p->has_data = false;
		error_end(p, "");
		pair_over(p);
		return;
	}
	list_for_each (n, &f->pairs) {
		p = list_entry(n, struct pair, node);
		if (p->has_error && p->error_id == id)
			p->has_error = false;
	}
}

static void forward_writable(void *session) {
	struct forward *f = session;
	/* No pair goes while one reads: that is put off. */
	list_for_each (n, &f->pairs) {
		struct pair *p = list_entry(n, struct pair, node);
		if (p->opened && !p->pod_ended)
			flow_pull(&p->flow);
	}
}

/* --- life --- */

static void forward_free(void *session) {
	struct forward *f = session;
	list_for_each_safe (n, &f->pairs)
		pair_free(list_entry(n, struct pair, node));
	ticket_free(f->ticket);
	free(f);
}

static const struct session_class forward_class = {
	.mux = { .opened = forward_opened, .data = forward_data, .ended = forward_ended, .reset = forward_reset },
	.writable = forward_writable,
	.free = forward_free,
};

int forward_new(struct conn *c, struct ticket *t, const struct upgrade *u) {
	struct forward *f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->conn = c;
	f->ticket = t;
	f->what = t->what;
	list_init(&f->pairs);
	c->class = &forward_class;
	c->session = f;
	return 0;
}

static void channel_begin(struct forward *f, size_t i) {
	uint16_t port = (uint16_t)f->what->ports[i];
	char request[16];
	snprintf(request, sizeof(request), "%zu", i);
	struct pair *p = pair_new(f, request, port);
	if (!p) {
		conn_fail(f->conn, "out of memory");
		return;
	}
	p->has_data = p->has_error = true;
	p->data_id = (uint32_t)(2 * i);
	p->error_id = (uint32_t)(2 * i + 1);
	uint8_t number[2] = { (uint8_t)port, (uint8_t)(port >> 8) };
	conn_send(f->conn, p->data_id, number, sizeof(number), false);
	conn_send(f->conn, p->error_id, number, sizeof(number), false);
	pair_connect(p);
}

void forward_begin(struct conn *c) {
	struct forward *f = c->session;
	if (c->spdy)
		return;
	if (f->what->n_ports == 0 || f->what->n_ports > PORTS_MAX) {
		conn_finish(c);
		return;
	}
	for (size_t i = 0; i < f->what->n_ports && conn_open(c); i++)
		channel_begin(f, i);
}
