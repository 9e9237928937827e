/*
 * What the daemon has in the file system before any worker runs: its folders
 * with their owners, its lock, its listening sockets.
 */
#pragma once

#include "supervisor/config.h"

/* Makes what is missing and corrects owner and mode of the rest. */
int folders_make(const struct config *c, struct fault *fault) NODISCARD;
/* One supervisor per run_root: *ret_lock is held as long as the descriptor is
 * open. *ret_workers is held by the workers too, and waited for: those of a
 * killed supervisor are gone when this returns. */
int folders_lock(const struct config *c, int *ret_lock, int *ret_workers, struct fault *fault) NODISCARD;
/* Binds the n-th endpoint's socket, with its owner and mode, and listens;
 * replaces the socket that a dead daemon left behind. */
int listener_open(const struct config *c, unsigned n, int *ret_fd, struct fault *fault) NODISCARD;
/* The same for a socket that isn't a file. */
int vsock_listener_open(uint32_t cid, uint32_t port, int *ret_fd, struct fault *fault) NODISCARD;
/* A character device that carries one connection after the other. */
int serial_listener_open(const char *path, int *ret_fd, struct fault *fault) NODISCARD;
/* The streaming server's: TCP, from stream_address and stream_port. */
int stream_listener_open(const struct config *c, int *ret_fd, struct fault *fault) NODISCARD;
