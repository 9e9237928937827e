/*
 * A protobuf message as a JSON object, by its descriptor: for people and tools
 * that look, so members with their default are left out.
 *
 * MESSAGE_PLAIN has the fields' own names, as Go writes the CRI's messages;
 * MESSAGE_OCI has those of the runtime specification, for messages of proto/oci.
 * Bytes are written as the text that they are, maps sorted by their keys.
 */
#pragma once

#include "base/json.h"

#include <protobuf-c/protobuf-c.h>

enum message_style { MESSAGE_PLAIN, MESSAGE_OCI };

/* key as for json_open. */
void message_json(struct json *j, const char *key, const ProtobufCMessage *m, enum message_style style);
/* Whether two messages of a type say the same, in whatever order their maps came; false without memory. Fields that the
 * descriptor doesn't know don't count. */
bool message_same(const ProtobufCMessage *a, const ProtobufCMessage *b);
