/*
 * One descriptor of the other side: a pipe, a terminal, a socket. Nothing is
 * read before its reader has room, and what can't be written yet waits here;
 * the reader sees by flow_waiting when to stop the sender.
 */
#pragma once

#include "base/buffer.h"
#include "loop/loop.h"

#include <stdbool.h>

struct flow;

struct flow_events {
	/* How many bytes may be read now. */
	size_t (*room)(void *ctx, struct flow *f);
	void (*data)(void *ctx, struct flow *f, const uint8_t *data, size_t size);
	/* There is nothing more to read. */
	void (*ended)(void *ctx, struct flow *f);
	/* So much of what flow_write took is out of the way. */
	void (*written)(void *ctx, struct flow *f, size_t size);
};

struct flow {
	struct loop *loop;
	int fd;	    /* -1: there is none */
	bool waits; /* for it */
	struct loop_source *source, *again;
	const struct flow_events *events;
	void *ctx;
	bool reads, writes, socket;
	bool read_ended;	  /* nothing comes any more */
	bool empty;		  /* nothing more was there the last time */
	bool finishing, finished; /* the last byte was given, is written */
	bool crowded;		  /* its owner's */
	struct buffer pending;
};

/* It waits for its descriptor: what is written is kept until then. */
void flow_init(struct flow *f, struct loop *loop, const struct flow_events *events, void *ctx);
/* Takes fd and makes it non-blocking. reads, writes: what it is used for;
 * socket: its end is a shutdown, not a close. */
int flow_open(struct flow *f, int fd, bool reads, bool writes, bool socket) NODISCARD;
/* There will be no descriptor: what is written goes nowhere. */
void flow_discard(struct flow *f);
void flow_deinit(struct flow *f);
/* Reads what there is room for; to be called when room has come. */
void flow_pull(struct flow *f);
void flow_write(struct flow *f, const void *data, size_t size);
/* Nothing more will be written. */
void flow_finish(struct flow *f);
size_t flow_waiting(const struct flow *f);
