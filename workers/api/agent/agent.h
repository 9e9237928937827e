/*
 * The Kata agent's services (package grpc), which its hosts call over ttrpc.
 *
 * An agent has one sandbox, so it needs no name of its host's: it is "sandbox"
 * in the namespace "kata", which its containers' tasks are in, too. No objects
 * are kept for them. A container's own process is named by an empty exec_id, or
 * by the container's id.
 *
 *   service.c    the table of methods
 *   sandbox.c    CreateSandbox, DestroySandbox
 *   container.c  what is about containers as a whole
 *   process.c    what is about one process
 *   stats.c      StatsContainer
 *   streams.c    stream_calls.c: their input and output
 *   oom.c        GetOOMEvent
 *   health.c     grpc.Health
 */
#pragma once

#include "workers/api/grpc.h"

#include "internal/csandbox.pb-c.h"
#include "internal/ctask.pb-c.h"
#include "kata/agent.pb-c.h"

#define AGENT_NAMESPACE "kata"
#define AGENT_SANDBOX "sandbox"

extern const struct grpc_method agent_health_methods[], agent_service_methods[];

/* NULL: out of memory. */
Bulkhead__CtaskKey *agent_key(struct grpc_translation *t, char *container_id, char *exec_id);
/* Of the one sandbox. */
void agent_sandbox_key(Bulkhead__CsandboxKey *ret_key);
/* The streams of a process that calls read and write. NULL: out of memory. */
Bulkhead__Stdio *agent_stdio(struct arena *a, const Grpc__Process *p);
/* Streams over vsock ports of their own aren't served. */
int agent_ports_check(const uint32_t ports[3], const char *container_id, struct fault *fault);
/* Failures of calls that are about containers only: one that isn't there is
 * INVALID_ARGUMENT. */
void agent_unknown_container(struct fault *fault);

extern const struct grpc_translator agent_create_sandbox, agent_destroy_sandbox;
extern const struct grpc_translator agent_create_container, agent_start_container, agent_remove_container,
    agent_update_container, agent_pause_container, agent_resume_container, agent_stats_container;
extern const struct grpc_handler agent_get_oom_event;
extern const struct grpc_translator agent_exec_process, agent_signal_process, agent_wait_process, agent_resize;
extern const struct grpc_handler agent_read_stdout, agent_read_stderr, agent_write_stdin, agent_close_stdin;
