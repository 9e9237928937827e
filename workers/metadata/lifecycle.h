/*
 * What happens to pod sandboxes and containers, whoever wants it: the changes
 * of state that handlers, operations and the reconciliation share. Each change
 * is put in the store, its event with it; waiting for the commit is the
 * caller's.
 */
#pragma once

#include "workers/metadata/metadata.h"

/* Start-up of a pod may run plugins for the network; a container's may not. */
#define SANDBOX_START_TIMEOUT_NS (240 * NS_PER_SEC)
#define TASK_CREATE_TIMEOUT_NS (120 * NS_PER_SEC)
#define START_ATTEMPTS 3

#define SIGNAL_TERM 15

/* An operation that isn't seen by lists yet has no record either. */
bool sandbox_visible(const struct sandbox *s);
bool container_visible(const struct container *c);

int sandbox_save(struct metadata *m, struct sandbox *s) NODISCARD;
int container_save(struct metadata *m, struct container *c) NODISCARD;
/* As above where there is nobody to tell: logs. */
void container_save_logged(struct metadata *m, struct container *c);

/* The pod's processes and network are gone: DOWN, and its containers ended. */
void sandbox_went_down(struct metadata *m, struct sandbox *s);
/* The process ended; e NULL: nobody knows how (255, "Unknown"). Nothing
 * happens when the end is known already. */
void container_ended(struct metadata *m, struct container *c, const Bulkhead__TaskExit *e);
/* Killed in for want of memory so often since it began; told once each. */
void container_oomed(struct metadata *m, struct container *c, uint32_t ooms);
/* Never ran: 128, "StartError". */
void container_start_failed(struct metadata *m, struct container *c, const char *message);
/* Both speak of the same process, as far as they say. */
bool exit_is_of(const Bulkhead__TaskExit *e, const Bulkhead__TaskCreateReply *t);
/* Runs; keeps what the task worker said. -ENOMEM. */
int container_started(struct metadata *m, struct container *c, const Bulkhead__TaskCreateReply *t);

/* Deletes records and takes the objects out of the lists; sweeps the rest.
 * Call after the deletion of the records is committed. */
void container_forget(struct metadata *m, struct container *c);
void sandbox_forget(struct metadata *m, struct sandbox *s);

/* "s/<id>" and "c/<id>", as stored. */
#define KEY_SIZE (ID_SIZE + 16)
void sandbox_key(const char *id, char ret_key[KEY_SIZE]);
void container_key(const char *id, char ret_key[KEY_SIZE]);

/* Fails a creation of what is there under its name and attempt, but isn't what is
 * asked for: ALREADY_EXISTS, with the id of what is there. */
void attempt_taken(struct msg_request *r, const char *doing, const char *name, uint32_t attempt, const char *id);

/* Operations that others start too (reconciliation); r may be NULL. */
void sandbox_stop_begin(struct metadata *m, struct sandbox *s, struct msg_request *r);
/* RunPodSandbox; restored_from: the folder of a pod's checkpoint, or "". */
void sandbox_run(struct metadata *m, struct msg_request *r, const Runtime__V1__RunPodSandboxRequest *q,
		 const char *restored_from);
void sandbox_run_resume(struct metadata *m, struct sandbox *s);
