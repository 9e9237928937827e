/*
 * What the guest worker is asked for goes through unchanged: each row guest_X of
 * the API's has one of the same types to the guest worker, guest_do_X. Nothing of
 * it is recorded here, since the guest worker keeps what must outlive a process.
 */
#pragma once

#include "workers/metadata/metadata.h"

#define GUEST_RELAY 40 /* the number of guest_do_X is that of guest_X and this */

/* Steps of operations, which go on with op_next or op_fail. */
void guest_begin(struct op *op, const char *sandbox, const Bulkhead__GuestSandbox *q);
void guest_attach_all(struct op *op, const char *container, const Bulkhead__GuestContainer *q);
/* Finds devices and says in spec what they are. */
void guest_find_devices(struct op *op, const Bulkhead__GuestContainer *q, Grpc__Spec *spec);
/* The guest's part of an end, which nobody waits for: what fails is in the log,
 * and gone with the next sandbox. Nothing where there is no agent. */
void guest_end(struct metadata *m);
void guest_release(struct metadata *m, const char *owner);

void guest_relay(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request);
