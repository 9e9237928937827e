/* A process as /proc shows it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Numbered as in proc(5). */
enum proc_stat_field { PROC_STAT_FLAGS = 9, PROC_STAT_THREADS = 20 };

/* PF_EXITING of the kernel, among the flags. */
#define PROC_EXITING 0x4

/* One number of /proc/<pid>/stat; -ESRCH when the process is gone. */
int proc_stat(pid_t pid, enum proc_stat_field field, uint64_t *ret_value);
/* Whether it has a handler for the signal, or blocks or ignores it; also when
 * nobody can say. */
bool proc_heeds(pid_t pid, int signal);
