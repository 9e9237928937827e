#include "workers/stream/spdy.h"

#include "base/buffer.h"

#include <errno.h>
#include <string.h>

#define HEAD_SIZE 8
#define FLAG_LAST 0x01
#define FLAG_UNIDIRECTIONAL 0x02
#define WINDOW_LARGEST INT64_C(0x7fffffff)
/* Consumed bytes are told in portions, not one by one. */
#define CREDIT_STEP (SPDY_WINDOW / 4)

enum frame_type {
	SYN_STREAM = 1,
	SYN_REPLY = 2,
	RST_STREAM = 3,
	SETTINGS = 4,
	PING = 6,
	GOAWAY = 7,
	HEADERS = 8,
	WINDOW_UPDATE = 9,
};

enum reset_status {
	RESET_REFUSED = 3,
	RESET_CANCEL = 5,
	RESET_FLOW_CONTROL = 7,
	RESET_ALREADY_CLOSED = 9,
};
enum goaway_status { GOAWAY_OK, GOAWAY_PROTOCOL_ERROR };

#define SETTINGS_INITIAL_WINDOW 7

struct stream {
	uint32_t id;
	bool ended, closed; /* by the client, by us */
	int64_t window;	    /* what we may send */
	size_t credit;	    /* consumed and not told yet */
};

struct spdy {
	struct spdy_options options;
	struct spdy_inflater *inflater; /* NULL: complete */
	struct stream *streams;
	size_t n_streams, room;
	uint32_t last_id;
	int64_t initial_window, window; /* of new streams, of the session */
	size_t credit;			/* of the session */
	bool has_windows;		/* the client knows of them */
	bool replied, away, stopped;

	/* The frame that is arriving. */
	uint8_t head[HEAD_SIZE];
	size_t have;
	size_t left; /* of its payload */
	struct buffer control;
};

static uint32_t get32(const uint8_t *p) {
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(uint8_t *p, uint32_t n) {
	p[0] = (uint8_t)(n >> 24);
	p[1] = (uint8_t)(n >> 16);
	p[2] = (uint8_t)(n >> 8);
	p[3] = (uint8_t)n;
}

/* --- what we say --- */

static void output(struct spdy *s, const void *data, size_t size) {
	s->options.output(s->options.ctx, data, size);
}

static void control(struct spdy *s, enum frame_type type, const void *payload, size_t size) {
	uint8_t head[HEAD_SIZE] = { 0x80, 3, 0, (uint8_t)type };
	put32(head + 4, (uint32_t)size);
	output(s, head, sizeof(head));
	output(s, payload, size);
}

static void control_two(struct spdy *s, enum frame_type type, uint32_t a, uint32_t b) {
	uint8_t payload[8];
	put32(payload, a);
	put32(payload + 4, b);
	control(s, type, payload, sizeof(payload));
}

static void reply(struct spdy *s, uint32_t id) {
	uint8_t payload[4 + SPDY_EMPTY_MAX];
	put32(payload, id);
	size_t n = spdy_block_empty(!s->replied, payload + 4);
	s->replied = true;
	control(s, SYN_REPLY, payload, 4 + n);
}

static int fatal(struct spdy *s) {
	if (!s->away)
		control_two(s, GOAWAY, s->last_id, GOAWAY_PROTOCOL_ERROR);
	s->away = s->stopped = true;
	return -EPROTO;
}

void spdy_goaway(struct spdy *s) {
	if (!s->away)
		control_two(s, GOAWAY, s->last_id, GOAWAY_OK);
	s->away = true;
}

/* --- streams --- */

static struct stream *stream_find(const struct spdy *s, uint32_t id) {
	for (size_t i = 0; i < s->n_streams; i++)
		if (s->streams[i].id == id)
			return &s->streams[i];
	return NULL;
}

static void stream_remove(struct spdy *s, uint32_t id) {
	struct stream *t = stream_find(s, id);
	if (t)
		*t = s->streams[--s->n_streams];
}

static struct stream *stream_add(struct spdy *s, uint32_t id) {
	if (s->n_streams == s->room) {
		size_t room = s->room ? s->room * 2 : 8;
		struct stream *more = realloc(s->streams, room * sizeof(*more));
		if (!more)
			return NULL;
		s->streams = more;
		s->room = room;
	}
	struct stream *t = &s->streams[s->n_streams++];
	*t = (struct stream){ .id = id, .window = s->initial_window };
	return t;
}

size_t spdy_room(const struct spdy *s, uint32_t id) {
	const struct stream *t = stream_find(s, id);
	if (!t || t->closed)
		return 0;
	if (!s->has_windows)
		return SPDY_WINDOW;
	int64_t room = MIN(t->window, s->window);
	return room > 0 ? (size_t)room : 0;
}

void spdy_send(struct spdy *s, uint32_t id, const void *data, size_t size, bool last) {
	struct stream *t = stream_find(s, id);
	if (!t || t->closed || (size == 0 && !last))
		return;
	uint8_t head[HEAD_SIZE];
	put32(head, id);
	put32(head + 4, (uint32_t)size);
	head[4] = last ? FLAG_LAST : 0;
	t->window -= (int64_t)size;
	s->window -= (int64_t)size;
	t->closed = last;
	output(s, head, sizeof(head));
	if (size > 0)
		output(s, data, size);
	if (t->closed && t->ended)
		stream_remove(s, id);
}

static void credit_tell(struct spdy *s, uint32_t id, size_t *credit) {
	if (*credit >= CREDIT_STEP) {
		control_two(s, WINDOW_UPDATE, id, (uint32_t)*credit);
		*credit = 0;
	}
}

void spdy_consumed(struct spdy *s, uint32_t id, size_t size) {
	struct stream *t = stream_find(s, id);
	s->credit += size;
	credit_tell(s, 0, &s->credit);
	if (t && !t->ended) {
		t->credit += size;
		credit_tell(s, id, &t->credit);
	}
}

void spdy_reset(struct spdy *s, uint32_t id) {
	if (stream_find(s, id))
		control_two(s, RST_STREAM, id, RESET_CANCEL);
	stream_remove(s, id);
}

static void ended(struct spdy *s, struct stream *t) {
	uint32_t id = t->id;
	t->ended = true;
	if (t->closed)
		stream_remove(s, id);
	s->options.events->ended(s->options.ctx, id);
}

/* --- control frames --- */

static void pair_collect(void *ctx, const struct spdy_pair *p) {
	struct mux_stream *m = ctx;
	if (spdy_pair_is(p, "streamtype"))
		spdy_pair_copy(p, m->type, sizeof(m->type));
	else if (spdy_pair_is(p, "requestid"))
		spdy_pair_copy(p, m->request, sizeof(m->request));
	else if (spdy_pair_is(p, "port"))
		spdy_pair_copy(p, m->port, sizeof(m->port));
}

static int on_syn_stream(struct spdy *s, uint8_t flags, const uint8_t *p, size_t size) {
	if (size < 10)
		return fatal(s);
	uint32_t id = get32(p) & 0x7fffffff;
	struct mux_stream m = { 0 };
	/* A client that goes on after the last stream that it may open gets told,
	 * but its fields can't be read any more. */
	if (s->inflater && spdy_block_read(s->inflater, p + 10, size - 10, pair_collect, &m) < 0)
		return fatal(s);
	if (id % 2 == 0 || id <= s->last_id || (flags & FLAG_UNIDIRECTIONAL))
		return fatal(s);
	s->last_id = id;
	if (s->away || !s->inflater || s->n_streams >= s->options.streams_max || !stream_add(s, id)) {
		control_two(s, RST_STREAM, id, RESET_REFUSED);
		return 0;
	}
	/* The answer comes first: what the session has to say at once follows it. */
	reply(s, id);
	if (!s->options.events->opened(s->options.ctx, id, &m)) {
		control_two(s, RST_STREAM, id, RESET_REFUSED);
		stream_remove(s, id);
		return 0;
	}
	struct stream *t = stream_find(s, id);
	if ((flags & FLAG_LAST) && t)
		ended(s, t);
	return 0;
}

static int on_rst_stream(struct spdy *s, uint8_t flags, const uint8_t *p, size_t size) {
	if (size != 8)
		return fatal(s);
	uint32_t id = get32(p) & 0x7fffffff;
	bool known = stream_find(s, id);
	stream_remove(s, id);
	if (known)
		s->options.events->reset(s->options.ctx, id);
	return 0;
}

static int initial_window_set(struct spdy *s, uint32_t window) {
	if (window > WINDOW_LARGEST)
		return fatal(s);
	for (size_t i = 0; i < s->n_streams; i++)
		s->streams[i].window += (int64_t)window - s->initial_window;
	s->initial_window = window;
	s->has_windows = true;
	s->options.writable(s->options.ctx);
	return 0;
}

static int on_settings(struct spdy *s, uint8_t flags, const uint8_t *p, size_t size) {
	if (size < 4 || (size - 4) % 8 != 0 || get32(p) != (size - 4) / 8)
		return fatal(s);
	int r = 0;
	for (size_t i = 4; r == 0 && i < size; i += 8)
		if ((get32(p + i) & 0xffffff) == SETTINGS_INITIAL_WINDOW)
			r = initial_window_set(s, get32(p + i + 4));
	return r;
}

static int on_ping(struct spdy *s, uint8_t flags, const uint8_t *p, size_t size) {
	if (size != 4)
		return fatal(s);
	/* The odd ones are the client's; we send none. */
	if (get32(p) % 2 == 1)
		control(s, PING, p, 4);
	return 0;
}

static int on_headers(struct spdy *s, uint8_t flags, const uint8_t *p, size_t size) {
	struct mux_stream ignored;
	if (size < 4)
		return fatal(s);
	if (s->inflater && spdy_block_read(s->inflater, p + 4, size - 4, pair_collect, &ignored) < 0)
		return fatal(s);
	struct stream *t = stream_find(s, get32(p) & 0x7fffffff);
	if ((flags & FLAG_LAST) && t && !t->ended)
		ended(s, t);
	return 0;
}

static int on_window_update(struct spdy *s, uint8_t flags, const uint8_t *p, size_t size) {
	if (size != 8)
		return fatal(s);
	uint32_t id = get32(p) & 0x7fffffff, more = get32(p + 4) & 0x7fffffff;
	struct stream *t = id ? stream_find(s, id) : NULL;
	/* One that is closed already is no offence. */
	if (id && !t)
		return 0;
	int64_t *window = t ? &t->window : &s->window;
	if (more == 0 || *window + more > WINDOW_LARGEST) {
		if (!t)
			return fatal(s);
		control_two(s, RST_STREAM, id, RESET_FLOW_CONTROL);
		stream_remove(s, id);
		s->options.events->reset(s->options.ctx, id);
		return 0;
	}
	*window += more;
	s->has_windows = true;
	s->options.writable(s->options.ctx);
	return 0;
}

static int on_goaway(struct spdy *s, uint8_t flags, const uint8_t *p, size_t size) {
	/* It opens no more streams; those that are there go on. */
	return size == 8 ? 0 : fatal(s);
}

static int (*const handlers[])(struct spdy *s, uint8_t flags, const uint8_t *p, size_t size) = {
	[SYN_STREAM] = on_syn_stream,
	[RST_STREAM] = on_rst_stream,
	[SETTINGS] = on_settings,
	[PING] = on_ping,
	[GOAWAY] = on_goaway,
	[HEADERS] = on_headers,
	[WINDOW_UPDATE] = on_window_update,
};

static int control_arrived(struct spdy *s) {
	uint16_t type = (uint16_t)(s->head[2] << 8 | s->head[3]);
	if (s->head[0] != 0x80 || s->head[1] != 3)
		return fatal(s);
	/* What isn't known is skipped, as the protocol says; a server gets no
	 * replies, since it opens no streams. */
	bool known = type < ARRAY_SIZE(handlers) && handlers[type];
	static const uint8_t nothing[1];
	int r = known ? handlers[type](s, s->head[4], s->control.size ? s->control.data : nothing, s->control.size) : 0;
	buffer_deinit(&s->control);
	return r;
}

/* --- frames --- */

static bool is_control(const struct spdy *s) {
	return s->head[0] & 0x80;
}

static int frame_end(struct spdy *s) {
	s->have = 0;
	if (is_control(s))
		return control_arrived(s);
	struct stream *t = stream_find(s, get32(s->head));
	if ((s->head[4] & FLAG_LAST) && t && !t->ended)
		ended(s, t);
	return 0;
}

static int frame_begin(struct spdy *s) {
	s->left = get32(s->head + 4) & 0xffffff;
	if (is_control(s))
		return s->left > SPDY_CONTROL_MAX ? fatal(s) : 0;
	uint32_t id = get32(s->head);
	const struct stream *t = stream_find(s, id);
	if (id == 0 || id > s->last_id)
		return fatal(s);
	if (t && t->ended)
		control_two(s, RST_STREAM, id, RESET_ALREADY_CLOSED);
	return 0;
}

/* Data for a stream that is gone still counts against the session's window. */
static void data_arrived(struct spdy *s, const uint8_t *data, size_t size) {
	uint32_t id = get32(s->head);
	const struct stream *t = stream_find(s, id);
	if (t && !t->ended)
		s->options.events->data(s->options.ctx, id, data, size);
	else
		spdy_consumed(s, 0, size);
}

static int payload_take(struct spdy *s, const uint8_t *data, size_t size) {
	s->left -= size;
	if (is_control(s)) {
		buffer_add(&s->control, data, size);
		return s->control.failed ? -ENOMEM : 0;
	}
	data_arrived(s, data, size);
	return 0;
}

int spdy_feed(struct spdy *s, const uint8_t *data, size_t size) {
	int r = 0;
	while (r == 0 && size > 0 && !s->stopped) {
		bool head = s->have < HEAD_SIZE;
		size_t n = MIN(size, head ? HEAD_SIZE - s->have : s->left);
		if (head) {
			memcpy(s->head + s->have, data, n);
			s->have += n;
			if (s->have == HEAD_SIZE)
				r = frame_begin(s);
		} else {
			r = payload_take(s, data, n);
		}
		data += n;
		size -= n;
		if (r == 0 && s->have == HEAD_SIZE && s->left == 0 && !s->stopped)
			r = frame_end(s);
	}
	return r;
}

void spdy_stop(struct spdy *s) {
	s->stopped = true;
}

/* --- life --- */

int spdy_new(const struct spdy_options *options, struct spdy **ret_spdy) {
	struct spdy *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->options = *options;
	s->initial_window = s->window = SPDY_WINDOW;
	int r = spdy_inflater_new(&s->inflater);
	if (r < 0) {
		free(s);
		return r;
	}
	*ret_spdy = s;
	return 0;
}

void spdy_free(struct spdy *s) {
	if (!s)
		return;
	spdy_inflater_free(s->inflater);
	buffer_deinit(&s->control);
	free(s->streams);
	free(s);
}

void spdy_complete(struct spdy *s) {
	spdy_inflater_free(take_ptr(s->inflater));
}
