/*
 * A character device on which the host of a virtual machine connects: one
 * connection after the other, each with a session of its own.
 *
 * A virtio-serial port hangs up while its host has nobody there, which is looked
 * for now and then, as no wait tells of its end. A plain serial line never
 * hangs up: who connects anew there must not leave half a frame behind.
 */
#pragma once

#include "workers/api/server.h"

struct serial;

/* Takes the device, even on error. */
int serial_new(struct loop *loop, struct server *server, int fd, struct serial **ret_serial) NODISCARD;
/* No further connection; the one that is open is the server's. */
void serial_free(struct serial *s);
