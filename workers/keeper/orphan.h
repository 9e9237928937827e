/* Children whose end nobody waits for. Ours they are all the same, and a zombie in
 * a pid namespace keeps that namespace's init from ending. */
#pragma once

#include "loop/loop.h"

/* Takes the pidfd of a child unless that has been reaped; reaps it at its end. */
void orphan_adopt(struct loop *loop, int *pidfd);
