/* What is left of a pod's connections when its processes are gone. */
#pragma once

#include <stdbool.h>

/* Is there a TCP socket in the caller's network namespace? One whose process
 * has died lives on, and the namespace with it, until its peer has answered:
 * minutes, when the peer can't. True also when it can't be told. */
bool sockets_linger(void);
/* Lets such sockets give up within a second or so. */
void sockets_hurry(void);
