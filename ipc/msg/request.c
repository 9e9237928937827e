/* The answering side: requests that have arrived and are not answered yet. */
#include "msg/internal.h"

#include "base/fd.h"

#include <stdarg.h>
#include <stdio.h>

void msg_close_fds(struct msg_request *r) {
	for (size_t i = 0; i < r->n_fds; i++)
		fd_replace(&r->fds[i], -1);
}

static void request_free(struct msg_request *r) {
	if (r->prev) {
		*r->prev = r->next;
		if (r->next)
			r->next->prev = r->prev;
		r->link->n_requests--;
	}
	msg_close_fds(r);
	arena_deinit(&r->arena);
	free(r);
}

static struct msg_request *request_new(struct link *l, const struct msg_row *row, const struct frame *f, int *fds,
				       size_t n_fds) {
	struct msg_request *r = calloc(1, sizeof(*r) + (n_fds + 1) * sizeof(*fds));
	if (!r)
		return NULL;
	r->link = l;
	r->row = row;
	r->id = f->id;
	r->context = (struct msg_context){ f->deadline, { f->trace[0], f->trace[1] }, f->request };
	r->again = f->flags & FRAME_AGAIN;
	r->n_fds = n_fds;
	for (size_t i = 0; i < n_fds; i++)
		r->fds[i] = take_fd(&fds[i]);
	r->fds[n_fds] = -1;
	/* Decoded, a message of tiny parts is larger than its bytes. */
	arena_init(&r->arena, (size_t)1024 * 1024 + 24 * (size_t)f->size);
	r->next = l->requests;
	r->prev = &l->requests;
	if (r->next)
		r->next->prev = &r->next;
	l->requests = r;
	l->n_requests++;
	return r;
}

struct msg_request *msg_request_own(uint16_t number, const struct msg_context *context, msg_done_fn done, void *ctx) {
	struct msg_request *r = calloc(1, sizeof(*r) + sizeof(r->fds[0]));
	if (!r)
		return NULL;
	r->row = msg_row_find(number);
	r->context = *context;
	r->own = done;
	r->own_ctx = ctx;
	r->fds[0] = -1;
	arena_init(&r->arena, r->row->limit);
	return r;
}

static const struct link_handler *handler_find(const struct link *l, uint16_t number) {
	for (const struct link_handler *h = l->options.handlers; h && h->number; h++)
		if (h->number == number)
			return h;
	return NULL;
}

void request_arrived(struct link *l, const struct msg_row *row, const struct frame *f, const uint8_t *payload, int *fds,
		     size_t n_fds) {
	struct msg_request *r = request_new(l, row, f, fds, n_fds);
	if (!r) {
		link_lost(l, false, "%s: out of memory", row->name);
		return;
	}
	const struct link_handler *h = handler_find(l, row->number);
	if (l->n_requests > OPEN_REQUESTS_MAX) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: %d requests are open already, try again later", row->name,
			  OPEN_REQUESTS_MAX);
		return;
	}
	if (!h) {
		msg_failf(r, FAULT_UNIMPLEMENTED, "%s isn't implemented", row->name);
		return;
	}
	const ProtobufCMessage *m = msg_decode(row->request, &r->arena, payload, f->size);
	if (!m) {
		request_free(r);
		link_lost(l, true, "%s: malformed payload of %u bytes", row->name, f->size);
		return;
	}
	h->handle(l->options.worker, r, m);
}

void request_cancelled(struct link *l, uint64_t id) {
	for (struct msg_request *r = l->requests; r; r = r->next)
		if (r->id == id && !r->abandoned) {
			r->abandoned = true;
			if (r->cancelled)
				r->cancelled(r, r->cancelled_ctx);
			return;
		}
}

void requests_abandon(struct link *l, bool link_dies) {
	struct msg_request *r = l->requests;
	while (r) {
		/* A cancelled callback may answer, and so free, any request. */
		if (!r->abandoned) {
			r->abandoned = true;
			if (r->cancelled)
				r->cancelled(r, r->cancelled_ctx);
			r = l->requests;
			continue;
		}
		r = r->next;
	}
	if (!link_dies)
		return;
	struct msg_request *next;
	for (r = l->requests; r; r = next) {
		next = r->next;
		r->next = NULL;
		r->prev = NULL;
		r->link = NULL;
	}
}

static void request_answer(struct msg_request *r, struct frame *f, const void *payload, const int *fds, size_t n_fds) {
	f->number = r->row->number;
	f->id = r->id;
	if (r->abandoned || !r->row->reply)
		return;
	/* A link that can't send is about to be lost; its end tells the caller. */
	int e = transport_send(r->link, f, payload, fds, n_fds);
	if (e < 0 && e != -ENOTCONN)
		link_lost(r->link, e == -EBADMSG, "reply to %s: %s", r->row->name, strerrordesc_np(-e));
}

/* The descriptors stay whose they are. */
static void own_answer(struct msg_request *r, const struct msg_answer *a) {
	r->own(r->own_ctx, a);
	if (!a->more)
		request_free(r);
}

void msg_reply(struct msg_request *r, const ProtobufCMessage *reply, const int *fds, size_t n_fds, bool more) {
	if (r->own) {
		own_answer(r, &(struct msg_answer){ .reply = reply, .more = more });
		return;
	}
	size_t size = protobuf_c_message_get_packed_size(reply);
	if (size > r->row->limit) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "the answer to %s has %zu bytes, more than its limit of %zu",
			  r->row->name, size, r->row->limit);
		return;
	}
	CLEANUP_BUFFER struct buffer payload = { 0 };
	if (!buffer_reserve(&payload, size + 1)) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "the answer to %s: out of memory", r->row->name);
		return;
	}
	protobuf_c_message_pack(reply, payload.data);
	struct frame f = { .kind = FRAME_REPLY, .size = (uint32_t)size, .flags = more ? FRAME_MORE : 0 };
	request_answer(r, &f, payload.data, fds, n_fds);
	if (!more)
		request_free(r);
}

void msg_fail(struct msg_request *r, const struct fault *fault) {
	if (r->own) {
		own_answer(r, &(struct msg_answer){ .fault = fault });
		return;
	}
	size_t size = strlen(fault->text);
	struct frame f = { .kind = FRAME_ERROR, .size = (uint32_t)size, .code = fault->code };
	request_answer(r, &f, fault->text, NULL, 0);
	request_free(r);
}

void msg_failf(struct msg_request *r, enum fault_code code, const char *format, ...) {
	char text[FAULT_TEXT_MAX];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	struct fault fault;
	fault_set(&fault, code, "%s", text);
	msg_fail(r, &fault);
}
