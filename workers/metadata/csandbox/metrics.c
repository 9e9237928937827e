/*
 * csandbox_metrics: a sandbox of namespaces has no group of its own, so what its
 * tasks use is what it uses: the sum of the kernel's figures, name by name, in
 * the form of a task's.
 */
#include "workers/metadata/csandbox/csandbox.h"

#include "base/clock.h"
#include "workers/metadata/handlers.h"

#include <string.h>

#define STATS_TIMEOUT_NS (10 * NS_PER_SEC)

/* --- adding ----------------------------------------------------------------- */

/* The largest number is "max", which stays that. */
static void figure_add(uint64_t *to, uint64_t value) {
	*to = value > UINT64_MAX - *to ? UINT64_MAX : *to + value;
}

/* Those of one keeper's containers come in the same order. */
static Bulkhead__KernelFigure *figure_of(const Bulkhead__TaskStats *s, size_t hint, const char *name) {
	if (hint < s->n_figures && strcmp(s->figures[hint]->name, name) == 0)
		return s->figures[hint];
	for (size_t i = 0; i < s->n_figures; i++)
		if (strcmp(s->figures[i]->name, name) == 0)
			return s->figures[i];
	return NULL;
}

static void figures_add(Bulkhead__TaskStats *to, const Bulkhead__TaskStats *from) {
	for (size_t i = 0; i < from->n_figures; i++) {
		Bulkhead__KernelFigure *f = figure_of(to, i, from->figures[i]->name);
		if (f)
			figure_add(&f->value, from->figures[i]->value);
		else
			to->figures[to->n_figures++] = from->figures[i];
	}
}

static Bulkhead__DeviceUsage *device_of(const Bulkhead__TaskDetail *d, const Bulkhead__DeviceUsage *like) {
	for (size_t i = 0; i < d->n_devices; i++)
		if (d->devices[i]->major == like->major && d->devices[i]->minor == like->minor)
			return d->devices[i];
	return NULL;
}

static void devices_add(Bulkhead__TaskDetail *to, const Bulkhead__TaskDetail *from) {
	for (size_t i = 0; i < from->n_devices; i++) {
		const Bulkhead__DeviceUsage *d = from->devices[i];
		Bulkhead__DeviceUsage *sum = device_of(to, d);
		if (!sum) {
			to->devices[to->n_devices++] = from->devices[i];
			continue;
		}
		sum->read_bytes += d->read_bytes;
		sum->write_bytes += d->write_bytes;
		sum->reads += d->reads;
		sum->writes += d->writes;
	}
}

static void hugepages_add(Bulkhead__TaskDetail *to, const Bulkhead__TaskDetail *from) {
	for (size_t i = 0; i < from->n_hugepages; i++) {
		Bulkhead__HugepageUsage *sum = NULL;
		for (size_t k = 0; !sum && k < to->n_hugepages; k++)
			if (strcmp(to->hugepages[k]->page_size, from->hugepages[i]->page_size) == 0)
				sum = to->hugepages[k];
		if (!sum) {
			to->hugepages[to->n_hugepages++] = from->hugepages[i];
			continue;
		}
		sum->usage_bytes += from->hugepages[i]->usage_bytes;
		sum->max_usage_bytes += from->hugepages[i]->max_usage_bytes;
	}
}

/* Room for all that the parts have, should they have nothing in common. */
static int sum_begin(struct arena *a, const Bulkhead__TaskStatsReply *parts, Bulkhead__TaskStats *sum,
		     Bulkhead__TaskDetail *detail) {
	size_t figures = 0, devices = 0, hugepages = 0;
	for (size_t i = 0; i < parts->n_stats; i++) {
		const Bulkhead__TaskDetail *d = parts->stats[i]->detail;
		figures += parts->stats[i]->n_figures;
		devices += d ? d->n_devices : 0;
		hugepages += d ? d->n_hugepages : 0;
	}
	*sum = (Bulkhead__TaskStats)BULKHEAD__TASK_STATS__INIT;
	*detail = (Bulkhead__TaskDetail)BULKHEAD__TASK_DETAIL__INIT;
	sum->detail = detail;
	sum->figures = arena_alloc(a, (figures + 1) * sizeof(*sum->figures));
	detail->devices = arena_alloc(a, (devices + 1) * sizeof(*detail->devices));
	detail->hugepages = arena_alloc(a, (hugepages + 1) * sizeof(*detail->hugepages));
	return sum->figures && detail->devices && detail->hugepages ? 0 : -1;
}

/* The first part's figures become the sum's: parts is the answer's own copy. */
static void sum_add(Bulkhead__TaskStats *sum, const Bulkhead__TaskStats *part) {
	figures_add(sum, part);
	if (!part->detail)
		return;
	devices_add(sum->detail, part->detail);
	hugepages_add(sum->detail, part->detail);
}

/* --- the request ------------------------------------------------------------ */

static void stats_known(void *ctx, const struct msg_answer *answer) {
	struct msg_request *r = ctx;
	Bulkhead__TaskDetail detail;
	Bulkhead__TaskStats sum;
	if (answer->fault) {
		msg_fail(r, answer->fault);
		return;
	}
	const Bulkhead__TaskStatsReply *a = task_stats_answer(answer);
	if (sum_begin(&r->arena, a, &sum, &detail) < 0) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "measure a sandbox: out of memory");
		return;
	}
	sum.timestamp = clock_real();
	sum.unified = a->pod && a->pod->unified; /* whatever runs in it */
	for (size_t i = 0; i < a->n_stats; i++)
		sum_add(&sum, a->stats[i]);
	csandbox_metrics_reply(r, &sum, NULL, 0);
}

void csandbox_metrics(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CsandboxKey *key = (const Bulkhead__CsandboxKey *)request;
	Bulkhead__TaskStatsRequest q = BULKHEAD__TASK_STATS_REQUEST__INIT;
	char text[CSANDBOX_TEXT_MAX];
	struct csandbox *s;
	struct fault fault;
	if (metadata_gate_read(m, r, request, csandbox_metrics))
		return;
	if (csandbox_of(m, key, &s, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if (!csandbox_is_up(s)) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "%s isn't running", csandbox_text(key, text));
		return;
	}
	struct msg_context context = r->context;
	int64_t latest = clock_mono() + STATS_TIMEOUT_NS;
	if (!context.deadline || context.deadline > latest)
		context.deadline = latest;
	q.sandbox_id = s->record->pod->id;
	q.pod = true; /* says of which version the figures are, even of none */
	q.figures = true;
	task_stats_send(m->task, &context, &q, NULL, 0, stats_known, r);
}
