/*
 * hypervisor.Hypervisor: what a Kata shim asks of a hypervisor that isn't its
 * own child ("remote"). Its machines are sandboxes of the backend "vm" in a
 * namespace of their own, whose agents are the shim's.
 */
#pragma once

#include "workers/api/grpc.h"

/* hypervisor.c */
extern const struct grpc_method hypervisor_methods[];
