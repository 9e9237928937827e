/*
 * One event loop per process, one io_uring in it. liburing is known here only.
 *
 * Everything that waits is a source: made by one of the functions below, ended
 * by loop_source_free. After that its callback is never called again, even
 * when the kernel still works on it; buffers that were given to the loop stay
 * the loop's until the kernel is done with them. A callback may free its own
 * source, or any other. Single-threaded: a loop belongs to the thread that
 * runs it.
 *
 * Callbacks must not block. What has no asynchronous form belongs into a
 * child process.
 */
#pragma once

#include "base/buffer.h"
#include "base/macros.h"

#include <stdbool.h>
#include <sys/socket.h>

struct loop;
struct loop_source;

struct loop_options {
	unsigned entries;     /* submission queue; 0: 64 */
	unsigned buffers;     /* receive buffers, a power of two; 0: none (no loop_recv, loop_read) */
	unsigned buffer_size; /* bytes each; 0: 16384 */
};

int loop_new(const struct loop_options *options, struct loop **ret_loop) NODISCARD;
void loop_free(struct loop *l);
#define CLEANUP_LOOP CLEANUP(loop_free_p)
static inline void loop_free_p(struct loop **l) {
	loop_free(*l);
}

/* From here on the ring takes these opcodes only (IORING_OP_*), for good. The
 * ring is made disabled and this enables it, so it must be called once, with
 * n = 0 for "any", before the first source is made. */
int loop_enable(struct loop *l, const uint8_t *opcodes, size_t n) NODISCARD;
/* Must come first in a child that a raw clone has made; after fork() it is called
 * by itself. */
void loop_forked(void);

/* Until loop_stop; returns its argument, or a negative errno of the ring. */
int loop_run(struct loop *l);
void loop_stop(struct loop *l, int result);
/* One turn: waits for at most timeout_ns (negative: for ever) for something to
 * happen, runs the callbacks. For tests and for clients. */
int loop_turn(struct loop *l, int64_t timeout_ns);

/* Ends a source of any kind; NULL does nothing. */
void loop_source_free(struct loop_source *s);
static inline void loop_source_free_p(struct loop_source **s) {
	loop_source_free(*s);
	*s = NULL;
}

/* fd is (again) ready for events (POLLIN, POLLOUT; POLLERR and POLLHUP come
 * unasked). Edge-triggered: read or write until EAGAIN. */
typedef void (*loop_ready_fn)(void *ctx, uint32_t events);
int loop_poll(struct loop *l, int fd, uint32_t events, loop_ready_fn fn, void *ctx,
	      struct loop_source **ret_source) NODISCARD;

/* Each accepted connection (non-blocking, close-on-exec) belongs to fn, or a
 * negative errno after which the source is dead. */
typedef void (*loop_accept_fn)(void *ctx, int fd_or_error);
int loop_accept(struct loop *l, int listener, loop_accept_fn fn, void *ctx, struct loop_source **ret_source) NODISCARD;

/* Bytes as they come; data is valid during the call only. n == 0 is the end of
 * file, n < 0 an error; the source is dead after both. */
typedef void (*loop_data_fn)(void *ctx, const uint8_t *data, ssize_t n);
/* From a stream socket. */
int loop_recv(struct loop *l, int fd, loop_data_fn fn, void *ctx, struct loop_source **ret_source) NODISCARD;
/* From a pipe, terminal or other pollable file that isn't a socket. */
int loop_read(struct loop *l, int fd, loop_data_fn fn, void *ctx, struct loop_source **ret_source) NODISCARD;
/* Stops and resumes the flow of a loop_recv or loop_read (back-pressure). What
 * was already received may still be delivered once. */
void loop_pause(struct loop_source *s);
int loop_resume(struct loop_source *s);

/* Sends all of *data, which is taken even on error; fn gets 0 or a negative
 * errno, then the source is dead (freeing it is still the caller's). */
typedef void (*loop_done_fn)(void *ctx, int result);
int loop_send(struct loop *l, int fd, struct buffer *data, loop_done_fn fn, void *ctx,
	      struct loop_source **ret_source) NODISCARD;
/* Writes all of *data at offset, or at the file's own position with -1 (pipes). */
int loop_write(struct loop *l, int fd, int64_t offset, struct buffer *data, loop_done_fn fn, void *ctx,
	       struct loop_source **ret_source) NODISCARD;
/* fsync, or fdatasync with data_only; in the kernel's worker, not in ours. */
int loop_fsync(struct loop *l, int fd, bool data_only, loop_done_fn fn, void *ctx,
	       struct loop_source **ret_source) NODISCARD;

/* Once at deadline (clock_mono nanoseconds); dead afterwards. */
typedef void (*loop_timer_fn)(void *ctx);
int loop_timer(struct loop *l, int64_t deadline, loop_timer_fn fn, void *ctx,
	       struct loop_source **ret_source) NODISCARD;
/* Once, after the callbacks of this turn; dead afterwards. */
int loop_defer(struct loop *l, loop_timer_fn fn, void *ctx, struct loop_source **ret_source) NODISCARD;
