/* The descriptors that a keeper hands to the task worker, so that a successor
 * can go on where a killed keeper stopped. */
#pragma once

#include "task.h"

void mirror_drop_all(struct sandbox *s);
