/*
 * A container's log in the CRI's format, fed from its pipes or its terminal:
 *
 *   2026-01-02T03:04:05.678901234Z stdout F a whole line
 *   2026-01-02T03:04:05.678901234Z stderr P a piece of a line that is too long
 *
 * One buffer of the process serves all streams; what was read is written by
 * one writev before the next read. Only a line's beginning that has no end yet
 * is kept, in memory that is shared with whoever holds the tail descriptor: a
 * successor of a killed keeper goes on in the middle of the line.
 *
 * A log that can't be written (disk full) loses lines, counted, and never
 * stops the container.
 */
#pragma once

#include "base/fault.h"
#include "loop/loop.h"

#include <stdbool.h>

struct log;

enum log_stream_kind { LOG_STDOUT, LOG_STDERR, LOG_STREAMS };

/* path: absolute; "": everything is thrown away. line_max: bytes of a line
 * before it is cut. tail: a descriptor of an earlier log's (taken), or -1. */
int log_new(struct loop *loop, const char *path, size_t line_max, int tail, struct log **ret_log, struct fault *fault);
/* Ends the lines that are unfinished. */
void log_free(struct log *l);
/* Without touching what the tail holds: a successor goes on with it. */
void log_abandon(struct log *l);
/* Reads fd (taken, made non-blocking) until its end. */
int log_attach(struct log *l, enum log_stream_kind kind, int fd);
/* fn gets a copy of all that is read; one at a time. */
typedef void (*log_tap_fn)(void *ctx, enum log_stream_kind kind, const void *data, size_t size);
void log_tap(struct log *l, log_tap_fn fn, void *ctx);
/* Nothing is read while it is held, except by log_drain. */
void log_hold(struct log *l, enum log_stream_kind kind, bool hold);
/* Reads what is there now; called when the process has ended. */
void log_drain(struct log *l);
/* The path again, after somebody has renamed the file. On failure the old file
 * is kept and no new one made. */
int log_reopen(struct log *l, struct fault *fault);
/* Borrowed descriptors for the vault; -1: none. */
int log_fd(const struct log *l, enum log_stream_kind kind);
int log_tail(const struct log *l);
uint64_t log_lost(const struct log *l);
