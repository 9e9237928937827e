#include "workers/metadata/guest.h"

#include "base/log.h"
#include "msg/relay.h"

#include <errno.h>
#include <string.h>

#define NO_AGENT "this daemon is no guest's agent: \"mode = agent\" in its configuration makes it one"

/* The untyped call, as the types are those of the request's own row (see
 * tests/unit/test_metadata_guest.c). */
void guest_relay(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	if (m->config->mode != BOOT_AGENT) {
		msg_failf(r, FAULT_UNIMPLEMENTED, NO_AGENT);
		return;
	}
	struct msg_relay *x = msg_relay_new(r, 0);
	if (x)
		x->call =
		    msg_send(m->guest, r->row->number + GUEST_RELAY, &r->context, request, NULL, 0, msg_relay_done, x);
}

/* --- steps of operations ------------------------------------------------------ */

static void step_done(void *ctx, const struct msg_answer *a) {
	if (a->fault)
		op_fail_below(ctx, a->fault);
	else
		op_next(ctx);
}

static void attach(struct op *op, char *owner, Grpc__Storage **storages, size_t n, char *termination_log) {
	Bulkhead__GuestAttachRequest q = BULKHEAD__GUEST_ATTACH_REQUEST__INIT;
	struct msg_context context = op_context(op, 0);
	q.owner = owner;
	q.storages = storages;
	q.n_storages = n;
	q.termination_log = termination_log;
	guest_do_attach_send(op->m->guest, &context, &q, NULL, 0, step_done, op);
}

/* Between its two calls. */
struct beginning {
	struct op *op;
	char *sandbox;
	const Bulkhead__GuestSandbox *request;
};

static void setup_done(void *ctx, const struct msg_answer *a) {
	struct beginning b = *(struct beginning *)ctx;
	free(ctx);
	if (a->fault)
		op_fail_below(b.op, a->fault);
	else
		attach(b.op, b.sandbox, b.request->storages, b.request->n_storages, (char *)"");
}

/* Whether a step has nothing to do; of a daemon that is no agent nothing may be
 * asked. */
static bool step_over(struct op *op, bool asked) {
	if (!asked) {
		op_next(op);
	} else if (op->m->config->mode != BOOT_AGENT) {
		fault_set(&op->fault, FAULT_UNIMPLEMENTED, NO_AGENT);
		op_fail(op);
	}
	return !asked || op->m->config->mode != BOOT_AGENT;
}

void guest_begin(struct op *op, const char *sandbox, const Bulkhead__GuestSandbox *q) {
	bool wanted = q && (q->n_storages || (q->setup && q->setup->n_kernel_modules));
	if (step_over(op, wanted || (q && op->m->config->mode == BOOT_AGENT)))
		return;
	struct beginning *b = malloc(sizeof(*b));
	if (!b) {
		fault_errno(&op->fault, ENOMEM, "set up the guest");
		op_fail(op);
		return;
	}
	*b = (struct beginning){ .op = op, .sandbox = (char *)(uintptr_t)sandbox, .request = q };
	static const Bulkhead__GuestSetupRequest nothing = BULKHEAD__GUEST_SETUP_REQUEST__INIT;
	struct msg_context context = op_context(op, 0);
	guest_do_setup_send(op->m->guest, &context, q->setup ? q->setup : &nothing, NULL, 0, setup_done, b);
}

void guest_attach_all(struct op *op, const char *container, const Bulkhead__GuestContainer *q) {
	bool noted = q && *q->termination_log && op->m->config->mode == BOOT_AGENT;
	if (!step_over(op, q && (q->n_storages || noted)))
		attach(op, (char *)(uintptr_t)container, q->storages, q->n_storages, q->termination_log);
}

/* --- devices ------------------------------------------------------------------ */

/* The specification has the host's numbers. Rules about a device go with it. */
static void number_device(Grpc__Spec *spec, const Bulkhead__GuestDevice *d) {
	Grpc__Linux *l = spec->linux;
	for (size_t i = 0; l && i < l->n_devices; i++) {
		Grpc__LinuxDevice *x = l->devices[i];
		if (!*d->container_path || strcmp(x->path, d->container_path) != 0)
			continue;
		for (size_t n = 0; l->resources && n < l->resources->n_devices; n++) {
			Grpc__LinuxDeviceCgroup *rule = l->resources->devices[n];
			if (rule->major == x->major && rule->minor == x->minor && strcmp(rule->type, x->type) == 0) {
				rule->major = d->major;
				rule->minor = d->minor;
			}
		}
		x->major = d->major;
		x->minor = d->minor;
	}
}

struct finding {
	struct op *op;
	Grpc__Spec *spec;
};

static void devices_found(void *ctx, const struct msg_answer *a) {
	struct finding f = *(struct finding *)ctx;
	free(ctx);
	const Bulkhead__GuestDevicesReply *reply = a->fault ? NULL : guest_do_devices_answer(a);
	for (size_t i = 0; reply && i < reply->n_devices; i++)
		number_device(f.spec, reply->devices[i]);
	step_done(f.op, a);
}

void guest_find_devices(struct op *op, const Bulkhead__GuestContainer *q, Grpc__Spec *spec) {
	if (step_over(op, q && q->n_devices))
		return;
	struct finding *f = malloc(sizeof(*f));
	if (!f) {
		fault_errno(&op->fault, ENOMEM, "find devices");
		op_fail(op);
		return;
	}
	*f = (struct finding){ .op = op, .spec = spec };
	Bulkhead__GuestDevicesRequest x = BULKHEAD__GUEST_DEVICES_REQUEST__INIT;
	struct msg_context context = op_context(op, 0);
	x.devices = q->devices;
	x.n_devices = q->n_devices;
	guest_do_devices_send(op->m->guest, &context, &x, NULL, 0, devices_found, f);
}

/* --- ends --------------------------------------------------------------------- */

static void ended(void *ctx, const struct msg_answer *a) {
	if (a->fault)
		log_event(LOG_WARN, "the guest isn't as it was", "why", a->fault->text, NULL);
}

void guest_end(struct metadata *m) {
	Bulkhead__Empty q = BULKHEAD__EMPTY__INIT;
	if (m->config->mode == BOOT_AGENT)
		guest_do_clear_send(m->guest, NULL, &q, NULL, 0, ended, NULL);
}

void guest_release(struct metadata *m, const char *owner) {
	Bulkhead__GuestDetachRequest q = BULKHEAD__GUEST_DETACH_REQUEST__INIT;
	q.owner = (char *)(uintptr_t)owner;
	if (m->config->mode == BOOT_AGENT)
		guest_do_detach_send(m->guest, NULL, &q, NULL, 0, ended, NULL);
}
