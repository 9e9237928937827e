/*
 * One process of the guest as its stand-in asked for it, or one question of the
 * keeper's. A process's life here:
 *
 *   NEW -> MAKING -> MADE (a container) -> STARTING -> RUNNING -> ENDED
 *
 * While it runs each of its output streams is read by one call at a time, whose
 * data goes into the stand-in's pipe before the next; its input is read when
 * the guest has taken what was read before. Its end is asked for when both
 * outputs have ended, so that nothing of them is lost; a container is then
 * removed in the guest, and the stand-in hears the status.
 *
 * A stand-in that goes before that takes the process with it.
 */
#include "workers/keeper/vm/relay.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/fd.h"
#include "msg/msg.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define STREAM_SIZE 32768
#define REMOVE_LIMIT (15 * NS_PER_SEC)
#define ALL_CONTAINER ""
#define OOM_PATIENCE (200 * NS_PER_MS)

static void call(struct guest *g, const char *method, const ProtobufCMessage *request, int64_t timeout,
		 ttrpc_done_fn done, void *ctx) {
	g->calls++;
	agent_call(g->relay, method, request, timeout, done, ctx);
}

/* The name of a container's own process is the container's. */
static char *process_name(struct guest *g) {
	return g->container ? g->id : g->process;
}

static void tell(const struct guest *g, const struct vm_packet *p) {
	if (!g->gone)
		(void)vm_send(g->channel, p, NULL, 0, NULL, 0);
}

static void answer(const struct guest *g, const struct fault *fault) {
	const struct vm_packet done = { .kind = VM_DONE };
	if (!fault)
		tell(g, &done);
	else if (!g->gone)
		(void)vm_send_fault(g->channel, fault);
}

static void output_end(struct output *o) {
	loop_source_free_p(&o->writable);
	fd_replace(&o->fd, -1);
	buffer_deinit(&o->data);
	o->done = true;
}

static void input_end(struct guest *g) {
	loop_source_free_p(&g->readable);
	fd_replace(&g->in, -1);
	g->in_ended = true;
}

/* Freed when nobody is there to be told, and nothing is to be heard. */
static void guest_check(struct guest *g) {
	if (g->calls > 0 || !g->gone || (g->state != GUEST_NEW && g->state != GUEST_ENDED))
		return;
	for (int i = 0; i < 2; i++)
		output_end(&g->outputs[i]);
	input_end(g);
	loop_source_free(g->source);
	loop_source_free(g->patience);
	fd_close(g->channel);
	list_unlink(&g->node);
	free(g);
}

static void ended(struct guest *g, int32_t status) {
	const struct vm_packet p = { .kind = VM_EXIT, .value = status };
	g->state = GUEST_ENDED;
	tell(g, &p);
}

/* --- the end ---------------------------------------------------------------- */

/* The guest's agent has lost the call, but not what it was about. */
static bool is_lost(const struct guest *g, const struct fault *fault) {
	return fault && fault->code == FAULT_UNAVAILABLE && !g->relay->stopping;
}

static void ignored(void *ctx, const ProtobufCMessage *reply, const struct fault *fault) {
	struct guest *g = ctx;
	g->calls--;
	guest_check(g);
}

static void signal_send(struct guest *g, int32_t sig, char *process) {
	Grpc__SignalProcessRequest q = GRPC__SIGNAL_PROCESS_REQUEST__INIT;
	q.container_id = g->id;
	q.exec_id = process;
	q.signal = (uint32_t)sig;
	call(g, "SignalProcess", &q.base, CALL_LIMIT, ignored, g);
}

static void end_now(void *ctx) {
	struct guest *g = ctx;
	loop_source_free_p(&g->patience);
	ended(g, g->status);
	guest_check(g);
}

static void container_remove(struct guest *g);

/* Why it was killed is heard before its removal, unless just then something was
 * heard of another one: then it may still be on its way. */
static void removed(void *ctx, const ProtobufCMessage *reply, const struct fault *fault) {
	struct guest *g = ctx;
	bool heard = g->status != 128 + SIGKILL || g->ooms > 0 || g->oom_asks == g->relay->oom_asks;
	g->calls--;
	if (is_lost(g, fault))
		container_remove(g);
	else if (heard || loop_timer(g->relay->loop, clock_mono() + OOM_PATIENCE, end_now, g, &g->patience) < 0)
		end_now(g);
}

static void container_remove(struct guest *g) {
	Grpc__RemoveContainerRequest q = GRPC__REMOVE_CONTAINER_REQUEST__INIT;
	q.container_id = g->id;
	g->oom_asks = g->relay->oom_asks;
	call(g, "RemoveContainer", &q.base, REMOVE_LIMIT, removed, g);
}

static void wait_for_end(struct guest *g);

static void waited(void *ctx, const ProtobufCMessage *reply, const struct fault *fault) {
	struct guest *g = ctx;
	g->calls--;
	if (is_lost(g, fault)) {
		wait_for_end(g);
		return;
	}
	g->status = fault ? VM_UNKNOWN_EXIT : ((const Grpc__WaitProcessResponse *)reply)->status;
	input_end(g);
	if (g->container)
		container_remove(g);
	else
		ended(g, g->status);
	guest_check(g);
}

static void wait_for_end(struct guest *g) {
	Grpc__WaitProcessRequest q = GRPC__WAIT_PROCESS_REQUEST__INIT;
	q.container_id = g->id;
	q.exec_id = process_name(g);
	call(g, "WaitProcess", &q.base, 0, waited, g);
}

/* --- its output ------------------------------------------------------------- */

static void output_read(struct output *o);

static void output_over(struct output *o) {
	struct guest *g = o->guest;
	output_end(o);
	if (g->outputs[0].done && g->outputs[1].done)
		wait_for_end(g);
}

/* What nobody reads any more is thrown away, so that the process goes on. */
static void output_write(void *ctx, uint32_t events) {
	struct output *o = ctx;
	while (o->fd >= 0 && o->at < o->data.size) {
		ssize_t n = write(o->fd, o->data.data + o->at, o->data.size - o->at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			if (o->writable ||
			    loop_poll(o->guest->relay->loop, o->fd, POLLOUT, output_write, o, &o->writable) == 0)
				return;
			n = -1;
		}
		if (n < 0)
			fd_replace(&o->fd, -1);
		else
			o->at += (size_t)n;
	}
	if (o->data.size == 0)
		return;
	o->data.size = o->at = 0;
	output_read(o);
}

static void output_came(void *ctx, const ProtobufCMessage *reply, const struct fault *fault) {
	struct output *o = ctx;
	struct guest *g = o->guest;
	const Grpc__ReadStreamResponse *m = (const Grpc__ReadStreamResponse *)reply;
	g->calls--;
	if (is_lost(g, fault)) {
		output_read(o);
	} else if (fault || m->data.len == 0) {
		output_over(o);
	} else {
		buffer_add(&o->data, m->data.data, m->data.len);
		output_write(o, 0);
	}
	guest_check(g);
}

static void output_read(struct output *o) {
	Grpc__ReadStreamRequest q = GRPC__READ_STREAM_REQUEST__INIT;
	struct guest *g = o->guest;
	q.container_id = g->id;
	q.exec_id = process_name(g);
	q.len = STREAM_SIZE;
	call(g, o->method, &q.base, 0, output_came, o);
}

/* --- its input -------------------------------------------------------------- */

static void input_read(void *ctx, uint32_t events);

static void input_close(struct guest *g) {
	Grpc__CloseStdinRequest q = GRPC__CLOSE_STDIN_REQUEST__INIT;
	input_end(g);
	q.container_id = g->id;
	q.exec_id = process_name(g);
	call(g, "CloseStdin", &q.base, CALL_LIMIT, ignored, g);
}

static void input_taken(void *ctx, const ProtobufCMessage *reply, const struct fault *fault) {
	struct guest *g = ctx;
	g->calls--;
	g->in_busy = false;
	if (fault)
		input_end(g);
	else
		input_read(g, 0);
	guest_check(g);
}

static void input_read(void *ctx, uint32_t events) {
	struct guest *g = ctx;
	static uint8_t data[STREAM_SIZE];
	Grpc__WriteStreamRequest q = GRPC__WRITE_STREAM_REQUEST__INIT;
	ssize_t n;
	if (g->in_busy || g->in_ended)
		return;
	while ((n = read(g->in, data, sizeof(data))) < 0 && errno == EINTR)
		;
	if (n < 0 && errno == EAGAIN)
		return;
	/* The master of a terminal that is closed is EIO. */
	if (n <= 0) {
		input_close(g);
		return;
	}
	q.container_id = g->id;
	q.exec_id = process_name(g);
	q.data.data = data;
	q.data.len = (size_t)n;
	g->in_busy = true;
	call(g, "WriteStdin", &q.base, 0, input_taken, g);
}

/* --- its beginning ---------------------------------------------------------- */

static void runs(struct guest *g) {
	g->state = GUEST_RUNNING;
	for (int i = 0; i < 2; i++) {
		if (i == 1 && g->terminal)
			g->outputs[i].done = true;
		else
			output_read(&g->outputs[i]);
	}
	if (g->in < 0)
		input_close(g);
	else if (loop_poll(g->relay->loop, g->in, POLLIN, input_read, g, &g->readable) < 0)
		input_end(g);
	if (g->gone)
		signal_send(g, SIGKILL, g->container ? (char *)ALL_CONTAINER : g->process);
}

static void started(void *ctx, const ProtobufCMessage *reply, const struct fault *fault) {
	struct guest *g = ctx;
	g->calls--;
	answer(g, fault);
	if (!fault) {
		runs(g);
	} else {
		g->status = PROCESS_FAILED;
		container_remove(g);
	}
	guest_check(g);
}

static void made(void *ctx, const ProtobufCMessage *reply, const struct fault *fault) {
	struct guest *g = ctx;
	g->calls--;
	answer(g, fault);
	if (fault)
		g->state = GUEST_ENDED;
	else if (!g->container)
		runs(g);
	else if (g->gone)
		container_remove(g);
	else
		g->state = GUEST_MADE;
	guest_check(g);
}

static void make(struct guest *g, const struct vm_packet *p, const void *payload, size_t size) {
	struct arena a;
	g->container = p->kind == VM_CREATE;
	g->state = GUEST_MAKING;
	arena_init(&a, 0);
	const ProtobufCMessage *q = msg_decode(g->container ? &grpc__create_container_request__descriptor
							    : &grpc__exec_process_request__descriptor,
					       &a, payload, size);
	struct fault fault;
	if (q) {
		call(g, g->container ? "CreateContainer" : "ExecProcess", q, CALL_LIMIT, made, g);
	} else {
		fault_set(&fault, FAULT_INTERNAL, "a request of %zu bytes can't be read", size);
		answer(g, &fault);
		g->state = GUEST_ENDED;
	}
	arena_deinit(&a);
}

static void start(struct guest *g) {
	Grpc__StartContainerRequest q = GRPC__START_CONTAINER_REQUEST__INIT;
	if (g->state != GUEST_MADE)
		return;
	g->state = GUEST_STARTING;
	q.container_id = g->id;
	call(g, "StartContainer", &q.base, CALL_LIMIT, started, g);
}

static void resize(struct guest *g, const struct vm_packet *p) {
	Grpc__TtyWinResizeRequest q = GRPC__TTY_WIN_RESIZE_REQUEST__INIT;
	q.container_id = g->id;
	q.exec_id = process_name(g);
	q.row = p->rows;
	q.column = p->columns;
	call(g, "TtyWinResize", &q.base, CALL_LIMIT, ignored, g);
}

/* --- questions -------------------------------------------------------------- */

static uint64_t stat_of(const Grpc__MemoryStats *m, const char *name) {
	for (size_t i = 0; i < m->n_stats; i++)
		if (strcmp(m->stats[i]->key, name) == 0)
			return m->stats[i]->value;
	return 0;
}

static void figures_fill(struct vm_figures *f, const Grpc__CgroupStats *s) {
	if (s->cpu_stats && s->cpu_stats->cpu_usage)
		f->cpu_ns = s->cpu_stats->cpu_usage->total_usage;
	if (s->pids_stats)
		f->pids = s->pids_stats->current;
	const Grpc__MemoryStats *m = s->memory_stats;
	if (!m)
		return;
	if (m->usage) {
		f->memory = m->usage->usage;
		f->memory_limit = m->usage->limit;
	}
	f->swap = m->swap_usage ? m->swap_usage->usage : 0;
	f->memory_file = m->cache;
	f->memory_anon = stat_of(m, "anon");
	f->memory_inactive_file = stat_of(m, "inactive_file");
	f->page_faults = stat_of(m, "pgfault");
	f->major_page_faults = stat_of(m, "pgmajfault");
}

static void stats_came(void *ctx, const ProtobufCMessage *reply, const struct fault *fault) {
	struct guest *g = ctx;
	struct vm_packet p = { .kind = VM_FIGURES };
	g->calls--;
	const Grpc__StatsContainerResponse *m = (const Grpc__StatsContainerResponse *)reply;
	if (!fault && m->cgroup_stats)
		figures_fill(&p.figures, m->cgroup_stats);
	if (fault)
		answer(g, fault);
	else
		tell(g, &p);
	guest_check(g);
}

static void answered(void *ctx, const ProtobufCMessage *reply, const struct fault *fault) {
	struct guest *g = ctx;
	g->calls--;
	answer(g, fault);
	guest_check(g);
}

static void stats(struct guest *g) {
	Grpc__StatsContainerRequest q = GRPC__STATS_CONTAINER_REQUEST__INIT;
	q.container_id = g->id;
	call(g, "StatsContainer", &q.base, CALL_LIMIT, stats_came, g);
}

static void freeze(struct guest *g, bool frozen) {
	Grpc__PauseContainerRequest pause = GRPC__PAUSE_CONTAINER_REQUEST__INIT;
	Grpc__ResumeContainerRequest resume = GRPC__RESUME_CONTAINER_REQUEST__INIT;
	pause.container_id = resume.container_id = g->id;
	call(g, frozen ? "PauseContainer" : "ResumeContainer", frozen ? &pause.base : &resume.base, CALL_LIMIT,
	     answered, g);
}

static void update(struct guest *g, const void *payload, size_t size) {
	struct arena a;
	struct fault fault;
	arena_init(&a, 0);
	const ProtobufCMessage *q = msg_decode(&grpc__update_container_request__descriptor, &a, payload, size);
	if (q) {
		call(g, "UpdateContainer", q, CALL_LIMIT, answered, g);
	} else {
		fault_set(&fault, FAULT_INTERNAL, "a request of %zu bytes can't be read", size);
		answer(g, &fault);
	}
	arena_deinit(&a);
}

/* --- packets ---------------------------------------------------------------- */

static void streams_take(struct guest *g, const struct vm_packet *p, const int *fds, size_t n) {
	size_t used = 0;
	int *const slots[] = { &g->in, &g->outputs[0].fd, &g->outputs[1].fd };
	g->terminal = p->terminal;
	for (uint32_t i = 0; i < 3 && used < n; i++)
		if (p->streams >> i & 1) {
			*slots[i] = fds[used++];
			fcntl(*slots[i], F_SETFL, O_NONBLOCK | (i == 0 && !p->terminal ? O_RDONLY : O_WRONLY));
		}
}

static void packet_handle(struct guest *g, const struct vm_packet *p, const void *payload, size_t size) {
	if (g->state == GUEST_NEW)
		memcpy(g->id, p->container, sizeof(g->id));
	switch (p->kind) {
	case VM_CREATE:
	case VM_EXEC:
		memcpy(g->process, p->process, sizeof(g->process));
		if (g->state == GUEST_NEW)
			make(g, p, payload, size);
		break;
	case VM_START:
		start(g);
		break;
	case VM_SIGNAL:
		if (g->state == GUEST_RUNNING)
			signal_send(g, p->value, process_name(g));
		break;
	case VM_RESIZE:
		if (g->state == GUEST_RUNNING)
			resize(g, p);
		break;
	case VM_STATS:
		stats(g);
		break;
	case VM_FREEZE:
		freeze(g, p->value);
		break;
	case VM_UPDATE:
		update(g, payload, size);
		break;
	}
}

static void stand_in_gone(struct guest *g) {
	g->gone = true;
	loop_source_free_p(&g->source);
	if (g->state == GUEST_MADE)
		container_remove(g);
	else if (g->state == GUEST_RUNNING)
		signal_send(g, SIGKILL, g->container ? (char *)ALL_CONTAINER : g->process);
	guest_check(g);
}

static void channel_ready(void *ctx, uint32_t events) {
	struct guest *g = ctx;
	static uint8_t payload[VM_PAYLOAD_MAX];
	struct vm_packet p;
	int fds[VM_FDS_MAX];
	size_t size, n_fds;
	for (;;) {
		int r = vm_receive(g->channel, &p, payload, &size, fds, &n_fds);
		if (r == -EAGAIN)
			return;
		if (r <= 0) {
			stand_in_gone(g);
			return;
		}
		if (g->state == GUEST_NEW && n_fds > 0)
			streams_take(g, &p, fds, n_fds);
		packet_handle(g, &p, payload, size);
	}
}

void guest_new(struct relay *r, int channel) {
	struct guest *g = calloc(1, sizeof(*g));
	if (!g) {
		fd_close(channel);
		return;
	}
	g->relay = r;
	g->channel = channel;
	g->in = -1;
	for (int i = 0; i < 2; i++)
		g->outputs[i] = (struct output){ .guest = g, .method = i ? "ReadStderr" : "ReadStdout", .fd = -1 };
	list_append(&r->guests, &g->node);
	fcntl(channel, F_SETFL, O_NONBLOCK);
	if (loop_poll(r->loop, channel, POLLIN, channel_ready, g, &g->source) < 0) {
		g->gone = true;
		guest_check(g);
	}
}
