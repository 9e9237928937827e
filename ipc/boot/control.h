/* Packets of the control socket, the same on both of its sides. */
#pragma once

#include "base/macros.h"
#include "boot/boot.h"

#define CONTROL_FDS_MAX 5

/* Both ends non-blocking and close-on-exec. */
int control_pair(int ret_fds[2]) NODISCARD;
/* Sends one packet without waiting: -EAGAIN when the peer doesn't read, -EPIPE
 * when it is gone. The descriptors stay the caller's. */
int control_send(int fd, const struct control *c, const int *fds, size_t n_fds) NODISCARD;
/* Receives one packet: 1; 0 at the end; -EAGAIN when there is none now,
 * -EBADMSG when it isn't a struct control. The descriptors are the caller's;
 * the rest of ret_fds is -1. text is NUL-terminated whatever was sent. */
int control_recv(int fd, struct control *ret_c, int ret_fds[CONTROL_FDS_MAX], size_t *ret_n_fds) NODISCARD;
void control_fds_close(int fds[CONTROL_FDS_MAX]);
