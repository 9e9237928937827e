/*
 * One typed face per row of messages.def. For the row layer_fetch:
 *
 *   MSG_layer_fetch is its number
 *   struct msg_call *layer_fetch_send(struct link *, const struct msg_context *,
 *           const Bulkhead__LayerFetchRequest *, const int *fds, size_t n_fds,
 *           msg_done_fn done, void *ctx);
 *   void layer_fetch_reply(struct msg_request *, const Bulkhead__LayerFetchReply *,
 *           const int *fds, size_t n_fds);
 *   const Bulkhead__LayerFetchReply *layer_fetch_answer(const struct msg_answer *);
 *   HANDLER_DECLARE(struct image_worker, layer_fetch) is the prototype
 *   void on_layer_fetch(struct image_worker *, struct msg_request *,
 *           const Bulkhead__LayerFetchRequest *);
 *   HANDLER_DEFINE(struct image_worker, layer_fetch), then HANDLER(layer_fetch)
 *   in the table of handlers, calls it; msg/receivers.def does that for all rows
 *   that a worker receives
 *
 * STREAM rows have layer_fetch_reply_part too, and a request of theirs ends
 * with the reply function.
 */
#pragma once

#include "cri/runtime.pb-c.h"
#include "internal/admin.pb-c.h"
#include "internal/common.pb-c.h"
#include "internal/csandbox.pb-c.h"
#include "internal/ctask.pb-c.h"
#include "internal/event.pb-c.h"
#include "internal/guest.pb-c.h"
#include "internal/image.pb-c.h"
#include "internal/keeper.pb-c.h"
#include "internal/object.pb-c.h"
#include "internal/snapshot.pb-c.h"
#include "internal/stream.pb-c.h"
#include "internal/systemd.pb-c.h"
#include "internal/task.pb-c.h"
#include "kata/agent.pb-c.h"
#include "msg/msg.h"

#define B(t) Bulkhead__##t
#define CRI(t) Runtime__V1__##t
#define ADMIN(t) Bulkhead__V1__##t
#define KATA(t) Grpc__##t
#define TYPES(t) Types__##t
#define GOOGLE(t) Google__Protobuf__##t
#define NONE Bulkhead__Empty

enum msg_number {
#define MSG(name, number, ...) MSG_##name = number,
#include "msg/messages.def"
#undef MSG
};

#define MSG(name, num, from, to, req, rep, limit, rfds, pfds, flags)                                                \
	typedef req name##_request_t;                                                                               \
	typedef rep name##_reply_t;                                                                                 \
	static inline struct msg_call *name##_send(struct link *l, const struct msg_context *context, const req *m, \
						   const int *fds, size_t n_fds, msg_done_fn done, void *ctx) {     \
		return msg_send(l, num, context, &m->base, fds, n_fds, done, ctx);                                  \
	}                                                                                                           \
	static inline void name##_reply(struct msg_request *r, const rep *m, const int *fds, size_t n_fds) {        \
		msg_reply(r, &m->base, fds, n_fds, false);                                                          \
	}                                                                                                           \
	static inline void name##_reply_part(struct msg_request *r, const rep *m) {                                 \
		msg_reply(r, &m->base, NULL, 0, true);                                                              \
	}                                                                                                           \
	static inline const rep *name##_answer(const struct msg_answer *a) {                                        \
		return (const rep *)a->reply;                                                                       \
	}
#include "msg/messages.def"
#undef MSG

#define HANDLER_DECLARE(worker_type, name) \
	void on_##name(worker_type *worker, struct msg_request *r, const name##_request_t *m);
/* In a worker's .c file: the trampoline from the untyped table to on_<name>. */
#define HANDLER_DEFINE(worker_type, name)                                                           \
	static void handle_##name(void *worker, struct msg_request *r, const ProtobufCMessage *m) { \
		on_##name((worker_type *)worker, r, (const name##_request_t *)m);                   \
	}
#define HANDLER(name) \
	{ MSG_##name, handle_##name }

#undef B
#undef CRI
#undef ADMIN
#undef KATA
#undef TYPES
#undef GOOGLE
#undef NONE
