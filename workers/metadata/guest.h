/*
 * What the guest worker is asked for goes through unchanged: each row guest_X of
 * the API's has one of the same types to the guest worker, guest_do_X. Nothing of
 * it is recorded here, since the guest worker keeps what must outlive a process.
 */
#pragma once

#include "workers/metadata/metadata.h"

#define GUEST_RELAY 40 /* the number of guest_do_X is that of guest_X and this */

void guest_relay(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request);
