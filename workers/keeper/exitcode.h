/* The exit code of a process that isn't our child, from its pidfd. */
#pragma once

#include <stdint.h>

/* Shell-like: 128 + signal. 0 and *ret_code; -EAGAIN while nobody has reaped it
 * yet; -EOPNOTSUPP on kernels that don't keep it (before 6.15). */
int exitcode_of(int pidfd, uint32_t *ret_code);
