/*
 * What the keeper asks of the pod's relay: a channel for each question, whose
 * answer is the guest's. It waits for it, a few seconds at most.
 */
#include "workers/keeper/vm/vm.h"

#include "base/clock.h"
#include "base/fd.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define ANSWER_LIMIT_MS (5 * 1000)

/* --- channels --------------------------------------------------------------- */

int vm_channel_open(const struct vm *vm, int *ret_channel) {
	const struct vm_packet p = { 0 };
	int pair[2];
	if (vm->over || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return vm->over ? -EPIPE : -errno;
	int r = vm_send(vm->control, &p, NULL, 0, &pair[1], 1);
	fd_close(pair[1]);
	if (r < 0)
		fd_close(pair[0]);
	else
		*ret_channel = pair[0];
	return r;
}

int vm_answer_await(int fd, int limit_ms, struct vm_packet *ret_packet, struct fault *fault) {
	static char payload[VM_PAYLOAD_MAX];
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t size;
	int n = poll(&p, 1, limit_ms);
	if (n == 0)
		return fault_set(fault, FAULT_DEADLINE_EXCEEDED, "the virtual machine doesn't answer");
	int r = n < 0 ? -errno : vm_receive(fd, ret_packet, payload, &size, NULL, NULL);
	if (r == 0)
		return fault_set(fault, FAULT_UNAVAILABLE, "the virtual machine has ended");
	if (r < 0)
		return fault_errno(fault, r, "hear the virtual machine");
	if (ret_packet->kind == VM_FAULT)
		return fault_set(fault, (enum fault_code)ret_packet->value, "%.*s",
				 (int)MIN(size, (size_t)FAULT_TEXT_MAX), payload);
	return 0;
}

/* One question, one answer. */
static int ask(const struct vm *vm, const struct vm_packet *question, const void *payload, size_t size,
	       struct vm_packet *ret_answer, struct fault *fault) {
	CLEANUP_FD int channel = -1;
	int r = vm_channel_open(vm, &channel);
	if (r == 0)
		r = vm_send(channel, question, payload, size, NULL, 0);
	return r < 0 ? fault_errno(fault, r, "ask the virtual machine")
		     : vm_answer_await(channel, ANSWER_LIMIT_MS, ret_answer, fault);
}

/* --- figures ---------------------------------------------------------------- */

/* Under the names that a kernel has for them in cgroup v2, whichever version the
 * guest's has: its agent says them without. */
static void named_add(struct arena *a, const struct vm_figures *f, Bulkhead__TaskStats *s) {
	const struct {
		const char *name;
		uint64_t value;
	} list[] = {
		{ "cpu.stat/usage_usec", f->cpu_ns / 1000 },
		{ "memory.current", f->memory },
		{ "memory.max", f->memory_limit },
		{ "memory.swap.current", f->swap },
		{ "memory.stat/anon", f->memory_anon },
		{ "memory.stat/file", f->memory_file },
		{ "memory.stat/inactive_file", f->memory_inactive_file },
		{ "memory.stat/pgfault", f->page_faults },
		{ "memory.stat/pgmajfault", f->major_page_faults },
		{ "pids.current", f->pids },
	};
	Bulkhead__KernelFigure *all = arena_alloc(a, ARRAY_SIZE(list) * sizeof(*all));
	s->figures = arena_alloc(a, ARRAY_SIZE(list) * sizeof(*s->figures));
	for (size_t i = 0; all && s->figures && i < ARRAY_SIZE(list); i++) {
		all[i] = (Bulkhead__KernelFigure)BULKHEAD__KERNEL_FIGURE__INIT;
		all[i].name = (char *)(uintptr_t)list[i].name;
		all[i].value = list[i].value;
		s->figures[s->n_figures++] = &all[i];
	}
}

static void figures_show(const struct vm_figures *f, struct arena *a, Bulkhead__TaskStats *s) {
	s->cpu_usage_ns = f->cpu_ns;
	s->memory_usage_bytes = f->memory;
	s->memory_working_set_bytes = f->memory - MIN(f->memory_inactive_file, f->memory);
	s->memory_rss_bytes = f->memory_anon;
	s->memory_page_faults = f->page_faults;
	s->memory_major_page_faults = f->major_page_faults;
	s->memory_limit_bytes = f->memory_limit;
	s->memory_swap_bytes = f->swap;
	s->pids = f->pids;
	named_add(a, f, s);
}

/* --- questions about a container -------------------------------------------- */

Bulkhead__TaskStats *vm_stats(const struct container *c, struct arena *arena) {
	struct vm_packet q = { .kind = VM_STATS }, a;
	struct fault ignored;
	Bulkhead__TaskStats *s = arena_alloc(arena, sizeof(*s));
	if (!s)
		return NULL;
	*s = (Bulkhead__TaskStats)BULKHEAD__TASK_STATS__INIT;
	s->container_id = c->id;
	s->timestamp = clock_real();
	s->unified = true;
	snprintf(q.container, sizeof(q.container), "%s", c->id);
	if (ask(c->keeper->pod.vm, &q, NULL, 0, &a, &ignored) < 0)
		return s;
	figures_show(&a.figures, arena, s);
	return s;
}

int vm_freeze(struct container *c, bool frozen, struct fault *fault) {
	struct vm_packet q = { .kind = VM_FREEZE, .value = frozen }, a;
	snprintf(q.container, sizeof(q.container), "%s", c->id);
	return ask(c->keeper->pod.vm, &q, NULL, 0, &a, fault);
}

int vm_update(struct container *c, const Grpc__LinuxResources *resources, struct fault *fault) {
	Grpc__UpdateContainerRequest m = GRPC__UPDATE_CONTAINER_REQUEST__INIT;
	struct vm_packet q = { .kind = VM_UPDATE }, a;
	m.container_id = c->id;
	m.resources = (Grpc__LinuxResources *)(uintptr_t)resources;
	size_t size = grpc__update_container_request__get_packed_size(&m);
	CLEANUP_FREE uint8_t *packed = malloc(size + 1);
	if (!packed)
		return fault_errno(fault, ENOMEM, "update container \"%s\"", c->id);
	grpc__update_container_request__pack(&m, packed);
	snprintf(q.container, sizeof(q.container), "%s", c->id);
	return ask(c->keeper->pod.vm, &q, packed, size, &a, fault);
}
