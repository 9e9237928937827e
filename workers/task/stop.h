/* What keeper.c needs of a teardown under way. */
#pragma once

#include "task.h"

/* Keepers that one teardown may use up. */
#define KEEPER_ATTEMPTS_MAX 3

/* The sandbox is being taken down and has no keeper (any more): gets one. */
void teardown_keeper_lost(struct sandbox *s);
