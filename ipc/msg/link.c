/*
 * Links: what arrives is checked against its row and goes to a handler or to
 * the call that waits for it. Calls and requests live on when the transport
 * dies: calls of RESEND rows are sent again to the successor, the others fail
 * with UNAVAILABLE; requests are abandoned, their answers go nowhere.
 */
#include "msg/internal.h"

#include "base/fd.h"

#include <stdarg.h>
#include <stdio.h>

int link_new(const struct link_options *options, struct link **ret_link) {
	struct link *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->options = *options;
	l->socket = -1;
	l->ends = (struct link_ends){ -1, -1, -1, -1, -1 };
	list_init(&l->backlog);
	list_init(&l->order);
	list_init(&l->failed);
	*ret_link = l;
	return 0;
}

void link_free(struct link *l) {
	if (!l)
		return;
	transport_close(l);
	requests_abandon(l, true);
	calls_free(l);
	l->gone = true;
	link_collect(l);
}

/* A callback may free the link whose frame it handles: the memory goes when
 * the drain that called it is through. */
void link_collect(struct link *l) {
	if (!l->gone || l->draining)
		return;
	buffer_deinit(&l->record);
	free(l);
}

bool link_attached(const struct link *l) {
	return l->attached;
}

void *link_worker(struct link *l) {
	return l->options.worker;
}

const char *link_endpoint(const struct link *l) {
	return l->options.endpoint ? l->options.endpoint : "";
}

/* Ends the old transport, if any, on the way to a new one or to none. */
void link_detach(struct link *l) {
	transport_close(l);
	requests_abandon(l, false);
	calls_lost(l);
}

static int attach(struct link *l) {
	int r = transport_start(l);
	if (r < 0) {
		transport_close(l);
		return r;
	}
	calls_send(l);
	return 0;
}

int link_attach_ring(struct link *l, struct link_ends *ends) {
	link_detach(l);
	l->ends = *ends;
	*ends = (struct link_ends){ -1, -1, -1, -1, -1 };
	l->by_ring = true;
	int r = ring_init(&l->ring, l->ends.tx_ring, l->ends.rx_ring);
	fd_replace(&l->ends.tx_ring, -1);
	fd_replace(&l->ends.rx_ring, -1);
	if (r < 0) {
		link_ends_close(&l->ends);
		return r;
	}
	return attach(l);
}

int link_attach_socket(struct link *l, int fd) {
	link_detach(l);
	l->by_ring = false;
	l->socket = fd;
	return attach(l);
}

void link_lost(struct link *l, bool violation, const char *format, ...) {
	char text[256];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	link_detach(l);
	if (l->options.on_down)
		l->options.on_down(l->options.worker, l, violation, text);
}

void link_receive(struct link *l, const struct frame *f, const uint8_t *payload, int *fds, size_t n_fds) {
	const struct msg_row *row = msg_row_find(f->number);
	bool asks = f->kind == FRAME_REQUEST || f->kind == FRAME_CANCEL;
	enum role from = asks ? l->options.peer : l->options.self;
	enum role to = asks ? l->options.self : l->options.peer;
	bool fds_good = f->kind == FRAME_REQUEST ? msg_row_fds(row, n_fds)
						 : n_fds == (f->kind == FRAME_REPLY ? row->reply_fds : 0);
	if (row->from != from || row->to != to || !fds_good) {
		link_lost(l, true, "the %s worker may not send %s (kind %u, %zu descriptors)",
			  role_name(l->options.peer), row->name, f->kind, n_fds);
		return;
	}
	if (asks && row->access > l->options.access) {
		link_lost(l, true, "endpoint \"%s\" %s and may not send %s", link_endpoint(l),
			  link_access_phrase(l->options.access), row->name);
		return;
	}
	switch (f->kind) {
	case FRAME_REQUEST:
		request_arrived(l, row, f, payload, fds, n_fds);
		break;
	case FRAME_CANCEL:
		request_cancelled(l, f->id);
		break;
	case FRAME_REPLY:
	case FRAME_ERROR:
		call_answered(l, f, payload, fds, n_fds);
		break;
	default:
		link_lost(l, true, "%s: frame of kind %u", row->name, f->kind);
	}
}
