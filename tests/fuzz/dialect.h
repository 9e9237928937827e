/*
 * The messages of one dialect: every method of the services of some groups, and
 * its translator where it has one. The first byte chooses a method, the second
 * the direction, the rest is the message.
 *
 * Invariants beyond the sanitisers': what decodes packs to what decodes again;
 * a translation has the type of the other side; a refusal has a sentence.
 */
#pragma once

#include "boot/endpoint.h"

#include <stddef.h>
#include <stdint.h>

/* groups: GROUP_BIT */
int dialect_try(uint32_t groups, const uint8_t *data, size_t size);
