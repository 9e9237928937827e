#include "workers/metadata/saving.h"

#include "base/clock.h"
#include "workers/metadata/dump.h"
#include "workers/metadata/made.h"
#include "workers/metadata/privileges.h"

#include <errno.h>
#include <stdio.h>

#define MARGIN (20 * NS_PER_SEC)

void saving_limit(struct msg_context *context, uint64_t timeout_ns) {
	int64_t latest = clock_mono() + (int64_t)timeout_ns + MARGIN;
	if (!context->deadline || context->deadline > latest)
		context->deadline = latest;
}

void saving_fault(const struct fault *later, bool *failed, struct fault *fault) {
	if (!later || (*failed && fault->code != FAULT_ABORTED))
		return;
	*fault = *later;
	*failed = true;
}

int saving_new(struct metadata *m, struct msg_request *r, struct container *container, struct saving **ret_saving,
	       struct fault *fault) {
	struct saving *s = arena_zalloc(&r->arena, sizeof(*s));
	const Bulkhead__ContainerRecord *record = message_copy(&r->arena, &container->record->base);
	if (!s || !record)
		return fault_errno(fault, ENOMEM, "describe it");
	s->m = m;
	s->context = r->context;
	s->sandbox_id = record->sandbox_id;
	s->container_id = record->id;
	s->archive = (Bulkhead__ArchiveWriteRequest)BULKHEAD__ARCHIVE_WRITE_REQUEST__INIT;
	s->archive.key = s->container_id;
	s->pipes = (Bulkhead__CheckpointPipes)BULKHEAD__CHECKPOINT_PIPES__INIT;
	s->made = (Bulkhead__CheckpointRecord)BULKHEAD__CHECKPOINT_RECORD__INIT;
	s->made.digest = s->digest;
	s->made.privileges = s->privileges;
	s->made.pipes = &s->pipes;
	s->made.name = record->config->metadata->name;
	s->made.image_id = record->image_id;
	s->made.n_layers = record->n_layers;
	s->made.layers = record->layers;
	Grpc__Spec *spec;
	int e = container_spec(m, container, &r->arena, &spec, fault);
	if (e == 0 && privileges_digest(&r->arena, spec, s->privileges) < 0)
		e = fault_errno(fault, ENOMEM, "describe its privileges");
	*ret_saving = s;
	return e < 0 ? e : dump_texts(m, &r->arena, container, &s->archive, fault);
}

static void written(void *ctx, const struct msg_answer *answer) {
	struct saving *s = ctx;
	s->call = NULL;
	if (!answer->fault)
		snprintf(s->digest, sizeof(s->digest), "%s", archive_write_answer(answer)->digest);
	s->done(s->ctx, answer->fault);
}

static void begun(void *ctx, const struct msg_answer *answer) {
	struct saving *s = ctx;
	s->call = NULL;
	if (answer->fault) {
		s->done(s->ctx, answer->fault);
		return;
	}
	s->begun = true;
	const Bulkhead__CheckpointPipes *pipes = checkpoint_begin_answer(answer);
	s->pipes.stdin = pipes->stdin;
	s->pipes.stdout = pipes->stdout;
	s->pipes.stderr = pipes->stderr;
	s->call = archive_write_send(s->m->snapshot, &s->context, &s->archive, answer->fds, 4, written, s);
}

void saving_start(struct saving *s, const char *location, uint64_t timeout_ns, bool cut, saving_fn done, void *ctx) {
	Bulkhead__CheckpointRequest q = BULKHEAD__CHECKPOINT_REQUEST__INIT;
	q.sandbox_id = s->sandbox_id;
	q.container_id = s->container_id;
	q.location = (char *)(uintptr_t)location;
	q.timeout_ns = timeout_ns;
	q.cut = cut;
	s->done = done;
	s->ctx = ctx;
	saving_limit(&s->context, timeout_ns);
	s->call = checkpoint_begin_send(s->m->task, &s->context, &q, NULL, 0, begun, s);
}

void saving_cancel(struct saving *s) {
	msg_cancel(take_ptr(s->call));
}

int saving_remember(struct saving *s) {
	s->made.created_at = clock_real();
	return made_add(s->m, &s->made);
}
