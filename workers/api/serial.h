/*
 * A character device on which the host of a virtual machine connects: one
 * connection after the other, each with a session of its own.
 *
 * A virtio-serial port hangs up while its host has nobody there, which is looked
 * for now and then, as no wait tells of its end. A plain serial line never
 * hangs up, and a port may have a new client before anybody saw that the old
 * one was gone: so stream 1 is the start of another client, too (ttrpc.c). One
 * that went in the middle of a frame spoils what comes next only where the line
 * didn't hang up.
 */
#pragma once

#include "workers/api/server.h"

struct serial;

/* Takes the device, even on error. */
int serial_new(struct loop *loop, struct server *server, int fd, struct serial **ret_serial) NODISCARD;
/* No further connection; the one that is open is the server's. */
void serial_free(struct serial *s);
