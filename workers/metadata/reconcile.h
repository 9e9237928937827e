/*
 * What the records say and what runs, made one again: whenever the task worker
 * (or this one) has been away. The kernel's truth wins.
 *
 *   runs, no record            stopped
 *   STARTING, runs             becomes UP
 *   STARTING, doesn't run      forgotten
 *   UP, doesn't run            DOWN, its containers ended ("Unknown", 255)
 *   DOWN, something is left    stopped again
 *   a container's process      taken over, or its end is, or deleted when it
 *                              has no record
 *
 * Objects with an operation under way are left alone: it gets its own answers.
 */
#pragma once

struct metadata;

void reconcile_begin(struct metadata *m);
