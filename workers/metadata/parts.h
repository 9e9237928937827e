/* Lists that go out in parts: as many items in one reply as keep it small. */
#pragma once

#include "msg/msg.h"

/* How many of the n items (pointers to messages), at least one. */
size_t parts_next(void *items, size_t n);

/* Sends a list whose replies have only one field, the items: all of them once,
 * in order, over the STREAM row name. An empty list is one empty reply. */
#define PARTS_REPLY(name, r, type, INIT, field, items, n)                    \
	do {                                                                 \
		size_t at_ = 0, n_ = (n);                                    \
		for (;;) {                                                   \
			type part_ = INIT;                                   \
			part_.field = (items) ? (items) + at_ : NULL;        \
			part_.n_##field = parts_next(part_.field, n_ - at_); \
			at_ += part_.n_##field;                              \
			if (at_ == n_) {                                     \
				name##_reply((r), &part_, NULL, 0);          \
				break;                                       \
			}                                                    \
			name##_reply_part((r), &part_);                      \
		}                                                            \
	} while (0)
