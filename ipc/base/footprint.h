/*
 * What an idle process keeps in memory. Starting up touches code and tables of
 * every library, and a burst of work leaves freed pages behind; neither is
 * needed while the process waits.
 */
#pragma once

/* Lets go of both: clean pages of the program and its libraries are unmapped
 * and come back from the page cache when they are touched again, free pages of
 * the allocator go back to the kernel. Some hundred microseconds; meant for the
 * moment when a process has nothing left to do. */
void footprint_trim(void);
