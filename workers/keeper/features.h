/* What an OCI runtime says of itself: "<runtime> features", asked by the zygote
 * in a child without any privilege, which reads nothing of it and gives the
 * bytes to who asked. */
#pragma once

#include "boot/boot.h"
#include "loop/loop.h"
#include "msg/msg.h"

void features_ask(struct loop *loop, const struct boot_runtime *runtime, struct msg_request *r);
