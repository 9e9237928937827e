/*
 * Where the streams of a process lead when a client of containerd's API says
 * so: fifos, files, programs that log, or nowhere.
 *
 * An output's fifo is held by both of its ends, so a client may open it late,
 * or leave and come back: nothing is lost, and while nobody reads it fills, and
 * then the process waits. A terminal's input is held likewise. Any other input
 * ends when the client that wrote to it has closed it, whether or not it says
 * so by process_close_stdin (ctr run forgets to when it is through early).
 *
 *   input    fifo -> pipe or terminal, until process_close_stdin and the
 *            client's own end of it
 *   output   what the log reads (log_tap) -> outlet; behind: log_hold
 *   the end  what was read goes out as long as somebody takes it, then all is
 *            closed: a client that waits for the end gets it, whoever else
 *            still has the process's pipes; a fifo that nobody reads yet waits
 *            a little for the client of a process that was faster
 *
 * Streams that are held lead to whoever asks for them (process_streams): the
 * keeper has the other ends of the process's pipes, or its terminal, reads
 * nothing, and keeps them beyond the process's end until it is deleted. So what
 * nobody has read yet is in the pipes, whichever of our processes dies.
 */
#pragma once

#include "workers/keeper/keeper.h"
#include "workers/keeper/log.h"

struct stdio;

/* Descriptors that a successor needs; -1: none. */
enum stdio_fd { STDIO_IN, STDIO_OUT, STDIO_ERR, STDIO_TO, STDIO_FDS };

/* id: of the container, for a program that logs. held (may be NULL): what a predecessor had, taken; what of it is
 * missing is opened again. */
int stdio_new(struct keeper *k, const char *id, const Bulkhead__Stdio *m, int held[STDIO_FDS], struct stdio **ret_stdio,
	      struct fault *fault);
/* At once, with all that hasn't gone out. */
void stdio_free(struct stdio *s);
/* Whether the process needs a pipe for the stream (0, 1, 2). */
bool stdio_wants(const struct stdio *s, int stream);
/* What l reads goes out from now on. */
void stdio_outputs(struct stdio *s, struct log *l);
/* to: the process's pipe or terminal; taken. */
int stdio_input(struct stdio *s, int to, bool terminal, struct fault *fault);
/* When the client has closed its end the process sees the end of its input. */
void stdio_close_input(struct stdio *s);
bool stdio_input_closed(const struct stdio *s);
/* The process has ended and all that it wrote is read. Takes s, which isn't held. */
void stdio_end(struct stdio *s);
bool stdio_is_held(const struct stdio *s);
/* One more end: of stdin, stdout or stderr by number; a terminal is stdout. Takes fd. */
int stdio_hold(struct stdio *s, int stream, int fd, struct fault *fault);
/* Borrowed; -1: it has none. */
int stdio_held(const struct stdio *s, int stream);
/* Borrowed. */
void stdio_fds(const struct stdio *s, int ret_fds[STDIO_FDS]);
const Bulkhead__Stdio *stdio_message(const struct stdio *s);
/* Ends that are still on their way. */
bool stdio_any_ending(const struct keeper *k);

/* stdio_logger.c: a program that takes both outputs; true for a name of one. */
bool stdio_is_logger(const char *name);
int stdio_logger(struct keeper *k, const char *id, const char *name, int ret_outputs[LOG_STREAMS], struct fault *fault);
/* stdio_open.c: what a name leads to; -1: nowhere. A fifo is held by both of
 * its ends but for STDIO_INPUT. */
enum stdio_use { STDIO_INPUT, STDIO_INPUT_TERMINAL, STDIO_OUTPUT };
int stdio_open(const char *name, enum stdio_use use, const char *stream, int *ret_fd, struct fault *fault);
