/*
 * The one place that applies a row of the privilege table.
 *
 * confine_surroundings: limits, namespaces, root, uid, capabilities. After it
 * the process can reach nothing but what its row names.
 * confine_calls: io_uring's opcodes and the system call filter; last, since
 * the steps before need calls that it forbids.
 *
 * Both are for good. A failure leaves the process half confined: it must end.
 */
#pragma once

#include "base/fault.h"
#include "boot/boot.h"
#include "loop/loop.h"

int confine_surroundings(const struct boot_privileges *p, struct fault *fault) NODISCARD;
int confine_calls(const struct boot_privileges *p, struct loop *loop, struct fault *fault) NODISCARD;
