/* Prints a protobuf message as JSON, by its descriptor. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdio.h>

/* Fields at their default are left out; enums by name; map entries as pairs. */
void json_print(FILE *to, const ProtobufCMessage *m, int indent);
