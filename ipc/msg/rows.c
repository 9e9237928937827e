/* The table of messages.def as data. */
#include "msg/typed.h"

#include "descriptors.h"

enum { RESEND = 1, STREAM = 2, READ = 4, METRICS = 8, MORE_FDS = 16, WAITS = 32 };

#define LEAST_ACCESS(from, flags)              \
	((from) != ROLE_API ? ACCESS_NONE      \
	 : (flags)&METRICS  ? ACCESS_METRICS   \
	 : (flags)&READ	    ? ACCESS_READ_ONLY \
			    : ACCESS_FULL)

#define B(t) DESCRIPTOR_Bulkhead__##t
#define CRI(t) DESCRIPTOR_Runtime__V1__##t
#define ADMIN(t) DESCRIPTOR_Bulkhead__V1__##t
#define KATA(t) DESCRIPTOR_Grpc__##t
#define TYPES(t) DESCRIPTOR_Types__##t
#define GOOGLE(t) DESCRIPTOR_Google__Protobuf__##t
#define NONE NULL

const struct msg_row msg_rows[] = {
#define MSG(n, num, f, t, req, rep, lim, rfds, pfds, flags) \
	{                                                   \
		.name = #n,                                 \
		.number = num,                              \
		.from = ROLE_##f,                           \
		.to = ROLE_##t,                             \
		.request = req,                             \
		.reply = rep,                               \
		.limit = lim,                               \
		.request_fds = rfds,                        \
		.reply_fds = pfds,                          \
		.resend = ((flags)&RESEND) != 0,            \
		.stream = ((flags)&STREAM) != 0,            \
		.more_fds = ((flags)&MORE_FDS) != 0,        \
		.waits = ((flags)&WAITS) != 0,              \
		.access = LEAST_ACCESS(ROLE_##f, flags),    \
	},
#include "msg/messages.def"
#undef MSG
	{ 0 },
};

bool msg_row_fds(const struct msg_row *row, size_t n_fds) {
	return n_fds == row->request_fds || (row->more_fds && n_fds > row->request_fds && n_fds <= MSG_FDS_MAX);
}

const struct msg_row *msg_row_find(uint16_t number) {
	/* The table is short and in order of numbers. */
	size_t low = 0, high = ARRAY_SIZE(msg_rows) - 1;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (msg_rows[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return msg_rows[low].name && msg_rows[low].number == number ? &msg_rows[low] : NULL;
}
